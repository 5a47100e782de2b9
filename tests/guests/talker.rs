//! The talker in Rust, beside those in other languages: `tests/interop/README.md` says what it does.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use wasm_worker_sdk::time::sleep;
use wasm_worker_sdk::types::{Acceptance, Decision, JobInfo, Participant, ParticipantKind, SendOptions, TextMessage};
use wasm_worker_sdk::{Agent, Either, Event, JobContext, JoinHandle, Result, random, select, spawn};

const TOPIC: &str = "lk.chat";
/// Between two parts of an answer, and before a greeting.
const PACE: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Talker {
    checksums: Vec<u32>,
    history: Rc<RefCell<Vec<String>>>,
    answer: Option<Answer>,
    silence: Option<JoinHandle<()>>,
}

/// An answer that is being spoken.
struct Answer {
    stop: Rc<Cell<bool>>,
    task: JoinHandle<Result>,
}

impl Agent for Talker {
    fn prewarm(&mut self) -> Result {
        let step = |value: u32| value >> 1 ^ if value & 1 == 1 { 0xedb8_8320 } else { 0 };
        self.checksums = (0..256).map(|value| (0..8).fold(value, |value, _| step(value))).collect();
        Ok(())
    }

    fn decide(&mut self, offer: &JobInfo) -> Decision {
        assert!(offer.metadata != "fail", "a bug in decide");
        let attributes = vec![("language".into(), "rust".into())];
        Decision::Accept(Acceptance { name: "Talker".into(), attributes, ..Acceptance::default() })
    }

    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.set_log_context_fields([("language", "rust")]);
        ctx.connect().await?;
        loop {
            match select(ctx.next_event(), ctx.shutdown_requested()).await {
                Either::Left(Event::ParticipantJoined(who)) if who.kind == ParticipantKind::Standard => {
                    self.greet(ctx, &who);
                }
                Either::Left(Event::Text(message)) => {
                    if !self.hear(ctx, message).await? {
                        break;
                    }
                }
                Either::Left(_) => {}
                Either::Right(_) => break,
            }
        }
        self.interrupt().await;
        ctx.send_text(TOPIC, "Goodbye.")
    }
}

impl Talker {
    fn greet(&self, ctx: &JobContext, who: &Participant) {
        let step = |sum: u32, byte: &u8| sum >> 8 ^ self.checksums[((sum ^ u32::from(*byte)) & 0xff) as usize];
        let checksum = !who.identity.as_bytes().iter().fold(u32::MAX, step);
        let name = if who.name.is_empty() { &who.identity } else { &who.name };
        let (ctx, greeting) = (ctx.clone(), format!("Welcome, {name} ({checksum:08x})."));
        drop(spawn(format!("greet {}", who.identity), async move {
            sleep(PACE).await;
            drop(ctx.send_text(TOPIC, &greeting));
        }));
    }

    /// Answers a text, or does what it says. False: say goodbye.
    async fn hear(&mut self, ctx: &JobContext, message: TextMessage) -> Result<bool> {
        self.interrupt().await;
        match message.text.as_str() {
            "stop" => ctx.send_text(TOPIC, "Stopped.")?,
            "history" => ctx.send_text(TOPIC, &self.history.borrow().join("\n"))?,
            "dice" => ctx.send_text(TOPIC, &format!("dice {}", random::u64() >> 32))?,
            "fail" => panic!("a bug in the agent"),
            "bye" => return Ok(false),
            _ => self.begin_answer(ctx, message),
        }
        let there = ctx.clone();
        self.silence = Some(spawn("silence", async move {
            sleep(PATIENCE).await;
            drop(there.send_text(TOPIC, "Anything else?"));
        }));
        Ok(true)
    }

    fn begin_answer(&mut self, ctx: &JobContext, message: TextMessage) {
        let sender = message.info.sender.clone().unwrap_or_default();
        self.history.borrow_mut().push(format!("{sender}: {}", message.text));
        let stop = Rc::new(Cell::new(false));
        let task = spawn("answer", speak(ctx.clone(), message, stop.clone(), self.history.clone()));
        self.answer = Some(Answer { stop, task });
    }

    /// Ends the answer and the wait for more to hear.
    async fn interrupt(&mut self) {
        if let Some(silence) = self.silence.take() {
            silence.abort();
        }
        if let Some(Answer { stop, task }) = self.answer.take() {
            stop.set(true);
            if let Ok(Err(error)) = task.await {
                log::warn!("the answer: {error}");
            }
        }
    }
}

/// Answers in parts, until it is to stop.
async fn speak(
    ctx: JobContext,
    message: TextMessage,
    stop: Rc<Cell<bool>>,
    history: Rc<RefCell<Vec<String>>>,
) -> Result {
    let options = SendOptions { reply_to: message.info.stream_id, ..SendOptions::default() };
    let (mut stream, mut said) = (ctx.open_text(TOPIC, &options), String::new());
    let words = message.text.split(' ').map(|word| format!(" {word}"));
    for part in ["You", " said:"].map(String::from).into_iter().chain(words).chain([".".into()]) {
        if stop.get() {
            break;
        }
        stream.write(&part).await?;
        said.push_str(&part);
        sleep(PACE).await;
    }
    let (mark, end) =
        if stop.get() { (vec![("interrupted".into(), "true".into())], " (interrupted)") } else { (vec![], "") };
    history.borrow_mut().push(format!("agent: {said}{end}"));
    #[expect(clippy::cast_precision_loss, reason = "no answer is that long")]
    ctx.usage().add("llm", "none", "echo", &[("letters", said.len() as f64)]);
    stream.close_with(&mark).await?;
    Ok(())
}

wasm_worker_sdk::agent!(Talker);
