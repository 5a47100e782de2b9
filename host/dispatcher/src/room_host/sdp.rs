//! The lines for media of offers and answers, as texts. Pure.
//!
//! `str0m` negotiates them. What it has no words for is read and written here: the client's name of a track, which line of the
//! client's has to carry which track of others, and lines on which nothing flows.
//!
//! Bounds: those of the offer, which is checked before.

use std::fmt::Write as _;

use str0m::media::Mid;

use crate::limits::NAME_BYTES_MAX;

/// What flows on a line, as its client says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flow {
    /// The client sends.
    Sends,
    /// The client receives, and sends nothing.
    Receives,
    /// Nothing flows.
    #[default]
    Nothing,
}

/// A line for sound that a client offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SoundLine {
    pub(super) mid: Mid,
    pub(super) flow: Flow,
    /// The client's own name of the track that it sends.
    pub(super) cid: String,
}

/// What the host does on a line for media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It receives sound. With `dtx` the client sends next to nothing while there is silence (RFC 7587).
    Receives { dtx: bool },
    /// It sends a track, of this participant and this id, by this source of RTP.
    Sends { publisher_sid: String, track_sid: String, source: u32 },
    /// Nothing.
    Nothing,
}

/// The lines for sound of an offer.
pub(super) fn sound_lines(offer: &str) -> Vec<SoundLine> {
    sections(offer).into_iter().filter(|section| section.starts_with("m=audio ")).filter_map(sound_line).collect()
}

/// The source of RTP by which the host sends on a line of its offer.
pub(super) fn source(offer: &str, mid: Mid) -> Option<u32> {
    let section = sections(offer).into_iter().find(|section| mid_of(section) == Some(mid))?;
    let value = attributes(section).find_map(|attribute| attribute.strip_prefix("ssrc:"))?;
    value.split_once(' ')?.0.parse().ok()
}

/// The answer or the offer of the host, with these uses of its lines for media. Those for data stay as they are.
///
/// A line on which nothing flows is inactive, so that the client hears of each track that it carries later as of a new one.
pub(super) fn with_uses(answer: &str, mut use_of: impl FnMut(Mid) -> Use) -> String {
    let mut text = String::with_capacity(answer.len());
    for section in sections(answer) {
        match mid_of(section).filter(|_| section.starts_with("m=audio ") || section.starts_with("m=video ")) {
            Some(mid) => write_media(&mut text, section, &use_of(mid)),
            None => text.push_str(section),
        }
    }
    text
}

fn sound_line(section: &str) -> Option<SoundLine> {
    let mid = mid_of(section)?;
    let flow = attributes(section).find_map(|attribute| match attribute {
        "sendonly" | "sendrecv" => Some(Flow::Sends),
        "recvonly" => Some(Flow::Receives),
        "inactive" => Some(Flow::Nothing),
        _ => None,
    });
    // Port 0 rejects a line (RFC 8843 has an exception that no client uses).
    let is_rejected = section.starts_with("m=audio 0 ");
    let flow = if is_rejected { Flow::Nothing } else { flow.unwrap_or(Flow::Sends) };
    let msid = attributes(section).find_map(|attribute| attribute.strip_prefix("msid:"));
    let cid = msid.and_then(|msid| msid.split_ascii_whitespace().nth(1));
    // No announced track has a longer name.
    let cid = cid.filter(|cid| cid.len() <= NAME_BYTES_MAX).unwrap_or_default().to_owned();
    Some(SoundLine { mid, flow, cid })
}

fn write_media(text: &mut String, section: &str, use_: &Use) {
    let (direction, sends) = match use_ {
        Use::Receives { .. } => ("recvonly", None),
        // Clients take the owner from the first part of the stream, and the track from the second one or from the map of the answer.
        Use::Sends { publisher_sid, track_sid, source } => {
            ("sendonly", Some((format!("{publisher_sid}|{track_sid} {track_sid}"), source)))
        }
        Use::Nothing => ("inactive", None),
    };
    for line in section.split_inclusive('\n') {
        let attribute = line.strip_prefix("a=").map(str::trim_end).unwrap_or_default();
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        // Writing to a text cannot fail.
        let written = match (name, &sends) {
            ("sendrecv" | "sendonly" | "recvonly" | "inactive", _) => write!(text, "a={direction}\r\n"),
            ("msid", Some((stream, _))) => write!(text, "a=msid:{stream}\r\n"),
            ("ssrc", Some((stream, source))) => match value.split_once(' ').unwrap_or_default().1 {
                fact if fact.starts_with("msid:") => write!(text, "a=ssrc:{source} msid:{stream}\r\n"),
                fact => write!(text, "a=ssrc:{source} {fact}\r\n"),
            },
            // The line has no other codec than Opus.
            ("fmtp", _) if *use_ == Use::Receives { dtx: true } && !value.contains("usedtx") => {
                write!(text, "a=fmtp:{value};usedtx=1\r\n")
            }
            // The host's name of what it does not send.
            ("msid" | "ssrc" | "ssrc-group", None) => Ok(()),
            _ => write!(text, "{line}"),
        };
        written.unwrap_or_default();
    }
}

