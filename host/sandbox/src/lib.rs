//! Runs each job of an agent in its own WebAssembly instance, under limits, and returns a verdict.
//!
//! # Architecture
//!
//! ```text
//! settings    what an agent may use, and how it is prewarmed
//! machine     what the operating system allows, and the errors that say what it does not
//! sound       sound as numbers: files, other rates, tones
//! runtimes    guests run on one runtime, timers and files on the other
//! engine      sole maker of wasmtime's Config, Engine and Linker; the epoch ticker; the time slices of guests
//! guest       the host's side of one instance: bindings, state, clock, meter, log, ids, calls, inbox queue, kill
//! hostcalls   the interfaces that a guest may import, one file for each
//! recording   what determined a job, as a file: format, writer, ring, reader, views
//! scenario    scripted conversations: their files, and what is expected
//! job         the life of a job: offer, instance, limits, run, supervisor, steps, world, teardown, handles
//! agent       the loading of agents: source, compiler, cache, prewarm, warm instances
//! ```
//!
//! Invariant: imports point up this list. `job` never imports what gives it jobs; it returns a verdict.
//! Invariant: no other crate of the host names `wasmtime`.
//! Invariant: guests run on a runtime of their own; timers, files and signals are on the other.
//!
//! # Words
//!
//! - *slot*: capacity of the engine's pool for one instance; *permit*: the right to a slot, released by dropping it.
//! - *template*: what the instances of one agent are made from; *instance*: the store and the memory of one job.
//! - *step*: one call of `resume`, which is given events and makes calls; *call*: what a step asks for, begun after the step;
//!   *id*: the number of an operation that lasts or can fail; *world*: the outside of a job, which performs its calls and sends it
//!   events.
//! - *stop*: a request that a job may answer within its shutdown grace; *kill*: the end of a job by force.
//! - *crash*: a call into the guest that did not return; *verdict*: how the job ended, as data.
//! - *epoch*: 10 ms of the engine's clock; *fuel*: about one unit for each WebAssembly instruction; *time slice*: the time for
//!   which a guest keeps its core before others run.
//! - *prewarm*: code that runs once before all jobs; *snapshot*: the memory that it leaves.

pub mod settings;

pub mod machine;
pub mod runtimes;
pub mod sound;

pub mod engine;

pub(crate) mod guest;

pub(crate) mod hostcalls;

pub mod recording;

pub mod scenario;

pub mod job;

pub mod agent;

pub use guest::control::StopBy;
