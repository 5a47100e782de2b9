//! A supervisor of several worker processes, each registered with the server: for more jobs than the memory mappings of one
//! process allow, and so that the death of a process affects its own jobs only.
//!
//! The supervisor starts the processes, reads their events from their standard output, passes the events on to the sinks, forwards
//! signals, and replaces a process that dies. The jobs of a dead process are reported as `lost`.
//!
//! Bounds: the pauses of [`process_slot`] before each start; [`QUEUE`] events wait for the supervisor. The supervisor ends when
//! every process keeps dying or gave the server up. As long as one process serves, the others are started again.

mod process_slot;
pub(crate) mod status;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use wasm_worker_core::event::Event;
use wasm_worker_core::observer::Events;
use wasm_worker_core::usage::{UsageRecord, millis};
use wasm_worker_core::verdict::{Code, Verdict};
use wasm_worker_dispatcher::DeathNotifier;
use wasm_worker_sandbox::machine::own_program;

use crate::discovery::make_token;
use crate::observers::EventLines;
use crate::worker::control_signal::ControlSignal;
use process_slot::{ProcessSlot, PublishedEvent, RunningProcess};
use status::{FleetStatus, ProcessCounts};

/// The signal that makes a process drain.
const DRAIN: Signal = Signal::USR1;
/// Settings of the dispatcher and of the sinks, which a process has no use for, and which may contain secrets.
const SUPERVISOR_VARIABLES: [&str; 3] = ["LIVEKIT_KEYS", "WASM_WORKER_EVENT_COMMAND", "WASM_WORKER_WEBHOOK"];
/// Events of the processes that wait for the supervisor.
const QUEUE: usize = 1_024;

/// The outcome of a supervisor.
#[derive(Debug, Default)]
pub(crate) struct FleetOutcome {
    /// The worst exit status of a process.
    pub(crate) exit: i32,
    /// Why the supervisor ended by itself.
    pub(crate) gave_up: Option<GaveUp>,
}

/// Why a supervisor starts no more processes.
#[derive(Debug)]
pub(crate) enum GaveUp {
    /// The processes keep dying; `why` is the end of the last one.
    Dying { why: String },
    /// The processes gave the server up.
    Server { why: String },
}

/// The supervisor.
pub(crate) struct Fleet {
    events: Arc<Events>,
    lines: Arc<EventLines>,
    control: Handle,
    sender: mpsc::Sender<ProcessEvent>,
    receiver: mpsc::Receiver<ProcessEvent>,
    slots: Vec<ProcessSlot>,
    status: Arc<FleetStatus>,
    phase: FleetPhase,
    outcome: FleetOutcome,
    /// The server of the processes, as environment variables.
    server_variables: Vec<(&'static str, String)>,
    /// The embedded dispatcher, which learns of deaths at once.
    deaths: Option<DeathNotifier>,
}

/// The phase of a supervisor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FleetPhase {
    /// No process has registered yet, so the settings or the agents may be wrong.
    Starting,
    Serving,
    Stopping,
}

/// A line that a process published, or its end.
enum ProcessEvent {
    Line { slot: usize, line: Arc<str> },
    Exited { slot: usize, status: std::io::Result<ExitStatus> },
}

