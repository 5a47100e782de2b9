//! SIGKILL of the dispatcher while fifty of its rooms have a person and an agent: all come back by themselves, and nothing dispatched is
//! lost. The dispatcher is a process of its own, or the one of the worker.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::dispatcher::free_port;
use crate::support::dispatcher::{Dispatcher, ask, create_across_kills, everything};
use crate::support::harness::{Started, eventually, guest, path, wasm_worker};
use crate::support::own_people::{OwnPeople, OwnPerson};
use crate::support::people::{Client, Person, saw};
use crate::support::rooms::{delete_room, token};

const ROOMS: usize = 50;
const AGENT: &str = "room_echo";
/// Rooms beside these whose agents are on their way at the kill.
const COMING: usize = 5;
/// Dispatches that wait for a worker until the dispatcher is there again.
const WAITING: usize = 5;
const CALLERS: usize = 2;
/// Dispatches that callers have created before the kill. They go on during it, and until the dispatcher has taken as many more.
const CREATED_BEFORE: usize = 20;
/// Why a dispatch is offered again where the disk is too busy.
const NOT_STORED: &str = "the assignment could not be stored in time";

/// Somebody by a client of LiveKit's, in a room of its own.
struct Foreign {
    client: Client,
    person: Person,
}

/// Callers that create dispatches until they are told to end.
#[derive(Default)]
struct Callers {
    created: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Callers {
    fn create(&self, url: &str, caller: usize) {
        for number in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let id = create_across_kills(url, "busy", "brief", &format!("request-{caller}-{number}"));
            self.created.lock().unwrap().push(id);
        }
    }

    /// Wait until so many are created; how many that are.
    fn count(&self, least: usize) -> usize {
        eventually("the callers create dispatches", || {
            let count = self.created.lock().unwrap().len();
            (count >= least).then_some(count)
        })
    }
}

/// Tells the callers to end with this value, also where the test fails.
struct Ends<'a>(&'a Callers);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

impl Foreign {
    /// Somebody by each client that this machine has; a client that is not there is said to be skipped.
    fn join(url: &str) -> Vec<Self> {
        let join = |client: Client| {
            let mut person = client.joins(url, &token(client.name(), client.name()))?;
            person.sees("room", |line| saw(line, "connected"));
            Some(Self { client, person })
        };
        [Client::Python, Client::Node, Client::Browser].into_iter().filter_map(join).collect()
    }

    fn room(&self) -> &'static str {
        self.client.name()
    }

    /// Talk with the agent, once the server tells that it and the person are active.
    #[track_caller]
    fn talks(&mut self, url: &str, text: &str) {
        let room = self.room();
        let both_are_active = || {
            let method = "/twirp/livekit.RoomService/ListParticipants";
            let body = json!({ "room": room }).to_string();
            let answer = ask(url, "POST", method, "application/json", &everything(room), &[], &body);
            let people = answer.body["participants"].as_array().cloned().unwrap_or_default();
            (people.len() == 2 && people.iter().all(|person| person["state"] == "ACTIVE")).then_some(())
        };
        eventually(&format!("person and agent are active in `{room}`"), both_are_active);
        self.person.order(&json!({ "do": "text", "topic": "lk.chat", "text": text }));
        self.person.sees("echo", |line| saw(line, "text") && line["text"] == format!("echo {text}"));
    }
}

fn room_names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("room-{number}")).collect()
}

/// Somebody comes into each of the rooms.
fn join(people: &OwnPeople, url: &str, rooms: &[String]) -> Vec<OwnPerson> {
    let everybody: Vec<OwnPerson> = rooms.iter().map(|room| people.join(url, room, "ann")).collect();
    everybody.iter().for_each(|person| person.until("a join", |seen| seen.is_in.then_some(())));
    everybody
}

/// Each has an agent, and talks with it. Returns the identities of the agents.
fn meet(everybody: &[OwnPerson]) -> Vec<String> {
    let agents = everybody.iter().map(|person| person.until("an agent", |seen| seen.agent().map(str::to_owned)));
    let agents: Vec<String> = agents.collect();
    everybody.iter().for_each(|person| person.asks("before", "echo before"));
    agents
}

