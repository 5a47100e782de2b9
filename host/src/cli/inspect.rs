//! `wasm-worker inspect`: the facts of an agent, and what it is granted, without a run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytesize::ByteSize;
use clap::Args;
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use super::settings::SettingFlags;
use super::{Exit, Failure, logging, print};
use crate::app::open_cache;
use crate::config::Config;
use crate::grants::{Decision, decide, variable};
use crate::observers::{EventLines, publisher};
use wasm_worker_core::language::Language;
use wasm_worker_core::manifest::{Manifest, SecretWish};
use wasm_worker_core::text::{escaped_json, one_line, plural};
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::{Agent, Facts, source};
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::engine::EngineSettings;
use wasm_worker_sandbox::runtimes::Runtimes;
use wasm_worker_sandbox::settings::Limits;

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// A `.wasm` file, a `.wat` file, or the directory of an agent crate. cargo builds a directory, and runs its build scripts
    /// and macros: the code of a crate must be trusted
    #[arg(value_name = "AGENT")]
    agent: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Serialize)]
struct Report<'a> {
    agent: &'a str,
    #[serde(flatten)]
    facts: &'a Facts,
    /// Slots of the pool that each job takes, in a worker with these settings.
    slots: u32,
    /// The number of jobs for which that pool has slots.
    jobs_max: u32,
    limits: LimitsReport,
    granted: GrantsReport,
}

/// What the agent is granted by these settings.
#[derive(Serialize)]
struct GrantsReport {
    hosts: Vec<String>,
    settings: BTreeMap<String, String>,
    secrets: Vec<String>,
    /// What it asks for and is not granted, each with what grants it.
    not_granted: Vec<String>,
}

/// The limits, in plain numbers.
#[derive(Serialize)]
struct LimitsReport {
    init_timeout_ms: u128,
    unresponsive_warning_ms: u128,
    unresponsive_timeout_ms: u128,
    max_duration_ms: Option<u128>,
    fuel_limit: Option<u64>,
    memory_limit_bytes: usize,
    stack_limit_bytes: usize,
    hostcall_limit_bytes: usize,
    handle_limit: usize,
    inbox_limit: usize,
    log_rate: u32,
    shutdown_grace_ms: u128,
}

pub(crate) fn run(args: InspectArgs) -> Result<Exit, Failure> {
    let config = args.settings.load()?;
    let _log = logging::start(&config, LevelFilter::WARN);
    let source = source::read(&args.agent)?;
    let lines = EventLines::open_all(&config)?;
    let runtimes = Runtimes::start()?;
    let agent = runtimes.block_on(load(&runtimes, source, &config, &lines));
    let printed = agent.and_then(|agent| {
        let (facts, pool) = (agent.facts(), config.engine_settings(jobs(&config)));
        let slots = pool.slots_for(facts.memories, facts.tables);
        let own = config.of_agent(agent.name());
        let (limits, jobs_max) = (LimitsReport::of(&own.agent.limits), jobs(&config).min(pool.slots / slots));
        let granted = decide(agent.name(), &facts.manifest, &own.grants, args.agent.is_dir(), variable)?.into();
        let report = Report { agent: agent.name(), facts, slots, jobs_max, limits, granted };
        let text = if args.json {
            let json = serde_json::to_string_pretty(&report).map_err(std::io::Error::from)?;
            json.lines().map(|line| escaped_json(line.to_owned())).collect::<Vec<_>>().join("\n")
        } else {
            text(&report)
        };
        Ok(print(&text)?)
    });
    runtimes.shut_down();
    lines.close();
    printed.map(|()| Exit::Ok)
}

async fn load(
    runtimes: &Runtimes,
    source: source::Source,
    config: &Config,
    lines: &Arc<EventLines>,
) -> Result<Agent, Failure> {
    let own = &config.of_agent(&source.name).agent;
    let settings =
        EngineSettings { slots: 4, memory_bytes: own.limits.memory_bytes, stack_bytes: own.limits.stack_bytes };
    let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone())?;
    let events = publisher(lines, None);
    let cache = open_cache(config);
    Ok(Agent::load(&engine, source, own, cache.as_ref(), Some(&Compiler::own()), &events).await?)
}

impl From<Decision> for GrantsReport {
    fn from(decision: Decision) -> Self {
        let Decision { hosts, settings, secrets, lacks, .. } = decision;
        let hosts = hosts.iter().map(ToString::to_string).collect();
        Self {
            hosts,
            settings: settings.into_iter().collect(),
            secrets,
            not_granted: lacks.iter().map(ToString::to_string).collect(),
        }
    }
}

