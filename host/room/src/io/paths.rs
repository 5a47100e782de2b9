//! The sockets of a peer connection: UDP on all interfaces, and TCP with frames (RFC 4571) to addresses that the server names.
//!
//! A socket of UDP is bound to no address, and the system chooses the interface for each destination. The own address that ICE needs
//! is the one that this choice leads to.
//!
//! Datagrams of hosts that the server did not name are dropped.
//!
//! Bounds: [`ROUTES_MAX`] destinations, of which the newest are kept; [`TCP_MAX`] connections of TCP, those of a connection in [`tcp`].

mod tcp;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};

use tokio::net::UdpSocket;

use crate::peer::{Datagram, Transport};
use tcp::{TcpEvent, TcpPath};

/// Largest datagram that is read, in bytes: those of WebRTC fit into a packet of the network.
pub(super) const DATAGRAM_BYTES_MAX: usize = 2_000;
/// Most connections of TCP at once.
const TCP_MAX: usize = 4;
/// Most destinations whose own address is kept.
const ROUTES_MAX: usize = 32;

/// The sockets of one peer.
#[derive(Default)]
pub(super) struct Paths {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    tcp: Vec<TcpPath>,
    /// The own address for each address of the server, the oldest first.
    routes: VecDeque<(IpAddr, SocketAddr)>,
    pub(super) datagrams_received: u64,
    pub(super) datagrams_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
}

/// What happened at the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathEvent {
    /// Datagrams may be there.
    Datagrams,
    /// A connection of TCP is open, from this own address.
    Open(SocketAddr),
    /// The connection of TCP to this address of the server is over. `local`: its own address, where it was open.
    Lost { remote: SocketAddr, local: Option<SocketAddr> },
}

impl Paths {
    /// Find the way to an address of the server. The own address is known at once for UDP; for TCP it comes by `ready`.
    pub(super) fn reach(&mut self, transport: Transport, remote: SocketAddr) -> Option<SocketAddr> {
        match transport {
            // A system that refuses a socket has no path by it; others may be found.
            Transport::Udp => self.reach_by_udp(remote).ok(),
            Transport::Tcp => {
                if self.tcp.len() < TCP_MAX {
                    self.tcp.push(TcpPath::new(remote));
                }
                None
            }
        }
    }

    /// Send a datagram. One that the system does not take at once is lost, as any may be.
    pub(super) fn send(&mut self, datagram: &Datagram<Box<[u8]>>) {
        let is_sent = match datagram.transport {
            Transport::Udp => {
                let socket = if datagram.destination.is_ipv4() { &self.v4 } else { &self.v6 };
                socket.as_ref().is_some_and(|it| it.try_send_to(&datagram.bytes, datagram.destination).is_ok())
            }
            Transport::Tcp => {
                let leads =
                    |path: &&mut TcpPath| path.remote == datagram.destination && path.local == Some(datagram.source);
                let path = self.tcp.iter_mut().find(leads);
                path.is_some_and(|path| path.send(&datagram.bytes))
            }
        };
        if is_sent {
            self.datagrams_sent += 1;
            self.bytes_sent += datagram.bytes.len() as u64;
        }
    }

    /// Close the connections of TCP. LiveKit's server knows the peer of a connection by the credentials of ICE that came first on it, so
    /// that none serves a path that is found later.
    pub(super) fn drop_tcp(&mut self) {
        self.tcp.clear();
    }

    /// Close all sockets.
    pub(super) fn clear(&mut self) {
        (self.v4, self.v6) = (None, None);
        self.tcp.clear();
        self.routes.clear();
    }

    /// Wait until something has happened. Nothing is lost where this is dropped.
    pub(super) async fn ready(&mut self) -> PathEvent {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await
    }

