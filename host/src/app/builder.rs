//! What a worker is started with, for the command line and for programs that embed a worker.

use std::path::PathBuf;
use std::sync::Arc;

use wasm_worker_core::load::Sample;
use wasm_worker_core::observer::Observer;

use super::process::Supervised;
use super::{AppError, Served, Worker};
use crate::config::Config;
use crate::load::RustLoadFunction;

/// Builds a [`Worker`].
///
/// ```no_run
/// use wasm_worker::app::Worker;
/// use wasm_worker::config::{Config, HttpBind};
/// use wasm_worker_core::event::Event;
/// use wasm_worker_core::observer::Observer;
///
/// /// Prints how each job ended.
/// struct Verdicts;
///
/// impl Observer for Verdicts {
///     fn observe(&self, event: &Event) {
///         if let Event::JobClosed { job, verdict, .. } = event {
///             println!("{job}: {}", verdict.code);
///         }
///     }
/// }
///
/// # fn main() -> Result<(), wasm_worker::app::AppError> {
/// let mut config = Config::default();
/// config.http = HttpBind::Off;
/// let minute = async { tokio::time::sleep(std::time::Duration::from_secs(60)).await };
/// let served = Worker::builder(config)
///     .agent("agent.wasm")
///     .load_function(|sample| sample.jobs as f64 / sample.jobs_max as f64)
///     .observer(Box::new(Verdicts))
///     .run_until(minute)?;
/// println!("{} jobs were cut short", served.cut_short);
/// # Ok(())
/// # }
/// ```
pub struct WorkerBuilder {
    pub(super) config: Config,
    pub(super) agents: Vec<PathBuf>,
    pub(super) observers: Vec<Box<dyn Observer>>,
    pub(super) load_function: Option<RustLoadFunction>,
    pub(super) compiler: Option<PathBuf>,
    pub(super) signals: Signals,
    pub(super) supervised: Option<Supervised>,
}

/// Who handles the signals of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signals {
    /// The worker.
    Handle,
    /// The embedding program.
    Leave,
}

impl WorkerBuilder {
    pub(super) fn new(config: Config) -> Self {
        let (signals, supervised) = (Signals::Leave, None);
        Self {
            config,
            agents: Vec::new(),
            observers: Vec::new(),
            load_function: None,
            compiler: None,
            signals,
            supervised,
        }
    }

    /// Serve this agent: a `.wasm` file, a `.wat` file, or the directory of an agent crate. The worker serves every agent that
    /// is added, and needs at least one.
    #[must_use]
    pub fn agent(mut self, path: impl Into<PathBuf>) -> Self {
        self.agents.push(path.into());
        self
    }

    /// Compute the load with this function, from 0 to 1. Results outside that range are clamped, and a result that is no number
    /// is replaced by the default, [`Sample::largest`]. The setting `load-function` takes precedence.
    #[must_use]
    pub fn load_function(mut self, function: impl Fn(&Sample) -> f64 + Send + Sync + 'static) -> Self {
        self.load_function = Some(Arc::new(function));
        self
    }

    /// Send every event to this observer too, after the log and the metrics and before the sinks of the settings. The call must
    /// not wait: it runs on the path of the job.
    #[must_use]
    pub fn observer(mut self, observer: Box<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Compile agents with this program, which is `wasm-worker` or calls [`cli::main`](crate::cli::main), in a child process.
    ///
    /// Without this, agents are compiled in the calling process: the worker works wherever the program is installed, but
    /// `compile-timeout` and `compile-memory` are not enforced, and a component that crashes the compiler crashes the program.
    /// So name a program for agents that somebody else has written.
    #[must_use]
    pub fn compiler(mut self, program: impl Into<PathBuf>) -> Self {
        self.compiler = Some(program.into());
        self
    }

    /// Handle signals as the program `wasm-worker` does: SIGINT and SIGTERM drain, a second one kills the jobs that still run, and
    /// a third one ends the process; SIGHUP drains where the process has a terminal, and reloads the agents elsewhere; SIGUSR1
    /// drains. Once the worker has ended, a signal ends the process. The worker also answers the service manager that
    /// `NOTIFY_SOCKET` names. Without this, both are left to the embedding program.
    #[must_use]
    pub fn handle_signals(mut self) -> Self {
        self.signals = Signals::Handle;
        self
    }

    /// Be one of the processes of a supervisor.
    pub(crate) fn supervised(mut self, process: Supervised) -> Self {
        self.supervised = Some(process);
        self
    }

    /// Start the worker: take its HTTP address, open the event sinks, and find the server, or start the embedded dispatcher.
    /// Agents are loaded by [`Worker::run_until`]. A job that is dispatched in between waits in the dispatcher's queue.
    ///
    /// # Errors
    /// When a setting is not usable, an agent does not exist, two agents have one name, an address is taken, or the dispatcher's
    /// store cannot be opened.
    pub fn start(mut self) -> Result<Worker, AppError> {
        if let Some(process) = &self.supervised {
            process.apply(&mut self.config)?;
        }
        Worker::start(self)
    }

    /// [`Self::start`], then [`Worker::run_until`].
    ///
    /// # Errors
    /// As these two.
    pub fn run_until(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<Served, AppError> {
        self.start()?.run_until(shutdown)
    }
}
