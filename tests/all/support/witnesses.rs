//! Witnesses of a room: an agent, people and a receiver of webhooks, who tell every event as one line, and the comparison of what they
//! tell, step by step.
//!
//! A step does something, and waits until each witness has told as many lines as the step wants. So the steps decide the order of
//! events, and not the machine. What is told beyond that is compared with what the next step wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use livekit_token::{AccessToken, VideoGrants};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::dispatcher::{ask, everything};
use super::harness::{eventually, guest, root};
use super::network::{address_of, listen};
use super::people::{Person, witness};
use super::rooms::{RoomServer, RoomWorker};
use super::toolchains::installed_python;

/// What each step wants.
const LIST: &str = "tests/all/rooms_events/list.txt";
/// The agent's name as a witness.
const AGENT: &str = "agent";
/// The name of the receiver of webhooks.
const HOOK: &str = "hook";

/// A room with its witnesses.
pub(crate) struct Stage {
    pub(crate) server: RoomServer,
    room: &'static str,
    worker: RoomWorker,
    people: BTreeMap<&'static str, Person>,
    posts: Receiver<Value>,
    /// What was posted so far.
    posted: Vec<String>,
    /// Ends the links of people.
    cut: Arc<Notify>,
    url_of_people: String,
    /// The number of lines of each witness that were compared.
    compared: BTreeMap<&'static str, usize>,
    /// The sids that each witness has told of each subject, in order.
    sids: BTreeMap<(&'static str, String), Vec<String>>,
    /// What is under way, for those who read why a test fails.
    step: String,
}

/// What a step wants of one witness.
#[derive(Default)]
struct Wanted {
    groups: Vec<Group>,
    /// Lines that may be told or not, anywhere in the step.
    optional: Vec<String>,
    /// Those who speak at the end of the step.
    speakers: Option<String>,
}

/// Lines in order, or in any.
struct Group {
    lines: Vec<String>,
    in_any_order: bool,
}

impl Wanted {
    fn add(&mut self, line: &str) {
        if line.starts_with("speakers") {
            self.speakers = Some(line.to_owned());
            return;
        }
        if let Some(line) = line.strip_prefix("? ") {
            self.optional.push(line.to_owned());
            return;
        }
        let (line, in_any_order) = line.strip_prefix("~ ").map_or((line, false), |line| (line, true));
        match self.groups.last_mut() {
            Some(group) if group.in_any_order && in_any_order => group.lines.push(line.to_owned()),
            _ => self.groups.push(Group { lines: vec![line.to_owned()], in_any_order }),
        }
    }

    /// The number of its lines.
    fn count(&self) -> usize {
        self.groups.iter().map(|group| group.lines.len()).sum()
    }
}

impl Stage {
    /// A room on this server, whose agent is to be sent for. None where the machine lacks something, which is said.
    pub(crate) fn new(server: RoomServer, posts: Receiver<Value>, room: &'static str) -> Option<Self> {
        installed_python("clients")?;
        let worker = RoomWorker::with_flags(&server.url(), AGENT, &guest("witness"), &["--log-format", "json"]);
        let (cut, address) = (Arc::new(Notify::new()), address_of(&server.url()));
        let cutting = cut.clone();
        let front = listen(move |mut client| {
            let cut = cutting.clone();
            async move {
                let Ok(mut server) = TcpStream::connect(address).await else { return };
                tokio::select! {
                    () = cut.notified() => {}
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                }
            }
        });
        Some(Self {
            server,
            room,
            worker,
            people: BTreeMap::new(),
            posts,
            posted: Vec::new(),
            cut,
            url_of_people: format!("ws://{front}"),
            compared: BTreeMap::new(),
            sids: BTreeMap::new(),
            step: String::new(),
        })
    }

    /// Somebody joins, and may change what others know of it.
    pub(crate) fn joins(&mut self, who: &'static str) {
        self.joins_as(who, who);
    }

