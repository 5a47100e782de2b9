//! The lines on which one participant hears others. Pure.
//!
//! A client offers lines on which it receives; the answer to an offer says which track is on which. To a client that has two peer
//! connections the host offers the lines itself, as if it had asked the client and the client had offered what it was asked for. A
//! line whose track is over has to be answered as empty once before it carries another track, because clients hear of a track only
//! when its line begins to flow. Each track on a line comes from a new source of RTP, because LiveKit's native clients play none that was there before. Where
//! lines are missing the client is asked for them, and offers again.
//!
//! Bounds: the lines of an offer, [`SUBSCRIPTIONS_MAX`] lines that are asked for, and [`ASKS_MAX`] requests without an effect.

use str0m::media::Mid;
use tokio::time::Instant;

use super::limits::SUBSCRIPTIONS_MAX;
use super::peer::Sound;
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
    /// No lines, of a client that waits for the offers of the host.
    pub(super) fn offered_by_the_host() -> Self {
        Self { lines: Vec::new(), asking: Asking { state: Offer::Answered, vain: 0 } }
    }

    /// The names of all lines.
    pub(super) fn mids(&self) -> impl Iterator<Item = Mid> {
        self.lines.iter().map(|line| line.mid)
    }

    /// The client offers to receive on these lines, and is to hear these tracks. Returns the lines that carry another track than before.
    pub(super) fn offered(&mut self, mids: &[Mid], wanted: &[TrackId]) -> Vec<(Mid, TrackId)> {
        self.keep(wanted);
        self.lines.retain(|line| mids.contains(&line.mid));
        let (known, former) = (self.lines.len(), self.lines.iter().filter(|line| line.load == Load::Former).count());
        for mid in mids {
            if self.lines.iter().all(|line| line.mid != *mid) {
                self.lines.push(Line { mid: *mid, load: Load::Nothing, numbers: Numbers::default() });
            }
        }
        let missing = self.missing(wanted);
        let free = self.lines.iter_mut().filter(|line| line.load == Load::Nothing);
        let load = |(line, track): (&mut Line, TrackId)| {
            (line.load, line.numbers) = (Load::Track(track), Numbers::default());
            (line.mid, track)
        };
        let new: Vec<(Mid, TrackId)> = free.zip(missing).map(load).collect();
        for line in self.lines.iter_mut().filter(|line| line.load == Load::Former) {
            line.load = Load::Nothing;
        }
        let is_vain = self.lines.len() == known && former + new.len() == 0;
        let vain = if is_vain { self.asking.vain } else { 0 };
        self.asking = Asking { state: Offer::Answered, vain };
        new
    }

    /// The client is to hear these tracks and no others. Returns whether a line has lost its track.
    pub(super) fn keep(&mut self, wanted: &[TrackId]) -> bool {
        let mut is_taken = false;
        for line in &mut self.lines {
            if matches!(line.load, Load::Track(track) if !wanted.contains(&track)) {
                line.load = Load::Former;
                is_taken = true;
            }
        }
        is_taken
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
        let free = self.lines.iter().filter(|line| !matches!(line.load, Load::Track(_))).count();
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
            Load::Nothing | Load::Former => None,
        })
    }

    /// Those of these tracks that no line carries.
    fn missing(&self, wanted: &[TrackId]) -> Vec<TrackId> {
        wanted.iter().filter(|track| !self.carries(**track)).copied().collect()
    }
}

/// The numbers of the packets of one track on a line. They rise, also where the publisher's source of RTP is another one.
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

/// The first packet of a source of the publisher's, and the step from its numbers to those on the line.
#[derive(Clone, Copy, Debug)]
struct Start {
    source: u32,
    /// The first packet, and the highest one so far.
    first: u64,
    highest: u64,
    /// The number of the first packet on the line, and by how much its times are later there.
    sequence: u64,
    time: u32,
}

