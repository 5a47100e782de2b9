//! One connection of TCP to an address of the server. Each datagram is a frame: two bytes of length, then its bytes (RFC 4571).
//!
//! Bounds: [`CONNECT_WITHIN`] until it is open, [`UNSENT_BYTES_MAX`] that wait to be written, [`UNREAD_BYTES_MAX`] that were read and not taken. A frame that is larger than
//! a datagram ends the connection.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::DATAGRAM_BYTES_MAX;

/// Time for a connection to open: half of that for the whole path.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Most bytes that wait to be written. Datagrams beyond them are lost.
const UNSENT_BYTES_MAX: usize = 64 << 10;
/// Most bytes that were read and not taken.
const UNREAD_BYTES_MAX: usize = 16 << 10;
/// Bytes of the length of a frame.
const HEAD_BYTES: usize = 2;

/// A connection, or the attempt to make one.
pub(super) struct TcpPath {
    pub(super) remote: SocketAddr,
    /// The own address, since it was open.
    pub(super) local: Option<SocketAddr>,
    state: TcpState,
}

/// What happened.
pub(super) enum TcpEvent {
    /// It is open, from this own address.
    Open(SocketAddr),
    /// A frame is there.
    Frame,
    /// It is over.
    Lost,
}

enum TcpState {
    Dialling(Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>),
    Open { stream: TcpStream, local: SocketAddr, unread: Vec<u8>, unsent: Vec<u8> },
    Lost,
}

impl TcpPath {
    /// Begin to connect.
    pub(super) fn new(remote: SocketAddr) -> Self {
        Self::within(remote, CONNECT_WITHIN)
    }

    fn within(remote: SocketAddr, most: Duration) -> Self {
        let dialling = async move { timeout(most, TcpStream::connect(remote)).await? };
        Self { remote, local: None, state: TcpState::Dialling(Box::pin(dialling)) }
    }

    /// Send a datagram. Whether there was space for it.
    pub(super) fn send(&mut self, datagram: &[u8]) -> bool {
        let TcpState::Open { stream, unsent, .. } = &mut self.state else { return false };
        let Ok(length) = u16::try_from(datagram.len()) else { return false };
        if unsent.len() + datagram.len() > UNSENT_BYTES_MAX {
            return false;
        }
        unsent.extend_from_slice(&length.to_be_bytes());
        unsent.extend_from_slice(datagram);
        // What cannot be written now is written when the socket has space; an error is found then too.
        if let Ok(written) = stream.try_write(unsent) {
            unsent.drain(..written);
        }
        true
    }

    /// Take a frame, if one is whole: the own address, and the length of what is in the buffer.
    pub(super) fn take(&mut self, buffer: &mut [u8; DATAGRAM_BYTES_MAX]) -> Option<(SocketAddr, usize)> {
        let TcpState::Open { local, unread, .. } = &mut self.state else { return None };
        let length = whole_frame(unread)?;
        let frame = unread.get(HEAD_BYTES..HEAD_BYTES + length)?;
        buffer.get_mut(..length)?.copy_from_slice(frame);
        unread.drain(..HEAD_BYTES + length);
        Some((*local, length))
    }

    /// Read and write what can be, until something has happened.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TcpEvent> {
        let happened = match &mut self.state {
            TcpState::Lost => Poll::Ready(TcpEvent::Lost),
            TcpState::Dialling(dialling) => match dialling.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(stream) => Poll::Ready(self.opened(stream)),
            },
            TcpState::Open { stream, unread, unsent, .. } => {
                if unsent.is_empty() || write(stream, unsent, cx) {
                    read(stream, unread, cx)
                } else {
                    Poll::Ready(TcpEvent::Lost)
                }
            }
        };
        if matches!(happened, Poll::Ready(TcpEvent::Lost)) {
            self.state = TcpState::Lost;
        }
        happened
    }

    fn opened(&mut self, stream: io::Result<TcpStream>) -> TcpEvent {
        let opened = stream.and_then(|stream| {
            stream.set_nodelay(true)?;
            let local = stream.local_addr()?;
            Ok((stream, local))
        });
        match opened {
            Ok((stream, local)) => {
                self.local = Some(local);
                self.state = TcpState::Open { stream, local, unread: Vec::new(), unsent: Vec::new() };
                TcpEvent::Open(local)
            }
            Err(_) => TcpEvent::Lost,
        }
    }
}

