//! A room without a server: it records what the agent sends, and what happens in it is a script. Trials, tests, and jobs of a
//! dispatcher whose room the worker does not join.
//!
//! Room events of the script that happen while the agent is not in the room wait for it.
//!
//! Bounds: what the agent sends is bounded by `room_record`. The script is the operator's.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::job::{Acceptance, JobInfo};
use wasm_worker_core::record::{RoomRecord, SentText};
use wasm_worker_core::room::people::{Participant, ParticipantKind};

use super::offer::OfferedRoom;
use super::room_record::{self, Sent, Stream, transcription};
use super::script::{Scripted, ScriptedEvent};
use super::world::{JobAccess, World};
use crate::guest::bindings::wasm_worker::agent::events::{Event, JoinedRoom};
use crate::guest::calls::Call;
use crate::guest::contract;
use crate::guest::control::StopBy;
use crate::guest::kill::Kill;

/// The room of one job.
pub(super) struct RecordedRoom {
    sent: Sent,
    /// The agent's own participant, as of the acceptance.
    local: contract::Participant,
    room: contract::RoomInfo,
    /// Everyone else, as the agent was told or will be told when it joins.
    present: BTreeMap<String, contract::Participant>,
    is_joined: bool,
    /// Absent for a room that may bring anything.
    script: Option<Arc<[Scripted]>>,
    /// The next event of the script, by its position, and its time.
    next: usize,
    due: Instant,
    /// Room events that wait for the agent to join, each with its number.
    missed: VecDeque<(usize, ScriptedEvent)>,
    /// Requests that the agent has not answered, and when their callers give up.
    requests: BTreeMap<u32, Instant>,
}

impl RecordedRoom {
    /// The room of a job that is not launched yet.
    pub(super) fn new(
        info: &JobInfo,
        acceptance: &Acceptance,
        participants: Vec<Participant>,
        room: &OfferedRoom,
    ) -> Self {
        let script = match room {
            OfferedRoom::Scripted(script) | OfferedRoom::Sounding(script, _) => Some(script.clone()),
            OfferedRoom::Played(_) => Some(Arc::default()),
            OfferedRoom::Open => None,
        };
        let present = participants.into_iter().map(contract::Participant::from);
        Self {
            sent: Sent::recorded(),
            local: local(info, acceptance).into(),
            room: info.room.clone().into(),
            present: present.map(|who| (who.identity.clone(), who)).collect(),
            is_joined: false,
            script,
            next: 0,
            due: Instant::now(),
            missed: VecDeque::new(),
            requests: BTreeMap::new(),
        }
    }

    /// The next event of the script.
    fn next(&self) -> Option<&Scripted> {
        self.script.as_ref()?.get(self.next)
    }

    /// Set the time of the next event of the script.
    fn schedule(&mut self) {
        if let Some(next) = self.next() {
            self.due += Duration::from_millis(next.after_ms.into());
        }
    }

    fn connect(&mut self, id: u32, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if !self.is_joined {
            for who in self.present.values() {
                job.send_sure(Event::ParticipantJoined(who.clone()))?;
            }
            self.is_joined = true;
            // What happened meanwhile comes before `connected`, as those who are there do.
            for (number, event) in std::mem::take(&mut self.missed) {
                self.happen(number, event, job);
            }
            job.send_sure(self.joined_anew())?;
        }
        job.done(id)
    }

    fn disconnect(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.end(job, "the agent left the room", "client-initiated")
    }

    /// The room is lost for good, if the agent is in it.
    pub(super) fn lose(&mut self, reason: &str, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.end(job, "the room is lost", reason)
    }

    fn end(&mut self, job: &mut JobAccess<'_>, why: &str, reason: &str) -> Result<(), Kill> {
        if !self.is_joined {
            return Ok(());
        }
        self.is_joined = false;
        let requests = std::mem::take(&mut self.requests).into_keys();
        for id in self.sent.cancel_all(job).into_iter().chain(requests) {
            job.fail(id, "not-joined", why)?;
        }
        job.send_sure(Event::Disconnected(reason.into()))
    }

    /// Have an event happen in the room: now, or once the agent joins it. `number` is the event's own.
    pub(super) fn bring(&mut self, number: usize, event: ScriptedEvent, job: &mut JobAccess<'_>) {
        if self.is_joined {
            self.happen(number, event, job);
        } else {
            self.missed.push_back((number, event));
        }
    }

    fn happen(&mut self, number: usize, event: ScriptedEvent, job: &mut JobAccess<'_>) {
        if let Some(event) = event.into_event(number, job.moment(), &mut self.present) {
            job.send(event);
        }
    }

    /// What the agent did so far.
    pub(super) fn record(&self) -> &RoomRecord {
        &self.sent.record
    }

