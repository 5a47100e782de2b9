//! Several models, of which the first that works answers.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use wasm_worker_sdk::time;

use crate::{Chat, ChatError, ChatModel, ChatSink, ChatStream};

/// The time for which a model that failed is asked after the others.
const REST: Duration = Duration::from_secs(60);

/// Several models. Each answer is by the first of them that gives one; a model that fails in the middle of an answer ends
/// it, because what was said cannot be taken back.
///
/// A model that failed is asked after the others for a minute, so that a server that hangs costs one answer the wait.
///
/// ```no_run
/// use wasm_worker_models::{Fallback, OpenAi};
/// let local = OpenAi::new("qwen3").base_url("http://models.internal/v1").provider("vllm").retries(0);
/// let model = Fallback::new(local).or(OpenAi::new("gpt-5-mini"));
/// ```
#[derive(Clone)]
pub struct Fallback(Rc<Vec<Member>>);

struct Member {
    model: Rc<dyn ChatModel>,
    /// When it failed last.
    failed_at: Cell<Option<SystemTime>>,
}

impl Fallback {
    /// The model that is asked first.
    ///
    /// ```
    /// # use wasm_worker_models::{Fallback, OpenAi};
    /// let model = Fallback::new(OpenAi::new("gpt-5-mini"));
    /// ```
    pub fn new(model: impl ChatModel + 'static) -> Self {
        Self(Rc::new(vec![Member::new(model)]))
    }

    /// Adds a model that is asked where those before it failed.
    ///
    /// ```
    /// # use wasm_worker_models::{Fallback, OpenAi};
    /// let model = Fallback::new(OpenAi::new("gpt-5")).or(OpenAi::new("gpt-5-mini"));
    /// ```
    #[must_use]
    pub fn or(self, model: impl ChatModel + 'static) -> Self {
        let mut members: Vec<Member> = self.0.iter().map(Member::again).collect();
        members.push(Member::new(model));
        Self(Rc::new(members))
    }

    async fn answer(self, chat: Chat, sink: ChatSink) -> Result<(), ChatError> {
        let mut errors = Vec::new();
        for member in self.in_order() {
            let name = member.model.name();
            match pass_on(&mut member.model.chat(&chat), &sink).await {
                Ok(()) => {
                    member.failed_at.set(None);
                    return Ok(());
                }
                Err((error, begun)) => {
                    member.failed_at.set(Some(time::now()));
                    if begun {
                        return Err(error);
                    }
                    log::warn!("{name}: {error}");
                    errors.push((name, error));
                }
            }
        }
        Err(ChatError::AllFailed(errors))
    }

    /// The models that have not failed lately, then the others.
    fn in_order(&self) -> impl Iterator<Item = &Member> {
        let now = time::now();
        let (resting, ready): (Vec<_>, Vec<_>) = self.0.iter().partition(|member| member.rests(now));
        ready.into_iter().chain(resting)
    }
}

impl ChatModel for Fallback {
    fn name(&self) -> String {
        let names: Vec<String> = self.0.iter().map(|member| member.model.name()).collect();
        names.join(" or ")
    }

    fn chat(&self, chat: &Chat) -> ChatStream {
        let (models, chat) = (self.clone(), chat.clone());
        ChatStream::new(|sink| models.answer(chat, sink))
    }
}

impl Member {
    fn new(model: impl ChatModel + 'static) -> Self {
        Self { model: Rc::new(model), failed_at: Cell::new(None) }
    }

    fn again(&self) -> Self {
        Self { model: self.model.clone(), failed_at: self.failed_at.clone() }
    }

    fn rests(&self, now: SystemTime) -> bool {
        self.failed_at.get().is_some_and(|at| now < at + REST)
    }
}

/// Gives an answer on. An error tells whether a part of it was given on before.
async fn pass_on(answer: &mut ChatStream, sink: &ChatSink) -> Result<(), (ChatError, bool)> {
    let mut begun = false;
    while let Some(delta) = answer.next().await.map_err(|error| (error, begun))? {
        begun = true;
        sink.send(delta).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasm_worker_sdk::native;

    use super::*;
    use crate::Limit;
    use crate::fake::{Scripted, finished, text, texts};

    fn late() -> ChatError {
        ChatError::Timeout(Limit::FirstToken)
    }

    #[test]
    fn next_model_answers_and_the_failed_one_rests() {
        let (first, second) = (Scripted::new("first"), Scripted::new("second"));
        let model = Fallback::new(first.clone()).or(second.clone());
        first.answers(vec![Err(late())]);
        second.answers(vec![Ok(text("b"))]);
        second.answers(vec![Ok(text("c"))]);
        native::step(0.0, Vec::new());
        assert_eq!(texts(&finished(model.chat(&Chat::new(""))).unwrap()), "b");
        assert_eq!(texts(&finished(model.chat(&Chat::new(""))).unwrap()), "c");
        assert_eq!((first.asked(), second.asked()), (1, 2));
        native::step(60_000.0, Vec::new());
        first.answers(vec![Ok(text("a"))]);
        assert_eq!(texts(&finished(model.chat(&Chat::new(""))).unwrap()), "a");
    }

    #[test]
    fn model_that_has_begun_ends_the_answer() {
        let (first, second) = (Scripted::new("first"), Scripted::new("second"));
        let model = Fallback::new(first.clone()).or(second.clone());
        first.answers(vec![Ok(text("half")), Err(late())]);
        assert!(matches!(finished(model.chat(&Chat::new(""))), Err(ChatError::Timeout(_))));
        assert_eq!(second.asked(), 0);
    }

    #[test]
    fn all_errors_are_told_and_resting_models_are_tried_at_last() {
        let model = Scripted::new("only");
        let fallback = Fallback::new(model.clone());
        for _ in 0..2 {
            model.answers(vec![Err(late())]);
            let error = finished(fallback.chat(&Chat::new(""))).unwrap_err();
            assert_eq!(error.to_string(), "no model answered; only: the model did not begin to answer in time");
        }
        assert_eq!(model.asked(), 2);
    }
}
