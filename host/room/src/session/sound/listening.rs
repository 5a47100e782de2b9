//! The tracks that the agent hears: those that it subscribed to, and those that its rules follow.
//!
//! A track is first waited for, then heard. Of one that is waited for the agent is told nothing but a failure.
//!
//! Bounds: [`HEARD_MAX`] tracks, [`RULES_MAX`] rules; the server has [`SUBSCRIBED_WITHIN`] for a track that the agent names. A track that
//! fits a rule beyond them is not heard, and `Lost` tells it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use tokio::time::Instant;

use super::timeline::Timeline;
use super::{NewIncoming, Refusal, fail};
use crate::audio::counts::HeardCounts;
use crate::audio::heard::{Heard, Packet};
use crate::peer::{LineId, Peer, SoundPacket};
use wasm_worker_core::room::audio::{AudioEvent, AudioStatistics, HeardId, Rule, Subscription};
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::id::OperationId;
use wasm_worker_core::room::people::{Participant, ParticipantKind, Track, TrackKind};

/// Most tracks that are heard at once, each with a decoder of its own.
pub(crate) const HEARD_MAX: usize = 16;
/// Most rules.
pub(crate) const RULES_MAX: usize = 16;
/// Time for the server to send a track that the agent subscribed to.
pub(crate) const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(10);

/// All that the agent hears.
#[derive(Debug, Default)]
pub(super) struct Listening {
    listeners: Vec<Listener>,
    rules: Vec<Follower>,
    /// Tracks that the server was asked for.
    asked: BTreeSet<String>,
    /// Numbers of tracks that are over.
    over: HeardTotals,
    /// The listener that is asked for an event next.
    turn: usize,
}

#[derive(Debug)]
struct Follower {
    id: OperationId,
    rule: Rule,
    options: Subscription,
}

#[derive(Debug)]
struct Listener {
    id: HeardId,
    rule: Option<OperationId>,
    track: Track,
    heard: Heard,
    stage: Stage,
    /// The line that carries the track.
    line: Option<LineId>,
    timeline: Timeline,
    /// The newest time that the heard track knows.
    now: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No line carries it yet. `until`: the server has so long; none where it was not asked, and for tracks of a rule.
    Waiting { until: Option<Instant> },
    /// `Started` was told.
    Started,
}

/// The numbers of tracks that are over.
#[derive(Debug, Default)]
struct HeardTotals(AudioStatistics);

impl HeardTotals {
    fn add(&mut self, counts: HeardCounts) {
        HeardCounts { bytes_waiting: 0, ..counts }.add_to(&mut self.0);
    }
}

impl Listening {
    /// Hear a track of the room.
    pub(super) fn subscribe(
        &mut self,
        id: OperationId,
        track: Option<&Track>,
        options: Subscription,
        now: Instant,
    ) -> Result<(), Refusal> {
        let track = track.ok_or_else(|| ("invalid", "the room has no such track".to_owned()))?;
        if track.kind != TrackKind::Audio {
            return Err(("invalid", format!("`{}` is no track of sound", track.sid)));
        }
        if track.encrypted {
            let message = format!("`{}` is encrypted from end to end, which agents cannot hear", track.sid);
            return Err(("not-supported", message));
        }
        if self.listeners.len() >= HEARD_MAX {
            return Err(("limit", format!("the agent hears {HEARD_MAX} tracks, which is the most")));
        }
        self.add(HeardId::Asked(id), None, track, options, now).map_err(|why| ("invalid", why))
    }

    /// Follow tracks by a rule. Those that are there are the caller's to show.
    pub(super) fn follow(
        &mut self,
        id: OperationId,
        rule: Rule,
        options: Subscription,
        now: Instant,
    ) -> Result<(), Refusal> {
        if self.rules.len() >= RULES_MAX {
            return Err(("limit", format!("the agent has {RULES_MAX} rules, which is the most")));
        }
        Heard::new(HeardId::Asked(id), &options, now).map_err(|why| ("invalid", why))?;
        self.rules.push(Follower { id, rule, options });
        Ok(())
    }

    /// A track is in the room: have the rules follow it, or this one alone.
    pub(super) fn track_published(
        &mut self,
        publisher: &Participant,
        track: &Track,
        only: Option<OperationId>,
        new_incoming: NewIncoming<'_>,
        events: &mut VecDeque<RoomEvent>,
        now: Instant,
    ) {
        let fits = |follower: &&Follower| {
            only.is_none_or(|only| only == follower.id) && rule_fits(&follower.rule, publisher, track)
        };
        let fitting: Vec<_> = self.rules.iter().filter(fits).map(|follower| (follower.id, follower.options)).collect();
        for (rule, options) in fitting {
            let is_followed =
                self.listeners.iter().any(|other| other.rule == Some(rule) && other.track.sid == track.sid);
            if is_followed {
                continue;
            }
            let id = if self.listeners.len() < HEARD_MAX { new_incoming() } else { None };
            // The options were checked with the rule.
            let is_heard = id.is_some_and(|id| self.add(HeardId::Followed(id), Some(rule), track, options, now).is_ok());
            if !is_heard {
                events.push_back(RoomEvent::Lost { what: "audio-started", id: None, count: 1 });
            }
        }
    }