    /// Whether a participant is there.
    pub(super) fn has(&self, identity: &str) -> bool {
        self.present.contains_key(identity)
    }

    /// Whether a participant is there, and no other program.
    pub(super) fn is_person(&self, identity: &str) -> bool {
        let kind = self.present.get(identity).map(|who| who.kind);
        matches!(
            kind,
            Some(
                contract::ParticipantKind::Standard
                    | contract::ParticipantKind::Sip
                    | contract::ParticipantKind::Connector
            )
        )
    }

    /// Whether anybody is there.
    pub(super) fn has_others(&self) -> bool {
        !self.present.is_empty()
    }

    /// Whether the script has no more events.
    pub(super) fn is_over(&self) -> bool {
        self.next().is_none()
    }

    /// The event of a join after the connection was lost for a while.
    pub(super) fn joined_anew(&self) -> Event {
        Event::Connected(JoinedRoom { local: self.local_now(), room: self.room.clone() })
    }

    fn local_now(&self) -> contract::Participant {
        let attributes = self.sent.record.attributes.iter().map(|(name, value)| (name.clone(), value.clone()));
        contract::Participant { attributes: attributes.collect(), ..self.local.clone() }
    }

    /// Fail an operation that needs the room. Whether the agent is in the room.
    fn in_room(&self, id: u32, job: &mut JobAccess<'_>) -> Result<bool, Kill> {
        let joined = self.is_joined;
        if !joined {
            job.fail(id, "not-joined", "the agent is not in a room")?;
        }
        Ok(joined)
    }

    fn send_text(&mut self, id: u32, text: SentText, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if self.in_room(id, job)? {
            self.sent.add(text, job)?;
            job.done(id)?;
        }
        Ok(())
    }

    fn open_stream(&mut self, id: u32, stream: Stream, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if self.in_room(id, job)? { self.sent.open(id, stream, job) } else { Ok(()) }
    }

    fn answer(&mut self, id: u32, job: &mut JobAccess<'_>) {
        if self.requests.remove(&id).is_some() {
            job.close(id);
        }
    }
}

impl World for RecordedRoom {
    fn launched(&mut self, now: Instant) {
        self.due = now;
        self.schedule();
    }

    fn perform(&mut self, call: Call, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        match call {
            Call::Connect { id } => self.connect(id, job),
            Call::Disconnect => self.disconnect(job),
            Call::SendText { id, topic, text, options } => {
                self.send_text(id, room_record::text(topic, text, options), job)
            }
            Call::OpenText { id, topic, options } => {
                self.open_stream(id, Stream::Text(room_record::text(topic, String::new(), options)), job)
            }
            Call::SendTranscription { id, text, options } => self.send_text(id, transcription(text, options), job),
            Call::OpenTranscription { id, options } => {
                self.open_stream(id, Stream::Text(transcription(String::new(), options)), job)
            }
            Call::OpenFile { id, .. } => self.open_stream(id, Stream::File, job),
            Call::WriteText { id, text } => {
                self.sent.write(id, &text, job)?;
                self.sent.wrote(id, text.len(), job)
            }
            Call::WriteBytes { id, bytes } => self.sent.wrote(id, bytes.len(), job),
            Call::CloseStream { id, attributes } => {
                self.sent.end(id, attributes, job)?;
                if self.sent.keep(id, job) { job.done(id) } else { Ok(()) }
            }
            Call::SendFile { id, .. } | Call::SendDtmf { id, .. } | Call::SendData { id: Some(id), .. } => {
                if self.in_room(id, job)? { job.done(id) } else { Ok(()) }
            }
            Call::SetAttributes { id, attributes } => {
                attributes.into_iter().try_for_each(|(name, value)| self.sent.put_attribute(name, value, job))?;
                job.done(id)
            }
            Call::SetMetadata { id, .. } | Call::SetName { id, .. } => job.done(id),
            Call::SetAgentState { state } => self.sent.put_state(state, job),
            Call::Answer { id, .. } => {
                self.answer(id, job);
                Ok(())
            }
            Call::Cancel { id } => {
                self.sent.cancel(id, job);
                self.requests.remove(&id);
                Ok(())
            }
            // What else has an id would need a server or a network.
            call => match call.new_id() {
                Some(id) => job.fail(id, "not-supported", "the room of this job is only recorded"),
                None => Ok(()),
            },
        }
    }