impl LimitsReport {
    fn of(limits: &Limits) -> Self {
        Self {
            init_timeout_ms: limits.init_timeout.as_millis(),
            unresponsive_warning_ms: limits.unresponsive_warning.as_millis(),
            unresponsive_timeout_ms: limits.unresponsive_timeout.as_millis(),
            max_duration_ms: limits.max_duration.map(|time| time.as_millis()),
            fuel_limit: limits.fuel,
            memory_limit_bytes: limits.memory_bytes,
            stack_limit_bytes: limits.stack_bytes,
            hostcall_limit_bytes: limits.hostcall_bytes,
            handle_limit: limits.handles,
            inbox_limit: limits.inbox_events,
            log_rate: limits.log_lines_per_second,
            shutdown_grace_ms: limits.shutdown_grace.as_millis(),
        }
    }
}

/// The number of jobs that a worker with these settings runs at once.
fn jobs(config: &Config) -> u32 {
    u32::try_from(config.max_jobs).unwrap_or(u32::MAX)
}

fn text(report: &Report<'_>) -> String {
    let facts = report.facts;
    let size = |bytes: u64| ByteSize::b(bytes).to_string();
    let mut lines = vec![format!("agent      {}", report.agent)];
    lines.push(format!("component  {}", size(facts.component_bytes as u64)));
    lines.push(format!("code       {} of machine code", size(facts.compiled_bytes as u64)));
    let memory = size(facts.memory_start_bytes);
    lines.push(format!("memory     {memory} at the start of each job, in {} mappings at most", facts.memory_mappings));
    let memories = if facts.memories == 1 { "1 memory".into() } else { format!("{} memories", facts.memories) };
    lines.push(format!(
        "pool       {memories} and {} in each job, so {} for each; {} at once by the pool",
        plural(facts.tables as usize, "table"),
        plural(report.slots as usize, "slot"),
        plural(report.jobs_max as usize, "job"),
    ));
    lines.push(match &facts.prewarm_why {
        None => format!("prewarm    snapshot of {}", size(facts.snapshot_bytes as u64)),
        Some(why) => format!("prewarm    pool; each job runs it in its own instance: {why}"),
    });
    lines.push(format!("           {} fuel, {} µs of CPU", facts.prewarm_fuel, facts.prewarm_cpu_us));
    lines.extend(facts.random_warning().map(|warning| format!("           warning: {warning}")));
    lines.push(format!("language   {}", facts.language.map_or("unknown", Language::as_str)));
    lines.push(format!("imports    {}", facts.imports.join("\n           ")));
    lines.push(format!("exports    {}", facts.exports.join("\n           ")));
    lines.extend(network(&facts.manifest, &report.granted));
    let limits = serde_json::to_value(&report.limits).unwrap_or_default();
    let limits: Vec<String> = limits
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name} {}", if value.is_null() { "none".into() } else { value.to_string() }))
        .collect();
    lines.push(format!("limits     {}", limits.join("\n           ")));
    lines.join("\n")
}

/// What the agent asks for, and what it is granted.
fn network(asked: &Manifest, granted: &GrantsReport) -> Vec<String> {
    let host = |host: &String| format!("host `{host}`");
    let secret = |(name, wish): (&String, &SecretWish)| {
        let place = match (&wish.header, &wish.query) {
            (Some(header), _) => format!("the header `{header}`"),
            (None, query) => format!("the query value `{}`", query.as_deref().unwrap_or_default()),
        };
        format!("secret `{name}` as {place} for `{}`", wish.host)
    };
    let asks = asked.hosts.iter().map(host);
    let asks = asks.chain(asked.settings.iter().map(|(name, value)| format!("setting `{name}`, default `{value}`")));
    let asks = asks.chain(asked.secrets.iter().map(secret)).collect();
    let gets = granted.hosts.iter().map(host);
    let gets = gets.chain(granted.settings.iter().map(|(name, value)| format!("setting `{name}` = `{value}`")));
    let gets = gets.chain(granted.secrets.iter().map(|name| format!("secret `{name}`")));
    let lacks = granted.not_granted.iter().map(|lack| format!("not granted: {lack}"));
    let block = |name: &str, parts: Vec<String>| {
        let parts: Vec<_> = parts.iter().map(|part| one_line(part)).collect();
        let parts =
            if parts.is_empty() { "no host, setting or secret".to_owned() } else { parts.join("\n           ") };
        format!("{name:<11}{parts}")
    };
    vec![block("asked", asks), block("granted", gets.chain(lacks).collect())]
}
