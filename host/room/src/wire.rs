//! Conversion between LiveKit's messages and plain data. The messages are those of the crate `livekit_protocol`. A value that this
//! version does not know becomes the most general one.

use livekit_protocol as proto;

use wasm_worker_core::room::event::{Quality, Reason};
use wasm_worker_core::room::people::{
    Attributes, Participant, ParticipantKind, ParticipantState, Permissions, RoomInfo, Track, TrackKind,
};

/// The version of LiveKit's signalling that a room speaks. From 18 on, data channels have ids that are agreed beforehand.
pub(crate) const PROTOCOL: i32 = 17;

/// Largest data packet that is sent, in bytes. LiveKit's server states 65,535 for a message of SCTP.
pub(crate) const PACKET_BYTES_MAX: usize = 64_000;

/// The first character of the names that are the contract's in attributes.
pub(crate) const CONTRACT: char = '@';

/// The two data channels of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// In order, without loss.
    Reliable,
    /// Without order, sent once.
    Lossy,
}

impl Channel {
    /// The label, by which both sides find it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Reliable => "_reliable",
            Self::Lossy => "_lossy",
        }
    }
}

/// An offer, or the text that answered one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Description {
    /// The number of the offer; its answer has the same one.
    pub(crate) id: u32,
    pub(crate) sdp: String,
}

impl Description {
    /// LiveKit's message with it, of type `offer` or `answer`.
    pub(crate) fn message(&self, kind: &str) -> proto::SessionDescription {
        proto::SessionDescription { r#type: kind.into(), sdp: self.sdp.clone(), id: self.id, ..Default::default() }
    }
}

/// Attributes from outside: sorted by name, without those whose names are the contract's.
pub(crate) fn attributes<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Attributes {
    let foreign = pairs.into_iter().filter(|(name, _)| !name.starts_with(CONTRACT));
    let mut attributes: Attributes = foreign.map(|(name, value)| (name.clone(), value.clone())).collect();
    attributes.sort_unstable();
    attributes
}

/// A name, if it is one: the messages have an empty one for none.
pub(crate) fn some(name: String) -> Option<String> {
    Some(name).filter(|name| !name.is_empty())
}

/// The facts of a participant.
pub fn participant(info: &proto::ParticipantInfo) -> Participant {
    use proto::participant_info::State;
    let mut attributes = attributes(&info.attributes);
    let details = info.kind_details.iter().filter_map(|detail| kind_detail(*detail));
    attributes.extend(details.map(|detail| ("@kind-detail".to_owned(), detail.to_owned())));
    Participant {
        sid: info.sid.clone(),
        identity: info.identity.clone(),
        name: info.name.clone(),
        metadata: info.metadata.clone(),
        attributes,
        kind: participant_kind(info.kind),
        state: match State::try_from(info.state) {
            Ok(State::Joining) | Err(_) => ParticipantState::Joining,
            Ok(State::Joined) => ParticipantState::Joined,
            Ok(State::Active) => ParticipantState::Active,
            Ok(State::Disconnected) => ParticipantState::Left,
        },
        permissions: info.permission.as_ref().map(permissions).unwrap_or_default(),
        joined_at_ms: milliseconds(info.joined_at, info.joined_at_ms),
    }
}

fn participant_kind(kind: i32) -> ParticipantKind {
    use proto::participant_info::Kind;
    match Kind::try_from(kind) {
        Ok(Kind::Standard) => ParticipantKind::Standard,
        Ok(Kind::Ingress) => ParticipantKind::Ingress,
        Ok(Kind::Egress) => ParticipantKind::Egress,
        Ok(Kind::Sip) => ParticipantKind::Sip,
        Ok(Kind::Agent) => ParticipantKind::Agent,
        Ok(Kind::Connector) => ParticipantKind::Connector,
        Ok(Kind::Bridge) => ParticipantKind::Bridge,
        Err(_) => ParticipantKind::Other,
    }
}

fn kind_detail(detail: i32) -> Option<&'static str> {
    use proto::participant_info::KindDetail;
    Some(match KindDetail::try_from(detail).ok()? {
        KindDetail::CloudAgent => "cloud-agent",
        KindDetail::Forwarded => "forwarded",
        KindDetail::ConnectorWhatsapp => "connector-whatsapp",
        KindDetail::ConnectorTwilio => "connector-twilio",
        KindDetail::BridgeRtsp => "bridge-rtsp",
        KindDetail::Simulation => "simulation",
    })
}

fn permissions(of: &proto::ParticipantPermission) -> Permissions {
    Permissions {
        subscribe: of.can_subscribe,
        publish: of.can_publish,
        publish_data: of.can_publish_data,
        update_own: of.can_update_metadata,
        hidden: of.hidden,
        subscribe_metrics: of.can_subscribe_metrics,
        manage_agent_session: of.can_manage_agent_session,
    }
}

/// The facts of a room.
pub fn room(room: &proto::Room) -> RoomInfo {
    let facts = [
        ("@publishers", room.num_publishers),
        ("@max-participants", room.max_participants),
        ("@empty-timeout", room.empty_timeout),
        ("@departure-timeout", room.departure_timeout),
    ];
    RoomInfo {
        sid: room.sid.clone(),
        name: room.name.clone(),
        metadata: room.metadata.clone(),
        attributes: facts.map(|(name, value)| (name.to_owned(), value.to_string())).into(),
        created_at_ms: milliseconds(room.creation_time, room.creation_time_ms),
        participants: room.num_participants,
        recorded: room.active_recording,
    }
}