    fn add(
        &mut self,
        id: HeardId,
        rule: Option<OperationId>,
        track: &Track,
        options: Subscription,
        now: Instant,
    ) -> Result<(), String> {
        let mut heard = Heard::new(id, &options, now)?;
        heard.set_muted(track.muted, now);
        let (stage, timeline) = (Stage::Waiting { until: None }, Timeline::default());
        self.listeners.push(Listener { id, rule, track: track.clone(), heard, stage, line: None, timeline, now });
        Ok(())
    }

    /// The facts of a track changed.
    pub(super) fn track_changed(&mut self, track: &Track, now: Instant) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.track.sid == track.sid) {
            let now = listener.time(now);
            listener.heard.set_muted(track.muted, now);
            listener.track = track.clone();
        }
    }

    /// A track is gone.
    pub(super) fn track_gone(&mut self, track_sid: &str, events: &mut VecDeque<RoomEvent>, now: Instant) {
        let why = || ("interrupted", "the track ended before it was heard".to_owned());
        self.end(|listener| listener.track.sid == track_sid, why, events, now);
    }

    /// The server does not send a track. A rule goes on waiting for one that it has not heard yet.
    pub(super) fn not_subscribed(
        &mut self,
        track_sid: &str,
        (code, message): Refusal,
        events: &mut VecDeque<RoomEvent>,
        now: Instant,
    ) {
        let ends = |listener: &Listener| {
            let waits = listener.rule.is_some() && listener.stage != Stage::Started;
            listener.track.sid == track_sid && !waits
        };
        self.end(ends, || (code, message.clone()), events, now);
    }

    /// The agent pauses or continues the delivery.
    pub(super) fn hold(&mut self, id: HeardId, held: bool, now: Instant) {
        if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.id == id) {
            let now = listener.time(now);
            listener.heard.set_held(held, now);
        }
    }

    /// The agent gives up a track. Nothing is told.
    pub(super) fn cancel(&mut self, id: HeardId) {
        if let Some(at) = self.listeners.iter().position(|listener| listener.id == id) {
            let listener = self.listeners.remove(at);
            self.over.add(listener.heard.counts());
        }
    }

    /// The agent gives up a rule. Its tracks go on.
    pub(super) fn cancel_rule(&mut self, id: OperationId) {
        self.rules.retain(|follower| follower.id != id);
    }

    /// The room has a new peer.
    pub(super) fn rejoined(&mut self) {
        self.asked.clear();
        for listener in &mut self.listeners {
            listener.line = None;
        }
    }

    /// The agent is in the room, for the first time or again.
    pub(super) fn connected(&mut self, now: Instant) {
        for listener in &mut self.listeners {
            if let Stage::Waiting { until: Some(until) } = &mut listener.stage {
                *until = now + SUBSCRIBED_WITHIN;
            }
        }
    }

    /// The room is left.
    pub(super) fn left(&mut self, events: &mut VecDeque<RoomEvent>, now: Instant) {
        let why = || ("not-joined", "the agent is not in the room any more".to_owned());
        self.end(|_| true, why, events, now);
        for follower in self.rules.drain(..) {
            fail(events, follower.id, why());
        }
        self.asked.clear();
    }

    /// Have tracks begin that the server sends.
    pub(super) fn bind(&mut self, peer: &Peer, events: &mut VecDeque<RoomEvent>, now: Instant) {
        for listener in &mut self.listeners {
            let line = peer.line_of(&listener.track.sid);
            if line == listener.line {
                continue;
            }
            listener.line = line;
            listener.timeline.rebase();
            if line.is_some() && listener.stage != Stage::Started {
                listener.stage = Stage::Started;
                listener.time(now);
                let (id, rule, track) = (listener.id, listener.rule, listener.track.clone());
                events.push_back(RoomEvent::Audio(AudioEvent::Started { id, rule, track }));
            }
        }
    }

    /// Sound came on a line.
    pub(super) fn receive(&mut self, line: LineId, packet: &SoundPacket, now: Instant) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.line == Some(line)) {
            // A packet that waited for others before it may be older than the newest time.
            let received_at = listener.time(packet.received_at.min(now));
            let contiguous = packet.contiguous && !listener.timeline.is_new();
            let time = listener.timeline.time(packet.time, received_at);
            listener.heard.receive(Packet { payload: &packet.payload, time, contiguous }, received_at);
        }
    }

    /// The next request that the server needs to know what the agent hears.
    pub(super) fn next_request(&mut self, peer: &mut Peer, now: Instant) -> Option<Request> {
        for listener in &mut self.listeners {
            if self.asked.contains(&listener.track.sid) {
                listener.wait(now);
            }
        }
        let is_new = |listener: &&Listener| !self.asked.contains(&listener.track.sid);
        if let Some(sid) = self.listeners.iter().find(is_new).map(|listener| listener.track.sid.clone()) {
            self.asked.insert(sid.clone());
            return Some(Request::Subscription(subscription([sid], true)));
        }
        let is_unheard = |sid: &&String| !self.listeners.iter().any(|listener| listener.track.sid == **sid);
        let sid = self.asked.iter().find(is_unheard).cloned()?;
        self.asked.remove(&sid);
        peer.forget_track(&sid);
        Some(Request::Subscription(subscription([sid], false)))
    }

    /// The tracks that the server is told at a resumption.
    pub(super) fn resume(&mut self) -> proto::UpdateSubscription {
        let heard: BTreeSet<String> = self.listeners.iter().map(|listener| listener.track.sid.clone()).collect();
        self.asked.extend(heard.iter().cloned());
        subscription(heard, true)
    }

    /// When the server's time for a track is over.
    pub(super) fn wait_until(&self) -> Option<Instant> {
        self.listeners.iter().filter_map(Listener::waits_until).min()
    }

    /// Give up the tracks whose time is over.
    pub(super) fn give_up(&mut self, events: &mut VecDeque<RoomEvent>, now: Instant) {
        let why = || ("timeout", format!("the server sent no sound within {SUBSCRIBED_WITHIN:?}"));
        self.end(|listener| listener.waits_until().is_some_and(|until| until <= now), why, events, now);
    }

    /// When a heard track has something to do.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.started().filter_map(|listener| listener.heard.wake_at()).min()
    }

    /// Have everything happen that is due.
    pub(super) fn advance(&mut self, now: Instant) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.stage == Stage::Started) {
            // Otherwise its time stands: a packet that waits for others before it keeps the time at which it came.
            if listener.heard.wake_at().is_some_and(|due| due <= now) {
                let now = listener.time(now);
                listener.heard.advance(now);
            }
        }
    }

    /// The next event of a heard track, of one after the other.
    pub(super) fn next_event(&mut self) -> Option<AudioEvent> {
        for _ in 0..self.listeners.len() {
            self.turn = (self.turn + 1) % self.listeners.len();
            let listener = self.listeners.get_mut(self.turn).filter(|listener| listener.stage == Stage::Started);
            if let Some(event) = listener.and_then(|listener| listener.heard.next_event()) {
                return Some(event);
            }
        }
        None
    }

    /// Add the numbers.
    pub(super) fn count(&self, all: &mut AudioStatistics) {
        let over = &self.over.0;
        all.packets_received += over.packets_received;
        all.packets_lost += over.packets_lost;
        all.jitter = all.jitter.max(over.jitter);
        all.concealed += over.concealed;
        all.dropped += over.dropped;
        self.listeners.iter().for_each(|listener| listener.heard.counts().add_to(all));
        all.heard_tracks = u32::try_from(self.started().count()).unwrap_or(u32::MAX);
    }

    fn started(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(|listener| listener.stage == Stage::Started)
    }

    /// End some tracks: what is heard of them is told to the end, and a subscription that heard nothing fails.
    fn end(
        &mut self,
        ends: impl Fn(&Listener) -> bool,
        why: impl Fn() -> Refusal,
        events: &mut VecDeque<RoomEvent>,
        now: Instant,
    ) {
        for at in (0..self.listeners.len()).rev() {
            if !self.listeners.get(at).is_some_and(&ends) {
                continue;
            }
            let mut listener = self.listeners.remove(at);
            match (listener.stage, listener.id) {
                (Stage::Started, _) => {
                    let now = listener.time(now);
                    listener.heard.end(now);
                    events.extend(std::iter::from_fn(|| listener.heard.next_event()).map(RoomEvent::Audio));
                }
                (Stage::Waiting { .. }, HeardId::Asked(id)) => fail(events, id, why()),
                (Stage::Waiting { .. }, HeardId::Followed(_)) => {}
            }
            self.over.add(listener.heard.counts());
        }
    }
}

