//! The room of one worker process, which all its agents share: slots for jobs, and what the load leaves.
//!
//! Bounds: `max-jobs` jobs, offers that are being decided on included; an offer waits [`ROOM_WITHIN`] for room.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Config;
use crate::load::predict::{Admissions, AdmittedId, Cost};
use crate::load::{Measurement, Threshold};
use wasm_worker_core::load::{Resource, Sample};
use wasm_worker_core::refusal::{Reason, Refusal};

/// Of the 2 s that an offer may take; the rest is the agent's.
const ROOM_WITHIN: Duration = Duration::from_millis(800);
/// Between two samples of the load, what has ended leaves the window of the average all the time. One offer looks, the others are
/// behind it.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Shared by the agents of a process.
pub(crate) struct Room {
    slots: Arc<Semaphore>,
    jobs_max: usize,
    /// Held by the offer that is the next to be admitted when the load leaves room.
    turn: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// A new sample is there.
    sampled: watch::Sender<()>,
}

struct State {
    measured: Measurement,
    threshold: Threshold,
    admissions: Admissions,
    /// Cores of the admitted jobs that were in the load when it was measured.
    seen_cores: f64,
}

/// How full it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fullness {
    /// 0 with nothing to do, 1 and above when nothing more is taken.
    pub(crate) part: f64,
    /// The load, 0 to 1.
    pub(crate) load: f64,
    /// What there is least of.
    pub(crate) scarce: Resource,
}

/// The right to one job. Given back by dropping it.
pub(crate) struct Permit {
    room: Arc<Room>,
    admitted: AdmittedId,
    took: Option<Cost>,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.room.state().admissions.end(Instant::now(), self.admitted, self.took);
    }
}

impl Permit {
    /// The job has ended, and took so much.
    pub(crate) fn ended(mut self, took: Cost) {
        self.took = Some(took);
    }
}

type Line = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// A slot, or a place in the line for one.
pub(crate) enum Place {
    Slot(OwnedSemaphorePermit),
    Waiting(Line),
}

