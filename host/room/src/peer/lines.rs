//! The lines of a peer for sound: which there are, what goes over them, and the offers that ask for them.
//!
//! A line is a section of the offer. It may carry one track of the agent, one track of somebody else, or both; a free one waits for a
//! track. No line ever goes away, so that those that are free are used again. One offer is open at a time: what is wanted meanwhile goes
//! into the next one. A line that carried a track of the agent carries another one only after an offer without the first: a server takes
//! what comes over the same line without a break for the same track.
//!
//! Bounds: [`LINES_MAX`] lines.

use std::collections::HashMap;

use str0m::Rtc;
use str0m::change::SdpApi;
use str0m::media::{Direction, MediaKind, Mid};
use tokio::time::Instant;

use super::order::{Order, SoundPacket};

/// Most lines of one peer: four tracks of the agent, sixteen that it hears, and some that the server asks for and does not use.
pub(crate) const LINES_MAX: usize = 32;

/// The stream that the tracks of the agent are part of.
const STREAM: &str = "agent";

/// A line of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineId(usize);

/// All lines of a peer.
#[derive(Debug, Default)]
pub(super) struct Lines {
    all: Vec<Line>,
    /// Free lines that the server wants more of.
    wanted: usize,
    /// The server wants an offer, whether anything changes by it or not.
    again: bool,
}

#[derive(Debug)]
struct Line {
    stage: Stage,
    /// The name in the offer of the agent's track that goes out.
    own: Option<String>,
    /// The track that the server sends, by its newest answer.
    track: Option<String>,
    /// The packets of that track.
    order: Order,
    /// The direction in the newest offer. The answer may give less, which is no reason to offer again.
    offered: Direction,
    /// The direction by the newest answer. `str0m` shows that of the offer as soon as there is one.
    agreed: Direction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It goes into the next offer.
    New,
    /// It is in the offer that has no answer yet.
    Offered(Mid),
    Open(Mid),
    /// The server refused it.
    Refused,
}

impl Lines {
    /// The server wants so many lines more; none: it wants an offer.
    pub(super) fn want(&mut self, count: u32) {
        let free = LINES_MAX.saturating_sub(self.all.len());
        self.wanted = self.wanted.saturating_add(usize::try_from(count).unwrap_or(LINES_MAX)).min(free);
        self.again |= count == 0 || free == 0;
    }

    /// A line for a track of the agent of this name in the offer. None where there are too many.
    pub(super) fn add_own(&mut self, name: String) -> Option<LineId> {
        let is_free = |line: &Line| {
            let is_empty = line.own.is_none() && line.track.is_none() && !line.offered.is_sending();
            is_empty && line.stage != Stage::Refused
        };
        let at = self.all.iter().position(is_free).or_else(|| self.push())?;
        self.all.get_mut(at)?.own = Some(name);
        Some(LineId(at))
    }

    /// The track of the agent ends.
    pub(super) fn end_own(&mut self, LineId(at): LineId) {
        if let Some(line) = self.all.get_mut(at) {
            line.own = None;
        }
    }

    /// Nobody hears this track any more.
    pub(super) fn forget(&mut self, track_sid: &str) {
        for line in self.all.iter_mut().filter(|line| line.track.as_deref() == Some(track_sid)) {
            line.track = None;
        }
    }

    /// The line on which the server sends this track.
    pub(super) fn line_of(&self, track_sid: &str) -> Option<LineId> {
        self.all.iter().position(|line| line.track.as_deref() == Some(track_sid)).map(LineId)
    }

    /// The packets of the track on this section.
    pub(super) fn order(&mut self, mid: Mid) -> Option<&mut Order> {
        self.all.iter_mut().find(|line| line.stage == Stage::Open(mid)).map(|line| &mut line.order)
    }

    /// The next packet whose turn it is.
    pub(super) fn next_sound(&mut self, now: Instant) -> Option<(LineId, SoundPacket)> {
        let next = |(at, line): (usize, &mut Line)| Some((LineId(at), line.order.next(now)?));
        self.all.iter_mut().enumerate().find_map(next)
    }

