//! `wasm-worker bench`: the cost of an agent's jobs on this machine, from which limits can be chosen.
//!
//! Bound: each row takes `--time`. Jobs that still run then are asked to stop, within their grace.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use tracing::level_filters::LevelFilter;

use super::job_spec::JobFlags;
use super::load_generator::{self, ClosedLoop, Measured};
use super::settings::SettingFlags;
use super::summary::percentile;
use super::{Exit, Failure, logging, print};
use crate::app::open_cache;
use crate::observers::{EventLines, publisher};
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::verdict::Class;
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::{Agent, source};
use wasm_worker_sandbox::engine::Engine;
use wasm_worker_sandbox::job::offer::Offer;
use wasm_worker_sandbox::runtimes::Runtimes;

/// The numbers of jobs at once, one row each.
const CONCURRENCIES: [u32; 4] = [1, 2, 8, 64];

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// A `.wasm` file, a `.wat` file, or the directory of an agent crate
    #[arg(value_name = "AGENT")]
    agent: PathBuf,
    /// Duration of the measurement of each row
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = load_generator::time)]
    time: Duration,
    #[command(flatten)]
    job: JobFlags,
    #[command(flatten)]
    settings: SettingFlags,
}

pub(crate) fn run(args: BenchArgs) -> Result<Exit, Failure> {
    let config = args.settings.load()?;
    let log = logging::start(&config, LevelFilter::ERROR);
    let spec = args.job.into_spec()?;
    let source = source::read(&args.agent)?;
    let lines = EventLines::open_all(&config)?;
    let runtimes = Runtimes::start()?;
    let settings = config.engine_settings(CONCURRENCIES.into_iter().max().unwrap_or(1));
    let measured = runtimes.block_on(async {
        let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone())?;
        let events = publisher(&lines, None);
        let agent =
            Agent::load(&engine, source, &config.agent, open_cache(&config).as_ref(), Some(&Compiler::own()), &events)
                .await?;
        print(&format!("agent `{}`, prewarm by {}", agent.name(), agent.facts().prewarm.as_str()))?;
        print(HEADER)?;
        let mut worst = Class::Ok;
        let jobs = ClosedLoop { agent: &agent, events: &events, offer: spec.into_offers(agent.name()) };
        for at_once in CONCURRENCIES {
            let row = measure(&jobs, at_once, args.time).await?;
            worst = worst.max(row.worst);
            print(&row.text())?;
        }
        Ok::<_, Failure>(worst)
    });
    runtimes.shut_down();
    lines.close();
    drop(log);
    Ok(measured?.into())
}

const HEADER: &str =
    " at once     jobs  jobs/s  start p50      p99   job p50      p99   CPU p50      fuel p50    memory  not ok";

/// The jobs of one row; times in microseconds.
struct Row {
    at_once: u32,
    took: Duration,
    start: Vec<u64>,
    wall: Vec<u64>,
    cpu: Vec<u64>,
    fuel: Vec<u64>,
    memory_bytes: usize,
    not_ok: usize,
    worst: Class,
}

async fn measure(jobs: &ClosedLoop<'_, impl Fn() -> Offer>, at_once: u32, time: Duration) -> Result<Row, Failure> {
    let Measured { took, jobs: closed, .. } = jobs.run(at_once, time, |closed| closed).await?;
    let sorted = |of: fn(&JobRecord) -> Option<u64>| {
        let mut values: Vec<u64> = closed.iter().filter_map(of).collect();
        values.sort_unstable();
        values
    };
    let class = |closed: &JobRecord| closed.verdict.code.class();
    Ok(Row {
        at_once,
        took,
        start: sorted(|closed| closed.usage.start_us),
        wall: sorted(|closed| Some(closed.usage.wall_us)),
        cpu: sorted(|closed| Some(closed.usage.cpu_us)),
        fuel: sorted(|closed| Some(closed.usage.fuel)),
        memory_bytes: closed.iter().map(|closed| closed.usage.memory_peak_bytes).max().unwrap_or(0),
        not_ok: closed.iter().filter(|closed| class(closed) != Class::Ok).count(),
        worst: closed.iter().map(class).max().unwrap_or(Class::Ok),
    })
}

impl Row {
    fn text(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = self.wall.len() as f64 / self.took.as_secs_f64();
        format!(
            "{:>8} {:>8} {rate:>7.0} {:>10} {:>8} {:>9} {:>8} {:>9} {:>13} {:>9} {:>7}",
            self.at_once,
            self.wall.len(),
            micros(&self.start, 50),
            micros(&self.start, 99),
            micros(&self.wall, 50),
            micros(&self.wall, 99),
            micros(&self.cpu, 50),
            percentile(&self.fuel, 50),
            ByteSize::b(self.memory_bytes as u64).to_string(),
            self.not_ok,
        )
    }
}

/// In a unit that keeps about three figures.
fn micros(sorted: &[u64], percent: usize) -> String {
    match percentile(sorted, percent) {
        micros @ 0..10_000 => format!("{micros}µs"),
        micros => format!("{}ms", micros / 1_000),
    }
}