/// Whether the connection still stands.
fn write(stream: &TcpStream, unsent: &mut Vec<u8>, cx: &mut Context<'_>) -> bool {
    while !unsent.is_empty() {
        match stream.poll_write_ready(cx) {
            Poll::Pending => return true,
            Poll::Ready(Err(_)) => return false,
            Poll::Ready(Ok(())) => {}
        }
        match stream.try_write(unsent) {
            Ok(0) => return false,
            Ok(written) => drop(unsent.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
    true
}

fn read(stream: &TcpStream, unread: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<TcpEvent> {
    let mut buffer = [0; DATAGRAM_BYTES_MAX + HEAD_BYTES];
    loop {
        if is_too_large(unread) {
            return Poll::Ready(TcpEvent::Lost);
        }
        if whole_frame(unread).is_some() || unread.len() >= UNREAD_BYTES_MAX {
            return Poll::Ready(TcpEvent::Frame);
        }
        if std::task::ready!(stream.poll_read_ready(cx)).is_err() {
            return Poll::Ready(TcpEvent::Lost);
        }
        match stream.try_read(&mut buffer) {
            Ok(0) => return Poll::Ready(TcpEvent::Lost),
            Ok(length) => unread.extend_from_slice(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Poll::Ready(TcpEvent::Lost),
        }
    }
}

/// The length of the first frame, as far as it is known.
fn length_of(unread: &[u8]) -> Option<usize> {
    let head: [u8; HEAD_BYTES] = unread.get(..HEAD_BYTES)?.try_into().ok()?;
    Some(usize::from(u16::from_be_bytes(head)))
}

fn whole_frame(unread: &[u8]) -> Option<usize> {
    length_of(unread).filter(|length| unread.len() >= HEAD_BYTES + length && *length <= DATAGRAM_BYTES_MAX)
}

fn is_too_large(unread: &[u8]) -> bool {
    length_of(unread).is_some_and(|length| length > DATAGRAM_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_whole_or_wait_or_are_too_large() {
        assert_eq!(whole_frame(&[0]), None);
        assert_eq!(whole_frame(&[0, 3, 1, 2]), None);
        assert_eq!(whole_frame(&[0, 3, 1, 2, 3, 0]), Some(3));
        assert_eq!(whole_frame(&[0, 0]), Some(0));
        assert!(!is_too_large(&[7]) && !is_too_large(&[0x07, 0xd0]) && is_too_large(&[0x07, 0xd1]));
    }

    #[tokio::test]
    async fn a_connection_that_does_not_open_is_lost_in_time() {
        // A listener whose queue is full answers nobody.
        let listener = tokio::net::TcpSocket::new_v4().unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let others = std::iter::repeat_with(|| Box::pin(TcpStream::connect(address)));
        let mut others: Vec<_> = others.take(8).collect();
        for other in &mut others {
            drop(futures_util::FutureExt::now_or_never(other));
        }
        let mut path = TcpPath::within(address, Duration::from_millis(50));
        assert!(matches!(std::future::poll_fn(|cx| path.poll(cx)).await, TcpEvent::Lost));
        assert!(path.local.is_none());
    }

    #[tokio::test]
    async fn frames_cross_a_connection_whatever_its_cuts_are() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut path = TcpPath::new(listener.local_addr().unwrap());
        let event = std::future::poll_fn(|cx| path.poll(cx)).await;
        let TcpEvent::Open(local) = event else { panic!("not open") };
        let (mut server, _) = listener.accept().await.unwrap();
        assert!(path.send(b"ab") && path.send(b"c"));
        let mut sent = [0; 7];
        server.read_exact(&mut sent).await.unwrap();
        assert_eq!(&sent, b"\0\x02ab\0\x01c");
        let mut buffer = [0; DATAGRAM_BYTES_MAX];
        for part in [&b"\0"[..], b"\x03x", b"yz\0\x01", b"w"] {
            server.write_all(part).await.unwrap();
            server.flush().await.unwrap();
        }
        for expected in [&b"xyz"[..], b"w"] {
            while path.take(&mut buffer).is_none_or(|(own, length)| (own, &buffer[..length]) != (local, expected)) {
                assert!(matches!(std::future::poll_fn(|cx| path.poll(cx)).await, TcpEvent::Frame));
            }
        }
        server.write_all(&[0xff, 0xff, 0]).await.unwrap();
        assert!(matches!(std::future::poll_fn(|cx| path.poll(cx)).await, TcpEvent::Lost));
    }
}
