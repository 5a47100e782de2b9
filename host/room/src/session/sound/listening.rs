//! The tracks that the agent hears: those that it subscribed to, and those that its rules follow.
//!
//! A track is first waited for, then heard. Of one that is waited for the agent is told nothing but a failure.
//!
//! Bounds: [`HEARD_MAX`] tracks, [`RULES_MAX`] rules; the server has [`SUBSCRIBED_WITHIN`] for a track that the agent names. A track that
//! fits a rule beyond them is not heard, and `Lost` tells it.

use std::collections::VecDeque;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use tokio::time::Instant;

use super::asked::Asked;
use super::listener::{Follower, Listener, SUBSCRIBED_WITHIN, Stage, rule_fits};
use super::{NewIncoming, Refusal, fail};
use crate::audio::counts::HeardCounts;
use crate::audio::heard::Heard;
use crate::peer::{LineId, Peer, SoundPacket};
use wasm_worker_core::room::audio::options::{HEARD_MAX, RULES_MAX};
use wasm_worker_core::room::audio::{AudioEvent, AudioStatistics, HeardId, Rule, Subscription};
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::id::OperationId;
use wasm_worker_core::room::people::{Participant, Track, TrackKind};

/// All that the agent hears.
#[derive(Debug, Default)]
pub(super) struct Listening {
    listeners: Vec<Listener>,
    rules: Vec<Follower>,
    asked: Asked,
    over: HeardTotals,
    /// The listener that is asked for an event next.
    turn: usize,
}

/// The numbers of tracks that are over, and the sound of all that was delivered.
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
        if self.listeners.len() >= HEARD_MAX {
            return Err(("limit", format!("the agent hears {HEARD_MAX} tracks, which is the most")));
        }
        let track = track.ok_or_else(|| ("invalid", "the room has no such track".to_owned()))?;
        if track.kind != TrackKind::Audio {
            return Err(("invalid", format!("`{}` is no track of sound", track.sid)));
        }
        if track.encrypted {
            let message = format!("`{}` is encrypted from end to end, which agents cannot hear", track.sid);
            return Err(("not-supported", message));
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
            let is_heard =
                id.is_some_and(|id| self.add(HeardId::Followed(id), Some(rule), track, options, now).is_ok());
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
        self.listeners.push(Listener::new(id, rule, track, options, now)?);
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
        self.keep(|sid| sid != track_sid, events, now);
    }

    /// Only these tracks are there.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool, events: &mut VecDeque<RoomEvent>, now: Instant) {
        self.asked.keep(&is_there);
        let why = || ("interrupted", "the track ended before it was heard".to_owned());
        self.end(|listener| !is_there(&listener.track.sid), why, events, now);
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
    pub(super) fn placed(&mut self) {
        self.asked = Asked::default();
        self.listeners.iter_mut().for_each(Listener::unbind);
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
        self.asked = Asked::default();
    }

    /// Have tracks begin that the server sends.
    pub(super) fn bind(&mut self, peer: &Peer, events: &mut VecDeque<RoomEvent>, now: Instant) {
        for listener in &mut self.listeners {
            if listener.bind(peer.line_of(&listener.track.sid), now) {
                let (id, rule, track) = (listener.id, listener.rule, listener.track.clone());
                events.push_back(RoomEvent::Audio(AudioEvent::Started { id, rule, track }));
            }
        }
    }

    /// Sound came on a line.
    pub(super) fn receive(&mut self, line: LineId, packet: &SoundPacket, now: Instant) {
        self.listeners.iter_mut().for_each(|listener| listener.receive(line, packet, now));
    }

    /// The next request that the server needs to know what the agent hears.
    pub(super) fn next_request(&mut self, peer: &mut Peer, now: Instant) -> Option<Request> {
        for listener in &mut self.listeners {
            if self.asked.contains(&listener.track.sid) {
                listener.wait(now);
            }
        }
        let update = self.asked.next(sids_of(&self.listeners))?;
        if !update.subscribe {
            update.track_sids.iter().for_each(|sid| peer.forget_track(sid));
        }
        Some(Request::Subscription(update))
    }

    /// The tracks that the server is told at a resumption.
    pub(super) fn resume(&mut self) -> proto::UpdateSubscription {
        self.asked.resume(sids_of(&self.listeners))
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
        self.listeners.iter_mut().for_each(|listener| listener.advance(now));
    }

    /// The next event of a heard track, of one after the other.
    pub(super) fn next_event(&mut self) -> Option<AudioEvent> {
        for _ in 0..self.listeners.len() {
            self.turn = (self.turn + 1) % self.listeners.len();
            let listener = self.listeners.get_mut(self.turn).filter(|listener| listener.stage == Stage::Started);
            if let Some((event, sound)) = listener.and_then(Listener::next_event) {
                self.over.0.heard += sound;
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
        all.heard += over.heard;
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
                    while let Some((event, sound)) = listener.next_event() {
                        self.over.0.heard += sound;
                        events.push_back(RoomEvent::Audio(event));
                    }
                }
                (Stage::Waiting { .. }, HeardId::Asked(id)) => fail(events, id, why()),
                (Stage::Waiting { .. }, HeardId::Followed(_)) => {}
            }
            self.over.add(listener.heard.counts());
        }
    }
}

fn sids_of(listeners: &[Listener]) -> impl Iterator<Item = &str> + Clone {
    listeners.iter().map(|listener| listener.track.sid.as_str())
}
