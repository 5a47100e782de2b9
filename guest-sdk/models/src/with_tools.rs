//! A model and the tools that it calls, as one model.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use wasm_worker_sdk::{LlmUsage, time};

use crate::{
    Chat, ChatDelta, ChatEnd, ChatError, ChatModel, ChatSink, ChatStream, Finish, Tool, ToolCall, ToolChoice,
    ToolResult,
};

/// Number of bytes of a result that the model is told.
const RESULT_BYTES_MAX: usize = 64 << 10;

/// A model with tools. Its answer is the text of all rounds: the model calls tools, they run, at once if there are
/// several, and the model goes on with their results.
///
/// A call of an unknown tool, arguments that are no JSON object, an error of a tool and a tool that takes too long are
/// told to the model as the result of the call, and it can do better. What comes back as [`ChatDelta::ToolCall`] has run
/// or is about to.
///
/// ```no_run
/// # async fn example() -> wasm_worker_sdk::Result {
/// use wasm_worker_models::{Chat, ChatModel, OpenAi, Tool, WithTools, json};
/// let table = Tool::new("free_tables", "Tells how many tables are free.", json!({ "type": "object" }), async |_| {
///     Ok("4".into())
/// });
/// let model = WithTools::new(OpenAi::new("gpt-5-mini")).tool(table);
/// let mut chat = Chat::new("You are a waiter.").user("Do you have a table?");
/// let mut answer = model.chat(&chat);
/// while let Some(delta) = answer.next().await? {
///     chat.note(&delta);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct WithTools {
    model: Rc<dyn ChatModel>,
    tools: Vec<Tool>,
    rounds_max: u32,
    timeout: Duration,
}

impl WithTools {
    /// A model that has no tools yet.
    ///
    /// ```
    /// # use wasm_worker_models::{OpenAi, WithTools};
    /// let model = WithTools::new(OpenAi::new("gpt-5-mini"));
    /// ```
    pub fn new(model: impl ChatModel + 'static) -> Self {
        Self { model: Rc::new(model), tools: Vec::new(), rounds_max: 3, timeout: Duration::from_secs(30) }
    }

    /// Adds a tool. It takes the place of one with the same name.
    ///
    /// ```
    /// # fn example(model: wasm_worker_models::WithTools, weather: wasm_worker_models::Tool) {
    /// let model = model.tool(weather);
    /// # }
    /// ```
    #[must_use]
    pub fn tool(mut self, tool: Tool) -> Self {
        if self.tools.iter().any(|other| other.info().name == tool.info().name) {
            log::warn!("the tool `{}` takes the place of another one", tool.info().name);
            self.tools.retain(|other| other.info().name != tool.info().name);
        }
        self.tools.push(tool);
        self
    }

    /// Adds tools: as [`tool`](Self::tool).
    ///
    /// ```
    /// # fn example(model: wasm_worker_models::WithTools, tools: Vec<wasm_worker_models::Tool>) {
    /// let model = model.tools(tools);
    /// # }
    /// ```
    #[must_use]
    pub fn tools(self, tools: impl IntoIterator<Item = Tool>) -> Self {
        tools.into_iter().fold(self, Self::tool)
    }

    /// Number of rounds in which the model may call tools. At first 3, as LiveKit's `max_tool_steps`. After them it has to
    /// answer without.
    ///
    /// ```
    /// # fn example(model: wasm_worker_models::WithTools) {
    /// let model = model.rounds_max(10);
    /// # }
    /// ```
    #[must_use]
    pub fn rounds_max(mut self, rounds: u32) -> Self {
        self.rounds_max = rounds;
        self
    }

    /// Sets the time that a tool may take. At first 30 s.
    ///
    /// ```
    /// # fn example(model: wasm_worker_models::WithTools) {
    /// let model = model.timeout(std::time::Duration::from_secs(5));
    /// # }
    /// ```
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn answer(self, mut chat: Chat, sink: ChatSink) -> Result<(), ChatError> {
        chat.tools.extend(self.tools.iter().map(|tool| tool.info().clone()));
        let mut total = None;
        for round in 0..=self.rounds_max {
            if round == self.rounds_max {
                chat.tool_choice = ToolChoice::None;
            }
            let (calls, mut end) = self.round(&mut chat, &sink).await?;
            total = sum(total, end.usage);
            if calls.is_empty() {
                end.usage = total;
                sink.send(ChatDelta::End(end)).await;
                return Ok(());
            }
            if round == self.rounds_max {
                break;
            }
            for result in join(calls.iter().map(|call| self.run(call)).collect()).await {
                let result = ChatDelta::ToolResult(result);
                chat.note(&result);
                sink.send(result).await;
            }
            // A tool that must be called must be called once.
            chat.tool_choice = ToolChoice::Auto;
        }
        Err(ChatError::Rounds(self.rounds_max))
    }

