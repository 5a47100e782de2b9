//! Several worker processes of one program, each registered by itself: for more jobs than one process has memory mappings for,
//! and so that one that dies takes only its own jobs with it.
//!
//! The supervisor starts the processes, reads their events from their standard output and passes them on to the sinks, forwards
//! signals, and puts a new process in the place of one that dies. A job that went with its process is reported as `lost`.
//!
//! Bounds: a pause that doubles before each new process, [`DEATHS_MAX`] deaths within [`DEATHS_WITHIN`]; then everything stops.

use std::collections::{HashMap, VecDeque};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::dispatcher::Deaths;
use crate::events::{Event, Events};
use crate::job::usage::UsageRecord;
use crate::job::verdict::{Code, Verdict};
use crate::local::make_token;
use crate::worker::Order;

const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// A process that lived this long has its pause forgotten.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// Deaths of all processes together.
const DEATHS_MAX: usize = 10;
const DEATHS_WITHIN: Duration = Duration::from_secs(60);
/// Reports that wait for the supervisor.
const QUEUE: usize = 1_024;

/// What the processes came to.
#[derive(Debug, Default)]
pub(crate) struct FleetServed {
    /// The worst exit status that one left with.
    pub(crate) exit: i32,
    /// Whether they died too often.
    pub(crate) gave_up: bool,
}

/// The supervisor.
pub(crate) struct Fleet {
    events: Arc<Events>,
    control: Handle,
    sender: mpsc::Sender<Report>,
    reports: mpsc::Receiver<Report>,
    places: Vec<Place>,
    recent: VecDeque<Instant>,
    stopping: bool,
    served: FleetServed,
    /// Where the processes find their server, as variables.
    home: Vec<(&'static str, String)>,
    /// Who is to hear of deaths.
    deaths: Option<Deaths>,
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
    pauses: u32,
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
}

impl Fleet {
    pub(crate) fn new(
        processes: usize,
        events: Arc<Events>,
        control: Handle,
        home: Vec<(&'static str, String)>,
        deaths: Option<Deaths>,
    ) -> Self {
        let (sender, reports) = mpsc::channel(QUEUE);
        let places = (0..processes).map(|_| Place { due: Some(Instant::now()), ..Place::default() }).collect();
        let (recent, served) = (VecDeque::new(), FleetServed::default());
        Self { events, control, sender, reports, places, recent, stopping: false, served, home, deaths }
    }

    /// Run until all processes have ended, and none is to come.
    pub(crate) async fn serve(mut self, mut orders: mpsc::Receiver<Order>) -> FleetServed {
        while self.places.iter().any(|place| place.pid.is_some() || place.due.is_some()) {
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
        }
        self.served
    }

    fn obey(&mut self, order: Order) {
        let signal = match order {
            Order::Reload => Signal::HUP,
            Order::Stop | Order::Drain => Signal::TERM,
        };
        if order != Order::Reload {
            self.stop();
        }
        for pid in self.places.iter().filter_map(|place| place.pid) {
            // It may just have ended.
            kill_process(pid, signal).ok();
        }
    }

    /// No new processes.
    fn stop(&mut self) {
        self.stopping = true;
        self.places.iter_mut().for_each(|place| place.due = None);
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
                    match (seen.event, seen.job, seen.agent) {
                        ("job.created", Some(job), Some(agent)) => {
                            place.jobs.insert(job.into_owned(), agent.into_owned());
                        }
                        ("job.closed", Some(job), _) => drop(place.jobs.remove(&*job)),
                        _ => {}
                    }
                }
                self.events.relay(line);
            }
            Report::Ended { place, status } => self.ended(place, status),
        }
    }

    fn ended(&mut self, index: usize, status: std::io::Result<ExitStatus>) {
        let exit = status.as_ref().ok().and_then(ExitStatus::code);
        if let Some(place) = self.places.get_mut(index) {
            place.pid = None;
            if let Some(deaths) = &self.deaths {
                deaths.tell(std::mem::take(&mut place.instance));
            }
        }
        // It was told to, by us or by its own address.
        if let Some(exit @ (0 | 130)) = exit {
            self.served.exit = self.served.exit.max(exit);
            return;
        }
        let why = match status {
            Ok(status) => match status.signal() {
                Some(signal) => format!("ended by signal {signal}"),
                None => format!("left with {status}"),
            },
            Err(error) => error.to_string(),
        };
        self.died(index, &why, exit.unwrap_or(1));
    }

    fn died(&mut self, index: usize, why: &str, exit: i32) {
        let now = Instant::now();
        self.recent.push_back(now);
        self.recent.retain(|death| *death + DEATHS_WITHIN > now);
        // What is wrong with the settings or the agent is so for each new one.
        let hopeless = (2..=4).contains(&exit) || self.recent.len() > DEATHS_MAX;
        let Some(place) = self.places.get_mut(index) else { return };
        if place.started.is_some_and(|started| started + HEALTHY_AFTER <= now) {
            place.pauses = 0;
        }
        let pause = PAUSE_MIN.saturating_mul(1 << place.pauses.min(10)).min(PAUSE_MAX);
        let again = !self.stopping && !hopeless;
        place.pauses += 1;
        place.due = again.then(|| now + pause);
        let lost = std::mem::take(&mut place.jobs);
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
        self.served.gave_up |= !self.stopping;
        if !self.stopping {
            self.obey(Order::Stop);
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
