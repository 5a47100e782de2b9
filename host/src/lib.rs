//! wasm-worker: a worker for LiveKit agent jobs that runs each job in its own WebAssembly instance.
//!
//! # Architecture
//!
//! ```text
//! main        parse, logging, run the verb, exit code
//! cli         one file per verb
//! config      file + env + flags → checked Config, all faults at once
//! fleet       several worker processes, and what becomes of one that dies
//! dispatcher  the server side of the protocol, for one machine, where there is no LiveKit server: queue, store, API
//! connections takes connections, and answers them over HTTP
//! http        / /worker /live /ready /metrics /jobs /events; local: where the workers of this machine answer
//! worker      start → serve → drain → stop; a member is one agent behind the server, the room is theirs together
//! livekit     the link as a worker: session (pure), link (the socket), reconnect (pure), wire
//! load        cpu, fuel, memory, what jobs will take, and the one figure
//! agent       one loaded agent: source, cargo, load, prewarm (snapshot), compile, artifact (cached), pool
//! job         the life of a job, in order: admission, instance, limits, run, supervisor, teardown, verdict
//! hostcalls   one file per interface a guest may import
//! runtimes    guests on one, everything else on the other
//! engine      sole maker of wasmtime's Config, Engine, Linker; the epoch ticker; how long a turn is
//! events      one enum of everything published; the sinks
//! metrics     every metric, one struct
//! ```
//!
//! Invariant: imports point down this list, or sideways into `events`, `metrics` and `config`.
//! Invariant: `job` never imports what gives it jobs; it returns a verdict.
//! Invariant: only `engine`, `agent`, `hostcalls` and `job` name `wasmtime`.
//! Invariant: guests run on a runtime of their own; timers, files and signals are on the other.
//!
//! # Words
//!
//! - *worker*: a process that serves; *member*: one agent of it, with a registration of its own; *room*: what a worker has place
//!   for; *load*: how much of the machine is in use, 0 to 1; *drain*: no more jobs, and the end when there are none.
//! - *offer*: a job somebody wants run; *assignment*: an offer that was accepted.
//! - *dispatch*: what somebody wants run, until it has a verdict; *attempt*: one job of it; *queue*: dispatches that no worker has.
//! - *slot*: room in the engine's pool for one instance; *permit*: the right to a slot, given back by dropping it.
//! - *template*: what the instances of one agent are made from; *instance*: one job's own store and memory.
//! - *stop*: a request that a job may answer in its own time, within its grace; *kill*: its end by force.
//! - *crash*: a call into the guest that did not return; *verdict*: how the job ended, as data.
//! - *epoch*: 10 ms of the engine's clock; *fuel*: about one unit for each WebAssembly instruction.
//! - *slice*: fuel after which a guest stops for a moment; *turn*: slices for which it keeps its core.
//! - *prewarm*: what runs once before all jobs; *snapshot*: the memory it leaves.

pub mod agent;
pub mod cli;
pub mod config;
mod connections;
mod dispatcher;
pub mod engine;
pub mod events;
mod fleet;
mod hostcalls;
mod http;
pub mod job;
mod livekit;
pub mod load;
mod local;
mod metrics;
pub mod runtimes;
mod worker;
