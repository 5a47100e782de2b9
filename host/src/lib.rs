//! wasm-worker: a worker for LiveKit agent jobs that runs each job in its own WebAssembly instance.
//!
//! # Architecture
//!
//! ```text
//! main        parse, logging, run the verb, exit code
//! cli         one file per verb
//! config      file + env + flags → checked Config, all faults at once
//! worker      start → serve → drain → stop
//! livekit     the link as a worker: session (pure), link (the socket), reconnect (pure), wire
//! load        what the one figure is made of: jobs and CPU
//! agent       one loaded agent: source, cargo, load, prewarm (snapshot), compile, artifact (cached), pool
//! job         the life of a job, in order: admission, instance, limits, run, supervisor, teardown, verdict
//! hostcalls   one file per interface a guest may import
//! runtimes    guests on one, everything else on the other
//! engine      sole maker of wasmtime's Config, Engine, Linker; the epoch ticker
//! events      one enum of everything published; the sinks
//! ```
//!
//! Invariant: imports point down this list, or sideways into `events` and `config`.
//! Invariant: `job` never imports what gives it jobs; it returns a verdict.
//! Invariant: only `engine`, `agent`, `hostcalls` and `job` name `wasmtime`.
//! Invariant: guests run on a runtime of their own; timers, files and signals are on the other.
//!
//! # Words
//!
//! - *offer*: a job somebody wants run; *assignment*: an offer that was accepted.
//! - *slot*: room in the engine's pool for one instance; *permit*: the right to a slot, given back by dropping it.
//! - *template*: what the instances of one agent are made from; *instance*: one job's own store and memory.
//! - *stop*: a request that a job may answer in its own time, within its grace; *kill*: its end by force.
//! - *crash*: a call into the guest that did not return; *verdict*: how the job ended, as data.
//! - *epoch*: 10 ms of the engine's clock; *fuel*: about one unit for each WebAssembly instruction.
//! - *prewarm*: what runs once before all jobs; *snapshot*: the memory it leaves.

pub mod agent;
pub mod cli;
pub mod config;
pub mod engine;
pub mod events;
mod hostcalls;
pub mod job;
mod livekit;
mod load;
pub mod runtimes;
mod worker;
