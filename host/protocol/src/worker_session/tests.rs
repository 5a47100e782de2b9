use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;
use wasm_worker_core::job::{Acceptance, JobKind};
use wasm_worker_core::refusal::Reason;
use wasm_worker_core::verdict::Code;

use super::jobs::refusal;
use super::*;
use crate::report::JobEnd;

mod bounds;
mod scarcity;

const ASSIGNMENT_WITHIN: Duration = Duration::from_secs(3);

fn session(now: Instant) -> Session {
    let registration = Registration {
        agent_name: "agent".into(),
        job_kind: JobKind::Publisher,
        report_load: ReportLoad::Scaled,
        permissions: BTreeSet::from([Permission::Subscribe, Permission::Hidden]),
        assignment_within: ASSIGNMENT_WITHIN,
        deployment: "blue".into(),
        instance: "i".into(),
    };
    Session::new(registration, now)
}

fn frame(message: FromServer) -> Input {
    Input::Frame(proto::ServerMessage { message: Some(message) })
}

fn register() -> Input {
    frame(FromServer::Register(proto::RegisterWorkerResponse { worker_id: "AW_1".into(), ..Default::default() }))
}

fn job(id: &str) -> Option<proto::Job> {
    Some(proto::Job { id: id.into(), ..Default::default() })
}

fn offer(id: &str) -> Input {
    frame(FromServer::Availability(proto::AvailabilityRequest { job: job(id), resuming: false }))
}

fn assignment(id: &str) -> Input {
    let (url, token) = (Some("wss://rooms".to_owned()), "secret".to_owned());
    frame(FromServer::Assignment(proto::JobAssignment { job: job(id), url, token }))
}

fn accepted(id: &str) -> Input {
    let acceptance =
        Acceptance { identity: None, name: String::new(), metadata: String::new(), attributes: Vec::new() };
    Input::Answered { job: id.into(), answer: Answer::Accepted(Box::new(acceptance)) }
}

fn up(now: Instant) -> Session {
    let mut session = session(now);
    session.advance(now, Input::Connected);
    session.advance(now, register());
    session
}

fn reports(outputs: &[Output]) -> Vec<(String, i32)> {
    let report = |output: &Output| match output {
        Output::Report(report) => Some((report.job_id.clone(), report.status)),
        _ => None,
    };
    outputs.iter().filter_map(report).collect()
}

