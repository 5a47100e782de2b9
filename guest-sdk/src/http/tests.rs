//! Requests with made events, on a clock that stands where the test puts it.

use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;
use std::time::Duration;

use super::Request;
use crate::native::{self, Call};
use crate::types::{Failure, HttpBody, HttpHead};
use crate::{Event, spawn};

type Lines = Rc<RefCell<Vec<String>>>;

/// Begins a task that writes down what the future gives.
fn note<T: Debug>(future: impl Future<Output = T> + 'static) -> Lines {
    let lines = Lines::default();
    let kept = lines.clone();
    spawn("test", async move {
        let line = format!("{:?}", future.await);
        kept.borrow_mut().push(line);
    });
    native::step(0.0, Vec::new());
    lines
}

fn head(id: u32, status: u16, headers: &[(&str, &str)]) -> Event {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Event::HttpHead(HttpHead { id, status, url: "https://example.com/".into(), headers })
}

fn body(id: u32, bytes: &[u8], last: bool) -> Event {
    Event::HttpBody(HttpBody { id, bytes: bytes.to_vec(), last })
}

fn failed(id: u32, code: &str) -> Event {
    Event::Failed(Failure { id, code: code.into(), status: 0, message: "why".into() })
}

/// The calls of this step, as short texts.
fn calls() -> Vec<String> {
    let text = |call| match call {
        Call::HttpSend(id, request) => format!("send {id} {} {}", request.method, request.repeatable),
        Call::HttpOpen(id, request) => format!("open {id} {}", request.method),
        Call::HttpWrite(id, bytes) => format!("write {id} {}", bytes.len()),
        Call::HttpEnd(id) => format!("end {id}"),
        Call::Cancel(id) => format!("cancel {id}"),
        other => format!("{other:?}"),
    };
    native::take_calls().into_iter().map(text).collect()
}

async fn get() -> Result<String, Failure> {
    Request::get("https://example.com/").send().await?.text(10).await
}