    /// The same for a witness of another name than its identity.
    pub(crate) fn joins_as(&mut self, who: &'static str, identity: &str) {
        let room = self.room.to_owned();
        let grants =
            VideoGrants { room_join: true, room, can_update_own_metadata: Some(true), ..VideoGrants::default() };
        let token = AccessToken::with_api_key("devkey", "secret").with_identity(identity).with_grants(grants);
        self.compared.remove(who);
        self.people.insert(who, witness(&self.url_of_people, &token.to_jwt().unwrap()).unwrap());
    }

    /// Have somebody do this.
    pub(crate) fn order(&mut self, who: &str, order: &Value) {
        self.people.get_mut(who).unwrap().order(order);
    }

    /// Have the agent do this, by a text of somebody.
    pub(crate) fn order_agent(&mut self, by: &str, order: &str) {
        self.order(by, &json!({ "do": "text", "topic": "order", "text": order }));
    }

    /// Cut the links of people; new ones are made as before.
    pub(crate) fn cut_links(&self) {
        self.cut.notify_waiters();
    }

    /// Call a method of the room's service.
    #[track_caller]
    pub(crate) fn api(&self, method: &str, mut body: Value) -> Value {
        body["room"] = json!(self.room);
        let path = format!("/twirp/livekit.RoomService/{method}");
        let token = everything(self.room);
        let answer = ask(&self.server.url(), "POST", &path, "application/json", &token, &[], &body.to_string());
        assert_eq!(answer.status, 200, "{method}: {}", answer.body);
        answer.body
    }

    /// The identity of the agent.
    #[track_caller]
    pub(crate) fn agent(&self) -> String {
        let all = self.api("ListParticipants", json!({}));
        let agent = all["participants"].as_array().unwrap().iter().find(|who| who["kind"] == "AGENT");
        agent.unwrap()["identity"].as_str().unwrap().to_owned()
    }

    /// Mute the only track of somebody by the room's service.
    #[track_caller]
    pub(crate) fn mutes_track_of(&self, identity: &str) {
        let participant = self.api("GetParticipant", json!({ "identity": identity }));
        let sid = &participant["tracks"][0]["sid"];
        self.api("MutePublishedTrack", json!({ "identity": identity, "track_sid": sid, "muted": true }));
    }

    /// Do something, and compare what the witnesses tell with what the list wants: on each line a witness and what it tells. Lines with
    /// `~` behind the witness may come in any order, and those with `?` need not come. `speakers` are those at the end of the step,
    /// because servers tell them by a clock.
    #[track_caller]
    #[expect(clippy::print_stderr, reason = "it helps those who read why a test fails")]
    pub(crate) fn step(&mut self, name: &str, act: impl FnOnce(&mut Self)) {
        eprintln!("step: {name}");
        self.step = name.to_owned();
        act(self);
        let all = self.wanted(name);
        let is_complete = |stage: &mut Self| {
            let mut witnesses = all.iter();
            witnesses.all(|(who, wanted)| stage.has_told(who, wanted))
        };
        eventually(&format!("what is wanted at the step `{name}` is told"), || is_complete(self).then_some(()));
        for (who, mut wanted) in all {
            let mut events = self.events(who);
            let before = events.len();
            events.retain(|line| !wanted.optional.contains(line));
            let optional = before - events.len();
            events.truncate(wanted.count());
            // The client's word that an order is done goes another way than its events.
            events.sort_by_key(|line| line.starts_with("did "));
            let mut events = events.into_iter();
            for group in &mut wanted.groups {
                let mut told: Vec<String> = events.by_ref().take(group.lines.len()).collect();
                if group.in_any_order {
                    group.lines.sort_unstable();
                    told.sort_unstable();
                }
                assert_eq!(told, group.lines, "{who} at the step `{name}`");
            }
            *self.compared.entry(who).or_default() += wanted.count() + optional;
        }
    }

    /// The names of all witnesses.
    fn witnesses(&self) -> Vec<&'static str> {
        [AGENT, HOOK].into_iter().chain(self.people.keys().copied()).collect()
    }

