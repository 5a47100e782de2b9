//! The room of a job on a server: the calls of the agent become commands of the room, and what the room tells becomes events.
//!
//! ```text
//! commands      calls as commands
//! audio_events  events of sound as those of the contract
//! events        events of the room as those of the contract
//! incoming_ids  the ids of what began outside
//! wishes        what the agent chose before there was a room
//! sound         the sound that the agent has begun, and frames that become one event
//! link          the connection to the room
//! moderation    acts on others, by the server's API
//! notices       what is published about the room
//! calls         what the agent asks of the room
//! told          what the room tells, and what follows from it
//! ```
//!
//! The room is opened by the first `connect`, so that a job without one costs nothing. What began outside has its id of the contract
//! once its event is delivered: what the room tells of it before waits, and so does what comes after.
//!
//! Bounds: while the inbox is full, events wait in the room, which bounds them. Each advance takes [`EVENTS_AT_ONCE`].

mod audio_events;
mod commands;

mod events;
mod incoming_ids;
mod notices;
mod sound;

mod link;
mod wishes;

mod moderation;

mod calls;
mod told;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;
use wasm_worker_core::job::{Acceptance, JobInfo, RoomState};
use wasm_worker_core::observer::Events;
use wasm_worker_core::record::RoomRecord;
use wasm_worker_core::room::command::{Command, IncomingId};
use wasm_worker_core::room::connection::RoomToJoin;
use wasm_worker_core::room::event::{Reason, RoomEvent};
use wasm_worker_core::usage::AudioUse;

use super::deliveries::Deliveries;
use super::room_record::Sent;
use super::world::{JobAccess, World};
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::calls::Call;
use crate::guest::control::StopBy;
use crate::guest::kill::Kill;
use incoming_ids::{IncomingIds, Kind};
use link::Link;
use moderation::Moderations;
use notices::Notices;
use sound::Sound;
use wishes::Wishes;

/// Most events that one advance takes from the room: as many as one step is given.
const EVENTS_AT_ONCE: usize = 64;

const NOT_JOINED: &str = "the agent is not in a room";

/// The room of one job.
pub(super) struct JoinedRoom {
    place: RoomToJoin,
    notices: Notices,
    sent: Sent,
    wishes: Wishes,
    /// There from the first `connect` on, until the room is over.
    link: Option<Link>,
    presence: Presence,
    /// Operations of the room that have not ended.
    operations: BTreeSet<u32>,
    /// Those of them that wait for a join.
    joiners: BTreeSet<u32>,
    incoming: IncomingIds,
    sound: Sound,
    /// Sound of connections that are over.
    audio: AudioUse,
    /// Bytes of streams that the last step was given.
    taken: Vec<(IncomingId, usize)>,
    /// An event that goes on with something that has no id yet.
    stuck: Option<RoomEvent>,
    deliveries: Deliveries,
    moderations: Moderations,
    /// The stop that follows the event of the lost room.
    stop: Option<(StopBy, String)>,
    stage: Stage,
}

/// Where the agent is, as far as the room has told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Out,
    Entering,
    In,
}

/// Whether the agent goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// The agent has finished. The room is left once it is joined.
    Finished,
    /// The room is being left: what was sent is delivered first.
    Leaving,
}

impl JoinedRoom {
    /// The room of a job that is not launched yet.
    pub(super) fn new(info: &JobInfo, acceptance: &Acceptance, place: RoomToJoin, events: Arc<Events>) -> Self {
        Self {
            place,
            notices: Notices::new(info, events),
            sent: Sent::in_a_room(),
            wishes: Wishes::new(acceptance.attributes.iter().map(|(name, _)| name.clone())),
            link: None,
            presence: Presence::Out,
            operations: BTreeSet::new(),
            joiners: BTreeSet::new(),
            incoming: IncomingIds::default(),
            sound: Sound::default(),
            audio: AudioUse::default(),
            taken: Vec::new(),
            stuck: None,
            deliveries: Deliveries::default(),
            moderations: Moderations::default(),
            stop: None,
            stage: Stage::Running,
        }
    }

    /// An operation is over. Whether it was not before.
    pub(super) fn end(&mut self, id: u32, job: &JobAccess<'_>) -> bool {
        let was_joiner = self.joiners.remove(&id);
        if was_joiner && self.joiners.is_empty() && self.presence == Presence::Entering {
            self.presence = Presence::Out;
            job.control.set_room_state(RoomState::Out);
        }
        self.sound.end(id);
        self.operations.remove(&id)
    }
}

impl World for JoinedRoom {
    fn launched(&mut self, _: Instant) {}