/// The facts of a track of this participant.
pub fn track(info: &proto::TrackInfo, identity: &str) -> Track {
    let mut attributes = Attributes::new();
    let features: Vec<&str> = info.audio_features.iter().filter_map(|feature| audio_feature(*feature)).collect();
    let mut fact = |name: &str, value: String| attributes.push((name.to_owned(), value));
    if !features.is_empty() {
        fact("@features", features.join(","));
    }
    if !info.stream.is_empty() {
        fact("@stream", info.stream.clone());
    }
    for (name, value) in [("@width", info.width), ("@height", info.height)] {
        if value > 0 {
            fact(name, value.to_string());
        }
    }
    Track {
        sid: info.sid.clone(),
        participant: identity.to_owned(),
        name: info.name.clone(),
        kind: match proto::TrackType::try_from(info.r#type) {
            Ok(proto::TrackType::Audio) => TrackKind::Audio,
            Ok(proto::TrackType::Video) => TrackKind::Video,
            Ok(proto::TrackType::Data) => TrackKind::Data,
            Err(_) => TrackKind::Other,
        },
        source: match proto::TrackSource::try_from(info.source) {
            Ok(proto::TrackSource::Microphone) => "microphone",
            Ok(proto::TrackSource::Camera) => "camera",
            Ok(proto::TrackSource::ScreenShare) => "screen-share",
            Ok(proto::TrackSource::ScreenShareAudio) => "screen-share-audio",
            Ok(proto::TrackSource::Unknown) | Err(_) => "",
        },
        mime_type: info.mime_type.clone(),
        attributes,
        muted: info.muted,
        encrypted: info.encryption != proto::encryption::Type::None as i32,
    }
}

fn audio_feature(feature: i32) -> Option<&'static str> {
    use proto::AudioTrackFeature as Feature;
    Some(match Feature::try_from(feature).ok()? {
        Feature::TfStereo => "stereo",
        Feature::TfNoDtx => "no-dtx",
        Feature::TfAutoGainControl => "auto-gain-control",
        Feature::TfEchoCancellation => "echo-cancellation",
        Feature::TfNoiseSuppression => "noise-suppression",
        Feature::TfEnhancedNoiseCancellation => "enhanced-noise-cancellation",
        Feature::TfPreconnectBuffer => "preconnect-buffer",
    })
}

/// The reason for the number of LiveKit's `DisconnectReason`.
pub(crate) fn reason(reason: i32) -> Reason {
    use proto::DisconnectReason as Of;
    match Of::try_from(reason) {
        Ok(Of::UnknownReason) | Err(_) => Reason::Unknown,
        Ok(Of::ClientInitiated) => Reason::ClientInitiated,
        Ok(Of::DuplicateIdentity) => Reason::DuplicateIdentity,
        Ok(Of::ServerShutdown) => Reason::ServerShutdown,
        Ok(Of::ParticipantRemoved) => Reason::ParticipantRemoved,
        Ok(Of::RoomDeleted) => Reason::RoomDeleted,
        Ok(Of::StateMismatch) => Reason::StateMismatch,
        Ok(Of::JoinFailure) => Reason::JoinFailure,
        Ok(Of::Migration) => Reason::Migration,
        Ok(Of::SignalClose) => Reason::SignalClose,
        Ok(Of::RoomClosed) => Reason::RoomClosed,
        Ok(Of::UserUnavailable) => Reason::UserUnavailable,
        Ok(Of::UserRejected) => Reason::UserRejected,
        Ok(Of::SipTrunkFailure) => Reason::SipTrunkFailure,
        Ok(Of::ConnectionTimeout) => Reason::ConnectionTimeout,
        Ok(Of::MediaFailure) => Reason::MediaFailure,
        Ok(Of::AgentError) => Reason::AgentError,
    }
}

/// The quality for the number of LiveKit's `ConnectionQuality`.
pub(crate) fn quality(quality: i32) -> Quality {
    match proto::ConnectionQuality::try_from(quality) {
        Ok(proto::ConnectionQuality::Lost) => Quality::Lost,
        Ok(proto::ConnectionQuality::Poor) => Quality::Poor,
        Ok(proto::ConnectionQuality::Good) | Err(_) => Quality::Good,
        Ok(proto::ConnectionQuality::Excellent) => Quality::Excellent,
    }
}

/// A time since 1970 that a server tells in seconds, and if it is new enough in milliseconds too.
#[expect(clippy::cast_precision_loss, reason = "times of this era are far below 2^53 ms")]
fn milliseconds(seconds: i64, milliseconds: i64) -> f64 {
    if milliseconds > 0 { milliseconds as f64 } else { seconds as f64 * 1_000.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_contract_do_not_come_from_outside() {
        let info = proto::ParticipantInfo {
            attributes: [("b", "2"), ("@kind-detail", "forged"), ("a", "1")].map(|(n, v)| (n.into(), v.into())).into(),
            kind_details: vec![1, 99],
            state: 77,
            kind: 77,
            joined_at: 3,
            ..Default::default()
        };
        let participant = participant(&info);
        let attributes: Vec<_> = participant.attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(attributes, [("a", "1"), ("b", "2"), ("@kind-detail", "forwarded")]);
        assert_eq!((participant.kind, participant.state), (ParticipantKind::Other, ParticipantState::Joining));
        assert_eq!(participant.joined_at_ms, 3_000.0);
    }

    #[test]
    fn reasons_have_the_names_of_livekit() {
        use proto::DisconnectReason;
        let unknown = DisconnectReason::UnknownReason as i32;
        for number in unknown + 1.. {
            let Ok(known) = DisconnectReason::try_from(number) else { break };
            assert_eq!(reason(number).as_str(), known.as_str_name().to_ascii_lowercase().replace('_', "-"));
        }
        assert_eq!((reason(unknown), reason(9_999)), (Reason::Unknown, Reason::Unknown));
    }
}
