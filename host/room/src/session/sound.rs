//! The sound of a room: tracks that the agent hears and tracks that it publishes, between the agent, the signalling and the lines of the
//! peer. Pure; `now` is an argument.
//!
//! What the server has to be asked follows from what there is, by [`Sound::next_request`]: so a link that is lost, a resumption and a new
//! join need no memory of what was under way.
//!
//! Bounds: those of `listening` and `speaking`.

mod timeline;

pub(crate) mod listener;
mod asked;
pub(crate) mod own;

pub(crate) mod listening;
mod speaking;

use std::collections::VecDeque;
use std::time::Duration;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use tokio::time::Instant;

use crate::audio::codec::NewEncoder;
use crate::audio::playout::Playout;
use crate::peer::{LineId, Peer, SoundPacket};
use crate::signal::{Signal, TrackNews};
use listening::Listening;
use speaking::Speaking;
use wasm_worker_core::room::audio::{AudioCommand, AudioStatistics, HeardId};
use wasm_worker_core::room::event::{Failure, RoomEvent};
use wasm_worker_core::room::id::{IncomingId, OperationId};
use wasm_worker_core::room::people::{Participant, Track};

/// Why an operation fails: a code of the contract, and the reason for people.
type Refusal = (&'static str, String);

/// Makes the ids of tracks that a rule follows.
pub(super) type NewIncoming<'a> = &'a mut dyn FnMut() -> Option<IncomingId>;

/// The sound of one room.
pub(super) struct Sound {
    presence: Presence,
    listening: Listening,
    speaking: Speaking,
    /// Events that the session has not taken.
    events: VecDeque<RoomEvent>,
    busy: Busy,
}

/// Whether there is a room to hear and speak in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// There is none: what begins fails.
    Outside,
    /// The agent joins it, or comes back: tracks begin once it is in.
    Coming,
    Inside,
}

/// The time that the codec and the detector take. Nothing depends on it.
struct Busy {
    clock: fn() -> Instant,
    total: Duration,
}

impl Busy {
    /// Do something, and count its time.
    fn count<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = (self.clock)();
        let done = work();
        self.total += (self.clock)().saturating_duration_since(began);
        done
    }
}

impl Sound {
    /// No sound. `name` begins the names of the agent's tracks in offers; `encoder` makes their packets; `clock` only
    /// measures how busy the codec is.
    pub(super) fn new(name: String, encoder: NewEncoder, clock: fn() -> Instant) -> Self {
        Self {
            presence: Presence::Outside,
            listening: Listening::default(),
            speaking: Speaking::new(name, encoder),
            events: VecDeque::new(),
            busy: Busy { clock, total: Duration::ZERO },
        }
    }

    /// A join is under way, or a way back.
    pub(super) const fn coming(&mut self) {
        self.presence = Presence::Coming;
    }

    /// The agent has a place in the room, with a new peer: everything is asked for there, whatever was asked for at another one.
    pub(super) fn placed(&mut self) {
        self.listening.placed();
        self.speaking.placed();
    }

    /// The agent is in the room, for the first time or again: from now on the server has its time to answer. A track that went before
    /// the agent was told of it has no news of its end.
    pub(super) fn connected(&mut self, signal: &Signal, now: Instant) {
        self.presence = Presence::Inside;
        self.listening.keep(|sid| signal.track(sid).is_some(), &mut self.events, now);
        self.listening.connected(now);
        self.speaking.connected(now);
    }

    /// The room is left or lost: everything ends, and what was not played is discarded.
    pub(super) fn left(&mut self, now: Instant) {
        self.presence = Presence::Outside;
        self.listening.left(&mut self.events, now);
        self.speaking.left(&mut self.events);
    }

    /// Do what the agent asks for.
    pub(super) fn perform(
        &mut self,
        command: AudioCommand,
        signal: &Signal,
        new_incoming: NewIncoming<'_>,
        now: Instant,
    ) {
        if let Some(id) = command.new_id()
            && self.presence == Presence::Outside
        {
            return fail(&mut self.events, id, ("not-joined", "the agent is not in a room".into()));
        }
        let (listening, speaking, events) = (&mut self.listening, &mut self.speaking, &mut self.events);
        match command {
            AudioCommand::Subscribe { id, track_sid, options } => {
                let track = signal.track(&track_sid).map(|(_, track)| track);
                let begun = listening.subscribe(id, track, options, now);
                check(events, id, begun);
            }
            AudioCommand::Follow { id, rule, options } => {
                if let Err(refusal) = listening.follow(id, rule, options, now) {
                    return fail(events, id, refusal);
                }
                for (publisher, track) in signal.tracks() {
                    listening.track_published(publisher, track, Some(id), new_incoming, events, now);
                }
            }
            AudioCommand::Publish { id, publication } => {
                let begun = speaking.publish(id, publication, now);
                check(events, id, begun);
            }
            AudioCommand::Write { id, pcm } => {
                let written = self.busy.count(|| speaking.change(id, |playout| playout.write(&pcm, now)));
                check(events, id, written);
            }
            AudioCommand::Mark { id, mark } => {
                let marked = speaking.change(id, |playout| playout.mark(mark, now));
                check(events, id, marked);
            }
            AudioCommand::Mute { id, muted } => speaking.mute(id, muted),
            AudioCommand::Clear { id } => speaking.with(id, |playout| playout.clear(now)),
            AudioCommand::Close { id } => speaking.with(id, Playout::close),
            AudioCommand::HoldHeard { id, held } => listening.hold(id, held, now),
            AudioCommand::HoldPlayout { id, held } => speaking.with(id, |playout| playout.set_held(held, now)),
            AudioCommand::CancelHeard { id } => listening.cancel(HeardId::Followed(id)),
        }
    }

