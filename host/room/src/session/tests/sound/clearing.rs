//! A track of the agent that is cleared under way, as who hears it has it.

use std::time::Duration;

use tokio::time::Instant;

use super::super::world::World;
use super::{RATE, decoded};
use wasm_worker_core::room::audio::{AudioCommand, AudioEvent, PlayoutState};
use wasm_worker_core::room::event::RoomEvent;

/// Longest time from a clear to silence at the listener.
const SILENT_WITHIN: Duration = Duration::from_millis(100);
/// Largest difference between what the agent is told that was played and what the listener heard.
const POSITION_OFF: Duration = Duration::from_millis(20);
/// The listener's sound is judged in pieces of 2.5 ms.
const PIECE: usize = 40;

/// Where the tone begins and ends: what is louder than a tenth of it. What the codec lets fade is none of it.
fn loud(pcm: &[u8]) -> (Duration, Duration) {
    let samples: Vec<i32> = pcm.as_chunks::<2>().0.iter().map(|sample| i16::from_le_bytes(*sample).into()).collect();
    let is_loud = |piece: &[i32]| piece.iter().any(|sample| sample.abs() > 1_600);
    let pieces: Vec<bool> = samples.chunks(PIECE).map(is_loud).collect();
    let at = |piece: usize| Duration::from_secs(1) * u32::try_from(piece * PIECE).unwrap() / RATE;
    let first = pieces.iter().position(|loud| *loud).unwrap();
    (at(first), at(pieces.iter().rposition(|loud| *loud).unwrap() + 1))
}

#[test]
fn clear_is_silence_at_the_listener_within_100_ms_and_the_position_is_what_was_heard_within_20_ms() {
    for after in [5, 1_000, 1_007, 1_013, 1_019, 1_999].map(Duration::from_millis) {
        let mut world = World::speaking();
        world.says(2, 660.0, Duration::from_secs(4));
        world.pass(after);
        let cleared_at = world.now;
        world.audio(AudioCommand::Clear { id: 2 });
        world.pass(Duration::from_secs(1));
        let told = world.events.iter().find_map(|event| match event {
            RoomEvent::Audio(AudioEvent::Playout { state: PlayoutState::Cleared, played, at, .. }) => {
                Some((*played, Instant::from_std(*at)))
            }
            _ => None,
        });
        let (played, at) = told.unwrap();
        assert_eq!(at, cleared_at);
        // Who hears it plays each packet as it comes.
        let came_at = world.place.as_ref().unwrap().peer.sound[0].at;
        let (begins, ends) = loud(&decoded(&world.sound()));
        let (silent_after, heard) = ((came_at + ends) - cleared_at, ends - begins);
        assert!(silent_after <= SILENT_WITHIN, "{silent_after:?} after the clear at {after:?}");
        println!("a clear at {after:?}: silence {silent_after:?} later; {heard:?} heard, {played:?} told");
        let off = heard.abs_diff(played);
        assert!(off <= POSITION_OFF, "{heard:?} were heard, and {played:?} told, of a clear at {after:?}");
    }
}
