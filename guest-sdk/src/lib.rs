//! The Rust SDK of [wasm-worker](https://github.com/wasm-worker/wasm-worker), which runs each job of an AI agent in its
//! own WebAssembly instance.
//!
//! An agent is a type that implements [`Agent`], and one macro line:
//!
//! ```no_run
//! use wasm_worker_sdk::{Agent, JobContext, Result};
//!
//! #[derive(Default)]
//! struct Hello;
//!
//! impl Agent for Hello {
//!     async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
//!         log::info!("hello, {}", ctx.job().room.name);
//!         Ok(())
//!     }
//! }
//!
//! wasm_worker_sdk::agent!(Hello);
//! # fn main() {}
//! ```
//!
//! Every method of [`Agent`] has a default. Names are LiveKit's wherever the concept is the same.
//!
//! # Limits of prewarm
//!
//! [`Agent::prewarm`] runs once, and **every** job starts from a copy of the memory it leaves. Data that must differ
//! between jobs, or must not be shared by them, does not belong there:
//!
//! - Random seeds: a generator that is seeded in `prewarm` returns the same numbers in every job. [`random`] asks the
//!   host each time. A `std::collections::HashMap` made in `prewarm` fixes the hash keys of the whole program; keys
//!   chosen by strangers then belong in a `BTreeMap`, or in a map whose hasher is seeded from [`random`].
//! - The time of day.
//! - Secrets of one user.
//! - Host handles: `println!` makes a snapshot impossible. The host detects this and runs `prewarm` once for each job
//!   instead, which is slower. `log::info!` needs no handle.
//!
//! # Waiting
//!
//! The methods of an agent are async and run on one thread. A job runs in steps: events arrive, the tasks that waited for
//! them run until all of them wait again, and then what they sent goes out. Time stands still during a step.
//!
//! The host kills an agent that runs longer than `unresponsive-timeout` without waiting. In a long computation, awaiting
//! [`time::sleep`] with a duration of zero is enough. Only `.await` waits: a call that blocks, such as
//! `std::thread::sleep`, ends the job.
//!
//! # Load functions
//!
//! A component can also compute the load of a worker: see [`LoadFunction`].

#![warn(missing_docs)]

mod agent;
pub mod audio;
mod calls;
mod context;
mod event;
mod executor;
mod exports;
mod failure;
pub mod http;
mod inbox;
mod load;
mod logging;
mod moderation;
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub mod native;
mod operation;
mod pacing;
pub mod random;
mod room;
mod rpc;
mod runtime;
mod select;
mod session;
pub mod socket;
mod spawn;
mod stack;
mod streams;
#[cfg(test)]
mod tests;
pub mod time;
mod usage;
mod waits;

pub use agent::Agent;
pub use audio::{AudioSource, AudioStream};
pub use bindings::wasm_worker::agent::events::Event;
pub use context::JobContext;
pub use load::LoadFunction;
pub use operation::Operation;
pub use select::{Either, select};
pub use session::{AgentSession, ChatContext, ChatMessage, ChatRole, StopResponse};
pub use spawn::{Aborted, JoinHandle, spawn};
pub use streams::{FileWriter, StreamReader, TextWriter};
pub use usage::{LlmUsage, SttUsage, TtsUsage, UsageCollector};

/// The types of the contract in `wit/agent.wit` and `wit/load.wit`.
pub mod types {
    pub use crate::bindings::wasm_worker::agent::events::{
        AudioFrame, AudioLevel, AudioMark, AudioPublication, AudioStart, BytesChunk, Completion, ConnectionQuality,
        DataMessage, Departure, Dtmf, Failure, FileMessage, HttpBody, HttpHead, JoinedRoom, LimitWarning, Loss,
        OtherEvent, ParticipantChange, ParticipantChanges, Playout, PlayoutState, Quality, Resumption, RpcAnswer,
        RpcRequest, ShutdownRequest, SocketBytes, SocketClosed, SocketOpened, SocketText, Speaker, StreamEnd,
        StreamInfo, StreamStart, TextChunk, TextMessage, Track, TrackKind, Voice,
    };
    pub use crate::bindings::wasm_worker::agent::job::{Budget, Gauge};
    pub use crate::bindings::wasm_worker::agent::room::{AgentState, Receipt, Transcription};
    pub use crate::bindings::wasm_worker::agent::types::{
        Acceptance, Attributes, Decision, Id, JobInfo, JobKind, Participant, ParticipantKind, ParticipantState,
        Permissions, Rejection, RoomInfo, RpcError, SendOptions,
    };
    pub use crate::bindings::wasm_worker::agent::usage::ModelUsage;
    pub use crate::load_bindings::wasm_worker::agent::load_types::Sample;
}

/// The calls of the contract themselves, for what the SDK has no method for. Their documentation is `wit/agent.wit`.
///
/// A call returns at once, and its effect begins when the step has ended. What it answers arrives at the [`Operation`]
/// of its id.
pub mod contract {
    pub use crate::bindings::wasm_worker::agent::{audio, flow, http, job, log, room, socket, trace, usage};
}

/// Any error. `?` converts every error type, and `.into()` converts a text.
///
/// The type is a plain box: error types that carry a backtrace add about 60 KB to a component, and the host records a
/// backtrace anyway.
pub type Error = Box<dyn std::error::Error>;

/// The result of an agent's fallible methods. The text of the error becomes the detail of the job's verdict.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Exports a type that implements [`Agent`] as the agent of this component. A crate uses it once.
///
/// ```no_run
/// # use wasm_worker_sdk::Agent;
/// #[derive(Default)]
/// struct Quiet;
///
/// impl Agent for Quiet {}
///
/// wasm_worker_sdk::agent!(Quiet);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! agent {
    ($agent:ty) => {
        const _: () = {
            type Component = $crate::ExportedAgent<$agent>;
    $crate::bindings::export_agent!(Component with_types_in $crate::bindings);
        };
    };
}

/// Exports a type that implements [`LoadFunction`] as the load function of this component. A crate uses it once.
///
/// ```no_run
/// # use wasm_worker_sdk::{LoadFunction, types::Sample};
/// #[derive(Default)]
/// struct Cpu;
///
/// impl LoadFunction for Cpu {
///     fn load(&mut self, sample: &Sample) -> f64 {
///         sample.cpu
///     }
/// }
///
/// wasm_worker_sdk::load_function!(Cpu);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! load_function {
    ($function:ty) => {
        const _: () = {
            type Component = $crate::ExportedLoadFunction<$function>;
    $crate::load_bindings::export_load_function!(Component with_types_in $crate::load_bindings);
        };
    };
}

#[doc(hidden)]
pub use exports::ExportedAgent;
#[doc(hidden)]
pub use load::ExportedLoadFunction;

#[doc(hidden)]
#[rustfmt::skip]
#[allow(
    missing_docs, unreachable_pub, unsafe_code, clippy::all, clippy::pedantic, clippy::restriction,
    reason = "generated code"
)]
pub mod bindings;

#[doc(hidden)]
#[rustfmt::skip]
#[allow(
    missing_docs, unreachable_pub, unsafe_code, clippy::all, clippy::pedantic, clippy::restriction,
    reason = "generated code"
)]
pub mod load_bindings;