    /// Give up what the agent began. Tracks that a rule follows go on.
    pub(super) fn cancel(&mut self, id: OperationId) {
        self.listening.cancel(HeardId::Asked(id));
        self.listening.cancel_rule(id);
        self.speaking.cancel(id);
    }

    /// A track came into the room.
    pub(super) fn track_published(
        &mut self,
        publisher: &Participant,
        track: &Track,
        new_incoming: NewIncoming<'_>,
        now: Instant,
    ) {
        self.listening.track_published(publisher, track, None, new_incoming, &mut self.events, now);
    }

    /// A track changed.
    pub(super) fn track_changed(&mut self, track: &Track, now: Instant) {
        self.listening.track_changed(track, now);
    }

    /// A track is gone.
    pub(super) fn track_gone(&mut self, track_sid: &str, now: Instant) {
        self.listening.track_gone(track_sid, &mut self.events, now);
    }

    /// The server told something about a track.
    pub(super) fn take_news(&mut self, news: TrackNews, own: &Participant, peer: Option<&mut Peer>, now: Instant) {
        match news {
            TrackNews::Announced { name, info } => self.speaking.announced(&name, *info, peer, &mut self.events),
            TrackNews::Refused { name, code, message } => {
                self.speaking.refused(&name, (code, message), &mut self.events);
            }
            TrackNews::Unpublished { track_sid } => self.speaking.unpublished(&track_sid, &mut self.events),
            TrackNews::Muted { track_sid, muted } => {
                self.speaking.muted(&track_sid, muted, &own.identity, &mut self.events);
            }
            TrackNews::Own { muted } => {
                for (track_sid, muted) in muted {
                    self.speaking.resumed(&track_sid, muted, &own.identity, &mut self.events);
                }
            }
            TrackNews::Heeded { before } => self.speaking.heeded(before),
            TrackNews::Subscribed { track_sid } => self.speaking.subscribed(&track_sid, &mut self.events),
            TrackNews::NotSubscribed { track_sid, code, message } => {
                self.listening.not_subscribed(&track_sid, (code, message.into()), &mut self.events, now);
            }
            TrackNews::LinesWanted { count } => {
                if let Some(peer) = peer {
                    peer.want_lines(count);
                }
            }
        }
    }

    /// Lines of the peer may have changed. Before the agent is told that it is in the room, no track begins.
    pub(super) fn take_lines(&mut self, peer: &Peer, now: Instant) {
        if self.presence == Presence::Inside {
            self.listening.bind(peer, &mut self.events, now);
            self.speaking.take_lines(peer, &mut self.events);
        }
    }

    /// Sound came.
    pub(super) fn receive(&mut self, line: LineId, packet: &SoundPacket, now: Instant) {
        let Self { listening, busy, .. } = self;
        busy.count(|| listening.receive(line, packet, now));
    }

    /// The next request to the server. Call it only while the link is open and the server knows the agent.
    pub(super) fn next_request(&mut self, peer: &mut Peer, now: Instant) -> Option<Request> {
        // After a resumption the server tells first which tracks are muted.
        let mutes_too = self.presence == Presence::Inside;
        self.listening.next_request(peer, now).or_else(|| self.speaking.next_request(peer, mutes_too, now))
    }

    /// What the server is told of the sound at a resumption.
    pub(super) fn resume(&mut self, state: &mut proto::SyncState) {
        state.subscription = Some(self.listening.resume());
        state.publish_tracks = self.speaking.resume();
    }

    /// When `advance` is due. `is_up`: the link is open, and the server knows the agent.
    pub(super) fn wake_at(&self, peer: Option<&Peer>, is_up: bool) -> Option<Instant> {
        let waits = self.is_answered(is_up).then(|| [self.listening.wait_until(), self.speaking.wait_until()]);
        let waits = waits.into_iter().flatten().flatten();
        waits.chain(self.listening.wake_at()).chain(self.speaking.wake_at(peer)).min()
    }

    /// Have everything happen that is due, and packets go out.
    pub(super) fn advance(&mut self, peer: Option<&mut Peer>, is_up: bool, now: Instant) {
        let is_answered = self.is_answered(is_up);
        let Self { listening, speaking, events, busy, .. } = self;
        busy.count(|| listening.advance(now));
        if is_answered {
            listening.give_up(events, now);
            speaking.give_up(events, now);
        }
        speaking.advance(peer, events, busy, now);
    }

    /// Whether the time that the server has for its answers passes. On the way into the room it does not.
    fn is_answered(&self, is_up: bool) -> bool {
        is_up && self.presence == Presence::Inside
    }

    /// The next event of the room.
    pub(super) fn next_event(&mut self) -> Option<RoomEvent> {
        self.events.pop_front()
    }

    /// The next event of a track that is heard. The others come before it.
    pub(super) fn next_heard(&mut self) -> Option<RoomEvent> {
        self.listening.next_event().map(RoomEvent::Audio)
    }

    /// The numbers so far.
    pub(super) fn statistics(&self) -> AudioStatistics {
        let mut all = AudioStatistics { busy: self.busy.total, ..AudioStatistics::default() };
        self.listening.count(&mut all);
        self.speaking.count(&mut all);
        all
    }
}

fn fail(events: &mut VecDeque<RoomEvent>, id: OperationId, (code, message): Refusal) {
    events.push_back(RoomEvent::Failed(Failure { id, code, message }));
}

/// Tell that a call failed, and with it its operation.
fn check(events: &mut VecDeque<RoomEvent>, id: OperationId, done: Result<(), Refusal>) {
    if let Err(refusal) = done {
        fail(events, id, refusal);
    }
}