    fn is_given(&mut self, event: &Event, now: Instant) {
        if let Event::RpcRequest(request) = event {
            self.requests.insert(request.id, now + Duration::from_millis(request.timeout_ms.into()));
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let script = self.next().map(|_| self.due);
        self.requests.values().copied().chain(script).min()
    }

    fn advance(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        while self.next().is_some() && self.due <= job.now {
            let position = self.next;
            self.next += 1;
            self.schedule();
            match self.script.clone().as_deref().and_then(|script| script.get(position)).map(|scripted| &scripted.event)
            {
                Some(ScriptedEvent::Terminate { reason }) => {
                    job.control.ask_to_stop(StopBy::Dispatcher, reason.as_str());
                }
                Some(ScriptedEvent::Kill {}) => job.control.kill_by_operator(),
                Some(event) => self.bring(position, event.clone(), job),
                None => {}
            }
        }
        let late: Vec<u32> = self.requests.iter().filter(|(_, until)| **until <= job.now).map(|(id, _)| *id).collect();
        for id in late {
            self.requests.remove(&id);
            job.fail(id, "timeout", "the caller has given up")?;
        }
        Ok(())
    }

    fn nothing_to_come(&self) -> Option<&'static str> {
        if !self.requests.is_empty() {
            return None;
        }
        match (self.is_joined, self.script.is_none() || self.next().is_some()) {
            (false, _) => Some("the agent is not in a room"),
            (true, true) => None,
            (true, false) => Some("the script of the room is over"),
        }
    }

    fn is_joined(&self) -> bool {
        self.is_joined
    }

    fn is_delivered(&self) -> bool {
        true
    }

    fn into_record(self: Box<Self>) -> RoomRecord {
        self.sent.record
    }
}

/// The agent's participant.
fn local(info: &JobInfo, acceptance: &Acceptance) -> Participant {
    let Acceptance { identity, name, metadata, attributes } = acceptance.clone();
    let identity = identity.unwrap_or_else(|| format!("agent-{}", info.id));
    Participant { name, metadata, attributes, kind: ParticipantKind::Agent, ..Participant::present(identity) }
}

#[cfg(test)]
mod tests {
    use super::super::world::{JobWithoutGuest, perform_all};
    use super::*;
    use crate::guest::contract::SendOptions;
    use crate::guest::events::{id_of, name_of};

    fn room(room: &OfferedRoom) -> RecordedRoom {
        let info = JobInfo { id: "AJ_1".into(), ..JobInfo::default() };
        let ann = Participant { identity: "ann".into(), ..Participant::default() };
        RecordedRoom::new(&info, &Acceptance::default(), vec![ann], room)
    }

    fn scripted(json: &str) -> OfferedRoom {
        let script: Vec<Scripted> = serde_json::from_str(json).unwrap();
        OfferedRoom::Scripted(script.into())
    }

    fn options() -> SendOptions {
        SendOptions {
            destinations: Vec::new(),
            attributes: Vec::new(),
            stream_id: String::new(),
            sender: String::new(),
            reply_to: String::new(),
            repeatable: false,
        }
    }

    fn perform(room: &mut RecordedRoom, job: &mut JobWithoutGuest, call: Call) {
        perform_all(room, std::iter::once(call), &mut job.access(0)).unwrap();
    }

    fn names(job: &mut JobWithoutGuest) -> Vec<(&'static str, u32)> {
        job.events().iter().map(|event| (name_of(event), id_of(event))).collect()
    }

    #[test]
    fn agent_learns_who_is_there_before_it_is_connected() {
        let (mut room, mut job) = (room(&OfferedRoom::Open), JobWithoutGuest::new(1 << 20));
        assert_eq!(room.nothing_to_come(), Some("the agent is not in a room"));
        let id = job.id();
        perform(&mut room, &mut job, Call::Connect { id });
        let events = job.events();
        let [Event::ParticipantJoined(ann), Event::Connected(joined), Event::Done(_)] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!((&*ann.identity, &*joined.local.identity), ("ann", "agent-AJ_1"));
        assert_eq!((room.nothing_to_come(), room.is_joined()), (None, true));
        let id = job.id();
        perform(&mut room, &mut job, Call::Connect { id });
        assert_eq!(names(&mut job), [("done", 2)], "it is in the room already");
    }

    #[test]
    fn texts_are_kept_once_the_agent_is_in_the_room() {
        let (mut room, mut job) = (room(&OfferedRoom::Open), JobWithoutGuest::new(1 << 20));
        let send = |id| Call::SendText { id, topic: "t".into(), text: "hi".into(), options: options() };
        let id = job.id();
        perform(&mut room, &mut job, send(id));
        let events = job.events();
        assert!(matches!(events.as_slice(), [Event::Failed(failure)] if failure.code == "not-joined"), "{events:?}");
        let id = job.id();
        perform(&mut room, &mut job, Call::Connect { id });
        let (text, stream) = (job.id(), job.id());
        perform(&mut room, &mut job, send(text));
        perform(&mut room, &mut job, Call::OpenText { id: stream, topic: "s".into(), options: options() });
        for part in ["one ", "two"] {
            perform(&mut room, &mut job, Call::WriteText { id: stream, text: part.into() });
        }
        perform(&mut room, &mut job, Call::WriteText { id: 99, text: "to nobody".into() });
        job.events();
        perform(&mut room, &mut job, Call::CloseStream { id: stream, attributes: vec![("a".into(), "b".into())] });
        perform(&mut room, &mut job, Call::CloseStream { id: stream, attributes: Vec::new() });
        assert_eq!(names(&mut job), [("done", stream)]);
        let record = Box::new(room).into_record();
        let texts: Vec<_> = record.texts.iter().map(|sent| (&*sent.topic, &*sent.text)).collect();
        assert_eq!(texts, [("t", "hi"), ("s", "one two")]);
        assert_eq!(record.texts[1].attributes["a"], "b");
    }

