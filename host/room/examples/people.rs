//! People in rooms of a LiveKit server that runs with `--dev`, in a process of their own: `tests/bench/rooms.rs` has them talk with the
//! agents that it measures.
//!
//! ```text
//! people URL PREFIX
//! ```
//!
//! It reads orders from standard input, one a line, and answers each by one line of JSON. The rooms are `PREFIX-0` and so on.
//!
//! ```text
//! join COUNT                   one person each joins so many more rooms
//! others COUNT                 so many more people join each of the rooms
//! agents NAME COUNT AT_ONCE [METADATA]
//!                              the server sends an agent of this name into so many more of these rooms, so many at once; told are the
//!                              times from the request until the agent is active in the room
//! talk SECONDS EVERY_MS [ANSWER]
//!                              each person who has an agent says a text this often, and waits for this answer, or for the text's echo
//! sound SECONDS in|out|both    each person who has an agent says a tone for so long (`in`), hears the agent (`out`), or both; told are
//!                              the agents there and what was heard. The tone is encoded once, for all of them; see people/tone.rs
//! chat SECONDS EVERY_MS ROOMS  everybody in a room with an agent says a text this often; told are the times until the others in the
//!                              room have it, and until its speaker has the agent's echo. In the first ROOMS of these rooms one person
//!                              speaks meanwhile, and all hear each other; see people/chat.rs
//! leave                        all leave, and the process ends
//! ```
//!
//! Bounds: [`AGENT_WITHIN`], [`JOIN_WITHIN`]; an answer is waited for until the next text is due, and counted as missing then.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a tool that prints, and whose faults end it"
)]

#[path = "people/chat.rs"]
mod chat;
#[path = "people/tone.rs"]
mod tone;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use livekit_token::{AccessToken, VideoGrants};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::http::Uri;
use wasm_worker_core::room::audio::{AudioCommand, AudioEvent, AudioFrame, HeardId, Publication, Rule, Subscription};
use wasm_worker_core::room::command::{Command, SendOptions};
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::people::{Participant, ParticipantKind, ParticipantState};
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};
use wasm_worker_core::secret::Secret;
use wasm_worker_room::io::{Connect, Connecting, Io, Room, Rooms, RoomsSettings};

const JOIN_WITHIN: Duration = Duration::from_secs(60);
const AGENT_WITHIN: Duration = Duration::from_secs(60);
const JOINS_AT_ONCE: usize = 8;
const TOPIC: &str = "lk.chat";
/// Operations of a person.
const EAR: u32 = 3;
const MOUTH: u32 = 4;
const HEARD_RATE: u32 = 8_000;
/// Frames whose drift is looked at.
const DRIFT_FRAMES: usize = 50;
/// Shortest gap of a track, the shortest sound of Opus. Less is the clocks of both sides.
const GAP_MIN: Duration = Duration::from_micros(2_500);

/// Connects without names, proxies and TLS, as loopback needs none.
struct Plain;

