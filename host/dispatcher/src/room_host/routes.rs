//! Which peer of which participant of which room a datagram is for. All rooms share one socket.
//!
//! The first datagrams of a client name the peer that they want: the user name of STUN begins with the name in the host's answer.
//! Its other datagrams are known by their source, once the peer has answered a check from there, which it does only after it has
//! checked the secret in it.
//!
//! The source of a check may be forged, and that of data too: a participant knows its own secrets, and can claim the address of
//! another one. The host therefore asks by a check of its own, and a success with the secret of the participant proves that it is
//! there. It finds its participant by the number of the check, whoever claims the address. A claim takes no address from a participant
//! that has proved that it is there. Where nobody has proved anything, the latest check decides, and clients repeat theirs.
//!
//! Bounds: those of the peers, each of which has a few names and addresses, and [`MEMBER_DATAGRAMS_MAX`] datagrams of one participant,
//! of all its peers, that wait for its room.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{Semaphore, mpsc};

use super::input::Datagram;
use super::member::{MemberId, PeerId};
use super::peer::answered;
use super::ways::Question;

/// The head of a STUN message, in bytes.
const STUN_HEAD_BYTES: usize = 20;
/// The type of a request for a check, and the cookie of every message (RFC 8489).
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// The attribute with the user name.
const USERNAME: [u8; 2] = [0x00, 0x06];

/// Most datagrams of one participant that wait for its room: a quarter of all. Further ones are lost, so that a flood of one
/// participant leaves space for the others.
const MEMBER_DATAGRAMS_MAX: usize = 256;

/// The way to a peer of a participant.
#[derive(Clone, Debug)]
struct Route {
    room: u64,
    peer: PeerId,
    datagrams: mpsc::Sender<Datagram>,
    /// A permit for each datagram of the participant that may wait.
    share: Arc<Semaphore>,
}

impl Route {
    fn is_of(&self, room: u64, peer: PeerId) -> bool {
        (self.room, self.peer) == (room, peer)
    }
}

/// The way from an address.
#[derive(Debug)]
struct Held {
    route: Route,
    /// Whether the participant has proved that it is there. One that only checked the path may have forged the address.
    is_proven: bool,
}

#[derive(Debug, Default)]
struct Tables {
    by_name: HashMap<String, Route>,
    by_address: HashMap<SocketAddr, Held>,
    /// The checks of the host that wait for an answer.
    by_question: HashMap<Question, Route>,
}

/// The ways to all participants.
#[derive(Debug, Default)]
pub(super) struct Routes(RwLock<Tables>);

