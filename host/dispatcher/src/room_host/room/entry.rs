//! How a participant comes: for the first time, in the place of another connection of the same identity, or back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;
use proto::DisconnectReason as Reason;
use proto::leave_request::Action;
use proto::signal_response::Message as Response;
use tokio::time::Instant;

use super::answers::{join, leave, reconnect};
use super::facts::{self, FactsError};
use super::timers::TOKEN_EVERY;
use super::{Room, RoomOutput};
use crate::clock::Moment;
use crate::ids::new_id;
use crate::keys::{Caller, Person};
use crate::room_host::claims::{self, is_dependent};
use crate::room_host::limits::{MEMBERS_MAX, TOLD_AGAIN_WITHIN, TRACKS_MAX};
use crate::room_host::member::{LinkId, LinkState, Member, MemberId, NewMember, Path, PeerId, Side};
use crate::room_host::peer::{Answer, OfferError, Peer};
use crate::room_host::sdp;

/// Time for a path and the data channels of a new participant.
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
    /// The address by which clients reach the host through NAT.
    pub(crate) public: Option<IpAddr>,
    /// Whether the client gets texts and sound on a second peer connection.
    pub(crate) has_second_peer: bool,
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
    /// The client announces too many tracks.
    #[error("the request announces {0} tracks, at most {TRACKS_MAX} are allowed")]
    Tracks(usize),
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
        let Entrant { mut caller, request, local, public, has_second_peer } = entrant;
        caller.person = person(caller.person, &request, caller.grants.can_update_own_metadata())?;
        let tracks = request.add_track_requests.len();
        if tracks > TRACKS_MAX {
            return Err(Refusal::Tracks(tracks));
        }
        let former = self.member_of(&caller.person.identity);
        self.check_space(&caller, former)?;
        let gone = former.and_then(|id| self.put_out(id, Reason::DuplicateIdentity, Action::Disconnect, now));
        // As in LiveKit's server, the others hear of the new sid alone. They do not hear of one that is hidden.
        if let Some(gone) = gone.filter(|_| caller.grants.hidden) {
            let too_many = self.departures.add(gone, now.at);
            self.tell_departures(too_many);
        }
        let sid: Arc<str> = new_id("PA_", &mut self.rng).into();
        let (local, public) =
            (SocketAddr::new(local, self.port), public.map(|public| SocketAddr::new(public, self.port)));
        let member = Member::new(NewMember {
            sid,
            caller,
            client: request.client_info.unwrap_or_default(),
            joined_ns: now.wall_ns,
            since: now.at,
            link,
            path_until: now.at + SETTLE_WITHIN,
            token_due: now.at + TOKEN_EVERY,
            peer: Peer::new(local, public, now.at),
            second: has_second_peer.then(|| Peer::new(local, public, now.at)),
            // As in LiveKit's server, a client that does not say so hears nothing by itself.
            hears_all: request.connection_settings.is_some_and(|settings| settings.auto_subscribe),
        });
        let id = self.admit(member, link, now);
        for track in request.add_track_requests {
            self.add_track(id, track, now);
        }
        self.give_token(id);
        self.to_ask.insert(id);
        if let Some(offer) = request.publisher_offer {
            self.answer(id, &offer, now);
        }
        Ok(())
    }

    /// Check that there is space for a new participant, once its former self has left.
    fn check_space(&self, caller: &Caller, former: Option<MemberId>) -> Result<(), Refusal> {
        let others = || self.members.iter().filter(|(id, _)| Some(**id) != former).map(|(_, other)| other);
        if others().count() >= MEMBERS_MAX {
            return Err(Refusal::Full(MEMBERS_MAX));
        }
        // As in LiveKit's server, those who serve the others take no place.
        let people = others().filter(|other| !is_dependent(&other.caller)).count();
        match usize::try_from(self.info.max_participants) {
            Ok(most @ 1..) if people >= most && !is_dependent(caller) => return Err(Refusal::Full(most)),
            _ => {}
        }
        let former = former.and_then(|former| self.members.get(&former));
        let former_bytes = former.map_or(0, |former| former.caller.person.bytes());
        if self.has_space_for(caller.person.bytes(), former_bytes) { Ok(()) } else { Err(FactsError::Room.into()) }
    }

    /// Give a new participant its place, and tell it and the others.
    fn admit(&mut self, member: Member, link: LinkId, now: Moment) -> MemberId {
        // The texts of the others who left may still be on their way.
        let former_selves = self.departures.before(member.identity());
        self.tell_departures(former_selves);
        self.last_member += 1;
        let id = MemberId(self.last_member);
        let (others, info, hidden) = (self.participants(), member.info(), member.permission.hidden);
        let has_second_peer = member.second.is_some();
        self.members.insert(id, member);
        self.by_link.insert(link, id);
        self.people_changed(now);
        self.send(link, join(self.to_proto(), info.clone(), others, has_second_peer));
        if !hidden {
            self.tell_others(Some(id), Response::Update(proto::ParticipantUpdate { participants: vec![info] }));
        }
        id
    }

    /// Somebody comes back with a new link to the peer that it has. Its token has to be the newest that it got, or one like it.
    fn resume(&mut self, entrant: &Entrant, link: LinkId, now: Moment) {
        let (caller, sid) = (&entrant.caller, &entrant.request.participant_sid);
        let same = |member: &&mut Member| {
            (sid.is_empty() || **sid == *member.sid)
                && !matches!(member.path, Path::Over { .. })
                && member.second.is_some() == entrant.has_second_peer
                && member.knows(caller)
        };
        let missed = self.missed(now);
        let id = self.member_of(&caller.person.identity).filter(|_| missed.is_some());
        let found = id.and_then(|id| Some((id, self.members.get_mut(&id).filter(same)?)));
        let Some((id, member)) = found else {
            self.send(link, leave(Reason::StateMismatch, Action::Reconnect));
            return self.outputs.push_back(RoomOutput::Close { link });
        };
        member.resumed_at = Some(now.at);
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
        self.tell_again(id, now);
        if let Some(participants) = missed.filter(|missed| !missed.is_empty()) {
            self.send(link, Response::Update(proto::ParticipantUpdate { participants }));
        }
        let own = self.members.get(&id).filter(|member| member.permission.hidden).map(Member::info);
        let participants = self.participants().into_iter().chain(own).collect();
        self.send(link, Response::Update(proto::ParticipantUpdate { participants }));
        self.send(link, Response::RoomUpdate(proto::RoomUpdate { room: Some(self.to_proto()) }));
        self.audiences(id).into_iter().for_each(|word| self.send(link, word));
        self.tell_speakers_again(id, since(now));
        self.give_token(id);
        self.hear_again(id);
        self.offer_again(id);
    }

    /// Tell somebody that comes back what it may have missed of its own tracks. This comes before what others are told of it: a client
    /// that hears from others that it is muted says that it is not.
    fn tell_again(&mut self, id: MemberId, now: Moment) {
        let missed = self.members.get(&id).map(|member| member.tracks.missed(since(now))).unwrap_or_default();
        missed.into_iter().for_each(|word| self.tell(id, word));
    }

    /// Those who left while somebody may have been away, but for those who are here again; none where some are forgotten.
    fn missed(&self, now: Moment) -> Option<Vec<proto::ParticipantInfo>> {
        let is_gone = |info: &&proto::ParticipantInfo| self.member_of(&info.identity).is_none();
        Some(self.departures.missed(now.at)?.filter(is_gone).cloned().collect())
    }

    /// Answer an offer. A client whose offer cannot be answered has to join again.
    pub(super) fn answer(&mut self, id: MemberId, offer: &proto::SessionDescription, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        self.touched.insert(id);
        match member.peer.answer(&offer.sdp, now.at) {
            Ok(Answer { sdp, name }) => {
                let candidates = member.peer.candidates();
                member.offered = sdp::sound_lines(&offer.sdp);
                self.told_name(PeerId(id, Side::First), name);
                let (sdp, mid_to_track_id) = self.load_lines(id, &sdp, now);
                let r#type = "answer".to_owned();
                self.tell(
                    id,
                    Response::Answer(proto::SessionDescription { r#type, sdp, id: offer.id, mid_to_track_id }),
                );
                self.tell_candidates(id, proto::SignalTarget::Publisher, candidates);
                self.match_lines(id, now);
                self.to_ask.insert(id);
            }
            Err(error) => self.cannot_negotiate(id, &error, now),
        }
    }

    /// Tell a participant the addresses of the host.
    pub(super) fn tell_candidates(&mut self, id: MemberId, target: proto::SignalTarget, candidates: Vec<String>) {
        let (target, last) = (target as i32, candidates.len());
        for (candidate_init, number) in candidates.into_iter().zip(1..) {
            let r#final = number == last;
            self.tell(id, Response::Trickle(proto::TrickleRequest { candidate_init, target, r#final }));
        }
    }

    /// A participant whose offer or answer is of no use has to join again.
    pub(super) fn cannot_negotiate(&mut self, id: MemberId, error: &OfferError, now: Moment) {
        let Some(member) = self.members.get(&id) else { return };
        let identity = member.identity();
        tracing::debug!(target: "dispatcher", room = self.info.name, identity, %error, "cannot negotiate");
        let (reason, action) = match member.is_active {
            true => (Reason::StateMismatch, Action::Reconnect),
            false => (Reason::JoinFailure, Action::Disconnect),
        };
        self.remove(id, reason, action, now);
    }
}

/// What was told from then on is told again to one that comes back.
fn since(now: Moment) -> Instant {
    now.at.checked_sub(TOLD_AGAIN_WITHIN).unwrap_or(now.at)
}

/// The person of a token, with what the request adds.
fn person(person: Person, request: &proto::JoinRequest, may_update: bool) -> Result<Person, Refusal> {
    let adds = !request.metadata.is_empty() || !request.participant_attributes.is_empty();
    if adds && !may_update {
        return Err(Refusal::OwnMetadata);
    }
    let attributes: BTreeMap<String, String> = claims::changed(&person.attributes, &request.participant_attributes);
    let metadata = if request.metadata.is_empty() { person.metadata.clone() } else { request.metadata.clone() };
    let person = Person { metadata, attributes, ..person };
    facts::check(&person)?;
    Ok(person)
}
