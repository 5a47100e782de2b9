//! Models that answer by a script, and the running of answers without a host.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use wasm_worker_sdk::{native, spawn};

use crate::{Chat, ChatDelta, ChatEnd, ChatError, ChatModel, ChatStream, Finish, ToolCall};

type Script = Vec<Result<ChatDelta, ChatError>>;

#[derive(Clone)]
pub(crate) struct Scripted(Rc<Inner>);

struct Inner {
    name: &'static str,
    scripts: RefCell<VecDeque<Script>>,
    chats: RefCell<Vec<Chat>>,
}

impl Scripted {
    pub(crate) fn new(name: &'static str) -> Self {
        Self(Rc::new(Inner { name, scripts: RefCell::default(), chats: RefCell::default() }))
    }

    /// Adds the next answer.
    pub(crate) fn answers(&self, script: Script) {
        self.0.scripts.borrow_mut().push_back(script);
    }

    pub(crate) fn asked(&self) -> usize {
        self.0.chats.borrow().len()
    }

    /// The conversation of this request.
    pub(crate) fn chat_of(&self, request: usize) -> Chat {
        self.0.chats.borrow()[request].clone()
    }
}

impl ChatModel for Scripted {
    fn name(&self) -> String {
        self.0.name.into()
    }

    fn chat(&self, chat: &Chat) -> ChatStream {
        self.0.chats.borrow_mut().push(chat.clone());
        let script = self.0.scripts.borrow_mut().pop_front().unwrap_or_default();
        ChatStream::new(async |sink| {
            for delta in script {
                sink.send(delta?).await;
            }
            Ok(())
        })
    }
}

pub(crate) fn text(text: &str) -> ChatDelta {
    ChatDelta::Text(text.into())
}

pub(crate) fn call(id: &str, name: &str, arguments: &str) -> ChatDelta {
    ChatDelta::ToolCall(ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() })
}

pub(crate) fn end(finish: Finish) -> ChatDelta {
    ChatDelta::End(ChatEnd { finish, usage: None })
}

/// The text of these parts.
pub(crate) fn texts(deltas: &[ChatDelta]) -> String {
    let text = |delta: &ChatDelta| if let ChatDelta::Text(text) = delta { text.clone() } else { String::new() };
    deltas.iter().map(text).collect()
}

/// What a task has given so far.
pub(crate) type Output<T> = Rc<RefCell<Option<T>>>;

/// Begins a task.
pub(crate) fn begin<T: 'static>(future: impl Future<Output = T> + 'static) -> Output<T> {
    let output = Rc::new(RefCell::new(None));
    let kept = output.clone();
    spawn("test", async move {
        let output = future.await;
        kept.replace(Some(output));
    });
    native::step(now(), Vec::new());
    output
}

/// The time of the last step.
fn now() -> f64 {
    let since = wasm_worker_sdk::time::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}

pub(crate) async fn all(mut answer: ChatStream) -> Result<Vec<ChatDelta>, ChatError> {
    let mut deltas = Vec::new();
    while let Some(delta) = answer.next().await? {
        deltas.push(delta);
    }
    Ok(deltas)
}

/// All parts of an answer that needs no event.
pub(crate) fn finished(answer: ChatStream) -> Result<Vec<ChatDelta>, ChatError> {
    begin(all(answer)).take().expect("the answer waits")
}
