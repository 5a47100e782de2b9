//! Several worker processes of one program, each registered by itself: for more jobs than one process has memory mappings for,
//! and so that one that dies takes only its own jobs with it.
//!
//! The supervisor starts the processes, reads their events from their standard output and passes them on to the sinks, forwards
//! signals, and puts a new process in the place of one that dies. A job that went with its process is reported as `lost`.
//!
//! Bounds: a pause before each new process, which doubles up to [`PAUSE_MAX`]; when every one has died [`DEATHS_MAX`] times in a
//! row, or has given the server up, everything stops. As long as one serves, the others are tried again.

use std::collections::{HashMap, HashSet};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use wasm_worker_core::event::Event;
use wasm_worker_core::observer::Events;
use wasm_worker_core::usage::UsageRecord;
use wasm_worker_core::verdict::{Code, Verdict};
use wasm_worker_dispatcher::Deaths;

use crate::local::make_token;
use crate::observers::EventLines;
use crate::worker::Order;

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A process that lived this long has its pause forgotten.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Of one process and those that took its place.
const DEATHS_MAX: u32 = 6;
/// What a process is told to drain with.
const DRAIN: Signal = Signal::USR1;
/// Reports that wait for the supervisor.
const QUEUE: usize = 1_024;

/// What the processes came to.
#[derive(Debug, Default)]
pub(crate) struct FleetServed {
    /// The worst exit status that one left with.
    pub(crate) exit: i32,
    /// Why no more were started, where nobody asked for that.
    pub(crate) gave_up: Option<GaveUp>,
}

/// Why there are no processes any more.
#[derive(Debug)]
pub(crate) enum GaveUp {
    /// They keep dying; how the last one did.
    Dying { why: String },
    /// They have given the server up.
    Server { why: String },
}

/// What the supervisor shows.
pub(crate) struct FleetStatus {
    processes: usize,
    draining: Arc<AtomicBool>,
    counts: Mutex<Counts>,
}

/// Processes, as they are now.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) running: usize,
    /// Those that the server knows.
    pub(crate) registered: usize,
}

impl FleetStatus {
    pub(crate) fn processes(&self) -> usize {
        self.processes
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.lock()
    }

    /// Whether there will be no more processes.
    pub(crate) fn draining(&self) -> Arc<AtomicBool> {
        self.draining.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The supervisor.
pub(crate) struct Fleet {
    events: Arc<Events>,
    lines: Arc<EventLines>,
    control: Handle,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    places: Vec<Place>,
    status: Arc<FleetStatus>,
    phase: Phase,
    served: FleetServed,
    /// Where the processes find their server, as variables.
    home: Vec<(&'static str, String)>,
    /// Who is to hear of deaths.
    deaths: Option<Deaths>,
}

/// Where the whole of them stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No server has taken one of them yet, so it may be the settings or the agents that are wrong.
    Starting,
    Serving,
    Stopping,
}

/// Where one process is, or the next one will be.
#[derive(Default)]
struct Place {
    pid: Option<Pid>,
    started: Option<Instant>,
    /// What a dispatcher knows it by.
    instance: String,
    /// When the next one is started.
    due: Option<Instant>,
    /// In a row.
    deaths: u32,
    /// It has published something, so it hears signals.
    heard: bool,
    /// Its agents that the server has.
    registered: HashSet<String>,
    /// Why it, or the one before it, gave the server up.
    gave_up: Option<String>,
    /// Jobs that were created and not closed, with their agents.
    jobs: HashMap<String, String>,
}

enum Report {
    Line { place: usize, line: Arc<str> },
    Ended { place: usize, status: std::io::Result<ExitStatus> },
}

/// What the supervisor reads of an event.
#[derive(Deserialize)]
struct Seen<'a> {
    event: &'a str,
    #[serde(default, borrow)]
    job: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, borrow)]
    agent: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, borrow)]
    why: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    retry_ms: Option<u64>,
}

