//! The use of the network by one job, for its bill.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most hosts that are counted by name. The rest is counted together, as [`OTHER_HOSTS`].
pub const HOSTS_MAX: usize = 64;
/// The name of all hosts beyond [`HOSTS_MAX`]. No host is called so.
pub const OTHER_HOSTS: &str = "*";

/// Numbers of one host, or of all. Bytes are those of heads, bodies and messages as they are on the way, compressed ones too; without
/// TLS, and without the framing of HTTP and WebSocket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Traffic {
    /// Requests that went out, each redirect that was followed included.
    pub requests: u64,
    /// WebSockets that were asked for.
    pub sockets: u64,
    /// Operations that failed.
    pub failures: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
}

impl Traffic {
    /// Add other numbers.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.sockets = self.sockets.saturating_add(other.sockets);
        self.failures = self.failures.saturating_add(other.failures);
        self.bytes_sent = self.bytes_sent.saturating_add(other.bytes_sent);
        self.bytes_received = self.bytes_received.saturating_add(other.bytes_received);
    }
}

/// The use of the network by one job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct NetworkUse {
    /// The sums.
    pub all: Traffic,
    /// The numbers of each host, by its name without the port.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_host: BTreeMap<String, Traffic>,
}

impl NetworkUse {
    /// Whether the network was not used.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Add numbers of one host.
    pub fn add(&mut self, host: &str, traffic: &Traffic) {
        self.all.add(traffic);
        let named = |hosts: &BTreeMap<String, Traffic>| hosts.keys().filter(|name| *name != OTHER_HOSTS).count();
        let host = if self.by_host.contains_key(host) || named(&self.by_host) < HOSTS_MAX { host } else { OTHER_HOSTS };
        if let Some(known) = self.by_host.get_mut(host) {
            known.add(traffic);
        } else {
            self.by_host.insert(host.to_owned(), *traffic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_beyond_the_bound_are_counted_together() {
        let mut used = NetworkUse::default();
        let one = Traffic { requests: 1, bytes_sent: 10, bytes_received: 3, ..Traffic::default() };
        for host in 0..HOSTS_MAX + 5 {
            used.add(&format!("h{host}.test"), &one);
        }
        used.add("h0.test", &one);
        used.add("new.test", &one);
        assert_eq!(used.by_host.len(), HOSTS_MAX + 1);
        assert_eq!((used.by_host["h0.test"].requests, used.by_host[OTHER_HOSTS].requests), (2, 6));
        assert_eq!((used.all.requests, used.all.bytes_received), (HOSTS_MAX as u64 + 7, 3 * (HOSTS_MAX as u64 + 7)));
    }
}