#[test]
fn first_message_must_be_the_reply_to_the_registration() {
    let now = Instant::now();
    let mut session = session(now);
    let first = session.advance(now, Input::Connected);
    let [Output::Send(ToServer::Register(register))] = &first[..] else { panic!("{first:?}") };
    assert_eq!((register.agent_name.as_str(), register.r#type), ("agent", proto::JobType::JtPublisher as i32));
    assert_eq!((register.deployment.as_str(), register.version.as_str()), ("blue", env!("CARGO_PKG_VERSION")));
    let may = register.allowed_permissions.as_ref().unwrap();
    assert!(may.can_subscribe && may.hidden && !may.can_publish && !may.can_publish_data && !may.can_update_metadata);
    let outputs = session.advance(now, offer("j"));
    assert_eq!(outputs, [Output::Close { why: "want a reply to the registration first, got an offer".into() }]);
    let outputs = session.advance(now + REGISTER_WITHIN, Input::TimeUp);
    assert!(matches!(&outputs[..], [Output::Close { why }] if why.contains("10s")), "{outputs:?}");
}

#[test]
fn offer_is_answered_in_time_whatever_the_agent_does() {
    let now = Instant::now();
    let mut session = up(now);
    assert!(matches!(&session.advance(now, offer("j"))[..], [Output::Offer(_)]));
    assert_eq!(session.wake_at(), Some(now + ANSWER_WITHIN));
    let late = session.advance(now + ANSWER_WITHIN, Input::TimeUp);
    assert_eq!(late[0], refusal("j", false));
    let outputs = session.advance(now + ANSWER_WITHIN, accepted("j"));
    assert_eq!(outputs, [Output::Withdraw { job: "j".into(), why: "the agent accepted too late" }]);
}

#[test]
fn unknown_message_of_a_newer_server_is_ignored() {
    let now = Instant::now();
    let mut session = up(now);
    let mut newer = proto::Job { id: "j".into(), r#type: 77, ..Default::default() };
    newer.state = Some(proto::JobState { status: 99, ..Default::default() });
    let newer = proto::AvailabilityRequest { job: Some(newer), resuming: false };
    assert!(matches!(&session.advance(now, frame(FromServer::Availability(newer)))[..], [Output::Offer(_)]));
    let empty = session.advance(now, Input::Frame(proto::ServerMessage { message: None }));
    assert_eq!(empty, [Output::Warn("ignored an empty or unknown message".into())]);
}

#[test]
fn assignment_gives_access_to_the_room() {
    let now = Instant::now();
    let mut session = up(now);
    session.advance(now, offer("j"));
    session.advance(now, accepted("j"));
    let outputs = session.advance(now, assignment("j"));
    let [Output::Launch { job, access: Some(access) }, Output::Report(_)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((job.as_str(), access.url.as_deref(), access.token.0.as_str()), ("j", Some("wss://rooms"), "secret"));
    assert!(!format!("{access:?}").contains("secret\""));
}

#[test]
fn late_assignment_is_reported_as_failed() {
    let now = Instant::now();
    let mut session = up(now);
    session.advance(now, offer("j"));
    session.advance(now, accepted("j"));
    let later = now + ASSIGNMENT_WITHIN;
    let late = session.advance(later, Input::TimeUp);
    assert!(late.contains(&Output::Withdraw { job: "j".into(), why: "the assignment did not arrive in time" }));
    let outputs = session.advance(later, assignment("j"));
    let failed = [("j".into(), proto::JobStatus::JsFailed as i32)];
    assert_eq!(reports(&outputs), failed);
    // The server may not have read the report.
    session.advance(later, Input::Disconnected);
    session.advance(later, Input::Connected);
    assert_eq!(reports(&session.advance(later, register())), failed);
}

#[test]
fn report_of_an_end_is_kept_until_the_server_confirms_it() {
    let now = Instant::now();
    let mut session = up(now);
    let end = |session: &mut Session, id: &str| {
        session.advance(now, offer(id));
        session.advance(now, accepted(id));
        session.advance(now, assignment(id));
        let end = JobEnd::new(Code::Completed, "");
        session.advance(now, Input::Ended { job: id.into(), end: Box::new(end) })
    };
    let outputs = end(&mut session, "a");
    assert!(matches!(&outputs[..], [Output::Report(_), Output::Send(ToServer::Ping(ping))] if ping.timestamp == 1));
    // One ping is open at a time, and a report that the connection did not carry is kept once.
    assert_eq!(end(&mut session, "b").len(), 1);
    session.advance(now, Input::Disconnected);
    assert_eq!(session.unread().collect::<Vec<_>>(), ["a", "b"]);
    session.advance(now, Input::Connected);
    assert_eq!(reports(&session.advance(now, register())).len(), 2);
    let pong = |last_timestamp| frame(FromServer::Pong(proto::WorkerPong { last_timestamp, timestamp: 0 }));
    assert!(!session.is_done());
    session.advance(now, pong(session.ends_sent));
    assert!(session.is_done());
    // A server that answers no pings does not fill the memory.
    for n in 0..JOBS_MAX + 10 {
        end(&mut session, &n.to_string());
    }
    assert_eq!(session.unconfirmed.len(), JOBS_MAX);
}

#[test]
fn drain_is_announced_at_once_and_refuses_offers() {
    let now = Instant::now();
    let mut session = up(now);
    let outputs = session.advance(now, Input::Drain);
    let [Output::Send(ToServer::UpdateWorker(status))] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((status.status, status.draining), (Some(proto::WorkerStatus::WsFull as i32), true));
    let refused = Output::Refused { job: "j".into(), reason: Reason::Draining, why: "the worker is draining" };
    assert_eq!(session.advance(now, offer("j")), [refusal("j", false), refused]);
    assert_eq!(session.jobs(), 0);
}

#[test]
fn scaled_load_reaches_the_limit_of_the_server_when_the_worker_is_full() {
    let now = Instant::now();
    let mut session = up(now);
    let mut load = |part| status(&session.advance(now, Input::Load { utilisation: part, load: 0.1 }));
    assert_eq!(load(0.01), None, "the change is too small to report");
    assert!(load(0.06).is_some());
    assert_eq!(load(0.5), Some((0.35, 0)));
    assert!(load(0.999).unwrap().0 < SERVER_FULL);
    assert_eq!(load(1.0), Some((SERVER_FULL, 1)));
}

/// Load and state of a status message.
fn status(outputs: &[Output]) -> Option<(f32, i32)> {
    match outputs {
        [Output::Send(ToServer::UpdateWorker(status))] => Some((status.load, status.status.unwrap())),
        [] => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn raw_load_is_reported_unchanged() {
    let now = Instant::now();
    let mut session = up(now);
    session.registration.report_load = ReportLoad::Raw;
    assert_eq!(status(&session.advance(now, Input::Load { utilisation: 0.8, load: 0.6 })), Some((0.6, 0)));
    assert_eq!(status(&session.advance(now, Input::Load { utilisation: 1.0, load: 0.75 })), Some((0.75, 1)));
}

#[derive(Clone, Debug)]
enum Step {
    Connect,
    Register,
    Disconnect,
    Offer(usize),
    Accept(usize),
    Refuse(usize),
    Assign(usize),
    Terminate(usize),
    End(usize),
    Pong,
    Wait(u64),
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Connect), 3 => Just(Step::Register), 1 => Just(Step::Disconnect),
        4 => (0..4_usize).prop_map(Step::Offer), 4 => (0..4_usize).prop_map(Step::Accept),
        1 => (0..4_usize).prop_map(Step::Refuse), 4 => (0..4_usize).prop_map(Step::Assign),
        1 => (0..4_usize).prop_map(Step::Terminate), 3 => (0..4_usize).prop_map(Step::End), 2 => Just(Step::Pong),
        1 => (0..9_000_u64).prop_map(Step::Wait), 1 => Just(Step::Drain),
    ]
}

/// A model of both ends: the jobs that a worker holds, and the ends that a server has read.
#[derive(Default)]
struct Model {
    /// Answers that the agent still owes, one for each offer.
    deciding: HashMap<String, u32>,
    held: HashSet<String>,
    running: HashSet<String>,
    ended: HashSet<String>,
    read: HashSet<String>,
    /// The last ping, and the ends that the server had read by then.
    ping: Option<(i64, HashSet<String>)>,
    confirmed: HashSet<String>,
}

impl Model {
    fn decided(&mut self, job: &str) -> bool {
        let Some(left) = self.deciding.get_mut(job).filter(|left| **left > 0) else { return false };
        *left -= 1;
        true
    }

    fn apply(&mut self, outputs: Vec<Output>) -> Result<(), TestCaseError> {
        for output in outputs {
            match output {
                Output::Offer(job) => *self.deciding.entry(job.id).or_default() += 1,
                Output::Launch { job, .. } => {
                    prop_assert!(self.held.remove(&job), "{} was launched without being held", job);
                    prop_assert!(self.running.insert(job));
                }
                Output::Withdraw { job, .. } => drop(self.held.remove(&job)),
                // An unexpected assignment is reported too.
                Output::Report(report) if report.is_end() && self.ended.contains(&report.job_id) => {
                    prop_assert!(!self.confirmed.contains(&report.job_id), "{} was confirmed already", report.job_id);
                    self.read.insert(report.job_id);
                }
                Output::Send(ToServer::Ping(ping)) => self.ping = Some((ping.timestamp, self.read.clone())),
                _ => {}
            }
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn accepted_job_is_launched_or_withdrawn_and_its_end_is_reported_once(steps in proptest::collection::vec(step(), 0..80)) {
        let mut now = Instant::now();
        let (mut session, mut model) = (session(now), Model::default());
        let mut generation = [0_u32; 4];
        for step in steps {
            let id = |n: usize| format!("{n}-{}", generation[n]);
            let input = match step {
                Step::Connect => Input::Connected,
                Step::Register => register(),
                Step::Disconnect => Input::Disconnected,
                Step::Offer(n) => offer(&id(n)),
                Step::Accept(n) if model.decided(&id(n)) => {
                    if !session.is_deciding(&id(n)) {
                        continue;
                    }
                    prop_assert!(model.held.insert(id(n)));
                    accepted(&id(n))
                }
                Step::Refuse(n) if model.decided(&id(n)) => {
                    Input::Answered { job: id(n), answer: Answer::Refused { terminate: false } }
                }
                Step::Assign(n) => assignment(&id(n)),
                Step::Terminate(n) => frame(FromServer::Termination(proto::JobTermination { job_id: id(n) })),
                Step::End(n) if model.running.remove(&id(n)) => {
                    let job = id(n);
                    model.ended.insert(job.clone());
                    // Ids are unique.
                    generation[n] += 1;
                    let end = JobEnd::new(Code::Completed, "");
                    Input::Ended { job, end: Box::new(end) }
                }
                Step::Pong => {
                    // A connection answers only its own pings, and none before the registration.
                    let up = matches!(session.link, Link::Up { .. });
                    let due = model.ping.take().filter(|(sent, _)| up && session.receipt_due == Some(*sent));
                    let Some((timestamp, read)) = due else { continue };
                    model.confirmed.extend(read);
                    frame(FromServer::Pong(proto::WorkerPong { last_timestamp: timestamp, timestamp: 0 }))
                }
                Step::Wait(millis) => {
                    now += Duration::from_millis(millis);
                    Input::TimeUp
                }
                Step::Drain => Input::Drain,
                Step::Accept(_) | Step::Refuse(_) | Step::End(_) => continue,
            };
            model.apply(session.advance(now, input))?;
        }
        model.apply(session.advance(now, Input::Disconnected))?;
        prop_assert!(model.held.is_empty(), "{:?} are held without an offer", model.held);
        model.apply(session.advance(now, Input::Connected))?;
        model.apply(session.advance(now, register()))?;
        prop_assert_eq!(session.jobs(), model.running.len());
        prop_assert!(session.deadlines.is_empty());
        prop_assert_eq!(model.ended, model.read);
    }
}
