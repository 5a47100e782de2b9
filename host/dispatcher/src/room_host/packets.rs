//! The packets of the data channels: what the host changes in one, and who gets it. Pure.
//!
//! A packet names its sender, and no participant can choose that name, but for agents: they send the texts of the participants
//! whose speech they transcribe. The rules are those of LiveKit's server.
#![expect(deprecated, reason = "older clients write and read fields that newer ones have elsewhere")]

use livekit_protocol as proto;
use prost::Message;
use proto::data_packet::{Kind, Value};
use proto::data_stream::header::ContentHeader;

use super::limits::{MEMBERS_MAX, PACKET_BYTES_MAX};
use super::peer::Channel;

/// The sender of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sender<'a> {
    pub(super) sid: &'a str,
    pub(super) identity: &'a str,
    /// The identity that others see; empty for a hidden participant.
    pub(super) shown_as: &'a str,
    pub(super) is_agent: bool,
}

/// A packet that is forwarded.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) bytes: Vec<u8>,
    /// The number that the sender gave it; 0 where it has none.
    pub(super) sequence: u32,
    pub(super) to: Receivers,
}

/// Why data of a caller of the API is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DataError {
    /// The packet is larger than any that clients take.
    #[error("the data makes a packet of {0} bytes with its receivers, at most {PACKET_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// The packet names more receivers than a room has participants.
    #[error("the data names {0} receivers, at most {MEMBERS_MAX} are allowed")]
    Receivers(usize),
}

/// The receivers of a packet, at most as many as a room has participants. Its sender never is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Receivers {
    /// All participants, for none of both.
    identities: Vec<String>,
    sids: Vec<String>,
}

impl Receivers {
    /// These participants; all for none of both.
    pub(super) fn new(identities: Vec<String>, sids: Vec<String>) -> Result<Self, DataError> {
        match identities.len() + sids.len() {
            count if count > MEMBERS_MAX => Err(DataError::Receivers(count)),
            _ => Ok(Self { identities, sids }),
        }
    }

    /// Whether a participant is one of them.
    pub(super) fn include(&self, sid: &str, identity: &str) -> bool {
        let everybody = self.identities.is_empty() && self.sids.is_empty();
        everybody || self.identities.iter().any(|one| one == identity) || self.sids.iter().any(|one| one == sid)
    }

    /// The size in memory, about, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.identities.iter().chain(&self.sids).map(|name| size_of::<String>() + name.len()).sum()
    }
}

/// The packet that others get for the bytes that a participant sent; none where they mean nothing, are not for others, or are more
/// than others take.
pub(super) fn from_sender(bytes: &[u8], channel: Channel, sender: Sender<'_>) -> Option<Packet> {
    let mut packet = proto::DataPacket::decode(bytes).ok()?;
    let names_other = !packet.participant_identity.is_empty() && packet.participant_identity != sender.identity;
    let speaks_for_other = sender.is_agent && names_other;
    let mut keeps_identity = false;
    match packet.value.as_mut()? {
        Value::User(user) => {
            user.participant_sid = if sender.shown_as.is_empty() { String::new() } else { sender.sid.to_owned() };
            user.participant_identity = sender.shown_as.to_owned();
            if packet.destination_identities.is_empty() {
                packet.destination_identities.clone_from(&user.destination_identities);
            } else {
                user.destination_identities.clone_from(&packet.destination_identities);
            }
        }
        Value::StreamHeader(header) if speaks_for_other => {
            if let Some(ContentHeader::TextHeader(text)) = &mut header.content_header {
                text.generated = true;
                keeps_identity = true;
            }
        }
        Value::ChatMessage(chat) if speaks_for_other => {
            chat.generated = true;
            keeps_identity = true;
        }
        Value::Transcription(_) if !sender.is_agent => return None,
        // Metrics are for a server that collects them.
        Value::Metrics(_) => return None,
        _ => {}
    }
    packet.participant_sid = sender.sid.to_owned();
    if !keeps_identity {
        packet.participant_identity = sender.shown_as.to_owned();
    }
    set_kind(&mut packet, channel);
    let sids = match &packet.value {
        Some(Value::User(user)) => user.destination_sids.clone(),
        _ => Vec::new(),
    };
    let to = Receivers::new(packet.destination_identities.clone(), sids).ok()?;
    let sequence = if channel == Channel::Reliable { packet.sequence } else { 0 };
    encoded(&packet, sequence, to).ok()
}

/// The packet for data that a caller of the API sends. It has no sender.
pub(super) fn from_api(request: proto::SendDataRequest) -> Result<(Channel, Packet), DataError> {
    let channel = if request.kind == Kind::Lossy as i32 { Channel::Lossy } else { Channel::Reliable };
    let to = Receivers::new(request.destination_identities.clone(), request.destination_sids)?;
    let user = proto::UserPacket {
        payload: request.data,
        destination_identities: request.destination_identities.clone(),
        topic: request.topic,
        nonce: request.nonce,
        ..Default::default()
    };
    let mut packet = proto::DataPacket {
        destination_identities: request.destination_identities,
        value: Some(Value::User(user)),
        ..Default::default()
    };
    set_kind(&mut packet, channel);
    Ok((channel, encoded(&packet, 0, to)?))
}

/// A packet that fits into a message of the data channels.
fn encoded(packet: &proto::DataPacket, sequence: u32, to: Receivers) -> Result<Packet, DataError> {
    let bytes = packet.encode_to_vec();
    match u32::try_from(bytes.len()) {
        Ok(..=PACKET_BYTES_MAX) => Ok(Packet { bytes, sequence, to }),
        _ => Err(DataError::TooLong(bytes.len())),
    }
}

