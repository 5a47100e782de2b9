//! Agents by our own room crate, which hear and speak.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use wasm_worker_core::room::audio::{AudioCommand, AudioEvent, Publication, Rule, Subscription};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;

use crate::support::{Host, Seen, run};

/// Samples a second.
const RATE: u32 = 48_000;
/// The sound of one write.
const PART: Duration = Duration::from_millis(100);
/// The share of the power that has to be at the frequency of a tone.
const SHARE: f64 = 0.95;
/// Parts of which ten in succession have to be clear.
const PARTS: u32 = 600;

/// Parts of a track that is longer than a subscription may take.
const LONG: u32 = 150;

/// Somebody who speaks a tone and hears another one.
struct Talker {
    seen: Seen,
    hz: u32,
    hears_hz: u32,
    /// The number of its publication.
    mouth: u32,
    /// The last sound that it heard, at most a second.
    heard: Vec<f64>,
}

impl Talker {
    async fn join(host: &Host, identity: &str, hz: u32, hears_hz: u32) -> Self {
        let (seen, _) = host.joined(identity).await;
        let options = Subscription { rate: RATE, frame: PART, ..Subscription::default() };
        seen.perform(Command::Audio(AudioCommand::Follow { id: 50, rule: Rule::default(), options }));
        let mut talker = Self { seen, hz, hears_hz, mouth: 50, heard: Vec::new() };
        talker.publish();
        talker
    }

    fn publish(&mut self) {
        self.mouth += 1;
        let publication =
            Publication { name: "voice".into(), source: "microphone".into(), rate: RATE, bits_per_second: 0 };
        self.seen.perform(Command::Audio(AudioCommand::Publish { id: self.mouth, publication }));
    }

    /// Write the part of the tone with this number.
    fn speak(&self, part: u32) {
        let samples = u32::try_from(PART.as_millis()).unwrap() * RATE / 1_000;
        let sample = |number: u32| {
            let angle = f64::from(number) * f64::from(self.hz) * std::f64::consts::TAU / f64::from(RATE);
            #[expect(clippy::cast_possible_truncation, reason = "the tone is a quarter of the scale")]
            let sample = (angle.sin() * 8_192.0) as i16;
            sample.to_le_bytes()
        };
        let pcm = (part * samples..(part + 1) * samples).flat_map(sample).collect();
        self.seen.perform(Command::Audio(AudioCommand::Write { id: self.mouth, pcm }));
    }

    fn take(&mut self, event: RoomEvent) {
        if let RoomEvent::Audio(AudioEvent::Frame(frame)) = event {
            let samples = frame.pcm.chunks_exact(2).map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]])));
            self.heard.extend(samples);
            let surplus = self.heard.len().saturating_sub(RATE as usize);
            self.heard.drain(..surplus);
        }
    }

    /// The share of the power of the last second at the frequency that it hears.
    fn share(&self) -> f64 {
        if self.heard.len() < RATE as usize {
            return 0.0;
        }
        let step = f64::from(self.hears_hz) * std::f64::consts::TAU / f64::from(RATE);
        let windows = self.heard.chunks_exact(RATE as usize / 10);
        let (mut at_hz, mut all) = (0.0, 1.0);
        for window in windows {
            let (mut sine, mut cosine) = (0.0, 0.0);
            for (number, sample) in (0..).zip(window) {
                let angle = step * f64::from(number);
                sine += sample * angle.sin();
                cosine += sample * angle.cos();
            }
            at_hz += 2.0 / window.len() as f64 * (sine * sine + cosine * cosine);
            all += window.iter().map(|sample| sample * sample).sum::<f64>();
        }
        at_hz / all
    }
}

/// Have both speak until each hears the other one clearly.
async fn talk(one: &mut Talker, other: &mut Talker) {
    let mut clock = interval(PART);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    one.heard.clear();
    other.heard.clear();
    let mut part = 0;
    while one.share() < SHARE || other.share() < SHARE {
        tokio::select! {
            event = one.seen.room.next() => one.take(event.expect("the room goes on")),
            event = other.seen.room.next() => other.take(event.expect("the room goes on")),
            _ = clock.tick() => {
                part += 1;
                assert!(part < PARTS, "heard {} and {}", one.share(), other.share());
                one.speak(part);
                other.speak(part);
            }
        }
    }
}

#[test]
fn agents_hear_each_other_also_after_a_cut_of_the_link() {
    run(async |host: Host| {
        let mut agent = Talker::join(&host, "agent", 440, 660).await;
        let mut ann = Talker::join(&host, "ann", 660, 440).await;
        talk(&mut agent, &mut ann).await;
        host.network.cut();
        for talker in [&mut agent, &mut ann] {
            talker.seen.until(|event| matches!(event, RoomEvent::Connected { .. })).await;
        }
        talk(&mut agent, &mut ann).await;
    });
}

/// A line that carries a second track takes what its packets say anew: their numbers begin where those of the first one began.
#[test]
fn second_track_on_a_line_is_heard_at_once() {
    run(async |host: Host| {
        let mut agent = Talker::join(&host, "agent", 440, 660).await;
        let mut ann = Talker::join(&host, "ann", 660, 440).await;
        agent.seen.perform(Command::Cancel { id: agent.mouth });
        hear(&mut agent, &mut ann, LONG).await;
        ann.seen.perform(Command::Cancel { id: ann.mouth });
        agent.seen.until(|event| matches!(event, RoomEvent::Audio(AudioEvent::Ended { .. }))).await;
        ann.publish();
        let parts = hear(&mut agent, &mut ann, 0).await;
        assert!(parts < LONG, "it is heard after {parts} parts");
    });
}

/// Have one speak until another hears it clearly, and at least so many parts. Returns how many there were.
async fn hear(ear: &mut Talker, mouth: &mut Talker, at_least: u32) -> u32 {
    let (mut clock, mut part) = (interval(PART), 0);
    ear.heard.clear();
    while ear.share() < SHARE || part < at_least {
        tokio::select! {
            event = ear.seen.room.next() => ear.take(event.expect("the room goes on")),
            event = mouth.seen.room.next() => drop(event.expect("the room goes on")),
            _ = clock.tick() => {
                part += 1;
                assert!(part < PARTS, "heard {}", ear.share());
                mouth.speak(part);
            }
        }
    }
    part
}
