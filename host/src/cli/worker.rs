//! `wasm-worker run` without `--job`: a worker of a LiveKit server, or with a dispatcher of its own; of one process, or one of the
//! processes that [`super::fleet`] has started.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use wasm_worker_core::secret::Secret;
use wasm_worker_core::text::plural;
use wasm_worker_dispatcher::{EMBEDDED, connections, reachable};
use wasm_worker_protocol::registration::Registration;
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::load_function::LoadComponent;
use wasm_worker_sandbox::agent::source;
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::runtimes::Runtimes;

use super::fleet::Supervised;
use super::serve::{Home, metrics_text};
use super::{Exit, Failure, open_cache, say};
use crate::config::{Config, HttpBind};
use crate::discovery::{self, LocalWorker, Role};
use crate::http;
use crate::http::control::ControlApi;
use crate::http::worker::{HttpState, router};
use crate::load::{LoadFunction, LoadMonitor, RustLoadFunction};
use crate::observers::metrics::Metrics;
use crate::observers::{EventLines, publisher};
use crate::worker::Worker;
use crate::worker::admission::AdmissionControl;
use crate::worker::agent_source::{AgentSource, LoadError};
use crate::worker::agent_worker::{AgentWorker, WorkerContext, WorkerOutcome};
use crate::worker::control_signal::ControlSignal;
use crate::worker::link::Server;
use crate::worker::reload::LoadedAgent;
use crate::worker::status::WorkerStatus;

/// Signals and orders that wait.
pub(super) const ORDERS: usize = 16;

/// Serve these agents until told to stop.
pub(crate) fn run(
    paths: Vec<PathBuf>,
    mut config: Config,
    supervised: Option<Supervised>,
    load: Option<RustLoadFunction>,
) -> Result<Exit, Failure> {
    if let Some(supervised) = &supervised {
        supervised.apply(&mut config)?;
    }
    let names = names(&paths, &config)?;
    let runtimes = Runtimes::start()?;
    let served = runtimes.block_on(serve(&runtimes, names, supervised, Arc::new(config), load));
    runtimes.shut_down();
    match served? {
        WorkerOutcome { gave_up: Some(why), .. } => Err(no_server(&why)),
        WorkerOutcome { cut_short: 0, .. } => Ok(Exit::Ok),
        WorkerOutcome { cut_short, .. } => {
            say(&format!("{} cut short", plural(cut_short, "job")));
            Ok(Exit::Interrupted)
        }
    }
}

/// The server was given up.
pub(crate) fn no_server(why: &str) -> Failure {
    Failure {
        exit: Exit::Host,
        error: format!("no connection to the server: {why}").into(),
        hint: Some("check LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET, and that the clocks agree".into()),
    }
}

/// An agent to serve.
pub(crate) struct Named {
    path: PathBuf,
    /// Its own name, which its table in the file has.
    own: String,
    /// What it is registered under; the empty name is one.
    registered: String,
}

impl Named {
    /// What it is called here.
    fn name(&self) -> &str {
        if self.registered.is_empty() { &self.own } else { &self.registered }
    }
}

/// The agents' names, which are all different: the server could not tell them apart.
pub(crate) fn names(paths: &[PathBuf], config: &Config) -> Result<Vec<Named>, Failure> {
    let mut taken = HashSet::new();
    let mut named = Vec::new();
    for path in paths {
        let own = source::name(path)?;
        let registered = config.of_agent(&own).livekit.agent_name.clone().unwrap_or_else(|| own.clone());
        if !taken.insert(registered.clone()) {
            let failure = Failure::usage(format!("two agents would be registered as `{registered}`"));
            return Err(
                failure.with_hint("give each an `agent-name` in its own table, [agents.NAME], of the `--config` file")
            );
        }
        named.push(Named { path: path.clone(), own, registered });
    }
    if let Some(table) = config.agents.keys().find(|table| named.iter().all(|agent| agent.own != **table)) {
        let failure = Failure::usage(format!("the settings have a table for an agent `{table}`, which is not served"));
        let served: Vec<&str> = named.iter().map(|agent| agent.own.as_str()).collect();
        return Err(failure.with_hint(format!("the tables may be of: {}", served.join(", "))));
    }
    Ok(named)
}

