//! What participants send over the data channels of a room, and what must hold for what the agent is told.

use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::data_packet::Value;
use wasm_worker_core::room::command::{Command, IncomingId, Receipt, RpcError, SendOptions, Transcription};
use wasm_worker_room::bare::BareStreams;

use crate::parts::parts;
use crate::room_story::Story;

/// A step that takes time takes up to 26 seconds.
const TICK: Duration = Duration::from_millis(100);
/// Most bytes that wait: those of the agent's calls, of others, and of answers, each with the last one that passed the check.
const BYTES_MAX: usize = 40 << 20;
/// Largest packet that a data channel takes.
const PACKET_BYTES_MAX: usize = 65_535;

/// A part that begins with `p` is a packet of the reliable channel, and with `q` one of the lossy channel. A part that begins with
/// `h` is the header of a stream, from the sender of the next byte; with `c` a chunk, and with `z` a trailer of one of its streams.
/// Another part has steps of two bytes: what happens, and which.
pub fn run(bytes: &[u8]) {
    let mut run =
        Run { streams: BareStreams::default(), story: Story::default(), next_id: 1, last: 0, headers: Vec::new() };
    for part in parts(bytes) {
        match part {
            [b'p', packet @ ..] => drop(run.streams.receive(packet, true)),
            [b'q', packet @ ..] => drop(run.streams.receive(packet, false)),
            [b'h', sender, header @ ..] => run.header(*sender, header),
            [b'c', which, content @ ..] => run.chunk(*which, content),
            [b'z', which, reason @ ..] => run.trailer(*which, reason),
            steps => steps.chunks_exact(2).for_each(|step| run.step(step[0], step[1])),
        }
        run.check();
    }
    run.finish();
}

struct Run {
    streams: BareStreams,
    story: Story,
    next_id: u32,
    /// The last operation that is written in parts.
    last: u32,
    /// The stream and the sender of each header that was a header, with the number of its next chunk.
    headers: Vec<(String, u8, u64)>,
}

impl Run {
    fn header(&mut self, sender: u8, header: &[u8]) {
        let Ok(header) = proto::data_stream::Header::decode(header) else { return };
        self.headers.push((header.stream_id.clone(), sender, 0));
        self.receive(sender, Value::StreamHeader(header));
    }

    fn chunk(&mut self, which: u8, content: &[u8]) {
        let count = self.headers.len();
        let Some(at) = usize::from(which).checked_rem(count) else { return };
        let (stream_id, sender, next) = &mut self.headers[at];
        let (stream_id, sender, chunk_index) = (stream_id.clone(), *sender, *next);
        self.headers[at].2 += 1;
        let chunk = proto::data_stream::Chunk { stream_id, chunk_index, content: content.into(), ..Default::default() };
        self.receive(sender, Value::StreamChunk(chunk));
    }

    fn trailer(&mut self, which: u8, reason: &[u8]) {
        let count = self.headers.len();
        let Some(at) = usize::from(which).checked_rem(count) else { return };
        let (stream_id, sender, _) = self.headers[at].clone();
        let reason = String::from_utf8_lossy(reason).into_owned();
        let attributes = [("a".to_owned(), reason.clone())].into();
        self.receive(sender, Value::StreamTrailer(proto::data_stream::Trailer { stream_id, reason, attributes }));
    }

