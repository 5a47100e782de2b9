//! The composition root: how the parts become a worker, a supervisor of workers, or a dispatcher alone.
//!
//! The program `wasm-worker` is made of this module, and so is a program that embeds a worker:
//!
//! ```no_run
//! use wasm_worker::app::{AppError, Worker};
//! use wasm_worker::config::Config;
//!
//! fn main() -> Result<(), AppError> {
//!     // The settings of the environment and of a file are for the command line; here are the defaults.
//!     let worker = Worker::builder(Config::default()).agent("agent.wasm").handle_signals().start()?;
//!     println!("jobs come from {}", worker.server_url());
//!     let served = worker.run()?;
//!     println!("{} jobs were cut short", served.cut_short);
//!     Ok(())
//! }
//! ```
//!
//! The phases of a worker, in this file:
//!
//! ```text
//! start    signals → HTTP address → engine → observers → upstream → HTTP, announcement
//! serve    load function and agents → jobs, until a drain is over
//! close    dispatcher → event sinks → runtimes
//! ```
//!
//! The process answers HTTP from the end of the first phase, because the first load of a large agent takes a while.
//! [`fleet`] does the same for several processes, and [`dispatcher`] for a dispatcher without agents.

mod error;

pub mod client;
mod reaper;
pub(crate) mod process;
pub(crate) mod proof;
mod service;
mod upstream;

mod agents;

mod builder;

pub(crate) mod dispatcher;
pub(crate) mod fleet;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use wasm_worker_core::duration::LONGEST;
use wasm_worker_dispatcher::connections;
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::runtimes::Runtimes;

use crate::config::Config;
use crate::discovery::{Announcement, Role};
use crate::http::control::ControlApi;
use crate::http::worker::{HttpState, router};
use crate::load::RustLoadFunction;
use crate::observers::metrics::Metrics;
use crate::observers::{EventLines, publisher_with};
use crate::rooms;
use crate::service_manager::ServiceManager;
use crate::worker;
use crate::worker::admission::AdmissionControl;
use crate::worker::agent_worker::WorkerOutcome;
use crate::worker::context::WorkerContext;
use crate::worker::control_signal::ControlSignal;
use crate::worker::status::WorkerStatus;
use agents::{AgentLoader, NamedAgent};
use builder::Signals;
use client::Client;
use process::{
    HangUp, SIGNALS_MAX, announce, bind, control_token, end_at_next_signal, forward_signals, reopen_at_hangup,
};
use service::follow_worker;
use upstream::{Upstream, metrics_text};

pub(crate) use agents::open_cache;
pub use builder::WorkerBuilder;
pub use error::AppError;

/// A worker that is connected to its server, or has an embedded dispatcher, and has loaded no agent yet.
///
/// A worker has runtimes of its own: guests run on one, and timers, files and sockets are on the other. Its methods block the
/// thread; an async program calls them inside `tokio::task::spawn_blocking`. Its log lines are `tracing` events with the targets
/// `host`, `dispatcher` and `agent`; the embedding program subscribes to them or not.
pub struct Worker {
    runtimes: Runtimes,
    parts: Parts,
}

/// How a worker ended.
#[derive(Debug, Default)]
pub struct Served {
    /// The number of jobs that the drain asked to stop, or killed.
    pub cut_short: usize,
    /// The number of those jobs that did not end when they were asked to, and were killed.
    pub killed: usize,
    /// Why the server was given up; absent where the worker was told to end.
    pub gave_up: Option<String>,
}

/// The parts that the phases `serve` and `close` need.
struct Parts {
    agents: Vec<NamedAgent>,
    loader: AgentLoader,
    load_function: Option<RustLoadFunction>,
    lines: Arc<EventLines>,
    context: WorkerContext,
    upstream: Upstream,
    sender: mpsc::Sender<ControlSignal>,
    signals: mpsc::Receiver<ControlSignal>,
    /// Who handles the signals of the process.
    handled: Signals,
    /// None where nobody waits for the process, or another process answers for it.
    manager: Option<ServiceManager>,
    /// Announces the process to this user's commands until it is dropped.
    _announcement: Option<Announcement>,
}

