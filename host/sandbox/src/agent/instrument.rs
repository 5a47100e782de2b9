//! The other side of [`tasks::snapshot`]: the conversation with the process that makes a snapshot, and what it asks about the
//! instance.
//!
//! Bounds: `compile-timeout` for the copy and its code, as much for the questions, and again for the code of the snapshot;
//! `compile-memory` for a message.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr};
use tokio::task::JoinHandle;

use super::compile::{CompileError, Compiler, judge, read_message};
use super::tasks::{self, CODE, MESSAGE_LENGTH, Question, SIZE, Task, TaskError};
use crate::engine::{Engine, EngineSettings};
use crate::settings::{AgentSettings, CompileLimits};

/// A conversation about one component.
pub(super) struct Conversation {
    input: Box<dyn AsyncWrite + Send + Unpin>,
    output: Box<dyn AsyncRead + Send + Unpin>,
    partner: Partner,
    limits: CompileLimits,
}

/// Who makes the snapshot.
enum Partner {
    Process {
        child: Box<Child>,
        stderr: ChildStderr,
    },
    /// A thread of this process, which has no program to compile with.
    Thread(JoinHandle<Result<(), TaskError>>),
}

/// What the partner says.
pub(super) enum Said {
    /// A question about the instance: the instance and the function to call.
    Question(Question, String, String),
    /// The snapshot is made, and has this size. Its code comes next.
    Made {
        /// Size of the component, in bytes.
        bytes: usize,
    },
}

impl Conversation {
    /// Begin with a component, and return the code of its copy with accessors.
    pub(super) async fn begin(
        compiler: Option<&Compiler>,
        engine: &Engine,
        settings: &AgentSettings,
        component: &[u8],
    ) -> Result<(Self, Vec<u8>), CompileError> {
        let mut own = match compiler {
            Some(compiler) => Self::with_process(compiler, settings)?,
            None => Self::with_thread(engine, settings).map_err(|error| CompileError::Host(error.to_string()))?,
        };
        let limit = own.limits.timeout;
        let first = async {
            own.answer(component).await?;
            own.message().await
        };
        let first = tokio::time::timeout(limit, first).await;
        match first.map_err(|_| slow(limit))? {
            Ok((CODE, code)) => Ok((own, code)),
            Ok(_) => Err(CompileError::Host("it asks before it has answered".into())),
            Err(error) => Err(own.failure(error).await),
        }
    }

    /// The code of the snapshot, once that is made.
    pub(super) async fn code(mut self) -> Result<Vec<u8>, CompileError> {
        let limit = self.limits.timeout;
        let last = tokio::time::timeout(limit, self.message()).await;
        match last.map_err(|_| slow(limit))? {
            Ok((CODE, code)) => Ok(code),
            Ok(_) => Err(CompileError::Host("it asks after its last question".into())),
            Err(error) => Err(self.failure(error).await),
        }
    }

    fn with_process(compiler: &Compiler, settings: &AgentSettings) -> Result<Self, CompileError> {
        let mut child = compiler.start(Task::Snapshot, settings)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(input), Some(output), Some(stderr)) = pipes else {
            return Err(CompileError::Host("a pipe is missing".into()));
        };
        let partner = Partner::Process { child: Box::new(child), stderr };
        Ok(Self { input: Box::new(input), output: Box::new(output), partner, limits: settings.compile })
    }

    fn with_thread(engine: &Engine, settings: &AgentSettings) -> io::Result<Self> {
        let sizes = EngineSettings { slots: 1, ..engine.settings() };
        let (own, theirs) = std::os::unix::net::UnixStream::pair()?;
        own.set_nonblocking(true)?;
        let (output, input) = UnixStream::from_std(own)?.into_split();
        let partner = Partner::Thread(tokio::task::spawn_blocking(move || {
            let reader = theirs.try_clone()?;
            tasks::snapshot(sizes, reader, theirs)
        }));
        Ok(Self { input: Box::new(input), output: Box::new(output), partner, limits: settings.compile })
    }

    /// The next question, or the snapshot.
    pub(super) async fn listen(&mut self) -> io::Result<Said> {
        let (kind, message) = self.message().await?;
        if kind == SIZE {
            let bytes = <[u8; size_of::<u64>()]>::try_from(message).map(u64::from_le_bytes).ok();
            let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
            return bytes.map(|bytes| Said::Made { bytes }).ok_or_else(|| io::Error::other("it says no size"));
        }
        let question = Question::ALL.into_iter().find(|question| *question as u8 == kind);
        let text = String::from_utf8(message).ok();
        let asked = question.zip(text.as_deref().and_then(|text| text.rsplit_once('#')));
        let (question, (instance, function)) = asked.ok_or_else(|| io::Error::other("it asks an unknown question"))?;
        Ok(Said::Question(question, instance.to_owned(), function.to_owned()))
    }

    /// Answer a question.
    pub(super) async fn answer(&mut self, answer: &[u8]) -> io::Result<()> {
        self.input.write_all(&(answer.len() as u64).to_le_bytes()).await?;
        self.input.write_all(answer).await?;
        self.input.flush().await
    }

    /// A message, after its kind.
    async fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut length = [0; MESSAGE_LENGTH];
        self.output.read_exact(&mut length).await?;
        let length = u64::from_le_bytes(length);
        if length > self.limits.memory_bytes as u64 {
            return Err(io::Error::other("its message is longer than `compile-memory`"));
        }
        let kind = self.output.read_u8().await?;
        let mut message = Vec::new();
        let wanted = length.saturating_sub(1);
        let read = (&mut self.output).take(wanted).read_to_end(&mut message).await? as u64;
        if read == wanted { Ok((kind, message)) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Why a message could not be sent or received. A partner that has ended is asked.
    pub(super) async fn failure(self, error: io::Error) -> CompileError {
        if !matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) {
            return CompileError::Host(error.to_string());
        }
        let Self { input, output, partner, limits } = self;
        drop((input, output));
        let ended = tokio::time::timeout(limits.timeout, partner.end(limits)).await;
        match ended {
            Ok(Err(failure)) => failure,
            Ok(Ok(())) => CompileError::Host(error.to_string()),
            Err(_) => slow(limits.timeout),
        }
    }
}

impl Partner {
    async fn end(self, limits: CompileLimits) -> Result<(), CompileError> {
        let host = |error: io::Error| CompileError::Host(error.to_string());
        match self {
            Self::Process { mut child, stderr } => {
                let message = read_message(stderr).await.map_err(host)?;
                judge(child.wait().await.map_err(host)?, message, limits)
            }
            Self::Thread(thread) => Ok(thread.await.map_err(|panic| CompileError::Host(panic.to_string()))??),
        }
    }
}

fn slow(limit: Duration) -> CompileError {
    CompileError::Slow { limit }
}