impl Listener {
    /// The time for the heard track: none before the last one.
    fn time(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    /// The server has been asked for the track: from now on it has its time.
    fn wait(&mut self, now: Instant) {
        if let (Stage::Waiting { until: until @ None }, HeardId::Asked(_)) = (&mut self.stage, self.id) {
            *until = Some(now + SUBSCRIBED_WITHIN);
        }
    }

    const fn waits_until(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting { until } => until,
            Stage::Started => None,
        }
    }
}

/// Whether a rule follows a track: sound that agents can hear, of the participant, of the source and of a person where it says so.
fn rule_fits(rule: &Rule, publisher: &Participant, track: &Track) -> bool {
    let is_person =
        matches!(publisher.kind, ParticipantKind::Standard | ParticipantKind::Sip | ParticipantKind::Connector);
    track.kind == TrackKind::Audio
        && !track.encrypted
        && (rule.participant.is_empty() || rule.participant == publisher.identity)
        && (rule.source.is_empty() || rule.source == track.source)
        && (!rule.people || is_person)
}

fn subscription(track_sids: impl IntoIterator<Item = String>, subscribe: bool) -> proto::UpdateSubscription {
    proto::UpdateSubscription { track_sids: track_sids.into_iter().collect(), subscribe, ..Default::default() }
}