impl Worker {
    /// A builder of a worker with these settings. The setting `workers` has no effect: the worker is one process.
    pub fn builder(config: Config) -> WorkerBuilder {
        WorkerBuilder::new(config)
    }

    /// Phase `start`.
    fn start(builder: WorkerBuilder) -> Result<Self, AppError> {
        let agents = agents::named(&builder.agents, &builder.config)?;
        let runtimes = Runtimes::start()?;
        match runtimes.block_on(Parts::start(&runtimes, agents, builder)) {
            Ok(parts) => Ok(Self { runtimes, parts }),
            Err(error) => {
                runtimes.shut_down();
                Err(error)
            }
        }
    }

    /// The URL of the server that the worker gets its jobs from: the one in the settings, or that of the embedded dispatcher.
    pub fn server_url(&self) -> &str {
        &self.parts.upstream.url
    }

    /// A client of that server, for example to dispatch jobs to this worker.
    pub fn client(&self) -> Client {
        let Upstream { url, key, secret, .. } = &self.parts.upstream;
        Client::new(url, key.clone(), secret.clone())
    }

    /// Load the agents and serve jobs until `shutdown` completes, then drain: no new jobs are taken, and the running ones have
    /// `drain-timeout` and then `shutdown-grace` to end. The drain also starts on a signal ([`WorkerBuilder::handle_signals`])
    /// or a request (`POST /drain`), and when the server is given up.
    ///
    /// `shutdown` runs on the worker's runtime, so tokio's timers and channels work in it. The call blocks until the drain is
    /// over, and closes the embedded dispatcher and the event sinks.
    ///
    /// # Errors
    /// When the load function or an agent cannot be loaded. An agent whose `prewarm` fails is no error: it is loaded again
    /// later.
    pub fn run_until(self, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<Served, AppError> {
        let Self { runtimes, parts } = self;
        let signals = parts.sender.clone();
        runtimes.control().spawn(async move {
            shutdown.await;
            // A worker that has ended needs no signal.
            signals.send(ControlSignal::Stop).await.ok();
        });
        let served = runtimes.block_on(parts.run());
        runtimes.shut_down();
        served
    }

    /// The same without a future: until a signal, a request, or the loss of the server.
    ///
    /// # Errors
    /// As [`Self::run_until`].
    pub fn run(self) -> Result<Served, AppError> {
        self.run_until(std::future::pending())
    }
}

impl Parts {
    async fn start(runtimes: &Runtimes, agents: Vec<NamedAgent>, builder: WorkerBuilder) -> Result<Self, AppError> {
        let WorkerBuilder { config, observers, load_function, compiler, signals: handled, supervised, .. } = builder;
        let (sender, signals) = mpsc::channel(SIGNALS_MAX);
        let mut manager = None;
        if handled == Signals::Handle {
            let hang_up = if supervised.is_some() { HangUp::Reload } else { HangUp::of_this_process() };
            forward_signals(sender.clone(), hang_up)?;
            manager = supervised.is_none().then(ServiceManager::find).flatten();
        }
        let listener = bind(config.http).await?;
        let jobs = u32::try_from(config.max_jobs).unwrap_or(u32::MAX);
        let engine = Engine::new(config.engine_settings(jobs), runtimes.guests().clone(), runtimes.control().clone())?;

        let metrics = Arc::new(Metrics::new());
        let lines = EventLines::open_all(&config)?;
        if handled == Signals::Handle {
            reopen_at_hangup(lines.clone())?;
        }
        let events = publisher_with(&lines, Some(&metrics), observers);
        let page = metrics_text(&metrics, &lines);
        let upstream = Upstream::find(&config, events.clone(), page, runtimes.control()).await?;

        let (control, guests) = (runtimes.control().clone(), runtimes.guests().clone());
        let (admission, status) = (AdmissionControl::new(&config), Arc::new(WorkerStatus::default()));
        let rooms = rooms::start(config.rooms_max())?;
        let context = WorkerContext { events, admission, status, control, guests, rooms, networks: Arc::default() };
        agents.iter().for_each(|agent| context.status.add_loading(agent.name()));
        let role = supervised.as_ref().map_or(Role::Worker, |process| process.role());
        let instance = supervised.map_or_else(|| upstream.instance(), |process| process.instance);
        let server = upstream.server()?;
        let config = Arc::new(config);
        let loader = AgentLoader { engine, config, compiler, server, instance, context: context.clone() };
        let parts = Self {
            agents,
            loader,
            load_function,
            lines,
            context,
            upstream,
            sender,
            signals,
            handled,
            manager,
            _announcement: None,
        };
        match listener {
            None => Ok(parts),
            Some(listener) => parts.answer_http(listener, metrics, role),
        }
    }

