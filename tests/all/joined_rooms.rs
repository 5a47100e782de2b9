//! Whole jobs that join their rooms. In the place of a server is a room in this process, which does what a test says.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use wasm_worker::config::{Config, Override, SETTINGS};
use wasm_worker_core::event::Event as Published;
use wasm_worker_core::job::{JobInfo, Present, RoomInfo as JobRoom, RoomState, RoomStatus};
use wasm_worker_core::observer::{Events, Observer};
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::connection::{
    CommandRefused, OpenError, RoomConnection, RoomNumbers, RoomOpener, RoomStatistics, RoomToJoin,
};
use wasm_worker_core::room::event::{Reason, RoomEvent, StreamInfo};
use wasm_worker_core::room::people::{Participant, ParticipantKind, RoomInfo};
use wasm_worker_core::room::settings::RoomSettings;
use wasm_worker_core::secret::Secret;
use wasm_worker_sandbox::StopBy;
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::agent::artifact::Cache;
use wasm_worker_sandbox::agent::source;
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::job::launch::Running;
use wasm_worker_sandbox::job::offer::{Offer, OfferedRoom};
use wasm_worker_sandbox::runtimes::Runtimes;

use crate::support::harness::{cache_dir, guest, wasm_worker};

const TOKEN: &str = "eyJ-the-token-of-the-job";
const LONG: &str = "1h";

/// What a room does when it is asked for something.
type Answers = fn(&Command) -> Vec<RoomEvent>;

/// A room, and what came of it.
struct Room {
    answers: Answers,
    state: Mutex<State>,
    /// Tells that a command came, or something was published.
    changed: Notify,
}

#[derive(Default)]
struct State {
    opened: Vec<RoomSettings>,
    commands: Vec<Command>,
    events: VecDeque<RoomEvent>,
    waker: Option<Waker>,
    published: Vec<Published>,
}

