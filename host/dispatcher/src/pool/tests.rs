use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn bounds() -> Bounds {
    Bounds {
        queue: true,
        queue_limit: 1_000,
        memory_bytes: 1 << 20,
        attempts_max: 3,
        lost_after: Duration::from_secs(10),
    }
}

fn kind() -> Kind {
    Kind { agent: "a".into(), job_type: 0, deployment: String::new() }
}

fn dispatch(id: &str, now: Now) -> Dispatch {
    Dispatch {
        id: id.into(),
        key: "k".into(),
        kind: kind(),
        room: proto::Room { name: "r".into(), ..Default::default() },
        metadata: String::new(),
        attributes: BTreeMap::new(),
        restart: proto::JobRestartPolicy::JrpOnFailure,
        priority: 0,
        created_ns: now.wall_ns,
        deadline_ns: now.wall_ns + 60_000_000_000,
    }
}

fn registered(instance: &str) -> Registered {
    Registered { kind: kind(), key: "k".into(), instance: instance.into(), version: "1".into() }
}

fn later(now: Now, time: Duration) -> Now {
    Now { at: now.at + time, wall_ns: now.wall_ns + i64::try_from(time.as_nanos()).unwrap() }
}

fn start() -> (Pool, Now) {
    (Pool::new(bounds(), 7), Now { at: Instant::now(), wall_ns: 1_000_000_000_000 })
}

fn worker(pool: &mut Pool, now: Now, instance: &str) -> Id {
    let worker = pool.register(now, registered(instance));
    pool.welcomed(now, &worker);
    worker
}

fn answer(job: &str, available: bool) -> Said {
    Said::Answer(proto::AvailabilityResponse { job_id: job.into(), available, ..Default::default() })
}

fn ended(job: &str, code: Code) -> Said {
    Said::Ended { job: job.into(), end: JobEnd::new(code, "") }
}

/// The offers among outputs: worker and job.
fn offers(outputs: &[Output]) -> Vec<(Id, String)> {
    let offer = |output: &Output| match output {
        Output::Tell { worker, what: Tell::Offer { job, .. }, .. } => Some((worker.clone(), job.id.clone())),
        _ => None,
    };
    outputs.iter().filter_map(offer).collect()
}

fn ends(outputs: &[Output]) -> Vec<(String, Code)> {
    let end = |output: &Output| match output {
        Output::Write(Write::Ended { dispatch, end, .. }) => Some((dispatch.to_string(), end.verdict.code)),
        _ => None,
    };
    outputs.iter().filter_map(end).collect()
}

fn told(outputs: &[Output]) -> Vec<String> {
    let told = |output: &Output| match output {
        Output::Tell { what: Tell::Assign { job, .. }, durable, .. } => Some(format!("assign {} {durable}", job.id)),
        Output::Tell { what: Tell::Terminate { job }, .. } => Some(format!("terminate {job}")),
        _ => None,
    };
    outputs.iter().filter_map(told).collect()
}

#[test]
fn a_dispatch_waits_for_a_worker_and_is_assigned_once_it_is_written() {
    let (mut pool, now) = start();
    let job = pool.create(now, dispatch("d", now)).unwrap();
    assert!(offers(&pool.outputs()).is_empty());
    let waiting = pool.waiting(now, &["d".into()]);
    assert_eq!((waiting["d"].position, waiting["d"].of), (1, 1));
    assert_eq!(waiting["d"].why, "no worker of agent `a` is there");
    let w = worker(&mut pool, now, "i");
    assert_eq!(offers(&pool.outputs()), [(w.clone(), job.to_string())]);
    pool.said(now, &w, answer(&job, true));
    let outputs = pool.outputs();
    assert!(matches!(&outputs[0], Output::Write(Write::Assigned { attempt: 1, .. })));
    assert_eq!(told(&outputs), [format!("assign {job} true")]);
    pool.said(now, &w, ended(&job, Code::Completed));
    assert_eq!(ends(&pool.outputs()), [("d".into(), Code::Completed)]);
    assert!(pool.waiting(now, &["d".into()]).is_empty() && pool.bytes == 0 && pool.timers.is_empty());
}

