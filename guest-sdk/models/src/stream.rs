//! Answers that come in parts, made by a task that runs while somebody waits for the next part.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::{ChatAnswer, ChatDelta, ChatEnd, ChatError, Finish};

type Slot = Rc<RefCell<Option<ChatDelta>>>;
type Maker = Pin<Box<dyn Future<Output = Result<(), ChatError>>>>;

/// An answer in parts. Dropping it gives the answer up.
pub struct ChatStream {
    /// The part that was made and not read.
    slot: Slot,
    /// The maker of the parts, until it has ended.
    maker: Option<Maker>,
    /// Why the maker failed, until that was told.
    error: Option<ChatError>,
}

impl ChatStream {
    /// An answer that this function makes, by sending parts. It runs only while somebody waits for a part.
    ///
    /// ```
    /// use wasm_worker_models::{Chat, ChatDelta, ChatEnd, ChatModel, ChatStream, Finish, Message};
    ///
    /// struct Echo;
    ///
    /// impl ChatModel for Echo {
    ///     fn name(&self) -> String {
    ///         "echo".into()
    ///     }
    ///
    ///     fn chat(&self, chat: &Chat) -> ChatStream {
    ///         let last = chat.messages.last().cloned();
    ///         ChatStream::new(async |sink| {
    ///             if let Some(Message::User(text)) = last {
    ///                 sink.send(ChatDelta::Text(text)).await;
    ///             }
    ///             sink.send(ChatDelta::End(ChatEnd { finish: Finish::Stop, usage: None })).await;
    ///             Ok(())
    ///         })
    ///     }
    /// }
    /// ```
    pub fn new<F, Fut>(make: F) -> Self
    where
        F: FnOnce(ChatSink) -> Fut,
        Fut: Future<Output = Result<(), ChatError>> + 'static,
    {
        let slot = Slot::default();
        let maker = make(ChatSink(slot.clone()));
        Self { slot, maker: Some(Box::pin(maker)), error: None }
    }

    /// Waits for the next part; `None` after the last one. A future that is dropped loses no part.
    ///
    /// ```no_run
    /// # async fn example(mut answer: wasm_worker_models::ChatStream) -> wasm_worker_sdk::Result {
    /// while let Some(part) = answer.next().await? {
    ///     log::info!("{part:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The answer failed. Nothing follows.
    pub async fn next(&mut self) -> Result<Option<ChatDelta>, ChatError> {
        poll_fn(|cx| {
            if let Some(maker) = &mut self.maker
                && let Poll::Ready(result) = maker.as_mut().poll(cx)
            {
                self.maker = None;
                self.error = result.err();
            }
            match self.slot.take() {
                Some(delta) => Poll::Ready(Ok(Some(delta))),
                None if self.maker.is_some() => Poll::Pending,
                None => Poll::Ready(self.error.take().map_or(Ok(None), Err)),
            }
        })
        .await
    }

    /// Waits for the next part of the text, and leaves the other parts out.
    ///
    /// ```no_run
    /// # async fn example(mut answer: wasm_worker_models::ChatStream) -> wasm_worker_sdk::Result {
    /// while let Some(text) = answer.next_text().await? {
    ///     log::info!("{text}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn next_text(&mut self) -> Result<Option<String>, ChatError> {
        while let Some(delta) = self.next().await? {
            if let ChatDelta::Text(text) = delta {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Waits for the whole answer.
    ///
    /// ```no_run
    /// # async fn example(answer: wasm_worker_models::ChatStream) -> wasm_worker_sdk::Result {
    /// let answer = answer.whole().await?;
    /// log::info!("{} ({:?})", answer.text, answer.end.finish);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub async fn whole(mut self) -> Result<ChatAnswer, ChatError> {
        let end = ChatEnd { finish: Finish::Missing, usage: None };
        let mut answer = ChatAnswer { text: String::new(), reasoning: String::new(), tool_calls: Vec::new(), end };
        while let Some(delta) = self.next().await? {
            match delta {
                ChatDelta::Text(text) => answer.text.push_str(&text),
                ChatDelta::Reasoning(text) => answer.reasoning.push_str(&text),
                ChatDelta::ToolCall(call) => answer.tool_calls.push(call),
                ChatDelta::ToolResult(_) => {}
                ChatDelta::End(end) => answer.end = end,
            }
        }
        Ok(answer)
    }
}

impl fmt::Debug for ChatStream {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("ChatStream").field("over", &self.maker.is_none()).finish_non_exhaustive()
    }
}

/// The other end of a [`ChatStream`].
#[derive(Debug)]
pub struct ChatSink(Slot);

impl ChatSink {
    /// Sends a part, and waits until it was read and another one is wanted.
    pub async fn send(&self, delta: ChatDelta) {
        self.taken().await;
        self.0.replace(Some(delta));
        self.taken().await;
    }

    /// The reader polls the maker each time that it wants a part, so no waker is kept.
    async fn taken(&self) {
        poll_fn(|_| if self.0.borrow().is_none() { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::fake::{begin, text};

    #[test]
    fn maker_goes_on_only_when_the_next_part_is_wanted() {
        let made = Rc::new(Cell::new(0));
        let counted = made.clone();
        let mut answer = ChatStream::new(async move |sink| {
            for part in ["a", "b"] {
                sink.send(text(part)).await;
                counted.set(counted.get() + 1);
            }
            Err(ChatError::Rounds(1))
        });
        assert_eq!(made.get(), 0);
        let first = begin(async move { (answer.next().await, answer) });
        let (part, mut answer) = first.take().unwrap();
        assert_eq!((part.unwrap(), made.get()), (Some(text("a")), 0));
        let second = begin(async move { (answer.next().await, answer) });
        let (part, mut answer) = second.take().unwrap();
        assert_eq!((part.unwrap(), made.get()), (Some(text("b")), 1));
        // The error comes after the parts before it, and once.
        let rest = begin(async move { (answer.next().await, answer.next().await) });
        assert!(matches!(rest.take().unwrap(), (Err(ChatError::Rounds(1)), Ok(None))));
        assert_eq!(made.get(), 2);
    }
}
