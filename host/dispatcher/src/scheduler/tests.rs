use livekit_protocol as proto;
use wasm_worker_core::load::{Resource, Scarcity};
use wasm_worker_protocol::dispatcher_session::{Readiness, WorkerMessage};

use super::*;

mod any_order;
mod lost_workers;
mod reasons;
mod simulated;

fn bounds() -> Bounds {
    Bounds {
        queue: true,
        queue_limit: 1_000,
        memory_bytes: 1 << 20,
        attempts_max: 3,
        lost_after: Duration::from_secs(10),
    }
}

fn key() -> DispatchKey {
    DispatchKey { agent: "a".into(), job_type: 0, deployment: String::new() }
}

fn dispatch(id: &str, now: Moment) -> Dispatch {
    Dispatch {
        id: id.into(),
        api_key: "k".into(),
        dispatch_key: key(),
        room: proto::Room { name: "r".into(), ..Default::default() },
        metadata: String::new(),
        attributes: BTreeMap::new(),
        restart: proto::JobRestartPolicy::JrpOnFailure,
        priority: 0,
        created_ns: now.wall_ns,
        deadline_ns: now.wall_ns + 60_000_000_000,
    }
}

fn registered(instance: &str) -> RegisteredWorker {
    RegisteredWorker { dispatch_key: key(), api_key: "k".into(), instance: instance.into(), version: "1".into() }
}

fn later(now: Moment, time: Duration) -> Moment {
    Moment { at: now.at + time, wall_ns: now.wall_ns + i64::try_from(time.as_nanos()).unwrap() }
}

fn start() -> (Scheduler, Moment) {
    (Scheduler::new(bounds(), 7), Moment { at: Instant::now(), wall_ns: 1_000_000_000_000 })
}

fn worker(scheduler: &mut Scheduler, now: Moment, instance: &str) -> Id {
    let worker = scheduler.register(now, registered(instance));
    scheduler.registration_confirmed(now, &worker);
    worker
}

fn answer(job: &str, available: bool) -> WorkerMessage {
    WorkerMessage::Answer(proto::AvailabilityResponse { job_id: job.into(), available, ..Default::default() })
}

fn ended(job: &str, code: Code) -> WorkerMessage {
    WorkerMessage::Ended { job: job.into(), end: JobEnd::new(code, "") }
}

/// The worker and the job of each offer among the outputs.
fn offers(outputs: &[Output]) -> Vec<(Id, String)> {
    let offer = |output: &Output| match output {
        Output::Send { worker, message: ToWorker::Offer { job, .. }, .. } => Some((worker.clone(), job.id.clone())),
        _ => None,
    };
    outputs.iter().filter_map(offer).collect()
}

fn ends(outputs: &[Output]) -> Vec<(String, Code)> {
    let end = |output: &Output| match output {
        Output::Store(Change::Ended { dispatch, end, .. }) => Some((dispatch.to_string(), end.verdict.code)),
        _ => None,
    };
    outputs.iter().filter_map(end).collect()
}

fn sent(outputs: &[Output]) -> Vec<String> {
    let sent = |output: &Output| match output {
        Output::Send { message: ToWorker::Assign { job, .. }, durable, .. } => {
            Some(format!("assign {} {durable}", job.id))
        }
        Output::Send { message: ToWorker::Terminate { job }, .. } => Some(format!("terminate {job}")),
        _ => None,
    };
    outputs.iter().filter_map(sent).collect()
}

#[test]
fn dispatch_waits_for_a_worker_and_its_assignment_is_durable() {
    let (mut scheduler, now) = start();
    let job = scheduler.create(now, dispatch("d", now)).unwrap();
    assert!(offers(&scheduler.take_outputs()).is_empty());
    let waiting = scheduler.waiting(now, &["d".into()]);
    assert_eq!((waiting["d"].position, waiting["d"].of), (1, 1));
    assert_eq!(waiting["d"].why, "no worker of agent `a` is connected");
    let w = worker(&mut scheduler, now, "i");
    assert_eq!(offers(&scheduler.take_outputs()), [(w.clone(), job.to_string())]);
    scheduler.on_message(now, &w, answer(&job, true));
    let outputs = scheduler.take_outputs();
    assert!(matches!(&outputs[0], Output::Store(Change::Assigned { attempt: 1, .. })));
    assert_eq!(sent(&outputs), [format!("assign {job} true")]);
    scheduler.on_message(now, &w, ended(&job, Code::Completed));
    assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Completed)]);
    assert!(scheduler.waiting(now, &["d".into()]).is_empty() && scheduler.bytes == 0 && scheduler.timers.is_empty());
}

