//! `wasm-worker prepare`: fills the cache of compiled agents and exits. The image of a container then has machine code, and its
//! worker starts at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use clap::Args;
use tokio::time::Instant;
use tracing::level_filters::LevelFilter;
use wasm_worker_core::text::with_causes;

use super::settings::SettingFlags;
use super::{Exit, Failure, logging, print, report};
use crate::config::Config;
use crate::observers::{EventLines, publisher};
use wasm_worker_core::observer::Events;
use wasm_worker_sandbox::agent::artifact::{Cache, Entry, key};
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::{Agent, source};
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::runtimes::Runtimes;

#[derive(Args)]
pub(crate) struct PrepareArgs {
    /// `.wasm` files, `.wat` files, or directories of agent crates. cargo builds a directory, and runs its build scripts and
    /// macros: the code of a crate must be trusted
    #[arg(value_name = "AGENT", required = true)]
    agents: Vec<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags,
}

/// Prints a line for each agent. An agent that cannot be prepared does not keep the others from it.
pub(crate) fn run(args: PrepareArgs) -> Result<Exit, Failure> {
    let config = args.settings.load()?;
    let log = logging::start(&config, LevelFilter::WARN);
    let cache = Cache::open(&config.cache_dir).map_err(|error| Failure {
        exit: Exit::Host,
        error: with_causes(&error).into(),
        hint: Some("--cache-dir names the directory that the worker will use".into()),
    })?;
    let lines = EventLines::open_all(&config)?;
    let runtimes = Runtimes::start()?;
    let prepared = prepare_all(&runtimes, &args.agents, &config, &cache, &lines);
    runtimes.shut_down();
    lines.close();
    drop(log);
    prepared
}

fn prepare_all(
    runtimes: &Runtimes,
    agents: &[PathBuf],
    config: &Config,
    cache: &Cache,
    lines: &Arc<EventLines>,
) -> Result<Exit, Failure> {
    let engine = Engine::new(config.engine_settings(1), runtimes.guests().clone(), runtimes.control().clone())?;
    let preparation = Preparation { engine, config, cache, events: publisher(lines, None) };
    let mut exit = Exit::Ok;
    for agent in agents {
        match runtimes.block_on(preparation.prepare(agent)) {
            Ok(line) => print(&line)?,
            Err(failure) => {
                report(&failure);
                exit = if exit == Exit::Ok { failure.exit } else { exit };
            }
        }
    }
    Ok(exit)
}

/// What the preparation of each agent needs.
struct Preparation<'a> {
    engine: Engine,
    config: &'a Config,
    cache: &'a Cache,
    events: Arc<Events>,
}

impl Preparation<'_> {
    /// Load an agent with the cache, and say what the cache has of it.
    async fn prepare(&self, path: &Path) -> Result<String, Failure> {
        let source = source::read(path)?;
        let settings = &self.config.of_agent(&source.name).agent;
        let key = key(&self.engine, &source.bytes, settings.prewarm);
        let began = Instant::now();
        let agent =
            Agent::load(&self.engine, source, settings, Some(self.cache), Some(&Compiler::own()), &self.events).await?;
        let took = began.elapsed();
        let Some(Entry { name, bytes }) = self.cache.entry(&key) else {
            let error = format!("agent `{}` was compiled, and is not in the cache", agent.name()).into();
            return Err(Failure { exit: Exit::Host, error, hint: Some("the log has the reason".into()) });
        };
        let how = if agent.is_from_cache() { "cached" } else { "compiled" };
        Ok(format!("{}  {name}  {took:.1?}  {}  {how}", agent.name(), ByteSize::b(bytes)))
    }
}
