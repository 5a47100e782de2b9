//! What is lost between an agent and its room, at each step of a join and of a conversation, on a LiveKit server: the link, the peer
//! connection, the server. The person is PyPI's client, whose own way to the server is never cut.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::harness::{eventually, guest, pause};
use crate::support::livekit_server::LiveKitServer;
use crate::support::people::{Client, Person, saw};
use crate::support::room_network::RoomNetwork;
use crate::support::rooms::{RoomWorker, dispatch, example_dir, token};

const ROOM: &str = "lobby";
const TOPIC: &str = "lk.chat";
/// How long the peer connection is lost: shorter than ICE takes to give up, and longer.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(12);
/// Texts across a loss, the pause between two, and the one after which it happens.
const TEXTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(20);
const LOST_AFTER: usize = 7;

/// An agent behind a way that can be cut, and a person who is in its room.
struct Play {
    server: LiveKitServer,
    network: RoomNetwork,
    worker: RoomWorker,
    person: Person,
    name: &'static str,
    /// Number of lines that the person had told when the last agent was sent for.
    told_before: usize,
}

/// What is lost.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Link,
    LinkFor(Duration),
    PeerFor(Duration),
    BothFor(Duration),
}

/// Where a conversation is when something is lost.
#[derive(Clone, Copy, Debug)]
enum Step {
    Listening,
    Thinking,
    Speaking,
    Calling,
    Sending,
}

const STEPS: [Step; 5] = [Step::Listening, Step::Thinking, Step::Speaking, Step::Calling, Step::Sending];
/// Messages of a server in a join: the join, the answer, addresses, participants. More are not there.
const JOIN_MESSAGES: std::ops::RangeInclusive<usize> = 1..=6;

/// An agent says so after it has joined, so that texts reach it from then on.
fn listens(line: &Value) -> bool {
    ["changed", "attributes"].iter().any(|of| line[of]["lk.agent.state"] == "listening")
}

fn twenty_words() -> String {
    ["word"; 20].join(" ")
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter(|line| saw(line, "text")).map(|line| line["text"].as_str().unwrap()).collect()
}

impl Play {
    /// With an agent of `examples/chat`, which nobody has sent into the room.
    fn chat() -> Option<Self> {
        Self::begin("chat", &example_dir("chat"))
    }

    /// With an agent that echoes texts.
    fn echo() -> Option<Self> {
        Self::begin("echo", &guest("room_echo"))
    }

    fn begin(name: &'static str, agent: &std::path::Path) -> Option<Self> {
        let server = LiveKitServer::start("losses of a room")?;
        let mut person = Client::Python.joins(&server.url(), &token(ROOM, "ann"))?;
        let network = RoomNetwork::to(&server);
        let worker = RoomWorker::behind(&network.url, name, agent);
        person.sees("room", |line| saw(line, "connected"));
        Some(Self { server, network, worker, person, name, told_before: 0 })
    }

    fn dispatch(&mut self) {
        self.told_before = self.person.told().len();
        dispatch(&self.server.url(), ROOM, self.name);
    }

    /// The agent comes.
    fn meets(&mut self) -> String {
        self.dispatch();
        self.is_there()
    }

    /// The identity of the agent, once it is reached.
    fn is_there(&mut self) -> String {
        self.person.sees("agent", listens)["who"].as_str().unwrap().to_owned()
    }

    fn say(&mut self, text: &str) {
        self.person.order(&json!({ "do": "text", "topic": TOPIC, "text": text }));
    }

    /// Say something that the agent of `examples/chat` repeats.
    fn talks(&mut self, text: &str) {
        self.say(text);
        self.person.sees("answer", |line| saw(line, "text") && line["text"] == format!("You said: {text}"));
    }

