//! What a server sends to a worker, and what must hold for the worker's session, whatever it is.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use livekit_protocol as proto;
use prost::Message as _;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use tokio::time::Instant;
use wasm_worker_core::job::{Acceptance, JobKind};
use wasm_worker_core::load::{Resource, Scarcity};
use wasm_worker_core::text::{LINE_BYTES_MAX, acts_on_terminal};
use wasm_worker_core::verdict::Code;
use wasm_worker_protocol::frame::FRAME_BYTES_MAX;
use wasm_worker_protocol::registration::{Registration, ReportLoad};
use wasm_worker_protocol::report::JobEnd;
use wasm_worker_protocol::wire;
use wasm_worker_protocol::worker_session::{Answer, EMBEDDED_NODE_ID, Input, Output, Session};

use crate::parts::parts;

/// A step that takes time takes up to 26 seconds.
const TICK: Duration = Duration::from_millis(100);
/// Most times that a session is woken at one moment.
const WAKES_MAX: usize = 3;
/// Longest text that is logged, in bytes: a clipped line, and what it says about the rest.
const TEXT_BYTES_MAX: usize = LINE_BYTES_MAX + 64;
/// Most outputs of an input for each job that the session knows, and most beside those.
const OUTPUTS_OF_JOB_MAX: usize = 3;
const OUTPUTS_MAX: usize = 8;

/// A part that begins with `f` is a frame. Another part has steps of two bytes: what happens, and to which of the jobs.
pub fn run(bytes: &[u8]) {
    let mut run = Run::new();
    for part in parts(bytes) {
        match part.split_first() {
            Some((b'f', frame)) => run.frame(frame),
            _ => part.chunks_exact(2).for_each(|step| run.step(step[0], step[1])),
        }
    }
    run.finish();
}

/// A session, and a model of the worker around it.
struct Run {
    now: Instant,
    session: Session,
    connected: bool,
    /// Offers that the server has no answer to, by job.
    open_offers: BTreeMap<String, usize>,
    /// Offers that the agent has not decided on.
    deciding: Vec<String>,
    /// Jobs that the agent accepted, and that wait for their assignment.
    held: HashSet<String>,
    running: Vec<String>,
}

impl Run {
    fn new() -> Self {
        let registration = Registration {
            agent_name: "a".into(),
            job_kind: JobKind::Room,
            report_load: ReportLoad::Scaled,
            deployment: String::new(),
            permissions: [].into(),
            assignment_within: Duration::from_secs(3),
            instance: "i".into(),
        };
        let now = Instant::now();
        let mut run = Self {
            now,
            session: Session::new(registration, now),
            connected: false,
            open_offers: BTreeMap::new(),
            deciding: Vec::new(),
            held: HashSet::new(),
            running: Vec::new(),
        };
        run.connect();
        run
    }

    /// The server closes the connection of a worker whose frame it cannot read, and so does a worker.
    fn frame(&mut self, bytes: &[u8]) {
        if !self.connected {
            return;
        }
        match proto::ServerMessage::decode(bytes) {
            Ok(frame) => self.advance(Input::Frame(frame)),
            Err(_) => self.disconnect(),
        }
    }

    /// The same for a message that has been put together.
    fn message(&mut self, message: FromServer) {
        self.frame(&proto::ServerMessage { message: Some(message) }.encode_to_vec());
    }

