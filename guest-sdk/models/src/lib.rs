//! Chat models and their tools for agents of wasm-worker.
//!
//! [`OpenAi`] speaks to every server with the interface of OpenAI's chat completions. The agent holds no key: the host
//! adds it by its operator's rule for the server.
//!
//! ```no_run
//! use wasm_worker_models::{Chat, ChatModel, OpenAi};
//! use wasm_worker_sdk::{Agent, JobContext, Result, types::SendOptions};
//!
//! #[derive(Default)]
//! struct Poet;
//!
//! impl Agent for Poet {
//!     async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
//!         ctx.connect().await?;
//!         let chat = Chat::new("You are a poet.").user("Two lines about rain.");
//!         let mut answer = OpenAi::new("gpt-5-mini").chat(&chat);
//!         let mut text = ctx.open_text("lk.transcription", &SendOptions::default());
//!         while let Some(part) = answer.next_text().await? {
//!             text.write(&part).await?;
//!         }
//!         text.close().await?;
//!         Ok(())
//!     }
//! }
//!
//! wasm_worker_sdk::agent!(Poet);
//! # fn main() {}
//! ```
//!
//! Models are values of the trait [`ChatModel`], and wrap each other: [`Fallback`] asks the next model where one fails,
//! and [`WithTools`] runs the [`Tool`]s that a model calls. [`mcp::Server`] is a source of tools.
//!
//! An answer is a [`ChatStream`] of [`ChatDelta`]s. Dropping it, or the future that waits for it, gives the request up.
//! Tokens are counted into the job's usage, as the server tells them.
//!
//! Everything that comes from a server is bounded: lines and events of a stream, the text and the tool calls of an answer,
//! the bytes of an error, and the time.

#![warn(missing_docs)]

pub mod sse;
mod chat;
mod error;
mod stream;
mod wire;
mod model;
#[cfg(test)]
mod fake;
mod openai;
mod fallback;
mod tool;
mod with_tools;
pub mod mcp;

pub use chat::{
    Chat, ChatAnswer, ChatDelta, ChatEnd, Finish, Message, ResponseFormat, ToolCall, ToolChoice, ToolInfo, ToolResult,
};
pub use error::{ChatError, Limit};
pub use fallback::Fallback;
pub use model::ChatModel;
pub use openai::{Limits, OpenAi};
pub use serde_json::{Value, json};
pub use stream::{ChatSink, ChatStream};
pub use tool::Tool;
pub use with_tools::WithTools;