impl Connect for Plain {
    fn connect(&self, url: &Uri) -> Connecting {
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        Box::pin(async move {
            let stream = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}

/// Somebody in a room.
struct Person {
    room: Room,
    /// The name of the room.
    name: String,
    identity: String,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    is_joined: bool,
    /// When the agent of the room became active.
    agent: Option<Instant>,
    /// The answer that is waited for, and when it came.
    awaited: String,
    came: Option<Instant>,
    /// Each text with the time when it came, while people chat.
    chat: Option<HashMap<String, Instant>>,
    /// Texts that nobody waited for: answers that are late or came twice.
    others: u64,
    reconnects: u64,
    failures: Vec<String>,
    heard: Heard,
}

/// What was heard of an agent.
#[derive(Default)]
struct Heard {
    sound: Duration,
    concealed: Duration,
    /// Sound that never came, between what did.
    missing: Duration,
    /// The track of the last frame. An agent that begins anew has another one.
    track: Option<HeardId>,
    /// When the first frame of this track was there.
    began: Option<Instant>,
    /// The end of what was heard last.
    until: Option<Instant>,
    /// Sound and gaps of this track after the first frame.
    after_first: Duration,
    /// How much longer these are than the time since, in seconds, at each of the last frames.
    drift: VecDeque<f64>,
    /// How long after its end each frame was there.
    late: Vec<Duration>,
}

impl Heard {
    fn add(&mut self, frame: &AudioFrame) {
        let length = Duration::from_secs_f64(frame.pcm.len() as f64 / 2.0 / f64::from(HEARD_RATE));
        self.sound += length;
        self.concealed += frame.concealed;
        let at = Instant::from_std(frame.at);
        if self.track.replace(frame.id) != Some(frame.id) {
            (self.began, self.until, self.after_first) = (None, None, Duration::ZERO);
            self.drift.clear();
        }
        if let Some(gap) = self.until.map(|until| at.saturating_duration_since(until)) {
            let gap = if gap < GAP_MIN { Duration::ZERO } else { gap };
            self.missing += gap;
            self.after_first += gap;
        }
        let end = at + length;
        self.until = Some(end);
        self.late.push(end.elapsed());
        match self.began {
            None => self.began = Some(Instant::now()),
            Some(began) => {
                self.after_first += length;
                if self.drift.len() == DRIFT_FRAMES {
                    self.drift.pop_front();
                }
                self.drift.push_back(self.after_first.as_secs_f64() - began.elapsed().as_secs_f64());
            }
        }
    }
}

impl Heard {
    /// The drift in seconds, without what a single frame was late.
    fn drift(&self) -> f64 {
        let mut all: Vec<f64> = self.drift.iter().copied().collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, prefix] = &arguments[..] else { panic!("people URL PREFIX") };
    let rooms = Rooms::start(RoomsSettings { threads: 1, rooms_max: 10_000 }, Arc::new(Plain))
        .unwrap()
        .encode_with(tone::encoded);
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut people: Vec<Arc<Person>> = Vec::new();
        let mut others: Vec<Arc<Person>> = Vec::new();
        let mut with_agent = 0;
        let mut orders = orders();
        while let Some(order) = orders.recv().await {
            let words: Vec<&str> = order.split(' ').collect();
            let number = |at: usize| words[at].parse::<usize>().unwrap();
            let answer = match words[0] {
                "join" => {
                    let numbers = people.len()..people.len() + number(1);
                    let places = numbers.map(|number| (format!("{prefix}-{number}"), "ann".to_owned()));
                    join(&rooms, url, places, &mut people).await
                }
                "others" => {
                    let numbers = others.len()..others.len() + number(1);
                    let of_room = |person: &Arc<Person>| {
                        let room = person.name.clone();
                        numbers.clone().map(move |number| (room.clone(), format!("other-{number}")))
                    };
                    join(&rooms, url, people.iter().flat_map(of_room), &mut others).await
                }
                "agents" => {
                    let all = &people[with_agent..with_agent + number(2)];
                    with_agent += number(2);
                    agents(url, words[1], words.get(4).unwrap_or(&""), all, number(3)).await
                }
                "talk" => {
                    let answer = (words.len() > 3).then(|| words[3..].join(" "));
                    talk(&people[..with_agent], number(1) as u64, number(2) as u64, answer).await
                }
                "chat" => {
                    chat::chat(&people[..with_agent], &others, number(1) as u64, number(2) as u64, number(3)).await
                }
                "sound" => sound(&people[..with_agent], number(1) as u64, words[2]).await,
                "leave" => break,
                other => panic!("no such order: `{other}`"),
            };
            println!("{answer}");
        }
        people.append(&mut others);
        let count = people.len();
        people.iter().for_each(|person| drop(person.room.try_perform(Command::Disconnect)));
        drop(people);
        timeout(JOIN_WITHIN, rooms.left()).await.ok();
        println!("{}", json!({ "left": count }));
    });
}

/// The lines of standard input, read by a thread, so that people listen while none comes.
fn orders() -> mpsc::Receiver<String> {
    let (sender, orders) = mpsc::channel(1);
    std::thread::spawn(move || std::io::stdin().lines().try_for_each(|line| sender.blocking_send(line.unwrap())));
    orders
}

/// Have people of these identities join these rooms.
async fn join(
    rooms: &Rooms,
    url: &str,
    places: impl Iterator<Item = (String, String)>,
    people: &mut Vec<Arc<Person>>,
) -> Value {
    let before = people.len();
    let permits = Arc::new(Semaphore::new(JOINS_AT_ONCE));
    let mut joining = JoinSet::new();
    for (name, identity) in places {
        let room = rooms.open(settings(url, &name, &identity)).unwrap();
        let person = Arc::new(Person { room, name, identity, state: Mutex::default(), changed: Notify::new() });
        people.push(person.clone());
        let permits = permits.clone();
        joining.spawn(async move {
            let _permit = permits.acquire_owned().await.unwrap();
            let began = Instant::now();
            person.room.try_perform(Command::Connect { id: 1 }).unwrap();
            tokio::spawn(listen(person.clone()));
            person.until(began + JOIN_WITHIN, |state| state.is_joined).await.then(|| began.elapsed())
        });
    }
    let times = joining.join_all().await.into_iter().flatten().collect();
    told(json!({ "joined": people.len() - before }), times)
}

/// Keep what happens in the room.
async fn listen(person: Arc<Person>) {
    while let Some(event) = person.room.next().await {
        let now = Instant::now();
        let mut state = person.state();
        match event {
            RoomEvent::Connected { .. } => state.is_joined = true,
            RoomEvent::ParticipantJoined(who) | RoomEvent::ParticipantChanged { participant: who, .. }
                if is_active_agent(&who) =>
            {
                state.agent.get_or_insert(now);
            }
            RoomEvent::Text { text, .. } if state.chat.is_some() => {
                state.chat.as_mut().map(|texts| texts.entry(text).or_insert(now));
            }
            RoomEvent::Text { text, .. } if text == state.awaited && state.came.is_none() => state.came = Some(now),
            RoomEvent::Text { .. } => state.others += 1,
            RoomEvent::Audio(AudioEvent::Frame(frame)) => state.heard.add(&frame),
            RoomEvent::Reconnecting => state.reconnects += 1,
            RoomEvent::Failed(failure) => state.failures.push(format!("{}: {}", failure.code, failure.message)),
            RoomEvent::Disconnected { reason, .. } => state.failures.push(format!("disconnected: {}", reason.as_str())),
            _ => {}
        }
        drop(state);
        person.changed.notify_waiters();
    }
}

fn is_active_agent(who: &Participant) -> bool {
    who.kind == ParticipantKind::Agent && who.state == ParticipantState::Active
}

async fn agents(url: &str, name: &str, metadata: &str, people: &[Arc<Person>], at_once: usize) -> Value {
    let permits = Arc::new(Semaphore::new(at_once));
    let mut coming = JoinSet::new();
    for person in people {
        let (person, permits, url) = (person.clone(), permits.clone(), url.to_owned());
        let body = json!({ "agent_name": name, "room": person.name, "metadata": metadata }).to_string();
        coming.spawn(async move {
            let _permit = permits.acquire_owned().await.unwrap();
            let began = Instant::now();
            dispatch(&url, &person.name, body).await;
            let is_there = person.until(began + AGENT_WITHIN, |state| state.agent.is_some()).await;
            is_there.then(|| person.state().agent.unwrap() - began)
        });
    }
    let times = coming.join_all().await.into_iter().flatten().collect();
    told(json!({ "agents": people.len() }), times)
}

async fn talk(people: &[Arc<Person>], seconds: u64, every_ms: u64, answer: Option<String>) -> Value {
    let every = Duration::from_millis(every_ms);
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let mut talking = JoinSet::new();
    for (number, person) in people.iter().enumerate() {
        // Spread, as people are who do not know of each other.
        let first = began + every.mul_f64(number as f64 / people.len() as f64);
        let (person, answer) = (person.clone(), answer.clone());
        talking.spawn(async move {
            let (mut times, mut said, mut next) = (Vec::new(), 0_u32, first);
            while next < until {
                sleep_until(next).await;
                next += every;
                said += 1;
                let text = format!("text {said} in {}", person.name);
                let answer = answer.clone().unwrap_or_else(|| format!("echo {text}"));
                times.extend(person.says(text, answer, next).await);
            }
            (said, times)
        });
    }
    let all = talking.join_all().await;
    let said: u32 = all.iter().map(|(said, _)| said).sum();
    let mut answer = told(json!({ "said": said }), all.into_iter().flat_map(|(_, times)| times).collect());
    let sum = |of: fn(&State) -> u64| people.iter().map(|person| of(&person.state())).sum::<u64>();
    answer["others"] = sum(|state| state.others).into();
    answer["reconnects"] = sum(|state| state.reconnects).into();
    answer["failures"] = failures(people).into();
    answer
}

/// What has failed since this was asked last.
fn failures(people: &[Arc<Person>]) -> Vec<String> {
    people.iter().flat_map(|person| std::mem::take(&mut person.state().failures)).collect()
}

async fn sound(people: &[Arc<Person>], seconds: u64, mode: &str) -> Value {
    let until = Instant::now() + Duration::from_secs(seconds);
    let (says, hears) = (mode != "out", mode != "in");
    let mut going = JoinSet::new();
    for person in people {
        let person = person.clone();
        person.state().heard = Heard::default();
        going.spawn(async move {
            let order = |command| person.room.try_perform(Command::Audio(command)).unwrap();
            if hears {
                let options = Subscription { rate: HEARD_RATE, ..Subscription::default() };
                order(AudioCommand::Follow { id: EAR, rule: Rule::default(), options });
            }
            if says {
                let publication = Publication { rate: tone::RATE, ..Publication::default() };
                order(AudioCommand::Publish { id: MOUTH, publication });
            }
            while Instant::now() < until {
                if says {
                    order(AudioCommand::Write { id: MOUTH, pcm: tone::samples() });
                }
                sleep_until((Instant::now() + tone::LENGTH).min(until)).await;
            }
            if hears {
                person.room.try_perform(Command::Cancel { id: EAR }).unwrap();
            }
            if says {
                person.room.try_perform(Command::Cancel { id: MOUTH }).unwrap();
            }
            std::mem::take(&mut person.state().heard)
        });
    }
    let all = going.join_all().await;
    let agents = people.iter().filter(|person| person.state().agent.is_some()).count();
    let sum = |of: fn(&Heard) -> Duration| all.iter().map(of).sum::<Duration>().as_secs_f64();
    let late = all.iter().flat_map(|heard| heard.late.iter().copied()).collect();
    let facts = json!({
        "agents": agents,
        "heard_s": sum(|heard| heard.sound),
        "concealed_s": sum(|heard| heard.concealed),
        "missing_s": sum(|heard| heard.missing),
        "drift_ms": all.iter().map(|heard| (heard.drift() * 1_000.0).abs()).fold(0.0, f64::max).round(),
        "most_s": seconds as usize * people.len(),
        "failures": failures(people),
    });
    told(facts, late)
}

impl Person {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Whether it becomes so in time.
    async fn until(&self, until: Instant, is_so: impl Fn(&State) -> bool) -> bool {
        loop {
            let changed = self.changed.notified();
            if is_so(&self.state()) {
                return true;
            }
            if timeout_at(until, changed).await.is_err() {
                return is_so(&self.state());
            }
        }
    }

