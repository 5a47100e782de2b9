//! An agent that answers with a model. Each text on `lk.chat` is a turn; the answer is sent as the model streams it, and a new text
//! interrupts it. The agent leaves after the text `bye`.
//!
//! ```text
//! wasm-worker run examples/llm
//! OPENAI_BASE_URL=https://api.openai.com/v1 OPENAI_API_KEY=… wasm-worker run examples/llm
//! ```
//!
//! `agent.toml` lists what the agent asks for: a host, two settings, and a key that it never sees.

use wasm_worker_models::{Chat, ChatDelta, ChatError, ChatModel, Message, OpenAi};
use wasm_worker_sdk::types::{AgentState, TextMessage, Transcription};
use wasm_worker_sdk::{Agent, Either, Event, JobContext, Result, TextWriter, select};

const CHAT: &str = "lk.chat";
const INSTRUCTIONS: &str = "You are a guest in a conversation of several people. Answer in one or two sentences.";
/// Number of messages that the model is told.
const MESSAGES_MAX: usize = 40;

#[derive(Default)]
struct Llm;

impl Agent for Llm {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let model = model(ctx)?;
        let mut chat = Chat::new(INSTRUCTIONS);
        ctx.connect().await?;
        ctx.set_agent_state(AgentState::Listening)?;
        let mut heard = next_text(ctx).await;
        while let Some(message) = heard {
            let who = message.info.sender.as_deref().unwrap_or("somebody");
            forget(&mut chat);
            chat.messages.push(Message::User(format!("{who}: {}", message.text)));
            ctx.set_agent_state(AgentState::Thinking)?;
            let mut writer = None;
            heard = match select(answer(ctx, &model, &mut chat, &mut writer), next_text(ctx)).await {
                Either::Left(answered) => {
                    if let Err(error) = answered {
                        log::warn!("the model does not answer: {error}");
                        ctx.send_transcription("I cannot answer now.", &last())?;
                    }
                    end(writer, &[]).await;
                    ctx.set_agent_state(AgentState::Listening)?;
                    next_text(ctx).await
                }
                Either::Right(heard) => {
                    end(writer, &[("interrupted".into(), "true".into())]).await;
                    heard
                }
            };
        }
        ctx.send_transcription("Goodbye.", &last())
    }
}

/// The model of the settings.
fn model(ctx: &JobContext) -> Result<OpenAi> {
    let setting = |name: &str| ctx.setting(name).ok_or_else(|| format!("the setting `{name}` is missing"));
    Ok(OpenAi::new(setting("OPENAI_MODEL")?).base_url(setting("OPENAI_BASE_URL")?))
}

/// Sends an answer as it comes, and notes it in the conversation. What was begun is in `writer`, so that the caller can end it if this is
/// interrupted.
async fn answer(
    ctx: &JobContext,
    model: &OpenAi,
    chat: &mut Chat,
    writer: &mut Option<TextWriter>,
) -> Result<(), ChatError> {
    let mut stream = model.chat(chat);
    while let Some(delta) = stream.next().await? {
        chat.note(&delta);
        let ChatDelta::Text(part) = delta else { continue };
        let text = writer.get_or_insert_with(|| {
            // A failure of this call is a warning in the log.
            drop(ctx.set_agent_state(AgentState::Speaking));
            ctx.open_transcription(&Transcription::default())
        });
        if let Err(failure) = text.write(&part).await {
            log::warn!("the answer: {failure}");
            break;
        }
    }
    Ok(())
}

/// The next text to answer; none when it is time to leave.
async fn next_text(ctx: &JobContext) -> Option<TextMessage> {
    loop {
        match ctx.next_event().await {
            Event::Text(message) if message.info.topic == CHAT => {
                return (message.text != "bye").then_some(message);
            }
            Event::ShutdownRequested(_) => return None,
            _ => {}
        }
    }
}

/// Ends an answer, with attributes for those who show it.
async fn end(writer: Option<TextWriter>, attributes: &[(String, String)]) {
    let Some(writer) = writer else { return };
    if let Err(failure) = writer.close_with(attributes).await {
        log::warn!("the end of an answer: {failure}");
    }
}

/// Forgets the oldest messages where there are many, and not the instructions.
fn forget(chat: &mut Chat) {
    while chat.messages.len() >= MESSAGES_MAX {
        chat.messages.remove(1);
    }
}

fn last() -> Transcription {
    Transcription { is_final: true, ..Transcription::default() }
}

wasm_worker_sdk::agent!(Llm);
