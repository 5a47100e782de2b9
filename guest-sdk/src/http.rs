//! HTTP, to the hosts that the operator allows.
//!
//! The agent holds no key: the host adds the headers that its operator has set for a server. A request is given up when
//! its future, its [`Upload`] or its [`Response`] is dropped.
//!
//! An answer of any status is no error: [`Response::error_for_status`] makes it one. Errors are the contract's:
//! `not-allowed` for a host that the operator has not allowed, `timeout`, `refused`, `too-large`, and others.
//!
//! ```no_run
//! use wasm_worker_sdk::{Result, http::Request};
//!
//! async fn weather(city: &str) -> Result<String> {
//!     let answer = Request::get(format!("https://wttr.in/{city}?format=3")).send().await?;
//!     Ok(answer.error_for_status().await?.text(64 << 10).await?)
//! }
//! ```

mod retry;
mod response;
mod upload;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::types::Failure;
use crate::{Operation, calls, contract, executor, random, time};

pub use response::Response;
pub use upload::Upload;

/// Number of times that a request is sent again, unless it says otherwise.
const RETRIES: u32 = 2;
/// The methods that a server may get twice: RFC 9110, section 9.2.2.
const REPEATABLE: [&str; 5] = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"];

/// A request, until it is sent.
#[derive(Clone, Debug)]
pub struct Request {
    call: contract::http::Request,
    /// What the agent said, if it did. Otherwise the method tells.
    repeatable: Option<bool>,
    retries: u32,
}

