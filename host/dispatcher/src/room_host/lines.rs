//! The lines on which one participant hears others. Pure.
//!
//! A client offers lines on which it receives; the answer to an offer says which track is on which. A line whose track is over has
//! to be answered as empty once before it carries another track, because clients hear of a track only when its line begins to flow.
//! Where lines are missing the client is asked for them, and offers again.
//!
//! A line keeps its numbers: packets of one track after another have rising numbers and times.
//!
//! Bounds: the lines of an offer, [`SUBSCRIPTIONS_MAX`] lines that are asked for, and [`ASKS_MAX`] requests without an effect.

use str0m::media::Mid;
use tokio::time::Instant;

use super::limits::SUBSCRIPTIONS_MAX;
use super::peer::Sound;
use super::sdp::{Flow, SoundLine};
use super::tracks::TrackId;

/// Most requests for lines that a client leaves without effect.
const ASKS_MAX: u8 = 5;
/// A larger step of the numbers begins anew: the receiver counts the wraps of the 16 bits that packets have.
const STEP_MAX: u64 = 1_000;
/// Ticks of the clock of Opus in a second (RFC 7587).
const TICKS_A_SECOND: u128 = 48_000;

/// What a line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Nothing,
    Track(TrackId),
    /// A track that is over. The client does not know yet that the line is free.
    Former,
    /// Nothing, because the client does not receive on the line now.
    Closed,
}

/// A line on which a client receives.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) mid: Mid,
    load: Load,
    pub(super) numbers: Numbers,
}

/// The lines of one participant.
#[derive(Debug, Default)]
pub(super) struct Lines {
    lines: Vec<Line>,
    asking: Asking,
}

/// The requests to a client for an offer.
#[derive(Clone, Copy, Debug, Default)]
struct Asking {
    state: Offer,
    /// Requests without effect in succession.
    vain: u8,
}

/// The offers of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Offer {
    /// None has come yet. The first one comes unasked.
    #[default]
    First,
    /// The last one is answered.
    Answered,
    /// One was asked for.
    Asked,
}

impl Lines {
    /// The client offers these lines, and is to hear these tracks. Returns the tracks that are new on a line.
    pub(super) fn offered(&mut self, offered: &[SoundLine], wanted: &[TrackId]) -> Vec<TrackId> {
        self.keep(wanted);
        self.lines.retain(|line| offered.iter().any(|one| one.mid == line.mid));
        let former = self.lines.iter().filter(|line| line.load == Load::Former).count();
        let opened = offered.iter().filter(|one| self.open(one)).count();
        let mut new = self.missing(wanted);
        let free = self.lines.iter_mut().filter(|line| line.load == Load::Nothing);
        let loaded = free.zip(&new).map(|(line, track)| line.load = Load::Track(*track)).count();
        new.truncate(loaded);
        for line in self.lines.iter_mut().filter(|line| line.load == Load::Former) {
            line.load = Load::Nothing;
        }
        let vain = if former + opened + loaded == 0 { self.asking.vain } else { 0 };
        self.asking = Asking { state: Offer::Answered, vain };
        new
    }

    /// Take in a line of an offer. Returns whether it is open for tracks, and was not before.
    fn open(&mut self, offered: &SoundLine) -> bool {
        let (receives, known) =
            (offered.flow == Flow::Receives, self.lines.iter_mut().find(|line| line.mid == offered.mid));
        match known {
            // Its numbers stay: the source of RTP that the host sends by is the same later.
            Some(line) if !receives => line.load = Load::Closed,
            Some(line) if line.load == Load::Closed => {
                line.load = Load::Nothing;
                return true;
            }
            Some(_) => {}
            None if receives => {
                self.lines.push(Line { mid: offered.mid, load: Load::Nothing, numbers: Numbers::default() });
                return true;
            }
            None => {}
        }
        false
    }

    /// The client is to hear these tracks and no others.
    pub(super) fn keep(&mut self, wanted: &[TrackId]) {
        for line in &mut self.lines {
            if matches!(line.load, Load::Track(track) if !wanted.contains(&track)) {
                line.load = Load::Former;
            }
        }
    }

    /// The client may not have heard of the last request.
    pub(super) fn forget_request(&mut self) {
        if self.asking.state == Offer::Asked {
            self.asking.state = Offer::Answered;
        }
    }

    /// The number of lines that the client has to add to its next offer for these tracks; none where it need not make one.
    pub(super) fn request(&mut self, wanted: &[TrackId]) -> Option<u32> {
        let missing = self.missing(wanted).len();
        let free = self.lines.iter().filter(|line| matches!(line.load, Load::Nothing | Load::Former)).count();
        let is_due = missing > 0 || self.lines.iter().any(|line| line.load == Load::Former);
        let Asking { state, vain } = self.asking;
        if !is_due || state != Offer::Answered || vain >= ASKS_MAX {
            return None;
        }
        let space = SUBSCRIPTIONS_MAX.saturating_sub(self.lines.len());
        let more = missing.saturating_sub(free).min(space);
        if more == 0 && missing > 0 && free == 0 {
            return None;
        }
        self.asking = Asking { state: Offer::Asked, vain: vain + 1 };
        u32::try_from(more).ok()
    }

