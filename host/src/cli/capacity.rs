//! `wasm-worker capacity`: how many jobs of an agent a machine takes, and what binds it; `--verify` runs that many here.
//!
//! Sample jobs are run in rounds, each with as many at once as the round before it says fit here, because a job costs less
//! among others than alone. What a job takes is the whole process's CPU time and memory by the number of its jobs, so the
//! host's own work is in it. Other machines are reckoned by their cores and memory; a core of theirs may be another.
//!
//! Bound: [`ROUNDS`] rounds of `--time`, and for `--verify` twice that and a few seconds.

mod verify;

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use tokio::time::MissedTickBehavior;
use tracing::level_filters::LevelFilter;

use super::job_spec::JobFlags;
use super::lanes::{self, Lanes, Line};
use super::settings::SettingFlags;
use super::summary::percentile;
use super::{Exit, Failure, logging, open_cache, print};
use crate::load::capacity::{Bottleneck, Fit, Machine, Need};
use crate::load::cpu::CpuMonitor;
use crate::load::memory::MemoryMonitor;
use crate::observers::{EventLines, publisher};
use verify::Verification;
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::verdict::Class;
use wasm_worker_sandbox::agent::compile::Compiler;
use wasm_worker_sandbox::agent::{Agent, source};
use wasm_worker_sandbox::engine::mappings::{MAPPINGS_MAX, instances_that_fit};
use wasm_worker_sandbox::engine::{Engine, EngineSettings};
use wasm_worker_sandbox::job::offer::Offer;
use wasm_worker_sandbox::runtimes::Runtimes;

const ROUNDS: usize = 3;
/// Cores of the table, each with four times as many GiB of memory.
const SIZES: [u32; 6] = [1, 2, 4, 8, 16, 32];
const GIB_PER_CORE: u32 = 4;

#[derive(Args)]
pub(crate) struct CapacityArgs {
    /// A `.wasm` file, a `.wat` file, or the directory of an agent crate
    #[arg(value_name = "AGENT")]
    agent: PathBuf,
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    job: JobFlags,
    #[command(flatten)]
    settings: SettingFlags,
}

/// What is measured, and reckoned from it.
#[derive(Args)]
struct Asked {
    /// Memory of the machine [default: this one's]
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// How long to measure, in each round
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = lanes::time)]
    time: Duration,
    /// Run as many here as are said to fit here, and compare
    #[arg(long)]
    verify: bool,
}

/// What of a job is kept.
struct Sampled {
    wall_us: u64,
    wait_us: u64,
    fuel: u64,
    class: Class,
}

/// One round.
struct Round {
    took: Duration,
    jobs: Vec<Sampled>,
    /// Jobs that had not ended when the time was up.
    cut: usize,
    cpu: Duration,
    /// Resident memory that came with the jobs, at most.
    memory_bytes: f64,
    at_once: u32,
}

pub(crate) fn run(args: CapacityArgs) -> Result<Exit, Failure> {
    let CapacityArgs { agent, asked, job, settings } = args;
    let config = settings.load()?;
    let spec = job.into_spec()?;
    let log = logging::start(&config, LevelFilter::ERROR);
    let source = source::read(&agent)?;
    let runtimes = Runtimes::start()?;
    let measured = runtimes.block_on(async {
        let instances = instances_that_fit(MAPPINGS_MAX);
        let engine = Engine::new(
            EngineSettings { slots: instances, ..config.engine_settings(1) },
            runtimes.guests().clone(),
            runtimes.control().clone(),
        )?;
        let events = publisher(&EventLines::open(&config.events)?, None);
        let cache = open_cache(&config);
        let agent =
            Agent::load(&engine, source, &config.agent, cache.as_ref(), Some(&Compiler::own()), &events).await?;
        let offer = spec.into_offers(agent.name());
        let worker = Verification { agent: &agent, engine: &engine, events: &events, config: &config, offer };
        measure(&worker, &asked, instances).await
    });
    runtimes.shut_down();
    drop(log);
    measured
}

async fn measure(worker: &Verification<'_, impl Fn() -> Offer>, args: &Asked, instances: u32) -> Result<Exit, Failure> {
    let Verification { agent, events, config, offer, .. } = worker;
    let line = Line { agent, events, offer };
    let idle_bytes = resident_bytes();
    let threshold = config.load_threshold.unwrap_or(1.0);
    let here_cores = CpuMonitor::new(None).cores();
    #[expect(clippy::cast_precision_loss, reason = "a share of it")]
    let here_memory = MemoryMonitor::new().sample().limit_bytes as f64;
    // Beside the jobs there is the one that is being offered.
    let here = Machine { cores: here_cores, memory_bytes: here_memory, instances: instances.saturating_sub(4) };
    let mut round = sample(&line, 2, args.time, idle_bytes).await?;
    for _ in 1..ROUNDS {
        let at_once = round.need()?.fit(here, threshold).at_once;
        round = sample(&line, at_once, args.time, idle_bytes).await?;
    }
    let need = round.need()?;
    print(&round.text(agent.name(), &need))?;

    #[expect(clippy::cast_precision_loss, reason = "a share of it")]
    let memory = args.memory.map_or(here_memory, |size| size.as_u64() as f64);
    let instances = instances_that_fit(agent.facts().memory_mappings);
    let asked = Machine { cores: config.cores.unwrap_or(here_cores), memory_bytes: memory, instances };
    print(&format!("\nbelow a load of {threshold}:\n{HEADER}"))?;
    for cores in SIZES {
        let machine = Machine { cores: cores.into(), memory_bytes: gib(cores * GIB_PER_CORE), instances };
        print(&row(machine, need.fit(machine, threshold)))?;
    }
    let fit = need.fit(asked, threshold);
    print(&format!(
        "\na machine of {} cores and {} takes {} jobs at once, {:.0} an hour; what binds it: {}",
        asked.cores,
        size(asked.memory_bytes),
        fit.at_once,
        fit.per_hour,
        fit.bottleneck.as_str()
    ))?;
    if fit.bottleneck == Bottleneck::Mappings {
        print(
            "hint: more processes (`--workers`) have more, and `sysctl -w vm.max_map_count` raises the limit of each",
        )?;
    }
    if fit.at_once as usize > config.max_jobs {
        print(&format!(
            "hint: a worker takes {} at once unless it is told to take more: `--max-jobs {}`",
            config.max_jobs, fit.at_once
        ))?;
    }
    if args.verify {
        // As many as a worker takes.
        let most = u32::try_from(config.max_jobs).unwrap_or(u32::MAX);
        let here = Machine { instances: here.instances.min(most), ..here };
        print(&worker.run(here, need.fit(here, threshold), args.time * 2).await?)?;
    }
    Ok(round.jobs.iter().map(|job| job.class).max().unwrap_or(Class::Ok).into())
}