#[test]
fn refusal_or_silence_of_a_worker_leads_to_the_next() {
    let (mut scheduler, now) = start();
    let first = worker(&mut scheduler, now, "1");
    let second = worker(&mut scheduler, now, "2");
    let job = scheduler.create(now, dispatch("d", now)).unwrap();
    let (asked, _) = offers(&scheduler.take_outputs()).remove(0);
    let other = if asked == first { second } else { first };
    scheduler.on_message(now, &asked, answer(&job, false));
    assert_eq!(offers(&scheduler.take_outputs()), [(other.clone(), job.to_string())]);
    // The second worker does not answer: the round is over, and the dispatch pauses before the first worker is asked again.
    let now = later(now, ANSWER_WITHIN);
    scheduler.on_timer(now);
    assert!(offers(&scheduler.take_outputs()).is_empty());
    let now = later(now, ROUND_PAUSE_MIN);
    scheduler.on_timer(now);
    assert_eq!(offers(&scheduler.take_outputs()), [(asked.clone(), job.to_string())]);
    // The late answer of the second worker has no effect.
    scheduler.on_message(now, &other, answer(&job, true));
    assert!(sent(&scheduler.take_outputs()).is_empty());
    scheduler.on_message(now, &asked, answer(&job, true));
    assert_eq!(sent(&scheduler.take_outputs()).len(), 1);
}

#[test]
fn full_worker_gets_waiting_dispatches_when_its_load_falls() {
    let (mut scheduler, now) = start();
    let w = worker(&mut scheduler, now, "i");
    scheduler.on_message(now, &w, WorkerMessage::Status { load: 1.0, readiness: Readiness::Full });
    let job = scheduler.create(now, dispatch("d", now)).unwrap();
    assert!(offers(&scheduler.take_outputs()).is_empty());
    let why = |scheduler: &Scheduler, now| scheduler.waiting(now, &["d".into()])["d"].why.clone();
    let full = "the only worker of agent `a` is full: ";
    assert_eq!(why(&scheduler, now), format!("{full}its load is 1.00, since 1970-01-01T00:16:40Z"));
    // A worker of wasm-worker reports what makes it full. The time stays that of the first such report.
    let later = later(now, Duration::from_secs(5));
    let scarce = Scarcity { resource: Resource::Cpu, used: 0.99, limit: 0.75 };
    scheduler.on_message(later, &w, WorkerMessage::Full { load: 0.7, scarce });
    assert_eq!(why(&scheduler, later), format!("{full}CPU 99 %, `load-threshold` 75 %, since 1970-01-01T00:16:40Z"));
    let listed = scheduler.workers(later);
    assert_eq!((listed[0].scarce, listed[0].full_since_ns), (Some(scarce), Some(now.wall_ns)));
    scheduler.on_message(now, &w, WorkerMessage::Status { load: 0.2, readiness: Readiness::Available });
    assert_eq!(offers(&scheduler.take_outputs()), [(w, job.to_string())]);
    let listed = scheduler.workers(now);
    assert_eq!((listed[0].scarce, listed[0].full_since_ns), (None, None));
}

#[test]
fn rejection_ends_the_dispatch_and_no_other_worker_is_asked() {
    let (mut scheduler, now) = start();
    worker(&mut scheduler, now, "i");
    worker(&mut scheduler, now, "j");
    let job = scheduler.create(now, dispatch("d", now)).unwrap();
    let (asked, _) = offers(&scheduler.take_outputs()).remove(0);
    let terminate = proto::AvailabilityResponse { job_id: job.to_string(), terminate: true, ..Default::default() };
    scheduler.on_message(now, &asked, WorkerMessage::Answer(terminate));
    let outputs = scheduler.take_outputs();
    assert_eq!((ends(&outputs), offers(&outputs).len()), (vec![("d".into(), Code::Rejected)], 0));
}

