//! Tracks that the agent hears and publishes, against the server of the world.

mod publishing;
mod subscribing;

mod attempts;
mod clearing;

mod hostile;

use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use tokio::time::Instant;

use super::world::World;
use crate::audio::codec::opus;
use crate::audio::heard::{Heard, Packet};
use crate::audio::playout::Playout;
use wasm_worker_core::room::audio::options::PublishedOptions;
use wasm_worker_core::room::audio::{AudioCommand, AudioEvent, HeardId, Publication, Rule, Subscription};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;

const FRAME: Duration = Duration::from_millis(20);
const RATE: u32 = 16_000;

/// Packets of a tone.
fn tone(hz: f64, frames: u32) -> Vec<Vec<u8>> {
    let mut now = Instant::now();
    let publication = Publication { rate: RATE, ..Publication::default() };
    let mut playout = Playout::new(1, PublishedOptions::new(&publication).unwrap(), opus, now).unwrap();
    playout.write(&sine(hz, FRAME * frames), now).unwrap();
    let packets = (0..frames).map(|_| {
        let packet = playout.advance(now).unwrap().payload;
        now += FRAME;
        packet
    });
    packets.collect()
}

/// The tone that packets of Opus have, as samples at 16 kHz.
fn decoded(packets: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let mut now = Instant::now();
    let options = Subscription { rate: RATE, ..Subscription::default() };
    let mut heard = Heard::new(HeardId::Asked(1), &options, now).unwrap();
    for (time, payload) in packets {
        heard.receive(Packet { payload, time: *time, contiguous: true }, now);
        now += FRAME;
    }
    heard.end(now);
    let events = std::iter::from_fn(|| heard.next_event());
    let sound = events.filter_map(|event| match event {
        AudioEvent::Frame(frame) => Some(frame.pcm),
        _ => None,
    });
    sound.flatten().collect()
}

/// Samples of a tone at half of full scale.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few seconds, at half of full scale")]
fn sine(hz: f64, length: Duration) -> Vec<u8> {
    let count = (length.as_secs_f64() * f64::from(RATE)).round() as u32;
    let sample = |at: u32| ((std::f64::consts::TAU * hz * f64::from(at) / f64::from(RATE)).sin() * 16_000.0) as i16;
    (0..count).flat_map(|at| sample(at).to_le_bytes()).collect()
}

/// The share of the power that is at one frequency, within 10 Hz, of the sound behind its first 200 ms.
fn share_at(hz: f64, pcm: &[u8]) -> f64 {
    let samples: Vec<f64> =
        pcm.chunks_exact(2).map(|bytes| f64::from(i16::from_le_bytes([bytes[0], bytes[1]]))).skip(3_200).collect();
    assert!(samples.len() > 3_200, "{} samples", samples.len());
    let total: f64 = samples.iter().map(|sample| sample * sample).sum::<f64>();
    let angle = std::f64::consts::TAU * hz / f64::from(RATE);
    let (sin, cos) = samples.iter().zip(0_u32..).fold((0.0, 0.0), |(sin, cos), (sample, at)| {
        let phase = angle * f64::from(at);
        (sin + sample * phase.sin(), cos + sample * phase.cos())
    });
    (sin * sin + cos * cos) * 2.0 / (f64::from(u32::try_from(samples.len()).unwrap()) * total)
}

impl World {
    fn audio(&mut self, command: AudioCommand) {
        self.perform(Command::Audio(command));
    }

    fn publish(&mut self, id: u32) {
        let publication = Publication { name: "voice".into(), rate: RATE, ..Publication::default() };
        self.audio(AudioCommand::Publish { id, publication });
    }

    fn subscribe(&mut self, id: u32, sid: &str) {
        let options = Subscription { rate: RATE, frame: FRAME, ..Subscription::default() };
        self.audio(AudioCommand::Subscribe { id, track_sid: sid.into(), options });
    }

    fn follow(&mut self, id: u32, rule: Rule) {
        let options = Subscription { rate: RATE, frame: FRAME, ..Subscription::default() };
        self.audio(AudioCommand::Follow { id, rule, options });
    }

    /// The server sends these packets of a track, one each 20 ms. `from`: the time of the first.
    fn sends(&mut self, sid: &str, packets: &[Vec<u8>], from: u64) {
        for (packet, number) in packets.iter().zip(0..) {
            if let Some(place) = &mut self.place {
                place.peer.send_sound(sid, from + number * 960, packet, self.now);
            }
            self.pass(FRAME);
        }
    }

    /// The sound of a track that the agent was told.
    fn heard(&self, id: HeardId) -> Vec<u8> {
        let sound = self.events.iter().filter_map(|event| match event {
            RoomEvent::Audio(AudioEvent::Frame(frame)) if frame.id == id => Some(frame.pcm.clone()),
            _ => None,
        });
        sound.flatten().collect()
    }

    /// Requests of one kind that the server was sent.
    fn asked<T>(&self, of: impl Fn(&Request) -> Option<T>) -> Vec<T> {
        self.requests.iter().filter_map(of).collect()
    }

    /// What the server was asked to send, with a sign for whether it was.
    fn subscriptions(&self) -> Vec<String> {
        let signed = |update: &proto::UpdateSubscription| {
            let sign = if update.subscribe { '+' } else { '-' };
            update.track_sids.iter().map(|sid| format!("{sign}{sid}")).collect::<Vec<_>>()
        };
        let all = self.asked(|request| match request {
            Request::Subscription(update) => Some(signed(update)),
            _ => None,
        });
        all.concat()
    }

    fn has_failed(&self, id: u32, code: &str) -> bool {
        self.has_told(|event| matches!(event, RoomEvent::Failed(failure) if failure.id == id && failure.code == code))
    }
}

/// The names of the events of sound and of tracks, without frames.
fn told(world: &World) -> Vec<String> {
    let id = |id: &HeardId| match id {
        HeardId::Asked(id) => id.to_string(),
        HeardId::Followed(id) => format!("f{}", id.0),
    };
    let name = |event: &RoomEvent| {
        Some(match event {
            RoomEvent::Audio(AudioEvent::Started { id: heard, rule, track }) => match rule {
                Some(rule) => format!("started {} of {rule} {}", id(heard), track.sid),
                None => format!("started {} {}", id(heard), track.sid),
            },
            RoomEvent::Audio(AudioEvent::Ended { id: heard }) => format!("ended {}", id(heard)),
            RoomEvent::Audio(AudioEvent::Published { id, track_sid }) => format!("published {id} {track_sid}"),
            RoomEvent::Audio(AudioEvent::Subscribed { id }) => format!("subscribed {id}"),
            RoomEvent::Audio(AudioEvent::Playout { id, state, .. }) => format!("{state:?} {id}"),
            RoomEvent::Audio(AudioEvent::Marked { id, mark, .. }) => format!("marked {id} {mark}"),
            RoomEvent::Audio(_) => return None,
            RoomEvent::TrackUnpublished(track) => format!("gone {}", track.sid),
            RoomEvent::TrackPublished(track) => format!("new {}", track.sid),
            RoomEvent::TrackChanged(track) => format!("changed {} {}", track.sid, track.muted),
            RoomEvent::Lost { what, count, .. } => format!("lost {count} {what}"),
            other => super::told(std::slice::from_ref(other)).remove(0),
        })
    };
    world.events.iter().filter_map(name).collect()
}
