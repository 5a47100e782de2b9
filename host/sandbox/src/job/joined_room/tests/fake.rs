//! A room that does nothing but what a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use wasm_worker_core::event::Event as Published;
use wasm_worker_core::job::{Acceptance, JobInfo, RoomInfo as JobRoom};
use wasm_worker_core::observer::{Events, Observer};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::connection::{
    CommandRefused, OpenError, RoomConnection, RoomNumbers, RoomOpener, RoomStatistics, RoomToJoin,
};
use wasm_worker_core::room::event::{Reason, RoomEvent};
use wasm_worker_core::room::people::{Participant, RoomInfo};
use wasm_worker_core::room::settings::RoomSettings;
use wasm_worker_core::secret::Secret;

use super::super::super::world::{JobWithoutGuest, World};
use super::super::JoinedRoom;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::calls::Call;
use crate::guest::contract::SendOptions;
use crate::guest::events::{id_of, name_of};

/// What becomes of commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Takes {
    #[default]
    All,
    /// None, because too many wait.
    Full,
    /// None any more.
    Over,
}

/// What is behind all connections of one test.
#[derive(Default)]
pub(super) struct State {
    pub(super) opened: Vec<RoomSettings>,
    pub(super) commands: Vec<Command>,
    pub(super) events: VecDeque<RoomEvent>,
    pub(super) statistics: RoomStatistics,
    /// What becomes of commands.
    pub(super) takes: Takes,
    /// No room is opened.
    pub(super) is_refused: bool,
    pub(super) dropped: usize,
    waker: Option<Waker>,
}

/// The room of a test, its job, and what was published.
pub(super) struct Test {
    state: Arc<Mutex<State>>,
    published: Arc<Mutex<Vec<Published>>>,
    pub(super) room: JoinedRoom,
    pub(super) job: JobWithoutGuest,
}

impl Test {
    /// A job with this limit on its memory, of which its inbox may take half.
    pub(super) fn new(memory_bytes: usize) -> Self {
        let (state, published) = (Arc::<Mutex<State>>::default(), Arc::<Mutex<Vec<Published>>>::default());
        let opener = Arc::new(Opener(state.clone()));
        let room = RoomToJoin { url: "ws://rooms".into(), token: Secret("hidden".into()), opener, moderator: None };
        let info = JobInfo {
            id: "AJ_1".into(),
            agent_name: "a".into(),
            room: JobRoom { name: "lobby".into(), ..JobRoom::default() },
            ..JobInfo::default()
        };
        let acceptance = Acceptance { attributes: vec![("mood".into(), "good".into())], ..Acceptance::default() };
        let events = Arc::new(Events::new(vec![Box::new(Keep(published.clone()))]));
        let room = JoinedRoom::new(&info, &acceptance, room, events);
        Self { state, published, room, job: JobWithoutGuest::new(memory_bytes) }
    }

