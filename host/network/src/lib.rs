//! The outgoing network of agents: HTTP and WebSocket to the servers that the operator allows, with secrets that agents never see.
//!
//! # Architecture
//!
//! ```text
//! fault         why a connection failed, and what to change
//! proxies       which proxy leads to a server
//! trust         which certificates are trusted
//! connect       a connection: the addresses of a name, the proxy, TLS
//! failure       failures of operations, by their codes
//! rules         which servers an agent may reach, and at which addresses
//! headers       the headers that an agent gives and gets
//! secrets       what the host adds to requests, and takes out of answers
//! settings      the settings of the network of an agent
//! outbox        what an agent has written on an operation and is not sent yet
//! ledger        the operations of a job, and the events that wait for it
//! job           what the tasks of operations share with the job's handle
//! time_limits   the time limits of an exchange
//! seats         the connections to each server, counted
//! rate          the bytes a second of an agent
//! dial          a connection to a server, by the rules
//! request_body  the body of a request, whole or in parts
//! pool          the warm connections of an agent
//! network       what all operations of an agent share
//! http          exchanges by HTTP
//! socket        WebSockets
//! io            the handles, and the runtime
//! ```
//!
//! # Words
//!
//! - *operation*: an exchange by HTTP, or a WebSocket. It has the number that the caller gave it, and one last event.
//! - *target*: the server of a URL that was checked; *server*: a scheme, a host and a port.
//! - *told*: put among the events of the job; *taken*: handed on by the caller, so that more may be read.
//!
//! Invariant: imports point up this list.
//! Invariant: no connection of an agent is made but by `dial`, to an address that `rules` have checked.
//! Invariant: `rules`, `outbox`, `ledger`, `http::{request, encoding}` and `socket::handshake` are pure: no socket, no clock, no task.

pub mod fault;

pub mod proxies;

pub(crate) mod trust;

pub mod connect;

pub(crate) mod failure;

pub mod rules;

pub(crate) mod headers;

pub mod secrets;

pub mod settings;

pub(crate) mod outbox;

pub(crate) mod ledger;

pub(crate) mod job;

pub(crate) mod time_limits;

pub(crate) mod seats;

pub(crate) mod rate;

pub(crate) mod dial;

pub(crate) mod request_body;

pub(crate) mod pool;

pub(crate) mod network;

pub(crate) mod http;

pub(crate) mod socket;

pub mod io;
