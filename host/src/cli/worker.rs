//! `wasm-worker run` without `--job`: a worker, or several processes of it, of a LiveKit server or with a dispatcher of its own.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::serve::Home;
use super::{Exit, Failure, open_cache, say};
use crate::agent::compile::Compiler;
use crate::agent::load_function::LoadComponent;
use crate::agent::source;
use crate::config::{Config, EventTarget, HttpBind, Secret, plural};
use crate::connections;
use crate::dispatcher::Dispatcher;
use crate::dispatcher::pool::EMBEDDED;
use crate::engine::{Engine, EngineSettings};
use crate::events::Events;
use crate::fleet::{Fleet, FleetServed};
use crate::http::{self, Site, reachable};
use crate::livekit::link::Server;
use crate::livekit::session::Registration;
use crate::load::{LoadFunction, LoadMonitor, RustLoadFunction};
use crate::local::{self, LocalWorker};
use crate::metrics::Metrics;
use crate::runtimes::Runtimes;
use crate::worker::loading::{LoadError, Loading};
use crate::worker::member::{Member, Served, Shared};
use crate::worker::room::Room;
use crate::worker::roster::Roster;
use crate::worker::{Order, Worker};

/// Signals and orders that wait.
const ORDERS: usize = 16;

/// Supervise so many processes that serve these agents.
pub(crate) fn run_fleet(paths: &[PathBuf], config: &Config) -> Result<Exit, Failure> {
    // What is wrong with these is said once, not by each process.
    names(paths, config)?;
    let runtimes = Runtimes::start()?;
    let served = runtimes.block_on(async {
        let (sender, orders) = mpsc::channel(ORDERS);
        hear_signals(sender)?;
        let metrics = Arc::new(Metrics::new());
        let events = Arc::new(Events::open_all(config)?.counted(metrics.clone()));
        let Home { url, key, secret, dispatcher } =
            Home::find(config, events.clone(), metrics, runtimes.control()).await?;
        // Secrets are in the environment of a process, where other users do not see them.
        let home = vec![("LIVEKIT_URL", url), ("LIVEKIT_API_KEY", key), ("LIVEKIT_API_SECRET", secret)];
        let deaths = dispatcher.as_ref().map(Dispatcher::deaths);
        let served = Fleet::new(config.workers, events, runtimes.control().clone(), home, deaths).serve(orders).await;
        if let Some(dispatcher) = dispatcher {
            dispatcher.stop().await;
        }
        Ok::<_, Failure>(served)
    });
    runtimes.shut_down();
    match served? {
        FleetServed { gave_up: true, .. } => {
            Err(Failure { exit: Exit::Host, error: "worker processes keep dying; gave up".into(), hint: None })
        }
        FleetServed { exit: 0, .. } => Ok(Exit::Ok),
        FleetServed { exit: 130, .. } => Ok(Exit::Interrupted),
        FleetServed { .. } => Ok(Exit::Host),
    }
}

/// A process that another one has started.
pub(crate) struct Supervised {
    /// Which of them it is.
    pub(crate) index: usize,
    /// What the dispatcher knows it by.
    pub(crate) instance: String,
}

/// A process of a fleet publishes to its supervisor, which has the sinks, and goes when the supervisor goes.
fn supervise(config: &mut Config, index: usize) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(std::io::Error::from)?;
    (config.events, config.webhook, config.event_command) = (EventTarget::Stdout, None, None);
    if let HttpBind::At(address) = &mut config.http
        && address.port() != 0
    {
        let offset = u16::try_from(index).unwrap_or(u16::MAX);
        address.set_port(address.port().saturating_add(offset));
    }
    Ok(())
}

