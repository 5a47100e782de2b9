//! The world of a scenario: the recorded room, the servers, and the script that makes things happen.
//!
//! Texts and calls of participants wait until the agent is in the room; those who come and go do not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::record::RoomRecord;
use wasm_worker_core::room::names::AGENT_STATE;
use wasm_worker_core::room::people::{Participant, ParticipantKind};
use wasm_worker_core::usage::AudioUse;

use super::played_audio::PlayedAudio;
use super::played_model::PlayedModel;
use super::played_network::PlayedNetwork;
use super::played_rules::NO_ANSWER;
use super::recorded_room::RecordedRoom;
use super::script::{Person, PersonKind, ScriptedEvent, stream_info};
use super::world::{JobAccess, World};
use crate::guest::bindings::wasm_worker::agent::events::{Event, FileMessage, TextMessage};
use crate::guest::calls::Call;
use crate::guest::control::StopBy;
use crate::guest::kill::Kill;
use crate::scenario::check::Now;
use crate::scenario::play::{Next, SharedPlay};
use crate::scenario::script::{Action, Fault, Said, Script, SentFile};
use crate::scenario::trace::SeenAnswer;

/// The world of one scenario.
pub(super) struct PlayedRoom {
    room: RecordedRoom,
    network: PlayedNetwork,
    audio: PlayedAudio,
    play: SharedPlay,
    script: Arc<Script>,
    launched: Instant,
    /// The next time of the script.
    wake: Option<Instant>,
    /// The end of a lost connection.
    lost_until: Option<Instant>,
    /// Calls of participants that the agent has not answered: their methods, and when their callers give up.
    called: BTreeMap<u32, (String, Instant)>,
    /// Whether the job has been told to end.
    is_told_to_end: bool,
    /// Texts of the record that the play has seen, and of those that are not kept.
    texts_seen: (usize, u64),
    /// The state that the play has seen last.
    state_seen: Option<String>,
}

impl PlayedRoom {
    /// The world of a job that is not launched yet.
    pub(super) fn new(room: RecordedRoom, play: SharedPlay) -> Self {
        let script = play.script();
        Self {
            room,
            network: PlayedNetwork::new(PlayedModel::new(script.model.clone())),
            audio: PlayedAudio::new(script.wants_sound()),
            script,
            launched: Instant::now(),
            wake: None,
            lost_until: None,
            called: BTreeMap::new(),
            is_told_to_end: false,
            texts_seen: (0, 0),
            state_seen: None,
            play,
        }
    }

    fn since_launch(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.launched)
    }

    /// Show the play what the agent did.
    fn watch(&mut self, now: Instant) {
        let at = self.since_launch(now);
        let record = self.room.record();
        let mut play = self.play.lock();
        for text in record.texts.iter().skip(self.texts_seen.0) {
            play.trace.text(at, text.clone());
        }
        play.trace.not_kept += record.texts_not_kept.saturating_sub(self.texts_seen.1);
        self.texts_seen = (record.texts.len(), record.texts_not_kept);
        let state = record.attributes.get(AGENT_STATE);
        if state != self.state_seen.as_ref() {
            self.state_seen = state.cloned();
            state.into_iter().for_each(|state| play.trace.state(at, state.clone()));
        }
        self.network.seen.drain(..).for_each(|request| play.trace.request(at, request));
        self.network.model.seen.drain(..).for_each(|question| play.trace.question(at, question));
        for part in self.audio.take_played() {
            play.trace.sound(part.at.saturating_duration_since(self.launched), part.rate, part.samples);
        }
    }

    /// Carry out what the script has for this time.
    fn go_on(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        loop {
            let next = {
                let now = Now {
                    at: self.since_launch(job.now),
                    joined: self.room.is_joined() && self.lost_until.is_none(),
                    fuel: job.fuel,
                    memory: job.meter.peak_bytes(),
                    attributes: &self.room.record().attributes,
                };
                self.play.lock().next(&now)
            };
            match next {
                Next::Act(at) => self.act(at, job)?,
                Next::Wait(until) => {
                    self.wake = Some(self.launched + until);
                    return Ok(());
                }
                Next::Over | Next::Failed => {
                    self.wake = None;
                    self.tell_to_end(next == Next::Failed, job);
                    return Ok(());
                }
            }
        }
    }

    fn tell_to_end(&mut self, has_failed: bool, job: &JobAccess<'_>) {
        if std::mem::replace(&mut self.is_told_to_end, true) {
            return;
        }
        if has_failed {
            job.control.kill_by_operator();
        } else {
            job.control.ask_to_stop(StopBy::Dispatcher, "the scenario is over");
        }
    }

    fn act(&mut self, at: usize, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let script = self.script.clone();
        let Some(step) = script.steps.get(at) else { return Ok(()) };
        match &step.action {
            Action::Join(who) => {
                self.room.bring(at, ScriptedEvent::ParticipantJoined(person(who)), job);
                self.audio.has_listener(job)?;
            }
            Action::Leave { identity } => {
                self.audio.leave(identity, job)?;
                let who = Participant { identity: identity.clone(), ..Participant::default() };
                self.room.bring(at, ScriptedEvent::ParticipantLeft(person(&who)), job);
            }
            Action::Change { identity, attributes } => {
                let (identity, changed) = (identity.clone(), attributes.clone());
                self.room.bring(at, ScriptedEvent::AttributesChanged { identity, changed }, job);
            }
            Action::Say(said) => job.send(text_of(said, at, job)),
            Action::Speak { from, sound } => {
                self.audio.say((from, self.room.is_person(from)), sound.clone(), job)?;
            }
            Action::Data { from, topic, payload } => {
                let (sender, topic, payload) = (from.clone(), topic.clone(), payload.clone());
                self.room.bring(at, ScriptedEvent::Data { sender, topic, payload }, job);
            }
            Action::File(file) => job.send(file_of(file, at, job)),
            Action::Call { from, method, payload, timeout } => {
                let (sender, method, payload) = (from.clone(), method.clone(), payload.clone());
                let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
                self.room.bring(at, ScriptedEvent::Rpc { sender, method, payload, timeout_ms }, job);
            }
            Action::Answer(rule) => self.network.answer(rule.clone(), job)?,
            Action::Http(rule) => self.network.http(rule.clone(), job)?,
            Action::Socket(rule) => self.network.socket(rule.clone(), job)?,
            Action::SocketSend { url, text } => self.network.send(url, text, job),
            Action::SocketClose { url, code, reason } => self.network.close(url, *code, reason, job),
            Action::Stop { reason } => job.control.ask_to_stop(StopBy::Dispatcher, reason.as_str()),
            Action::Drain { reason } => job.control.ask_to_stop(StopBy::Drain, reason.as_str()),
            Action::Fault(fault) => self.fail(fault, job)?,
            Action::Advance(_) | Action::At(_) | Action::Expect(_) => {}
        }
        Ok(())
    }

    fn fail(&mut self, fault: &Fault, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        match fault {
            Fault::Kill => job.control.kill_by_operator(),
            Fault::Disconnect { reason } if self.room.is_joined() => {
                self.audio.fail("the room is lost", job)?;
                self.room.lose(reason, job)?;
            }
            Fault::Disconnect { .. } => {}
            Fault::Reconnect { after } if self.room.is_joined() => {
                job.send_sure(Event::Reconnecting)?;
                self.lost_until = Some(job.now + *after);
            }
            Fault::Reconnect { .. } => {}
        }
        Ok(())
    }

    /// The callers of these calls have given up.
    fn give_up(&mut self, now: Instant) {
        let at = self.since_launch(now);
        let late = self.called.extract_if(.., |_, (_, until)| *until <= now);
        for (_, (method, _)) in late {
            let answer = Err((NO_ANSWER, "the agent did not answer in time".into()));
            self.play.lock().trace.answer(at, SeenAnswer { method, answer });
        }
    }
}

