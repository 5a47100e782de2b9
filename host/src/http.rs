//! The HTTP endpoints of a worker and of a supervisor.
//!
//! [`worker`] and [`fleet`] each have one table of routes, from which their router is built. `host/docs/openapi-worker.json`
//! describes the routes, and a test compares it with the tables. Routes that expose or change state need
//! `Authorization: Bearer TOKEN`.
//!
//! The bounds are those of [`control`] and of [`wasm_worker_dispatcher::connections`].

mod problem;

pub(crate) mod control;

mod routes;

pub(crate) mod fleet;
pub(crate) mod worker;

#[cfg(test)]
mod openapi;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use crate::config::HttpBind;

/// The HTTP port of LiveKit's workers.
const PORT: u16 = 8081;

/// Bind the address, before anything is served. `Auto` takes a free port where LiveKit's port is in use.
pub(crate) async fn bind(to: HttpBind) -> io::Result<Option<TcpListener>> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match to {
        HttpBind::Off => Ok(None),
        HttpBind::At(address) => TcpListener::bind(address).await.map(Some),
        HttpBind::Auto => match TcpListener::bind(loopback(PORT)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(target: "host", "port {PORT} is taken; HTTP is served at a free port (`--http` sets the address)");
                TcpListener::bind(loopback(0)).await.map(Some)
            }
            bound => bound.map(Some),
        },
    }
}