    /// Say something once the agent that was sent for listens (again), until it answers; or the server ends this job, the last of so
    /// many. Whether it answers.
    fn answers_or_is_ended(&mut self, text: &str, jobs: usize) -> bool {
        let answer = format!("You said: {text}");
        let mut looked_at = self.told_before;
        eventually("an answer, or the end of the job", || {
            let lines = self.person.told()[looked_at..].to_vec();
            looked_at += lines.len();
            if lines.iter().any(listens) {
                self.say(text);
            }
            (texts(&lines).contains(&answer.as_str()) || self.worker.published("job.closed").len() == jobs)
                .then_some(())
        });
        let Some(closed) = self.worker.published("job.closed").into_iter().nth(jobs - 1) else { return true };
        assert_eq!(closed["verdict"]["detail"], "the server ended the job", "{closed}");
        false
    }

    /// The agent says goodbye and leaves, and its job completes as the last of so many.
    fn parts(&mut self, jobs: usize) -> Value {
        self.say("bye");
        self.person.sees("farewell", |line| saw(line, "text") && line["text"] == "Goodbye.");
        self.person.sees("agent leave", |line| saw(line, "left"));
        let closed = self.worker.publishes("job.closed", jobs).pop().unwrap();
        assert_eq!(closed["verdict"]["code"], "completed", "{closed}");
        self.worker.publishes("room.left", jobs).pop().unwrap()
    }

    /// The conversation comes to this step.
    fn comes_to(&mut self, step: Step, agent: &str) {
        match step {
            Step::Listening => {}
            Step::Thinking => {
                self.say(&twenty_words());
                // The server may tell two changes as one.
                let thinks = |line: &Value| {
                    ["thinking", "speaking"].iter().any(|state| line["changed"]["lk.agent.state"] == *state)
                };
                self.person.sees("thought", thinks);
            }
            Step::Speaking => {
                self.say(&twenty_words());
                self.person.until("words", |lines| lines.iter().filter(|line| saw(line, "part")).count() > 3);
            }
            Step::Calling => {
                let call = json!({ "do": "call", "to": agent, "method": "set_pace", "payload": "40" });
                self.person.order(&call);
            }
            Step::Sending => self.person.order(&json!({ "do": "file", "name": "a.bin", "bytes": 900_000 })),
        }
    }

    /// What was under way at this step comes to its good end.
    fn goes_on_from(&mut self, step: Step) {
        match step {
            Step::Listening => self.talks("one two"),
            Step::Thinking | Step::Speaking => {
                let answer = format!("You said: {}", twenty_words());
                self.person.sees("answer", |line| saw(line, "text") && line["text"] == answer);
            }
            Step::Calling => {
                let answered = |line: &Value| saw(line, "answer") || saw(line, "refusal");
                let answer = self.person.sees("answer to the call", answered);
                assert_eq!(answer["payload"], "40", "{answer}");
            }
            Step::Sending => {
                let all = ["sent-file", "file"];
                let both = |lines: &[Value]| all.iter().all(|what| lines.iter().any(|line| saw(line, what)));
                let lines = self.person.until("file", both);
                let hash = |what: &str| &lines.iter().find(|line| saw(line, what)).unwrap()["sha256"];
                assert_eq!(hash("sent-file"), hash("file"));
            }
        }
    }

    /// An agent is on its way into the room, as far as so many messages of the server.
    fn joins_as_far_as(&mut self, messages: usize) {
        self.network.hold_the_next_link_after(messages);
        self.dispatch();
        self.network.holds();
    }

    /// The server, which was told to end, does so once all have left.
    fn server_ends(self) {
        let Self { mut server, person, .. } = self;
        person.leaves();
        server.ends();
    }

    /// The server is killed, and another one starts in its place. The worker registers there.
    fn server_restarts(&mut self, times: usize) {
        self.server.kill();
        self.server.start_again();
        self.worker.publishes("link.restored", times);
    }

    /// Lose something, and have it again.
    fn lose(&self, loss: Loss) {
        let network = &self.network;
        match loss {
            Loss::Link => network.cut_links(),
            Loss::LinkFor(time) => {
                network.block_links(true);
                network.cut_links();
                pause(time);
                network.block_links(false);
            }
            Loss::PeerFor(time) => {
                network.cut_udp(true);
                pause(time);
                network.cut_udp(false);
            }
            Loss::BothFor(time) => {
                network.cut_udp(true);
                self.lose(Loss::LinkFor(time));
                network.cut_udp(false);
            }
        }
    }

