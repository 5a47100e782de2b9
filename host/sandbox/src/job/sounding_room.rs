//! A room without a server in which the agent may speak, and one person does: `run --job`, with files of sound or without.
//!
//! The person speaks once the agent is in the room. When that is over, and neither has been heard for [`SILENCE`], the job is asked to
//! stop.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::record::RoomRecord;
use wasm_worker_core::usage::AudioUse;

use super::offer::LocalSound;
use super::played_audio::PlayedAudio;
use super::recorded_room::RecordedRoom;
use super::world::{JobAccess, World};
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::calls::Call;
use crate::guest::control::StopBy;
use crate::guest::kill::Kill;

/// The silence after which the conversation is over. A model may think for so long.
const SILENCE: Duration = Duration::from_secs(5);

/// The room of one job.
pub(super) struct SoundingRoom {
    room: RecordedRoom,
    audio: PlayedAudio,
    person: String,
    sound: LocalSound,
    launched: Instant,
    /// The time since which nobody is heard, after the person has spoken.
    silent_since: Option<Instant>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The person waits for the agent.
    Waiting,
    /// The person has begun to speak.
    Begun,
    /// The job is asked to stop, or nothing is said.
    Over,
}

impl SoundingRoom {
    /// The room of a job that is not launched yet, in which this person speaks.
    pub(super) fn new(room: RecordedRoom, person: String, sound: LocalSound) -> Self {
        let audio = PlayedAudio::new(sound.tape.is_some());
        let stage = if sound.speech.is_some() { Stage::Waiting } else { Stage::Over };
        Self { room, audio, person, sound, launched: Instant::now(), silent_since: None, stage }
    }

    /// Let the person begin, and the job end.
    fn go_on(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        match self.stage {
            Stage::Waiting if self.room.is_joined() => {
                self.stage = Stage::Begun;
                let person = (&*self.person, self.room.is_person(&self.person));
                self.sound.speech.take().map_or(Ok(()), |speech| self.audio.say(person, speech, job))
            }
            Stage::Begun if self.room.is_over() && self.audio.is_silent(job.now) => {
                let silent_since = *self.silent_since.get_or_insert(job.now);
                if job.now >= silent_since + SILENCE {
                    self.stage = Stage::Over;
                    job.control.ask_to_stop(StopBy::Dispatcher, "the conversation is over");
                }
                Ok(())
            }
            Stage::Begun => {
                self.silent_since = None;
                Ok(())
            }
            Stage::Waiting | Stage::Over => Ok(()),
        }
    }

    /// Keep what was played.
    fn keep(&mut self) {
        if let Some(tape) = &self.sound.tape {
            let mut tape = tape.lock().unwrap_or_else(PoisonError::into_inner);
            for part in self.audio.take_played() {
                tape.add(part.at.saturating_duration_since(self.launched), part.rate, &part.samples);
            }
        }
    }
}

impl World for SoundingRoom {
    fn launched(&mut self, now: Instant) {
        self.launched = now;
        self.room.launched(now);
    }

    fn perform(&mut self, call: Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        match self.audio.perform(call, self.room.is_joined(), job)? {
            Some(call) => self.audio.pass_on(call, &mut self.room, job),
            None => Ok(()),
        }
    }

    fn is_given(&mut self, event: &Event, now: Instant) {
        self.audio.is_given(event);
        self.room.is_given(event, now);
    }

    fn wake_at(&self) -> Option<Instant> {
        // After what is heard, the end of the speech begins the silence.
        let waits_for_end = self.stage == Stage::Begun
            && self.silent_since.is_none()
            && self.room.is_over()
            && self.audio.wake_at().is_none();
        let end_of_speech = self.audio.end_of_speech().filter(|_| waits_for_end);
        let end = self.silent_since.filter(|_| self.stage == Stage::Begun).map(|since| since + SILENCE);
        [self.audio.wake_at(), self.room.wake_at(), end_of_speech, end].into_iter().flatten().min()
    }

    fn advance(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.room.advance(job)?;
        self.audio.advance(job)?;
        self.go_on(job)?;
        self.keep();
        Ok(())
    }

    fn nothing_to_come(&self) -> Option<&'static str> {
        let may_come = self.audio.wake_at().is_some() || (self.stage == Stage::Begun);
        if may_come { None } else { self.room.nothing_to_come() }
    }

    fn is_joined(&self) -> bool {
        self.room.is_joined()
    }

    fn is_delivered(&self) -> bool {
        self.room.is_delivered()
    }

    fn audio_use(&self) -> AudioUse {
        self.audio.used()
    }

    fn bytes_waiting(&self) -> usize {
        self.audio.bytes_waiting()
    }

    fn into_record(self: Box<Self>) -> RoomRecord {
        Box::new(self.room).into_record()
    }
}
