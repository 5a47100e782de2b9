//! Requests what its metadata lists, one line each, and tells each outcome as a text.
//!
//! ```text
//! get URL           asks, and reads all of the answer
//! brief URL         asks, and waits for a moment
//! header URL NAME   asks, and tells a header of the answer
//! retry URL         asks, and again where that may help
//! socket URL TEXT   connects, sends the text, and reads to the end
//! setting NAME      tells a setting
//! last URL          asks with the last step, and does not wait
//! find HEX          looks for bytes in the memory of the job, each of which is one more in HEX
//! ```

use std::time::Duration;

use wasm_worker_sdk::http::Request;
use wasm_worker_sdk::socket::{self, Message};
use wasm_worker_sdk::types::Failure;
use wasm_worker_sdk::{Agent, JobContext, Operation, Result, contract};

const BYTES_MAX: usize = 16 << 20;
/// As much as a record keeps, about.
const TOLD_MAX: usize = 12 << 10;

const MOMENT: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Fetch;

impl Agent for Fetch {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        // They stay in the memory that `find` searches.
        let mut outcomes = Vec::new();
        for line in ctx.job().metadata.lines() {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            let told = match words[..] {
                ["get", url] => told(get(Request::get(url).retries(0)).await),
                ["brief", url] => told(get(Request::get(url).retries(0).timeout(MOMENT)).await),
                ["retry", url] => told(get(Request::get(url)).await),
                ["header", url, name] => told(header(url, name).await),
                ["socket", url, text] => told(converse(url, text).await),
                ["setting", name] => ctx.setting(name).unwrap_or("none").to_owned(),
                ["find", hex] => find(hex).to_string(),
                ["last", url] => {
                    send_at_last(url);
                    "sent".to_owned()
                }
                _ => return Err(format!("what is `{line}`?").into()),
            };
            ctx.send_text("outcome", &told)?;
            outcomes.push(told.into_boxed_str());
        }
        Ok(())
    }
}

fn told(outcome: Result<String, Failure>) -> String {
    let mut told = outcome.unwrap_or_else(|failure| failure.to_string());
    told.truncate(told.floor_char_boundary(TOLD_MAX));
    told
}

async fn get(request: Request) -> Result<String, Failure> {
    let answer = request.send().await?;
    let status = answer.status();
    Ok(format!("{status} {}", answer.text(BYTES_MAX).await?))
}

async fn header(url: &str, name: &str) -> Result<String, Failure> {
    let answer = Request::get(url).retries(0).send().await?;
    Ok(format!("{} {}", answer.status(), answer.header(name).unwrap_or("none")))
}

async fn converse(url: &str, text: &str) -> Result<String, Failure> {
    let socket = socket::connect(url).open().await?;
    socket.send_text(text).await?;
    let (mut count, mut last) = (0, String::new());
    while let Some(message) = socket.next().await? {
        count += 1;
        last = match message {
            Message::Text(text) => text,
            Message::Bytes(bytes) => format!("{} bytes", bytes.len()),
        };
    }
    Ok(format!("{count} messages, the last one: {last}"))
}

fn send_at_last(url: &str) {
    let request = contract::http::Request {
        method: "POST".into(),
        url: url.into(),
        headers: Vec::new(),
        body: b"last words".to_vec(),
        timeout_ms: 0,
        follow_redirects: false,
        repeatable: false,
    };
    Operation::new(contract::http::send(&request), "last words").forget();
}

/// How often bytes are in the memory, which never holds them for the search.
#[cfg(target_arch = "wasm32")]
fn find(hex: &str) -> usize {
    let more = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let wanted: Vec<u8> = (0..hex.len()).step_by(2).map(more).collect();
    let bytes = core::arch::wasm32::memory_size(0) << 16;
    #[expect(unsafe_code, reason = "all of the memory is looked at")]
    // SAFETY: memory has no holes, and a byte that changes meanwhile is none of what is searched.
    let at = |address: usize| unsafe { std::ptr::read_volatile(address as *const u8) };
    let is_there = |start: &usize| wanted.iter().zip(*start..).all(|(more, address)| at(address) == more - 1);
    (1..bytes.saturating_sub(wanted.len())).filter(is_there).count()
}

#[cfg(not(target_arch = "wasm32"))]
fn find(_: &str) -> usize {
    0
}

wasm_worker_sdk::agent!(Fetch);
