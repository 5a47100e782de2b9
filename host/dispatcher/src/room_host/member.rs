//! A participant of a hosted room, with its peer and what waits for it. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use livekit_protocol as proto;
use livekit_token::VideoGrants;
use proto::client_info::Capability;
use proto::participant_info::State;
use tokio::time::Instant;

use super::claims::{is_agent, kind, permission};
use super::hearing::{Audience, Choices};
use super::lines::Lines;
use super::outbox::Outbox;
use super::pace::Pace;
use super::packets::Sender;
use super::peer::{Channel, Peer, Written};
use super::sdp::SoundLine;
use super::second::Second;
use super::told::Told;
use super::tracks::Tracks;
use crate::keys::Caller;

/// The number of a participant in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MemberId(pub(super) u64);

/// The number of a link, a WebSocket, in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(pub(super) u64);

/// The peers of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Side {
    /// The one on which the client offers.
    First,
    /// The one on which the host offers, for a client that has two.
    Second,
}

/// One peer of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PeerId(pub(super) MemberId, pub(super) Side);

/// The link of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkState {
    /// Messages go there.
    Open(LinkId),
    /// The participant may come back until then.
    Lost { until: Instant },
}

/// The path of the datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// None is found yet.
    Searching { until: Instant },
    /// Datagrams flow.
    Found,
    /// None leads to the client any more.
    Lost,
    /// The client ended the peer. The reason may still come by the link until then.
    Over { until: Instant },
}

/// What others have to know of a client: a few numbers of the many texts that it tells.
struct ClientFacts {
    /// The version of the protocol between clients.
    protocol: i32,
    /// The capabilities that are known, each once.
    capabilities: Vec<i32>,
}

impl ClientFacts {
    fn of(client: &proto::ClientInfo) -> Self {
        let is_told = |one: &Capability| client.capabilities.contains(&(*one as i32));
        let known = [Capability::CapPacketTrailer, Capability::CapCompressionDeflateRaw];
        let capabilities = known.into_iter().filter(is_told).map(|one| one as i32).collect();
        Self { protocol: client.client_protocol, capabilities }
    }
}

/// One participant.
pub(super) struct Member {
    pub(super) sid: Arc<str>,
    /// The token with which it came. Its name, metadata and attributes follow the changes, for the next token.
    pub(super) caller: Caller,
    pub(super) permission: proto::ParticipantPermission,
    /// What others have to know of the client.
    client: ClientFacts,
    /// Rises with each change of the facts.
    version: u32,
    joined_ns: i64,
    /// When it came, for the packets that are its own.
    pub(super) since: Instant,
    /// Whether data has flowed.
    pub(super) is_active: bool,
    pub(super) link: LinkState,
    pub(super) path: Path,
    pub(super) peer: Peer,
    /// The peer on which it gets all, where its client has two.
    pub(super) second: Option<Second>,
    pub(super) outbox: Outbox,
    /// The highest number of its reliable packets.
    pub(super) last_sequence: u32,
    /// The tracks that it publishes, or has announced.
    pub(super) tracks: Tracks,
    /// The lines for sound of its last offer.
    pub(super) offered: Vec<SoundLine>,
    /// The lines on which it hears others.
    pub(super) lines: Lines,
    /// When its client was last asked for lines.
    pub(super) asked_at: Option<Instant>,
    pub(super) choices: Choices,
    pub(super) audience: Audience,
    /// What others know of its facts and of its audience.
    pub(super) told: Told,
    /// Those who lost a line to its audience since that was told last: at most the participants of the room.
    pub(super) to_hear: BTreeSet<MemberId>,
    /// The packets with sound of it to all, for its own share of those of the room.
    pub(super) sound_pace: Pace,
    /// When it last sent sound that its track took.
    pub(super) last_sound_at: Option<Instant>,
    /// Its tracks that the observers are told about.
    pub(super) report_pace: Pace,
    /// How loud it was in the last interval; none where it did not speak.
    pub(super) level: Option<f32>,
    /// When the others were last told of another level.
    pub(super) level_at: Option<Instant>,
    /// The grants of the newest token that it got. Those that the participant has are others, once they change while it is away.
    pub(super) token_grants: VideoGrants,
    /// When it came back, until it has told what it has.
    pub(super) resumed_at: Option<Instant>,
    /// When its next token is due.
    pub(super) token_due: Instant,
}

/// What a new participant begins with.
pub(super) struct NewMember {
    pub(super) sid: Arc<str>,
    pub(super) caller: Caller,
    pub(super) client: proto::ClientInfo,
    pub(super) joined_ns: i64,
    pub(super) since: Instant,
    pub(super) link: LinkId,
    pub(super) path_until: Instant,
    pub(super) token_due: Instant,
    pub(super) peer: Peer,
    /// The second peer, where its client has two.
    pub(super) second: Option<Peer>,
    /// Whether it hears the tracks about which it says nothing.
    pub(super) hears_all: bool,
}