    fn agents_that_left(&mut self) -> usize {
        self.person.told().iter().filter(|line| saw(line, "left")).count()
    }
}

/// A join that has to begin anew looks to a LiveKit server like an agent that has left, and it may then end the job.
#[test]
fn join_whose_link_is_cut_after_each_message_succeeds_or_is_ended_by_the_server() {
    let Some(mut play) = Play::chat() else { return };
    let mut answered = 0;
    for messages in JOIN_MESSAGES {
        play.joins_as_far_as(messages);
        play.lose(Loss::Link);
        if play.answers_or_is_ended(&format!("hello {messages}"), messages) {
            answered += 1;
            play.parts(messages);
        }
    }
    assert!(answered > 0);
    assert!(play.worker.published("room.failed").is_empty());
}

#[test]
fn join_whose_datagrams_are_lost_after_each_message_succeeds() {
    let Some(mut play) = Play::chat() else { return };
    for messages in JOIN_MESSAGES {
        play.joins_as_far_as(messages);
        play.network.cut_udp(true);
        play.network.release();
        pause(SHORT);
        play.network.cut_udp(false);
        play.is_there();
        play.talks(&format!("hello {messages}"));
        play.parts(messages);
    }
}

#[test]
fn join_at_a_server_that_restarts_after_each_message_succeeds() {
    let Some(mut play) = Play::chat() else { return };
    for messages in JOIN_MESSAGES {
        play.joins_as_far_as(messages);
        play.server.kill();
        play.network.release();
        play.server_restarts(messages);
        play.is_there();
        play.talks(&format!("hello {messages}"));
        play.parts(messages);
    }
}

#[test]
fn join_at_a_server_that_begins_to_drain_after_each_message_succeeds() {
    for messages in JOIN_MESSAGES {
        let Some(mut play) = Play::chat() else { return };
        play.joins_as_far_as(messages);
        play.server.signal(Signal::TERM);
        play.network.release();
        play.is_there();
        play.talks("hello");
        play.parts(1);
        play.server_ends();
    }
}

#[test]
fn join_that_begins_while_the_server_cannot_be_reached_waits_for_it() {
    let Some(mut play) = Play::chat() else { return };
    play.network.block_links(true);
    play.dispatch();
    play.worker.publishes("job.launched", 1);
    pause(SHORT);
    play.network.block_links(false);
    play.is_there();
    play.talks("hello");
    play.parts(1);
}

#[test]
fn join_without_udp_goes_over_tcp() {
    let Some(mut play) = Play::chat() else { return };
    play.network.cut_udp(true);
    play.meets();
    play.talks("hello");
    play.parts(1);
}

/// LiveKit's server cannot send on after it, so the agent has to join anew, and the server may end the job for it.
#[test]
fn agent_whose_connection_of_tcp_is_lost_joins_anew_or_is_ended_by_the_server() {
    let Some(mut play) = Play::chat() else { return };
    play.network.cut_udp(true);
    play.meets();
    play.talks("hello");
    play.network.cut_tcp();
    if play.answers_or_is_ended("hello again", 1) {
        let left = play.parts(1);
        assert_eq!(left["rejoins"], 1, "{left}");
    }
}

/// The person says texts, and gets the echo of each once, in order.
fn texts_across(loss: Loss) {
    let Some(mut play) = Play::echo() else { return };
    play.meets();
    play.say("before");
    play.person.sees("echo", |line| saw(line, "text") && line["text"] == "echo before");
    let said: Vec<String> = (0..TEXTS).map(|number| number.to_string()).collect();
    for (number, text) in said.iter().enumerate() {
        play.say(text);
        pause(PAUSE);
        if number == LOST_AFTER {
            play.lose(loss);
        }
    }
    play.say("last");
    let is_last = |line: &Value| saw(line, "text") && line["text"] == "echo last";
    let lines = play.person.until("the last echo", |lines| lines.iter().any(is_last));
    let wanted: Vec<String> = said.iter().chain([&"last".to_owned()]).map(|text| format!("echo {text}")).collect();
    assert_eq!(texts(&lines), wanted, "{loss:?}");
    assert_eq!(play.agents_that_left(), 0, "{loss:?}: the agent keeps its place");
    assert!(!lines.iter().any(|line| saw(line, "reconnecting")), "{loss:?}");
}

