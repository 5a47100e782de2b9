//! The outgoing connections of the program: the link of a worker, the calls of the command line, and the posts of webhooks.
//!
//! The same rules hold for all of them:
//!
//! ```text
//! fault        why a connection failed, and what to change
//! proxies      which proxy leads to a server
//! trust        which certificates are trusted
//! connect      a connection: the addresses of a name, the proxy, TLS
//! http_client  requests over such connections
//! ```
//!
//! Bounds: every connection and every call has a time limit, and every answer a largest size. The caller chooses both.

pub(crate) mod fault;

pub(crate) mod proxies;

mod trust;

pub(crate) mod connect;

pub(crate) mod http_client;