    /// What is to be heard has changed, so that another request may have an effect.
    pub(super) const fn changed(&mut self) {
        self.asking.vain = 0;
    }

    /// The line that carries a track.
    pub(super) fn of(&mut self, track: TrackId) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.load == Load::Track(track))
    }

    /// Whether a line carries a track.
    pub(super) fn carries(&self, track: TrackId) -> bool {
        self.lines.iter().any(|line| line.load == Load::Track(track))
    }

    /// The lines that carry tracks.
    pub(super) fn loads(&self) -> impl Iterator<Item = (Mid, TrackId)> {
        self.lines.iter().filter_map(|line| match line.load {
            Load::Track(track) => Some((line.mid, track)),
            Load::Nothing | Load::Former | Load::Closed => None,
        })
    }

    /// Those of these tracks that no line carries.
    fn missing(&self, wanted: &[TrackId]) -> Vec<TrackId> {
        wanted.iter().filter(|track| !self.carries(**track)).copied().collect()
    }
}

/// The numbers of the packets on a line.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    last: Option<Last>,
    start: Option<Start>,
}

/// The last packet that was sent.
#[derive(Clone, Copy, Debug)]
struct Last {
    sequence: u64,
    time: u32,
    at: Instant,
}

/// The first of the packets that are sent, and the step from their numbers to those on the line.
#[derive(Clone, Copy, Debug)]
struct Start {
    /// The source of RTP that the publisher sends by.
    source: u32,
    track: TrackId,
    /// The first packet, and the highest one so far.
    first: u64,
    highest: u64,
    /// The number of the first packet on the line, and by how much its times are later there.
    sequence: u64,
    time: u32,
}

impl Numbers {
    /// The number and the time of a packet on the line; none for one from before the first that was sent.
    pub(super) fn of(&mut self, track: TrackId, sound: &Sound, now: Instant) -> Option<(u64, u32)> {
        let goes_on = |start: &Start| {
            let is_same = (start.track, start.source) == (track, sound.source);
            is_same && sound.sequence <= start.highest.saturating_add(STEP_MAX)
        };
        let mut start = self.start.filter(goes_on).unwrap_or_else(|| self.begin(track, sound, now));
        let sequence = start.sequence + sound.sequence.checked_sub(start.first)?;
        let time = sound.time.wrapping_add(start.time);
        start.highest = start.highest.max(sound.sequence);
        self.start = Some(start);
        if self.last.is_none_or(|last| last.sequence < sequence) {
            self.last = Some(Last { sequence, time, at: now });
        }
        Some((sequence, time))
    }

    /// Begin with a packet. The line goes on with the next number, and with the time by the clock.
    fn begin(&self, track: TrackId, sound: &Sound, now: Instant) -> Start {
        let (sequence, time) = match self.last {
            None => (1, 0),
            Some(last) => {
                let ticks = now.saturating_duration_since(last.at).as_micros() * TICKS_A_SECOND / 1_000_000;
                #[expect(clippy::cast_possible_truncation, reason = "the time of RTP wraps")]
                let time = last.time.wrapping_add(ticks.max(1) as u32);
                (last.sequence + 1, time.wrapping_sub(sound.time))
            }
        };
        let (first, highest) = (sound.sequence, sound.sequence);
        Start { source: sound.source, track, first, highest, sequence, time }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    const A: TrackId = TrackId(1);
    const B: TrackId = TrackId(2);
    const C: TrackId = TrackId(3);

    fn line(mid: &str, flow: Flow) -> SoundLine {
        SoundLine { mid: mid.into(), flow, cid: String::new() }
    }

    fn receiving(names: &[&str]) -> Vec<SoundLine> {
        names.iter().map(|name| line(name, Flow::Receives)).collect()
    }

    fn loads(lines: &Lines) -> Vec<(String, TrackId)> {
        lines.loads().map(|(mid, track)| (mid.to_string(), track)).collect()
    }

    #[test]
    fn tracks_come_on_free_lines_and_missing_ones_are_asked_for() {
        let mut lines = Lines::default();
        assert_eq!(lines.request(&[A]), None, "its first offer comes anyway");
        assert_eq!(lines.offered(&receiving(&["1"]), &[A, B]), [A]);
        assert_eq!((lines.request(&[A, B, C]), lines.request(&[A, B, C])), (Some(2), None));
        // An offer that was on its way already.
        assert_eq!(lines.offered(&receiving(&["1"]), &[A, B, C]), []);
        assert_eq!(lines.request(&[A, B, C]), Some(2));
        assert_eq!(lines.offered(&receiving(&["1", "2", "3"]), &[A, B, C]), [B, C]);
        assert_eq!(loads(&lines), [("1".into(), A), ("2".into(), B), ("3".into(), C)]);
        assert_eq!(lines.request(&[A, B, C]), None);
    }

    #[test]
    fn line_of_a_track_that_is_over_is_empty_in_one_answer() {
        let mut lines = Lines::default();
        lines.offered(&receiving(&["1"]), &[A]);
        lines.keep(&[B]);
        assert!(loads(&lines).is_empty() && lines.of(A).is_none());
        assert_eq!(lines.request(&[B]), Some(0), "the line that is there becomes free");
        assert_eq!((lines.offered(&receiving(&["1"]), &[B]), lines.request(&[B])), (vec![], Some(0)));
        assert_eq!((lines.offered(&receiving(&["1"]), &[B]), lines.request(&[B])), (vec![B], None));
    }

    #[test]
    fn line_that_is_closed_for_a_while_keeps_its_numbers() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        lines.offered(&receiving(&["1"]), &[A]);
        let number =
            |lines: &mut Lines, sequence| lines.of(A).unwrap().numbers.of(A, &sound(7, sequence, 0), now).unwrap().0;
        assert_eq!((number(&mut lines, 10), number(&mut lines, 11)), (1, 2));
        assert_eq!(lines.offered(&[line("1", Flow::Sends)], &[A]), []);
        assert!(!lines.carries(A) && lines.request(&[A]) == Some(1));
        assert_eq!(lines.offered(&receiving(&["1"]), &[A]), [A]);
        assert_eq!(number(&mut lines, 12), 3);
        // A line that is gone for good is another one later.
        lines.offered(&[], &[A]);
        assert_eq!(lines.offered(&receiving(&["1"]), &[A]), [A]);
        assert_eq!(number(&mut lines, 13), 1);
    }