impl Fleet {
    pub(crate) fn new(
        processes: usize,
        (events, lines): (Arc<Events>, Arc<EventLines>),
        control: Handle,
        home: Vec<(&'static str, String)>,
        deaths: Option<Deaths>,
    ) -> Self {
        let (sender, reports) = mpsc::channel(QUEUE);
        let places = (0..processes).map(|_| Place { due: Some(Instant::now()), ..Place::default() }).collect();
        let status = Arc::new(FleetStatus { processes, draining: Arc::default(), counts: Mutex::default() });
        let (phase, served) = (Phase::Starting, FleetServed::default());
        Self { events, lines, control, sender, reports, places, status, phase, served, home, deaths }
    }

    pub(crate) fn status(&self) -> Arc<FleetStatus> {
        self.status.clone()
    }

    /// Run until all processes have ended, and none is to come.
    pub(crate) async fn serve(mut self, mut orders: mpsc::Receiver<Order>) -> FleetServed {
        while self.places.iter().any(Place::is_in_use) {
            let due = self.places.iter().filter_map(|place| place.due).min();
            let wake = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A signal is not to wait behind the events of busy workers.
                biased;
                Some(order) = orders.recv() => self.obey(order),
                () = wake => self.start_due(),
                Some(report) = self.reports.recv() => self.hear(report),
            }
            self.show();
        }
        self.served
    }

    fn show(&self) {
        let count = |of: fn(&Place) -> bool| self.places.iter().filter(|place| of(place)).count();
        *self.status.lock() = Counts {
            running: count(|place| place.pid.is_some()),
            registered: count(|place| !place.registered.is_empty()),
        };
    }

    fn obey(&mut self, order: Order) {
        match order {
            // One that has not been heard of loads what is there now anyway, and would end by the signal.
            Order::Reload => self.signal(Signal::HUP, |place| place.heard),
            // A process may be draining already, by its own address or because it has given up, and a stop would kill its jobs.
            Order::Drain => self.drain(),
            Order::Stop if !self.is_stopping() => self.drain(),
            Order::Stop => self.signal(Signal::TERM, |_| true),
        }
    }

    fn signal(&self, signal: Signal, to: fn(&Place) -> bool) {
        for pid in self.places.iter().filter(|place| to(place)).filter_map(|place| place.pid) {
            // It may just have ended.
            kill_process(pid, signal).ok();
        }
    }

    fn is_stopping(&self) -> bool {
        self.phase == Phase::Stopping
    }

    /// No new processes, and no new jobs for those there are.
    fn drain(&mut self) {
        self.phase = Phase::Stopping;
        self.status.draining.store(true, Ordering::Relaxed);
        self.places.iter_mut().for_each(|place| place.due = None);
        self.signal(DRAIN, |_| true);
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        for index in 0..self.places.len() {
            let due = self.places.get_mut(index).is_some_and(|place| place.due.take_if(|due| *due <= now).is_some());
            if due && let Err(error) = self.start(index) {
                self.died(index, &format!("it cannot be started: {error}"), 1);
            }
        }
    }

    fn start(&mut self, index: usize) -> std::io::Result<()> {
        // This very program, also when another one has taken its place on disk. Terminals signal whole groups, and the
        // processes are to hear of it once, from here.
        let mut command = std::process::Command::new("/proc/self/exe");
        // After the verb: behind a `--` it would be an agent's name.
        let mut args = std::env::args_os().skip(1);
        let instance = make_token();
        command.args(args.next()).arg(format!("--supervised={index}")).arg(format!("--instance={instance}")).args(args);
        command.envs(self.home.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = Command::from(command).spawn()?;
        if let Some(place) = self.places.get_mut(index) {
            place.pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
            place.started = Some(Instant::now());
            place.instance = instance;
            place.heard = false;
        }
        let sender = self.sender.clone();
        self.control.spawn(async move {
            let status = follow(&mut child, index, &sender).await;
            drop(sender.send(Report::Ended { place: index, status }).await);
        });
        Ok(())
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Line { place, line } => {
                if let (Ok(seen), Some(place)) = (serde_json::from_str::<Seen>(&line), self.places.get_mut(place)) {
                    if seen.event == "worker.registered" && self.phase == Phase::Starting {
                        self.phase = Phase::Serving;
                    }
                    place.see(seen);
                }
                self.lines.relay(line);
            }
            Report::Ended { place, status } => self.ended(place, status),
        }
    }