/// Older clients read the kind; the channel decides it.
fn set_kind(packet: &mut proto::DataPacket, channel: Channel) {
    packet.kind = match channel {
        Channel::Reliable => Kind::Reliable as i32,
        Channel::Lossy => Kind::Lossy as i32,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Sender<'static> = Sender { sid: "PA_1", identity: "ann", shown_as: "ann", is_agent: false };

    fn packet(value: Value) -> proto::DataPacket {
        proto::DataPacket {
            participant_identity: "bob".into(),
            participant_sid: "PA_2".into(),
            sequence: 7,
            value: Some(value),
            ..Default::default()
        }
    }

    fn forwarded(value: Value, channel: Channel, sender: Sender<'_>) -> Option<(proto::DataPacket, Packet)> {
        let forwarded = from_sender(&packet(value).encode_to_vec(), channel, sender)?;
        Some((proto::DataPacket::decode(forwarded.bytes.as_slice()).unwrap(), forwarded))
    }

    fn text_header() -> Value {
        let content_header = Some(ContentHeader::TextHeader(proto::data_stream::TextHeader::default()));
        Value::StreamHeader(proto::data_stream::Header { content_header, ..Default::default() })
    }

    #[test]
    fn nobody_chooses_the_name_of_the_sender_but_agents_for_texts() {
        let byte_header = Value::StreamHeader(proto::data_stream::Header::default());
        let agent = Sender { is_agent: true, ..ANN };
        for (value, sender, identity) in [
            (text_header(), ANN, "ann"),
            (text_header(), agent, "bob"),
            (byte_header, agent, "ann"),
            (Value::StreamChunk(proto::data_stream::Chunk::default()), agent, "ann"),
            (Value::ChatMessage(proto::ChatMessage::default()), agent, "bob"),
            (Value::RpcRequest(proto::RpcRequest::default()), agent, "ann"),
            (text_header(), Sender { shown_as: "", ..ANN }, ""),
        ] {
            let (packet, _) = forwarded(value, Channel::Reliable, sender).unwrap();
            assert_eq!((packet.participant_sid.as_str(), packet.participant_identity.as_str()), ("PA_1", identity));
        }
        let (packet, _) = forwarded(text_header(), Channel::Reliable, agent).unwrap();
        let Some(Value::StreamHeader(header)) = packet.value else { panic!("another value") };
        assert!(matches!(header.content_header, Some(ContentHeader::TextHeader(text)) if text.generated));
    }

    #[test]
    fn receivers_of_a_user_packet_may_stand_in_either_place() {
        let user = proto::UserPacket { destination_identities: vec!["cid".into()], ..Default::default() };
        let (packet, forwarded) = forwarded(Value::User(user), Channel::Lossy, ANN).unwrap();
        assert_eq!(packet.destination_identities, ["cid"]);
        assert!(forwarded.to.include("PA_3", "cid") && !forwarded.to.include("PA_2", "bob"));
        assert_eq!(forwarded.sequence, 0);
        assert!(Receivers::default().include("PA_9", "anybody"));
        let by_sid = Receivers::new(Vec::new(), vec!["PA_3".into()]).unwrap();
        assert!(by_sid.include("PA_3", "x") && !by_sid.include("PA_4", "x"));
    }

    #[test]
    fn what_is_not_for_others_is_not_forwarded() {
        assert!(from_sender(&[0xff; 5], Channel::Reliable, ANN).is_none());
        assert!(from_sender(&[], Channel::Reliable, ANN).is_none());
        assert!(forwarded(Value::Transcription(proto::Transcription::default()), Channel::Reliable, ANN).is_none());
        assert!(forwarded(Value::Metrics(proto::MetricsBatch::default()), Channel::Reliable, ANN).is_none());
        let agent = Sender { is_agent: true, ..ANN };
        let transcription = Value::Transcription(proto::Transcription::default());
        assert_eq!(forwarded(transcription, Channel::Reliable, agent).unwrap().1.sequence, 7);
    }
    #[test]
    fn packets_that_nobody_can_get_are_refused() {
        let request = |bytes: usize, receivers: usize| proto::SendDataRequest {
            data: vec![0; bytes],
            destination_identities: vec!["x".repeat(100); receivers],
            ..Default::default()
        };
        let outcome = |bytes, receivers| from_api(request(bytes, receivers)).map(|(_, packet)| packet.to.bytes());
        assert_eq!(outcome(60_000, 20), Ok(20 * (100 + size_of::<String>())));
        // Each receiver stands in the packet twice.
        assert!(matches!(outcome(60_000, 40), Err(DataError::TooLong(PACKET_MIN..))));
        assert_eq!(outcome(0, MEMBERS_MAX + 1), Err(DataError::Receivers(MEMBERS_MAX + 1)));
        let user = |bytes, receivers: usize| {
            let destination_identities = vec![String::new(); receivers];
            Value::User(proto::UserPacket { payload: vec![0; bytes], destination_identities, ..Default::default() })
        };
        assert!(forwarded(user(9, MEMBERS_MAX), Channel::Reliable, ANN).is_some());
        assert!(forwarded(user(9, MEMBERS_MAX + 1), Channel::Reliable, ANN).is_none());
        assert!(forwarded(user(PACKET_MIN, 0), Channel::Reliable, ANN).is_none());
    }

    /// The first size that is too large.
    const PACKET_MIN: usize = PACKET_BYTES_MAX as usize + 1;
}
