//! All metrics, in one struct. Counters follow the events; gauges are set at each scrape.

mod labels;
mod lateness;
mod sound;

mod rooms;
mod served;

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use wasm_worker_core::event::{DispatcherEvent, Event};
use wasm_worker_core::load::Sample;
use wasm_worker_core::observer::Observer;
use wasm_worker_core::usage::RoomUse;
use wasm_worker_core::verdict::Code;
use wasm_worker_sandbox::engine::Engine;

use super::event_lines::EventLines;
use labels::{AgentLabel, DispatchEndLabels, JobEndLabels, RefusalLabels, ResourceLabel, SinkLabel};
use rooms::RoomMetrics;
use served::ServedAgents;

/// Buckets from 1 µs, the start of a job with a warm instance, to 10 s, the default `init-timeout`.
const START_SECONDS: [f64; 16] =
    [1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 0.1, 0.5, 2.5, 10.0];
/// Buckets from 1 ms to 4 h.
const RUN_SECONDS: [f64; 14] =
    [1e-3, 1e-2, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0];
/// Buckets around 20 ms and 50 ms, the usual kill lag on an idle machine and on a busy one.
const KILL_LAG_SECONDS: [f64; 9] = [1e-3, 2.5e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2.5];
/// Buckets from 1 ms, for a dispatch that finds a worker at once, to an hour, for one that waits.
const WAIT_SECONDS: [f64; 12] = [1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0];

type Ratio = Gauge<f64, AtomicU64>;
type Seconds = Counter<f64, AtomicU64>;

/// All metrics. An update never waits for a scrape.
pub struct Metrics {
    registry: Registry,
    accepted: Family<AgentLabel, Counter>,
    refused: Family<RefusalLabels, Counter>,
    ended: Family<JobEndLabels, Counter>,
    warned: Family<AgentLabel, Counter>,
    running: Family<AgentLabel, Gauge>,
    start: Family<AgentLabel, Histogram>,
    run: Family<AgentLabel, Histogram>,
    kill_lag: Histogram,
    fuel: Counter,
    guest_cpu: Seconds,
    load: Ratio,
    used: Family<ResourceLabel, Ratio>,
    cores: Ratio,
    fuel_rate: Ratio,
    pool_slots: Gauge,
    pool_slots_used: Gauge,
    epoch_ticks: Counter,
    epoch_late: Counter,
    epoch_lateness_worst: Ratio,
    link_up: Family<AgentLabel, Gauge>,
    link_lost: Family<AgentLabel, Counter>,
    available: Family<AgentLabel, Gauge>,
    draining: Gauge,
    full: Family<AgentLabel, Gauge>,
    full_times: Family<AgentLabel, Counter>,
    deaths: Counter,
    events_dropped: Family<SinkLabel, Counter>,
    events_failed: Family<SinkLabel, Counter>,
    dispatches_created: Family<AgentLabel, Counter>,
    dispatches_again: Family<AgentLabel, Counter>,
    dispatches_ended: Family<DispatchEndLabels, Counter>,
    dispatch_wait: Family<AgentLabel, Histogram>,
    dispatches_waiting: Gauge,
    dispatches_running: Gauge,
    dispatcher_workers: Gauge,
    store_stuck: Gauge,
    rooms: RoomMetrics,
    /// The agents of the dispatcher that have series of their own.
    served: ServedAgents,
}

