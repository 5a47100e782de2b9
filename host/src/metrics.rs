//! Every metric, in one struct. What happens is counted from the events; what stands is read when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::engine::Engine;
use crate::events::{DispatcherEvent, Event, Events};
use crate::job::verdict::Code;
use crate::load::Sample;

/// From 1 µs, the start of a job whose instance is there, to 10 s, the usual limit on a slow one.
const START_SECONDS: [f64; 16] =
    [1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 0.1, 0.5, 2.5, 10.0];
/// From 1 ms to 4 h.
const RUN_SECONDS: [f64; 14] =
    [1e-3, 1e-2, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0];
/// Round 20 ms and 50 ms, which is what a kill may take on a calm machine and on a busy one.
const KILL_LAG_SECONDS: [f64; 9] = [1e-3, 2.5e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.5, 2.5];

/// From 1 ms, that of a dispatch which finds a worker, to an hour, that of one which waits.
const WAIT_SECONDS: [f64; 12] = [1e-3, 2.5e-3, 5e-3, 1e-2, 5e-2, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfAgent {
    agent: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct End {
    agent: String,
    code: &'static str,
    blame: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DispatchEnd {
    agent: String,
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Refused {
    agent: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfSink {
    sink: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfResource {
    resource: &'static str,
}

type Ratio = Gauge<f64, AtomicU64>;
type Seconds = Counter<f64, AtomicU64>;

/// All metrics. Cheap to change; a change takes no lock that is held while they are read.
pub(crate) struct Metrics {
    registry: Registry,
    accepted: Family<OfAgent, Counter>,
    refused: Family<Refused, Counter>,
    ended: Family<End, Counter>,
    warned: Family<OfAgent, Counter>,
    running: Family<OfAgent, Gauge>,
    start: Family<OfAgent, Histogram>,
    run: Family<OfAgent, Histogram>,
    kill_lag: Histogram,
    fuel: Counter,
    guest_cpu: Seconds,
    load: Ratio,
    used: Family<OfResource, Ratio>,
    cores: Ratio,
    fuel_rate: Ratio,
    pool_slots: Gauge,
    pool_slots_used: Gauge,
    epoch_ticks: Counter,
    epoch_late: Counter,
    epoch_lateness_worst: Ratio,
    link_up: Family<OfAgent, Gauge>,
    link_lost: Family<OfAgent, Counter>,
    available: Family<OfAgent, Gauge>,
    draining: Gauge,
    full: Family<OfAgent, Gauge>,
    full_times: Family<OfAgent, Counter>,
    deaths: Counter,
    events_dropped: Family<OfSink, Counter>,
    events_failed: Family<OfSink, Counter>,
    dispatches_created: Family<OfAgent, Counter>,
    dispatches_again: Family<OfAgent, Counter>,
    dispatches_ended: Family<DispatchEnd, Counter>,
    dispatch_wait: Family<OfAgent, Histogram>,
    dispatches_waiting: Gauge,
    dispatches_running: Gauge,
    dispatcher_workers: Gauge,
    store_stuck: Gauge,
}

impl Metrics {
    /// Names follow Prometheus: the unit last, `_total` for counters, which the library adds.
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
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("offers_accepted", "Offers that became jobs", self.accepted.clone());
        r.register("offers_refused", "Offers that did not, by reason", self.refused.clone());
        r.register("jobs_ended", "Jobs that ended, by verdict and whose doing it was", self.ended.clone());
        r.register("jobs_running", "Jobs that run", self.running.clone());
        r.register("job_warnings", "Jobs that were slow to yield or near a limit", self.warned.clone());
        r.register("job_start_seconds", "From the assignment to the entrypoint", self.start.clone());
        r.register("job_run_seconds", "From the assignment to the end", self.run.clone());
        r.register(
            "kill_lag_seconds",
            "From a job's deadline to its end; of an unresponsive one, its run time past the limit",
            self.kill_lag.clone(),
        );
        r.register("fuel", "Fuel that guests have used", self.fuel.clone());
        r.register("guest_cpu_seconds", "CPU time that guests have used", self.guest_cpu.clone());
        r.register(
            "load_ratio",
            "The load as it was measured; the threshold is compared with this and what was just admitted",
            self.load.clone(),
        );
        r.register("used_ratio", "Share in use of what there is: cpu, fuel, memory, jobs", self.used.clone());
        r.register("cores", "Cores that the worker counts on", self.cores.clone());
        r.register("fuel_per_second", "Fuel that guests use now", self.fuel_rate.clone());
        r.register("pool_slots", "Instances that there may be", self.pool_slots.clone());
        r.register("pool_slots_used", "Instances that there are", self.pool_slots_used.clone());
        r.register("epoch_ticks", "Ticks of the clock that guests are looked at by", self.epoch_ticks.clone());
        r.register("epoch_late", "Ticks that came a whole epoch late", self.epoch_late.clone());
        let worst = self.epoch_lateness_worst.clone();
        r.register("epoch_lateness_worst_seconds", "Worst lateness of a tick", worst);
        r.register("link_up", "Whether the server has the worker", self.link_up.clone());
        r.register("link_lost", "Connections that were lost or not made", self.link_lost.clone());
        r.register("agent_available", "Whether the agent gets jobs", self.available.clone());
        r.register("draining", "Whether the worker takes no more jobs", self.draining.clone());
        r.register("full", "Whether the worker takes no more jobs of the agent for now", self.full.clone());
        r.register("full_times", "How often that was published, once a second at most", self.full_times.clone());
        r.register("process_deaths", "Worker processes that died", self.deaths.clone());
        r.register("events_dropped", "Events that a sink was too slow for", self.events_dropped.clone());
        r.register("events_failed", "Events that a sink did not take", self.events_failed.clone());
        self.register_dispatcher();
    }

    fn register_dispatcher(&mut self) {
        let r = &mut self.registry;
        r.register("dispatches_created", "Dispatches that were accepted", self.dispatches_created.clone());
        r.register("dispatches_again", "Attempts after the first", self.dispatches_again.clone());
        r.register("dispatches_ended", "Dispatches that are over, by verdict", self.dispatches_ended.clone());
        r.register("dispatch_wait_seconds", "From the dispatch to its assignment", self.dispatch_wait.clone());
        r.register("dispatches_waiting", "Dispatches that wait for a worker", self.dispatches_waiting.clone());
        r.register("dispatches_running", "Dispatches that a worker has", self.dispatches_running.clone());
        r.register(
            "dispatcher_workers",
            "Workers that are connected to the dispatcher",
            self.dispatcher_workers.clone(),
        );
        r.register("store_stuck", "Whether the dispatcher's store takes nothing", self.store_stuck.clone());
    }

    /// Count one event.
    pub(crate) fn observe(&self, event: &Event) {
        let of = |agent: &String| OfAgent { agent: agent.clone() };
        match event {
            Event::WorkerRegistered { agent, .. } => {
                self.link_up.get_or_create(&of(agent)).set(1);
                // There from the start, and zero.
                drop((self.full.get_or_create(&of(agent)), self.full_times.get_or_create(&of(agent))));
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
                self.refused.get_or_create(&Refused { agent: agent.clone(), reason }).inc();
            }
            Event::JobCreated { agent, .. } => {
                self.accepted.get_or_create(&of(agent)).inc();
                self.running.get_or_create(&of(agent)).inc();
            }
            Event::JobWarning { agent, .. } => drop(self.warned.get_or_create(&of(agent)).inc()),
            Event::JobClosed { agent, verdict, usage, .. } => {
                let (code, blame) = (verdict.code.as_str(), verdict.blame.as_str());
                self.ended.get_or_create(&End { agent: agent.clone(), code, blame }).inc();
                // It ran in another process, which counted it.
                if verdict.code == Code::Lost {
                    return;
                }
                self.running.get_or_create(&of(agent)).dec();
                if let Some(start) = usage.start_us {
                    self.start.get_or_create(&of(agent)).observe(seconds(start));
                }
                self.run.get_or_create(&of(agent)).observe(seconds(usage.wall_us));
                if let Some(lag) = usage.kill_lag_us {
                    self.kill_lag.observe(seconds(lag));
                }
            }
            Event::Dispatcher(event) => self.observe_dispatcher(event),
            Event::AgentFailed { .. }
            | Event::WorkerDrained { .. }
            | Event::LinkRestored { .. }
            | Event::JobStarted { .. }
            | Event::JobReady { .. }
            | Event::JobLaunched { .. }
            | Event::JobKilled { .. } => {}
        }
    }

    fn observe_dispatcher(&self, event: &DispatcherEvent) {
        let of = |agent: &String| OfAgent { agent: agent.clone() };
        match event {
            DispatcherEvent::Created { agent, .. } => drop(self.dispatches_created.get_or_create(&of(agent)).inc()),
            DispatcherEvent::Assigned { agent, waited_us, .. } => {
                self.dispatch_wait.get_or_create(&of(agent)).observe(seconds(*waited_us));
            }
            DispatcherEvent::Again { agent, .. } => drop(self.dispatches_again.get_or_create(&of(agent)).inc()),
            DispatcherEvent::Ended { agent, code, .. } => {
                let end = DispatchEnd { agent: agent.clone(), code: code.as_str() };
                self.dispatches_ended.get_or_create(&end).inc();
            }
            DispatcherEvent::WorkerJoined { .. } => drop(self.dispatcher_workers.inc()),
            DispatcherEvent::WorkerLeft { .. } => drop(self.dispatcher_workers.dec()),
            DispatcherEvent::StoreStuck { .. } => drop(self.store_stuck.set(1)),
            DispatcherEvent::StoreRecovered => drop(self.store_stuck.set(0)),
        }
    }

    /// What a dispatcher has at the moment.
    pub(crate) fn read_dispatcher(&self, waiting: usize, running: usize) {
        self.dispatches_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.dispatches_running.set(i64::try_from(running).unwrap_or(i64::MAX));
    }

    /// What a worker has at the moment.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(crate) fn read_worker(&self, engine: &Engine, sample: Sample, load: f64) {
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
        for (resource, share) in [("cpu", sample.cpu), ("fuel", sample.fuel), ("memory", sample.memory), ("jobs", jobs)]
        {
            self.used.get_or_create(&OfResource { resource }).set(share);
        }
    }

    /// All of them, as Prometheus reads them.
    pub(crate) fn text(&self, events: &Events) -> String {
        for (sink, dropped, failed) in events.losses() {
            self.events_dropped.get_or_create(&OfSink { sink }).inner().store(dropped, Ordering::Relaxed);
            self.events_failed.get_or_create(&OfSink { sink }).inner().store(failed, Ordering::Relaxed);
        }
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no job takes 2^53 µs")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