impl Member {
    pub(super) fn new(new: NewMember) -> Self {
        let NewMember { sid, caller, client, joined_ns, since, link, path_until, token_due, peer, second, hears_all } =
            new;
        Self {
            sid,
            permission: permission(&caller.grants, is_agent(&caller)),
            token_grants: caller.grants.clone(),
            caller,
            client: ClientFacts::of(&client),
            version: 1,
            joined_ns,
            since,
            is_active: false,
            link: LinkState::Open(link),
            path: Path::Searching { until: path_until },
            peer,
            outbox: Outbox::default(),
            last_sequence: 0,
            tracks: Tracks::default(),
            offered: Vec::new(),
            lines: if second.is_some() { Lines::offered_by_the_host() } else { Lines::default() },
            second: second.map(Second::new),
            asked_at: None,
            choices: Choices::new(hears_all),
            audience: Audience::default(),
            told: Told::default(),
            to_hear: BTreeSet::new(),
            sound_pace: Pace::default(),
            last_sound_at: None,
            report_pace: Pace::default(),
            level: None,
            level_at: None,
            resumed_at: None,
            token_due,
        }
    }

    pub(super) fn identity(&self) -> &str {
        &self.caller.person.identity
    }

    pub(super) const fn open_link(&self) -> Option<LinkId> {
        match self.link {
            LinkState::Open(link) => Some(link),
            LinkState::Lost { .. } => None,
        }
    }

    /// One of its peers.
    pub(super) fn peer_mut(&mut self, side: Side) -> Option<&mut Peer> {
        match side {
            Side::First => Some(&mut self.peer),
            Side::Second => self.second.as_mut().map(|second| &mut second.peer),
        }
    }

    /// Its peers.
    pub(super) fn peers_mut(&mut self) -> impl Iterator<Item = (Side, &mut Peer)> {
        let second = self.second.as_mut().map(|second| (Side::Second, &mut second.peer));
        std::iter::once((Side::First, &mut self.peer)).chain(second)
    }

    /// The side on which it gets texts and sound. [`Self::path`] is the path of this side.
    pub(super) const fn getting_side(&self) -> Side {
        if self.second.is_some() { Side::Second } else { Side::First }
    }

    /// The peer on which it gets texts and sound.
    pub(super) const fn getting_peer(&mut self) -> &mut Peer {
        match &mut self.second {
            Some(second) => &mut second.peer,
            None => &mut self.peer,
        }
    }

    /// Whether a token is one with which it may come back: of the same API key, and with the grants that it has, or had when it lost
    /// its link.
    pub(super) fn knows(&self, caller: &Caller) -> bool {
        let is_away = self.open_link().is_none();
        let has_grants = caller.grants == self.caller.grants || is_away && caller.grants == self.token_grants;
        caller.api_key == self.caller.api_key && has_grants
    }

    /// The participant as one who speaks.
    pub(super) fn speaker(&self) -> proto::SpeakerInfo {
        let (sid, active) = (self.sid.to_string(), self.level.is_some());
        proto::SpeakerInfo { sid, level: self.level.unwrap_or_default(), active }
    }

    /// The participant as a sender of packets.
    pub(super) fn sender(&self) -> Sender<'_> {
        let identity = self.identity();
        let shown_as = if self.permission.hidden { "" } else { identity };
        Sender { sid: &self.sid, identity, shown_as, is_agent: is_agent(&self.caller) }
    }

    /// The participant as others see it.
    pub(super) fn info(&self) -> proto::ParticipantInfo {
        let person = &self.caller.person;
        proto::ParticipantInfo {
            sid: self.sid.to_string(),
            identity: person.identity.clone(),
            name: person.name.clone(),
            metadata: person.metadata.clone(),
            attributes: person.attributes.clone().into_iter().collect(),
            state: if self.is_active { State::Active as i32 } else { State::Joined as i32 },
            kind: kind(&self.caller) as i32,
            version: self.version,
            joined_at: self.joined_ns / 1_000_000_000,
            joined_at_ms: self.joined_ns / 1_000_000,
            permission: Some(self.permission.clone()),
            client_protocol: self.client.protocol,
            capabilities: self.client.capabilities.clone(),
            is_publisher: self.tracks.published().next().is_some(),
            tracks: self.tracks.published().map(|track| track.info.clone()).collect(),
            ..Default::default()
        }
    }

    /// The participant as others see that it left.
    pub(super) fn gone(&self, reason: proto::DisconnectReason) -> proto::ParticipantInfo {
        let (state, version) = (State::Disconnected as i32, self.version.saturating_add(1));
        proto::ParticipantInfo { state, version, disconnect_reason: reason as i32, ..self.info() }
    }

    /// Change what others see.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        self.version = self.version.saturating_add(1);
    }

    /// Send what waits, for as long as the peer takes it.
    pub(super) fn pump(&mut self, now: Instant) {
        while self.getting_peer().is_ready()
            && let Some(packet) = self.outbox.front().cloned()
        {
            match self.getting_peer().write(Channel::Reliable, &packet, now) {
                // What the client does not take is lost for it alone.
                Written::Taken | Written::Refused => self.outbox.pop(),
                Written::Full => return,
            }
        }
    }

    /// When something is due.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let link = match self.link {
            LinkState::Open(_) => Some(self.token_due),
            LinkState::Lost { until } => Some(until),
        };
        let path = match self.path {
            Path::Searching { until } | Path::Over { until } => Some(until),
            Path::Found | Path::Lost => None,
        };
        let second = self.second.as_ref().and_then(|second| second.peer.wake_at());
        let peers = [self.peer.wake_at(), second];
        let others = [link, path, self.told.facts_due, self.told.audience_due];
        peers.into_iter().chain(others).flatten().min()
    }
}