/// The session and the sections of the lines, each with its line breaks.
pub(super) fn sections(sdp: &str) -> Vec<&str> {
    let starts = sdp.match_indices("\nm=").map(|(at, _)| at + 1);
    let (mut sections, mut from) = (Vec::new(), 0);
    for start in starts.chain([sdp.len()]) {
        sections.extend(sdp.get(from..start));
        from = start;
    }
    sections
}

fn attributes(section: &str) -> impl Iterator<Item = &str> {
    section.lines().filter_map(|line| line.strip_prefix("a="))
}

fn mid_of(section: &str) -> Option<Mid> {
    attributes(section).find_map(|attribute| attribute.strip_prefix("mid:")).map(|mid| mid.trim().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFFER: &str = "v=0\r\na=msid-semantic: WMS *\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=sendonly\r\na=msid:stream cid-1\r\na=ssrc:5 cname:x\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:2\r\na=recvonly\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:3\r\na=sendrecv\r\na=msid:- cid-3\r\n\
        m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=mid:4\r\na=sendrecv\r\n";

    #[test]
    fn lines_of_an_offer_are_told() {
        let line = |mid: &str, flow, cid: &str| SoundLine { mid: mid.into(), flow, cid: cid.into() };
        let expected = [line("1", Flow::Sends, "cid-1"), line("2", Flow::Receives, ""), line("4", Flow::Nothing, "")];
        assert_eq!(sound_lines(OFFER), expected);
        // Without a direction both sides send. Without a name it is no line.
        assert_eq!(
            sound_lines("v=0\nm=audio 9 X 1\na=mid:7\na=msid:one\nm=audio 9 X 1\n"),
            [line("7", Flow::Sends, "")]
        );
        assert_eq!(sound_lines(""), []);
    }

    #[test]
    fn answer_has_the_uses_of_its_lines() {
        let answer = OFFER.replace("a=sendonly", "a=sendonly\r\na=fmtp:111 minptime=10");
        let answer = answer.replace("a=recvonly", "a=sendonly\r\na=msid:s t\r\na=ssrc:7 cname:c\r\na=ssrc:7 msid:s t");
        let rewritten = with_uses(&answer, |mid| match &*mid {
            "1" => Use::Receives { dtx: true },
            "2" => Use::Sends { publisher_sid: "PA_1".into(), track_sid: "TR_1".into(), source: 9 },
            _ => Use::Nothing,
        });
        let expected = "v=0\r\na=msid-semantic: WMS *\r\n\
            m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=recvonly\r\n\
            a=fmtp:111 minptime=10;usedtx=1\r\n\
            m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:2\r\na=sendonly\r\na=msid:PA_1|TR_1 TR_1\r\n\
            a=ssrc:9 cname:c\r\na=ssrc:9 msid:PA_1|TR_1 TR_1\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:3\r\na=inactive\r\n\
            m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=mid:4\r\na=inactive\r\n";
        assert_eq!(rewritten, expected);
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_nothing_but_its_lines_for_media_is_changed(
            parts in prop::collection::vec(prop::sample::select(vec![
                "v=0", "m=audio 9 X 1", "m=video 9 X 1", "m=audio 0 X 1", "m=application 9 X", "a=mid:", "a=mid:1", "a=sendrecv",
                "a=msid:a b", "a=msid:", "a=ssrc:1 msid:a b", "a=ssrc:", "\r\n", "\n", "é", " ", "m=", "a=",
            ]), 0..40),
        ) {
            let text = parts.concat();
            let lines = sound_lines(&text);
            prop_assert!(lines.len() <= text.matches("m=audio ").count());
            let sends = |_| Use::Sends { publisher_sid: "PA_1".into(), track_sid: "TR_1".into(), source: 9 };
            let changed = with_uses(&text, sends);
            if !text.contains("m=audio ") && !text.contains("m=video ") {
                prop_assert_eq!(&changed, &text);
            }
            // Another pass finds the same lines, and changes nothing any more.
            prop_assert_eq!(sound_lines(&changed).len(), lines.len());
            prop_assert_eq!(with_uses(&changed, sends), changed);
        }
    }
}
