//! The embedded dispatcher: the server side of LiveKit's agent protocol for one machine, with a durable queue.
//!
//! Workers connect by WebSocket. Clients create dispatches by LiveKit's `AgentDispatchService`. The dispatcher queues each dispatch,
//! offers it to a worker, and keeps its verdict. It serves the rooms too: people with LiveKit's clients and agents join them, see each
//! other, hear each other, and exchange texts, files and calls. Video is refused.
//!
//! The modules, lowest first:
//!
//! ```text
//! private_files     files that only their user can read
//! clock             the present moment, by both clocks
//! limits            the bounds that several modules share
//! settings          the settings of a dispatcher
//! tls               TLS of a listener
//! hosts             the `Host` and `Origin` headers that a listener answers (pure)
//! connections       accepts connections and serves HTTP on them, also for workers
//! ids               random ids (pure)
//! proto_json        the JSON of protobuf messages (pure)
//! keys              API keys: verification of tokens, and the tokens of jobs
//! proof             the proof that a dispatcher has the secret of an API key
//! rates             the rate limit of each API key
//! answers           the bounds of answers
//! twirp             the encodings and errors of LiveKit's services
//! queue             the order of the dispatches that wait (pure)
//! assign            the choice of a worker (pure)
//! rooms             the directory of the rooms (pure)
//! scheduler         all open dispatches and all workers (pure)
//! bills             sums over the bills of jobs (pure)
//! store             the durable record, in SQLite
//! room_host         the rooms, as participants join them
//! command           the requests to the coordinator
//! coordinator       the one task that owns the scheduler, and stores every change before it tells anyone
//! api_state         the shared state of the HTTP handlers
//! auth              tokens and grants of requests
//! checks            checks of the texts in requests
//! socket            the WebSocket of a worker
//! dispatch_service  LiveKit's `AgentDispatchService`
//! room_service      LiveKit's `RoomService`
//! join_request      the request by which a client joins a room (pure)
//! upgrade           the upgrade of a connection to a WebSocket
//! rtc               LiveKit's signalling, by which clients join rooms
//! rest              the JSON API, `/api/v1`
//! http              the table of routes
//! dispatcher        start, serve, stop
//! ```
//!
//! Invariant: imports point up this list.

pub mod private_files;

mod clock;

mod limits;

pub mod settings;

mod tls;

mod hosts;

pub mod connections;

mod ids;

mod proto_json;

mod keys;

mod proof;

mod rates;

mod answers;

mod twirp;

mod queue;

mod assign;

mod rooms;

mod scheduler;

mod bills;

mod store;

mod room_host;

#[doc(hidden)]
pub use room_host::bare;

mod command;

mod coordinator;

mod api_state;

mod auth;

mod checks;

mod socket;

mod dispatch_service;

mod room_service;

mod join_request;

mod upgrade;

mod rtc;

mod rest;

mod http;

mod dispatcher;

#[cfg(test)]
mod simulation;

pub use api_state::{METRICS_TYPE, MetricsText};
pub use checks::{DEADLINE, PRIORITY};
pub use connections::reachable;
pub use dispatcher::{DeathNotifier, Dispatcher, DispatcherError, Pulse};
pub use http::SERVER_NAME;
pub use keys::DEVELOPMENT_PAIR;
pub use proof::{PROOF_HEADER, Question};
pub use scheduler::EMBEDDED_PREFIX;
pub use store::StoreError;
pub use tls::TlsError;