#[test]
fn texts_across_a_cut_of_the_link_arrive_once_and_in_order() {
    texts_across(Loss::Link);
}

#[test]
fn texts_arrive_once_and_in_order_while_no_link_can_be_made() {
    texts_across(Loss::LinkFor(SHORT));
}

#[test]
fn texts_across_a_short_loss_of_datagrams_arrive_once_and_in_order() {
    texts_across(Loss::PeerFor(SHORT));
}

#[test]
fn texts_across_a_long_loss_of_datagrams_arrive_once_and_in_order() {
    texts_across(Loss::PeerFor(LONG));
}

#[test]
fn texts_across_a_loss_of_link_and_datagrams_arrive_once_and_in_order() {
    texts_across(Loss::BothFor(SHORT));
}

#[test]
fn conversation_goes_on_after_a_loss_at_each_of_its_steps() {
    let Some(mut play) = Play::chat() else { return };
    let agent = play.meets();
    for loss in [Loss::Link, Loss::PeerFor(SHORT), Loss::BothFor(SHORT)] {
        for step in STEPS {
            play.comes_to(step, &agent);
            play.lose(loss);
            play.goes_on_from(step);
        }
    }
    let left = play.parts(1);
    assert_eq!(left["rejoins"], 0, "{left}");
    assert_eq!(play.agents_that_left(), 1);
}

/// Both have new places, and what was under way has ended for the person, if it saw it begin.
#[test]
fn agent_and_person_meet_again_on_a_server_that_restarted_at_each_step_of_their_conversation() {
    for step in STEPS {
        let Some(mut play) = Play::chat() else { return };
        let agent = play.meets();
        play.comes_to(step, &agent);
        play.server_restarts(1);
        let is_back = |line: &Value| saw(line, "joined") && line["who"] == agent;
        let lines = play.person.until("agent again", |lines| lines.iter().any(is_back));
        let count = |what: &str| lines.iter().filter(|line| saw(line, what)).count();
        assert_eq!((count("reconnecting"), count("left")), (1, 1), "{step:?}: {lines:#?}");
        assert_eq!(count("broken"), usize::from(matches!(step, Step::Speaking)), "{step:?}: {lines:#?}");
        if let Step::Calling = step {
            let answer = lines.iter().find(|line| saw(line, "answer") || saw(line, "refusal")).unwrap();
            // Recipient disconnected, where the answer did not come before.
            assert!(answer["payload"] == "40" || answer["code"] == 1_503, "{answer}");
        }
        play.talks("again");
        let left = play.parts(1);
        assert_eq!(left["rejoins"], 1, "{step:?}: {left}");
    }
}

#[test]
fn conversation_goes_on_at_each_of_its_steps_while_a_server_drains() {
    for step in STEPS {
        let Some(mut play) = Play::chat() else { return };
        let agent = play.meets();
        play.comes_to(step, &agent);
        play.server.signal(Signal::TERM);
        play.goes_on_from(step);
        play.talks("meanwhile");
        play.parts(1);
        play.server_ends();
    }
}

#[test]
fn agent_is_asked_to_stop_by_a_server_that_shuts_down() {
    let Some(mut play) = Play::chat() else { return };
    play.meets();
    play.talks("before");
    play.server.signal(Signal::TERM);
    play.server.says("exit requested, shutting down", 1);
    play.server.signal(Signal::TERM);
    let [left] = &play.worker.publishes("room.left", 1)[..] else { panic!("one room") };
    assert_eq!(left["reason"], "server-shutdown", "{left}");
    let [closed] = &play.worker.publishes("job.closed", 1)[..] else { panic!("one job") };
    assert_eq!(closed["verdict"]["code"], "completed", "{closed}");
    play.server.ends();
}