/// Each comes back to its room, which has an agent, and talks with it. Returns the identities of the agents.
fn meet_again(everybody: &[OwnPerson], is_agent: impl Fn(usize, &str) -> bool) -> Vec<String> {
    let back = |(number, person): (usize, &OwnPerson)| {
        person.until("a return", |seen| {
            seen.agent().filter(|agent| seen.losses > 0 && is_agent(number, agent)).map(str::to_owned)
        })
    };
    let agents: Vec<String> = everybody.iter().enumerate().map(back).collect();
    everybody.iter().for_each(|person| person.asks("after", "echo after"));
    agents
}

/// No answer came twice, by now.
fn heard_once(everybody: &[OwnPerson]) {
    for person in everybody {
        assert_eq!(person.seen().count("echo after"), 1, "{:?}", person.seen());
    }
}

fn job(url: &str, id: &str) -> Value {
    ask(url, "GET", &format!("/jobs/{id}"), "application/json", &everything(""), &[], "").body
}

/// The jobs of these dispatches, once they run.
fn running(url: &str, dispatches: &[String]) -> Vec<Value> {
    let runs = |id: &String| eventually("the job runs", || Some(job(url, id)).filter(|job| job["state"] == "running"));
    dispatches.iter().map(runs).collect()
}

/// Why attempts of a dispatch were lost. On a machine whose disk is busy, some are lost before their worker is told of them.
fn losses(job: &Value) -> Vec<&str> {
    let lost = job["attempts"].as_array().unwrap().iter().filter(|attempt| attempt["code"] == "lost");
    lost.map(|attempt| attempt["detail"].as_str().unwrap()).filter(|why| *why != NOT_STORED).collect()
}

/// The jobs of these dispatches end with their rooms.
fn end_all(url: &str, dispatches: &[String]) {
    dispatches.iter().for_each(|id| delete_room(url, job(url, id)["room"].as_str().unwrap()));
    for id in dispatches {
        let ended = eventually("the job ends", || Some(job(url, id)).filter(|job| job["state"] == "ended"));
        assert_eq!(ended["code"], "terminated", "{ended}");
    }
}

/// No dispatch is open, and each has exactly one outcome.
fn one_outcome_each(store: &Path, dispatches: usize) {
    let store = rusqlite::Connection::open(store).unwrap();
    let count = |sql: &str| store.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM dispatches"), i64::try_from(dispatches).unwrap());
    assert_eq!(count("SELECT count(*) FROM dispatches WHERE code IS NULL"), 0, "without an end");
    let outcomes = "SELECT count(*) FROM (SELECT dispatches.id FROM dispatches LEFT JOIN jobs ON jobs.dispatch = dispatches.id GROUP BY \
                    dispatches.id HAVING count(jobs.id) = 0 OR sum(jobs.code IS NULL) <> 0 OR sum(jobs.code <> 'lost') <> 1)";
    assert_eq!(count(outcomes), 0, "without exactly one outcome");
}

