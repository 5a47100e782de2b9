//! How a participant comes: for the first time, in the place of another connection of the same identity, or back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;
use proto::DisconnectReason as Reason;
use proto::leave_request::Action;
use proto::signal_response::Message as Response;

use super::answers::{join, leave, reconnect};
use super::facts::{self, FactsError};
use super::timers::TOKEN_EVERY;
use super::{Room, RoomOutput};
use crate::clock::Moment;
use crate::ids::new_id;
use crate::keys::{Caller, Person};
use crate::room_host::limits::MEMBERS_MAX;
use crate::room_host::member::{self, LinkId, LinkState, Member, MemberId, NewMember, Path};
use crate::room_host::peer::Peer;

/// Time for the data channels of a new participant.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);
/// Time for a new path of a participant that came back without one.
const RESTART_WITHIN: Duration = Duration::from_secs(15);

/// Somebody who asks to enter a room.
#[derive(Debug)]
pub(crate) struct Entrant {
    /// The caller, whose token allows to join this room.
    pub(crate) caller: Caller,
    pub(crate) request: Box<proto::JoinRequest>,
    /// The address of this host that the client has reached.
    pub(crate) local: IpAddr,
}

/// Why somebody may not enter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request brings attributes or metadata, and the token does not allow it.
    #[error("the request has metadata or attributes, and the token does not allow `canUpdateOwnMetadata`")]
    OwnMetadata,
    /// The facts of the participant are too long.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The room is full.
    #[error("the room has {0} participants, which is the most")]
    Full(usize),
}

impl Room {
    /// Somebody asks to enter with this link. A refused one has no link.
    pub(in crate::room_host) fn enter(&mut self, entrant: Entrant, link: LinkId, now: Moment) -> Result<(), Refusal> {
        if entrant.request.reconnect {
            self.resume(&entrant, link, now);
        } else {
            self.join(entrant, link, now)?;
        }
        self.settle(now);
        Ok(())
    }

    fn join(&mut self, entrant: Entrant, link: LinkId, now: Moment) -> Result<(), Refusal> {
        let Entrant { mut caller, request, local } = entrant;
        caller.person = person(caller.person, &request, caller.grants.can_update_own_metadata())?;
        let former = self.member_of(&caller.person.identity);
        let allowed = match usize::try_from(self.info.max_participants) {
            Ok(most @ 1..) => most.min(MEMBERS_MAX),
            _ => MEMBERS_MAX,
        };
        if former.is_none() && self.members.len() >= allowed {
            return Err(Refusal::Full(allowed));
        }
        if !self.has_space_for(caller.person.bytes()) {
            return Err(FactsError::Room.into());
        }
        if let Some(former) = former {
            self.remove(former, Reason::DuplicateIdentity, Action::Disconnect, now);
        }
        let sid: Arc<str> = new_id("PA_", &mut self.rng).into();
        let member = Member::new(NewMember {
            sid,
            caller,
            client: request.client_info.unwrap_or_default(),
            joined_ns: now.wall_ns,
            since: now.at,
            link,
            path_until: now.at + SETTLE_WITHIN,
            token_due: now.at + TOKEN_EVERY,
            peer: Peer::new(SocketAddr::new(local, self.port), now.at),
        });
        self.admit(member, link);
        let id = MemberId(self.last_member);
        for track in request.add_track_requests {
            self.add_track(id, track);
        }
        self.give_token(id);
        if let Some(offer) = request.publisher_offer {
            self.answer(id, &offer, now);
        }
        Ok(())
    }

    /// Give a new participant its place, and tell it and the others.
    fn admit(&mut self, member: Member, link: LinkId) {
        // It may be one of them who comes again.
        self.tell_departures(None);
        self.last_member += 1;
        let id = MemberId(self.last_member);
        let (others, info, hidden) = (self.participants(), member.info(), member.permission.hidden);
        self.members.insert(id, member);
        self.by_link.insert(link, id);
        self.send(link, join(self.to_proto(), info.clone(), others));
        if !hidden {
            self.tell_others(Some(id), Response::Update(proto::ParticipantUpdate { participants: vec![info] }));
        }
    }

    /// Somebody comes back with a new link to the peer that it has.
    fn resume(&mut self, entrant: &Entrant, link: LinkId, now: Moment) {
        let (identity, sid) = (&entrant.caller.person.identity, &entrant.request.participant_sid);
        let id = self.member_of(identity);
        let same = |member: &&mut Member| (sid.is_empty() || **sid == *member.sid) && !member.peer.is_over();
        let found = id.and_then(|id| Some((id, self.members.get_mut(&id).filter(same)?)));
        let Some((id, member)) = found else {
            self.send(link, leave(Reason::StateMismatch, Action::Reconnect));
            return self.outputs.push_back(RoomOutput::Close { link });
        };
        if member.path == Path::Lost {
            member.path = Path::Searching { until: now.at + RESTART_WITHIN };
        }
        let last_sequence = member.last_sequence;
        if let LinkState::Open(former) = std::mem::replace(&mut member.link, LinkState::Open(link)) {
            self.by_link.remove(&former);
            self.outputs.push_back(RoomOutput::Close { link: former });
        }
        self.by_link.insert(link, id);
        self.send(link, reconnect(last_sequence));
        let own = self.members.get(&id).filter(|member| member.permission.hidden).map(Member::info);
        let participants = self.participants().into_iter().chain(own).collect();
        self.send(link, Response::Update(proto::ParticipantUpdate { participants }));
        self.send(link, Response::RoomUpdate(proto::RoomUpdate { room: Some(self.to_proto()) }));
        self.give_token(id);
    }

    /// Answer an offer. A client whose offer cannot be answered has to join again.
    pub(super) fn answer(&mut self, id: MemberId, offer: &proto::SessionDescription, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        self.touched.insert(id);
        match member.peer.answer(&offer.sdp, now.at) {
            Ok(sdp) => {
                let (name, candidate_init) = (member.peer.name(), member.peer.candidate());
                let (is_new, forgotten) = member.add_name(&name);
                self.outputs.extend(forgotten.map(RoomOutput::ForgetName));
                if is_new {
                    self.outputs.push_back(RoomOutput::Name { name, member: id });
                }
                let (r#type, mid_to_track_id) = ("answer".to_owned(), std::collections::HashMap::new());
                self.tell(
                    id,
                    Response::Answer(proto::SessionDescription { r#type, sdp, id: offer.id, mid_to_track_id }),
                );
                let target = proto::SignalTarget::Publisher as i32;
                self.tell(id, Response::Trickle(proto::TrickleRequest { candidate_init, target, r#final: true }));
            }
            Err(error) => {
                let identity = member.identity();
                tracing::debug!(target: "dispatcher", room = self.info.name, identity, %error, "cannot answer an offer");
                let (reason, action) = match member.is_active {
                    true => (Reason::StateMismatch, Action::Reconnect),
                    false => (Reason::JoinFailure, Action::Disconnect),
                };
                self.remove(id, reason, action, now);
            }
        }
    }
}

/// The person of a token, with what the request adds.
fn person(person: Person, request: &proto::JoinRequest, may_update: bool) -> Result<Person, Refusal> {
    let adds = !request.metadata.is_empty() || !request.participant_attributes.is_empty();
    if adds && !may_update {
        return Err(Refusal::OwnMetadata);
    }
    let attributes: BTreeMap<String, String> = member::changed(&person.attributes, &request.participant_attributes);
    let metadata = if request.metadata.is_empty() { person.metadata.clone() } else { request.metadata.clone() };
    let person = Person { metadata, attributes, ..person };
    facts::check(&person)?;
    Ok(person)
}
