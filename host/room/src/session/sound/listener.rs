//! One track that the agent hears or waits for, and the rules by which it gets tracks.

use std::time::Duration;

use tokio::time::Instant;

use super::timeline::Timeline;
use crate::audio::heard::{Heard, Packet};
use crate::peer::{LineId, SoundPacket};
use wasm_worker_core::room::audio::{AudioEvent, HeardId, Rule, Subscription};
use wasm_worker_core::room::id::OperationId;
use wasm_worker_core::room::people::{Participant, ParticipantKind, Track, TrackKind};

/// Time for the server to send a track that the agent subscribed to.
pub(crate) const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(10);

/// A rule of the agent.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) id: OperationId,
    pub(super) rule: Rule,
    pub(super) options: Subscription,
}

/// A track that the agent hears or waits for.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) id: HeardId,
    /// The rule that follows it.
    pub(super) rule: Option<OperationId>,
    pub(super) track: Track,
    pub(super) heard: Heard,
    pub(super) stage: Stage,
    /// The line that carries the track.
    line: Option<LineId>,
    /// Since when it does. What came earlier may be of the track that it carried before.
    since: Instant,
    timeline: Timeline,
    /// The newest time that the heard track knows.
    now: Instant,
}

/// What the agent knows of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No line carries it yet. `until`: the server has so long; none where it was not asked, and for tracks of a rule.
    Waiting { until: Option<Instant> },
    /// `Started` was told.
    Started,
}

impl Listener {
    /// A track that is waited for.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub(super) fn new(
        id: HeardId,
        rule: Option<OperationId>,
        track: &Track,
        options: Subscription,
        now: Instant,
    ) -> Result<Self, String> {
        let mut heard = Heard::new(id, &options, now)?;
        heard.set_muted(track.muted, now);
        let (stage, timeline) = (Stage::Waiting { until: None }, Timeline::default());
        let (track, line, since) = (track.clone(), None, now);
        Ok(Self { id, rule, track, heard, stage, line, since, timeline, now })
    }

    /// The next event, and the sound in it.
    pub(super) fn next_event(&mut self) -> Option<(AudioEvent, Duration)> {
        let event = self.heard.next_event()?;
        let bytes = match &event {
            AudioEvent::Frame(frame) => u64::try_from(frame.pcm.len()).unwrap_or_default(),
            _ => 0,
        };
        Some((event, Duration::from_micros(bytes * 500_000 / u64::from(self.heard.rate()))))
    }

    /// Another line carries the track, or none. Whether the track begins by it.
    pub(super) fn bind(&mut self, line: Option<LineId>, now: Instant) -> bool {
        if line == self.line {
            return false;
        }
        (self.line, self.since) = (line, now);
        self.timeline.rebase();
        let begins = line.is_some() && self.stage != Stage::Started;
        if begins {
            self.stage = Stage::Started;
            self.time(now);
        }
        begins
    }

    /// The peer is another one.
    pub(super) fn unbind(&mut self) {
        self.line = None;
    }

    /// Sound came on a line, which may be that of another track.
    pub(super) fn receive(&mut self, line: LineId, packet: &SoundPacket, now: Instant) {
        if self.line != Some(line) || packet.received_at < self.since {
            return;
        }
        // A packet that waited for others before it may be older than the newest time.
        let received_at = self.time(packet.received_at.min(now));
        let contiguous = packet.contiguous && !self.timeline.is_new();
        let time = self.timeline.time(packet.time, received_at);
        self.heard.receive(Packet { payload: &packet.payload, time, contiguous }, received_at);
    }

    /// Have everything happen that is due.
    pub(super) fn advance(&mut self, now: Instant) {
        // Otherwise its time stands: a packet that waits for others before it keeps the time at which it came.
        if self.stage == Stage::Started && self.heard.wake_at().is_some_and(|due| due <= now) {
            let now = self.time(now);
            self.heard.advance(now);
        }
    }

    /// The time for the heard track: none before the last one.
    pub(super) fn time(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    /// The server has been asked for the track: from now on it has its time.
    pub(super) fn wait(&mut self, now: Instant) {
        if let (Stage::Waiting { until: until @ None }, HeardId::Asked(_)) = (&mut self.stage, self.id) {
            *until = Some(now + SUBSCRIBED_WITHIN);
        }
    }

    pub(super) const fn waits_until(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting { until } => until,
            Stage::Started => None,
        }
    }
}

/// Whether a rule follows a track: sound that agents can hear, of the participant, of the source and of a person where it says so.
pub(super) fn rule_fits(rule: &Rule, publisher: &Participant, track: &Track) -> bool {
    let is_person =
        matches!(publisher.kind, ParticipantKind::Standard | ParticipantKind::Sip | ParticipantKind::Connector);
    track.kind == TrackKind::Audio
        && !track.encrypted
        && (rule.participant.is_empty() || rule.participant == publisher.identity)
        && (rule.source.is_empty() || rule.source == track.source)
        && (!rule.people || is_person)
}