async fn serve(
    runtimes: &Runtimes,
    names: Vec<Named>,
    supervised: Option<Supervised>,
    config: Arc<Config>,
    load: Option<RustLoadFunction>,
) -> Result<WorkerOutcome, Failure> {
    let (sender, mut orders) = mpsc::channel(ORDERS);
    hear_signals(sender.clone())?;
    let listener = bind(config.http).await?;
    let jobs = u32::try_from(config.max_jobs).unwrap_or(u32::MAX);
    let engine = Engine::new(config.engine_settings(jobs), runtimes.guests().clone(), runtimes.control().clone())?;
    let metrics = Arc::new(Metrics::new());
    let lines = EventLines::open_all(&config)?;
    let events = publisher(&lines, Some(&metrics));
    let context = WorkerContext {
        events: events.clone(),
        admission: AdmissionControl::new(&config),
        status: Arc::new(WorkerStatus::default()),
        control: runtimes.control().clone(),
    };
    let Home { url, key, secret, dispatcher } =
        Home::find(&config, events.clone(), metrics_text(&metrics, &lines), runtimes.control()).await?;
    let server = Server::new(&url, key, secret).map_err(|error| Failure::usage(error.to_string()))?;
    let embedded = if dispatcher.is_some() { EMBEDDED } else { "" };
    let role = supervised.as_ref().map_or(Role::Worker, |supervised| supervised.role());
    let instance =
        supervised.map_or_else(|| format!("{embedded}{}", discovery::make_token()), |supervised| supervised.instance);
    names.iter().for_each(|named| context.status.add_loading(named.name()));
    // From here on it answers: the first start of a large agent takes a while, and that is not to look like a hang.
    let _announced = match listener {
        None => None,
        Some(listener) => {
            let token = token(&config);
            let announced = announce(&config, &listener, &token, role)?;
            let state = HttpState {
                control: ControlApi::new(token, lines.clone(), sender, context.status.draining()),
                status: context.status.clone(),
                admission: context.admission.clone(),
                metrics,
                engine: engine.clone(),
                job_kind: config.livekit.job_type,
            };
            runtimes.control().spawn(connections::serve(listener, router(state)));
            announced
        }
    };
    let start = async {
        let function = load_function(&engine, &config, load).await?;
        let monitor = LoadMonitor::new(engine.clone(), config.cores, config.max_jobs, function);
        Ok::<_, Failure>((monitor, members(names, &engine, (&server, instance), &config, &context).await?))
    };
    let started = tokio::select! {
        started = start => started.map(Some),
        () = stopped(&mut orders) => Ok(None),
    };
    let served = match started {
        Ok(Some((monitor, members))) => Ok(Worker::new(members, context, monitor, config.load_log).serve(orders).await),
        Ok(None) => Ok(WorkerOutcome::default()),
        Err(failure) => Err(failure),
    };
    if let Some(dispatcher) = dispatcher {
        dispatcher.stop().await;
    }
    tokio::task::block_in_place(|| lines.close());
    served
}

/// What callers show.
pub(super) fn token(config: &Config) -> Secret {
    config.http_token.clone().unwrap_or_else(|| Secret(discovery::make_token()))
}

pub(super) async fn bind(http: HttpBind) -> Result<Option<TcpListener>, Failure> {
    http::bind(http).await.map_err(|error| {
        let failure = Failure::usage(format!("HTTP cannot be served at `{http:?}`: {error}"));
        failure.with_hint("choose another address with --http, or `--http off`")
    })
}

