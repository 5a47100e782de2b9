//! `wasm-worker bench`: what one's own agent costs, measured here, so that limits can be chosen.
//!
//! Bound: each row takes `--time`, and what still runs then is asked to stop, within its grace.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};
use tracing::level_filters::LevelFilter;

use super::settings::SettingFlags;
use super::summary::{exit_of, percentile};
use super::{Exit, Failure, compiler, logging, open_cache, print};
use crate::agent::{Agent, source};
use crate::engine::{Engine, EngineSettings};
use crate::events::Events;
use crate::hostcalls::control::StopBy;
use crate::job::spec::JobSpec;
use crate::job::teardown::Closed;
use crate::job::verdict::Class;
use crate::runtimes::Runtimes;

/// Jobs at once, one row each.
const CONCURRENCIES: [u32; 4] = [1, 2, 8, 64];

#[derive(Args)]
pub(crate) struct BenchArgs {
    /// A `.wasm` file, a `.wat` file, or the directory of an agent crate
    #[arg(value_name = "AGENT")]
    agent: PathBuf,
    /// How long to measure, for each number of jobs at once
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
    time: Duration,
    #[command(flatten)]
    settings: SettingFlags,
}

fn time(text: &str) -> Result<Duration, String> {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    let time = parsed.and_then(|time| Duration::try_from(time).ok());
    let within = time.filter(|time| (Duration::from_millis(10)..=Duration::from_secs(600)).contains(time));
    within.ok_or_else(|| "want 10ms to 10m, such as 3s".into())
}

pub(crate) fn run(args: BenchArgs) -> Result<Exit, Failure> {
    let config = args.settings.load()?;
    let log = logging::start(&config, LevelFilter::ERROR);
    let source = source::read(&args.agent)?;
    let runtimes = Runtimes::start()?;
    let settings = EngineSettings::for_jobs(CONCURRENCIES.into_iter().max().unwrap_or(1), &config);
    let measured = runtimes.block_on(async {
        let engine = Engine::new(settings, runtimes.guests().clone(), runtimes.control().clone())?;
        let events = Arc::new(Events::open(&config.events)?);
        let agent =
            Agent::load(&engine, source, &config, open_cache(&config).as_ref(), Some(&compiler()), &events).await?;
        print(&format!("agent `{}`, prewarm by {}", agent.name(), agent.facts().prewarm.as_str()))?;
        print(HEADER)?;
        let mut worst = Class::Ok;
        for at_once in CONCURRENCIES {
            let row = measure(&agent, &events, at_once, args.time).await?;
            worst = worst.max(row.worst);
            print(&row.text())?;
        }
        Ok::<_, Failure>(worst)
    });
    runtimes.shut_down();
    drop(log);
    Ok(measured?.into())
}

const HEADER: &str =
    " at once     jobs  jobs/s  start p50      p99   job p50      p99   CPU p50      fuel p50    memory  not ok";

/// What the jobs of one row came to; times in microseconds.
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

async fn measure(agent: &Agent, events: &Arc<Events>, at_once: u32, time: Duration) -> Result<Row, Failure> {
    let began = Instant::now();
    let until = began + time;
    let lanes = join_all((0..at_once).map(|_| lane(agent, events, until))).await;
    let took = began.elapsed();
    let closed: Vec<Closed> = lanes.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    let sorted = |of: fn(&Closed) -> Option<u64>| {
        let mut values: Vec<u64> = closed.iter().filter_map(of).collect();
        values.sort_unstable();
        values
    };
    let class = |closed: &Closed| closed.verdict.code.class();
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

/// One job after another, until the time is up.
async fn lane(agent: &Agent, events: &Arc<Events>, until: Instant) -> Result<Vec<Closed>, Failure> {
    let offer = JobSpec::default().into_offers(agent.name());
    let mut all = Vec::new();
    while Instant::now() < until {
        let running = agent.offer(offer(), events).await.map_err(|refusal| Failure {
            exit: exit_of(&refusal),
            error: format!("the agent refused the offer: {}: {}", refusal.reason, refusal.detail).into(),
            hint: None,
        })?;
        let handle = running.handle();
        let mut closed = std::pin::pin!(running.closed());
        let ended = tokio::select! {
            biased;
            ended = &mut closed => ended,
            () = sleep_until(until) => {
                handle.stop(StopBy::Drain, "the time of the measurement is up");
                closed.await
            }
        };
        all.push(ended.ok_or_else(|| Failure {
            exit: Exit::Host,
            error: "the runtime of the guests is gone".into(),
            hint: None,
        })?);
    }
    Ok(all)
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

/// In a unit that keeps three figures or so.
fn micros(sorted: &[u64], percent: usize) -> String {
    match percentile(sorted, percent) {
        micros @ 0..10_000 => format!("{micros}µs"),
        micros => format!("{}ms", micros / 1_000),
    }
}