impl Fleet {
    pub(crate) fn new(
        processes: usize,
        (events, lines): (Arc<Events>, Arc<EventLines>),
        control: Handle,
        server_variables: Vec<(&'static str, String)>,
        deaths: Option<DeathNotifier>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let slots = (0..processes).map(|_| ProcessSlot::new(Instant::now())).collect();
        let status = Arc::new(FleetStatus::new(processes));
        let (phase, outcome) = (FleetPhase::Starting, FleetOutcome::default());
        Self { events, lines, control, sender, receiver, slots, status, phase, outcome, server_variables, deaths }
    }

    pub(crate) fn status(&self) -> Arc<FleetStatus> {
        self.status.clone()
    }

    /// Run until every process has ended, and none is to be started.
    pub(crate) async fn serve(mut self, mut signals: mpsc::Receiver<ControlSignal>) -> FleetOutcome {
        while self.slots.iter().any(ProcessSlot::is_in_use) {
            let start_at = self.slots.iter().filter_map(ProcessSlot::start_at).min();
            let wake = async {
                match start_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // A signal must not wait behind the events of busy workers.
                biased;
                Some(signal) = signals.recv() => self.on_signal(signal),
                () = wake => self.start_due_processes(),
                Some(event) = self.receiver.recv() => self.on_process_event(event),
            }
            self.update_status();
        }
        self.outcome
    }

    fn update_status(&self) {
        let count = |of: fn(&ProcessSlot) -> bool| self.slots.iter().filter(|slot| of(slot)).count();
        let running = count(|slot| slot.running().is_some());
        let registered = count(ProcessSlot::is_registered);
        self.status.set_counts(ProcessCounts { running, registered });
    }

    fn on_signal(&mut self, signal: ControlSignal) {
        match signal {
            ControlSignal::Reload => self.slots.iter_mut().filter_map(ProcessSlot::reload).for_each(reload),
            // A process may drain already, by a request of its own. SIGTERM would kill its jobs.
            ControlSignal::Drain => self.drain(),
            ControlSignal::Stop if !self.is_stopping() => self.drain(),
            ControlSignal::Stop => self.send_signal(Signal::TERM),
        }
    }

    fn send_signal(&self, signal: Signal) {
        let running = self.slots.iter().filter_map(ProcessSlot::running);
        running.filter_map(|process| process.pid).for_each(|pid| signal_process(pid, signal));
    }

    fn is_stopping(&self) -> bool {
        self.phase == FleetPhase::Stopping
    }

    /// Start no more processes, and drain those that run.
    fn drain(&mut self) {
        self.phase = FleetPhase::Stopping;
        self.status.start_drain();
        self.slots.iter_mut().for_each(ProcessSlot::cancel_start);
        self.send_signal(DRAIN);
    }

    fn start_due_processes(&mut self) {
        let now = Instant::now();
        for index in 0..self.slots.len() {
            let due = self.slots.get(index).and_then(ProcessSlot::start_at).is_some_and(|at| at <= now);
            if due && let Err(error) = self.start(index) {
                self.on_death(index, &format!("cannot be started: {error}"), 1);
            }
        }
    }

    fn start(&mut self, index: usize) -> std::io::Result<()> {
        let mut command = std::process::Command::new(own_program());
        // The flags follow the verb: behind a `--` they would be names of agents.
        let mut args = std::env::args_os().skip(1);
        let instance = make_token();
        command.args(args.next()).arg(format!("--supervised={index}")).arg(format!("--instance={instance}")).args(args);
        // The supervisor has the dispatcher and the sinks; their secrets are for it alone.
        for variable in SUPERVISOR_VARIABLES {
            command.env_remove(variable);
        }
        command.envs(self.server_variables.iter().map(|(name, value)| (name, value)));
        // A terminal signals a whole process group. In groups of their own, the processes receive each signal once, from here.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = Command::from(command).spawn()?;
        if let Some(slot) = self.slots.get_mut(index) {
            let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
            slot.started(RunningProcess::new(pid, instance, Instant::now()));
        }
        let sender = self.sender.clone();
        self.control.spawn(async move {
            let status = follow(&mut child, index, &sender).await;
            drop(sender.send(ProcessEvent::Exited { slot: index, status }).await);
        });
        Ok(())
    }

    fn on_process_event(&mut self, event: ProcessEvent) {
        match event {
            ProcessEvent::Line { slot, line } => {
                let published = serde_json::from_str::<PublishedEvent>(&line);
                if let (Ok(published), Some(slot)) = (published, self.slots.get_mut(slot)) {
                    if published.event == "worker.registered" && self.phase == FleetPhase::Starting {
                        self.phase = FleetPhase::Serving;
                    }
                    slot.on_published(published).into_iter().for_each(reload);
                }
                self.lines.relay(line);
            }
            ProcessEvent::Exited { slot, status } => self.on_exit(slot, status),
        }
    }

    fn on_exit(&mut self, index: usize, status: std::io::Result<ExitStatus>) {
        let instance = self.slots.get_mut(index).and_then(|slot| slot.exited(Instant::now()));
        if let (Some(deaths), Some(instance)) = (&self.deaths, instance) {
            deaths.notify(instance);
        }
        let (why, exit) = match status {
            Ok(status) => match (status.signal(), status.code()) {
                // The process ended on request: of the supervisor, or over its own HTTP endpoint.
                (_, Some(exit @ (0 | 130))) => return self.outcome.exit = self.outcome.exit.max(exit),
                // The process was asked to stop before it handled signals.
                (Some(signal), _)
                    if self.is_stopping() && [DRAIN, Signal::TERM].iter().any(|s| s.as_raw() == signal) =>
                {
                    return;
                }
                (Some(signal), _) => (format!("ended by signal {signal}"), 1),
                (None, exit) => (format!("ended with {status}"), exit.unwrap_or(1)),
            },
            Err(error) => (error.to_string(), 1),
        };
        self.on_death(index, &why, exit);
    }

    fn on_death(&mut self, index: usize, why: &str, exit: i32) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let pause = slot.count_death();
        let lost = slot.take_jobs();
        let gave_up = self.give_up(index, why, exit);
        let again = !self.is_stopping() && gave_up.is_none();
        if again && let Some(slot) = self.slots.get_mut(index) {
            slot.restart_after(Instant::now(), pause);
        }
        let retry_ms = again.then(|| millis(pause));
        self.events.publish(&Event::WorkerDied { worker: index, why: why.to_owned(), lost: lost.len(), retry_ms });
        for (job, agent) in lost {
            let verdict = Box::new(Verdict::new(Code::Lost, format!("the worker process {why}")));
            self.events.publish(&Event::JobClosed { agent, job, verdict, usage: Box::new(UsageRecord::default()) });
        }
        if again {
            return;
        }
        self.outcome.exit = self.outcome.exit.max(exit);
        if !self.is_stopping() {
            self.outcome.gave_up = gave_up;
            self.drain();
        }
    }

