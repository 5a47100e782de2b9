//! Tools of servers of the Model Context Protocol, over its transport "streamable HTTP".
//!
//! The client speaks the version 2026-07-28, which has no sessions, and with older servers 2025-11-25, 2025-06-18 and
//! 2025-03-26, which may have them. It asks in the newest version first, and falls back as the specification says. The
//! agent holds no key: the host adds it by its operator's rule for the server. What the protocol has besides tools is not
//! here: prompts, resources, questions of the server to the user or the model. A stream of an older server that is cut is
//! not resumed.

mod headers;
mod message;
mod tools;
mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use wasm_worker_sdk::types::Failure;

use crate::Tool;
use session::{Call, Session};
use tools::Definition;

/// Number of pages of a list.
const PAGES_MAX: usize = 64;
/// Number of tools of a server.
const TOOLS_MAX: usize = 512;

/// A server with tools. Clones are the same server.
///
/// ```no_run
/// # async fn example() -> wasm_worker_sdk::Result {
/// use wasm_worker_models::{OpenAi, WithTools, mcp};
/// let server = mcp::Server::new("https://tools.example.com/mcp");
/// let model = WithTools::new(OpenAi::new("gpt-5-mini")).tools(server.tools().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Server {
    session: Session,
    prefix: String,
}

impl Server {
    /// A server at this address. Nothing is sent yet.
    ///
    /// ```
    /// let server = wasm_worker_models::mcp::Server::new("https://tools.example.com/mcp");
    /// ```
    pub fn new(url: impl Into<String>) -> Self {
        Self { session: Session::new(url.into()), prefix: String::new() }
    }

    /// Begins the names of the tools for the model with this text, where two servers have tools of the same name.
    ///
    /// ```
    /// # use wasm_worker_models::mcp::Server;
    /// let server = Server::new("https://tools.example.com/mcp").prefix("shop_");
    /// ```
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Limits each exchange with the server. At first 30 s.
    ///
    /// ```
    /// # use wasm_worker_models::mcp::Server;
    /// let server = Server::new("https://tools.example.com/mcp").timeout(std::time::Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.session = self.session.with_timeout(timeout);
        self
    }

    /// Asks the server for its tools, at most 512. Tools whose definition is against the protocol are left out, with a
    /// warning in the log.
    ///
    /// The names for the model have letters, digits, `_` and `-` only, and at most 64 of them.
    ///
    /// ```no_run
    /// # async fn example(server: wasm_worker_models::mcp::Server) -> wasm_worker_sdk::Result {
    /// for tool in server.tools().await? {
    ///     log::info!("{}", tool.info().name);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The server does not answer, or not as the protocol says.
    pub async fn tools(&self) -> Result<Vec<Tool>, McpError> {
        let mut definitions = Vec::new();
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let page = self.session.ask(&Call::list(cursor.as_deref())).await?;
            definitions.extend(tools::read(&page, self.session.is_modern())?);
            if definitions.len() > TOOLS_MAX {
                return Err(McpError::TooLarge(format!("more than {TOOLS_MAX} tools")));
            }
            match page.get("nextCursor").and_then(Value::as_str) {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(self.offer(definitions)),
            }
        }
        Err(McpError::TooLarge(format!("a list of more than {PAGES_MAX} pages")))
    }

    /// Ends the session, where the server has one. Errors are only logged.
    ///
    /// ```no_run
    /// # async fn example(server: wasm_worker_models::mcp::Server) {
    /// server.close().await;
    /// # }
    /// ```
    pub async fn close(self) {
        self.session.close().await;
    }

    /// The tools for the model. Each calls this server.
    fn offer(&self, definitions: Vec<Definition>) -> Vec<Tool> {
        let mut names = Vec::new();
        let mut offered = Vec::new();
        for definition in definitions {
            let name = tools::name_for_model(&self.prefix, &definition.name, &names);
            names.push(name.clone());
            let (session, description) = (self.session.clone(), definition.description.clone());
            offered.push(Tool::new(name, description, definition.schema.clone(), move |arguments| {
                let (session, call) = (session.clone(), Call::tool(&definition, arguments));
                async move { Ok(tools::result(&session.ask(&call).await?)?) }
            }));
        }
        offered
    }
}

/// Why a server of tools did not do what it was asked.
#[derive(Clone, Debug)]
pub enum McpError {
    /// The exchange failed, with the contract's code.
    Http(Failure),
    /// The server answered with a status and no message of the protocol.
    Status {
        /// The status of HTTP.
        status: u16,
        /// The beginning of what it sent.
        message: String,
    },
    /// The server answered with an error.
    Rpc {
        /// Its code in JSON-RPC.
        code: i64,
        /// What it says.
        message: String,
    },
    /// The tool failed. The text is for the model.
    Tool(String),
    /// The answer is not what the protocol says.
    Invalid(String),
    /// The answer is larger than a bound, which the text names.
    TooLarge(String),
}

impl From<Failure> for McpError {
    fn from(failure: Failure) -> Self {
        Self::Http(failure)
    }
}

impl fmt::Display for McpError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Http(failure) => write!(f, "{failure}"),
            Self::Status { status, message } => write!(f, "the server of tools answered {status}: {message}"),
            Self::Rpc { code, message } => write!(f, "the server of tools refused: {message} ({code})"),
            Self::Tool(text) => f.write_str(text),
            Self::Invalid(why) => write!(f, "the server of tools does not keep to the protocol: {why}"),
            Self::TooLarge(what) => write!(f, "the server of tools sent too much: {what}"),
        }
    }
}

impl std::error::Error for McpError {}