    /// The same in its room.
    pub(super) fn joined() -> Self {
        let mut test = Self::new(1 << 20);
        let id = test.call(|id| Call::Connect { id });
        test.tell([connected(), RoomEvent::Done(id)]);
        assert_eq!(test.step(), [("connected", 0), ("done", id)]);
        test.state().commands.clear();
        test.published.lock().unwrap().clear();
        test
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Make a call with a new id.
    pub(super) fn call(&mut self, call: impl FnOnce(u32) -> Call) -> u32 {
        let id = self.job.id();
        self.perform(call(id));
        id
    }

    pub(super) fn perform(&mut self, call: Call) {
        self.job.perform(&mut self.room, call);
    }

    pub(super) fn send_text(&mut self, text: &str) -> u32 {
        self.call(|id| Call::SendText { id, topic: "t".into(), text: text.into(), options: options() })
    }

    /// Have these events come from the room, and the world see them.
    pub(super) fn tell(&mut self, events: impl IntoIterator<Item = RoomEvent>) {
        let waker = {
            let mut state = self.state();
            state.events.extend(events);
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
        self.advance(0);
    }

    pub(super) fn advance(&mut self, after_ms: u64) {
        self.room.advance(&mut self.job.access(after_ms)).unwrap();
    }

    pub(super) fn finish(&mut self) {
        self.room.finish(&mut self.job.access(0)).unwrap();
    }

    /// The events of the next step.
    pub(super) fn events(&mut self) -> Vec<Event> {
        self.job.step(&mut self.room)
    }

    /// Their names and ids.
    pub(super) fn step(&mut self) -> Vec<(&'static str, u32)> {
        self.events().iter().map(|event| (name_of(event), id_of(event))).collect()
    }

    /// The codes of the failures among the events of the next step.
    pub(super) fn failures(&mut self) -> Vec<(u32, String)> {
        let failures = self.events().into_iter().map(|event| match event {
            Event::Failed(failure) => (failure.id, failure.code),
            other => panic!("{other:?}"),
        });
        failures.collect()
    }

    /// The commands since the last look.
    pub(super) fn commands(&self) -> Vec<Command> {
        std::mem::take(&mut self.state().commands)
    }

    /// What was published since the last look.
    pub(super) fn published(&self) -> Vec<Published> {
        std::mem::take(&mut self.published.lock().unwrap())
    }

    /// End the job, and return what was published of that.
    pub(super) fn end(self) -> Vec<Published> {
        drop(Box::new(self.room).into_record());
        assert_eq!(self.state.lock().unwrap().dropped, 1);
        std::mem::take(&mut self.published.lock().unwrap())
    }
}

struct Opener(Arc<Mutex<State>>);

impl RoomOpener for Opener {
    fn open(&self, settings: RoomSettings) -> Result<Box<dyn RoomConnection>, OpenError> {
        let mut state = self.0.lock().unwrap();
        if state.is_refused {
            return Err(OpenError::TooMany { rooms_max: 3 });
        }
        state.opened.push(settings);
        state.takes = Takes::All;
        Ok(Box::new(Connection(self.0.clone())))
    }
}

struct Connection(Arc<Mutex<State>>);

impl RoomConnection for Connection {
    fn try_perform(&mut self, command: Command) -> Result<(), CommandRefused> {
        let mut state = self.0.lock().unwrap();
        match state.takes {
            Takes::Over => Err(CommandRefused::Over(command)),
            Takes::Full => Err(CommandRefused::Full(command)),
            Takes::All => {
                state.commands.push(command);
                Ok(())
            }
        }
    }

    fn try_next(&mut self) -> Option<RoomEvent> {
        self.0.lock().unwrap().events.pop_front()
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap();
        if state.events.is_empty() {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn numbers(&self) -> Arc<dyn RoomNumbers> {
        Arc::new(Numbers(self.0.clone()))
    }
}

struct Numbers(Arc<Mutex<State>>);

impl RoomNumbers for Numbers {
    fn statistics(&self) -> RoomStatistics {
        self.0.lock().unwrap().statistics
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.lock().unwrap().dropped += 1;
    }
}

struct Keep(Arc<Mutex<Vec<Published>>>);

impl Observer for Keep {
    fn observe(&self, event: &Published) {
        self.0.lock().unwrap().push(event.clone());
    }
}

pub(super) fn options() -> SendOptions {
    SendOptions {
        destinations: Vec::new(),
        attributes: Vec::new(),
        stream_id: String::new(),
        sender: String::new(),
        reply_to: String::new(),
        repeatable: false,
    }
}

pub(super) fn connected() -> RoomEvent {
    let local = Participant { identity: "agent-AJ_1".into(), ..Participant::default() };
    RoomEvent::Connected { local, room: RoomInfo::default() }
}

pub(super) fn disconnected(reason: Reason) -> RoomEvent {
    RoomEvent::Disconnected { reason, message: String::new() }
}

pub(super) fn ann() -> Participant {
    Participant { identity: "ann".into(), ..Participant::default() }
}