impl Routes {
    /// Give a datagram to its room. One that nobody waits for, or whose room is behind, is lost, as any may be.
    pub(super) fn deliver(&self, source: SocketAddr, bytes: &[u8]) {
        let route = {
            let tables = self.read();
            match (stun_name(bytes), answered(bytes)) {
                (Some(name), _) => tables.by_name.get(name).cloned(),
                (None, Some(question)) => tables.by_question.get(&question).cloned(),
                (None, None) => tables.by_address.get(&source).map(|held| held.route.clone()),
            }
        };
        if let Some(Route { peer, datagrams, share, .. }) = route
            && let Ok(place) = share.try_acquire_owned()
        {
            drop(datagrams.try_send(Datagram { peer, source, bytes: bytes.into(), _place: place }));
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The routes of one room. Dropped, they are forgotten.
pub(super) struct RoomRoutes {
    routes: Arc<Routes>,
    room: u64,
    datagrams: mpsc::Sender<Datagram>,
    /// The shares of the participants that have a route.
    shares: HashMap<MemberId, Arc<Semaphore>>,
}

impl RoomRoutes {
    /// No routes yet, of the room with this number.
    pub(super) fn new(routes: Arc<Routes>, room: u64, datagrams: mpsc::Sender<Datagram>) -> Self {
        Self { routes, room, datagrams, shares: HashMap::new() }
    }

    pub(super) fn add_name(&mut self, name: String, peer: PeerId) {
        let route = self.route(peer);
        self.routes.write().by_name.insert(name, route);
    }

    pub(super) fn add_question(&mut self, question: Question, peer: PeerId) {
        let route = self.route(peer);
        self.routes.write().by_question.insert(question, route);
    }

    /// An address is a peer's, unless another one has proved that it is there, and this one has not.
    pub(super) fn add_address(&mut self, address: SocketAddr, peer: PeerId, is_proven: bool) {
        // Every check comes here, and seldom says anything new.
        let says_no_more = |held: &Held| held.route.is_of(self.room, peer) && (held.is_proven || !is_proven);
        let keeps = |held: &Held| held.is_proven && !is_proven;
        if self.routes.read().by_address.get(&address).is_some_and(|held| says_no_more(held) || keeps(held)) {
            return;
        }
        let route = self.route(peer);
        self.routes.write().by_address.insert(address, Held { route, is_proven });
    }

    pub(super) fn forget_name(&mut self, name: &str, peer: PeerId) {
        let by_name = &mut self.routes.write().by_name;
        if by_name.get(name).is_some_and(|route| route.is_of(self.room, peer)) {
            by_name.remove(name);
        }
    }

    pub(super) fn forget_question(&mut self, question: Question, peer: PeerId) {
        let by_question = &mut self.routes.write().by_question;
        if by_question.get(&question).is_some_and(|route| route.is_of(self.room, peer)) {
            by_question.remove(&question);
        }
    }

    pub(super) fn forget_address(&mut self, address: SocketAddr, peer: PeerId) {
        let by_address = &mut self.routes.write().by_address;
        if by_address.get(&address).is_some_and(|held| held.route.is_of(self.room, peer)) {
            by_address.remove(&address);
        }
    }

    fn route(&mut self, peer: PeerId) -> Route {
        // Those that nothing leads to any more.
        self.shares.retain(|_, share| Arc::strong_count(share) > 1);
        let share = self.shares.entry(peer.0).or_insert_with(|| Arc::new(Semaphore::new(MEMBER_DATAGRAMS_MAX)));
        Route { room: self.room, peer, datagrams: self.datagrams.clone(), share: share.clone() }
    }
}

impl Drop for RoomRoutes {
    fn drop(&mut self) {
        let mut tables = self.routes.write();
        tables.by_question.retain(|_, route| route.room != self.room);
        tables.by_name.retain(|_, route| route.room != self.room);
        tables.by_address.retain(|_, held| held.route.room != self.room);
    }
}

/// The name of the peer that a check of STUN is for.
fn stun_name(bytes: &[u8]) -> Option<&str> {
    let head = bytes.get(..STUN_HEAD_BYTES)?;
    if !head.starts_with(&BINDING_REQUEST) || head.get(4..8)? != COOKIE {
        return None;
    }
    let mut rest = bytes.get(STUN_HEAD_BYTES..)?;
    loop {
        let (kind, length) = (rest.get(..2)?, rest.get(2..4)?);
        let length = usize::from(u16::from_be_bytes(length.try_into().ok()?));
        let value = rest.get(4..4 + length)?;
        if kind == USERNAME {
            return std::str::from_utf8(value).ok()?.split_once(':').map(|(name, _)| name);
        }
        rest = rest.get(4 + length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room_host::member::Side;

    fn peer(member: u64) -> PeerId {
        PeerId(MemberId(member), Side::First)
    }

    /// A check with these attributes.
    fn check(attributes: &[([u8; 2], &[u8])]) -> Vec<u8> {
        let mut bytes = [&BINDING_REQUEST[..], &[0, 0], &COOKIE[..], &[7; 12]].concat();
        for (kind, value) in attributes {
            bytes.extend(kind);
            bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn check_names_its_peer() {
        assert_eq!(stun_name(&check(&[([0, 0x24], &[1; 5]), (USERNAME, b"host:client")])), Some("host"));
        for bad in [
            check(&[]),
            check(&[(USERNAME, b"no-colon")]),
            check(&[(USERNAME, &[0xff, b':'])]),
            [&check(&[])[..], &USERNAME, &[0xff, 0xff], b"a:b"].concat(),
            vec![0; 19],
            vec![22; 100],
            Vec::new(),
        ] {
            assert_eq!(stun_name(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn datagrams_find_their_room_by_name_and_then_by_address() {
        let routes = Arc::new(Routes::default());
        let (first, mut of_first) = mpsc::channel(1);
        let (second, mut of_second) = mpsc::channel(1);
        let mut first = RoomRoutes::new(routes.clone(), 1, first);
        let mut second = RoomRoutes::new(routes.clone(), 2, second);
        let source: SocketAddr = "192.0.2.1:5".parse().unwrap();
        first.add_name("one".into(), peer(1));
        first.add_address(source, peer(1), false);
        let named = check(&[(USERNAME, b"one:x")]);
        routes.deliver(source, &named);
        assert_eq!(of_first.try_recv().unwrap().peer, peer(1));
        // Behind: what does not fit is lost.
        routes.deliver(source, &[22]);
        routes.deliver(source, &[23]);
        assert_eq!(&*of_first.try_recv().unwrap().bytes, [22]);
        assert!(of_first.try_recv().is_err());
        // The address is another room's now, and stays it.
        second.add_address(source, peer(9), false);
        first.forget_address(source, peer(1));
        drop(first);
        routes.deliver(source, &[24]);
        assert_eq!(of_second.try_recv().unwrap().peer, peer(9));
        routes.deliver(source, &named);
        assert!(of_first.try_recv().is_err());
        drop(second);
        assert!(routes.read().by_name.is_empty() && routes.read().by_address.is_empty());
    }

    #[test]
    fn claimed_address_stays_with_the_participant_that_proved_it() {
        let routes = Arc::new(Routes::default());
        let (datagrams, mut received) = mpsc::channel(9);
        let mut room = RoomRoutes::new(routes.clone(), 1, datagrams);
        let source: SocketAddr = "192.0.2.1:5".parse().unwrap();
        let (victim, thief) = (peer(1), peer(2));
        let mut holder = || {
            routes.deliver(source, &[22]);
            received.try_recv().map(|datagram| datagram.peer).ok()
        };
        room.add_address(source, victim, false);
        room.add_address(source, thief, false);
        assert_eq!(holder(), Some(thief), "nobody has proved anything");
        room.add_address(source, victim, false);
        assert_eq!(holder(), Some(victim), "the next check brings it back");
        room.add_address(source, victim, true);
        room.add_address(source, thief, false);
        assert_eq!(holder(), Some(victim));
        room.add_address(source, victim, false);
        room.add_address(source, thief, false);
        room.forget_address(source, thief);
        assert_eq!(holder(), Some(victim), "a check takes no proof back, and a thief forgets nothing of others");
        room.forget_address(source, victim);
        assert_eq!(holder(), None);
        room.add_address(source, thief, false);
        assert_eq!(holder(), Some(thief), "a later client may have the address");
    }

    #[test]
    fn answer_to_a_check_finds_its_participant_whoever_claims_the_address() {
        let routes = Arc::new(Routes::default());
        let (datagrams, mut received) = mpsc::channel(9);
        let mut room = RoomRoutes::new(routes.clone(), 1, datagrams);
        let source: SocketAddr = "192.0.2.1:5".parse().unwrap();
        let (victim, thief) = (peer(1), peer(2));
        let answer = [&[1, 1, 0, 0][..], &COOKIE, &[9; 12]].concat();
        let mut holder = |bytes: &[u8]| {
            routes.deliver(source, bytes);
            received.try_recv().map(|datagram| datagram.peer).ok()
        };
        room.add_address(source, thief, false);
        assert_eq!(holder(&answer), None, "the host has asked nobody");
        room.add_question([9; 12], victim);
        assert_eq!((holder(&answer), holder(&[22])), (Some(victim), Some(thief)));
        room.add_address(source, victim, true);
        room.add_address(source, thief, false);
        assert_eq!(holder(&[22]), Some(victim), "the thief does not hold it");
        room.forget_question([9; 12], thief);
        assert_eq!(holder(&answer), Some(victim));
        room.forget_question([9; 12], victim);
        assert_eq!(holder(&answer), None);
        room.add_question([9; 12], victim);
        drop(room);
        assert!(routes.read().by_question.is_empty());
    }

    #[test]
    fn name_of_another_participant_is_not_forgotten() {
        let routes = Arc::new(Routes::default());
        let (datagrams, mut received) = mpsc::channel(9);
        let mut room = RoomRoutes::new(routes.clone(), 1, datagrams);
        let named = check(&[(USERNAME, b"one:x")]);
        room.add_name("one".into(), peer(2));
        room.forget_name("one", peer(1));
        routes.deliver("192.0.2.1:5".parse().unwrap(), &named);
        assert_eq!(received.try_recv().unwrap().peer, peer(2));
        room.forget_name("one", peer(2));
        routes.deliver("192.0.2.1:5".parse().unwrap(), &named);
        assert!(received.try_recv().is_err());
    }

    #[test]
    fn flood_of_one_participant_leaves_space_for_others() {
        let routes = Arc::new(Routes::default());
        let (datagrams, mut received) = mpsc::channel(2 * MEMBER_DATAGRAMS_MAX);
        let mut room = RoomRoutes::new(routes.clone(), 1, datagrams);
        let address = |last: u8| SocketAddr::from(([192, 0, 2, last], 5));
        (1..=2).for_each(|last| room.add_address(address(last), peer(last.into()), false));
        // The same participant, by another address and its second peer.
        room.add_address(address(3), PeerId(MemberId(1), Side::Second), false);
        (0..MEMBER_DATAGRAMS_MAX).for_each(|_| routes.deliver(address(1), &[22]));
        routes.deliver(address(3), &[22]);
        routes.deliver(address(2), &[22]);
        let mut members: Vec<u64> = std::iter::from_fn(|| received.try_recv().ok()).map(|one| one.peer.0.0).collect();
        assert_eq!((members.len(), members.pop()), (MEMBER_DATAGRAMS_MAX + 1, Some(2)));
        assert!(members.iter().all(|member| *member == 1));
        // What was taken has left its place.
        routes.deliver(address(1), &[22]);
        assert_eq!(received.try_recv().unwrap().peer, peer(1));
    }
}