    fn ended(&mut self, index: usize, status: std::io::Result<ExitStatus>) {
        if let Some(place) = self.places.get_mut(index) {
            place.pid = None;
            place.registered.clear();
            if let Some(deaths) = &self.deaths {
                deaths.tell(std::mem::take(&mut place.instance));
            }
        }
        let (why, exit) = match status {
            Ok(status) => match (status.signal(), status.code()) {
                // It was told to, by us or by its own address.
                (_, Some(exit @ (0 | 130))) => return self.served.exit = self.served.exit.max(exit),
                // Before it could hear of it in its own way.
                (Some(signal), _)
                    if self.is_stopping() && [DRAIN, Signal::TERM].iter().any(|s| s.as_raw() == signal) =>
                {
                    return;
                }
                (Some(signal), _) => (format!("ended by signal {signal}"), 1),
                (None, exit) => (format!("left with {status}"), exit.unwrap_or(1)),
            },
            Err(error) => (error.to_string(), 1),
        };
        self.died(index, &why, exit);
    }

    fn died(&mut self, index: usize, why: &str, exit: i32) {
        let now = Instant::now();
        let Some(place) = self.places.get_mut(index) else { return };
        if place.started.is_some_and(|started| started + HEALTHY_AFTER <= now) {
            place.deaths = 0;
        }
        let pause = match place.gave_up {
            None => PAUSE_MIN.saturating_mul(1 << place.deaths.min(10)).min(PAUSE_MAX),
            // It has tried for a while, and paused more and more.
            Some(_) => PAUSE_MAX,
        };
        place.deaths += 1;
        let lost = std::mem::take(&mut place.jobs);
        let gave_up = self.gave_up(index, why, exit);
        let again = !self.is_stopping() && gave_up.is_none();
        if let Some(place) = self.places.get_mut(index) {
            place.due = again.then(|| now + pause);
        }
        let retry_ms = again.then(|| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        self.events.publish(&Event::WorkerDied { worker: index, why: why.to_owned(), lost: lost.len(), retry_ms });
        for (job, agent) in lost {
            let verdict = Box::new(Verdict::new(Code::Lost, format!("its worker process {why}")));
            self.events.publish(&Event::JobClosed { agent, job, verdict, usage: Box::new(UsageRecord::default()) });
        }
        if again {
            return;
        }
        self.served.exit = self.served.exit.max(exit);
        if !self.is_stopping() {
            self.served.gave_up = gave_up;
            self.drain();
        }
    }

    /// Whether there is no sense in starting another one, after this one left like that.
    fn gave_up(&self, index: usize, why: &str, exit: i32) -> Option<GaveUp> {
        // What is wrong with the settings or the agents is so for each new one. It has said what.
        let wrong_from_the_start = self.phase == Phase::Starting && (2..=4).contains(&exit);
        // Those that were told to end by their own address have no say.
        let mut places = self.places.iter().enumerate().filter(|(at, place)| *at == index || place.is_in_use());
        let hopeless = places.all(|(_, place)| place.is_hopeless(Instant::now()));
        if !wrong_from_the_start && !hopeless {
            return None;
        }
        let server = self.places.iter().find_map(|place| place.gave_up.clone());
        Some(match server {
            Some(why) => GaveUp::Server { why },
            None => GaveUp::Dying { why: why.to_owned() },
        })
    }
}

impl Place {
    fn is_in_use(&self) -> bool {
        self.pid.is_some() || self.due.is_some()
    }

    /// Nothing is to be hoped for from another process here.
    fn is_hopeless(&self, now: Instant) -> bool {
        let healthy = self.pid.is_some() && self.started.is_some_and(|started| started + HEALTHY_AFTER <= now);
        self.gave_up.is_some() || (self.deaths >= DEATHS_MAX && !healthy)
    }

    /// Something that its process has published.
    fn see(&mut self, seen: Seen<'_>) {
        self.heard = true;
        match (seen.event, seen.job, seen.agent) {
            ("job.created", Some(job), Some(agent)) => {
                self.jobs.insert(job.into_owned(), agent.into_owned());
            }
            ("job.closed", Some(job), _) => drop(self.jobs.remove(&*job)),
            ("worker.registered", _, Some(agent)) => {
                self.registered.insert(agent.into_owned());
                self.gave_up = None;
            }
            ("link.lost", _, Some(agent)) => {
                self.registered.remove(&*agent);
                if seen.retry_ms.is_none() {
                    self.gave_up = seen.why.map(|why| why.into_owned());
                }
            }
            _ => {}
        }
    }
}

/// Pass on its events until it has ended.
async fn follow(child: &mut Child, place: usize, sender: &mpsc::Sender<Report>) -> std::io::Result<ExitStatus> {
    if let Some(out) = child.stdout.take() {
        let mut lines = BufReader::new(out).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(Report::Line { place, line: line.into() }).await.is_err() {
                break;
            }
        }
    }
    child.wait().await
}