/// A worker and the job that it runs.
fn running(scheduler: &mut Scheduler, now: Moment, instance: &str) -> (Id, Id) {
    let w = worker(scheduler, now, instance);
    let job = scheduler.create(now, dispatch("d", now)).unwrap();
    scheduler.on_message(now, &w, answer(&job, true));
    scheduler.on_message(now, &w, WorkerMessage::Running { job: job.to_string() });
    scheduler.take_outputs();
    (w, job)
}

#[test]
fn assignment_that_is_not_stored_in_time_leads_to_another_attempt() {
    let (mut scheduler, now) = start();
    let (w, job) = running(&mut scheduler, now, "i");
    scheduler.suspend(now, true);
    scheduler.assignment_undelivered(now, &job);
    assert!(offers(&scheduler.take_outputs()).is_empty(), "nothing is offered while the store cannot write");
    scheduler.suspend(now, false);
    assert_eq!(offers(&scheduler.take_outputs()).len(), 1);
    // The worker reports that it released the job.
    scheduler.on_message(now, &w, ended(&job, Code::Lost));
    assert!(ends(&scheduler.take_outputs()).is_empty());
}

#[test]
fn dispatch_is_cancelled_in_any_phase() {
    let (mut scheduler, now) = start();
    scheduler.create(now, dispatch("waits", now)).unwrap();
    assert!(scheduler.cancel(now, "waits", "x"));
    assert_eq!(ends(&scheduler.take_outputs()), [("waits".into(), Code::Cancelled)]);
    let (w, job) = running(&mut scheduler, now, "i");
    assert!(scheduler.cancel(now, "d", "x") && scheduler.cancel(now, "d", "again"));
    assert_eq!(sent(&scheduler.take_outputs()), [format!("terminate {job}")]);
    scheduler.on_message(now, &w, ended(&job, Code::Completed));
    assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Terminated)]);
    assert!(!scheduler.cancel(now, "d", "x"));
}

#[test]
fn queue_is_bounded_in_number_bytes_and_time() {
    let (mut scheduler, now) = start();
    scheduler.bounds.queue_limit = 2;
    scheduler.create(now, dispatch("1", now)).unwrap();
    scheduler.create(now, dispatch("2", now)).unwrap();
    assert_eq!(scheduler.create(now, dispatch("3", now)), Err(SchedulerFull::Queue(2)));
    let large = Dispatch { api_key: "other".into(), metadata: "x".repeat(1 << 20), ..dispatch("4", now) };
    assert!(matches!(scheduler.create(now, large), Err(SchedulerFull::Memory(_))));
    scheduler.take_outputs();
    let late = later(now, Duration::from_secs(60));
    assert_eq!(scheduler.wake_at(), Some(late.at));
    scheduler.on_timer(late);
    assert_eq!(ends(&scheduler.take_outputs()), [("1".into(), Code::Expired), ("2".into(), Code::Expired)]);
    assert!(scheduler.create(now, dispatch("5", now)).is_ok());
}

#[test]
fn dispatch_without_a_free_worker_ends_at_once_when_the_queue_is_off() {
    let (mut scheduler, now) = start();
    scheduler.bounds.queue = false;
    scheduler.create(now, dispatch("d", now)).unwrap();
    assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Unserved)]);
    let w = worker(&mut scheduler, now, "i");
    let job = scheduler.create(now, dispatch("e", now)).unwrap();
    assert_eq!(offers(&scheduler.take_outputs()).len(), 1);
    scheduler.on_message(now, &w, answer(&job, false));
    assert_eq!(ends(&scheduler.take_outputs()), [("e".into(), Code::Unserved)]);
}

