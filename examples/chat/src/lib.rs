//! An agent to chat with in a real room. It greets each person, and answers a text on `lk.chat` word by word, as a model does; a new
//! text interrupts the answer. The method `set_pace` sets the pause between two words. A file is sent back, if the client of its
//! sender agrees. The agent leaves after the text `bye`.
//!
//! ```text
//! LIVEKIT_URL=ws://localhost:7880 LIVEKIT_API_KEY=devkey LIVEKIT_API_SECRET=secret wasm-worker run examples/chat
//! ```

use std::cell::Cell;
use std::future::ready;
use std::rc::Rc;
use std::time::Duration;

use wasm_worker_sdk::types::{
    AgentState, Failure, FileMessage, Participant, ParticipantChanges, ParticipantKind, ParticipantState, RpcError,
    SendOptions, TextMessage, Transcription,
};
use wasm_worker_sdk::{Agent, Either, Event, JobContext, Result, TextWriter, select, spawn, time::sleep};

const CHAT: &str = "lk.chat";
/// Stands in for the time that a model takes before its first word.
const THINKING: Duration = Duration::from_millis(100);
/// Pause between two words, until `set_pace` changes it.
const PACE: Duration = Duration::from_millis(40);
const PACE_MAX_MS: u64 = 2_000;
/// Number of words of an answer.
const WORDS_MAX: usize = 500;
/// The time that a client has to ask its user about a file.
const AGREES_WITHIN: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Chat;

impl Agent for Chat {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let pace = Rc::new(Cell::new(PACE));
        let paced = pace.clone();
        ctx.register_rpc_method("set_pace", move |request| ready(set_pace(&paced, &request.payload)));
        ctx.connect().await?;
        ctx.set_agent_state(AgentState::Listening)?;

        let mut heard = next_text(ctx).await;
        while let Some(message) = heard {
            let mut answer = None;
            heard = match select(speak(ctx, &mut answer, &message.text, &pace), next_text(ctx)).await {
                Either::Left(spoken) => {
                    match spoken {
                        Ok(()) => end(answer, &[]).await,
                        // The room was lost and joined again, which ends what was half said.
                        Err(failure) => log::warn!("the answer: {failure}"),
                    }
                    ctx.set_agent_state(AgentState::Listening)?;
                    next_text(ctx).await
                }
                Either::Right(heard) => {
                    end(answer, &[("interrupted".into(), "true".into())]).await;
                    heard
                }
            };
        }
        say(ctx, "Goodbye.")
    }
}

/// The next text to answer; none when it is time to leave. Handles all other events that come before it.
async fn next_text(ctx: &JobContext) -> Option<TextMessage> {
    loop {
        match ctx.next_event().await {
            Event::Text(message) if message.info.topic == CHAT => {
                return (message.text != "bye").then_some(message);
            }
            Event::ParticipantJoined(who) => greet(ctx, &who),
            Event::ParticipantChanged(change) if change.changes.contains(ParticipantChanges::STATE) => {
                greet(ctx, &change.participant);
            }
            Event::File(file) => drop(spawn(format!("send {} back", file.info.name), send_back(ctx.clone(), file))),
            Event::RpcRequest(request) => {
                let unknown = RpcError::new(RpcError::UNSUPPORTED_METHOD, "there is only `set_pace`");
                ctx.answer(request.id, Err(unknown));
            }
            Event::ShutdownRequested(_) => return None,
            event => log::debug!("{}", event.name()),
        }
    }
}

/// Greets a person whom texts reach. Before this state the greeting would be lost.
fn greet(ctx: &JobContext, who: &Participant) {
    if who.kind != ParticipantKind::Standard || who.state != ParticipantState::Active {
        return;
    }
    let name = if who.name.is_empty() { &who.identity } else { &who.name };
    if let Err(error) = say(ctx, &format!("Hello, {name}. I repeat what you say.")) {
        log::warn!("the greeting: {error}");
    }
}

fn say(ctx: &JobContext, text: &str) -> Result {
    ctx.send_transcription(text, &Transcription { is_final: true, ..Transcription::default() })
}

/// Answers word by word. What was begun is in `answer`, so that the caller can end it if this is interrupted.
async fn speak(
    ctx: &JobContext,
    answer: &mut Option<TextWriter>,
    text: &str,
    pace: &Cell<Duration>,
) -> Result<(), Failure> {
    // A failure of this call is a warning in the log.
    drop(ctx.set_agent_state(AgentState::Thinking));
    sleep(THINKING).await;
    drop(ctx.set_agent_state(AgentState::Speaking));
    let answer = answer.insert(ctx.open_transcription(&Transcription::default()));
    answer.write("You said:").await?;
    for word in text.split_whitespace().take(WORDS_MAX) {
        sleep(pace.get()).await;
        answer.write(&format!(" {word}")).await?;
    }
    Ok(())
}

/// Ends an answer, with attributes for those who show it.
async fn end(answer: Option<TextWriter>, attributes: &[(String, String)]) {
    let Some(answer) = answer else { return };
    if let Err(failure) = answer.close_with(attributes).await {
        log::warn!("the end of an answer: {failure}");
    }
}

/// Sets the pause between two words, in milliseconds, and returns the one before.
fn set_pace(pace: &Cell<Duration>, payload: &str) -> Result<String, RpcError> {
    match payload.parse() {
        Ok(ms @ 0..=PACE_MAX_MS) => Ok(pace.replace(Duration::from_millis(ms)).as_millis().to_string()),
        _ => Err(RpcError::new(1, format!("want 0 to {PACE_MAX_MS} milliseconds, got `{payload}`"))),
    }
}

/// Sends a file back to its sender, if the method `accept_file` of its client answers `yes`.
async fn send_back(ctx: JobContext, file: FileMessage) {
    let FileMessage { info, bytes } = file;
    let Some(sender) = info.sender else { return };
    match ctx.perform_rpc(&sender, "accept_file", &info.name, AGREES_WITHIN).await {
        Ok(answer) if answer == "yes" => {}
        Ok(answer) => return log::info!("`{sender}` answers `{answer}` and gets nothing"),
        Err(error) => return log::warn!("`{sender}` does not answer: {error}"),
    }
    let options = SendOptions { destinations: vec![sender], ..SendOptions::default() };
    if let Err(error) = ctx.send_file(&info.topic, &info.name, &info.mime_type, &bytes, &options) {
        log::warn!("`{}`: {error}", info.name);
    }
}

wasm_worker_sdk::agent!(Chat);