    #[test]
    fn client_that_adds_no_lines_is_asked_a_few_times() {
        let mut lines = Lines::default();
        lines.offered(&[], &[A]);
        let asked = |lines: &mut Lines| {
            let ask = |_: &u8| lines.request(&[A]).is_some_and(|_| lines.offered(&[], &[A]).is_empty());
            (0..u8::MAX).take_while(ask).count()
        };
        assert_eq!(asked(&mut lines), usize::from(ASKS_MAX));
        lines.changed();
        assert_eq!(asked(&mut lines), usize::from(ASKS_MAX));
        // One that has as many as any needs is not asked for more.
        let many: Vec<TrackId> = (0..99).map(TrackId).collect();
        let names: Vec<SoundLine> =
            (0..SUBSCRIPTIONS_MAX).map(|number| line(&number.to_string(), Flow::Receives)).collect();
        lines.changed();
        assert_eq!(lines.request(&many), u32::try_from(SUBSCRIPTIONS_MAX).ok());
        assert_eq!(lines.offered(&names, &many).len(), SUBSCRIPTIONS_MAX);
        assert_eq!(lines.request(&many), None);
    }

    fn sound(source: u32, sequence: u64, time: u32) -> Sound {
        Sound {
            mid: "1".into(),
            source,
            sequence,
            time,
            is_marked: false,
            level_db: None,
            has_voice: None,
            payload: Arc::from([0]),
        }
    }

    #[test]
    fn numbers_rise_across_tracks_sources_and_gaps() {
        let (mut numbers, now) = (Numbers::default(), Instant::now());
        assert_eq!(numbers.of(A, &sound(7, 70_000, 960), now), Some((1, 960)), "the first one begins");
        assert_eq!(numbers.of(A, &sound(7, 70_002, 2_880), now), Some((3, 2_880)));
        assert_eq!(numbers.of(A, &sound(7, 70_001, 1_920), now), Some((2, 1_920)), "late ones come too");
        assert_eq!(numbers.of(A, &sound(7, 69_999, 0), now), None);
        let later = now + Duration::from_millis(100);
        assert_eq!(numbers.of(A, &sound(8, 5, 50), later), Some((4, 2_880 + 4_800)), "another source");
        assert_eq!(numbers.of(B, &sound(9, 9, 0), later), Some((5, 7_681)), "another track in the same moment");
        assert_eq!(numbers.of(B, &sound(9, 10, 960), later), Some((6, 8_641)));
        assert_eq!(numbers.of(B, &sound(9, 11 + STEP_MAX, 0), later), Some((7, 8_642)), "a gap is no step");
        assert_eq!(numbers.of(B, &sound(9, 10, 0), later), None);
    }

    #[test]
    fn wild_numbers_make_small_steps() {
        let (mut numbers, now) = (Numbers::default(), Instant::now());
        let mut last = 0;
        for number in 0..10_000_u64 {
            let wild = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (number % 60);
            if let Some((sequence, _)) = numbers.of(A, &sound(1, wild, 0), now) {
                assert!(sequence <= last + STEP_MAX, "{last} {sequence}");
                last = last.max(sequence);
            }
        }
        assert!(last > 0);
    }
}