#[test]
fn cost_of_an_event_does_not_depend_on_the_number_of_dispatches() {
    const WAITING: usize = 20_000;
    let (mut scheduler, now) = start();
    (scheduler.bounds.queue_limit, scheduler.bounds.memory_bytes) = (usize::MAX, usize::MAX);
    // Each waits for another agent, in another room.
    for n in 0..WAITING {
        let mut waits = dispatch(&format!("waits{n}"), now);
        waits.dispatch_key.agent = format!("agent{n}");
        waits.room.name = format!("room{n}");
        scheduler.create(now, waits).unwrap();
    }
    // A walk over all of them at each event is a billion steps, which takes minutes in the development build.
    let began = Instant::now();
    for n in 0..WAITING / 10 {
        let (w, job) = running(&mut scheduler, now, "i");
        scheduler.worker_left(now, &w, "cut".into());
        let w = worker(&mut scheduler, now, "i");
        scheduler.on_message(now, &w, WorkerMessage::Migrate { jobs: vec![job.to_string()] });
        scheduler.on_message(now, &w, WorkerMessage::Status { load: 0.1, readiness: Readiness::Available });
        scheduler.on_timer(now);
        assert!(scheduler.wake_at().is_some());
        scheduler.on_message(now, &w, ended(&job, Code::Completed));
        scheduler.process_died(now, "i");
        assert_eq!(scheduler.in_room(&format!("room{n}")).len(), 1);
        scheduler.take_outputs();
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(scheduler.counts(), (WAITING, 0));
}

#[test]
fn dispatch_waits_its_time_wherever_the_wall_clock_jumps() {
    for jump_ns in [-1_000_000_000_000_000, 1_000_000_000_000_000] {
        let (mut scheduler, now) = start();
        let jumped = |moment: Moment| Moment { wall_ns: moment.wall_ns.saturating_add(jump_ns), ..moment };
        scheduler.create(now, dispatch("d", now)).unwrap();
        let w = worker(&mut scheduler, jumped(now), "");
        let (_, job) = offers(&scheduler.take_outputs()).remove(0);
        // The refusal puts it back into the queue.
        scheduler.on_message(jumped(now), &w, answer(&job, false));
        scheduler.on_timer(jumped(later(now, Duration::from_secs(59))));
        assert!(ends(&scheduler.take_outputs()).is_empty(), "{jump_ns}");
        scheduler.worker_left(jumped(later(now, Duration::from_secs(59))), &w, "cut".into());
        scheduler.on_timer(jumped(later(now, Duration::from_secs(60))));
        assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Expired)], "{jump_ns}");
        // The next dispatcher waits no longer than the first one would have.
        let (mut next, now) = start();
        let recovered = RecoveredDispatch {
            dispatch: dispatch("d", now),
            job: "J".into(),
            attempt: 1,
            former: Vec::new(),
            cancelled: false,
            instance: None,
        };
        next.recover(jumped(now), vec![recovered]);
        next.on_timer(jumped(later(now, Duration::from_secs(60))));
        assert_eq!(ends(&next.take_outputs()), [("d".into(), Code::Expired)], "{jump_ns}");
    }
}

#[test]
fn dispatch_that_fits_no_frame_ends_with_its_reason() {
    let (mut scheduler, now) = start();
    let w = worker(&mut scheduler, now, "");
    scheduler.create(now, dispatch("offer", now)).unwrap();
    let (_, job) = offers(&scheduler.take_outputs()).remove(0);
    scheduler.undeliverable(now, "another", &job, 3 << 20);
    assert!(ends(&scheduler.take_outputs()).is_empty());
    scheduler.undeliverable(now, &w, &job, 3 << 20);
    let outputs = scheduler.take_outputs();
    assert_eq!(ends(&outputs), [("offer".into(), Code::Unserved)]);
    let retry = |output: &Output| matches!(output, Output::Store(Change::Ended { end, .. }) if end.verdict.retry);
    assert!(!outputs.iter().any(retry));

    scheduler.create(now, dispatch("assignment", now)).unwrap();
    let (_, job) = offers(&scheduler.take_outputs()).remove(0);
    scheduler.on_message(now, &w, answer(&job, true));
    scheduler.take_outputs();
    scheduler.undeliverable(now, &w, &job, 3 << 20);
    let outputs = scheduler.take_outputs();
    assert_eq!(ends(&outputs), [("assignment".into(), Code::Rejected)]);
    assert_eq!(sent(&outputs), [format!("terminate {job}")], "the worker waits for the assignment");
    // The worker is as free as before.
    scheduler.create(now, dispatch("next", now)).unwrap();
    assert_eq!(offers(&scheduler.take_outputs()).len(), 1);
}
