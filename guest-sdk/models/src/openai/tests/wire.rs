//! Answers over the wire, with made events and a clock that stands where the test puts it.

use std::time::Duration;

use serde_json::json;
use wasm_worker_sdk::native::{self, Call};
use wasm_worker_sdk::types::{Failure, HttpBody, HttpHead};
use wasm_worker_sdk::{Event, spawn};

use super::{DONE, STOP, hello, stream};
use crate::fake::{Output, all, begin, texts};
use crate::{Chat, ChatDelta, ChatError, ChatModel, Limits, OpenAi};

/// An answer over the wire of a fake host.
struct Wire {
    output: Output<Result<Vec<ChatDelta>, ChatError>>,
}

fn ask(model: &OpenAi) -> Wire {
    native::step(0.0, Vec::new());
    Wire { output: begin(all(model.chat(&Chat::new("").user("hello")))) }
}

fn head(id: u32, status: u16, headers: &[(&str, &str)]) -> Event {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Event::HttpHead(HttpHead { id, status, url: String::new(), headers })
}

fn body(id: u32, text: &str, last: bool) -> Event {
    Event::HttpBody(HttpBody { id, bytes: text.into(), last })
}

/// The calls of the agent, by their names.
fn made() -> Vec<String> {
    let name = |call| match call {
        Call::HttpSend(id, request) => format!("send {id} {}", request.url),
        Call::Cancel(id) => format!("cancel {id}"),
        Call::Usage(usage) => format!("usage {} {} {:?}", usage.provider, usage.model, usage.counters),
        other => format!("{other:?}"),
    };
    native::take_calls().into_iter().map(name).collect()
}

fn model() -> OpenAi {
    let seconds = Duration::from_secs;
    let limits = Limits { first_token: seconds(5), between_tokens: seconds(3), whole: seconds(20) };
    OpenAi::new("m").base_url("https://x/v1/").provider("p").limits(limits)
}

const SENT: &str = "send 1 https://x/v1/chat/completions";

#[test]
fn answer_comes_as_it_is_made_and_its_tokens_are_counted() {
    let wire = ask(&model());
    assert_eq!(made(), [SENT]);
    native::step(1.0, vec![head(1, 200, &[]), body(1, &hello(), false)]);
    assert!(wire.output.borrow().is_none());
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
    native::step(2.0, vec![body(1, &format!("{STOP}{usage}{DONE}"), false), body(1, "", true)]);
    assert_eq!(texts(&wire.output.take().unwrap().unwrap()), "Hello ½");
    let counters = r#"[("input_tokens", 3.0), ("input_cached_tokens", 0.0), ("output_tokens", 1.0)]"#;
    assert_eq!(made(), [format!("usage p m {counters}")]);
}

#[test]
fn server_that_asks_for_a_pause_gets_it() {
    let wire = ask(&model());
    native::step(0.0, vec![head(1, 429, &[("retry-after", "2")]), body(1, "{}", true)]);
    native::step(1_999.0, Vec::new());
    assert_eq!(made(), [SENT]);
    native::step(2_000.0, Vec::new());
    native::step(2_000.0, vec![head(2, 429, &[("retry-after", "Thu, 01 Jan 1970 00:00:03 GMT")]), body(2, "", true)]);
    native::step(3_000.0, Vec::new());
    native::step(3_000.0, vec![head(3, 200, &[]), body(3, &(hello() + STOP), true)]);
    assert_eq!(made().len(), 2);
    assert_eq!(texts(&wire.output.take().unwrap().unwrap()), "Hello ½");
}

#[test]
fn error_is_told_with_its_page_and_not_repeated_where_that_is_useless() {
    let wire = ask(&model());
    native::step(0.0, vec![head(1, 401, &[]), body(1, "<html><title>Unauthorized</title>", true)]);
    let error = wire.output.take().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the model's server answered 401: Unauthorized");
    let wire = ask(&model().retries(0));
    native::step(0.0, vec![Event::Failed(Failure { id: 2, code: "refused".into(), status: 0, message: "".into() })]);
    assert!(matches!(wire.output.take().unwrap(), Err(ChatError::Http(_))));
    assert_eq!(made().len(), 2);
}