    #[test]
    fn events_of_the_script_wait_for_the_agent_and_end() {
        let script = r#"[{"after_ms": 5, "event": {"text": {"sender": "ann", "text": "hi"}}},
            {"after_ms": 5, "event": {"participant-left": {"identity": "ann"}}},
            {"event": {"terminate": {"reason": "enough"}}}]"#;
        let (mut room, mut job) = (room(&scripted(script)), JobWithoutGuest::new(1 << 20));
        room.launched(job.launched);
        assert_eq!(room.wake_at(), Some(job.launched + Duration::from_millis(5)));
        room.advance(&mut job.access(5)).unwrap();
        assert!(job.events().is_empty(), "the agent is not in the room");
        let id = job.id();
        perform(&mut room, &mut job, Call::Connect { id });
        assert_eq!(names(&mut job), [("participant-joined", 0), ("text", 0), ("connected", 0), ("done", 1)]);
        assert_eq!(room.nothing_to_come(), None);
        room.advance(&mut job.access(10)).unwrap();
        assert_eq!(names(&mut job), [("participant-left", 0)]);
        assert_eq!(job.control.take_events().len(), 1, "the request to stop");
        assert_eq!((room.wake_at(), room.nothing_to_come()), (None, Some("the script of the room is over")));
    }

    #[test]
    fn request_ends_by_its_answer_or_when_the_caller_gives_up() {
        let (mut room, mut job) = (room(&scripted("[]")), JobWithoutGuest::new(1 << 20));
        for id in [job.id(), job.id()] {
            job.ids.open(id);
            let request = crate::guest::bindings::wasm_worker::agent::events::RpcRequest {
                id,
                caller: Some("ann".into()),
                method: "m".into(),
                payload: String::new(),
                timeout_ms: 100,
            };
            room.is_given(&Event::RpcRequest(request), job.launched);
        }
        assert_eq!(room.nothing_to_come(), None, "the caller gives up some time");
        perform(&mut room, &mut job, Call::Answer { id: 1, answer: Ok("yes".into()) });
        assert!(!job.ids.is_open(1));
        room.advance(&mut job.access(100)).unwrap();
        assert_eq!(names(&mut job), [("failed", 2)]);
        assert_eq!(room.wake_at(), None);
    }

    #[test]
    fn streams_end_with_the_room_and_what_needs_a_server_fails() {
        let (mut room, mut job) = (room(&OfferedRoom::Open), JobWithoutGuest::new(1 << 20));
        let [connect, stream, call, state] = [job.id(), job.id(), job.id(), job.id()];
        perform(&mut room, &mut job, Call::Connect { id: connect });
        let used = job.meter.used_bytes();
        perform(&mut room, &mut job, Call::OpenText { id: stream, topic: "s".into(), options: options() });
        let method = Call::Rpc {
            id: call,
            destination: "ann".into(),
            method: "m".into(),
            payload: String::new(),
            timeout_ms: 1,
        };
        perform(&mut room, &mut job, method);
        let attributes = vec![("mood".into(), "good".into())];
        perform(&mut room, &mut job, Call::SetAttributes { id: state, attributes });
        perform(&mut room, &mut job, Call::Disconnect);
        perform(&mut room, &mut job, Call::Disconnect);
        job.events().drain(..).for_each(drop);
        assert!(!room.is_joined() && job.meter.used_bytes() < used + (1 << 10));
        assert_eq!(Box::new(room).into_record().attributes["mood"], "good");
    }

    #[test]
    fn flood_of_calls_costs_its_own_job() {
        let (mut room, mut job) = (room(&OfferedRoom::Open), JobWithoutGuest::new(1 << 20));
        let mut flood = || -> Result<(), Kill> {
            loop {
                let id = job.id();
                perform_all(&mut room, std::iter::once(Call::SetName { id, name: String::new() }), &mut job.access(0))?;
            }
        };
        assert!(matches!(flood(), Err(Kill::Memory { .. })));
        let last = job.ids.open_count();
        assert!(last > 1_000, "{last}");
    }
}