/// Tell this user's commands where this process answers. They do without it, if need be.
pub(super) fn announce(
    config: &Config,
    listener: &TcpListener,
    token: &Secret,
    role: Role,
) -> Result<Option<discovery::Announcement>, Failure> {
    let url = format!("http://{}", reachable(listener.local_addr()?));
    tracing::info!(target: "host", url, "http.listening");
    let worker = LocalWorker { pid: std::process::id(), url, token: token.0.clone(), role };
    Ok(discovery::announce(&config.cache_dir, &worker)
        .map_err(|error| {
            let dir = config.cache_dir.display();
            tracing::warn!(target: "host", %dir, %error, "`ps`, `kill`, `drain` and `events` will not find this worker by themselves");
        })
        .ok())
}

async fn load_function(
    engine: &Engine,
    config: &Config,
    rust: Option<RustLoadFunction>,
) -> Result<LoadFunction, Failure> {
    let Some(path) = &config.load_function else {
        return Ok(rust.map_or(LoadFunction::Largest, LoadFunction::Rust));
    };
    let loaded = LoadComponent::load_file(engine, path, &config.agent).await;
    loaded.map(|component| LoadFunction::Component(Box::new(component))).map_err(|why| Failure {
        exit: Exit::Agent,
        error: format!("the load function `{}` cannot be used: {why}", path.display()).into(),
        hint: Some("it exports `load`; see guest-sdk/wit/load.wit, and examples/load".into()),
    })
}

/// Load every agent. One whose prewarm fails is tried again later; one that can never run here ends the start.
async fn members(
    names: Vec<Named>,
    engine: &Engine,
    (server, instance): (&Server, String),
    config: &Arc<Config>,
    context: &WorkerContext,
) -> Result<Vec<AgentWorker>, Failure> {
    let cache = open_cache(config).map(Arc::new);
    let mut members = Vec::new();
    for named in names {
        let name = named.name().to_owned();
        let Named { path, own, registered } = named;
        let of_agent = Arc::new(config.of_agent(&own).clone());
        let source = AgentSource {
            path,
            name,
            engine: engine.clone(),
            config: of_agent,
            cache: cache.clone(),
            compiler: Compiler::own(),
            events: context.events.clone(),
        };
        let stamp = source.stamp();
        let result = match source.load().await {
            Err(error) if !error.is_transient() => return Err(error.into()),
            result => result,
        };
        let registration = Registration {
            agent_name: registered,
            deployment: config.livekit.deployment.clone(),
            job_kind: config.livekit.job_type,
            report_load: config.livekit.report_load,
            permissions: config.livekit.permissions.clone(),
            assignment_within: config.livekit.assignment_timeout,
            instance: instance.clone(),
        };
        let loaded = LoadedAgent { result, stamp };
        members.push(AgentWorker::new(source, loaded, server.clone(), registration, config, context.clone()));
    }
    Ok(members)
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Source(error) => error.into(),
            LoadError::Agent(error) => error.into(),
            LoadError::Panic(_) => Self { exit: Exit::Host, error: error.into(), hint: None },
        }
    }
}

/// SIGINT and SIGTERM, one as good as the other, SIGHUP, and SIGUSR1, with which a supervisor drains: however often it comes, and
/// whatever came before, it ends no job.
pub(super) fn hear_signals(orders: mpsc::Sender<ControlSignal>) -> Result<(), Failure> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut hangups = signal(SignalKind::hangup())?;
    let mut drains = signal(SignalKind::user_defined1())?;
    tokio::runtime::Handle::current().spawn(async move {
        loop {
            let order = tokio::select! {
                _ = interrupts.recv() => ControlSignal::Stop,
                _ = terminations.recv() => ControlSignal::Stop,
                _ = hangups.recv() => ControlSignal::Reload,
                _ = drains.recv() => ControlSignal::Drain,
            };
            if orders.send(order).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// While agents are loaded there is nothing to load again.
async fn stopped(orders: &mut mpsc::Receiver<ControlSignal>) {
    while let Some(ControlSignal::Reload) = orders.recv().await {}
}
