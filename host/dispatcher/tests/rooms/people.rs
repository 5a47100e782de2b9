//! People in rooms by PyPI's `livekit`, where `LIVEKIT_PYTHON` names a Python that has it. `tests/interop/README.md` says what they
//! are told and what they tell.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::support::token;

/// The share of the power that has to be at the frequency of a tone.
const SHARE: f64 = 0.95;
/// Seconds of which one has to be heard clearly. The first ones after a track begins are quiet or broken.
const SECONDS: usize = 60;

/// Somebody in a room. It leaves with this value.
pub(crate) struct Person {
    process: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// The Python with the package; none where no variable names it, which is said.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a variable of this test alone, and a word for its reader"
)]
pub(crate) fn python() -> Option<String> {
    let python = std::env::var("LIVEKIT_PYTHON").ok();
    if python.is_none() {
        println!("skipped: LIVEKIT_PYTHON names no Python with the package livekit");
    }
    python
}

impl Person {
    /// Join the room of the server with this URL.
    pub(crate) async fn join(python: &str, url: &str, identity: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/interop/clients/person.py");
        let mut command = Command::new(python);
        command.args([script, url, &token(identity)]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.kill_on_drop(true).spawn().unwrap();
        let (orders, lines) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut person = Self { process, orders, lines: BufReader::new(lines).lines() };
        person.sees("connected").await;
        person
    }

    /// Have it do something.
    pub(crate) async fn order(&mut self, order: Value) {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }

    /// Read on until it tells this.
    pub(crate) async fn sees(&mut self, what: &str) -> Value {
        loop {
            let line = self.lines.next_line().await.unwrap().expect("it still runs");
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_ne!(line["saw"], "failed", "{line}");
            if line["saw"] == what {
                return line;
            }
        }
    }

    /// Speak a tone for longer than any test.
    pub(crate) async fn speak(&mut self, hz: u32) {
        self.order(json!({ "do": "speak", "hz": hz, "ms": 600_000 })).await;
    }

    /// End the track on which it speaks.
    pub(crate) async fn unpublish(&mut self) {
        self.order(json!({ "do": "unpublish" })).await;
        self.sees("unpublished").await;
    }

    /// Hear a tone of somebody, for a second clearly.
    pub(crate) async fn hears(&mut self, who: &str, hz: u32) {
        let mut heard = Vec::new();
        for _ in 0..SECONDS {
            let sound = self.hear(who, hz).await;
            let is_clear = sound["share"].as_f64() >= Some(SHARE) && sound["loud_ms"].as_f64() > Some(500.0);
            if is_clear {
                return;
            }
            heard.push(sound);
        }
        panic!("{hz} Hz of {who} are not heard: {heard:#?}");
    }

    /// Hear nothing of somebody for a second.
    pub(crate) async fn hears_nothing(&mut self, who: &str) {
        for _ in 0..SECONDS {
            if self.hear(who, 440).await["loud_ms"].as_f64() == Some(0.0) {
                return;
            }
        }
        panic!("{who} is still heard");
    }

    async fn hear(&mut self, who: &str, hz: u32) -> Value {
        self.order(json!({ "do": "hear", "who": who, "hz": hz, "ms": 1_000 })).await;
        self.sees("sound").await
    }

    /// Leave the room as a person does. The client may abort while it ends in the middle of a tone, so its status says nothing.
    pub(crate) async fn leaves(self) {
        let Self { mut process, orders, .. } = self;
        drop(orders);
        process.wait().await.unwrap();
    }
}
