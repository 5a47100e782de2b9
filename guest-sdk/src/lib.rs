//! Write an AI agent that [wasm-worker](https://github.com/wasm-worker/wasm-worker) runs, one WebAssembly instance a job.
//!
//! An agent is a type with a few methods, and one macro line:
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
//! Every method of [`Agent`] has a default. Names follow LiveKit's wherever the thing is the same.
//!
//! # What a prewarm must not keep
//!
//! [`Agent::prewarm`] runs once, and the memory it leaves is the memory that **every** job starts from. So it must not
//! keep what has to differ between jobs or may not be shared by them:
//!
//! - random seeds: a PRNG seeded there gives every job the same numbers. Take randomness from [`random`], which asks the
//!   host each time. The keys of `std::collections::HashMap` are frozen too once a map has been made in `prewarm`: do not
//!   put keys that a stranger chooses into a `HashMap` then (use a `BTreeMap`, or a hasher seeded from [`random`]);
//! - the time of day;
//! - secrets of one user;
//! - handles: a `println!` in `prewarm`, an open inbox, a timer. The host sees these and falls back from the snapshot to
//!   running `prewarm` once for each job, which is slower. Log with `log::info!` instead.
//!
//! # Waiting
//!
//! Agent methods are async, on one thread. An agent that runs for longer than the host's `unresponsive-timeout` without
//! an `.await` that waits is killed; [`time::sleep`] of zero is enough to show life in a long computation.

#![warn(missing_docs)]

mod agent;
mod context;
mod executor;
mod exports;
mod inbox;
mod logging;
pub mod random;
mod session;
mod stack;
pub mod time;
mod usage;

pub use agent::Agent;
pub use context::JobContext;
pub use futures_util::future::Either;
pub use inbox::Event;
pub use session::{AgentSession, ChatContext, ChatMessage, ChatRole, StopResponse};
pub use usage::{LlmUsage, SttUsage, TtsUsage, UsageCollector};

/// The records of the contract, as they are in `wit/agent.wit`.
pub mod types {
    pub use crate::bindings::wasm_worker::agent::inbox::{
        AttributeChange, BudgetKind, DataMessage, LimitWarning, MetadataChange, OtherEvent, RpcRequest,
        ShutdownRequest, TextMessage,
    };
    pub use crate::bindings::wasm_worker::agent::job::{Budget, Gauge};
    pub use crate::bindings::wasm_worker::agent::room::{AgentState, SendOptions};
    pub use crate::bindings::wasm_worker::agent::types::{
        Acceptance, Decision, JobInfo, JobKind, Participant, ParticipantKind, Rejection, RoomInfo,
    };
    pub use crate::bindings::wasm_worker::agent::usage::ModelUsage;
}

/// Any error: `?` converts every error type, and `.into()` a text.
///
/// A plain box, because the backtrace that richer error types carry costs a component about 60 KB, and the host has one.
pub type Error = Box<dyn std::error::Error>;

/// What a fallible method of an agent returns. The text of an error becomes the detail of the job's verdict.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Wait for whichever of two futures ends first; the other is dropped.
///
/// ```no_run
/// use std::time::Duration;
/// use wasm_worker_sdk::{Either, JobContext, select, time::sleep};
///
/// async fn work(ctx: &JobContext) {
///     match select(sleep(Duration::from_secs(5)), ctx.shutdown_requested()).await {
///         Either::Left(()) => log::info!("five seconds passed"),
///         Either::Right(request) => log::info!("asked to stop: {}", request.reason),
///     }
/// }
/// ```
pub async fn select<A: Future, B: Future>(a: A, b: B) -> Either<A::Output, B::Output> {
    match futures_util::future::select(std::pin::pin!(a), std::pin::pin!(b)).await {
        Either::Left((output, _)) => Either::Left(output),
        Either::Right((output, _)) => Either::Right(output),
    }
}

/// Make a type that implements [`Agent`] the agent of this component. Once in each crate.
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
            type Component = $crate::Exported<$agent>;
    $crate::bindings::export_agent!(Component with_types_in $crate::bindings);
        };
    };
}

#[doc(hidden)]
pub use exports::Exported;

#[doc(hidden)]
#[allow(missing_docs, unsafe_code, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "agent",
        pub_export_macro: true,
        export_macro_name: "export_agent",
        with: { "wasi:io/poll@0.2.12": wasip2::io::poll },
    });
}