    fn answer_http(self, listener: TcpListener, metrics: Arc<Metrics>, role: Role) -> Result<Self, AppError> {
        let AgentLoader { config, engine, .. } = &self.loader;
        let token = control_token(config);
        let announcement = announce(config, &listener, &token, role)?;
        let WorkerContext { status, admission, control, .. } = &self.context;
        let state = HttpState {
            control: ControlApi::new(token, self.lines.clone(), self.sender.clone(), status.draining()),
            status: status.clone(),
            admission: admission.clone(),
            metrics,
            engine: engine.clone(),
            job_kind: config.livekit.job_type,
        };
        control.spawn(connections::serve(listener, router(state)));
        Ok(Self { _announcement: announcement, ..self })
    }

    /// Phases `serve` and `close`.
    async fn run(self) -> Result<Served, AppError> {
        let Self {
            agents,
            loader,
            load_function,
            lines,
            context,
            upstream,
            sender,
            mut signals,
            handled,
            manager,
            _announcement,
        } = self;
        let (dispatcher, rooms) = (upstream.dispatcher.as_ref(), context.rooms.clone());
        let _follower = manager.map(|manager| follow_worker(manager, &context, &loader.engine, dispatcher));
        let load = async { Ok::<_, AppError>((loader.monitor(load_function).await?, loader.load(agents).await?)) };
        let mut reload = false;
        let loaded = tokio::select! {
            loaded = load => loaded.map(Some),
            () = stopped(&mut signals, &mut reload) => Ok(None),
        };
        let served = match loaded {
            Ok(Some((monitor, agents))) => {
                if reload {
                    // A full queue has a signal that asks for as much, or for the end.
                    sender.try_send(ControlSignal::Reload).ok();
                }
                let load_log = loader.config.load_log.map(|every| every.min(LONGEST));
                let worker = worker::Worker::new(agents, context, monitor, load_log);
                Ok(worker.serve(signals).await)
            }
            Ok(None) => Ok(WorkerOutcome::default()),
            Err(error) => Err(error),
        };
        rooms::leave(&rooms).await;
        if let Some(dispatcher) = upstream.dispatcher {
            dispatcher.stop().await;
        }
        tokio::task::block_in_place(|| lines.close());
        if handled == Signals::Handle {
            end_at_next_signal();
        }
        let WorkerOutcome { cut_short, gave_up } = served?;
        Ok(Served { cut_short: cut_short.jobs, killed: cut_short.killed, gave_up })
    }
}

/// Wait for a signal that ends the program. `reload`: whether the agents are to be loaded again, because one that asks for it came while
/// they were being loaded: their files may have been read before it.
async fn stopped(signals: &mut mpsc::Receiver<ControlSignal>, reload: &mut bool) {
    while let Some(ControlSignal::Reload) = signals.recv().await {
        *reload = true;
    }
}
