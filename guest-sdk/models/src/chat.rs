//! Conversations and answers, as plain data.

use serde_json::Value;
use wasm_worker_sdk::{ChatContext, ChatRole, LlmUsage};

/// A conversation, and what the model may do in its next answer.
///
/// ```
/// use wasm_worker_models::Chat;
/// let chat = Chat::new("Answer in one sentence.").user("Why is the sky blue?");
/// assert_eq!(chat.messages.len(), 2);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Chat {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// The tools that the model may call. [`WithTools`](crate::WithTools) adds its own.
    pub tools: Vec<ToolInfo>,
    /// Whether it may, must or must not call one.
    pub tool_choice: ToolChoice,
    /// Whether it may call several at once; `None`: the server's default.
    pub parallel_tool_calls: Option<bool>,
    /// The form of the answer.
    pub response_format: ResponseFormat,
}

impl Chat {
    /// A conversation with these instructions, or none if the text is empty.
    ///
    /// ```
    /// let chat = wasm_worker_models::Chat::new("You are a waiter.");
    /// ```
    pub fn new(instructions: impl Into<String>) -> Self {
        let instructions = instructions.into();
        let messages = if instructions.is_empty() { Vec::new() } else { vec![Message::System(instructions)] };
        Self { messages, ..Self::default() }
    }

    /// Adds a message of a person.
    ///
    /// ```
    /// let chat = wasm_worker_models::Chat::new("").user("hello");
    /// ```
    #[must_use]
    pub fn user(mut self, text: impl Into<String>) -> Self {
        self.messages.push(Message::User(text.into()));
        self
    }

    /// Sets the form of the answer.
    ///
    /// ```
    /// use wasm_worker_models::{Chat, ResponseFormat, json};
    /// let schema = json!({ "type": "object", "properties": { "stars": { "type": "integer" } } });
    /// let chat = Chat::new("Rate the text.").response_format(ResponseFormat::JsonSchema { name: "rating".into(), schema });
    /// ```
    #[must_use]
    pub fn response_format(mut self, format: ResponseFormat) -> Self {
        self.response_format = format;
        self
    }

    /// Adds a part of an answer to the conversation: its text, its tool calls and their results. An answer that is given
    /// up stays in the conversation as far as it was noted.
    ///
    /// ```
    /// use wasm_worker_models::{Chat, ChatDelta, Message};
    /// let mut chat = Chat::new("").user("hello");
    /// chat.note(&ChatDelta::Text("good ".into()));
    /// chat.note(&ChatDelta::Text("morning".into()));
    /// assert!(matches!(&chat.messages[1], Message::Assistant { text, .. } if text == "good morning"));
    /// ```
    pub fn note(&mut self, delta: &ChatDelta) {
        match (delta, self.messages.last_mut()) {
            (ChatDelta::Text(part), Some(Message::Assistant { text, .. })) => text.push_str(part),
            (ChatDelta::Text(part), _) => {
                self.messages.push(Message::Assistant { text: part.clone(), tool_calls: Vec::new() });
            }
            (ChatDelta::ToolCall(call), Some(Message::Assistant { tool_calls, .. })) => tool_calls.push(call.clone()),
            (ChatDelta::ToolCall(call), _) => {
                self.messages.push(Message::Assistant { text: String::new(), tool_calls: vec![call.clone()] });
            }
            (ChatDelta::ToolResult(result), _) => self.messages.push(Message::ToolResult(result.clone())),
            (ChatDelta::Reasoning(_) | ChatDelta::End(_), _) => {}
        }
    }
}

impl From<&ChatContext> for Chat {
    /// The conversation of an [`AgentSession`](wasm_worker_sdk::AgentSession).
    fn from(context: &ChatContext) -> Self {
        let message = |role, text: &str| match role {
            ChatRole::System => Message::System(text.into()),
            ChatRole::User => Message::User(text.into()),
            ChatRole::Assistant => Message::Assistant { text: text.into(), tool_calls: Vec::new() },
        };
        let messages = context.messages.iter().map(|each| message(each.role, &each.text)).collect();
        Self { messages, ..Self::default() }
    }
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The instructions to the model.
    System(String),
    /// By a person.
    User(String),
    /// By the model.
    Assistant {
        /// What it said.
        text: String,
        /// The tools that it called.
        tool_calls: Vec<ToolCall>,
    },
    /// What a tool gave.
    ToolResult(ToolResult),
}

/// A call of a tool by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// The id that the result has to name. No other call of the answer has it.
    pub id: String,
    /// The tool's name, as the model wrote it.
    pub name: String,
    /// The arguments, as the model wrote them: a JSON object, if it made no mistake.
    pub arguments: String,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The id of the call.
    pub call_id: String,
    /// The tool's name.
    pub name: String,
    /// What the model is told.
    pub text: String,
    /// Whether the tool failed.
    pub is_error: bool,
}

/// The description of a tool, for the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolInfo {
    /// Its name: letters, digits, `_` and `-`, at most 64.
    pub name: String,
    /// What it does and when to call it.
    pub description: String,
    /// The JSON schema of its arguments.
    pub parameters: Value,
    /// Whether the model has to keep to the schema exactly. The schema is then of a smaller kind.
    pub strict: bool,
}

/// Whether the model calls tools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It does not.
    None,
    /// It calls at least one.
    Required,
    /// It calls the one with this name.
    Named(String),
}

/// The form of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ResponseFormat {
    /// Text.
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that keeps to this schema.
    JsonSchema {
        /// A name for it: letters, digits, `_` and `-`.
        name: String,
        /// The JSON schema.
        schema: Value,
    },
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ChatDelta {
    /// A part of the text. It is not empty.
    Text(String),
    /// A part of what the model tells of its thinking, where it does.
    Reasoning(String),
    /// A whole call of a tool.
    ToolCall(ToolCall),
    /// What a tool gave. Only [`WithTools`](crate::WithTools) has these.
    ToolResult(ToolResult),
    /// The end. It is the last part.
    End(ChatEnd),
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatEnd {
    /// Why it ended.
    pub finish: Finish,
    /// The tokens, if the server told them. They are counted into the job's usage already.
    pub usage: Option<LlmUsage>,
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model came to its end.
    Stop,
    /// The answer is cut: it reached its bound of tokens.
    Length,
    /// The model waits for the results of its calls.
    ToolCalls,
    /// The server held the answer back.
    ContentFilter,
    /// The model did not tell. [`OpenAi`](crate::OpenAi) always does.
    Missing,
    /// Another reason.
    Other(String),
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatAnswer {
    /// Its text.
    pub text: String,
    /// What the model told of its thinking.
    pub reasoning: String,
    /// The tools that it called, with [`WithTools`](crate::WithTools) those that have run too.
    pub tool_calls: Vec<ToolCall>,
    /// Its end.
    pub end: ChatEnd,
}