#[test]
fn model_that_hangs_is_given_up_and_asked_again() {
    let wire = ask(&model().retries(1));
    // The head and a chunk without a token are no token, and neither are comments.
    native::step(1_000.0, vec![head(1, 200, &[]), body(1, &stream(&[json!({ "role": "assistant" })]), false)]);
    native::step(4_999.0, vec![body(1, ": keep-alive\n\n", false)]);
    assert_eq!(made(), [SENT]);
    native::step(5_000.0, Vec::new());
    assert_eq!(made(), ["cancel 1"]);
    native::step(5_500.0, Vec::new());
    assert_eq!(made().len(), 1);
    native::step(10_500.0, Vec::new());
    assert!(matches!(wire.output.take().unwrap(), Err(ChatError::Timeout(_))));
}

#[test]
fn model_that_stops_in_the_middle_is_an_error_and_is_not_asked_again() {
    let wire = ask(&model());
    native::step(0.0, vec![head(1, 200, &[]), body(1, &hello(), false)]);
    native::step(3_000.0, Vec::new());
    let error = wire.output.take().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the model stopped in the middle of its answer");
    assert_eq!(made(), [SENT, "cancel 1"]);

    // It ends as if it were whole.
    let wire = ask(&model());
    native::step(3_000.0, vec![head(2, 200, &[]), body(2, &hello(), true)]);
    assert!(matches!(wire.output.take().unwrap(), Err(ChatError::Cut)));
    assert_eq!(made().len(), 1);

    let wire = ask(&model());
    let lost = Failure { id: 3, code: "interrupted".into(), status: 0, message: String::new() };
    native::step(3_000.0, vec![head(3, 200, &[]), body(3, &hello(), false), Event::Failed(lost)]);
    assert!(matches!(wire.output.take().unwrap(), Err(ChatError::Http(_))));
}

#[test]
fn whole_answer_has_a_limit_of_time() {
    let wire = ask(&model());
    native::step(0.0, vec![head(1, 200, &[])]);
    for second in 0..20 {
        native::step(f64::from(second) * 1_000.0, vec![body(1, &hello(), false)]);
        assert!(wire.output.borrow().is_none());
    }
    native::step(20_000.0, Vec::new());
    assert!(matches!(wire.output.take().unwrap(), Err(ChatError::Timeout(crate::Limit::Whole))));
    assert_eq!(made(), [SENT, "cancel 1"]);
}

#[test]
fn connection_that_stays_open_after_the_answer_ends_it_soon() {
    for ending in [STOP, DONE] {
        let wire = ask(&model());
        let Some(Call::HttpSend(id, _)) = native::take_calls().pop() else { panic!("nothing was sent") };
        native::step(0.0, vec![head(id, 200, &[]), body(id, &format!("{}{ending}", hello()), false)]);
        native::step(2_000.0, Vec::new());
        assert_eq!(texts(&wire.output.take().unwrap().unwrap()), "Hello ½");
        assert_eq!(made(), [format!("cancel {id}")]);
    }
}

#[test]
fn answer_that_is_dropped_is_given_up_and_its_tokens_are_counted() {
    let task = spawn("answer", all(model().chat(&Chat::new(""))));
    native::step(0.0, Vec::new());
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\n";
    native::step(0.0, vec![head(1, 200, &[]), body(1, &format!("{}{usage}", hello()), false)]);
    assert_eq!(made(), [SENT]);
    task.abort();
    let made = made();
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(made.contains(&"cancel 1".to_owned()) && made.iter().any(|call| call.starts_with("usage p m")));
    assert_eq!(native::open_ids(), 0);
}

#[test]
fn slow_reader_costs_the_model_no_time() {
    let mut answer = model().chat(&Chat::new(""));
    let first = begin(async move { (answer.next().await, answer) });
    native::step(0.0, vec![head(1, 200, &[]), body(1, &hello(), false)]);
    let (part, mut answer) = first.take().unwrap();
    assert!(matches!(part, Ok(Some(ChatDelta::Text(text))) if text == "Hel"));
    // The agent is busy for longer than the limit between two tokens.
    native::step(10_000.0, vec![body(1, &format!("{}{DONE}", hello()), true)]);
    let rest = begin(async move { answer.next_text().await.and(answer.whole().await) });
    assert_eq!(rest.take().unwrap().unwrap().text, "Hello ½");
}
