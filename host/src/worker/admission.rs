//! Admission control of one worker process: a job needs a slot, descriptors for its room, and a load below the threshold. All
//! agents share it.
//!
//! Bounds: `max-jobs` jobs, pending decisions included; an offer waits [`CAPACITY_WITHIN`] for capacity, and up to
//! [`CHECK_EVERY`] more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Config;
use crate::load::descriptors::Descriptors;
use crate::load::recent_jobs::{AdmittedId, Cost, RecentJobs};
use crate::load::{Measurement, Threshold};
use wasm_worker_core::load::{Resource, Sample, Scarcity};
use wasm_worker_core::refusal::{Reason, Refusal};

/// The time that an offer waits for capacity. The agent has the rest of the 2 s within which an offer is answered.
const CAPACITY_WITHIN: Duration = Duration::from_millis(800);
/// The interval between two checks of the load. Finished work leaves the averaging window between samples. Only the oldest
/// waiting offer checks.
const CHECK_EVERY: Duration = Duration::from_millis(10);

/// The slots and the load of a worker process.
pub(crate) struct AdmissionControl {
    slots: Arc<Semaphore>,
    jobs_max: usize,
    /// The number of jobs that run and have a room.
    with_room: AtomicUsize,
    /// The time from which deadlines are counted.
    started: Instant,
    /// The number of offers that wait for capacity. A later offer does not overtake them.
    waiting: AtomicUsize,
    /// Held by the oldest offer of an agent that has a slot and waits for the load to fall.
    oldest: tokio::sync::Mutex<()>,
    state: Mutex<AdmissionState>,
    /// Notifies of each new measurement.
    sampled: watch::Sender<()>,
}

/// The load, and the jobs that it does not show yet.
struct AdmissionState {
    measured: Measurement,
    threshold: Threshold,
    recent: RecentJobs,
    /// Cores of the recent jobs that the last measurement contains.
    measured_cores: f64,
}

/// The utilisation of a worker, as admission control sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fullness {
    /// Utilisation relative to the limits: 0 when idle, 1 and above when full.
    pub(crate) part: f64,
    /// The load, 0 to 1.
    pub(crate) load: f64,
    /// The scarcest resource.
    pub(crate) scarce: Resource,
    /// The number of jobs, and the most that the worker may have; the same of descriptors, where those are the scarcest.
    count: (usize, usize),
    /// The load from which on the worker is full.
    threshold: f64,
    /// What keeps the agent itself from one more job.
    of_agent: Option<Scarcity>,
}

impl Fullness {
    /// The same for an agent that something of its own keeps from one more job.
    #[must_use]
    pub(crate) fn of_agent(self, own: Option<Scarcity>) -> Self {
        let Some(Scarcity { resource, .. }) = own else { return self };
        Self { part: self.part.max(1.0), scarce: resource, of_agent: own, ..self }
    }

    /// The scarcest resource with its figure and its limit.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    pub(crate) fn scarcity(self) -> Scarcity {
        let (count, count_max) = self.count;
        let (used, limit) = match self.scarce {
            Resource::Cpu | Resource::Fuel | Resource::Memory => (self.load, self.threshold),
            Resource::Jobs | Resource::Descriptors => (count as f64, count_max as f64),
            Resource::Agent | Resource::AgentJobs | Resource::AgentCores | Resource::AgentTokens => (0.0, 0.0),
        };
        self.of_agent.unwrap_or(Scarcity { resource: self.scarce, used, limit })
    }

    /// Utilisation and load, for the server.
    #[expect(clippy::cast_possible_truncation, reason = "shares")]
    pub(crate) fn shares(self) -> (f32, f32) {
        (self.part as f32, self.load as f32)
    }
}

/// The right to run one job. Dropping it releases the slot.
pub(crate) struct Permit {
    control: Arc<AdmissionControl>,
    admitted: AdmittedId,
    /// The cost of the job; none for a job that did not run.
    cost: Option<Cost>,
    /// Whether the job has a room.
    has_room: bool,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.control.state().recent.end(Instant::now(), self.admitted, self.cost);
        if self.has_room {
            self.control.with_room.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Permit {
    /// The job is launched with a room, which takes descriptors once it is joined.
    #[must_use]
    pub(crate) fn with_room(mut self) -> Self {
        if !self.has_room {
            self.has_room = true;
            self.control.with_room.fetch_add(1, Ordering::Relaxed);
        }
        self
    }

    /// Release the slot of a job that ended, at this cost.
    pub(crate) fn release(mut self, cost: Cost) {
        self.cost = Some(cost);
    }
}

/// The place of an offer among those that wait for capacity.
pub(crate) struct WaitingPlace {
    control: Arc<AdmissionControl>,
    /// The end of the wait.
    deadline: Instant,
}

impl Drop for WaitingPlace {
    fn drop(&mut self) {
        self.control.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AdmissionControl {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(config.max_jobs)),
            jobs_max: config.max_jobs,
            with_room: AtomicUsize::new(0),
            started: Instant::now(),
            waiting: AtomicUsize::new(0),
            oldest: tokio::sync::Mutex::default(),
            state: Mutex::new(AdmissionState {
                measured: Measurement {
                    sample: Sample { jobs_max: config.max_jobs, ..Sample::default() },
                    ..Measurement::default()
                },
                threshold: Threshold::new(config.load_threshold),
                recent: RecentJobs::default(),
                measured_cores: 0.0,
            }),
            sampled: watch::Sender::new(()),
        })
    }

