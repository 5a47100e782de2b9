//! The connections to each server, counted over all jobs of an agent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use wasm_worker_core::network::event::Failure;

use crate::failure::failure;
use crate::rules::target::Target;

/// Longest wait for a place.
const WAIT_WITHIN: Duration = Duration::from_secs(30);
/// Servers that are remembered before those without a connection are forgotten.
const SERVERS_MAX: usize = 256;

/// The places of all servers.
pub(crate) struct Seats {
    servers: Mutex<HashMap<String, Arc<Semaphore>>>,
    per_server_max: usize,
}

impl Seats {
    pub(crate) fn new(per_server_max: usize) -> Self {
        Self { servers: Mutex::default(), per_server_max: per_server_max.clamp(1, Semaphore::MAX_PERMITS) }
    }

    /// Take a place, or wait for one.
    pub(crate) async fn take(&self, target: &Target) -> Result<OwnedSemaphorePermit, Failure> {
        let taking = timeout(WAIT_WITHIN, self.server(&target.authority).acquire_owned());
        // The semaphore is never closed.
        taking.await.ok().and_then(Result::ok).ok_or_else(|| {
            let (shown, count) = (target.shown(), self.per_server_max);
            failure("limit", format!("{count} connections to `{shown}` are in use, which is the most; ask again later"))
        })
    }

    fn server(&self, authority: &str) -> Arc<Semaphore> {
        // No code that can panic runs under this lock.
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.len() >= SERVERS_MAX {
            // A permit holds its semaphore.
            servers.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        }
        let new = || Arc::new(Semaphore::new(self.per_server_max));
        servers.entry(authority.to_owned()).or_insert_with(new).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::target::Kind;

    #[tokio::test(start_paused = true)]
    async fn a_server_has_its_places_and_gets_them_back() {
        let seats = Seats::new(1);
        let target = |url: &str| Target::parse(url, Kind::Http).unwrap();
        let (a, b) = (target("https://a.test"), target("https://b.test"));
        let first = seats.take(&a).await.unwrap();
        assert!(seats.take(&b).await.is_ok(), "another server has its own");
        assert_eq!(seats.take(&a).await.unwrap_err().code, "limit");
        drop(first);
        assert!(seats.take(&a).await.is_ok());
        for server in 0..SERVERS_MAX * 2 {
            drop(seats.take(&target(&format!("https://s{server}.test"))).await);
        }
        assert!(seats.servers.lock().unwrap().len() <= SERVERS_MAX);
    }
}
