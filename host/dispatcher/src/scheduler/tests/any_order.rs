//! Random events in any order, against a model of three worker processes.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Create,
    Connect(usize),
    Disconnect(usize),
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
        4 => Just(Step::Create), 4 => w.clone().prop_map(Step::Connect), 2 => w.clone().prop_map(Step::Disconnect),
        2 => w.clone().prop_map(Step::Migrate), 3 => (w.clone(), any::<bool>()).prop_map(|(w, full)| Step::Status(w, full)),
        6 => (w.clone(), j.clone(), prop::bool::weighted(0.8)).prop_map(|(w, j, yes)| Step::Answer(w, j, yes)),
        4 => (w.clone(), j.clone()).prop_map(|(w, j)| Step::End(w, j)), 1 => j.prop_map(Step::Cancel),
        1 => w.prop_map(Step::Died), 2 => (0..12_000_u64).prop_map(Step::Wait),
    ]
}

/// A worker process, with the offers and jobs that it knows.
#[derive(Default)]
struct Process {
    id: Option<Id>,
    offered: Vec<String>,
    running: Vec<String>,
}

#[derive(Default)]
struct World {
    processes: [Process; 3],
    of_worker: HashMap<Id, usize>,
    created: Vec<String>,
    ended: HashMap<String, u32>,
    /// The worker of each assigned job.
    assigned: HashMap<String, usize>,
}

impl World {
    fn apply(&mut self, outputs: Vec<Output>) -> Result<(), TestCaseError> {
        for output in outputs {
            match output {
                Output::Send { worker, message, durable } => {
                    let Some(index) = self.of_worker.get(&worker) else { continue };
                    let process = &mut self.processes[*index];
                    match message {
                        ToWorker::Offer { job, .. } => process.offered.push(job.id),
                        ToWorker::Assign { job, .. } => {
                            prop_assert!(durable, "an assignment was sent before it was durable");
                            prop_assert!(
                                self.assigned.insert(job.id.clone(), *index).is_none(),
                                "{} assigned twice",
                                job.id
                            );
                            process.running.push(job.id);
                        }
                        ToWorker::Terminate { .. } => {}
                    }
                }
                Output::Store(Change::Ended { dispatch, .. }) => {
                    *self.ended.entry(dispatch.to_string()).or_default() += 1
                }
                Output::Store(_) | Output::Notify(_) | Output::UnknownJobs { .. } => {}
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn dispatch_ends_once_and_no_job_is_assigned_twice_in_any_order(steps in prop::collection::vec(step(), 0..120)) {
        let (mut scheduler, mut now) = start();
        let mut world = World::default();
        let known = |world: &World, index: usize| world.processes[index].id.clone();
        for step in steps {
            match step {
                Step::Create => {
                    let id = format!("d{}", world.created.len());
                    scheduler.create(now, dispatch(&id, now)).unwrap();
                    world.created.push(id);
                }
                Step::Connect(w) if world.processes[w].id.is_none() => {
                    let id = scheduler.register(now, registered(&format!("i{w}")));
                    world.processes[w].id = Some(id.clone());
                    world.of_worker.insert(id.clone(), w);
                    scheduler.registration_confirmed(now, &id);
                    // Like wasm-worker: the jobs that still run, then the status.
                    let jobs = world.processes[w].running.clone();
                    scheduler.on_message(now, &id, WorkerMessage::Migrate { jobs });
                    scheduler.on_message(now, &id, WorkerMessage::Status { load: 0.1, readiness: Readiness::Available });
                }
                Step::Disconnect(w) => if let Some(id) = world.processes[w].id.take() {
                    world.processes[w].offered.clear();
                    scheduler.worker_left(now, &id, "cut".into());
                },
                Step::Migrate(w) => if let Some(id) = known(&world, w) {
                    let jobs = world.processes[w].running.clone();
                    scheduler.on_message(now, &id, WorkerMessage::Migrate { jobs });
                },
                Step::Status(w, full) => if let Some(id) = known(&world, w) {
                    let (load, readiness) = if full { (1.0, Readiness::Full) } else { (0.1, Readiness::Available) };
                    scheduler.on_message(now, &id, WorkerMessage::Status { load, readiness });
                },
                Step::Answer(w, j, yes) => if let (Some(id), Some(job)) = (known(&world, w), world.processes[w].offered.get(j).cloned()) {
                    world.processes[w].offered.retain(|other| *other != job);
                    scheduler.on_message(now, &id, answer(&job, yes));
                },
                Step::End(w, j) => if let (Some(id), Some(job)) = (known(&world, w), world.processes[w].running.get(j).cloned()) {
                    world.processes[w].running.retain(|other| *other != job);
                    scheduler.on_message(now, &id, ended(&job, Code::Completed));
                },
                Step::Cancel(j) => drop(scheduler.cancel(now, &format!("d{j}"), "x")),
                Step::Died(w) => if world.processes[w].id.is_none() {
                    world.processes[w].running.clear();
                    scheduler.process_died(now, &format!("i{w}"));
                },
                Step::Wait(millis) => {
                    now = later(now, Duration::from_millis(millis));
                    scheduler.on_timer(now);
                }
                Step::Connect(_) => {}
            }
            world.apply(scheduler.take_outputs())?;
            prop_assert!(world.ended.values().all(|times| *times == 1));
            let (waiting, running) = scheduler.counts();
            prop_assert_eq!(waiting + running + world.ended.len(), world.created.len());
        }
        // No worker returns: all dispatches end, at their deadlines or with their workers.
        for process in &mut world.processes {
            if let Some(id) = process.id.take() {
                scheduler.worker_left(now, &id, "cut".into());
            }
        }
        for _ in 0..8 {
            now = later(now, Duration::from_secs(70));
            scheduler.on_timer(now);
        }
        world.apply(scheduler.take_outputs())?;
        prop_assert_eq!(world.ended.len(), world.created.len());
        prop_assert!(scheduler.open.is_empty() && scheduler.dispatch_of.is_empty());
        prop_assert!(scheduler.timers.is_empty() && scheduler.agent_queues.is_empty());
        prop_assert!(scheduler.groups.is_empty() && scheduler.processes.is_empty());
        prop_assert_eq!((scheduler.bytes, scheduler.counts()), (0, (0, 0)));
    }
}