    /// Take a datagram, if there is one.
    pub(super) fn take<'a>(&mut self, buffer: &'a mut [u8; DATAGRAM_BYTES_MAX]) -> Option<Datagram<&'a [u8]>> {
        let (transport, source, destination, length) = self.take_into(buffer)?;
        let bytes = buffer.get(..length)?;
        self.datagrams_received += 1;
        self.bytes_received += length as u64;
        Some(Datagram { transport, source, destination, bytes })
    }

    fn take_into(
        &mut self,
        buffer: &mut [u8; DATAGRAM_BYTES_MAX],
    ) -> Option<(Transport, SocketAddr, SocketAddr, usize)> {
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            // An error of UDP tells that an earlier datagram did not arrive. The next one may be there.
            if let Ok((length, source)) = socket.try_recv_from(buffer)
                && let Some(local) = self.local_for(source)
            {
                return Some((Transport::Udp, source, local, length));
            }
        }
        for path in &mut self.tcp {
            if let Some((local, length)) = path.take(buffer) {
                return Some((Transport::Tcp, path.remote, local, length));
            }
        }
        None
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<PathEvent> {
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            if socket.poll_recv_ready(cx).is_ready() {
                return Poll::Ready(PathEvent::Datagrams);
            }
        }
        // One at a time, so that none is overlooked.
        for at in 0..self.tcp.len() {
            let Some(path) = self.tcp.get_mut(at) else { break };
            match path.poll(cx) {
                Poll::Pending => {}
                Poll::Ready(TcpEvent::Frame) => return Poll::Ready(PathEvent::Datagrams),
                Poll::Ready(TcpEvent::Open(local)) => return Poll::Ready(PathEvent::Open(local)),
                Poll::Ready(TcpEvent::Lost) => {
                    let TcpPath { remote, local, .. } = self.tcp.remove(at);
                    return Poll::Ready(PathEvent::Lost { remote, local });
                }
            }
        }
        Poll::Pending
    }

    fn reach_by_udp(&mut self, remote: SocketAddr) -> io::Result<SocketAddr> {
        let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // A socket that is connected to an address has the own address that leads to it. Nothing is sent.
        let probe = std::net::UdpSocket::bind((any, 0))?;
        probe.connect(remote)?;
        let own = probe.local_addr()?.ip();
        let socket = if remote.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let port = match socket {
            Some(socket) => socket.local_addr()?.port(),
            None => {
                let made = std::net::UdpSocket::bind((any, 0))?;
                made.set_nonblocking(true)?;
                socket.insert(UdpSocket::from_std(made)?).local_addr()?.port()
            }
        };
        let local = SocketAddr::new(own, port);
        self.routes.retain(|(other, _)| *other != remote.ip());
        if self.routes.len() >= ROUTES_MAX {
            self.routes.pop_front();
        }
        self.routes.push_back((remote.ip(), local));
        Ok(local)
    }

    /// The own address to which a datagram of this source came; none where the server did not name the source.
    fn local_for(&self, source: SocketAddr) -> Option<SocketAddr> {
        self.routes.iter().find(|(remote, _)| *remote == source.ip()).map(|(_, local)| *local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next datagram: its source and its bytes.
    async fn next(paths: &mut Paths) -> Option<(SocketAddr, Vec<u8>)> {
        assert_eq!(paths.ready().await, PathEvent::Datagrams);
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        paths.take(&mut buffer).map(|datagram| (datagram.source, datagram.bytes.to_vec()))
    }

    #[tokio::test]
    async fn datagrams_of_hosts_that_the_server_did_not_name_are_dropped() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let stranger = UdpSocket::bind("127.0.0.2:0").await.unwrap();
        let mut paths = Paths::default();
        let local = paths.reach(Transport::Udp, server.local_addr().unwrap()).unwrap();
        stranger.send_to(b"stranger", local).await.unwrap();
        assert_eq!(next(&mut paths).await, None);
        server.send_to(b"server", local).await.unwrap();
        assert_eq!(next(&mut paths).await, Some((server.local_addr().unwrap(), b"server".to_vec())));
        assert_eq!((paths.datagrams_received, paths.bytes_received), (1, 6));
    }

    #[tokio::test]
    async fn the_newest_routes_are_kept_one_for_each_address() {
        let mut paths = Paths::default();
        for host in 1..=100_u8 {
            for port in [7, 8] {
                paths.reach(Transport::Udp, ([127, 0, 0, host], port).into()).unwrap();
            }
        }
        assert_eq!(paths.routes.len(), ROUTES_MAX);
        assert!(paths.local_for(([127, 0, 0, 100], 7).into()).is_some());
        assert!(paths.local_for(([127, 0, 0, 1], 7).into()).is_none());
    }

    #[tokio::test]
    async fn datagrams_go_over_the_connection_whose_own_address_they_have() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let remote = listener.local_addr().unwrap();
        let mut paths = Paths::default();
        let sends = |paths: &mut Paths, source| {
            let before = paths.datagrams_sent;
            let (transport, destination, bytes) = (Transport::Tcp, remote, Box::from(*b"x"));
            paths.send(&Datagram { transport, source, destination, bytes });
            paths.datagrams_sent > before
        };
        let mut locals = Vec::new();
        for _ in 0..2 {
            assert_eq!(paths.reach(Transport::Tcp, remote), None);
            let PathEvent::Open(local) = paths.ready().await else { panic!("not open") };
            assert!(sends(&mut paths, local));
            locals.push(local);
            // As at a restart.
            paths.drop_tcp();
        }
        assert!(!sends(&mut paths, locals[1]), "it is closed");
        paths.reach(Transport::Tcp, remote);
        paths.ready().await;
        assert!(!sends(&mut paths, locals[0]), "the address of an older connection");
        (0..100).for_each(|_| assert_eq!(paths.reach(Transport::Tcp, remote), None));
        assert_eq!(paths.tcp.len(), TCP_MAX);
    }
}