impl Request {
    /// A request with any method. It follows redirects, has no body, and takes at most as long as the host allows.
    ///
    /// ```no_run
    /// let gone = wasm_worker_sdk::http::Request::new("DELETE", "https://example.com/notes/7");
    /// ```
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        let call = contract::http::Request {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout_ms: 0,
            follow_redirects: true,
            repeatable: false,
        };
        Self { call, repeatable: None, retries: RETRIES }
    }

    /// A request for what is at this address.
    ///
    /// ```no_run
    /// let page = wasm_worker_sdk::http::Request::get("https://example.com/");
    /// ```
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url)
    }

    /// A request that gives the server something to do.
    ///
    /// ```no_run
    /// let order = wasm_worker_sdk::http::Request::post("https://example.com/orders").json(r#"{"table":4}"#);
    /// ```
    pub fn post(url: impl Into<String>) -> Self {
        Self::new("POST", url)
    }

    /// Adds a header. Keys of the operator are not for the agent to send: the host adds them.
    ///
    /// ```no_run
    /// # use wasm_worker_sdk::http::Request;
    /// let page = Request::get("https://example.com/").header("accept", "text/plain");
    /// ```
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.call.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body, or with [`open`](Self::open) its beginning.
    ///
    /// ```no_run
    /// # use wasm_worker_sdk::http::Request;
    /// let note = Request::new("PUT", "https://example.com/notes/7").body("call Ann");
    /// ```
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.call.body = body.into();
        self
    }

    /// Sets the body to this text of JSON, and the header `content-type`.
    ///
    /// ```no_run
    /// # use wasm_worker_sdk::http::Request;
    /// let order = Request::post("https://example.com/orders").json(r#"{"table":4}"#);
    /// ```
    #[must_use]
    pub fn json(self, text: impl Into<String>) -> Self {
        self.header("content-type", "application/json").body(text.into())
    }

    /// Limits each try, to the last byte of the answer. It then fails as `timeout`. The host has a limit too.
    ///
    /// ```no_run
    /// # use wasm_worker_sdk::http::Request;
    /// let page = Request::get("https://example.com/").timeout(std::time::Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.call.timeout_ms = millis(timeout);
        self
    }

    /// Whether redirects are followed. At first they are.
    ///
    /// ```no_run
    /// # use wasm_worker_sdk::http::Request;
    /// let moved = Request::get("https://example.com/old").follow_redirects(false);
    /// ```
    #[must_use]
    pub fn follow_redirects(mut self, follow: bool) -> Self {
        self.call.follow_redirects = follow;
        self
    }

    /// Whether the server may get this request twice. At first that holds for GET, HEAD, PUT, DELETE and OPTIONS. Others
    /// are sent once.
    ///
    /// ```no_run
    /// # use wasm_worker_sdk::http::Request;
    /// let search = Request::post("https://example.com/search").json("{}").repeatable(true);
    /// ```
    #[must_use]
    pub fn repeatable(mut self, repeatable: bool) -> Self {
        self.repeatable = Some(repeatable);
        self
    }

    /// Number of times that a [repeatable](Self::repeatable) request is sent again: after a failure that may pass, and
    /// after the statuses 408, 425, 429, 500, 502, 503 and 504. At first 2.
    ///
    /// The pause before it is what the server asks for by `Retry-After`, up to a minute, else [`backoff`].
    ///
    /// ```no_run
    /// # use wasm_worker_sdk::http::Request;
    /// let page = Request::get("https://example.com/").retries(5);
    /// ```
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sends the request and waits for the head of the answer. After the last retry the answer is returned as it is.
    ///
    /// ```no_run
    /// # async fn example() -> wasm_worker_sdk::Result {
    /// # use wasm_worker_sdk::http::Request;
    /// let answer = Request::get("https://example.com/").send().await?;
    /// log::info!("{} from {}", answer.status(), answer.url());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The contract's failure where there is no answer.
    pub async fn send(mut self) -> Result<Response, Failure> {
        self.call.repeatable = self.is_repeatable();
        let retries = if self.call.repeatable { self.retries } else { 0 };
        for retry in 0..retries {
            let result = self.send_once().await;
            let Some(pause) = pause(&result, retry) else { return result };
            match &result {
                Ok(answer) => log::info!("the server answered {}; the request goes out again", answer.status()),
                Err(failure) => log::info!("{failure}; the request goes out again"),
            }
            drop(result);
            time::sleep(pause).await;
        }
        self.send_once().await
    }

    /// Sends the request, whose body goes on by [`Upload::write`]. It is sent once.
    ///
    /// ```no_run
    /// # async fn example(parts: Vec<Vec<u8>>) -> wasm_worker_sdk::Result {
    /// # use wasm_worker_sdk::http::Request;
    /// let mut upload = Request::post("https://example.com/recordings").open();
    /// for part in parts {
    ///     if !upload.write(&part).await? {
    ///         break;
    ///     }
    /// }
    /// let answer = upload.end().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(mut self) -> Upload {
        self.call.repeatable = self.repeatable.unwrap_or(false);
        executor::count_call();
        Upload::new(Operation::new(calls::http::open(&self.call), "http::Upload"))
    }

    async fn send_once(&self) -> Result<Response, Failure> {
        executor::count_call();
        Response::wait(Operation::new(calls::http::send(&self.call), "http::Request::send")).await
    }

    fn is_repeatable(&self) -> bool {
        self.repeatable.unwrap_or_else(|| REPEATABLE.contains(&self.call.method.to_ascii_uppercase().as_str()))
    }
}

/// The pause before the next try, where `retry` is the number of tries that failed after the first. It doubles from half
/// a second up to 8 s, and a random part of it, at most a half, is left out, so that many jobs do not come back together.
///
/// ```no_run
/// # async fn example() {
/// wasm_worker_sdk::time::sleep(wasm_worker_sdk::http::backoff(0)).await;
/// # }
/// ```
pub fn backoff(retry: u32) -> Duration {
    retry::backoff(retry, random::u64())
}

/// The pause before a request is sent again, if it should be.
fn pause(result: &Result<Response, Failure>, retry: u32) -> Option<Duration> {
    let again = match result {
        Ok(answer) => retry::after_answer(answer.status(), answer.retry_after()),
        Err(failure) => failure.may_pass().then_some(None),
    };
    again.map(|asked| asked.unwrap_or_else(|| backoff(retry)))
}

/// Whole milliseconds of a call, rounded up, because 0 means the host's own limit.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}