impl Numbers {
    /// The number and the time of a packet on the line; none for one from before the first that was sent.
    pub(super) fn of(&mut self, sound: &Sound, now: Instant) -> Option<(u64, u32)> {
        let goes_on =
            |start: &Start| start.source == sound.source && sound.sequence <= start.highest.saturating_add(STEP_MAX);
        let mut start = self.start.filter(goes_on).unwrap_or_else(|| self.begin(sound, now));
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
    fn begin(&self, sound: &Sound, now: Instant) -> Start {
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
        Start { source: sound.source, first, highest, sequence, time }
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

    fn mids(names: &[&str]) -> Vec<Mid> {
        names.iter().map(|name| (*name).into()).collect()
    }

    /// The tracks that are new on a line after an offer of these lines.
    fn offered(lines: &mut Lines, names: &[&str], wanted: &[TrackId]) -> Vec<TrackId> {
        lines.offered(&mids(names), wanted).into_iter().map(|(_, track)| track).collect()
    }

    fn loads(lines: &Lines) -> Vec<(String, TrackId)> {
        lines.loads().map(|(mid, track)| (mid.to_string(), track)).collect()
    }

    #[test]
    fn tracks_come_on_free_lines_and_missing_ones_are_asked_for() {
        let mut lines = Lines::default();
        assert_eq!(lines.request(&[A]), None, "its first offer comes anyway");
        assert_eq!(offered(&mut lines, &["1"], &[A, B]), [A]);
        assert_eq!((lines.request(&[A, B, C]), lines.request(&[A, B, C])), (Some(2), None));
        // An offer that was on its way already.
        assert_eq!(offered(&mut lines, &["1"], &[A, B, C]), []);
        assert_eq!(lines.request(&[A, B, C]), Some(2));
        assert_eq!(offered(&mut lines, &["1", "2", "3"], &[A, B, C]), [B, C]);
        assert_eq!(loads(&lines), [("1".into(), A), ("2".into(), B), ("3".into(), C)]);
        assert_eq!(lines.request(&[A, B, C]), None);
    }

    #[test]
    fn line_of_a_track_that_is_over_is_empty_in_one_answer() {
        let mut lines = Lines::default();
        offered(&mut lines, &["1"], &[A]);
        lines.keep(&[B]);
        assert!(loads(&lines).is_empty() && lines.of(A).is_none());
        assert_eq!(lines.request(&[B]), Some(0), "the line that is there becomes free");
        assert_eq!((offered(&mut lines, &["1"], &[B]), lines.request(&[B])), (vec![], Some(0)));
        assert_eq!((offered(&mut lines, &["1"], &[B]), lines.request(&[B])), (vec![B], None));
    }

    #[test]
    fn numbers_begin_anew_with_each_track() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let number = |lines: &mut Lines, track, sequence| {
            lines.of(track).unwrap().numbers.of(&sound(7, sequence, 0), now).unwrap().0
        };
        offered(&mut lines, &["1"], &[A]);
        assert_eq!((number(&mut lines, A, 10), number(&mut lines, A, 11)), (1, 2));
        offered(&mut lines, &["1"], &[A]);
        assert_eq!(number(&mut lines, A, 12), 3);
        assert!(offered(&mut lines, &["1"], &[B]).is_empty());
        assert_eq!((offered(&mut lines, &["1"], &[B]), number(&mut lines, B, 9)), (vec![B], 1));
        // A line on which the client no longer receives carries nothing.
        offered(&mut lines, &[], &[B]);
        assert!(!lines.carries(B));
    }

    #[test]
    fn client_that_adds_no_lines_is_asked_a_few_times() {
        let mut lines = Lines::default();
        offered(&mut lines, &[], &[A]);
        let asked = |lines: &mut Lines| {
            let ask = |_: &u8| lines.request(&[A]).is_some_and(|_| offered(lines, &[], &[A]).is_empty());
            (0..u8::MAX).take_while(ask).count()
        };
        assert_eq!(asked(&mut lines), usize::from(ASKS_MAX));
        lines.changed();
        assert_eq!(asked(&mut lines), usize::from(ASKS_MAX));
        // One that has as many as any needs is not asked for more.
        let many: Vec<TrackId> = (0..99).map(TrackId).collect();
        let names: Vec<Mid> = (0..SUBSCRIPTIONS_MAX).map(|number| number.to_string().as_str().into()).collect();
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
    fn numbers_rise_across_sources_and_gaps() {
        let (mut numbers, now) = (Numbers::default(), Instant::now());
        assert_eq!(numbers.of(&sound(7, 70_000, 960), now), Some((1, 960)), "the first one begins");
        assert_eq!(numbers.of(&sound(7, 70_002, 2_880), now), Some((3, 2_880)));
        assert_eq!(numbers.of(&sound(7, 70_001, 1_920), now), Some((2, 1_920)), "late ones come too");
        assert_eq!(numbers.of(&sound(7, 69_999, 0), now), None);
        let later = now + Duration::from_millis(100);
        assert_eq!(numbers.of(&sound(8, 5, 50), later), Some((4, 2_880 + 4_800)), "another source");
        assert_eq!(numbers.of(&sound(9, 9, 0), later), Some((5, 7_681)), "another one in the same moment");
        assert_eq!(numbers.of(&sound(9, 10, 960), later), Some((6, 8_641)));
        assert_eq!(numbers.of(&sound(9, 11 + STEP_MAX, 0), later), Some((7, 8_642)), "a gap is no step");
        assert_eq!(numbers.of(&sound(9, 10, 0), later), None);
    }

    #[test]
    fn wild_numbers_make_small_steps() {
        let (mut numbers, now) = (Numbers::default(), Instant::now());
        let mut last = 0;
        for number in 0..10_000_u64 {
            let wild = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (number % 60);
            if let Some((sequence, _)) = numbers.of(&sound(1, wild, 0), now) {
                assert!(sequence <= last + STEP_MAX, "{last} {sequence}");
                last = last.max(sequence);
            }
        }
        assert!(last > 0);
    }
}