    /// When a packet has waited for long enough.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.all.iter().filter_map(|line| line.order.wake_at()).min()
    }

    /// The section of a line that the server has answered.
    pub(super) fn mid(&self, LineId(at): LineId) -> Option<Mid> {
        match self.all.get(at)?.stage {
            Stage::Open(mid) => Some(mid),
            Stage::New | Stage::Offered(_) | Stage::Refused => None,
        }
    }

    /// Whether the server takes what is sent on this line, by its newest answer.
    pub(super) fn is_taken(&self, LineId(at): LineId) -> bool {
        self.all.get(at).is_some_and(|line| line.agreed.is_sending() && line.offered.is_sending())
    }

    /// Whether the server refused a line.
    pub(super) fn is_refused(&self, LineId(at): LineId) -> bool {
        self.all.get(at).is_none_or(|line| line.stage == Stage::Refused)
    }

    /// Whether an offer is wanted.
    pub(super) fn have_wishes(&self) -> bool {
        let differs = |line: &Line| match line.stage {
            Stage::New => true,
            Stage::Open(_) => line.offered != line.direction(),
            Stage::Offered(_) | Stage::Refused => false,
        };
        self.wanted > 0 || self.again || self.all.iter().any(differs)
    }

    /// Put what is wanted into an offer.
    pub(super) fn change(&mut self, changes: &mut SdpApi<'_>) {
        for _ in 0..std::mem::take(&mut self.wanted) {
            self.push();
        }
        let again = std::mem::take(&mut self.again);
        if again && !self.all.iter().any(|line| line.stage == Stage::New) {
            self.offer_again(changes);
        }
        for line in &mut self.all {
            let direction = line.direction();
            line.offered = direction;
            match line.stage {
                Stage::New => {
                    let mid = changes.add_media(MediaKind::Audio, direction, Some(STREAM.into()), None, None);
                    line.stage = Stage::Offered(mid);
                }
                Stage::Open(mid) => changes.set_direction(mid, direction),
                Stage::Offered(_) | Stage::Refused => {}
            }
        }
    }

    /// Have an offer in which nothing changes: `str0m` makes one only where something did. The change back comes after it. It empties the
    /// buffers of the line, so that a free one is taken, and a new one where none is free.
    fn offer_again(&mut self, changes: &mut SdpApi<'_>) {
        let free = self.all.iter().filter(|line| line.own.is_none() && line.track.is_none());
        let any = self.all.iter().filter(|line| line.own.is_none());
        let is_full = self.all.len() >= LINES_MAX;
        let open = free.chain(any.filter(|_| is_full)).find_map(|line| match line.stage {
            Stage::Open(mid) => Some(mid),
            Stage::New | Stage::Offered(_) | Stage::Refused => None,
        });
        match open {
            Some(mid) => changes.set_direction(mid, Direction::Inactive),
            None => {
                self.push();
            }
        }
    }

    /// The offer was answered. `tracks`: what the server sends on each section.
    pub(super) fn answered(&mut self, rtc: &Rtc, tracks: &HashMap<String, String>) {
        for line in &mut self.all {
            let (Stage::Offered(mid) | Stage::Open(mid)) = line.stage else { continue };
            let media = rtc.media(mid).filter(|media| !media.disabled());
            let is_usable = media.is_some();
            line.agreed = media.map_or(Direction::Inactive, |media| media.direction());
            line.stage = if is_usable { Stage::Open(mid) } else { Stage::Refused };
            let track = tracks.get(&*mid).filter(|_| is_usable);
            if line.track.as_ref() != track {
                line.order = Order::default();
            }
            line.track = track.cloned();
        }
    }

    /// The text of an offer as LiveKit's server reads it: a section names a track only where one of the agent goes out, by the name under
    /// which it was announced. `str0m` names one in each section, and a server takes an unknown one for the track that it waits for.
    pub(super) fn edit(&self, sdp: &str) -> String {
        let mut sections = vec![Vec::new()];
        for line in sdp.split_inclusive("\r\n") {
            if line.starts_with("m=") {
                sections.push(Vec::new());
            }
            if let Some(section) = sections.last_mut() {
                section.push(line);
            }
        }
        sections.iter().map(|section| self.edit_section(section)).collect()
    }

    fn edit_section(&self, section: &[&str]) -> String {
        if !section.first().is_some_and(|first| first.starts_with("m=audio")) {
            return section.concat();
        }
        let mid = section.iter().find_map(|line| line.trim_end().strip_prefix("a=mid:")).map(Mid::from);
        let is_it =
            |line: &&Line| matches!(line.stage, Stage::Offered(other) | Stage::Open(other) if Some(other) == mid);
        let own = self.all.iter().find(is_it).and_then(|line| line.own.as_deref());
        let edited = section.iter().filter_map(|line| match (own, line.split_once("msid:")) {
            (Some(own), Some((before, _))) => Some(format!("{before}msid:{STREAM} {own}\r\n")),
            (Some(_), None) => Some((*line).to_owned()),
            (None, _) => (!line.starts_with("a=msid:") && !line.starts_with("a=ssrc")).then(|| (*line).to_owned()),
        });
        edited.collect()
    }

    /// A new line, by its place. None where there are too many.
    fn push(&mut self) -> Option<usize> {
        let at = self.all.len();
        if at >= LINES_MAX {
            return None;
        }
        let (offered, agreed) = (Direction::Inactive, Direction::Inactive);
        self.all.push(Line { stage: Stage::New, own: None, track: None, order: Order::default(), offered, agreed });
        Some(at)
    }
}

impl Line {
    /// The direction that its tracks need.
    const fn direction(&self) -> Direction {
        match (&self.own, &self.track) {
            (Some(_), Some(_)) => Direction::SendRecv,
            (Some(_), None) => Direction::SendOnly,
            (None, _) => Direction::RecvOnly,
        }
    }
}
