//! What the room tells, and what follows from it.

use tokio::time::Instant;
use wasm_worker_core::job::RoomState;
use wasm_worker_core::room::audio::{AudioCommand, AudioEvent, AudioFrame, HeardId};
use wasm_worker_core::room::command::{Command, IncomingId};
use wasm_worker_core::room::event::{Reason, RoomEvent};
use wasm_worker_core::text::clip;

use super::super::world::JobAccess;
use super::events::{event_of, failed, incoming_of, operation_of};
use super::incoming_ids::{Kind, Place};
use super::{JoinedRoom, Presence, Stage};
use crate::guest::control::StopBy;
use crate::guest::kill::Kill;

impl JoinedRoom {
    /// The next event of the room, with the id of the contract for what it goes on with. None where there is none, or where that
    /// has no id yet.
    pub(super) fn next_event(&mut self) -> Option<(RoomEvent, u32)> {
        let event = self.stuck.take().or_else(|| self.link.as_mut()?.next())?;
        let place = match incoming_of(&event) {
            Some(incoming) => self.incoming.place(incoming),
            // What began outside ends before its room does, and has an id for it.
            None if matches!(event, RoomEvent::Disconnected { .. }) && self.incoming.is_any_waiting() => Place::Waiting,
            None => Place::Over,
        };
        match place {
            Place::Given(id) => Some((event, id)),
            Place::Over => Some((event, 0)),
            Place::Waiting => {
                self.stuck = Some(event);
                None
            }
        }
    }

    pub(super) fn take(&mut self, event: RoomEvent, incoming: u32, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        // The agent gave it up, or the host asked for it.
        if operation_of(&event).is_some_and(|id| !self.operations.contains(&id)) {
            return self.give_up_track(&event, job);
        }
        let event = match event {
            RoomEvent::Audio(AudioEvent::Frame(frame)) => return self.take_frame(frame, incoming, job),
            event => event,
        };
        self.give_frames(job)?;
        match &event {
            RoomEvent::Connected { .. } => self.entered(job.now),
            RoomEvent::Disconnected { reason, message } => {
                let was_in = self.lost(*reason, message, job)?;
                if !was_in {
                    return Ok(());
                }
            }
            RoomEvent::Done(id) => {
                self.sent.keep(*id, job);
                self.end(*id, job);
            }
            RoomEvent::Failed(failure) => {
                if self.joiners.contains(&failure.id) {
                    let counter = self.link.as_ref().map(|link| &*link.counter);
                    self.notices.failed(failure.code, &failure.message, counter);
                }
                self.sent.cancel(failure.id, job);
                self.end(failure.id, job);
            }
            RoomEvent::RpcAnswer { id, .. } => drop(self.end(*id, job)),
            RoomEvent::StreamEnded { .. } | RoomEvent::RpcRequestFailed { .. } => self.incoming.end(incoming),
            RoomEvent::StreamStarted { id, .. } => self.begin(*id, Kind::Stream),
            RoomEvent::RpcRequest { id, .. } => self.begin(*id, Kind::Request),
            RoomEvent::Audio(event) => self.note_sound(event, incoming, job),
            _ => {}
        }
        self.tell(event, incoming, job)
    }

    fn tell(&mut self, event: RoomEvent, incoming: u32, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let event = event_of(event, incoming, &|at| job.moment_of(at).as_ms());
        match event {
            Some(event) if self.stage == Stage::Running => self.deliveries.put(event, job),
            _ => Ok(()),
        }
    }

    /// A track begins or ends.
    fn note_sound(&mut self, event: &AudioEvent, incoming: u32, job: &JobAccess<'_>) {
        match event {
            AudioEvent::Started { id: HeardId::Followed(id), rule, .. } => {
                self.begin(*id, Kind::Track);
                rule.iter().for_each(|rule| self.sound.follow(*id, *rule));
            }
            AudioEvent::Ended { id: HeardId::Followed(id) } => {
                self.incoming.end(incoming);
                self.sound.end_followed(*id);
            }
            AudioEvent::Ended { id: HeardId::Asked(id) } => drop(self.end(*id, job)),
            _ => {}
        }
    }

    /// A track that was found for a rule which is over is not heard.
    fn give_up_track(&mut self, event: &RoomEvent, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        match event {
            RoomEvent::Audio(AudioEvent::Started { id: HeardId::Followed(id), .. }) => {
                self.send(Command::Audio(AudioCommand::CancelHeard { id: *id }), job)
            }
            _ => Ok(()),
        }
    }

