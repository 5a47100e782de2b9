//! A participant of a hosted room, with its peer and what waits for it. Pure.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use livekit_protocol as proto;
use livekit_token::VideoGrants;
use proto::participant_info::{Kind, State};
use tokio::time::Instant;

use super::outbox::Outbox;
use super::packets::Sender;
use super::peer::{Channel, Peer, Written};
use crate::keys::Caller;

/// Most names and most addresses of one peer that lead to it. The oldest ones are forgotten.
const ROUTES_MAX: usize = 8;

/// The number of a participant in its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct MemberId(pub(super) u64);

/// The number of a link, a WebSocket, in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LinkId(pub(super) u64);

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

/// One participant.
pub(super) struct Member {
    pub(super) sid: Arc<str>,
    /// The token with which it came. Its name, metadata and attributes follow the changes, for the next token.
    pub(super) caller: Caller,
    pub(super) permission: proto::ParticipantPermission,
    /// The versions of the client, as others have to know them.
    pub(super) client: proto::ClientInfo,
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
    pub(super) outbox: Outbox,
    /// The highest number of its reliable packets.
    pub(super) last_sequence: u32,
    /// When its next token is due.
    pub(super) token_due: Instant,
    /// What leads to its peer: names of the peer, and addresses of the client.
    names: VecDeque<String>,
    addresses: VecDeque<SocketAddr>,
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
}

impl Member {
    pub(super) fn new(new: NewMember) -> Self {
        let NewMember { sid, caller, client, joined_ns, since, link, path_until, token_due, peer } = new;
        Self {
            sid,
            permission: permission(&caller.grants, is_agent(&caller)),
            caller,
            client,
            version: 1,
            joined_ns,
            since,
            is_active: false,
            link: LinkState::Open(link),
            path: Path::Searching { until: path_until },
            peer,
            outbox: Outbox::default(),
            last_sequence: 0,
            token_due,
            names: VecDeque::new(),
            addresses: VecDeque::new(),
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

    /// The participant as a sender of packets.
    pub(super) fn sender(&self) -> Sender<'_> {
        let identity = self.identity();
        let shown_as = if self.permission.hidden { "" } else { identity };
        Sender { sid: &self.sid, identity, shown_as, is_agent: is_agent(&self.caller) }
    }

    /// The participant as others see it.
    pub(super) fn info(&self) -> proto::ParticipantInfo {
        let person = &self.caller.person;
        let kind = match person.kind.as_str() {
            "ingress" => Kind::Ingress,
            "egress" => Kind::Egress,
            "sip" => Kind::Sip,
            "connector" => Kind::Connector,
            "bridge" => Kind::Bridge,
            _ if is_agent(&self.caller) => Kind::Agent,
            _ => Kind::Standard,
        };
        proto::ParticipantInfo {
            sid: self.sid.to_string(),
            identity: person.identity.clone(),
            name: person.name.clone(),
            metadata: person.metadata.clone(),
            attributes: person.attributes.clone().into_iter().collect(),
            state: if self.is_active { State::Active as i32 } else { State::Joined as i32 },
            kind: kind as i32,
            version: self.version,
            joined_at: self.joined_ns / 1_000_000_000,
            joined_at_ms: self.joined_ns / 1_000_000,
            permission: Some(self.permission.clone()),
            client_protocol: self.client.client_protocol,
            capabilities: self.client.capabilities.clone(),
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
        while self.peer.is_ready()
            && let Some(packet) = self.outbox.front()
        {
            match self.peer.write(Channel::Reliable, packet, now) {
                // What the client does not take is lost for it alone.
                Written::Taken | Written::Refused => self.outbox.pop(),
                Written::Full => return,
            }
        }
    }

    /// Note a name of the peer. Returns whether it is new, and the one that is forgotten for it.
    pub(super) fn add_name(&mut self, name: &str) -> (bool, Option<String>) {
        add(&mut self.names, name.to_owned())
    }

    /// Note an address of the client. Returns whether it is new, and the one that is forgotten for it.
    pub(super) fn add_address(&mut self, address: SocketAddr) -> (bool, Option<SocketAddr>) {
        add(&mut self.addresses, address)
    }

    /// Everything that leads to the peer.
    pub(super) fn take_routes(&mut self) -> (VecDeque<String>, VecDeque<SocketAddr>) {
        (std::mem::take(&mut self.names), std::mem::take(&mut self.addresses))
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
        [link, path, self.peer.wake_at()].into_iter().flatten().min()
    }
}

/// Add a value. Returns whether it is new, and the one that is forgotten for it.
fn add<T: PartialEq>(values: &mut VecDeque<T>, value: T) -> (bool, Option<T>) {
    if values.contains(&value) {
        return (false, None);
    }
    let oldest = if values.len() >= ROUTES_MAX { values.pop_front() } else { None };
    values.push_back(value);
    (true, oldest)
}

/// Whether a token is an agent's.
fn is_agent(caller: &Caller) -> bool {
    caller.grants.agent || caller.person.kind == "agent"
}

fn permission(grants: &VideoGrants, agent: bool) -> proto::ParticipantPermission {
    #[expect(deprecated, reason = "older clients read these two fields")]
    proto::ParticipantPermission {
        can_subscribe: grants.can_subscribe(),
        can_publish: grants.can_publish(),
        can_publish_data: grants.can_publish_data(),
        can_update_metadata: grants.can_update_own_metadata(),
        hidden: grants.hidden,
        recorder: grants.recorder,
        agent,
        ..Default::default()
    }
}

/// The attributes after a change. An empty value removes one.
pub(super) fn changed(
    attributes: &BTreeMap<String, String>,
    change: &HashMap<String, String>,
) -> BTreeMap<String, String> {
    let mut attributes = attributes.clone();
    for (name, value) in change {
        if value.is_empty() {
            attributes.remove(name);
        } else {
            attributes.insert(name.clone(), value.clone());
        }
    }
    attributes
}
