//! The room of a running job, and who is in it, in words.

use std::time::Duration;

use bytesize::ByteSize;
use wasm_worker_core::job::{Present, RoomState, RoomStatus, Tracks};
use wasm_worker_core::text::{one_line, plural};
use wasm_worker_core::usage::{AudioUse, RoomUse};

use super::table::time;

/// The state, and the first of the others, in a few words.
pub(super) fn text(RoomStatus { state, others, present, .. }: &RoomStatus) -> String {
    if *others == 0 {
        let alone = if *state == RoomState::Joined { ", alone" } else { "" };
        return format!("{}{alone}", state.as_str());
    }
    let names: Vec<_> = present.iter().map(|who| one_line(&who.identity)).collect();
    let more = others.saturating_sub(present.len());
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{} with {}{more}", state.as_str(), names.join(", "))
}

/// A line for the connection, and one for each participant.
pub(super) fn lines(status: &RoomStatus) -> Vec<String> {
    let RoomStatus { state, others, present, used, tracks } = status;
    let RoomUse { stayed_ms, resumes, rejoins, packets_received, packets_sent, bytes_received, bytes_sent, audio } =
        used;
    let mut first = format!("  room     {}", state.as_str());
    if matches!(state, RoomState::Joined | RoomState::Reconnecting) {
        let [received, sent] = [bytes_received, bytes_sent].map(|bytes| ByteSize::b(*bytes).display().iec());
        first.push_str(&format!(
            " for {}, {packets_received} packets ({received}) received, {packets_sent} ({sent}) sent, {resumes} resumes, {rejoins} rejoins",
            time(Duration::from_millis(*stayed_ms))
        ));
    }
    let line = |Present { identity, kind, state }: &Present| {
        let [identity, kind, state] = [identity, kind, state].map(|text| one_line(text));
        format!("  present  {identity} ({kind}, {state})")
    };
    let more = others.saturating_sub(present.len());
    let more = (more > 0).then(|| format!("  present  {more} more"));
    std::iter::once(first).chain(sound(*tracks, audio)).chain(present.iter().map(line)).chain(more).collect()
}

/// A line for the sound, where there was any.
fn sound(Tracks { heard, published }: Tracks, used: &AudioUse) -> Option<String> {
    if heard == 0 && published == 0 && used.is_empty() {
        return None;
    }
    let AudioUse { heard_ms, spoken_ms, concealed_ms, dropped_ms, packets_lost, frames_late, jitter_us, .. } = used;
    let [heard_for, spoken_for, concealed, dropped] =
        [heard_ms, spoken_ms, concealed_ms, dropped_ms].map(|millis| time(Duration::from_millis(*millis)));
    Some(format!(
        "  sound    hears {}, publishes {}; heard {heard_for}, spoke {spoken_for}; {packets_lost} packets lost, {concealed} concealed, \
         {dropped} dropped, {frames_late} frames late, jitter {}",
        plural(count(heard), "track"),
        plural(count(published), "track"),
        time(Duration::from_micros(*jitter_us))
    ))
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: RoomState, others: usize, identities: &[&str]) -> RoomStatus {
        let present = identities.iter().map(|identity| Present {
            identity: (*identity).into(),
            kind: "standard".into(),
            state: "active".into(),
        });
        RoomStatus { state, others, present: present.collect(), ..RoomStatus::default() }
    }

    #[test]
    fn a_few_words_name_the_state_and_the_first_of_the_others() {
        assert_eq!(text(&status(RoomState::Joining, 0, &[])), "joining");
        assert_eq!(text(&status(RoomState::Joined, 0, &[])), "joined, alone");
        assert_eq!(text(&status(RoomState::Joined, 2, &["ann", "b\nob"])), "joined with ann, b ob");
        assert_eq!(text(&status(RoomState::Reconnecting, 5, &["ann"])), "reconnecting with ann and 4 more");
    }

    #[test]
    fn every_participant_that_is_known_has_a_line_and_the_others_are_counted() {
        assert_eq!(lines(&status(RoomState::Out, 0, &[])), ["  room     out"]);
        let mut joined = status(RoomState::Joined, 3, &["ann"]);
        joined.used = RoomUse { stayed_ms: 12_000, packets_sent: 3, bytes_sent: 2_048, ..RoomUse::default() };
        let expected = [
            "  room     joined for 12s, 0 packets (0 B) received, 3 (2.0 KiB) sent, 0 resumes, 0 rejoins",
            "  present  ann (standard, active)",
            "  present  2 more",
        ];
        assert_eq!(lines(&joined), expected);
    }

    #[test]
    fn sound_has_a_line() {
        let mut joined = status(RoomState::Joined, 0, &[]);
        joined.tracks = Tracks { heard: 2, published: 1 };
        joined.used.audio = AudioUse { heard_ms: 90_000, packets_lost: 3, jitter_us: 4_000, ..AudioUse::default() };
        let line = "  sound    hears 2 tracks, publishes 1 track; heard 1m30s, spoke 0ms; 3 packets lost, 0ms concealed, 0ms dropped, \
                    0 frames late, jitter 4ms";
        assert_eq!(lines(&joined)[1], line);
    }
}
