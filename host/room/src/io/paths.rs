//! The sockets of a peer connection: UDP on all interfaces, and TCP with frames (RFC 4571) to addresses that the server names.
//!
//! A socket of UDP is bound to no address, and the system chooses the interface for each destination. The own address that ICE needs
//! is the one that this choice leads to.
//!
//! Bounds: [`ROUTES_MAX`] destinations, [`TCP_MAX`] connections of TCP, those of a connection in [`tcp`].

mod tcp;

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
    /// The own address for each address of the server.
    routes: Vec<(IpAddr, SocketAddr)>,
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
    /// The connection of TCP to this address of the server is over.
    Lost(SocketAddr),
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
                let path = self.tcp.iter_mut().find(|path| path.remote == datagram.destination);
                path.is_some_and(|path| path.send(&datagram.bytes))
            }
        };
        if is_sent {
            self.datagrams_sent += 1;
            self.bytes_sent += datagram.bytes.len() as u64;
        }
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
                Poll::Ready(TcpEvent::Lost) => return Poll::Ready(PathEvent::Lost(self.tcp.remove(at).remote)),
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
        if self.routes.len() < ROUTES_MAX {
            self.routes.push((remote.ip(), local));
        }
        Ok(local)
    }

    /// The own address to which a datagram of this source came.
    fn local_for(&self, source: SocketAddr) -> Option<SocketAddr> {
        let exact = self.routes.iter().find(|(remote, _)| *remote == source.ip());
        let family = || self.routes.iter().find(|(remote, _)| remote.is_ipv4() == source.is_ipv4());
        exact.or_else(family).map(|(_, local)| *local)
    }
}