impl Room {
    pub(crate) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            slots: Arc::new(Semaphore::new(config.max_jobs)),
            jobs_max: config.max_jobs,
            turn: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                measured: Measurement {
                    sample: Sample { jobs_max: config.max_jobs, ..Sample::default() },
                    ..Measurement::default()
                },
                threshold: Threshold::new(config.load_threshold),
                admissions: Admissions::default(),
                seen_cores: 0.0,
            }),
            sampled: watch::Sender::new(()),
        })
    }

    /// Jobs in any state.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs_max.saturating_sub(self.slots.available_permits())
    }

    /// What was last measured.
    pub(crate) fn measured(&self) -> (Sample, f64) {
        let Measurement { sample, load, .. } = self.state().measured;
        (Sample { jobs: self.jobs(), ..sample }, load)
    }

    /// Take in a new measurement.
    pub(crate) fn measure(&self, now: Instant, measured: Measurement) {
        let mut state = self.state();
        state.measured = measured;
        state.admissions.measured(now);
        state.seen_cores = state.admissions.sum(now).cores.min(measured.guest_cores);
        drop(state);
        self.sampled.send_replace(());
    }

    /// Wait for the next measurement.
    pub(crate) fn samples(&self) -> watch::Receiver<()> {
        self.sampled.subscribe()
    }

    pub(crate) fn fullness(&self) -> Fullness {
        let mut state = self.state();
        let load = state.load();
        let part = state.threshold.part(load);
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let slots = self.jobs() as f64 / self.jobs_max as f64;
        let scarce = if slots >= part { Resource::Jobs } else { state.measured.sample.scarcest() };
        Fullness { part: part.max(slots), load, scarce }
    }

    /// Take a place in the line for the next slot: first come, first served, whoever waits for it first.
    pub(crate) fn line_up(&self) -> Place {
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            return Place::Slot(slot);
        }
        let mut waiting: Line = Box::pin(self.slots.clone().acquire_owned());
        // The first look takes the place.
        match (&mut waiting).now_or_never() {
            Some(Ok(slot)) => Place::Slot(slot),
            Some(Err(_)) | None => Place::Waiting(waiting),
        }
    }

    /// Wait for a slot, and for the load to leave room for one more.
    pub(crate) async fn acquire(self: &Arc<Self>, place: Place, cost: Cost) -> Result<Permit, Refusal> {
        let deadline = Instant::now() + ROOM_WITHIN;
        let slot = async {
            match place {
                Place::Slot(slot) => Ok(slot),
                Place::Waiting(waiting) => waiting.await,
            }
        };
        let Ok(Ok(slot)) = timeout_at(deadline, slot).await else {
            let detail = format!("as many jobs as `max-jobs` allows, and no end of one within {ROOM_WITHIN:?}");
            return Err(Refusal::new(Reason::Full, detail));
        };
        let room = async {
            let _turn = self.turn.lock().await;
            let mut samples = self.samples();
            loop {
                if let Ok(admitted) = self.admit(cost) {
                    return admitted;
                }
                // Either is a reason to look again.
                let _either = timeout(LOOK_AGAIN, samples.changed()).await;
            }
        };
        let admitted = match timeout_at(deadline, room).await {
            Ok(admitted) => admitted,
            // The last look is for the reason.
            Err(_) => self.admit(cost).map_err(|detail| Refusal::new(Reason::Load, detail))?,
        };
        Ok(Permit { room: self.clone(), admitted, took: None, _slot: slot })
    }

    fn admit(&self, cost: Cost) -> Result<AdmittedId, String> {
        let mut state = self.state();
        let load = state.load();
        // What the server is told has a memory, so that it does not change all the time; what is admitted has none.
        if state.threshold.leaves_room(load) {
            return Ok(state.admissions.add(Instant::now(), cost));
        }
        let Sample { cpu, fuel, memory, .. } = state.measured.sample;
        let percent = |share: f64| share * 100.0;
        Err(format!(
            "the load is {:.0} % with what was admitted just now, past `load-threshold`: CPU {:.0} %, fuel {:.0} %, memory {:.0} %",
            percent(load),
            percent(cpu),
            percent(fuel),
            percent(memory)
        ))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The load with what was admitted and cannot be seen in it yet, and without what has left its window since.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    fn load(&mut self) -> f64 {
        let Measurement { sample, load, .. } = self.measured;
        let Cost { cores, memory_bytes } = self.admissions.sum(Instant::now());
        let share = |amount: f64, of: f64| if of > 0.0 { amount / of } else { 0.0 };
        let cpu = share(cores - self.seen_cores, sample.cores);
        let memory = share(memory_bytes, sample.memory_bytes as f64);
        // Work that is over makes room where CPU is what there is too little of.
        let falls = cpu < 0.0 && (load - sample.cpu).abs() < f64::EPSILON;
        let load = if falls { (load + cpu).max(sample.memory + memory) } else { load + cpu.max(memory) };
        load.min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(max_jobs: usize) -> Arc<Room> {
        Room::new(&Config { max_jobs, load_threshold: Some(0.5), ..Config::default() })
    }

    /// Of two cores, and a load that guests have no part in.
    fn measured(load: f64) -> Measurement {
        let sample = Sample { cpu: load, cores: 2.0, memory_bytes: 1_000, jobs_max: 4, ..Sample::default() };
        Measurement { sample, load, guest_cores: 0.0 }
    }

    #[tokio::test(start_paused = true)]
    async fn an_offer_waits_for_a_slot_and_then_passes() {
        let room = room(1);
        let first = room.acquire(room.line_up(), Cost::default()).await.ok().unwrap();
        assert_eq!((room.jobs(), room.fullness().part, room.fullness().scarce), (1, 1.0, Resource::Jobs));
        let began = Instant::now();
        assert_eq!(room.acquire(room.line_up(), Cost::default()).await.err().unwrap().reason, Reason::Full);
        assert_eq!(began.elapsed(), ROOM_WITHIN);
        drop(first);
        assert!(room.acquire(room.line_up(), Cost::default()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_came_first_is_first_whoever_waits_first() {
        let room = room(1);
        let held = room.acquire(room.line_up(), Cost::default()).await.ok().unwrap();
        let (first, second) = (room.line_up(), room.line_up());
        let waits = async |place, name| {
            let permit = room.acquire(place, Cost::default()).await.ok().unwrap();
            drop(permit);
            name
        };
        let (early, late) = (waits(second, "second"), waits(first, "first"));
        let (early, late) = (std::pin::pin!(early), std::pin::pin!(late));
        let mut both = futures_util::future::select(early, late);
        assert!((&mut both).now_or_never().is_none());
        drop(held);
        assert_eq!(both.await.factor_first().0, "first");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_just_admitted_is_in_the_load_before_it_can_be_seen() {
        let room = room(4);
        room.measure(Instant::now(), measured(0.1));
        let hog = Cost { cores: 1.0, memory_bytes: 0.0 };
        let first = room.acquire(room.line_up(), hog).await.ok().unwrap();
        assert!((room.fullness().load - 0.6).abs() < 1e-9 && room.fullness().part >= 1.0, "{:?}", room.fullness());
        let refused = room.acquire(room.line_up(), hog).await.err().unwrap();
        assert_eq!(refused.reason, Reason::Load);
        assert!(refused.detail.contains("60 %"), "{}", refused.detail);
        // What it has done stays in the window for as long as it would be measured there.
        first.ended(hog);
        assert_eq!(room.acquire(room.line_up(), hog).await.err().unwrap().reason, Reason::Load);
        tokio::time::advance(crate::load::predict::WINDOW).await;
        assert!(room.acquire(room.line_up(), hog).await.is_ok());
        // And what can be seen is not counted twice.
        let room = self::room(4);
        let _seen = room.acquire(room.line_up(), hog).await.ok().unwrap();
        room.measure(Instant::now(), Measurement { guest_cores: 1.0, ..measured(0.4) });
        assert!((room.fullness().load - 0.4).abs() < 1e-9, "{:?}", room.fullness());
    }

    #[tokio::test(start_paused = true)]
    async fn an_offer_waits_for_the_load_to_fall() {
        let room = room(4);
        room.measure(Instant::now(), measured(0.9));
        let (falls, waits) = (room.clone(), room.clone());
        let falls = async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            falls.measure(Instant::now(), measured(0.2));
        };
        let (admitted, ()) = tokio::join!(waits.acquire(waits.line_up(), Cost::default()), falls);
        assert!(admitted.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn room_comes_between_two_measurements_and_is_for_who_waits_longest() {
        let room = room(4);
        let hog = Cost { cores: 1.0, memory_bytes: 0.0 };
        let began = Instant::now();
        room.acquire(room.line_up(), hog).await.ok().unwrap().ended(hog);
        let leaves = began + crate::load::predict::WINDOW;
        tokio::time::advance(leaves - Duration::from_millis(300) - began).await;
        // It is in the average by now.
        room.measure(Instant::now(), Measurement { guest_cores: 1.0, ..measured(0.5) });
        let waits = async || room.acquire(room.line_up(), hog).await.map(|permit| (Instant::now(), permit));
        let (first, second) = tokio::join!(waits(), waits());
        let (admitted, _running) = first.ok().unwrap();
        assert!(admitted >= leaves && admitted <= leaves + LOOK_AGAIN, "{:?}", admitted - began);
        assert_eq!(second.err().unwrap().reason, Reason::Load);
        // Where something else is scarce, that makes no room.
        let room = self::room(4);
        room.acquire(room.line_up(), hog).await.ok().unwrap().ended(hog);
        room.measure(Instant::now(), Measurement { guest_cores: 1.0, load: 0.5, ..measured(0.4) });
        tokio::time::advance(crate::load::predict::WINDOW).await;
        assert_eq!(room.acquire(room.line_up(), hog).await.err().unwrap().reason, Reason::Load);
    }
}
