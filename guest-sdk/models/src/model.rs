//! The trait of all chat models.

use std::rc::Rc;

use crate::{Chat, ChatStream};

/// A model that answers conversations. [`ChatStream::new`] shows how to write one.
pub trait ChatModel {
    /// The name for logs and errors, such as `openai/gpt-5-mini`.
    fn name(&self) -> String;

    /// Answers a conversation. The work begins when somebody waits for the first part.
    fn chat(&self, chat: &Chat) -> ChatStream;
}

impl<M: ChatModel + ?Sized> ChatModel for Rc<M> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn chat(&self, chat: &Chat) -> ChatStream {
        (**self).chat(chat)
    }
}