    /// All that a witness has told so far.
    fn told(&mut self, who: &str) -> Vec<String> {
        if let Some(person) = self.people.get_mut(who) {
            return person.told().iter().map(|line| line["saw"].as_str().unwrap().to_owned()).collect();
        }
        if who == HOOK {
            self.posted.extend(self.posts.try_iter().filter_map(|post| posted(&post)));
            return self.posted.clone();
        }
        let log = self.worker.said();
        // The last line may be half written.
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["target"] == "agent")
            .map(|line| line["message"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The events that were not compared, with each sid as its number among those of its subject, which is before it.
    fn events(&mut self, who: &'static str) -> Vec<String> {
        let told = self.told(who);
        let events = told.iter().filter(|line| !line.starts_with("speakers"));
        events
            .skip(self.compared.get(who).copied().unwrap_or_default())
            .map(|line| self.without_sids(who, line))
            .collect()
    }

    fn without_sids(&mut self, who: &'static str, line: &str) -> String {
        let mut words = Vec::<String>::new();
        for word in line.split(' ') {
            // The agent's identity has the id of its job.
            let track = word.find('/').map_or("", |at| &word[at..]);
            let word = if word.starts_with("agent-AJ_") { format!("{AGENT}{track}") } else { word.to_owned() };
            let is_sid = ["PA_", "TR_"].iter().any(|prefix| word.starts_with(prefix));
            words.push(match words.last() {
                Some(subject) if is_sid => {
                    let sids = self.sids.entry((who, subject.clone())).or_default();
                    let place = sids.iter().position(|sid| *sid == word).unwrap_or_else(|| {
                        sids.push(word.clone());
                        sids.len() - 1
                    });
                    format!("#{}", place + 1)
                }
                _ => word,
            });
        }
        words.join(" ")
    }

    /// What a witness last told of those who speak.
    fn speakers(&mut self, who: &str) -> String {
        let told = self.told(who);
        let last = told.iter().rfind(|line| line.starts_with("speakers")).map(|line| line.trim()).unwrap_or_default();
        let named = |word| if str::starts_with(word, "agent-AJ_") { AGENT } else { word };
        last.split(' ').map(named).collect::<Vec<_>>().join(" ")
    }

    fn has_told(&mut self, who: &'static str, wanted: &Wanted) -> bool {
        let told = self.events(who).iter().filter(|line| !wanted.optional.contains(line)).count();
        told >= wanted.count() && wanted.speakers.as_ref().is_none_or(|speakers| self.speakers(who) == *speakers)
    }

    /// What the list wants at a step.
    #[track_caller]
    fn wanted(&self, step: &str) -> BTreeMap<&'static str, Wanted> {
        let list = std::fs::read_to_string(root().join(LIST)).unwrap();
        let (_, rest) =
            list.split_once(&format!("\n== {step}\n")).unwrap_or_else(|| panic!("no step `{step}` in {LIST}"));
        let mut all = BTreeMap::<&'static str, Wanted>::new();
        for line in rest.lines().take_while(|line| !line.starts_with("== ")).filter(|line| !line.is_empty()) {
            let (who, line) = line.split_once(' ').unwrap();
            let who = self
                .witnesses()
                .into_iter()
                .find(|witness| *witness == who)
                .unwrap_or_else(|| panic!("no witness `{who}`"));
            all.entry(who).or_default().add(line.trim());
        }
        all
    }
}

impl Drop for Stage {
    #[expect(clippy::print_stderr, reason = "it helps those who read why a test fails")]
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("the step is {}", self.step);
        for who in self.witnesses() {
            self.events(who).iter().for_each(|line| eprintln!("        {who} {line}"));
            eprintln!("        {who} {}", self.speakers(who));
        }
    }
}

/// What a post tells of a room; None of other posts, which our own dispatcher makes too.
fn posted(post: &Value) -> Option<String> {
    let name = post["event"].as_str().filter(|name| name.contains('_'))?;
    let text = |part: &str, field: &str| post[part][field].as_str().unwrap_or_default();
    let (who, sid) = (text("participant", "identity"), text("participant", "sid"));
    Some(match name.split('_').next() {
        Some("room") => format!("{name} {}", text("room", "name")),
        Some("track") => format!("{name} {who} {sid} {who}/{} {}", text("track", "name"), text("track", "sid")),
        _ => format!("{name} {who} {sid}"),
    })
}