#[test]
fn one_that_refuses_or_is_silent_leads_to_the_next() {
    let (mut pool, now) = start();
    let first = worker(&mut pool, now, "1");
    let second = worker(&mut pool, now, "2");
    let job = pool.create(now, dispatch("d", now)).unwrap();
    let (asked, _) = offers(&pool.outputs()).remove(0);
    let other = if asked == first { second } else { first };
    pool.said(now, &asked, answer(&job, false));
    assert_eq!(offers(&pool.outputs()), [(other.clone(), job.to_string())]);
    // It says nothing: then both have had their chance, and the dispatch rests before the first is asked again.
    let now = later(now, ANSWER_WITHIN);
    pool.time_up(now);
    assert!(offers(&pool.outputs()).is_empty());
    let now = later(now, REST_MIN);
    pool.time_up(now);
    assert_eq!(offers(&pool.outputs()), [(asked.clone(), job.to_string())]);
    // The answer of the one that was given up comes too late.
    pool.said(now, &other, answer(&job, true));
    assert!(told(&pool.outputs()).is_empty());
    pool.said(now, &asked, answer(&job, true));
    assert_eq!(told(&pool.outputs()).len(), 1);
}

#[test]
fn a_full_worker_gets_what_waits_when_its_load_falls() {
    let (mut pool, now) = start();
    let w = worker(&mut pool, now, "i");
    pool.said(now, &w, Said::Status { load: 1.0, readiness: Readiness::Full });
    let job = pool.create(now, dispatch("d", now)).unwrap();
    assert!(offers(&pool.outputs()).is_empty());
    assert_eq!(pool.waiting(now, &["d".into()])["d"].why, "the one worker of agent `a` is full");
    pool.said(now, &w, Said::Status { load: 0.2, readiness: Readiness::Available });
    assert_eq!(offers(&pool.outputs()), [(w, job.to_string())]);
}

#[test]
fn a_rejection_for_good_ends_it_and_nobody_else_is_asked() {
    let (mut pool, now) = start();
    worker(&mut pool, now, "i");
    worker(&mut pool, now, "j");
    let job = pool.create(now, dispatch("d", now)).unwrap();
    let (asked, _) = offers(&pool.outputs()).remove(0);
    let terminate = proto::AvailabilityResponse { job_id: job.to_string(), terminate: true, ..Default::default() };
    pool.said(now, &asked, Said::Answer(terminate));
    let outputs = pool.outputs();
    assert_eq!((ends(&outputs), offers(&outputs).len()), (vec![("d".into(), Code::Rejected)], 0));
}

/// A dispatch whose first attempt runs.
fn running(pool: &mut Pool, now: Now, instance: &str) -> (Id, Id) {
    let w = worker(pool, now, instance);
    let job = pool.create(now, dispatch("d", now)).unwrap();
    pool.said(now, &w, answer(&job, true));
    pool.said(now, &w, Said::Running { job: job.to_string() });
    pool.outputs();
    (w, job)
}

#[test]
fn of_a_worker_that_says_nothing_of_its_jobs_none_is_run_again() {
    let (mut pool, now) = start();
    let w = worker(&mut pool, now, "");
    for id in ["long", "deleted", "just"] {
        let now = if id == "just" { later(now, HEARD_WITHIN) } else { now };
        let job = pool.create(now, dispatch(id, now)).unwrap();
        pool.said(now, &w, answer(&job, true));
    }
    pool.outputs();
    let now = later(now, HEARD_WITHIN);
    assert!(pool.cancel(now, "deleted", "it was deleted"));
    pool.time_up(now);
    let outputs = pool.outputs();
    assert_eq!((ends(&outputs), told(&outputs).len()), (vec![("deleted".into(), Code::Terminated)], 1));
    pool.gone(now, &w, "cut".into());
    assert_eq!(ends(&pool.outputs()), [("long".into(), Code::Lost)], "the other may not have begun");
}