    fn step(&mut self, what: u8, which: u8) {
        let id = format!("AJ_{which}");
        let job = Some(proto::Job { id: id.clone(), ..Default::default() });
        let nth = |jobs: &[String]| (!jobs.is_empty()).then(|| usize::from(which) % jobs.len());
        match what {
            b'o' => self.message(FromServer::Availability(proto::AvailabilityRequest { job, resuming: false })),
            b'g' => self.message(FromServer::Assignment(proto::JobAssignment { job, ..Default::default() })),
            b't' => self.message(FromServer::Termination(proto::JobTermination { job_id: id })),
            b'p' => self.pong(which.into()),
            b'R' => self.register(which),
            b'c' => self.connect(),
            b'x' => self.disconnect(),
            b'h' => self.advance(Input::Heartbeat),
            b'w' => self.wait(TICK * which.into()),
            b'd' => self.advance(Input::Drain),
            b'l' => {
                let scarce = Scarcity { resource: Resource::Cpu, used: which.into(), limit: 1.0 };
                self.session.set_scarcity((which & 1 == 1).then_some(scarce));
                self.advance(Input::Load { utilisation: f32::from(which) / 100.0, load: 0.5 });
            }
            b'a' | b'r' => {
                if let Some(job) = nth(&self.deciding).map(|at| self.deciding.remove(at)) {
                    self.decide(job, what == b'a');
                }
            }
            b'e' => {
                if let Some(job) = nth(&self.running).map(|at| self.running.remove(at)) {
                    let code = Code::ALL[usize::from(which) % Code::ALL.len()];
                    self.advance(Input::Ended { job, end: Box::new(JobEnd::new(code, "it ended")) });
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self) {
        if !self.connected {
            self.connected = true;
            self.advance(Input::Connected);
        }
    }

    fn register(&mut self, which: u8) {
        let node_id = if which & 1 == 1 { EMBEDDED_NODE_ID.to_owned() } else { String::new() };
        let server_info = Some(proto::ServerInfo { node_id, ..Default::default() });
        self.message(FromServer::Register(proto::RegisterWorkerResponse { server_info, ..Default::default() }));
    }

    fn pong(&mut self, last_timestamp: i64) {
        self.message(FromServer::Pong(proto::WorkerPong { last_timestamp, timestamp: 0 }));
    }

    fn disconnect(&mut self) {
        if self.connected {
            self.advance(Input::Disconnected);
            self.connected = false;
            self.open_offers.clear();
        }
    }

    fn decide(&mut self, job: String, accepts: bool) {
        // What the agent accepts too late is withdrawn by the worker itself.
        if !self.session.is_deciding(&job) {
            return;
        }
        let answer = if accepts {
            assert!(self.held.insert(job.clone()), "{job} is accepted twice");
            let none = String::new;
            let acceptance = Acceptance { identity: None, name: none(), metadata: none(), attributes: Vec::new() };
            Answer::Accepted(Box::new(acceptance))
        } else {
            Answer::Refused { terminate: false }
        };
        self.advance(Input::Answered { job, answer });
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for _ in 0..WAKES_MAX {
            if self.session.wake_at().is_none_or(|at| at > self.now) {
                return;
            }
            self.advance(Input::TimeUp);
        }
        assert!(self.session.wake_at().is_none_or(|at| at > self.now), "the session wants to be woken without end");
    }

    fn advance(&mut self, input: Input) {
        let known = self.session.jobs() + self.session.unread().count();
        let outputs = self.session.advance(self.now, input);
        assert!(outputs.len() <= OUTPUTS_MAX + OUTPUTS_OF_JOB_MAX * known, "{} outputs", outputs.len());
        for output in &outputs {
            match output {
                Output::Offer(job) => *self.open_offers.entry(job.id.clone()).or_default() += 1,
                Output::Refused { job, .. } => *self.open_offers.entry(job.clone()).or_default() += 1,
                _ => {}
            }
        }
        let mut closes = false;
        for output in outputs {
            closes |= matches!(output, Output::Close { .. });
            self.apply(output);
        }
        if closes {
            self.disconnect();
        }
        self.session.unread().for_each(shown);
    }

    fn apply(&mut self, output: Output) {
        match output {
            Output::Send(message) => self.sent(message),
            Output::Report(report) => self.sent_frame(&report.frame()),
            Output::Status(status) => self.sent_frame(&status.frame()),
            Output::Ping => assert!(self.connected),
            Output::Offer(job) => {
                assert_eq!(wire::job_info(&job).id, job.id);
                shown(&job.id);
                let known = self.held.contains(&job.id) || self.running.contains(&job.id);
                assert!(!known, "the agent has {} already", job.id);
                self.deciding.push(job.id);
            }
            Output::Launch { job, access } => {
                assert!(self.held.remove(&job), "{job} is launched, and was not accepted");
                assert!(!format!("{access:?}").contains("the token"));
                self.running.push(job);
            }
            Output::Withdraw { job, .. } => drop(self.held.remove(&job)),
            Output::Stop { job } => assert!(self.running.contains(&job), "{job} does not run"),
            Output::Registered { worker, server } => [&*worker, &*server].into_iter().for_each(shown),
            Output::Close { why } | Output::Warn(why) => shown(&why),
            Output::Refused { job, .. } => shown(&job),
        }
    }

    fn sent(&mut self, message: ToServer) {
        if let ToServer::Availability(answer) = &message {
            assert!(!answer.available || self.held.contains(&answer.job_id), "the agent did not accept {answer:?}");
            let open = self.open_offers.get_mut(&answer.job_id).filter(|open| **open > 0);
            *open.expect("an offer is answered twice") -= 1;
        }
        self.sent_frame(&proto::WorkerMessage { message: Some(message) }.encode_to_vec());
    }

    fn sent_frame(&self, frame: &[u8]) {
        assert!(self.connected, "a frame is sent without a connection");
        assert!(frame.len() <= FRAME_BYTES_MAX, "a frame has {} bytes", frame.len());
    }

    /// The server that comes next reads every end, and nothing is left.
    fn finish(mut self) {
        self.disconnect();
        assert!(self.held.is_empty(), "{:?} are held without an offer", self.held);
        self.connect();
        self.register(1);
        for job in std::mem::take(&mut self.running) {
            self.advance(Input::Ended { job, end: Box::new(JobEnd::new(Code::Completed, "")) });
        }
        self.pong(i64::MAX);
        assert!(self.session.is_done(), "{} jobs are left", self.session.jobs());
    }
}

/// A text that is logged.
pub(crate) fn shown(text: &str) {
    assert!(text.len() <= TEXT_BYTES_MAX, "a text has {} bytes", text.len());
    assert!(!text.contains(|c| acts_on_terminal(c) && c != '\t'), "{text:?} acts on a terminal");
}
