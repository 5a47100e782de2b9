//! Servers with the interface of OpenAI's chat completions.

mod request;
mod refusal;
mod tool_calls;
mod answer;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::time::Duration;

use serde_json::{Map, Value};
use wasm_worker_sdk::http::{Request, backoff};
use wasm_worker_sdk::{Either, LlmUsage, UsageCollector, select, time};

use crate::wire::{TAIL, finish_reading};
use crate::{Chat, ChatDelta, ChatError, ChatModel, ChatSink, ChatStream, Limit};
use answer::Answer;

/// Number of bytes of an error that are read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// A server that asks for a longer pause is not asked again.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A model of a server with the interface of OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama, Groq, Mistral
/// and many others.
///
/// ```no_run
/// # async fn example() -> wasm_worker_sdk::Result {
/// use wasm_worker_models::{Chat, ChatModel, OpenAi, json};
/// let model = OpenAi::new("llama-3.3-70b").base_url("https://api.groq.com/openai/v1").provider("groq");
/// let answer = model.field("temperature", json!(0.2)).chat(&Chat::new("").user("hello")).whole().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OpenAi {
    base_url: String,
    model: String,
    provider: String,
    headers: Vec<(String, String)>,
    fields: Map<String, Value>,
    limits: Limits,
    retries: u32,
}

/// The time that an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the request to the first token, for each try. At first 30 s. Models that think in silence need more.
    pub first_token: Duration,
    /// Between two tokens. At first 20 s.
    pub between_tokens: Duration,
    /// For the whole answer, with all tries. At first 5 minutes.
    pub whole: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { first_token: seconds(30), between_tokens: seconds(20), whole: seconds(300) }
    }
}