/// Serve these agents until told to stop.
pub(crate) fn run(
    paths: Vec<PathBuf>,
    mut config: Config,
    supervised: Option<Supervised>,
    load: Option<RustLoadFunction>,
) -> Result<Exit, Failure> {
    if let Some(Supervised { index, .. }) = &supervised {
        supervise(&mut config, *index)?;
    }
    let instance = supervised.map(|supervised| supervised.instance);
    let names = names(&paths, &config)?;
    let runtimes = Runtimes::start()?;
    let served = runtimes.block_on(serve(&runtimes, names, instance, Arc::new(config), load));
    runtimes.shut_down();
    match served? {
        Served { gave_up: Some(why), .. } => Err(Failure {
            exit: Exit::Host,
            error: format!("no connection to the server: {why}").into(),
            hint: Some("check LIVEKIT_URL, LIVEKIT_API_KEY, LIVEKIT_API_SECRET, and that the clocks agree".into()),
        }),
        Served { cut_short: 0, .. } => Ok(Exit::Ok),
        Served { cut_short, .. } => {
            say(&format!("{} cut short", plural(cut_short, "job")));
            Ok(Exit::Interrupted)
        }
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
    Ok(named)
}

async fn serve(
    runtimes: &Runtimes,
    names: Vec<Named>,
    instance: Option<String>,
    config: Arc<Config>,
    load: Option<RustLoadFunction>,
) -> Result<Served, Failure> {
    let (sender, mut orders) = mpsc::channel(ORDERS);
    hear_signals(sender.clone())?;
    let listener = http::bind(config.http).await.map_err(|error| {
        let failure = Failure::usage(format!("HTTP cannot be served at `{:?}`: {error}", config.http));
        failure.with_hint("choose another address with --http, or `--http off`")
    })?;
    let jobs = u32::try_from(config.max_jobs).unwrap_or(u32::MAX);
    let settings = EngineSettings::for_jobs(jobs, &config);
    let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone())?;
    let metrics = Arc::new(Metrics::new());
    let events = Arc::new(Events::open_all(&config)?.counted(metrics.clone()));
    let shared = Shared {
        events: events.clone(),
        room: Room::new(&config),
        roster: Arc::new(Roster::default()),
        control: runtimes.control().clone(),
    };
    let Home { url, key, secret, dispatcher } =
        Home::find(&config, events.clone(), metrics.clone(), runtimes.control()).await?;
    let server = Server::new(&url, key, secret).map_err(|error| Failure::usage(error.to_string()))?;
    let embedded = if dispatcher.is_some() { EMBEDDED } else { "" };
    let instance = instance.unwrap_or_else(|| format!("{embedded}{}", local::make_token()));
    let start = async {
        let function = load_function(&engine, &config, load).await?;
        let monitor = LoadMonitor::new(engine.clone(), config.cores, config.max_jobs, function);
        Ok::<_, Failure>((monitor, members(names, &engine, (&server, instance), &config, &shared).await?))
    };
    let (monitor, members) = tokio::select! {
        started = start => started?,
        () = stopped(&mut orders) => return Ok(Served::default()),
    };
    let _announced = match listener {
        None => None,
        Some(listener) => {
            let token = config.http_token.clone().unwrap_or_else(|| Secret(local::make_token()));
            let worker = LocalWorker {
                pid: std::process::id(),
                url: format!("http://{}", reachable(listener.local_addr()?)),
                token: token.0.clone(),
            };
            tracing::info!(target: "host", url = worker.url, "http.listening");
            let site = Site {
                roster: shared.roster.clone(),
                room: shared.room.clone(),
                metrics,
                events,
                engine,
                orders: sender,
                token,
                job_type: config.livekit.job_type,
                followers: Site::followers(),
            };
            runtimes.control().spawn(connections::serve(listener, http::router(site)));
            announce(&config, &worker)
        }
    };
    let served = Worker::new(members, shared, monitor, config.load_log).serve(orders).await;
    if let Some(dispatcher) = dispatcher {
        dispatcher.stop().await;
    }
    Ok(served)
}

/// Commands on this machine do without it, if need be.
fn announce(config: &Config, worker: &LocalWorker) -> Option<local::Announcement> {
    local::announce(&config.cache_dir, worker)
        .map_err(|error| {
            let dir = config.cache_dir.display();
            tracing::warn!(target: "host", %dir, %error, "`ps`, `kill`, `drain` and `events` will not find this worker by themselves");
        })
        .ok()
}

async fn load_function(
    engine: &Engine,
    config: &Config,
    rust: Option<RustLoadFunction>,
) -> Result<LoadFunction, Failure> {
    let Some(path) = &config.load_function else {
        return Ok(rust.map_or(LoadFunction::Largest, LoadFunction::Rust));
    };
    let loaded = LoadComponent::load_file(engine, path, config).await;
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
    shared: &Shared,
) -> Result<Vec<Member>, Failure> {
    let cache = open_cache(config).map(Arc::new);
    let mut members = Vec::new();
    for Named { path, own, registered } in names {
        let of_agent = Arc::new(config.of_agent(&own).clone());
        let loading = Loading {
            path,
            name: if registered.is_empty() { own } else { registered.clone() },
            engine: engine.clone(),
            config: of_agent,
            cache: cache.clone(),
            compiler: Compiler::own(),
            events: shared.events.clone(),
        };
        let loaded = match loading.load().await {
            Err(error) if !error.may_pass() => return Err(error.into()),
            loaded => loaded,
        };
        let registration = Registration {
            agent_name: registered,
            deployment: config.livekit.deployment.clone(),
            job_type: config.livekit.job_type,
            report_load: config.livekit.report_load,
            instance: instance.clone(),
        };
        members.push(Member::new(loading, loaded, server.clone(), registration, config, shared.clone()));
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

/// SIGINT and SIGTERM, one as good as the other, and SIGHUP.
fn hear_signals(orders: mpsc::Sender<Order>) -> Result<(), Failure> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::runtime::Handle::current().spawn(async move {
        loop {
            let order = tokio::select! {
                _ = interrupts.recv() => Order::Stop,
                _ = terminations.recv() => Order::Stop,
                _ = hangups.recv() => Order::Reload,
            };
            if orders.send(order).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// While agents are loaded there is nothing to load again.
async fn stopped(orders: &mut mpsc::Receiver<Order>) {
    while let Some(Order::Reload) = orders.recv().await {}
}