    /// A frame waits for those that follow it, until something else has happened or nothing more is there.
    fn take_frame(&mut self, frame: AudioFrame, incoming: u32, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if matches!(frame.id, HeardId::Followed(_)) && incoming == 0 {
            return Ok(());
        }
        match self.sound.put(frame) {
            Some(earlier) => self.tell_frame(earlier, job),
            None => Ok(()),
        }
    }

    /// Give the agent the frames that are there.
    pub(super) fn give_frames(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if !self.sound.is_waiting() {
            return Ok(());
        }
        self.sound.take().into_iter().try_for_each(|frame| self.tell_frame(frame, job))
    }

    fn tell_frame(&mut self, frame: AudioFrame, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let incoming = match frame.id {
            HeardId::Asked(_) => 0,
            HeardId::Followed(id) => match self.incoming.place(id) {
                Place::Given(id) => id,
                Place::Waiting | Place::Over => 0,
            },
        };
        self.tell(RoomEvent::Audio(AudioEvent::Frame(frame)), incoming, job)
    }

    fn begin(&mut self, incoming: IncomingId, kind: Kind) {
        if self.stage == Stage::Running {
            self.incoming.begin(incoming, kind);
        }
    }

    fn entered(&mut self, now: Instant) {
        if self.presence != Presence::In
            && let Some(link) = &self.link
        {
            self.notices.joined(&link.counter, now);
        }
        self.presence = Presence::In;
    }

    /// The room is left or lost. Whether the agent was in it.
    fn lost(&mut self, reason: Reason, message: &str, job: &mut JobAccess<'_>) -> Result<bool, Kill> {
        let was_in = self.presence == Presence::In;
        if let Some(link) = &self.link {
            self.notices.left(reason, &link.counter, job.now);
        }
        if reason.is_final() {
            self.give_up(job)?;
        }
        // Who asked for the room when it was lost waits for the next join.
        self.presence = if self.joiners.is_empty() { Presence::Out } else { Presence::Entering };
        if was_in {
            self.stop = stop_after(reason, message);
        }
        Ok(was_in)
    }

    /// The room is over, and has to be opened anew.
    fn give_up(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.sound.clear();
        if let Some(link) = self.link.take() {
            self.audio.add(&link.counter.used().audio);
            link.close(job);
        }
        job.control.set_room_counter(None);
        job.control.set_room_state(RoomState::Out);
        self.presence = Presence::Out;
        self.joiners.clear();
        self.taken.clear();
        for id in std::mem::take(&mut self.operations).into_iter().chain(self.incoming.end_all()) {
            self.sent.cancel(id, job);
            if self.stage == Stage::Running {
                self.deliveries.put(failed(id, "not-joined", "the room is over".into()), job)?;
            }
        }
        Ok(())
    }

    /// The agent has finished: leave the room, once everything that it sent waits there to be delivered.
    pub(super) fn leave(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        match (self.stage, self.presence) {
            (Stage::Finished, Presence::In) => {
                self.stage = Stage::Leaving;
                self.send(Command::Disconnect, job)
            }
            // Nothing waits for the join but the join.
            (Stage::Finished, Presence::Entering) if self.operations == self.joiners => self.give_up(job),
            (Stage::Running | Stage::Finished | Stage::Leaving, _) => Ok(()),
        }
    }
}

/// The stop that follows the end of a room; none where the agent left it.
fn stop_after(reason: Reason, message: &str) -> Option<(StopBy, String)> {
    let (by, what) = match reason {
        Reason::ClientInitiated => return None,
        Reason::RoomDeleted | Reason::RoomClosed => (StopBy::RoomEnded, "the room ended"),
        Reason::ParticipantRemoved | Reason::DuplicateIdentity => (StopBy::PutOut, "the agent was put out of the room"),
        Reason::Unknown
        | Reason::ServerShutdown
        | Reason::StateMismatch
        | Reason::JoinFailure
        | Reason::Migration
        | Reason::SignalClose
        | Reason::UserUnavailable
        | Reason::UserRejected
        | Reason::SipTrunkFailure
        | Reason::ConnectionTimeout
        | Reason::MediaFailure
        | Reason::AgentError
        | Reason::Overrun
        | Reason::Fault => (StopBy::RoomLost, "the room is lost"),
    };
    let message = if message.is_empty() { String::new() } else { format!(": {message}") };
    Some((by, clip(&format!("{what}: {}{message}", reason.as_str()))))
}
