//! The texts of candidates and offers, beside what `str0m` makes of them. Pure.

use std::net::SocketAddr;

use super::output::OfferError;
use crate::room_host::sdp::sections;

/// Longest offer or answer of a client, in bytes.
pub(super) const OFFER_BYTES_MAX: usize = 256 << 10;
/// Most lines for media and data in it. Clients begin with seven, and `str0m` keeps a state for each.
pub(super) const LINES_MAX: usize = 64;
/// What names the line of a packet with sound in the packet itself.
const LINE_NAME: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
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

/// Check the length of an offer or an answer.
pub(super) fn check_size(description: &str) -> Result<(), OfferError> {
    let (bytes, lines) = (description.len(), description.lines().filter(|line| line.starts_with("m=")).count());
    if bytes > OFFER_BYTES_MAX || lines > LINES_MAX {
        return Err(OfferError::TooLong { bytes, lines });
    }
    Ok(())
}

/// An offer without the addresses of the client and the sources of its sound. Both are learnt from its datagrams, and `str0m` would
/// keep a state for each. A line for sound whose packets do not name it, as those of LiveKit's client for Go, keeps one source.
pub(super) fn without_states(offer: &str) -> String {
    let is_state = |line: &str| ["a=candidate:", "a=ssrc:", "a=ssrc-group:"].iter().any(|head| line.starts_with(head));
    let mut text = String::with_capacity(offer.len());
    for section in sections(offer) {
        let mut needs_source = section.starts_with("m=audio ") && !section.contains(LINE_NAME);
        for line in section.split_inclusive('\n') {
            if !is_state(line) || line.starts_with("a=ssrc:") && std::mem::take(&mut needs_source) {
                text.push_str(line);
            }
        }
    }
    text
}

/// An answer without the addresses of the client and the sources of its sound: what comes on the lines of the host is of no use.
pub(super) fn without_sources(answer: &str) -> String {
    let answer = without_states(answer);
    answer.split_inclusive('\n').filter(|line| !line.starts_with("a=ssrc:")).collect()
}

/// The sources that an offer keeps.
pub(super) fn sources(offer: &str) -> impl Iterator<Item = u32> {
    let values = offer.lines().filter_map(|line| line.strip_prefix("a=ssrc:"));
    values.filter_map(|value| value.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_sources_in_an_offer_are_not_taken_in() {
        let plain = format!("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=extmap:4 {LINE_NAME}\r\na=mid:0\r\n");
        let lines =
            "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=ssrc:1 cname:x\r\na=ssrc-group:FID 1 2\r\n".repeat(100);
        let with_lines = |plain: &str| without_states(&plain.replace("a=mid:", &format!("{lines}a=mid:")));
        assert_eq!(with_lines(&plain), plain);
        // Packets that do not name their line are known by one source, for sound alone.
        let nameless = plain.replace(LINE_NAME, "other");
        let kept = with_lines(&nameless);
        assert_eq!(kept, nameless.replace("a=mid:", "a=ssrc:1 cname:x\r\na=mid:"));
        assert_eq!(sources(&kept).collect::<Vec<_>>(), [1]);
        assert_eq!(without_sources(&kept), nameless);
        let video = nameless.replace("m=audio", "m=video");
        assert_eq!(with_lines(&video), video);
    }
}