#[test]
fn a_worker_that_comes_back_keeps_its_job() {
    let (mut pool, now) = start();
    let (w, job) = running(&mut pool, now, "i");
    pool.gone(now, &w, "cut".into());
    let again = worker(&mut pool, now, "i");
    pool.said(now, &again, Said::Migrate { jobs: vec![job.to_string()] });
    pool.said(now, &again, Said::Status { load: 0.0, readiness: Readiness::Available });
    pool.time_up(later(now, Duration::from_secs(60)));
    assert!(ends(&pool.outputs()).is_empty());
    pool.said(now, &again, ended(&job, Code::Completed));
    assert_eq!(ends(&pool.outputs()), [("d".into(), Code::Completed)]);
}

#[test]
fn a_job_whose_worker_does_not_come_back_is_run_again_and_then_quarantined() {
    let (mut pool, mut now) = start();
    let (mut w, first) = running(&mut pool, now, "");
    for attempt in 2..=3 {
        pool.gone(now, &w, "cut".into());
        now = later(now, bounds().lost_after);
        pool.time_up(now);
        w = worker(&mut pool, now, "");
        let (_, job) = offers(&pool.outputs()).remove(0);
        assert_ne!(*job, *first);
        pool.said(now, &w, answer(&job, true));
        assert!(
            matches!(&pool.outputs()[0], Output::Write(Write::Assigned { attempt: found, .. }) if *found == attempt)
        );
    }
    pool.gone(now, &w, "cut".into());
    pool.time_up(later(now, bounds().lost_after));
    assert_eq!(ends(&pool.outputs()), [("d".into(), Code::Lost)]);
}

#[test]
fn a_worker_that_comes_back_without_its_job_or_whose_process_died_has_lost_it_at_once() {
    let (mut pool, now) = start();
    let (w, job) = running(&mut pool, now, "i");
    pool.gone(now, &w, "cut".into());
    let again = worker(&mut pool, now, "i");
    pool.said(now, &again, Said::Status { load: 0.0, readiness: Readiness::Available });
    let outputs = pool.outputs();
    let (_, second) = offers(&outputs).remove(0);
    assert_ne!(*second, *job);
    pool.said(now, &again, answer(&second, true));
    pool.outputs();
    // The process dies before its connection is known to be gone.
    pool.instance_died(now, "i");
    assert!(pool.outputs().iter().any(|output| matches!(output, Output::Write(Write::Again { attempt: 3, .. }))));
}

/// A first attempt whose worker `i` was given up, and a second one that runs on `j`.
fn given_up(pool: &mut Pool, now: Now) -> (Now, Id, Id, String) {
    let (w, job) = running(pool, now, "i");
    pool.gone(now, &w, "cut".into());
    let now = later(now, bounds().lost_after);
    pool.time_up(now);
    let other = worker(pool, now, "j");
    let (_, second) = offers(&pool.outputs()).remove(0);
    pool.said(now, &other, answer(&second, true));
    (now, job, other, second)
}

#[test]
fn the_first_end_decides_and_the_other_attempt_is_stopped() {
    let (mut pool, now) = start();
    let (now, job, other, second) = given_up(&mut pool, now);
    pool.outputs();
    let back = worker(&mut pool, now, "i");
    pool.said(now, &back, ended(&job, Code::Completed));
    let outputs = pool.outputs();
    assert_eq!(ends(&outputs), [("d".into(), Code::Completed)]);
    assert_eq!(told(&outputs), [format!("terminate {second}")]);
    pool.said(now, &other, ended(&second, Code::Terminated));
    assert!(ends(&pool.outputs()).is_empty());
}