/// `idle_bytes` is what was resident before any job ran: what a slot of the pool keeps for its next job was some job's too.
async fn sample(
    line: &Line<'_, impl Fn() -> Offer>,
    at_once: u32,
    time: Duration,
    idle_bytes: u64,
) -> Result<Round, Failure> {
    let cpu = process_cpu();
    let mut highest = idle_bytes;
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let jobs = line.run(at_once, time, |JobRecord { usage, verdict, .. }| Sampled {
        wall_us: usage.wall_us,
        wait_us: usage.wait_us,
        fuel: usage.fuel,
        class: verdict.code.class(),
    });
    let mut jobs = std::pin::pin!(jobs);
    let Lanes { took, jobs, cut } = loop {
        tokio::select! {
            done = &mut jobs => break done?,
            _ = looks.tick() => highest = highest.max(resident_bytes()),
        }
    };
    let cpu = process_cpu().saturating_sub(cpu);
    #[expect(clippy::cast_precision_loss, reason = "an average")]
    let memory_bytes = highest.saturating_sub(idle_bytes) as f64;
    Ok(Round { took, jobs, cut, cpu, memory_bytes, at_once })
}

impl Round {
    /// Of one job.
    fn need(&self) -> Result<Need, Failure> {
        let count = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Err(Failure {
                exit: Exit::Host,
                error: "no job ended".into(),
                hint: Some("measure longer: --time".into()),
            });
        }
        // The lanes are never empty, so a job takes its share of their time.
        Ok(Need {
            cpu: self.cpu / count,
            wall: self.took * self.at_once / count,
            memory_bytes: self.memory_bytes / f64::from(self.at_once),
        })
    }

    fn sorted(&self, of: impl Fn(&Sampled) -> Option<u64>) -> Vec<u64> {
        let mut values: Vec<u64> = self.jobs.iter().filter_map(of).collect();
        values.sort_unstable();
        values
    }

    fn text(&self, agent: &str, need: &Need) -> String {
        let fuel = percentile(&self.sorted(|job| Some(job.fuel)), 50);
        let (waited, wall) = self.jobs.iter().fold((0, 0), |sum, job| (sum.0 + job.wait_us, sum.1 + job.wall_us));
        let failed = self.jobs.iter().filter(|job| job.class != Class::Ok).count();
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let waits = 100.0 * waited as f64 / wall.max(1) as f64;
        format!(
            "agent `{agent}`, {} jobs with {} at once, {failed} of them did not end well\n  fuel     {fuel} a job\n  CPU      {:?} a job\n  wall     {:?} a job, {waits:.0} % of it waiting\n  memory   {} a job",
            self.jobs.len(),
            self.at_once,
            need.cpu,
            need.wall,
            size(need.memory_bytes)
        ) + &self.cut_text()
    }

    /// Jobs that outlast the measurement are taken for shorter than they are.
    fn cut_text(&self) -> String {
        match self.cut {
            // The last of each lane is cut now and then.
            cut if cut * 10 <= self.jobs.len() => String::new(),
            cut => format!(
                "\nhint: {cut} of them had not ended when the time was up, and were asked to stop: a job lasts longer than that, so an hour sees fewer; measure longer with --time"
            ),
        }
    }
}

const HEADER: &str = "   cores    memory   at once      an hour    CPU  memory  what binds it";

fn row(machine: Machine, fit: Fit) -> String {
    let Fit { at_once, per_hour, bottleneck, cpu, memory } = fit;
    format!(
        "{:>8} {:>9} {at_once:>9} {per_hour:>12.0} {:>4.0} % {:>4.0} %  {}",
        machine.cores,
        size(machine.memory_bytes),
        cpu * 100.0,
        memory * 100.0,
        bottleneck.as_str()
    )
}

fn gib(count: u32) -> f64 {
    f64::from(count) * f64::from(1_u32 << 30)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "for people")]
fn size(bytes: f64) -> String {
    ByteSize::b(bytes as u64).to_string()
}

fn process_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Anonymous pages: those of the snapshots are shared by all jobs.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes << 10)
}
