//! What an agent asks of its track, and what must hold for what is sent and told.

use std::time::Duration;

use wasm_worker_core::room::audio::{AudioEvent, Publication, RATES};
use wasm_worker_room::bare::sound::BarePlayout;

/// A step that takes time takes up to 2.55 seconds.
const TICK: Duration = Duration::from_millis(10);
/// Most bytes that wait: 60 s at 48 kHz, one write more, and the marks.
const BYTES_MAX: usize = 60 * 96_000 + 255 * 96 * 4 + 4_096 * 16;

/// The first two bytes are the rate and the rate of bits; then come steps of two bytes: what is asked for, and which.
pub fn run(bytes: &[u8]) {
    let (options, steps) = bytes.split_at(bytes.len().min(2));
    let byte = |at: usize| options.get(at).copied().unwrap_or_default();
    let rate = RATES[usize::from(byte(0)) % RATES.len()];
    let publication = Publication { rate, bits_per_second: u32::from(byte(1)) * 1_000, ..Publication::default() };
    let Ok(playout) = BarePlayout::new(&publication) else { return };
    let mut run = Run { playout, rate, written: 0, marks: 0, reached: 0, last_time: None, is_over: false };
    for step in steps.chunks_exact(2) {
        run.step(step[0], step[1]);
        run.check();
        if run.is_over {
            return;
        }
    }
    run.playout.hold(false);
    run.playout.close();
    run.playout.pass(Duration::from_secs(90));
    run.check();
    assert!(run.playout.is_over(), "a closed track is not over");
    assert_eq!((run.playout.bytes(), run.reached), (0, run.marks));
}

struct Run {
    playout: BarePlayout,
    rate: u32,
    /// Samples that were written.
    written: usize,
    marks: u32,
    reached: u32,
    last_time: Option<u64>,
    /// Whether a call ended the track.
    is_over: bool,
}

impl Run {
    fn step(&mut self, what: u8, which: u8) {
        match what {
            b'w' | b'0' | b'o' => {
                let level = if what == b'0' { 0 } else { which.saturating_mul(3) };
                let samples = usize::from(which) * self.rate as usize / 500;
                let pcm = [[level, level / 2]].repeat(samples).concat();
                let pcm = if what == b'o' { &pcm[..pcm.len().saturating_sub(1)] } else { &pcm[..] };
                match self.playout.write(pcm) {
                    Ok(()) => self.written += pcm.len() / 2,
                    Err(_) => self.is_over = true,
                }
            }
            b'm' => match self.playout.mark(self.marks) {
                Ok(()) => self.marks += 1,
                Err(_) => self.is_over = true,
            },
            b'c' => self.playout.clear(),
            b'h' => self.playout.hold(which % 2 == 0),
            b'q' => self.playout.mute(which % 2 == 0),
            b'n' => self.playout.pass(TICK * which.into()),
            b's' => self.playout.stall(TICK * which.into()),
            b'x' => drop(self.playout.take_writable()),
            _ => {}
        }
    }

    fn check(&mut self) {
        let bytes = self.playout.bytes();
        assert!(bytes <= BYTES_MAX, "{bytes} bytes wait");
        for packet in self.playout.take_packets() {
            let by_clock = packet.after.as_nanos() * 48_000 / 1_000_000_000;
            let late = by_clock.checked_sub(packet.time.into()).expect("a packet is ahead of the clock");
            assert!(late < 960, "a packet is {late} ticks late");
            assert!(self.last_time.is_none_or(|last| packet.time >= last + 960), "packets come in a burst");
            assert!(!packet.payload.is_empty());
            self.last_time = Some(packet.time);
        }
        let written = Duration::from_nanos(self.written as u64 * 1_000_000_000 / u64::from(self.rate));
        while let Some(event) = self.playout.next_event() {
            match event {
                AudioEvent::Playout { played, .. } => {
                    assert!(played <= written, "{played:?} of {written:?} was played")
                }
                AudioEvent::Marked { mark, played, .. } => {
                    assert!(played <= written && mark == self.reached, "mark {mark} after {} others", self.reached);
                    self.reached += 1;
                }
                _ => panic!("{event:?}"),
            }
        }
    }
}
