//! `wasm-worker run` without `--job`: a worker of a LiveKit server.

use std::sync::Arc;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Exit, Failure, compiler, open_cache, say};
use crate::agent::{Agent, source};
use crate::config::{Config, plural};
use crate::engine::{Engine, EngineSettings};
use crate::events::Events;
use crate::livekit::link::Server;
use crate::livekit::session::Registration;
use crate::livekit::wire::JobType;
use crate::runtimes::Runtimes;
use crate::worker::{Served, Worker};

/// As the server checks it.
const DEPLOYMENT_BYTES_MAX: usize = 64;

#[derive(Args)]
#[command(next_help_heading = "LiveKit")]
pub(crate) struct ServeFlags {
    /// URL of the server, such as ws://localhost:7880
    #[arg(long, value_name = "URL", env = "LIVEKIT_URL")]
    url: Option<String>,
    /// API key
    #[arg(long, value_name = "KEY", env = "LIVEKIT_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// API secret; better in the environment, where other users do not see it
    #[arg(long, value_name = "SECRET", env = "LIVEKIT_API_SECRET", hide_env_values = true)]
    api_secret: Option<String>,
    /// Name to register under [default: the agent's]; an empty one gets a job for each room
    #[arg(long, value_name = "NAME", env = "LIVEKIT_AGENT_NAME")]
    agent_name: Option<String>,
    /// Deployment to take dispatches of
    #[arg(long, value_name = "NAME", env = "LIVEKIT_AGENT_DEPLOYMENT", default_value = "", hide_default_value = true)]
    deployment: String,
    /// Cores to count on, in parts, where the cgroup does not say
    #[arg(long, value_name = "CORES", env = "NUM_CPUS")]
    cores: Option<String>,
    /// What there is a job for
    #[arg(long, value_enum, value_name = "TYPE", default_value = "room")]
    job_type: JobType,
}

fn cores(text: &str) -> Result<f64, Failure> {
    let cores = text.parse().ok().filter(|cores: &f64| cores.is_finite() && *cores > 0.0);
    cores.ok_or_else(|| {
        Failure::usage(format!("`{text}` cores are not usable: want a number above 0, such as 2 or 0.5"))
    })
}

impl ServeFlags {
    fn server(&self) -> Result<Server, Failure> {
        let missing = |what: &str| {
            Failure::usage(format!("{what} is missing")).with_hint(
                "set LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET, or pass `--job` to run a job here and now",
            )
        };
        let url = self.url.as_deref().ok_or_else(|| missing("the URL of the LiveKit server (`--url`)"))?;
        let key = self.api_key.clone().ok_or_else(|| missing("the API key (`--api-key`)"))?;
        let secret = self.api_secret.clone().ok_or_else(|| missing("the API secret (`--api-secret`)"))?;
        Server::new(url, key, secret).map_err(|error| Failure::usage(error.to_string()))
    }

    fn registration(self, agent: &str) -> Registration {
        let Self { agent_name, deployment, job_type, .. } = self;
        Registration { agent_name: agent_name.unwrap_or_else(|| agent.to_owned()), deployment, job_type }
    }

    /// The server would close the connection without a word.
    fn check(&self) -> Result<(), Failure> {
        let name = &self.deployment;
        if name.len() > DEPLOYMENT_BYTES_MAX || name.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'_') {
            return Err(Failure::usage(format!(
                "the deployment `{name}` is not usable: want at most {DEPLOYMENT_BYTES_MAX} bytes, no space and no `_`"
            )));
        }
        Ok(())
    }
}

pub(crate) fn run(flags: ServeFlags, source: source::Source, config: &Config) -> Result<Exit, Failure> {
    flags.check()?;
    let server = flags.server()?;
    let cores = flags.cores.as_deref().map(cores).transpose()?;
    let runtimes = Runtimes::start()?;
    let served = runtimes.block_on(async {
        let mut stop = signals()?;
        let jobs = u32::try_from(config.max_jobs).unwrap_or(u32::MAX);
        let settings = EngineSettings::for_jobs(jobs, config);
        let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone())?;
        let events = Arc::new(Events::open(&config.events)?);
        let cache = open_cache(config);
        let compiler = compiler();
        let load = Agent::load(&engine, source, config, cache.as_ref(), Some(&compiler), &events);
        let agent = tokio::select! {
            loaded = load => loaded?,
            _ = stop.recv() => return Ok(Served { cut_short: 0, gave_up: None }),
        };
        let registration = flags.registration(agent.name());
        let (worker, queue) =
            Worker::new(agent, events, server, registration, config, cores, runtimes.control().clone());
        Ok::<_, Failure>(worker.serve(queue, stop).await)
    });
    runtimes.shut_down();
    match served? {
        Served { gave_up: Some(why), .. } => Err(Failure {
            exit: Exit::Host,
            error: format!("no connection to the server: {why}").into(),
            hint: Some("check LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET".into()),
        }),
        Served { cut_short: 0, .. } => Ok(Exit::Ok),
        Served { cut_short, .. } => {
            say(&format!("{} cut short", plural(cut_short, "job")));
            Ok(Exit::Interrupted)
        }
    }
}

/// SIGINT and SIGTERM, one as good as the other.
fn signals() -> Result<mpsc::Receiver<()>, Failure> {
    let (sender, stop) = mpsc::channel(2);
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    tokio::runtime::Handle::current().spawn(async move {
        loop {
            tokio::select! {
                _ = interrupts.recv() => {}
                _ = terminations.recv() => {}
            }
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(stop)
}