#[test]
fn people_agents_and_dispatches_outlive_a_killed_dispatcher() {
    let mut dispatcher = Dispatcher::start(&[]);
    let worker = dispatcher.worker(&[AGENT, "brief"], &[]);
    let (people, url, rooms) = (OwnPeople::start(), dispatcher.url.clone(), room_names(ROOMS + COMING));
    let everybody = join(&people, &url, &rooms);
    let mut foreign = Foreign::join(&url);
    let mut in_rooms: Vec<String> = Vec::new();
    in_rooms.extend(rooms[..ROOMS].iter().map(|room| dispatcher.dispatch(room, AGENT, "")));
    in_rooms.extend(foreign.iter().map(|foreign| dispatcher.dispatch(foreign.room(), AGENT, "")));
    let before = meet(&everybody[..ROOMS]);
    let jobs = running(&url, &in_rooms[..ROOMS]);
    foreign.iter_mut().for_each(|foreign| foreign.talks(&url, "before"));
    let waiting: Vec<String> = (0..WAITING).map(|_| dispatcher.dispatch("later", "nap", "")).collect();

    let callers = Callers::default();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (callers, url) = (&callers, &url);
            scope.spawn(move || callers.create(url, caller));
        }
        let _ends = Ends(&callers);
        callers.count(CREATED_BEFORE);
        in_rooms.extend(rooms[ROOMS..].iter().map(|room| dispatcher.dispatch(room, AGENT, "")));
        dispatcher.kill();
        dispatcher.start_again();
        callers.count(callers.count(0) + CREATED_BEFORE);
    });
    // Each agent goes on in its job.
    meet_again(&everybody[..ROOMS], |number, agent| agent == before[number]);
    meet_again(&everybody[ROOMS..], |_, _| true);
    for foreign in &mut foreign {
        foreign.person.sees("return", |line| saw(line, "reconnected"));
        foreign.talks(&url, "after");
    }

    let other = dispatcher.worker(&["nap"], &[]);
    let created = callers.created.into_inner().unwrap();
    for id in created.iter().chain(&waiting) {
        let job = dispatcher.ended(id);
        assert_eq!(job["code"], "completed", "{job}");
    }
    for (now, before) in running(&url, &in_rooms[..ROOMS]).iter().zip(&jobs) {
        assert_eq!(now["job"], before["job"], "{now}");
        assert!(losses(now).is_empty(), "{now}");
    }
    heard_once(&everybody);
    end_all(&url, &in_rooms);
    one_outcome_each(&dispatcher.store(), created.len() + waiting.len() + in_rooms.len());
    worker.kill();
    other.kill();
}

/// `wasm-worker run` without a server: the dispatcher is in the process of the worker.
struct Alone {
    process: Started,
    url: String,
}

impl Alone {
    fn start(listen: &str, store: &Path, agents: &[&str]) -> Self {
        let url = format!("ws://{listen}");
        let call = wasm_worker(["run", "--listen", listen, "--store", path(store), "--http", "off"]);
        let call = call.env("WASM_WORKER_LOAD_THRESHOLD", "none").env("WASM_WORKER_LOG_LEVEL", "error");
        let process =
            call.args(agents.iter().map(|name| guest(name)).collect::<Vec<_>>().iter().map(|agent| path(agent)));
        let alone = Self { process: process.start(), url };
        let verb = || wasm_worker(["workers"]).env("LIVEKIT_URL", &alone.url).done();
        eventually("its workers are there", || {
            (verb().stdout.matches(" available ").count() == agents.len()).then_some(())
        });
        alone
    }

    fn dispatch(&self, room: &str, agent: &str) -> String {
        create_across_kills(&self.url, room, agent, &format!("{agent} in {room}"))
    }
}

/// Jobs end with their process, for a reason that is kept, and run again in their rooms.
#[test]
fn rooms_of_a_killed_run_have_their_people_and_new_agents_again() {
    let (dir, listen) = (tempfile::tempdir().unwrap(), free_port());
    let store = dir.path().join("store.db");
    let alone = Alone::start(&listen, &store, &[AGENT]);
    let (people, rooms) = (OwnPeople::start(), room_names(ROOMS));
    let everybody = join(&people, &alone.url, &rooms);
    let in_rooms: Vec<String> = rooms.iter().map(|room| alone.dispatch(room, AGENT)).collect();
    let before = meet(&everybody);
    let waiting = alone.dispatch("later", "nap");
    alone.process.kill();
    let alone = Alone::start(&listen, &store, &[AGENT, "nap"]);
    let after = meet_again(&everybody, |number, agent| agent != before[number]);
    for (job, agent) in running(&alone.url, &in_rooms).iter().zip(&after) {
        assert_eq!(&format!("agent-{}", job["job"].as_str().unwrap()), agent);
        assert_eq!(losses(job), ["the worker ran in the dispatcher's process, which ended"], "{job}");
    }
    let shown = wasm_worker(["job", &in_rooms[0]]).env("LIVEKIT_URL", &alone.url).done().stdout;
    assert!(shown.contains("lost"), "{shown}");
    let completed = || (job(&alone.url, &waiting)["code"] == "completed").then_some(());
    eventually("the dispatch that waited runs", completed);
    heard_once(&everybody);
    end_all(&alone.url, &in_rooms);
    alone.process.signal(Signal::TERM);
    let done = alone.process.done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    one_outcome_each(&store, in_rooms.len() + 1);
}