#[test]
fn a_former_attempt_that_was_told_to_stop_says_nothing_of_the_dispatch() {
    let (mut pool, now) = start();
    let (now, job, other, second) = given_up(&mut pool, now);
    let back = worker(&mut pool, now, "i");
    pool.outputs();
    pool.said(now, &back, Said::Migrate { jobs: vec![job.to_string()] });
    assert_eq!(told(&pool.outputs()), [format!("terminate {job}")]);
    pool.said(now, &back, ended(&job, Code::Completed));
    assert!(ends(&pool.outputs()).is_empty(), "it was stopped half way");
    pool.said(now, &other, ended(&second, Code::Completed));
    assert_eq!(ends(&pool.outputs()), [("d".into(), Code::Completed)]);
}

#[test]
fn a_process_that_registers_anew_has_lost_its_former_connection_and_its_ends_count() {
    let (mut pool, now) = start();
    let (_, job) = running(&mut pool, now, "i");
    let again = worker(&mut pool, now, "i");
    assert_eq!(pool.workers(now).len(), 1);
    pool.said(now, &again, ended(&job, Code::Completed));
    assert_eq!(ends(&pool.outputs()), [("d".into(), Code::Completed)]);
}

#[test]
fn an_assignment_that_cannot_be_written_in_time_is_another_attempt() {
    let (mut pool, now) = start();
    let (w, job) = running(&mut pool, now, "i");
    pool.hold(now, true);
    pool.never_told(now, &job);
    assert!(offers(&pool.outputs()).is_empty(), "nothing is offered while nothing is written");
    pool.hold(now, false);
    assert_eq!(offers(&pool.outputs()).len(), 1);
    // The worker has let go of it, and says so.
    pool.said(now, &w, ended(&job, Code::Lost));
    assert!(ends(&pool.outputs()).is_empty());
}

#[test]
fn a_next_attempt_waits_as_long_as_the_first_one_could() {
    let (mut pool, now) = start();
    let (w, _) = running(&mut pool, now, "");
    let hour = later(now, Duration::from_secs(3_600));
    pool.gone(hour, &w, "cut".into());
    let now = later(hour, bounds().lost_after);
    pool.time_up(now);
    assert!(ends(&pool.outputs()).is_empty());
    pool.time_up(later(now, Duration::from_secs(60)));
    assert_eq!(ends(&pool.outputs()), [("d".into(), Code::Expired)]);
}

#[test]
fn a_dispatch_is_cancelled_wherever_it_is() {
    let (mut pool, now) = start();
    pool.create(now, dispatch("waits", now)).unwrap();
    assert!(pool.cancel(now, "waits", "x"));
    assert_eq!(ends(&pool.outputs()), [("waits".into(), Code::Cancelled)]);
    let (w, job) = running(&mut pool, now, "i");
    assert!(pool.cancel(now, "d", "x") && pool.cancel(now, "d", "again"));
    assert_eq!(told(&pool.outputs()), [format!("terminate {job}")]);
    pool.said(now, &w, ended(&job, Code::Completed));
    assert_eq!(ends(&pool.outputs()), [("d".into(), Code::Terminated)]);
    assert!(!pool.cancel(now, "d", "x"));
}

#[test]
fn what_waits_is_bounded_in_number_bytes_and_time() {
    let (mut pool, now) = start();
    pool.bounds.queue_limit = 2;
    pool.create(now, dispatch("1", now)).unwrap();
    pool.create(now, dispatch("2", now)).unwrap();
    assert_eq!(pool.create(now, dispatch("3", now)), Err(Full::Queue(2)));
    let large = Dispatch { key: "other".into(), metadata: "x".repeat(1 << 20), ..dispatch("4", now) };
    assert!(matches!(pool.create(now, large), Err(Full::Memory(_))));
    pool.outputs();
    let late = later(now, Duration::from_secs(60));
    assert_eq!(pool.wake_at(), Some(late.at));
    pool.time_up(late);
    assert_eq!(ends(&pool.outputs()), [("1".into(), Code::Expired), ("2".into(), Code::Expired)]);
    assert!(pool.create(now, dispatch("5", now)).is_ok());
}