impl World for PlayedRoom {
    fn launched(&mut self, now: Instant) {
        self.launched = now;
        self.room.launched(now);
    }

    fn perform(&mut self, call: Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let at = self.since_launch(job.now);
        self.play.lock().trace.call(at, &call);
        if let Call::Answer { id, answer } = &call
            && let Some((method, _)) = self.called.remove(id)
        {
            let answer = answer.clone().map_err(|error| (error.code, error.message));
            self.play.lock().trace.answer(at, SeenAnswer { method, answer });
        }
        let Self { room, network, audio, .. } = self;
        let call = network.perform(call, |who| room.has(who), job)?;
        if let Some(call) = call
            && let Some(call) = audio.perform(call, room.is_joined(), job)?
        {
            self.audio.pass_on(call, &mut self.room, job)?;
        }
        self.watch(job.now);
        Ok(())
    }

    fn is_given(&mut self, event: &Event, now: Instant) {
        if let Event::RpcRequest(request) = event {
            let until = now + Duration::from_millis(request.timeout_ms.into());
            self.called.insert(request.id, (request.method.clone(), until));
        }
        self.audio.is_given(event);
        self.room.is_given(event, now);
    }

    fn wake_at(&self) -> Option<Instant> {
        let times = [self.wake, self.lost_until, self.network.wake_at(), self.audio.wake_at(), self.room.wake_at()];
        times.into_iter().flatten().min()
    }

    fn advance(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if self.lost_until.is_some_and(|until| until <= job.now) {
            self.lost_until = None;
            job.send_sure(self.room.joined_anew())?;
        }
        self.give_up(job.now);
        self.room.advance(job)?;
        self.network.advance(job)?;
        self.audio.advance(job)?;
        self.watch(job.now);
        self.go_on(job)?;
        // A rule of the script may have answered at once.
        self.network.advance(job)
    }

    fn nothing_to_come(&self) -> Option<&'static str> {
        let may_come = self.network.wake_at().is_some()
            || self.audio.wake_at().is_some()
            || self.lost_until.is_some()
            || !self.called.is_empty()
            || !self.play.lock().awaits_end();
        (!may_come).then_some("the scenario brings nothing more")
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

fn text_of(said: &Said, number: usize, job: &JobAccess<'_>) -> Event {
    let Said { from, topic, text, attributes } = said;
    let mut info = stream_info(number, from.clone(), topic.clone(), text.len(), job.moment());
    info.attributes = attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Event::Text(TextMessage { info, text: text.clone() })
}

fn file_of(file: &SentFile, number: usize, job: &JobAccess<'_>) -> Event {
    let SentFile { from, topic, name, mime_type, content } = file;
    let mut info = stream_info(number, from.clone(), topic.clone(), content.len(), job.moment());
    (info.name, info.mime_type) = (name.clone(), mime_type.clone());
    Event::File(FileMessage { info, bytes: content.clone().into_bytes() })
}

fn person(who: &Participant) -> Person {
    let kind = match who.kind {
        ParticipantKind::Standard | ParticipantKind::Bridge | ParticipantKind::Other => PersonKind::Standard,
        ParticipantKind::Ingress => PersonKind::Ingress,
        ParticipantKind::Egress => PersonKind::Egress,
        ParticipantKind::Sip => PersonKind::Sip,
        ParticipantKind::Agent => PersonKind::Agent,
        ParticipantKind::Connector => PersonKind::Connector,
    };
    let Participant { identity, name, metadata, attributes, .. } = who.clone();
    Person { identity, name, metadata, attributes: attributes.into_iter().collect(), kind }
}
