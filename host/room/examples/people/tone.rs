//! What people say: a tone that is encoded before anybody says it, so that speaking costs them next to nothing.

use std::sync::OnceLock;
use std::time::Duration;

use wasm_worker_room::io::{CodecError, Encode, opus};

/// Samples a second.
pub(crate) const RATE: u32 = 24_000;
/// Sound that is written at once: [`PACKETS`] frames of 20 ms.
pub(crate) const LENGTH: Duration = Duration::from_millis(500);
const PACKETS: usize = 25;
const HZ: f64 = 440.0;
/// Times that the tone is encoded. By the last one the encoder has settled, and its packets follow each other in a circle.
const ROUNDS: usize = 4;

/// [`LENGTH`] of the tone, which is a whole number of its turns.
pub(crate) fn samples() -> Vec<u8> {
    tone().iter().copied().flat_map(i16::to_le_bytes).collect()
}

fn tone() -> &'static [i16] {
    static TONE: OnceLock<Vec<i16>> = OnceLock::new();
    TONE.get_or_init(|| {
        let samples = (0..RATE / 2).map(|at| {
            let angle = std::f64::consts::TAU * HZ * f64::from(at) / f64::from(RATE);
            (angle.sin() * 8_192.0) as i16
        });
        samples.collect()
    })
}

/// The packets of the tone, whatever the frames are.
#[derive(Debug)]
struct Encoded {
    packets: &'static [Vec<u8>],
    next: usize,
}

/// Start to repeat the packets of the tone.
pub(crate) fn encoded(rate: u32, bits_per_second: u32) -> Result<Box<dyn Encode>, CodecError> {
    static PACKETS_OF_TONE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    assert_eq!(rate, RATE, "people say nothing but the tone");
    let packets = PACKETS_OF_TONE.get_or_init(|| {
        let mut encoder = opus(rate, bits_per_second).unwrap();
        let mut encode = |frame| encoder.encode(frame).unwrap();
        let rounds = (0..ROUNDS).map(|_| tone().chunks_exact(tone().len() / PACKETS).map(&mut encode).collect());
        rounds.last().unwrap()
    });
    Ok(Box::new(Encoded { packets, next: 0 }))
}

impl Encode for Encoded {
    fn encode(&mut self, _frame: &[i16]) -> Result<Vec<u8>, CodecError> {
        let packet = &self.packets[self.next];
        self.next = (self.next + 1) % self.packets.len();
        Ok(packet.clone())
    }
}