    /// One answer of the model: what it says is given on, what it calls is returned.
    async fn round(&self, chat: &mut Chat, sink: &ChatSink) -> Result<(Vec<ToolCall>, ChatEnd), ChatError> {
        let mut calls = Vec::new();
        let mut end = ChatEnd { finish: Finish::Missing, usage: None };
        let mut answer = self.model.chat(chat);
        while let Some(delta) = answer.next().await? {
            match delta {
                ChatDelta::End(told) => end = told,
                delta => {
                    if let ChatDelta::ToolCall(call) = &delta {
                        calls.push(call.clone());
                    }
                    chat.note(&delta);
                    sink.send(delta).await;
                }
            }
        }
        Ok((calls, end))
    }

    async fn run(&self, call: &ToolCall) -> ToolResult {
        let found = self.tools.iter().find(|tool| tool.info().name == call.name);
        let result = match found {
            None => Err(self.unknown(&call.name)),
            Some(tool) => match time::timeout(self.timeout, tool.run(&call.arguments)).await {
                None => Err(format!("it took longer than {:?}", self.timeout)),
                Some(result) => result.map_err(|error| error.to_string()),
            },
        };
        if let Err(error) = &result {
            // The text may hold what people said.
            log::warn!("the tool `{}` failed", call.name);
            log::debug!("the tool `{}`: {error}", call.name);
        }
        let is_error = result.is_err();
        let text = clip(result.unwrap_or_else(|error| format!("error: {error}")));
        ToolResult { call_id: call.id.clone(), name: call.name.clone(), text, is_error }
    }

    fn unknown(&self, name: &str) -> String {
        let names: Vec<&str> = self.tools.iter().map(|tool| tool.info().name.as_str()).collect();
        format!("there is no tool `{name}`; the tools are: {}", names.join(", "))
    }
}

impl ChatModel for WithTools {
    fn name(&self) -> String {
        self.model.name()
    }

    fn chat(&self, chat: &Chat) -> ChatStream {
        let (model, chat) = (self.clone(), chat.clone());
        ChatStream::new(|sink| model.answer(chat, sink))
    }
}

impl fmt::Debug for WithTools {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("WithTools").field("model", &self.name()).field("tools", &self.tools).finish_non_exhaustive()
    }
}

fn sum(one: Option<LlmUsage>, other: Option<LlmUsage>) -> Option<LlmUsage> {
    let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
    Some(LlmUsage {
        input_tokens: one.input_tokens.saturating_add(other.input_tokens),
        input_cached_tokens: one.input_cached_tokens.saturating_add(other.input_cached_tokens),
        output_tokens: one.output_tokens.saturating_add(other.output_tokens),
    })
}

fn clip(mut text: String) -> String {
    if text.len() > RESULT_BYTES_MAX {
        let whole = text.len();
        text.truncate(text.floor_char_boundary(RESULT_BYTES_MAX));
        text.push_str(&format!("\n[cut: {whole} bytes in all]"));
    }
    text
}

