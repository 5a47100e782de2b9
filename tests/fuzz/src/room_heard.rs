//! What a participant sends as sound, and what must hold for what the agent hears of it.

use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::{AudioEvent, Delivery, RATES, Subscription};
use wasm_worker_room::bare::sound::BareHeard;

use crate::parts::parts;

/// A step that takes time takes up to 2.55 seconds.
const TICK: Duration = Duration::from_millis(10);
/// Most bytes that wait: the events, the sound before voice of 2 s at 48 kHz, and one event more.
const BYTES_MAX: usize = (256 << 10) + (192 << 10) + (96 << 10);

/// The first part has the options, one byte for each. A part that begins with `p` is a packet, which comes in order and begins where
/// the last one ended; with `l` one before which another is missing; with `t` one at the time of the next eight bytes. Another part has
/// steps of two bytes: what happens, and which.
pub fn run(bytes: &[u8]) {
    let mut parts = parts(bytes);
    let options = options(parts.next().unwrap_or_default());
    let Ok(heard) = BareHeard::new(&options) else { return };
    let mut run = Run { heard, options, time: 0, story: Story::default() };
    for part in parts {
        match part {
            [b'p', payload @ ..] => run.packet(0, payload, true),
            [b'l', missing, payload @ ..] => run.packet(i64::from(*missing) * 480, payload, false),
            [b't', rest @ ..] if rest.len() >= 8 => {
                let (time, payload) = rest.split_at(8);
                run.time = u64::from_le_bytes(time.try_into().unwrap());
                run.packet(0, payload, true);
            }
            steps => steps.chunks_exact(2).for_each(|step| run.step(step[0], step[1])),
        }
        run.check();
    }
    run.heard.end();
    run.take(usize::MAX);
    assert!(run.story.is_over, "the track did not end");
    assert!(!run.story.speaks, "voice did not end");
    assert_eq!(run.heard.bytes(), 0);
}

fn options(bytes: &[u8]) -> Subscription {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let time = |at: usize| TICK * u32::from(byte(at));
    Subscription {
        rate: RATES[usize::from(byte(0)) % RATES.len()],
        frames: [Delivery::All, Delivery::Voiced, Delivery::None][usize::from(byte(1)) % 3],
        detect_voice: byte(2) % 2 == 0,
        frame: time(3),
        before: time(4),
        after: time(5),
        min_voice: time(6),
        min_silence: time(7),
        level_every: time(8),
        threshold: f64::from(byte(9)) / 200.0,
    }
}

struct Run {
    heard: BareHeard,
    options: Subscription,
    /// The time at which the next packet begins.
    time: u64,
    story: Story,
}

/// What was told so far.
#[derive(Default)]
struct Story {
    last_frame: Option<Instant>,
    last_voice: Option<Instant>,
    speaks: bool,
    is_over: bool,
}

impl Run {
    fn packet(&mut self, step: i64, payload: &[u8], contiguous: bool) {
        self.time = self.time.wrapping_add_signed(step);
        self.heard.receive(payload, self.time, contiguous);
        self.time = self.time.wrapping_add(960);
        self.heard.pass(TICK * 2);
    }

    fn step(&mut self, what: u8, which: u8) {
        match what {
            b'n' => self.heard.pass(TICK * which.into()),
            b'm' => self.heard.mute(which % 2 == 0),
            b'h' => self.heard.hold(which % 2 == 0),
            b's' => self.time = self.time.wrapping_add(u64::from(which) * 960),
            b'b' => self.time = self.time.wrapping_sub(u64::from(which) * 960),
            b'e' => self.take(which.into()),
            _ => {}
        }
        self.check();
    }

    fn check(&self) {
        let bytes = self.heard.bytes();
        assert!(bytes <= BYTES_MAX, "{bytes} bytes wait");
    }

    fn take(&mut self, most: usize) {
        for _ in 0..most {
            let Some(event) = self.heard.next_event() else { return };
            self.story.take(&event, &self.options);
        }
    }
}

impl Story {
    fn take(&mut self, event: &AudioEvent, options: &Subscription) {
        assert!(!self.is_over, "{event:?} after the last event");
        match event {
            AudioEvent::Frame(frame) => {
                let frame_time = if options.frame.is_zero() { TICK * 5 } else { options.frame };
                let unit = frame_time.as_millis() as usize * options.rate as usize / 1_000 * 2;
                assert!(
                    !frame.pcm.is_empty() && frame.pcm.len().is_multiple_of(unit),
                    "{} bytes of {unit}",
                    frame.pcm.len()
                );
                let at = Instant::from_std(frame.at);
                assert!(self.last_frame.is_none_or(|last| at >= last), "`at` goes back");
                self.last_frame = Some(at);
            }
            AudioEvent::Level { level, voice, .. } => {
                assert!((-127.0..=0.0).contains(level) && (0.0..=1.0).contains(voice), "{event:?}");
            }
            AudioEvent::VoiceStarted { at, .. } | AudioEvent::VoiceEnded { at, .. } => {
                let (starts, at) = (matches!(event, AudioEvent::VoiceStarted { .. }), Instant::from_std(*at));
                assert!(starts != self.speaks && self.last_voice.is_none_or(|last| at >= last), "{event:?}");
                self.speaks = starts;
                self.last_voice = Some(at);
            }
            AudioEvent::Ended { .. } => self.is_over = true,
            _ => panic!("{event:?}"),
        }
    }
}