impl Metrics {
    /// The metrics, registered under names that follow Prometheus: the unit last, and `_total` for counters, which the library adds.
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("wasm_worker"),
            accepted: Family::default(),
            refused: Family::default(),
            ended: Family::default(),
            warned: Family::default(),
            running: Family::default(),
            start: Family::new_with_constructor(|| Histogram::new(START_SECONDS)),
            run: Family::new_with_constructor(|| Histogram::new(RUN_SECONDS)),
            kill_lag: Histogram::new(KILL_LAG_SECONDS),
            fuel: Counter::default(),
            guest_cpu: Counter::default(),
            load: Gauge::default(),
            used: Family::default(),
            cores: Gauge::default(),
            fuel_rate: Gauge::default(),
            pool_slots: Gauge::default(),
            pool_slots_used: Gauge::default(),
            epoch_ticks: Counter::default(),
            epoch_late: Counter::default(),
            epoch_lateness_worst: Gauge::default(),
            link_up: Family::default(),
            link_lost: Family::default(),
            available: Family::default(),
            draining: Gauge::default(),
            full: Family::default(),
            full_times: Family::default(),
            deaths: Counter::default(),
            events_dropped: Family::default(),
            events_failed: Family::default(),
            dispatches_created: Family::default(),
            dispatches_again: Family::default(),
            dispatches_ended: Family::default(),
            dispatch_wait: Family::new_with_constructor(|| Histogram::new(WAIT_SECONDS)),
            dispatches_waiting: Gauge::default(),
            dispatches_running: Gauge::default(),
            dispatcher_workers: Gauge::default(),
            store_stuck: Gauge::default(),
            rooms: RoomMetrics::new(),
            served: ServedAgents::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("offers_accepted", "Offers accepted", self.accepted.clone());
        r.register("offers_refused", "Offers refused, by reason", self.refused.clone());
        r.register("jobs_ended", "Jobs ended, by end code and blame", self.ended.clone());
        r.register("jobs_running", "Jobs running", self.running.clone());
        r.register("job_warnings", "Warnings about jobs with a long step or near a limit", self.warned.clone());
        r.register("job_start_seconds", "Time from the assignment of a job to its first step", self.start.clone());
        r.register("job_run_seconds", "Time from the assignment of a job to its end", self.run.clone());
        r.register(
            "kill_lag_seconds",
            "Time from the passed limit of a killed job to the end of its guest",
            self.kill_lag.clone(),
        );
        r.register("fuel", "Fuel used by guests", self.fuel.clone());
        r.register("guest_cpu_seconds", "CPU time used by guests", self.guest_cpu.clone());
        r.register(
            "load_ratio",
            "Load, 0 to 1, without the jobs that were admitted since the last measurement",
            self.load.clone(),
        );
        r.register("used_ratio", "Utilisation by resource: cpu, fuel, memory, jobs, descriptors", self.used.clone());
        r.register("cores", "CPU cores that the worker may use", self.cores.clone());
        r.register("fuel_per_second", "Fuel used by guests per second", self.fuel_rate.clone());
        r.register("pool_slots", "Capacity of the instance pool", self.pool_slots.clone());
        r.register("pool_slots_used", "Instances in the pool", self.pool_slots_used.clone());
        r.register("epoch_ticks", "Epoch ticks", self.epoch_ticks.clone());
        r.register("epoch_late", "Epoch ticks that were late by a whole epoch or more", self.epoch_late.clone());
        let worst = self.epoch_lateness_worst.clone();
        r.register("epoch_lateness_worst_seconds", "Largest delay of an epoch tick", worst);
        r.register("link_up", "1 while the worker is registered with the server", self.link_up.clone());
        r.register("link_lost", "Connections to the server that were lost or failed", self.link_lost.clone());
        r.register("agent_available", "1 while the agent takes jobs", self.available.clone());
        r.register("draining", "1 while the worker drains", self.draining.clone());
        r.register("full", "1 while the worker is full for the agent", self.full.clone());
        r.register(
            "full_times",
            "Times that `worker.full` was published (at most once a second)",
            self.full_times.clone(),
        );
        r.register("process_deaths", "Worker processes that died", self.deaths.clone());
        r.register(
            "events_dropped",
            "Events dropped because the queue of a sink was full",
            self.events_dropped.clone(),
        );
        r.register("events_failed", "Events that a sink failed to write", self.events_failed.clone());
        self.rooms.register(r);
        self.register_dispatcher();
    }

    fn register_dispatcher(&mut self) {
        let r = &mut self.registry;
        r.register("dispatches_created", "Dispatches created", self.dispatches_created.clone());
        r.register("dispatches_again", "Attempts of dispatches after the first", self.dispatches_again.clone());
        r.register("dispatches_ended", "Dispatches ended, by end code", self.dispatches_ended.clone());
        r.register(
            "dispatch_wait_seconds",
            "Time from the creation of a dispatch to its assignment",
            self.dispatch_wait.clone(),
        );
        r.register("dispatches_waiting", "Dispatches waiting for a worker", self.dispatches_waiting.clone());
        r.register("dispatches_running", "Dispatches assigned to a worker", self.dispatches_running.clone());
        r.register("dispatcher_workers", "Workers connected to the dispatcher", self.dispatcher_workers.clone());
        r.register("store_stuck", "1 while the store cannot write", self.store_stuck.clone());
    }

    fn count(&self, event: &Event) {
        let of = |agent: &String| AgentLabel { agent: agent.clone() };
        match event {
            Event::WorkerRegistered { agent, .. } => {
                self.link_up.get_or_create(&of(agent)).set(1);
                // The metrics exist from the start, with the value zero.
                drop((self.full.get_or_create(&of(agent)), self.full_times.get_or_create(&of(agent))));
                self.rooms.add_agent(agent);
            }
            Event::LinkLost { agent, .. } => {
                self.link_up.get_or_create(&of(agent)).set(0);
                self.link_lost.get_or_create(&of(agent)).inc();
            }
            Event::AgentLoaded { agent, .. } | Event::AgentAvailable { agent } | Event::AgentReloaded { agent } => {
                self.available.get_or_create(&of(agent)).set(1);
            }
            Event::AgentUnavailable { agent, .. } => drop(self.available.get_or_create(&of(agent)).set(0)),
            Event::WorkerDraining { .. } => drop(self.draining.set(1)),
            Event::WorkerDied { .. } => drop(self.deaths.inc()),
            Event::WorkerFull { agent, .. } => {
                self.full.get_or_create(&of(agent)).set(1);
                self.full_times.get_or_create(&of(agent)).inc();
            }
            Event::WorkerAvailable { agent, .. } => drop(self.full.get_or_create(&of(agent)).set(0)),
            Event::OfferRefused { agent, reason, .. } => {
                self.refused.get_or_create(&RefusalLabels { agent: agent.clone(), reason: reason.as_str() }).inc();
            }
            Event::JobCreated { agent, .. } => {
                self.accepted.get_or_create(&of(agent)).inc();
                self.running.get_or_create(&of(agent)).inc();
            }
            Event::RoomJoined { agent, took_ms, .. } => self.rooms.joined(agent, *took_ms),
            Event::RoomFailed { agent, uncounted, .. } => self.rooms.failed(agent, uncounted),
            Event::RoomLeft { agent, uncounted, .. } => self.rooms.left(agent, uncounted),
            Event::JobWarning { agent, .. } => drop(self.warned.get_or_create(&of(agent)).inc()),
            Event::JobClosed { agent, verdict, usage, .. } => {
                let (code, blame) = (verdict.code.as_str(), verdict.blame.as_str());
                self.ended.get_or_create(&JobEndLabels { agent: agent.clone(), code, blame }).inc();
                // The job ran in another process, which counted it.
                if verdict.code == Code::Lost {
                    return;
                }
                self.running.get_or_create(&of(agent)).dec();
                if let Some(start) = usage.start_us {
                    self.start.get_or_create(&of(agent)).observe(seconds(start));
                }
                self.run.get_or_create(&of(agent)).observe(seconds(usage.wall_us));
                if let Some(lag) = verdict.kill_lag_us {
                    self.kill_lag.observe(seconds(lag));
                }
            }
            Event::Dispatcher(event) => self.count_dispatcher(event),
            Event::AgentFailed { .. }
            | Event::WorkerDrained { .. }
            | Event::LinkRestored { .. }
            | Event::JobStarted { .. }
            | Event::JobReady { .. }
            | Event::JobLaunched { .. }
            | Event::JobKilled { .. } => {}
        }
    }

    fn count_dispatcher(&self, event: &DispatcherEvent) {
        let of = |agent: &String| AgentLabel { agent: self.served.label(agent) };
        match event {
            DispatcherEvent::Created { agent, .. } => drop(self.dispatches_created.get_or_create(&of(agent)).inc()),
            DispatcherEvent::Assigned { agent, waited_us, .. } => {
                self.dispatch_wait.get_or_create(&of(agent)).observe(seconds(*waited_us));
            }
            DispatcherEvent::Again { agent, .. } => drop(self.dispatches_again.get_or_create(&of(agent)).inc()),
            DispatcherEvent::Ended { agent, verdict, .. } => {
                let end = DispatchEndLabels { agent: self.served.label(agent), code: verdict.code.as_str() };
                self.dispatches_ended.get_or_create(&end).inc();
            }
            DispatcherEvent::WorkerJoined { agent, .. } => {
                self.served.add(agent);
                self.dispatcher_workers.inc();
            }
            DispatcherEvent::WorkerLeft { .. } => drop(self.dispatcher_workers.dec()),
            DispatcherEvent::StoreStuck { .. } => drop(self.store_stuck.set(1)),
            DispatcherEvent::StoreRecovered => drop(self.store_stuck.set(0)),
            DispatcherEvent::Hosted(_) => {}
        }
    }

    /// Set the gauges of the dispatcher.
    pub(crate) fn read_dispatcher(&self, waiting: usize, running: usize) {
        self.dispatches_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.dispatches_running.set(i64::try_from(running).unwrap_or(i64::MAX));
    }

    /// Set the gauges of the worker. `descriptors` are the open ones, and the most that there may be.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(crate) fn read_worker(&self, engine: &Engine, sample: Sample, load: f64, descriptors: Option<(usize, usize)>) {
        let (spent, ticker, pool) = (engine.spent(), engine.ticker(), engine.pool());
        self.fuel.inner().store(spent.fuel, Ordering::Relaxed);
        self.guest_cpu.inner().store(spent.cpu.as_secs_f64().to_bits(), Ordering::Relaxed);
        self.epoch_ticks.inner().store(ticker.ticks, Ordering::Relaxed);
        self.epoch_late.inner().store(ticker.late, Ordering::Relaxed);
        self.epoch_lateness_worst.set(ticker.worst.as_secs_f64());
        self.pool_slots.set(engine.slots().into());
        self.pool_slots_used.set(pool.slots.into());
        self.load.set(load);
        self.cores.set(sample.cores);
        self.fuel_rate.set(sample.fuel_rate);
        let jobs = sample.jobs as f64 / sample.jobs_max.max(1) as f64;
        let of_load = [("cpu", sample.cpu), ("fuel", sample.fuel), ("memory", sample.memory), ("jobs", jobs)];
        let descriptors = descriptors.map(|(open, limit)| open as f64 / limit.max(1) as f64);
        for (resource, share) in of_load.into_iter().chain(descriptors.map(|share| ("descriptors", share))) {
            self.used.get_or_create(&ResourceLabel { resource }).set(share);
        }
    }

    /// Count what agents used of the connections to their rooms since the last call.
    pub(crate) fn read_rooms(&self, uses: &[(String, RoomUse)]) {
        uses.iter().for_each(|(agent, used)| self.rooms.count_use(agent, used));
    }

    /// All metrics, in the OpenMetrics text format.
    pub(crate) fn text(&self, lines: &EventLines) -> String {
        for (sink, dropped, failed) in lines.losses() {
            self.events_dropped.get_or_create(&SinkLabel { sink }).inner().store(dropped, Ordering::Relaxed);
            self.events_failed.get_or_create(&SinkLabel { sink }).inner().store(failed, Ordering::Relaxed);
        }
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}

impl Observer for Metrics {
    fn observe(&self, event: &Event) {
        self.count(event);
    }
}

#[expect(clippy::cast_precision_loss, reason = "no job takes 2^53 µs")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