impl OpenAi {
    /// A model of OpenAI's own server.
    ///
    /// ```
    /// let model = wasm_worker_models::OpenAi::new("gpt-5-mini");
    /// ```
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            base_url: "https://api.openai.com/v1".into(),
            model: model.into(),
            provider: "openai".into(),
            headers: Vec::new(),
            fields: Map::new(),
            limits: Limits::default(),
            retries: 2,
        }
    }

    /// Sets the address of another server, up to what comes before `/chat/completions`.
    ///
    /// ```
    /// # use wasm_worker_models::OpenAi;
    /// let model = OpenAi::new("qwen3").base_url("http://localhost:11434/v1").provider("ollama");
    /// ```
    #[must_use]
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// Sets the name of the provider under which tokens are counted. At first `openai`.
    ///
    /// ```
    /// # use wasm_worker_models::OpenAi;
    /// let model = OpenAi::new("mistral-small-latest").base_url("https://api.mistral.ai/v1").provider("mistral");
    /// ```
    #[must_use]
    pub fn provider(mut self, provider: impl Into<String>) -> Self {
        self.provider = provider.into();
        self
    }

    /// Sets a field of the request. `null` leaves a field out that is there otherwise, such as `stream_options`.
    ///
    /// ```
    /// # use wasm_worker_models::{OpenAi, json};
    /// let model = OpenAi::new("gpt-5-mini").field("reasoning_effort", json!("low"));
    /// ```
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: Value) -> Self {
        self.fields.insert(name.into(), value);
        self
    }

    /// Adds a header of the request. It is not for keys: the host adds those.
    ///
    /// ```
    /// # use wasm_worker_models::OpenAi;
    /// let model = OpenAi::new("gpt-5-mini").header("openai-project", "proj_1");
    /// ```
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the time that an answer may take.
    ///
    /// ```
    /// # use wasm_worker_models::{Limits, OpenAi};
    /// let first_token = std::time::Duration::from_secs(5);
    /// let model = OpenAi::new("gpt-5-mini").limits(Limits { first_token, ..Limits::default() });
    /// ```
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Number of times that the server is asked again where it failed before the first token. At first 2. The pause is
    /// what the server asks for, up to a minute, else [`backoff`].
    ///
    /// ```
    /// # use wasm_worker_models::OpenAi;
    /// let model = OpenAi::new("gpt-5-mini").retries(0);
    /// ```
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    async fn answer(self, body: String, sink: ChatSink) -> Result<(), ChatError> {
        let mut whole = timer(self.limits.whole);
        let mut retry = 0;
        loop {
            let mut begun = false;
            let tried = within(&mut whole, Limit::Whole, self.try_once(&body, &sink, &mut begun)).await;
            let Err(error) = tried.and_then(|result| result) else { return Ok(()) };
            let pause = error.retry_after().unwrap_or_else(|| backoff(retry));
            if begun || retry >= self.retries || !error.may_pass() || pause > PAUSE_MAX {
                return Err(error);
            }
            log::info!("{}: {error}; asked again in {pause:?}", self.name());
            within(&mut whole, Limit::Whole, time::sleep(pause)).await?;
            retry += 1;
        }
    }

    /// Asks the server once. `begun` tells whether a part was given on.
    async fn try_once(&self, body: &str, sink: &ChatSink, begun: &mut bool) -> Result<(), ChatError> {
        let mut token = timer(self.limits.first_token);
        let mut limit = Limit::FirstToken;
        let mut response = within(&mut token, limit, self.request(body).send()).await??;
        let status = response.status();
        if !(200..300).contains(&status) {
            let text = within(&mut token, limit, response.beginning(ERROR_BYTES_MAX)).await?;
            return Err(refusal::error(status, &text, response.retry_after()));
        }
        let mut answer = Answer::default();
        let mut bill = Bill { model: self, usage: None };
        loop {
            let read = within(&mut token, limit, response.chunk()).await;
            let bytes = match read {
                // The answer is there, and the server keeps the connection open.
                Err(_) if answer.is_complete() => break,
                read => read??,
            };
            let Some(bytes) = bytes else { break };
            let tokens = answer.tokens();
            let deltas = answer.feed(&bytes)?;
            bill.usage = answer.usage();
            for delta in deltas {
                *begun = true;
                sink.send(delta).await;
            }
            if answer.is_complete() {
                (limit, token) = (Limit::BetweenTokens, timer(TAIL.min(self.limits.between_tokens)));
            } else if answer.tokens() > tokens {
                (limit, token) = (Limit::BetweenTokens, timer(self.limits.between_tokens));
            }
            if answer.is_done() {
                finish_reading(&mut response).await;
                break;
            }
        }
        let (deltas, end) = answer.finish();
        bill.usage = end.as_ref().ok().and_then(|end| end.usage).or(bill.usage);
        drop(bill);
        *begun |= !deltas.is_empty();
        for delta in deltas {
            sink.send(delta).await;
        }
        sink.send(ChatDelta::End(end?)).await;
        Ok(())
    }

    fn request(&self, body: &str) -> Request {
        let url = format!("{}/chat/completions", self.base_url.trim_end_matches('/'));
        let request = Request::post(url).header("accept", "text/event-stream").json(body);
        // A second answer costs tokens and nothing else. This file counts the tries, as it knows more about failures.
        let request = request.repeatable(true).retries(0);
        self.headers.iter().fold(request, |request, (name, value)| request.header(name, value))
    }
}

impl ChatModel for OpenAi {
    fn name(&self) -> String {
        format!("{}/{}", self.provider, self.model)
    }

    fn chat(&self, chat: &Chat) -> ChatStream {
        let body = request::body(&self.model, chat, &self.fields);
        let model = self.clone();
        ChatStream::new(|sink| model.answer(body, sink))
    }
}

/// The tokens of a try, counted when it ends, however it ends.
struct Bill<'a> {
    model: &'a OpenAi,
    usage: Option<LlmUsage>,
}

impl Drop for Bill<'_> {
    fn drop(&mut self) {
        if let Some(usage) = self.usage {
            UsageCollector.llm(&self.model.provider, &self.model.model, usage);
        }
    }
}

type Timer = Pin<Box<dyn Future<Output = ()>>>;

fn timer(duration: Duration) -> Timer {
    Box::pin(time::sleep(duration))
}

async fn within<F: Future>(timer: &mut Timer, limit: Limit, future: F) -> Result<F::Output, ChatError> {
    match select(future, timer).await {
        Either::Left(output) => Ok(output),
        Either::Right(()) => Err(ChatError::Timeout(limit)),
    }
}
