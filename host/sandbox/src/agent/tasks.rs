//! The tasks that look into a component before anybody has checked it. They run in the process of the compiler, which has limits
//! on time and memory; an embedding program without such a process runs them itself.
//!
//! Not here: that process and its limits ([`super::compile`]), and the run of `prewarm` between the two halves of a snapshot.

use std::any::Any;
use std::io::{self, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_util::FutureExt;
use wasmtime_wizer::{ComponentInstanceState, Wizer};

use super::contents::Contents;
use super::start_cost;
use crate::engine::config::{self, Purpose};
use crate::engine::{EngineSettings, chain};
use crate::job::run::panic_text;

/// Bytes before the machine code: the memory of an instance's structures, as a little-endian `u64`.
pub(super) const INSTANCE_BYTES_LENGTH: usize = size_of::<u64>();
/// Bytes of the length before each message of a snapshot, a little-endian `u64`.
pub(super) const MESSAGE_LENGTH: usize = size_of::<u64>();

/// What the process of the compiler does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Parse WebAssembly text: text in, component out.
    Text,
    /// Read the names in a component: component in, JSON out.
    Contents,
    /// Compile: component in, machine code out, after the memory of an instance's structures.
    Code,
    /// Make a snapshot and compile it: a conversation, see [`snapshot`].
    Snapshot,
}

impl Task {
    /// All tasks.
    pub const ALL: [Self; 4] = [Self::Text, Self::Contents, Self::Code, Self::Snapshot];

    /// The name on the command line of the process.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Contents => "contents",
            Self::Code => "code",
            Self::Snapshot => "snapshot",
        }
    }
}

/// A question about an instance, as the first byte of a message. The rest is `instance#function`. The answer is the bytes of a
/// list, or the little-endian bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Question {
    List = 1,
    I32 = 2,
    I64 = 3,
    F32 = 4,
    F64 = 5,
}

impl Question {
    pub(super) const ALL: [Self; 5] = [Self::List, Self::I32, Self::I64, Self::F32, Self::F64];
}

/// The first byte of a message that is machine code, as [`code`] gives it.
pub(super) const CODE: u8 = 0;
/// The first byte of a message that is the size of the snapshot, a little-endian `u64`.
pub(super) const SIZE: u8 = 6;

/// The reason why a task has no result.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The component cannot be used.
    #[error("{0}")]
    Component(String),
    /// The engine cannot start.
    #[error("the engine for compilation cannot start: {0}")]
    Engine(String),
    /// Standard input, standard output, a thread or a limit failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Parse WebAssembly text.
pub(super) fn text(text: &[u8]) -> Result<Vec<u8>, TaskError> {
    let parsed = wat::parse_bytes(text).map(std::borrow::Cow::into_owned);
    parsed.map_err(|error| TaskError::Component(error.to_string()))
}

/// Read the names in a component.
pub(super) fn contents(component: &[u8]) -> Result<Vec<u8>, TaskError> {
    serde_json::to_vec(&Contents::read(component)).map_err(|error| TaskError::Io(error.into()))
}

/// Check the cost of an instance, and compile.
pub(super) fn code(engine: &wasmtime::Engine, component: &[u8]) -> Result<Vec<u8>, TaskError> {
    let cost = start_cost::check(component).map_err(TaskError::Component)?;
    let code = engine.precompile_component(component).map_err(|error| TaskError::Component(chain(&error)))?;
    let mut output = Vec::with_capacity(INSTANCE_BYTES_LENGTH + code.len());
    output.extend_from_slice(&cost.instance_bytes.to_le_bytes());
    output.extend_from_slice(&code);
    Ok(output)
}

/// An engine that compiles.
pub(super) fn engine(settings: EngineSettings, purpose: Purpose) -> Result<wasmtime::Engine, TaskError> {
    config::new_engine(settings, purpose).map_err(|error| TaskError::Engine(chain(&error)))
}

