//! wasm-worker: a worker for LiveKit agent jobs that runs each job in its own WebAssembly instance.
//!
//! # Architecture
//!
//! The crates, lowest first; cargo enforces the order:
//!
//! ```text
//! wasm-worker-core        plain data: job facts, verdict, refusal, usage, events
//! wasm-worker-protocol    LiveKit's agent protocol, both sides, without I/O
//! wasm-worker-mock-models a stand-in for model servers, and the YAML of its scripts and of scenarios
//! wasm-worker-sandbox     engine, agents and jobs; the only crate that names wasmtime
//! wasm-worker-room        LiveKit rooms, joined for agents
//! wasm-worker-network     connections to servers: proxies, trusted certificates, addresses; HTTP and WebSocket of agents
//! wasm-worker-dispatcher  the server side for one machine: scheduler, queue, store, API
//! wasm-worker             this crate: the worker and the program
//! ```
//!
//! The modules of this crate, lowest first; `tests/all/tidy.rs` enforces the order:
//!
//! ```text
//! config      defaults, file, environment and flags → one checked Config, all faults at once
//! grants      what an agent is granted of what it asks for
//! http_client HTTP requests of the program itself
//! rooms       the rooms of jobs, by the network of the program
//! observers   the receivers of events: log, metrics, sinks of JSON lines
//! load        CPU, fuel and memory of the machine, and the prediction of what a job will use
//! service_manager
//!             what systemd learns of the process: readiness, reloads, stop, status, watchdog
//! worker      start → serve → drain → stop of the agents of one process
//! discovery   the workers of this user on this machine
//! fleet       several worker processes under one supervisor
//! http        the HTTP endpoints of a worker and of a supervisor
//! app         the composition root, and the builder for programs that embed a worker
//! doctor      what a worker needs of its machine, and the line to change where it is missing
//! cli         one file for each verb
//! ```
//!
//! Invariant: imports point up this list.
//!
//! # Words
//!
//! - *worker*: a process that serves agents; *drain*: the worker takes no more jobs and ends after its last one.
//! - *load*: utilisation of the machine, 0 to 1; *slot*: capacity for one job.
//! - *offer*: a job that the server wants to place; *assignment*: an offer that the worker accepted and the server confirmed.
//! - *dispatch*: a request to run an agent, until it has a verdict; *attempt*: one job of a dispatch.
//! - *queue*: the dispatches that no worker has.

pub mod config;

mod grants;

mod http_client;

mod rooms;

pub mod observers;

pub mod load;

mod service_manager;

mod worker;

mod discovery;

mod fleet;

mod http;

pub mod app;

mod doctor;

pub mod cli;