#[test]
fn answer_is_its_head_and_its_parts() {
    let lines = note(async {
        let mut answer = Request::post("https://example.com/").json("{}").send().await?;
        let facts = format!("{} {:?} {:?}", answer.status(), answer.header("X-One"), answer.header("two"));
        let parts = (answer.chunk().await?, answer.chunk().await?, answer.chunk().await?);
        Ok::<_, Failure>((facts, parts))
    });
    assert_eq!(calls(), ["send 1 POST false"]);
    native::step(1.0, vec![head(1, 201, &[("x-one", "1")]), body(1, b"ab", false), body(1, b"", false)]);
    assert!(lines.borrow().is_empty());
    native::step(2.0, vec![body(1, b"c", true)]);
    assert_eq!(*lines.borrow(), [r#"Ok(("201 Some(\"1\") None", (Some([97, 98]), Some([99]), None)))"#]);
    assert!(calls().is_empty() && native::open_ids() == 0);
}

#[test]
fn failure_has_the_code_of_the_contract_and_what_is_final_is_sent_once() {
    let lines = note(async { get().await.map_err(|failure| failure.to_string()) });
    native::step(1.0, vec![failed(1, "not-allowed")]);
    assert_eq!(*lines.borrow(), [r#"Err("not-allowed: why")"#]);
    assert_eq!(calls(), ["send 1 GET true"]);
}

#[test]
fn repeatable_request_is_sent_again_after_a_pause_that_grows() {
    let lines = note(get());
    native::step(0.0, vec![failed(1, "refused")]);
    native::step(249.0, Vec::new());
    assert_eq!(calls(), ["send 1 GET true"]);
    native::step(500.0, Vec::new());
    // Dropping an answer that was not read gives it up.
    native::step(500.0, vec![head(2, 503, &[])]);
    assert_eq!(calls(), ["send 2 GET true", "cancel 2"]);
    native::step(1_500.0, Vec::new());
    native::step(1_500.0, vec![head(3, 200, &[]), body(3, b"there", true)]);
    assert_eq!(calls(), ["send 3 GET true"]);
    assert_eq!(*lines.borrow(), [r#"Ok("there")"#]);
}

#[test]
fn last_answer_is_returned_as_it_is() {
    let lines = note(async {
        let answer = Request::get("https://example.com/").retries(1).send().await?;
        answer.error_for_status().await.map(|_| ()).map_err(|failure| Failure { id: 0, ..failure })
    });
    native::step(0.0, vec![head(1, 500, &[])]);
    native::step(500.0, Vec::new());
    native::step(500.0, vec![head(2, 502, &[]), body(2, b" <h1>bad</h1>\n", true)]);
    assert!(lines.borrow()[0].contains("https://example.com/ answered 502: <h1>bad</h1>"), "{lines:?}");
    assert_eq!(calls(), ["send 1 GET true", "cancel 1", "send 2 GET true"]);
}

#[test]
fn server_says_when_to_come_back_and_a_late_date_ends_the_tries() {
    let lines = note(get());
    native::step(0.0, vec![head(1, 429, &[("Retry-After", "3")])]);
    native::step(2_999.0, Vec::new());
    assert_eq!(calls(), ["send 1 GET true", "cancel 1"]);
    native::step(3_000.0, Vec::new());
    native::step(3_000.0, vec![head(2, 429, &[("retry-after", "Thu, 01 Jan 1970 00:00:10 GMT")])]);
    native::step(9_999.0, Vec::new());
    assert_eq!(calls(), ["send 2 GET true", "cancel 2"]);
    native::step(10_000.0, Vec::new());
    assert_eq!(calls(), ["send 3 GET true"]);
    assert!(lines.borrow().is_empty());

    let late = note(async { Request::get("https://example.com/").send().await.map(|answer| answer.status()) });
    native::step(0.0, vec![head(4, 503, &[("retry-after", "61")])]);
    assert_eq!(*late.borrow(), ["Ok(503)"]);
}

#[test]
fn post_is_sent_once_unless_it_is_marked() {
    let once = note(async { Request::post("https://example.com/").send().await.map(|answer| answer.status()) });
    native::step(0.0, vec![head(1, 503, &[])]);
    assert_eq!(*once.borrow(), ["Ok(503)"]);
    note(async { Request::post("https://example.com/").repeatable(true).send().await.map(|answer| answer.status()) });
    native::step(0.0, vec![failed(2, "timeout")]);
    native::step(500.0, Vec::new());
    assert_eq!(calls().last().map(String::as_str), Some("send 3 POST true"));
}

#[test]
fn dropping_a_request_or_its_answer_gives_it_up() {
    let task = spawn("asks", get());
    native::step(0.0, Vec::new());
    task.abort();
    assert_eq!(calls(), ["send 1 GET true", "cancel 1"]);
    let lines = note(get());
    native::step(0.0, vec![head(2, 200, &[]), body(2, b"eleven byte", false)]);
    assert!(lines.borrow()[0].contains("too-large"), "{lines:?}");
    assert_eq!(calls(), ["send 2 GET true", "cancel 2"]);
    assert_eq!(native::open_ids(), 0);
}

#[test]
fn body_that_stops_early_is_an_error_and_its_beginning_is_kept() {
    let lines = note(async {
        let mut answer = Request::get("https://example.com/").send().await?;
        let beginning = answer.beginning(100).await;
        Ok::<_, Failure>((beginning, answer.chunk().await?))
    });
    native::step(0.0, vec![head(1, 200, &[]), body(1, "½".as_bytes(), false), failed(1, "interrupted")]);
    assert_eq!(*lines.borrow(), [r#"Ok(("½", None))"#]);
    let cut = note(get());
    native::step(0.0, vec![head(2, 200, &[]), body(2, b"half", false), failed(2, "interrupted")]);
    assert!(cut.borrow()[0].contains("interrupted"), "{cut:?}");
}

#[test]
fn upload_waits_for_the_host_and_stops_where_the_server_answers() {
    let lines = note(async {
        let mut upload = Request::post("https://example.com/").open();
        for _ in 0..4 {
            if !upload.write(&[0; 40_000]).await? {
                break;
            }
        }
        upload.end().await?.text(100).await
    });
    // The third part waits: 80,000 bytes were written in this step.
    assert_eq!(calls(), ["open 1 POST", "write 1 40000", "write 1 40000"]);
    native::step(1.0, vec![Event::Writable(1)]);
    assert_eq!(calls(), ["write 1 40000", "write 1 40000", "end 1"]);
    native::step(2.0, vec![head(1, 200, &[]), body(1, b"taken", true)]);
    assert_eq!(*lines.borrow(), [r#"Ok("taken")"#]);

    let refused = note(async {
        let mut upload = Request::post("https://example.com/").open();
        let wrote = (upload.write(&[0; 70_000]).await?, upload.write(b"more").await?, upload.write(b"more").await?);
        let answer = upload.end().await?;
        Ok::<_, Failure>((wrote, answer.status(), answer.text(100).await?))
    });
    native::step(3.0, vec![head(2, 413, &[]), body(2, b"too much", true)]);
    assert_eq!(*refused.borrow(), [r#"Ok(((true, false, false), 413, "too much"))"#]);
    assert_eq!(calls(), ["open 2 POST", "write 2 70000", "end 2"]);
}

#[test]
fn timeout_of_less_than_a_millisecond_is_no_timeout_of_the_host() {
    assert_eq!(super::millis(Duration::from_micros(10)), 1);
    assert_eq!(super::millis(Duration::from_millis(1500)), 1500);
    assert_eq!(super::millis(Duration::MAX), u32::MAX);
}