/// Waits for all futures, which run at the same time.
async fn join<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    poll_fn(|cx| {
        for (future, output) in running.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            if let Poll::Ready(ready) = future.as_mut().poll(cx) {
                *output = Some(ready);
            }
        }
        if outputs.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::{Value, json};
    use wasm_worker_sdk::native;

    use super::*;
    use crate::Message;
    use crate::fake::{Scripted, all, begin, call, end, finished, text, texts};

    /// A tool that sleeps for as many milliseconds as it is told.
    fn nap(name: &str) -> Tool {
        Tool::new(name, "sleeps", json!({ "type": "object" }), async |arguments: Value| {
            let ms = arguments["ms"].as_u64().ok_or("`ms` is missing")?;
            time::sleep(Duration::from_millis(ms)).await;
            Ok(format!("slept {ms}"))
        })
    }

    /// The results in these parts, each marked where it is an error.
    fn results(deltas: &[ChatDelta]) -> Vec<String> {
        let text = |delta: &ChatDelta| match delta {
            ChatDelta::ToolResult(result) if result.is_error => Some(format!("! {}", result.text)),
            ChatDelta::ToolResult(result) => Some(format!("{}: {}", result.call_id, result.text)),
            _ => None,
        };
        deltas.iter().filter_map(text).collect()
    }

    #[test]
    fn calls_run_at_the_same_time_and_the_model_goes_on() {
        let model = Scripted::new("m");
        let usage = |input_tokens| Some(LlmUsage { input_tokens, ..LlmUsage::default() });
        let ended = |finish, tokens| ChatDelta::End(ChatEnd { finish, usage: usage(tokens) });
        let calls = [call("a", "nap", r#"{"ms":20}"#), call("b", "nap", r#"{"ms":10}"#)];
        model.answers(
            [vec![text("wait ")], calls.to_vec(), vec![ended(Finish::ToolCalls, 1)]]
                .concat()
                .into_iter()
                .map(Ok)
                .collect(),
        );
        model.answers(vec![Ok(text("done")), Ok(ended(Finish::Stop, 2))]);
        let tools = WithTools::new(model.clone()).tool(nap("nap"));
        native::step(0.0, Vec::new());
        let output = begin(all(tools.chat(&Chat { tool_choice: ToolChoice::Required, ..Chat::new("") })));
        native::step(19.0, Vec::new());
        assert!(output.borrow().is_none());
        native::step(20.0, Vec::new());
        let deltas = output.take().unwrap().unwrap();
        assert_eq!(texts(&deltas), "wait done");
        assert_eq!(results(&deltas), ["a: slept 20", "b: slept 10"]);
        assert_eq!(deltas.last(), Some(&ended(Finish::Stop, 3)));
        let second = model.chat_of(1);
        assert_eq!((second.messages.len(), second.tool_choice), (3, ToolChoice::Auto));
        assert!(matches!(&second.messages[0], Message::Assistant { tool_calls, .. } if tool_calls.len() == 2));
    }

    #[test]
    fn mistakes_are_told_to_the_model() {
        let model = Scripted::new("m");
        let calls = [
            call("a", "nip", "{}"),
            call("b", "nap", "{\"ms\":"),
            call("c", "nap", "[1]"),
            call("d", "nap", "{}"),
            call("e", "nap", r#"{"ms":2000}"#),
        ];
        model.answers(calls.into_iter().map(Ok).collect());
        model.answers(vec![Ok(text("sorry")), Ok(end(Finish::Stop))]);
        let tools = WithTools::new(model).tool(nap("nap")).timeout(Duration::from_secs(1));
        native::step(0.0, Vec::new());
        let output = begin(all(tools.chat(&Chat::new(""))));
        native::step(1000.0, Vec::new());
        let deltas = output.take().unwrap().unwrap();
        let results = results(&deltas);
        assert_eq!(results[0], "! error: there is no tool `nip`; the tools are: nap");
        assert!(results[1].starts_with("! error: the arguments are no JSON: EOF"), "{results:?}");
        assert_eq!(results[2], "! error: the arguments are no JSON object");
        assert_eq!(results[3], "! error: `ms` is missing");
        assert_eq!(results[4], "! error: it took longer than 1s");
        assert_eq!(texts(&deltas), "sorry");
    }

    #[test]
    fn rounds_are_bounded() {
        let model = Scripted::new("m");
        for _ in 0..3 {
            model.answers(vec![Ok(call("a", "count", "{}"))]);
        }
        let runs = Rc::new(RefCell::new(0));
        let counted = runs.clone();
        let tool = Tool::new("count", "", json!({}), move |_| {
            *counted.borrow_mut() += 1;
            async { Ok(String::new()) }
        });
        let tools = WithTools::new(model.clone()).tool(tool).rounds_max(2);
        assert!(matches!(finished(tools.chat(&Chat::new(""))), Err(ChatError::Rounds(2))));
        assert_eq!(*runs.borrow(), 2);
        let choices: Vec<_> = (0..3).map(|request| model.chat_of(request).tool_choice).collect();
        assert_eq!(choices, [ToolChoice::Auto, ToolChoice::Auto, ToolChoice::None]);
    }

    #[test]
    fn answer_that_is_given_up_drops_its_tools() {
        let begun = Rc::new(RefCell::new(Vec::new()));
        let kept = begun.clone();
        let tool = Tool::new("wait", "", json!({}), move |_| {
            let kept = kept.clone();
            async move {
                kept.borrow_mut().push("begun");
                std::future::pending().await
            }
        });
        let model = Scripted::new("m");
        model.answers(vec![Ok(call("a", "wait", "{}"))]);
        let answer = WithTools::new(model).tool(tool.clone()).chat(&Chat::new(""));
        let task = wasm_worker_sdk::spawn("answer", all(answer));
        native::step(0.0, Vec::new());
        assert_eq!(*begun.borrow(), ["begun"]);
        task.abort();
        drop(tool);
        assert_eq!(Rc::strong_count(&begun), 1);
    }

    #[test]
    fn tool_of_the_same_name_takes_the_place_and_long_results_are_cut() {
        let long = Tool::new("nap", "", json!({}), async |_| Ok("é".repeat(40 << 10)));
        let model = Scripted::new("m");
        model.answers(vec![Ok(call("a", "nap", "{}"))]);
        model.answers(vec![Ok(end(Finish::Stop))]);
        let deltas = finished(WithTools::new(model).tools([nap("nap"), long]).chat(&Chat::new(""))).unwrap();
        let result = results(&deltas).remove(0);
        assert!(result.ends_with("é\n[cut: 81920 bytes in all]") && result.len() < 66_000);
    }
}
