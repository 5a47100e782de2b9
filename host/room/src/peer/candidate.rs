//! The addresses of a server, as it tells them.

use std::net::SocketAddr;

use serde::Deserialize;
use str0m::Candidate;
use str0m::net::{Protocol, TcpType};

use super::output::Transport;

/// Longest JSON of an address, in bytes.
const JSON_BYTES_MAX: usize = 4 << 10;

/// One address of the server.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) transport: Transport,
    pub(super) address: SocketAddr,
    /// Whether the way to it was asked for.
    pub(super) is_tried: bool,
}

/// The field of `RTCIceCandidateInit` that counts.
#[derive(Deserialize)]
struct CandidateJson {
    candidate: String,
}

impl Remote {
    /// The address in such a JSON text, and as `str0m` has it; none where nobody can connect to it, and at the end of the list.
    pub(super) fn parse(json: &str) -> Option<(Self, Candidate)> {
        if json.len() > JSON_BYTES_MAX {
            return None;
        }
        let CandidateJson { candidate } = serde_json::from_str(json).ok()?;
        let candidate = Candidate::from_sdp_string(candidate.trim_start_matches("a=")).ok()?;
        let transport = match (candidate.proto(), candidate.tcptype()) {
            (Protocol::Udp, _) => Transport::Udp,
            (Protocol::Tcp, Some(TcpType::Passive)) => Transport::Tcp,
            (Protocol::Tcp | Protocol::SslTcp | Protocol::Tls, _) => return None,
        };
        let address = candidate.addr();
        let usable = address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast();
        usable.then_some((Self { transport, address, is_tried: false }, candidate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(candidate: &str) -> Option<(Transport, String)> {
        let json = serde_json::json!({ "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0 });
        Remote::parse(&json.to_string()).map(|(remote, _)| (remote.transport, remote.address.to_string()))
    }

    #[test]
    fn addresses_of_udp_and_passive_ones_of_tcp_are_usable() {
        let udp = "candidate:1 1 udp 2130706431 192.0.2.1 7882 typ host ufrag abcd";
        assert_eq!(parsed(udp), Some((Transport::Udp, "192.0.2.1:7882".into())));
        let tcp = "candidate:2 1 tcp 1671430143 2001:db8::1 7881 typ host tcptype passive";
        assert_eq!(parsed(tcp), Some((Transport::Tcp, "[2001:db8::1]:7881".into())));
    }

    #[test]
    fn other_addresses_are_not() {
        for bad in [
            "",
            "candidate:1 1 udp 1 0.0.0.0 7 typ host",
            "candidate:1 1 udp 1 224.0.0.1 7 typ host",
            "candidate:1 1 udp 1 192.0.2.1 0 typ host",
            "candidate:1 1 udp 1 a.local 7 typ host",
            "candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
            "candidate:1 1 ssltcp 1 192.0.2.1 9 typ host tcptype passive",
            "candidate:1 1 udp 99999999999 192.0.2.1 9 typ host",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        assert!(Remote::parse("{").is_none());
        assert!(Remote::parse(&format!(r#"{{"candidate":"{}"}}"#, "a".repeat(JSON_BYTES_MAX))).is_none());
    }
}