    /// The reason to start no more processes after the death of this one, if there is one.
    fn give_up(&self, index: usize, why: &str, exit: i32) -> Option<GaveUp> {
        // Wrong settings or agents are wrong for every process. The process has printed the error.
        let wrong_from_the_start = self.phase == FleetPhase::Starting && (2..=4).contains(&exit);
        // Processes that ended on request do not count.
        let mut slots = self.slots.iter().enumerate().filter(|(at, slot)| *at == index || slot.is_in_use());
        let hopeless = slots.all(|(_, slot)| slot.is_hopeless(Instant::now()));
        if !wrong_from_the_start && !hopeless {
            return None;
        }
        let server = self.slots.iter().find_map(|slot| slot.gave_up().cloned());
        Some(match server {
            Some(why) => GaveUp::Server { why },
            None => GaveUp::Dying { why: why.to_owned() },
        })
    }
}

/// Have a process load its agents again.
fn reload(pid: Pid) {
    signal_process(pid, Signal::HUP);
}

fn signal_process(pid: Pid, signal: Signal) {
    // The process may have ended just now.
    kill_process(pid, signal).ok();
}

/// Send the lines that a process publishes to the supervisor, until the process ends.
async fn follow(child: &mut Child, slot: usize, sender: &mpsc::Sender<ProcessEvent>) -> std::io::Result<ExitStatus> {
    if let Some(out) = child.stdout.take() {
        let mut lines = BufReader::new(out).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if sender.send(ProcessEvent::Line { slot, line: line.into() }).await.is_err() {
                break;
            }
        }
    }
    child.wait().await
}
