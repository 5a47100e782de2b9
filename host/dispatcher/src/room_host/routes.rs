//! Which participant of which room a datagram is for. All rooms share one socket.
//!
//! The first datagrams of a client name the peer that they want: the user name of STUN begins with the name in the host's answer.
//! Its other datagrams are known by their source, once the peer has sent something there, which it does only after it has checked
//! the secret in a datagram of STUN.
//!
//! Bounds: those of the participants, each of which has a few names and addresses.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::mpsc;

use super::input::Datagram;
use super::member::MemberId;

/// The head of a STUN message, in bytes.
const STUN_HEAD_BYTES: usize = 20;
/// The type of a request for a check, and the cookie of every message (RFC 8489).
const BINDING_REQUEST: [u8; 2] = [0x00, 0x01];
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// The attribute with the user name.
const USERNAME: [u8; 2] = [0x00, 0x06];

/// The way to a participant.
#[derive(Clone, Debug)]
struct Route {
    room: u64,
    member: MemberId,
    datagrams: mpsc::Sender<Datagram>,
}

#[derive(Debug, Default)]
struct Tables {
    by_name: HashMap<String, Route>,
    by_address: HashMap<SocketAddr, Route>,
}

/// The ways to all participants.
#[derive(Debug, Default)]
pub(super) struct Routes(RwLock<Tables>);

impl Routes {
    /// Give a datagram to its room. One that nobody waits for, or whose room is behind, is lost, as any may be.
    pub(super) fn deliver(&self, source: SocketAddr, bytes: &[u8]) {
        let route = {
            let tables = self.read();
            match stun_name(bytes) {
                Some(name) => tables.by_name.get(name).cloned(),
                None => tables.by_address.get(&source).cloned(),
            }
        };
        if let Some(Route { member, datagrams, .. }) = route {
            drop(datagrams.try_send(Datagram { member, source, bytes: bytes.into() }));
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
    names: HashSet<String>,
    addresses: HashSet<SocketAddr>,
}

impl RoomRoutes {
    /// No routes yet, of the room with this number.
    pub(super) fn new(routes: Arc<Routes>, room: u64, datagrams: mpsc::Sender<Datagram>) -> Self {
        Self { routes, room, datagrams, names: HashSet::new(), addresses: HashSet::new() }
    }

    pub(super) fn add_name(&mut self, name: String, member: MemberId) {
        let route = self.route(member);
        self.routes.write().by_name.insert(name.clone(), route);
        self.names.insert(name);
    }

    pub(super) fn add_address(&mut self, address: SocketAddr, member: MemberId) {
        let route = self.route(member);
        self.routes.write().by_address.insert(address, route);
        self.addresses.insert(address);
    }

    pub(super) fn forget_name(&mut self, name: &str) {
        self.names.remove(name);
        forget(&mut self.routes.write().by_name, name, self.room);
    }

    pub(super) fn forget_address(&mut self, address: SocketAddr) {
        self.addresses.remove(&address);
        forget(&mut self.routes.write().by_address, &address, self.room);
    }

    fn route(&self, member: MemberId) -> Route {
        Route { room: self.room, member, datagrams: self.datagrams.clone() }
    }
}

impl Drop for RoomRoutes {
    fn drop(&mut self) {
        let mut tables = self.routes.write();
        self.names.iter().for_each(|name| forget(&mut tables.by_name, name, self.room));
        self.addresses.iter().for_each(|address| forget(&mut tables.by_address, address, self.room));
    }
}

/// Remove an entry, unless it is another room's by now.
fn forget<K, Q>(table: &mut HashMap<K, Route>, key: &Q, room: u64)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if table.get(key).is_some_and(|route| route.room == room) {
        table.remove(key);
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
        first.add_name("one".into(), MemberId(1));
        first.add_address(source, MemberId(1));
        let named = check(&[(USERNAME, b"one:x")]);
        routes.deliver(source, &named);
        assert_eq!(of_first.try_recv().unwrap().member, MemberId(1));
        // Behind: what does not fit is lost.
        routes.deliver(source, &[22]);
        routes.deliver(source, &[23]);
        assert_eq!(&*of_first.try_recv().unwrap().bytes, [22]);
        assert!(of_first.try_recv().is_err());
        // The address is another room's now, and stays it.
        second.add_address(source, MemberId(9));
        first.forget_address(source);
        drop(first);
        routes.deliver(source, &[24]);
        assert_eq!(of_second.try_recv().unwrap().member, MemberId(9));
        routes.deliver(source, &named);
        assert!(of_first.try_recv().is_err());
        drop(second);
        assert!(routes.read().by_name.is_empty() && routes.read().by_address.is_empty());
    }
}