#[test]
fn without_a_queue_a_dispatch_that_nobody_takes_is_over() {
    let (mut pool, now) = start();
    pool.bounds.queue = false;
    pool.create(now, dispatch("d", now)).unwrap();
    assert_eq!(ends(&pool.outputs()), [("d".into(), Code::Unserved)]);
    let w = worker(&mut pool, now, "i");
    let job = pool.create(now, dispatch("e", now)).unwrap();
    assert_eq!(offers(&pool.outputs()).len(), 1);
    pool.said(now, &w, answer(&job, false));
    assert_eq!(ends(&pool.outputs()), [("e".into(), Code::Unserved)]);
}

#[test]
fn a_dispatcher_that_starts_takes_over_what_was_left() {
    let (mut pool, now) = start();
    let open = |id: &str, instance: Option<&str>| Open {
        dispatch: dispatch(id, now),
        job: format!("J{id}").into(),
        attempt: 1,
        former: Vec::new(),
        cancelled: false,
        instance: instance.map(str::to_owned),
    };
    pool.recover(now, vec![open("waits", None), open("ran", Some("i")), open("inside", Some("embedded-1"))]);
    assert!(
        pool.outputs()
            .iter()
            .any(|output| matches!(output, Output::Write(Write::Again { dispatch, .. }) if &**dispatch == "inside"))
    );
    let w = worker(&mut pool, now, "i");
    pool.said(now, &w, Said::Migrate { jobs: vec!["Jran".into(), "unknown".into()] });
    let outputs = pool.outputs();
    // A worker is not asked for more than one job before it has taken one.
    assert_eq!(offers(&outputs).len(), 1);
    assert!(outputs.iter().any(|output| matches!(output, Output::Strays { jobs, .. } if *jobs == ["unknown"])));
    pool.said(now, &w, ended("Jran", Code::Completed));
    assert_eq!(ends(&pool.outputs()), [("ran".into(), Code::Completed)]);
}