    fn receive(&mut self, sender: u8, value: Value) {
        let packet = proto::DataPacket {
            participant_sid: format!("PA_{sender}"),
            participant_identity: format!("p{sender}"),
            value: Some(value),
            ..Default::default()
        };
        assert!(self.streams.receive(&packet.encode_to_vec(), true));
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of packet and command")]
    fn step(&mut self, what: u8, which: u8) {
        let size = usize::from(which) * 200;
        let options = || SendOptions { destinations: vec![format!("p{}", which % 4)], ..SendOptions::default() };
        let topic = || "t".to_owned();
        match what {
            b's' => {
                self.begin(|id| Command::SendText { id, topic: topic(), text: "x".repeat(size), options: options() })
            }
            b'f' => self.begin(|id| Command::SendFile {
                id,
                topic: topic(),
                name: "f".into(),
                mime_type: String::new(),
                bytes: vec![0; size],
                options: options(),
            }),
            b'o' => {
                self.last = self.next_id;
                self.begin(|id| Command::OpenText { id, topic: topic(), options: options() });
            }
            b'O' => {
                self.last = self.next_id;
                let transcription = || Transcription { speaker: format!("p{which}"), ..Transcription::default() };
                self.begin(|id| Command::OpenTranscription { id, options: transcription() });
            }
            b'w' => self.streams.perform(Command::WriteText { id: self.last, text: "ä".repeat(size) }),
            b'c' => self.streams.perform(Command::CloseStream { id: self.last, attributes: Vec::new() }),
            b'd' => self.begin(|id| Command::SendData {
                id: Some(id),
                topic: topic(),
                payload: vec![1; size],
                destinations: Vec::new(),
            }),
            b'D' => self.streams.perform(Command::SendData {
                id: None,
                topic: topic(),
                payload: vec![1; size],
                destinations: Vec::new(),
            }),
            b'r' => self.begin(|id| Command::Call {
                id,
                destination: format!("p{}", which % 4),
                method: "m".into(),
                payload: "x".repeat(size),
                timeout: TICK * which.into(),
            }),
            b'a' | b'e' => {
                if let Some(request) = self.story.nth_incoming(which) {
                    self.answer(request, what == b'a');
                }
            }
            b'x' => {
                let id = self.next_id.saturating_sub(u32::from(which) % 4 + 1);
                self.story.give_up(id);
                self.streams.perform(Command::Cancel { id });
            }
            b'X' => {
                if let Some(id) = self.story.nth_incoming(which) {
                    self.story.forget(id);
                    self.streams.perform(Command::CancelIncoming { id });
                }
            }
            b't' => {
                if let Some(id) = self.story.nth_incoming(which) {
                    self.streams.perform(Command::Taken { id, bytes: size });
                }
            }
            b'R' => {
                let receipt = [Receipt::Whole, Receipt::Parts, Receipt::None][usize::from(which) % 3];
                let topic = if which < 128 { String::new() } else { topic() };
                self.streams.perform(Command::Receive { topic, receipt });
            }
            b'k' => self.streams.drain(size),
            b'g' => self.streams.resume(which.into()),
            b'j' => self.streams.rejoin(),
            b'l' => self.streams.participant_leaves(&format!("PA_{which}"), &format!("p{which}")),
            b'n' => self.streams.pass(TICK * which.into()),
            _ => {}
        }
        self.check();
    }

    fn begin(&mut self, command: impl FnOnce(u32) -> Command) {
        let id = self.next_id;
        self.next_id += 1;
        self.story.begin(id);
        self.streams.perform(command(id));
    }

    fn answer(&mut self, request: IncomingId, well: bool) {
        let error = || RpcError { code: 7, message: "no".into(), data: String::new() };
        let answer = if well { Ok("yes".into()) } else { Err(error()) };
        if self.story.is_request(request) {
            self.story.forget(request);
            self.streams.perform(Command::Answer { request, answer });
        }
    }

    fn check(&mut self) {
        while let Some((_, packet)) = self.streams.next_packet() {
            assert!(packet.len() <= PACKET_BYTES_MAX, "a packet has {} bytes", packet.len());
        }
        while let Some(event) = self.streams.next_event() {
            self.story.take(&event);
        }
        let bytes = self.streams.bytes();
        assert!(bytes <= BYTES_MAX, "{bytes} bytes wait");
    }

    /// Whatever happened, nothing is open once the room is left.
    fn finish(mut self) {
        self.streams.leave();
        self.check();
        assert!(self.story.is_quiet(), "something is open in a room that is left");
        self.streams.pass(Duration::from_secs(3_600));
        self.check();
    }
}