    /// Jobs in any state, pending decisions included.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs_max.saturating_sub(self.slots.available_permits())
    }

    /// The last sample, and the load that followed from it.
    pub(crate) fn measured(&self) -> (Sample, f64) {
        let Measurement { sample, load, .. } = self.state().measured;
        (Sample { jobs: self.jobs(), ..sample }, load)
    }

    /// The descriptors at the last measurement, and the most that there may be; none where the system does not tell.
    pub(crate) fn descriptors(&self) -> Option<(usize, usize)> {
        self.state().measured.descriptors.map(Descriptors::used)
    }

    /// Apply a new measurement.
    pub(crate) fn update(&self, now: Instant, measured: Measurement) {
        let mut state = self.state();
        state.measured = measured;
        state.recent.measured(now);
        state.measured_cores = state.recent.sum(now).cores.min(measured.job_cores);
        drop(state);
        self.sampled.send_replace(());
    }

    /// A receiver that notifies of each new measurement.
    pub(crate) fn samples(&self) -> watch::Receiver<()> {
        self.sampled.subscribe()
    }

    /// The current utilisation.
    pub(crate) fn fullness(&self) -> Fullness {
        let mut state = self.state();
        let load = state.load();
        let part = state.threshold.part(load);
        let (count, threshold) = ((self.jobs(), self.jobs_max), state.threshold.limit());
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let slots = count.0 as f64 / count.1 as f64;
        let short = state.measured.descriptors.filter(|found| !found.suffice(self.with_one_more_room()));
        if let Some(count) = short.map(|found| found.used()).filter(|_| slots.max(part) < 1.0) {
            return Fullness { part: 1.0, load, scarce: Resource::Descriptors, count, threshold, of_agent: None };
        }
        let scarce = if slots >= part { Resource::Jobs } else { state.measured.sample.scarcest() };
        Fullness { part: part.max(slots), load, scarce, count, threshold, of_agent: None }
    }

    /// The right to run a job, where there is capacity and no other offer waits for it.
    pub(crate) fn try_acquire(self: &Arc<Self>, cost: Cost) -> Option<Permit> {
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        let admitted = self.admit(cost).ok()?;
        Some(self.permit(admitted, slot))
    }

    /// Join the offers that wait. The waits of offers that arrive together end together, so that one check answers them all.
    pub(crate) fn wait(self: &Arc<Self>) -> WaitingPlace {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let step = CHECK_EVERY.as_millis();
        let ends = (self.started.elapsed() + CAPACITY_WITHIN).as_millis().div_ceil(step) * step;
        let ends = Duration::from_millis(u64::try_from(ends).unwrap_or(u64::MAX));
        WaitingPlace { control: self.clone(), deadline: self.started + ends }
    }

    /// Wait for a slot, and for a load below the threshold. The caller calls this for its oldest offer first.
    pub(crate) async fn acquire(self: &Arc<Self>, place: WaitingPlace, cost: Cost) -> Result<Permit, Refusal> {
        let deadline = place.deadline;
        let slot = match self.slots.clone().try_acquire_owned() {
            Ok(slot) => Some(slot),
            Err(_) => timeout_at(deadline, self.slots.clone().acquire_owned()).await.ok().and_then(Result::ok),
        };
        let Some(slot) = slot else {
            let detail = format!("all `max-jobs` slots are in use, and none was released within {CAPACITY_WITHIN:?}");
            return Err(Refusal::new(Reason::Full, detail));
        };
        let admission = async {
            let _oldest = self.oldest.lock().await;
            let mut samples = self.samples();
            loop {
                if let Ok(admitted) = self.admit(cost) {
                    return admitted;
                }
                // Both outcomes lead to the next check.
                let _either = timeout(CHECK_EVERY, samples.changed()).await;
            }
        };
        let waited = if deadline <= Instant::now() { None } else { timeout_at(deadline, admission).await.ok() };
        // The last check gives the reason of the refusal.
        let last_check = || self.admit(cost);
        let admitted = waited.map_or_else(last_check, Ok)?;
        Ok(self.permit(admitted, slot))
    }

    fn permit(self: &Arc<Self>, admitted: AdmittedId, slot: OwnedSemaphorePermit) -> Permit {
        Permit { control: self.clone(), admitted, cost: None, has_room: false, _slot: slot }
    }

    /// The jobs with a room, where one more had one.
    fn with_one_more_room(&self) -> usize {
        self.with_room.load(Ordering::Relaxed) + 1
    }

    fn admit(&self, cost: Cost) -> Result<AdmittedId, Refusal> {
        let mut state = self.state();
        if let Some(descriptors) = state.measured.descriptors {
            let wanted = self.with_one_more_room();
            if !descriptors.suffice(wanted) {
                return Err(Refusal::new(Reason::Full, descriptors.shortage(wanted)));
            }
        }
        let load = state.load();
        // The status for the server has hysteresis. Admission has none.
        if state.threshold.admits(load) {
            return Ok(state.recent.add(Instant::now(), cost));
        }
        let Sample { cpu, fuel, memory, .. } = state.measured.sample;
        let percent = |share: f64| share * 100.0;
        let detail = format!(
            "the load, recently admitted jobs included, is {:.0} % and exceeds `load-threshold`: CPU {:.0} %, fuel {:.0} %, memory {:.0} %",
            percent(load),
            percent(cpu),
            percent(fuel),
            percent(memory)
        );
        Err(Refusal::new(Reason::Load, detail))
    }

    fn state(&self) -> MutexGuard<'_, AdmissionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AdmissionState {
    /// The measured load, plus the recent jobs that it does not show yet, minus the finished work that has counted for its window since.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn load(&mut self) -> f64 {
        let Measurement { sample, load, .. } = self.measured;
        let Cost { cores, memory_bytes } = self.recent.sum(Instant::now());
        let share = |amount: f64, of: f64| if of > 0.0 { amount / of } else { 0.0 };
        let cpu = share(cores - self.measured_cores, sample.cores);
        let memory = share(memory_bytes, sample.memory_bytes as f64);
        // Finished work lowers the load only where CPU is the scarcest resource.
        let falls = cpu < 0.0 && (load - sample.cpu).abs() < f64::EPSILON;
        let load = if falls { (load + cpu).max(sample.memory + memory) } else { load + cpu.max(memory) };
        load.min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::descriptors::DESCRIPTORS_OF_ROOM;

    fn control(max_jobs: usize) -> Arc<AdmissionControl> {
        AdmissionControl::new(&Config { max_jobs, load_threshold: Some(0.5), ..Config::default() })
    }

    /// A load on two cores, to which guests contribute nothing.
    fn measured(load: f64) -> Measurement {
        let sample = Sample { cpu: load, cores: 2.0, memory_bytes: 1_000, jobs_max: 4, ..Sample::default() };
        Measurement { sample, load, job_cores: 0.0, descriptors: None }
    }

    #[tokio::test(start_paused = true)]
    async fn an_offer_waits_for_a_slot_and_is_refused_at_the_deadline() {
        let control = control(1);
        let first = control.acquire(control.wait(), Cost::default()).await.ok().unwrap();
        assert_eq!((control.jobs(), control.fullness().part, control.fullness().scarce), (1, 1.0, Resource::Jobs));
        let began = Instant::now();
        assert_eq!(control.acquire(control.wait(), Cost::default()).await.err().unwrap().reason, Reason::Full);
        assert_eq!(began.elapsed(), CAPACITY_WITHIN);
        drop(first);
        assert!(control.acquire(control.wait(), Cost::default()).await.is_ok());
    }

    #[test]
    fn an_agent_with_a_limit_of_its_own_is_full_while_the_worker_is_not() {
        let fullness = control(4).fullness();
        assert!(fullness.part < 1.0 && fullness.of_agent(None) == fullness);
        let own = Scarcity { resource: Resource::AgentJobs, used: 2.0, limit: 2.0 };
        let full = fullness.of_agent(Some(own));
        assert_eq!((full.shares().0, full.scarce, full.scarcity()), (1.0, Resource::AgentJobs, own));
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_offer_does_not_overtake_one_that_waits() {
        let control = control(1);
        let held = control.try_acquire(Cost::default()).unwrap();
        let first = control.wait();
        drop(held);
        assert!(control.try_acquire(Cost::default()).is_none());
        let first = control.acquire(first, Cost::default()).await.ok().unwrap();
        drop(first);
        assert!(control.try_acquire(Cost::default()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn offers_whose_time_is_up_are_refused_at_once() {
        let control = control(4);
        control.update(Instant::now(), measured(0.9));
        let waiting: Vec<WaitingPlace> = (0..100).map(|_| control.wait()).collect();
        let began = Instant::now();
        for place in waiting {
            assert_eq!(control.acquire(place, Cost::default()).await.err().unwrap().reason, Reason::Load);
        }
        assert_eq!(began.elapsed(), CAPACITY_WITHIN);
        assert_eq!(control.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_admitted_job_counts_before_a_measurement_shows_it() {
        let control = control(4);
        control.update(Instant::now(), measured(0.1));
        let hog = Cost { cores: 1.0, memory_bytes: 0.0 };
        let first = control.acquire(control.wait(), hog).await.ok().unwrap();
        assert!(
            (control.fullness().load - 0.6).abs() < 1e-9 && control.fullness().part >= 1.0,
            "{:?}",
            control.fullness()
        );
        let refused = control.acquire(control.wait(), hog).await.err().unwrap();
        assert_eq!(refused.reason, Reason::Load);
        assert!(refused.detail.contains("60 %"), "{}", refused.detail);
        // The work of a finished job counts for a window.
        first.release(hog);
        assert_eq!(control.acquire(control.wait(), hog).await.err().unwrap().reason, Reason::Load);
        tokio::time::advance(crate::load::window::WINDOW).await;
        assert!(control.acquire(control.wait(), hog).await.is_ok());
        // Measured work does not count twice.
        let control = self::control(4);
        let _seen = control.acquire(control.wait(), hog).await.ok().unwrap();
        control.update(Instant::now(), Measurement { job_cores: 1.0, ..measured(0.4) });
        assert!((control.fullness().load - 0.4).abs() < 1e-9, "{:?}", control.fullness());
    }

    #[tokio::test(start_paused = true)]
    async fn a_job_is_refused_before_the_descriptors_run_out() {
        let control = control(4);
        // 64 for everything else, and those of two rooms.
        let limit = 20 + 64 + 2 * DESCRIPTORS_OF_ROOM;
        let at = |open, in_rooms| Measurement {
            descriptors: Some(Descriptors::new(open, limit, in_rooms)),
            ..measured(0.1)
        };
        control.update(Instant::now(), at(20, 0));
        let joins = control.try_acquire(Cost::default()).unwrap().with_room().with_room();
        let without = control.try_acquire(Cost::default()).unwrap();
        let last = control.try_acquire(Cost::default()).unwrap().with_room();
        let full = control.fullness();
        assert_eq!((full.part, full.scarce), (1.0, Resource::Descriptors));
        assert_eq!((full.scarcity().used, full.scarcity().limit), (20.0, 92.0));
        let refused = control.acquire(control.wait(), Cost::default()).await.err().unwrap();
        assert_eq!(refused.reason, Reason::Full);
        let expected = "may open 92 files and sockets, 20 are open, and 12 are kept";
        assert!(refused.detail.contains(expected), "{}", refused.detail);
        // A room that is joined is among the open ones, and took less than it may.
        control.update(Instant::now(), at(20, 1));
        drop(without);
        assert!(control.fullness().part < 1.0);
        last.release(Cost::default());
        drop(joins);
        assert_eq!(control.with_room.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_offer_waits_until_the_load_falls() {
        let control = control(4);
        control.update(Instant::now(), measured(0.9));
        let (falls, waits) = (control.clone(), control.clone());
        let falls = async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            falls.update(Instant::now(), measured(0.2));
        };
        let (admitted, ()) = tokio::join!(waits.acquire(waits.wait(), Cost::default()), falls);
        assert!(admitted.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn capacity_appears_between_two_measurements_and_goes_to_the_oldest_offer() {
        let control = control(4);
        let hog = Cost { cores: 1.0, memory_bytes: 0.0 };
        let began = Instant::now();
        control.acquire(control.wait(), hog).await.ok().unwrap().release(hog);
        let leaves = began + crate::load::window::WINDOW;
        tokio::time::advance(leaves - Duration::from_millis(300) - began).await;
        // The measurement shows the job by now.
        control.update(Instant::now(), Measurement { job_cores: 1.0, ..measured(0.5) });
        let waits = async || control.acquire(control.wait(), hog).await.map(|permit| (Instant::now(), permit));
        let (first, second) = tokio::join!(waits(), waits());
        let (admitted, _running) = first.ok().unwrap();
        assert!(admitted >= leaves && admitted <= leaves + CHECK_EVERY, "{:?}", admitted - began);
        assert_eq!(second.err().unwrap().reason, Reason::Load);
        // Finished work gives no capacity where another resource is the scarcest.
        let control = self::control(4);
        control.acquire(control.wait(), hog).await.ok().unwrap().release(hog);
        control.update(Instant::now(), Measurement { job_cores: 1.0, load: 0.5, ..measured(0.4) });
        tokio::time::advance(crate::load::window::WINDOW).await;
        assert_eq!(control.acquire(control.wait(), hog).await.err().unwrap().reason, Reason::Load);
    }
}