/// Make a snapshot of a component: receive it, send the code of a copy with accessors to its memory, ask questions about an instance
/// of that copy whose `prewarm` has run, make a component with the memory of that instance, and send its size and its code.
///
/// Both components are compiled here, one after the other. The code of the copy runs once, so it is not optimised.
pub(super) fn snapshot(
    settings: EngineSettings,
    input: impl Read + Send,
    output: impl Write + Send,
) -> Result<(), TaskError> {
    let mut pipe = Pipe { input, output };
    let component = pipe.receive()?;
    let mut wizer = Wizer::new();
    wizer.keep_init_func(true);
    let instrumented = catch_unwind(AssertUnwindSafe(|| wizer.instrument_component(&component)));
    let (context, instrumented) = match instrumented {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => return Err(TaskError::Component(chain(&error))),
        Err(panic) => return Err(panicked(&*panic)),
    };
    pipe.send(CODE, &code(&engine(settings, Purpose::Prewarm)?, &instrumented)?)?;
    drop(instrumented);
    let mut asking = Asking { pipe, failed: None };
    let taken = catch_unwind(AssertUnwindSafe(|| wizer.snapshot_component(&context, &mut asking).now_or_never()));
    let Asking { mut pipe, failed } = asking;
    if let Some(error) = failed {
        return Err(error.into());
    }
    match taken {
        Ok(Some(Ok(snapshot))) => {
            pipe.send(SIZE, &(snapshot.len() as u64).to_le_bytes())?;
            Ok(pipe.send(CODE, &code(&engine(settings, Purpose::Jobs)?, &snapshot)?)?)
        }
        Ok(Some(Err(error))) => Err(TaskError::Component(chain(&error))),
        Ok(None) => Err(io::Error::other("the snapshot tool waits for something else than an answer").into()),
        Err(panic) => Err(panicked(&*panic)),
    }
}

fn panicked(panic: &(dyn Any + Send)) -> TaskError {
    TaskError::Component(format!("the snapshot tool panicked: {}", panic_text(panic)))
}

/// Messages to and from the process that has the instance.
struct Pipe<R, W> {
    input: R,
    output: W,
}

impl<R: Read, W: Write> Pipe<R, W> {
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; MESSAGE_LENGTH];
        self.input.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let mut message = Vec::new();
        let read = (&mut self.input).take(length).read_to_end(&mut message)?;
        if read as u64 == length { Ok(message) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn send(&mut self, kind: u8, message: &[u8]) -> io::Result<()> {
        let length = message.len() as u64 + 1;
        self.output.write_all(&length.to_le_bytes())?;
        self.output.write_all(&[kind])?;
        self.output.write_all(message)?;
        self.output.flush()
    }
}

/// Asks the other process about its instance. After a failure each answer is empty.
struct Asking<R, W> {
    pipe: Pipe<R, W>,
    failed: Option<io::Error>,
}

impl<R: Read, W: Write> Asking<R, W> {
    fn ask(&mut self, question: Question, instance: &str, function: &str) -> Vec<u8> {
        if self.failed.is_some() {
            return Vec::new();
        }
        let message = format!("{instance}#{function}");
        let answer = self.pipe.send(question as u8, message.as_bytes()).and_then(|()| self.pipe.receive());
        answer.unwrap_or_else(|error| {
            self.failed = Some(error);
            Vec::new()
        })
    }

    fn ask_number<const N: usize>(&mut self, question: Question, instance: &str, function: &str) -> [u8; N] {
        self.ask(question, instance, function).try_into().unwrap_or([0; N])
    }
}

impl<R: Read + Send, W: Write + Send> ComponentInstanceState for Asking<R, W> {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        contents(&self.ask(Question::List, instance, func));
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        i32::from_le_bytes(self.ask_number(Question::I32, instance, func))
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        i64::from_le_bytes(self.ask_number(Question::I64, instance, func))
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        u32::from_le_bytes(self.ask_number(Question::F32, instance, func))
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        u64::from_le_bytes(self.ask_number(Question::F64, instance, func))
    }
}
