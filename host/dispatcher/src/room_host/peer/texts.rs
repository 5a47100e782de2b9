//! The texts of candidates and offers, beside what `str0m` makes of them. Pure.

use std::net::SocketAddr;

/// Above the priority of the first candidate.
const FIRST_PRIORITY: u32 = 2_130_706_176;

/// These addresses as LiveKit's `TrickleRequest` has them, the best first. Some clients read them nowhere else, because LiveKit's
/// answers lack them.
pub(super) fn candidates(addresses: impl Iterator<Item = SocketAddr>) -> Vec<String> {
    let candidate = |(address, number): (SocketAddr, u32)| {
        let (ip, port) = (address.ip(), address.port());
        let candidate = format!("candidate:{number} 1 udp {} {ip} {port} typ host", FIRST_PRIORITY - number);
        serde_json::json!({ "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0 }).to_string()
    };
    addresses.zip(1..).map(candidate).collect()
}

/// An offer without the addresses of the client and the sources of its sound. Both are learnt from its datagrams, and `str0m` would
/// keep a state for each.
pub(super) fn without_states(offer: &str) -> String {
    let is_state = |line: &str| ["a=candidate:", "a=ssrc:", "a=ssrc-group:"].iter().any(|head| line.starts_with(head));
    offer.split_inclusive('\n').filter(|line| !is_state(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_sources_in_an_offer_are_not_taken_in() {
        let plain = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n";
        let lines =
            "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=ssrc:1 cname:x\r\na=ssrc-group:FID 1 2\r\n".repeat(100);
        assert_eq!(without_states(&plain.replace("a=mid:", &format!("{lines}a=mid:"))), plain);
    }
}