    fn perform(&mut self, call: Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let call = match call {
            Call::Answer { id, answer } => return self.answer(id, answer, job),
            call => call,
        };
        match &call {
            Call::Connect { id } => return self.connect(*id, job),
            Call::Cancel { id } => return self.cancel(*id, job),
            Call::Hold { id, held } => return self.hold(*id, *held, job),
            Call::Receive { topic, receipt } => self.wishes.receive(topic, (*receipt).into(), job)?,
            Call::SetAttributes { attributes, .. } => {
                self.set_attributes(attributes, job)?;
                return self.change(call, job);
            }
            Call::SetMetadata { metadata, .. } => {
                self.wishes.set_metadata(metadata, job)?;
                return self.change(call, job);
            }
            Call::SetName { name, .. } => {
                self.wishes.set_name(name, job)?;
                return self.change(call, job);
            }
            Call::SetAgentState { state } => {
                self.sent.put_state(*state, job)?;
                return self.change(call, job);
            }
            Call::WriteText { id, .. }
            | Call::WriteBytes { id, .. }
            | Call::CloseStream { id, .. }
            | Call::WriteAudio { id, .. }
            | Call::MarkAudio { id, .. }
            | Call::MuteAudio { id, .. }
            | Call::ClearAudio { id }
            | Call::CloseAudio { id }
                if !self.operations.contains(id) =>
            {
                return Ok(());
            }
            Call::RemoveParticipant { .. }
            | Call::MoveParticipant { .. }
            | Call::MuteTrack { .. }
            | Call::DeleteRoom { .. } => return self.moderate(&call, job),
            call if self.link.is_some() => self.record(call, job)?,
            _ => {}
        }
        self.pass(call, job)
    }

    fn is_given(&mut self, event: &Event, _: Instant) {
        let (id, bytes) = match event {
            Event::StreamStarted(start) => return self.incoming.give(start.id),
            Event::AudioStarted(start) if start.rule != 0 => return self.incoming.give(start.id),
            Event::RpcRequest(request) => return self.incoming.give(request.id),
            Event::TextChunk(chunk) => (chunk.id, chunk.text.len()),
            Event::BytesChunk(chunk) => (chunk.id, chunk.bytes.len()),
            _ => return,
        };
        if let Some((incoming, Kind::Stream)) = self.incoming.find(id) {
            self.taken.push((incoming, bytes));
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        self.link.as_ref()?.wake_at()
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.moderations.poll_ready(context).is_ready() {
            return Poll::Ready(());
        }
        match &mut self.link {
            // What waited for the inbox or for an id has them once the job waits.
            _ if self.stuck.is_some() || self.deliveries.is_late() => Poll::Ready(()),
            Some(link) => link.poll_ready(context),
            None => Poll::Pending,
        }
    }

    fn advance(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        for (id, bytes) in std::mem::take(&mut self.taken) {
            self.send(Command::Taken { id, bytes }, job)?;
        }
        if let Some(link) = &mut self.link {
            link.flush(job);
        }
        let deliveries = (self.stage == Stage::Running).then_some(&mut self.deliveries);
        self.moderations.advance(deliveries, job)?;
        for _ in 0..EVENTS_AT_ONCE {
            if !self.deliveries.flush(job)? {
                break;
            }
            let Some((event, incoming)) = self.next_event() else { break };
            self.take(event, incoming, job)?;
        }
        self.give_frames(job)?;
        if self.deliveries.flush(job)?
            && let Some((by, why)) = self.stop.take()
        {
            job.control.ask_to_stop(by, why);
        }
        self.leave(job)
    }

    fn finish(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.stage = Stage::Finished;
        self.deliveries.clear(job);
        // Nothing waits for an id any more.
        self.incoming = IncomingIds::default();
        self.leave(job)
    }

    fn nothing_to_come(&self) -> Option<&'static str> {
        let is_over = self.presence == Presence::Out && self.operations.is_empty() && !self.deliveries.is_late();
        let is_over = is_over && !self.moderations.is_any_open();
        is_over.then_some(NOT_JOINED)
    }

    fn is_joined(&self) -> bool {
        self.presence == Presence::In
    }

    fn is_delivered(&self) -> bool {
        self.presence == Presence::Out && !self.moderations.is_any_open()
    }

    fn audio_use(&self) -> AudioUse {
        let mut used = self.audio;
        used.add(&self.link.as_ref().map(|link| link.counter.used().audio).unwrap_or_default());
        used
    }

    fn bytes_waiting(&self) -> usize {
        self.link.as_ref().map_or(0, |link| {
            let statistics = link.counter.statistics();
            statistics.bytes_waiting + statistics.audio.bytes_waiting
        })
    }

    fn into_record(mut self: Box<Self>) -> RoomRecord {
        if let Some(link) = self.link.take() {
            self.notices.left(Reason::ClientInitiated, &link.counter, Instant::now());
        }
        self.sent.record
    }
}