    /// Say a text; the time until this answer, if that comes in time.
    async fn says(&self, text: String, answer: String, until: Instant) -> Option<Duration> {
        {
            let mut state = self.state();
            state.awaited = answer;
            state.came = None;
        }
        let began = Instant::now();
        let (id, topic) = (2, TOPIC.into());
        let options = SendOptions::default();
        if let Err(refused) = self.room.try_perform(Command::SendText { id, topic, text, options }) {
            self.state().failures.push(format!("{refused:?}"));
            return None;
        }
        self.until(until, |state| state.came.is_some()).await.then(|| self.state().came.unwrap() - began)
    }
}

/// A line with the percentiles of these times in milliseconds, and how many there are.
fn told(mut facts: Value, mut times: Vec<Duration>) -> Value {
    times.sort();
    let at = |percent: usize| {
        let time = times.get((times.len() * percent).div_ceil(100).saturating_sub(1));
        time.map(|time| (time.as_secs_f64() * 100_000.0).round() / 100.0)
    };
    facts["in_time"] = times.len().into();
    facts["p50_ms"] = json!(at(50));
    facts["p99_ms"] = json!(at(99));
    facts["longest_ms"] = json!(at(100));
    facts
}

/// Have the server send an agent into a room.
async fn dispatch(url: &str, room: &str, body: String) {
    let grants = VideoGrants { room_admin: true, room: room.into(), ..VideoGrants::default() };
    let token = AccessToken::with_api_key("devkey", "secret").with_grants(grants).to_jwt().unwrap();
    let request = format!(
        "POST /twirp/livekit.AgentDispatchService/CreateDispatch HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(url.trim_start_matches("ws://")).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn settings(url: &str, room: &str, identity: &str) -> RoomSettings {
    let grants = VideoGrants { room_join: true, room: room.into(), ..VideoGrants::default() };
    let token = AccessToken::with_api_key("devkey", "secret").with_identity(identity).with_grants(grants);
    RoomSettings {
        url: url.into(),
        token: Secret(token.with_ttl(Duration::from_secs(7_200)).to_jwt().unwrap()),
        name: String::new(),
        metadata: String::new(),
        attributes: Vec::new(),
        limits: RoomLimits::default(),
    }
}