#[derive(Clone, Debug)]
enum Step {
    Create,
    Come(usize),
    Go(usize),
    Migrate(usize),
    Status(usize, bool),
    Answer(usize, usize, bool),
    End(usize, usize),
    Cancel(usize),
    Died(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let (w, j) = (0..3_usize, 0..6_usize);
    prop_oneof![
        4 => Just(Step::Create), 4 => w.clone().prop_map(Step::Come), 2 => w.clone().prop_map(Step::Go),
        2 => w.clone().prop_map(Step::Migrate), 3 => (w.clone(), any::<bool>()).prop_map(|(w, full)| Step::Status(w, full)),
        6 => (w.clone(), j.clone(), prop::bool::weighted(0.8)).prop_map(|(w, j, yes)| Step::Answer(w, j, yes)),
        4 => (w.clone(), j.clone()).prop_map(|(w, j)| Step::End(w, j)), 1 => j.prop_map(Step::Cancel),
        1 => w.prop_map(Step::Died), 2 => (0..12_000_u64).prop_map(Step::Wait),
    ]
}

/// What a worker process has, as it would itself.
#[derive(Default)]
struct Shell {
    id: Option<Id>,
    offered: Vec<String>,
    running: Vec<String>,
}

#[derive(Default)]
struct World {
    shells: [Shell; 3],
    of_worker: HashMap<Id, usize>,
    created: Vec<String>,
    ended: HashMap<String, u32>,
    /// Jobs that were assigned, each to one worker once.
    assigned: HashMap<String, usize>,
}

impl World {
    fn take(&mut self, outputs: Vec<Output>) -> Result<(), TestCaseError> {
        for output in outputs {
            match output {
                Output::Tell { worker, what, durable } => {
                    let Some(place) = self.of_worker.get(&worker) else { continue };
                    let shell = &mut self.shells[*place];
                    match what {
                        Tell::Offer { job, .. } => shell.offered.push(job.id),
                        Tell::Assign { job, .. } => {
                            prop_assert!(durable, "an assignment before it is written");
                            prop_assert!(
                                self.assigned.insert(job.id.clone(), *place).is_none(),
                                "{} assigned twice",
                                job.id
                            );
                            shell.running.push(job.id);
                        }
                        Tell::Terminate { .. } => {}
                    }
                }
                Output::Write(Write::Ended { dispatch, .. }) => {
                    *self.ended.entry(dispatch.to_string()).or_default() += 1
                }
                Output::Write(_) | Output::Note(_) | Output::Strays { .. } => {}
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn whatever_happens_each_dispatch_ends_once_and_no_job_is_assigned_twice(steps in prop::collection::vec(step(), 0..120)) {
        let (mut pool, mut now) = start();
        let mut world = World::default();
        let known = |world: &World, place: usize| world.shells[place].id.clone();
        for step in steps {
            match step {
                Step::Create => {
                    let id = format!("d{}", world.created.len());
                    pool.create(now, dispatch(&id, now)).unwrap();
                    world.created.push(id);
                }
                Step::Come(w) if world.shells[w].id.is_none() => {
                    let id = pool.register(now, registered(&format!("i{w}")));
                    world.shells[w].id = Some(id.clone());
                    world.of_worker.insert(id.clone(), w);
                    pool.welcomed(now, &id);
                    // As ours do: what still runs, then the load.
                    let jobs = world.shells[w].running.clone();
                    pool.said(now, &id, Said::Migrate { jobs });
                    pool.said(now, &id, Said::Status { load: 0.1, readiness: Readiness::Available });
                }
                Step::Go(w) => if let Some(id) = world.shells[w].id.take() {
                    world.shells[w].offered.clear();
                    pool.gone(now, &id, "cut".into());
                },
                Step::Migrate(w) => if let Some(id) = known(&world, w) {
                    let jobs = world.shells[w].running.clone();
                    pool.said(now, &id, Said::Migrate { jobs });
                },
                Step::Status(w, full) => if let Some(id) = known(&world, w) {
                    pool.said(now, &id, Said::Status { load: if full { 1.0 } else { 0.1 }, readiness: if full { Readiness::Full } else { Readiness::Available } });
                },
                Step::Answer(w, j, yes) => if let (Some(id), Some(job)) = (known(&world, w), world.shells[w].offered.get(j).cloned()) {
                    world.shells[w].offered.retain(|other| *other != job);
                    pool.said(now, &id, answer(&job, yes));
                },
                Step::End(w, j) => if let (Some(id), Some(job)) = (known(&world, w), world.shells[w].running.get(j).cloned()) {
                    world.shells[w].running.retain(|other| *other != job);
                    pool.said(now, &id, ended(&job, Code::Completed));
                },
                Step::Cancel(j) => drop(pool.cancel(now, &format!("d{j}"), "x")),
                Step::Died(w) => if world.shells[w].id.is_none() {
                    world.shells[w].running.clear();
                    pool.instance_died(now, &format!("i{w}"));
                },
                Step::Wait(millis) => {
                    now = later(now, Duration::from_millis(millis));
                    pool.time_up(now);
                }
                Step::Come(_) => {}
            }
            world.take(pool.outputs())?;
            prop_assert!(world.ended.values().all(|times| *times == 1));
            let (waiting, running) = pool.counts();
            prop_assert_eq!(waiting + running + world.ended.len(), world.created.len());
        }
        // Nobody comes any more: all end, by their deadlines or with their workers.
        for shell in &mut world.shells {
            if let Some(id) = shell.id.take() {
                pool.gone(now, &id, "cut".into());
            }
        }
        for _ in 0..8 {
            now = later(now, Duration::from_secs(70));
            pool.time_up(now);
        }
        world.take(pool.outputs())?;
        prop_assert_eq!(world.ended.len(), world.created.len());
        prop_assert!(pool.open.is_empty() && pool.dispatch_of.is_empty() && pool.timers.is_empty() && pool.lanes.is_empty());
        prop_assert_eq!((pool.bytes, pool.counts()), (0, (0, 0)));
    }
}