impl Room {
    fn new(answers: Answers) -> Arc<Self> {
        Arc::new(Self { answers, state: Mutex::default(), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn tell(&self, events: Vec<RoomEvent>) {
        let waker = {
            let mut state = self.state();
            state.events.extend(events);
            state.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is_so(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    fn published(&self) -> Vec<&'static str> {
        self.state().published.iter().map(Published::name).collect()
    }
}

struct Opener(Arc<Room>);

impl RoomOpener for Opener {
    fn open(&self, settings: RoomSettings) -> Result<Box<dyn RoomConnection>, OpenError> {
        self.0.state().opened.push(settings);
        Ok(Box::new(Connection(self.0.clone())))
    }
}

struct Connection(Arc<Room>);

impl RoomConnection for Connection {
    fn try_perform(&mut self, command: Command) -> Result<(), CommandRefused> {
        let answers = (self.0.answers)(&command);
        self.0.state().commands.push(command);
        self.0.tell(answers);
        self.0.changed.notify_one();
        Ok(())
    }

    fn try_next(&mut self) -> Option<RoomEvent> {
        self.0.state().events.pop_front()
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.state();
        if !state.events.is_empty() {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn numbers(&self) -> Arc<dyn RoomNumbers> {
        Arc::new(Numbers)
    }
}

struct Numbers;

impl RoomNumbers for Numbers {
    fn statistics(&self) -> RoomStatistics {
        RoomStatistics { joined_in: Some(Duration::from_millis(9)), packets_sent: 3, ..RoomStatistics::default() }
    }
}

struct Keep(Arc<Room>);

impl Observer for Keep {
    fn observe(&self, event: &Published) {
        self.0.state().published.push(event.clone());
        self.0.changed.notify_one();
    }
}

/// What all jobs of these tests share.
struct Host {
    runtimes: Runtimes,
    engine: Engine,
}

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let runtimes = Runtimes::start().unwrap();
        let settings = config(&[]).engine_settings(8);
        let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone()).unwrap();
        Host { runtimes, engine }
    })
}

/// Longer than any test waits, but for these settings.
fn config(changes: &[(&str, &str)]) -> Config {
    let long = [("shutdown-grace", LONG), ("unresponsive-timeout", LONG), ("init-timeout", LONG)];
    let overrides = long.iter().chain(changes).map(|(key, value)| {
        let key = SETTINGS.iter().find(|setting| setting.key == *key).unwrap().key;
        Override { key, value: (*value).into(), source: "test".into() }
    });
    Config::load(None, overrides.collect()).unwrap()
}

/// Run a job of this guest in this room while `play` does its part, to the end.
fn job(name: &str, changes: &[(&str, &str)], room: &Arc<Room>, play: impl AsyncFnOnce(&Running)) -> JobRecord {
    let Host { runtimes, engine } = host();
    let (events, path) = (Arc::new(Events::new(vec![Box::new(Keep(room.clone()))])), guest(name));
    let config = config(changes);
    runtimes.block_on(async {
        let cache = Cache::open(cache_dir()).unwrap();
        let source = source::read(&path).unwrap();
        let agent = Agent::load(engine, source, &config.agent, Some(&cache), None, &events).await.unwrap();
        let info = JobInfo {
            id: "AJ_1".into(),
            agent_name: name.into(),
            room: JobRoom { name: "lobby".into(), ..JobRoom::default() },
            metadata: "connect".into(),
            ..JobInfo::default()
        };
        let offer = Offer { info, participants: Vec::new(), room: OfferedRoom::Open };
        let accepted = agent.decide(offer, &events).await.unwrap();
        let opener = Arc::new(Opener(room.clone()));
        let to_join = RoomToJoin { url: "wss://rooms".into(), token: Secret(TOKEN.into()), opener, moderator: None };
        let running = accepted.launch(Some(to_join));
        play(&running).await;
        running.closed().await.unwrap()
    })
}

fn connected() -> RoomEvent {
    let local = Participant { identity: "agent-AJ_1".into(), ..Participant::default() };
    RoomEvent::Connected { local, room: RoomInfo { name: "lobby".into(), ..RoomInfo::default() } }
}

/// A room that everything succeeds in.
fn obliging(command: &Command) -> Vec<RoomEvent> {
    let ann = Participant { identity: "ann".into(), ..Participant::default() };
    match command {
        Command::Connect { id } => vec![RoomEvent::ParticipantJoined(ann), connected(), RoomEvent::Done(*id)],
        Command::Disconnect => vec![disconnected(Reason::ClientInitiated)],
        Command::SendText { id, .. } | Command::SetAttributes { id, .. } | Command::CloseStream { id, .. } => {
            vec![RoomEvent::Done(*id)]
        }
        _ => Vec::new(),
    }
}

/// The same, but it never gets to leave.
fn holding(command: &Command) -> Vec<RoomEvent> {
    if matches!(command, Command::Disconnect) { Vec::new() } else { obliging(command) }
}

fn disconnected(reason: Reason) -> RoomEvent {
    RoomEvent::Disconnected { reason, message: "as the test says".into() }
}

fn is_in(state: &State) -> bool {
    state.published.iter().any(|event| matches!(event, Published::RoomJoined { .. }))
}

fn said(record: &JobRecord) -> Vec<(&str, &str)> {
    record.activity.texts.iter().map(|text| (&*text.topic, &*text.text)).collect()
}

#[test]
fn job_joins_its_room_and_leaves_it_when_its_last_words_are_delivered() {
    let room = Room::new(holding);
    let record = job("obedient", &[], &room, async |running| {
        room.until(is_in).await;
        running.handle().stop(StopBy::Dispatcher, "enough");
        room.until(|state| state.commands.contains(&Command::Disconnect)).await;
        assert!(!room.published().contains(&"job.closed"), "its last words are on their way");
        room.tell(vec![disconnected(Reason::ClientInitiated)]);
    });
    assert_eq!((record.verdict.code.as_str(), &*record.verdict.detail), ("terminated", "enough"));
    assert_eq!(said(&record), [("end", "enough")]);
    let names = room.published();
    let expected = ["job.launched", "room.joined", "room.left", "job.closed"];
    assert_eq!(&names[names.len() - expected.len()..], expected);
    let state = room.state();
    let [settings] = &state.opened[..] else { panic!("{} rooms", state.opened.len()) };
    assert_eq!((&*settings.url, &*settings.token.0), ("wss://rooms", TOKEN));
    let sent = state.commands.iter().position(|command| matches!(command, Command::SendText { .. })).unwrap();
    assert_eq!(state.commands[sent + 1..], [Command::Disconnect]);
    // The token is for the room alone.
    let shown = [
        serde_json::to_string(&state.published).unwrap(),
        serde_json::to_string(&record).unwrap(),
        format!("{settings:?} {:?} {:?}", state.published, record.log),
    ];
    assert!(shown.iter().all(|text| !text.contains(TOKEN)), "{shown:?}");
}

#[test]
fn end_of_a_room_ends_its_job_with_the_code_of_its_reason() {
    for (reason, code, detail) in [
        (Reason::ConnectionTimeout, "completed", "the room is lost: connection-timeout: as the test says"),
        (Reason::RoomDeleted, "terminated", "the room ended: room-deleted: as the test says"),
        (
            Reason::ParticipantRemoved,
            "disconnected",
            "the agent was put out of the room: participant-removed: as the test says",
        ),
    ] {
        let room = Room::new(obliging);
        let record = job("obedient", &[], &room, async |_| {
            room.until(is_in).await;
            room.tell(vec![disconnected(reason)]);
        });
        assert_eq!((record.verdict.code.as_str(), &*record.verdict.detail), (code, detail));
    }
}

#[test]
fn job_that_goes_on_without_its_room_is_killed_as_disconnected() {
    for (reason, code) in [
        (Reason::SignalClose, "disconnected"),
        (Reason::DuplicateIdentity, "disconnected"),
        (Reason::RoomDeleted, "shutdown-timeout"),
    ] {
        let room = Room::new(obliging);
        let record = job("ignore_stop", &[("shutdown-grace", "50ms")], &room, async |_| {
            room.until(is_in).await;
            room.tell(vec![disconnected(reason)]);
        });
        let verdict = &record.verdict;
        assert_eq!(verdict.code.as_str(), code, "{verdict:?}");
        assert_eq!(verdict.blame.as_str(), if code == "disconnected" { "dispatcher" } else { "guest" });
    }
}

#[test]
fn conversation_goes_both_ways_and_its_recording_replays() {
    let (room, dir) = (Room::new(obliging), tempfile::tempdir().unwrap());
    let record = job("talker", &[("record", dir.path().to_str().unwrap())], &room, async |_| {
        room.until(is_in).await;
        let info = StreamInfo {
            stream_id: "S1".into(),
            sender: Some("ann".into()),
            topic: "lk.chat".into(),
            ..StreamInfo::default()
        };
        room.tell(vec![RoomEvent::Text { info: info.clone(), text: "hello there".into() }]);
        let is_answered = |command: &Command| matches!(command, Command::CloseStream { .. });
        room.until(|state| state.commands.iter().any(is_answered)).await;
        room.tell(vec![RoomEvent::Text { info, text: "bye".into() }]);
    });
    assert_eq!(record.verdict.code.as_str(), "completed", "{:?}", record.verdict);
    let said = said(&record);
    assert!(said.contains(&("lk.chat", "You said: hello there.")), "{said:?}");
    assert_eq!(said.last(), Some(&("lk.chat", "Goodbye.")));
    let state = room.state();
    let reply_to = state.commands.iter().find_map(|command| match command {
        Command::OpenText { options, .. } => Some(&*options.reply_to),
        _ => None,
    });
    assert_eq!(reply_to, Some("S1"));
    assert_eq!(state.commands.last(), Some(&Command::Disconnect));

    let recordings: Vec<PathBuf> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [recording] = &recordings[..] else { panic!("{recordings:?}") };
    let bytes = std::fs::read(recording).unwrap();
    assert!(!bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes()), "the token is in the recording");
    let replayed = wasm_worker(["replay", recording.to_str().unwrap()]).done();
    assert_eq!(replayed.exit, 0, "{}{}", replayed.stdout, replayed.stderr);
}

#[test]
fn operators_see_who_is_in_the_room_of_a_job_and_its_use_is_counted_once() {
    let room = Room::new(obliging);
    job("obedient", &[], &room, async |running| {
        let handle = running.handle();
        room.until(is_in).await;
        let sip = Participant { kind: ParticipantKind::Sip, ..Participant::present("bob\u{202e}".into()) };
        room.tell(vec![RoomEvent::ParticipantJoined(sip)]);
        let seen = loop {
            match handle.room(RoomStatus::PRESENT_MAX) {
                Some(seen) if seen.others == 2 => break seen,
                _ => tokio::task::yield_now().await,
            }
        };
        assert_eq!((seen.state, seen.used.packets_sent), (RoomState::Joined, 3));
        let bob = Present { identity: "bob ".into(), kind: "sip".into(), state: "active".into() };
        assert_eq!((&*seen.present[0].identity, &seen.present[1]), ("ann", &bob));
        assert_eq!(handle.room(1).unwrap().present.len(), 1);
        // Whoever reads the numbers has counted them.
        assert_eq!((handle.take_room_use().packets_sent, handle.take_room_use().packets_sent), (3, 0));
        room.tell(vec![RoomEvent::Reconnecting]);
        while handle.room(0).map(|room| room.state) != Some(RoomState::Reconnecting) {
            tokio::task::yield_now().await;
        }
        handle.stop(StopBy::Dispatcher, "enough");
    });
    let state = room.state();
    let left = state.published.iter().find_map(|event| match event {
        Published::RoomLeft { used, uncounted, .. } => Some((used.packets_sent, uncounted.packets_sent)),
        _ => None,
    });
    assert_eq!(left, Some((3, 0)));
}

#[test]
fn session_waits_for_a_person_whose_connection_is_lost_and_ends_when_one_leaves() {
    let room = Room::new(obliging);
    let left = |reason| RoomEvent::ParticipantLeft { participant: Participant::present("ann".into()), reason };
    let record = job("listener", &[], &room, async |_| {
        room.until(is_in).await;
        let said = |count: usize| {
            move |state: &State| {
                let texts = state.commands.iter().filter(|command| matches!(command, Command::SendText { .. }));
                texts.count() >= count
            }
        };
        room.tell(vec![left(Reason::ConnectionTimeout)]);
        // The agent is told, and goes on.
        room.until(said(1)).await;
        room.tell(vec![
            RoomEvent::ParticipantJoined(Participant::present("ann".into())),
            left(Reason::ClientInitiated),
        ]);
    });
    assert_eq!(record.verdict.code.as_str(), "completed", "{:?}", record.verdict);
    let texts = said(&record);
    assert_eq!(texts.iter().filter(|(topic, _)| *topic == "left").count(), 1, "{texts:?}");
}

#[test]
fn job_that_never_connects_opens_no_room() {
    let room = Room::new(obliging);
    let record = job("minimal", &[], &room, async |_| ());
    assert_eq!(record.verdict.code.as_str(), "completed");
    assert!(room.state().opened.is_empty());
    assert!(!room.published().iter().any(|name| name.starts_with("room.")));
}
