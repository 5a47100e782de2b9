//! What the agent asks of its room.

use wasm_worker_core::job::RoomState;
use wasm_worker_core::room::audio::{AudioCommand, HeardId};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};

use super::super::room_record::{self, transcription};
use super::super::world::JobAccess;
use super::commands::command_of;
use super::incoming_ids::Kind;
use super::link::Link;
use super::moderation::act_of;
use super::sound::Begun;
use super::{JoinedRoom, NOT_JOINED, Presence};
use crate::guest::calls::Call;
use crate::guest::contract::{Attributes, RpcError};
use crate::guest::kill::Kill;

impl JoinedRoom {
    pub(super) fn connect(&mut self, id: u32, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if self.link.is_none() {
            let limits = job.meter.limits();
            let limits = RoomLimits {
                leave_within: limits.shutdown_grace,
                send_bytes_per_second: limits.room_bytes_per_second,
                ..RoomLimits::default()
            };
            match self.place.opener.open(self.settings(limits)) {
                Ok(connection) => {
                    let link = Link::new(connection);
                    job.control.set_room_counter(Some(link.counter.clone()));
                    self.link = Some(link);
                }
                Err(error) => {
                    self.notices.failed("limit", &error.to_string(), None);
                    return job.fail(id, "limit", &error.to_string());
                }
            }
            self.notices.opened();
            for command in self.wishes.before_join().collect::<Vec<_>>() {
                self.send(command, job)?;
            }
        }
        self.joiners.insert(id);
        self.send(Command::Connect { id }, job)?;
        if self.presence == Presence::Out {
            self.presence = Presence::Entering;
            job.control.set_room_state(RoomState::Joining);
            if let Some(command) = self.wishes.after_join() {
                self.send(command, job)?;
            }
        }
        Ok(())
    }

    fn settings(&self, limits: RoomLimits) -> RoomSettings {
        let attributes = self.sent.record.attributes.iter().map(|(name, value)| (name.clone(), value.clone()));
        RoomSettings {
            url: self.place.url.clone(),
            token: self.place.token.clone(),
            name: self.wishes.name.clone(),
            metadata: self.wishes.metadata.clone(),
            attributes: attributes.collect(),
            limits,
        }
    }

    /// Have the room do something.
    pub(super) fn send(&mut self, command: Command, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let id = command.new_id().filter(|id| *id != 0);
        match &mut self.link {
            Some(link) => {
                self.operations.extend(id);
                if let Command::Audio(command) = &command {
                    self.sound.begin(command);
                }
                link.perform(command, job)
            }
            None => id.map_or(Ok(()), |id| job.fail(id, "not-joined", NOT_JOINED)),
        }
    }

    /// A call that needs the room, or that only a later version performs.
    pub(super) fn pass(&mut self, call: Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        match command_of(call) {
            Ok(command) => self.send(command, job),
            Err(call) => refuse(&call, job),
        }
    }

    /// Keep what the agent sends for the record of the job.
    pub(super) fn record(&mut self, call: &Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        match call {
            Call::SendText { id, topic, text, options } => {
                let kept = || room_record::text(topic.clone(), text.clone(), options.clone());
                self.sent.open_text(*id, text.len(), kept, job)
            }
            Call::OpenText { id, topic, options } => {
                self.sent.open_text(*id, 0, || room_record::text(topic.clone(), String::new(), options.clone()), job)
            }
            Call::SendTranscription { id, text, options } => {
                self.sent.open_text(*id, text.len(), || transcription(text.clone(), options.clone()), job)
            }
            Call::OpenTranscription { id, options } => {
                self.sent.open_text(*id, 0, || transcription(String::new(), options.clone()), job)
            }
            Call::WriteText { id, text } => self.sent.write(*id, text, job),
            Call::CloseStream { id, attributes } => self.sent.end(*id, attributes.clone(), job),
            _ => Ok(()),
        }
    }

    /// Begin an act of moderation.
    pub(super) fn moderate(&mut self, call: &Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let Some((id, act)) = act_of(call) else { return Ok(()) };
        self.moderations.begin(id, act, (&self.place, self.notices.room()), job)
    }

    pub(super) fn set_attributes(&mut self, attributes: &Attributes, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        for (name, value) in attributes {
            self.wishes.set_attribute(name, value);
            self.sent.put_attribute(name.clone(), value.clone(), job)?;
        }
        Ok(())
    }

    /// Change the own participant: in the room, or for the join that comes.
    pub(super) fn change(&mut self, call: Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        match (self.link.is_some(), call.new_id()) {
            (false, Some(id)) => job.done(id),
            (false, None) => Ok(()),
            (true, _) => self.pass(call, job),
        }
    }

    pub(super) fn cancel(&mut self, id: u32, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.deliveries.forget(id, job);
        if let Some((incoming, kind)) = self.incoming.find(id) {
            self.incoming.end(id);
            let command = match kind {
                Kind::Stream | Kind::Request => Command::CancelIncoming { id: incoming },
                Kind::Track => {
                    self.sound.end_followed(incoming);
                    Command::Audio(AudioCommand::CancelHeard { id: incoming })
                }
            };
            return self.send(command, job);
        }
        if !self.end(id, job) {
            return Ok(());
        }
        self.sent.cancel(id, job);
        self.send(Command::Cancel { id }, job)
    }

    /// Pause or continue what an id delivers. The room holds sound back, and what is on its way from there waits here.
    pub(super) fn hold(&mut self, id: u32, held: bool, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let heard = match (self.sound.find(id), self.incoming.find(id)) {
            (Some(Begun::Published), _) => {
                return self.send(Command::Audio(AudioCommand::HoldPlayout { id, held }), job);
            }
            (Some(Begun::Heard { .. }), _) => Some(HeardId::Asked(id)),
            (None, Some((incoming, Kind::Track))) => Some(HeardId::Followed(incoming)),
            (None, _) => None,
        };
        if !held || job.is_open(id) {
            self.deliveries.hold(id, held);
        }
        match heard {
            Some(id) => self.send(Command::Audio(AudioCommand::HoldHeard { id, held }), job),
            None => Ok(()),
        }
    }

    pub(super) fn answer(
        &mut self,
        id: u32,
        answer: Result<String, RpcError>,
        job: &mut JobAccess<'_>,
    ) -> Result<(), Kill> {
        let Some((request, Kind::Request)) = self.incoming.find(id) else { return Ok(()) };
        self.incoming.end(id);
        self.deliveries.forget(id, job);
        job.close(id);
        self.send(Command::Answer { request, answer: answer.map_err(Into::into) }, job)
    }
}

/// A call that no room performs: spans come later.
fn refuse(call: &Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
    let Some(id) = call.new_id() else { return Ok(()) };
    job.fail(id, "not-supported", &format!("this version does not support `{}`", call.name()))
}
