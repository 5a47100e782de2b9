//! Notes since when a worker has sent half a message. The WebSocket itself tells nobody.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

/// A connection whose incoming frames are followed.
pub(super) struct Followed<S> {
    inner: S,
    position: Position,
}

/// The position in the frames of the worker.
#[derive(Default)]
struct Position {
    /// The part of a frame's header that has arrived.
    header: Vec<u8>,
    /// Bytes of the frame's payload that have not arrived.
    payload_left: u64,
    /// Whether a message has begun whose last frame has not.
    message_open: bool,
    /// The time since which a frame or a message is incomplete.
    since: Option<Instant>,
}

impl<S> Followed<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, position: Position::default() }
    }

    /// The time since which half a message waits for the other half.
    pub(super) fn half_since(&self) -> Option<Instant> {
        self.position.since
    }
}

impl Position {
    fn follow(&mut self, now: Instant, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first() {
            if self.payload_left > 0 {
                let skipped = bytes.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
                self.payload_left -= skipped as u64;
                bytes = bytes.get(skipped..).unwrap_or_default();
            } else {
                self.header.push(*first);
                bytes = rest;
                // Otherwise the header is not complete, or the WebSocket refuses it.
                if let Ok(Some((header, payload))) = FrameHeader::parse(&mut Cursor::new(&self.header)) {
                    self.begin(&header, payload);
                }
            }
            let complete = self.payload_left == 0 && self.header.is_empty() && !self.message_open;
            self.since = if complete { None } else { self.since.or(Some(now)) };
        }
    }

    fn begin(&mut self, header: &FrameHeader, payload: u64) {
        self.header.clear();
        self.payload_left = payload;
        // Frames of control may arrive between those of a message.
        if let OpCode::Data(_) = header.opcode {
            self.message_open = !header.is_final;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Followed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        if read.is_ready() {
            self.position.follow(Instant::now(), buffer.filled().get(filled..).unwrap_or_default());
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Followed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The masked frame of a client: the first byte, and a payload of this length.
    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let length = match payload {
            0..126 => vec![0x80 | u8::try_from(payload).unwrap()],
            _ => [&[0x80 | 126][..], &u16::try_from(payload).unwrap().to_be_bytes()].concat(),
        };
        [&[first][..], &length, &[0; 4], &vec![7; payload]].concat()
    }

    const TEXT: u8 = 0x81;
    const TEXT_BEGINS: u8 = 0x01;
    const TEXT_ENDS: u8 = 0x80;
    const PONG: u8 = 0x8a;

    #[test]
    fn half_a_frame_is_noted_from_its_first_byte_to_its_last() {
        let begin = Instant::now();
        for whole in [frame(TEXT, 0), frame(TEXT, 5), frame(TEXT, 300), frame(PONG, 2)] {
            let mut position = Position::default();
            for (index, byte) in whole.iter().enumerate() {
                position.follow(begin + Duration::from_secs(index as u64), &[*byte]);
                assert_eq!(position.since, (index + 1 < whole.len()).then_some(begin), "{index} of {}", whole.len());
            }
            position.follow(begin, &[whole.clone(), whole].concat());
            assert_eq!(position.since, None, "at once");
        }
    }

    #[test]
    fn message_in_fragments_is_open_until_its_last_frame_whatever_is_between() {
        let begin = Instant::now();
        let mut position = Position::default();
        position.follow(begin, &frame(TEXT_BEGINS, 9));
        for seconds in 1..5 {
            position.follow(begin + Duration::from_secs(seconds), &frame(PONG, 0));
            assert_eq!(position.since, Some(begin));
        }
        position.follow(begin, &frame(TEXT_ENDS, 9));
        assert_eq!(position.since, None);
    }
}
