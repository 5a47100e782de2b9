//! `wasm-worker capacity`: the number of jobs of an agent that a machine runs at once, and the bottleneck; `--verify` runs that
//! many here.
//!
//! Sample jobs run in rounds. Each round runs as many jobs at once as fit here by the figures of the round before, because a
//! job costs less among others than alone. The cost of a job is the CPU time and memory of the whole process divided by its
//! jobs, so it includes the host's own work. Figures for other machines are extrapolated by cores and memory, and assume cores
//! of the same speed.
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
use super::load_generator::{self, ClosedLoop, Measured};
use super::settings::SettingFlags;
use super::summary::percentile;
use super::{Exit, Failure, logging, print};
use crate::app::open_cache;
use crate::load::capacity::{Bottleneck, Fit, Machine, Need};
use crate::load::cpu::CpuMonitor;
use crate::load::descriptors::{DESCRIPTORS_OF_ROOM, rooms_that_fit};
use crate::load::memory::MemoryMonitor;
use crate::load::recent_jobs::BYTES_OF_ROOM;
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
/// The cores of the machines in the table.
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

/// The measurement, and the machine that it is extrapolated to.
#[derive(Args)]
struct Asked {
    /// Memory of the machine [default: that of this machine]
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// Duration of each of the three rounds of the measurement
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = load_generator::time)]
    time: Duration,
    /// Run the computed number of jobs on this machine, and compare
    #[arg(long)]
    verify: bool,
}

/// The figures of a job that are kept.
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
    /// The number of jobs that the end of the round cut short.
    cut: usize,
    cpu: Duration,
    /// Peak of the resident memory that the jobs added.
    memory_bytes: f64,
    at_once: u32,
}

pub(crate) fn run(args: CapacityArgs) -> Result<Exit, Failure> {
    let CapacityArgs { agent, asked, job, settings } = args;
    let config = settings.load()?;
    let spec = job.into_spec()?;
    let log = logging::start(&config, LevelFilter::ERROR);
    let source = source::read(&agent)?;
    let lines = EventLines::open_all(&config)?;
    let runtimes = Runtimes::start()?;
    let measured = runtimes.block_on(async {
        let instances = instances_that_fit(MAPPINGS_MAX);
        let engine = Engine::new(
            EngineSettings { slots: instances, ..config.engine_settings(1) },
            runtimes.guests().clone(),
            runtimes.control().clone(),
        )?;
        let events = publisher(&lines, None);
        let cache = open_cache(&config);
        let agent =
            Agent::load(&engine, source, &config.agent, cache.as_ref(), Some(&Compiler::own()), &events).await?;
        let offer = spec.into_offers(agent.name());
        let worker = Verification { agent: &agent, engine: &engine, events: &events, config: &config, offer };
        measure(&worker, &asked, instances).await
    });
    runtimes.shut_down();
    lines.close();
    drop(log);
    measured
}

async fn measure(worker: &Verification<'_, impl Fn() -> Offer>, args: &Asked, instances: u32) -> Result<Exit, Failure> {
    let Verification { agent, events, config, offer, .. } = worker;
    let jobs = ClosedLoop { agent, events, offer };
    let idle_bytes = resident_bytes();
    let threshold = config.load_threshold.unwrap_or(1.0);
    let here_cores = CpuMonitor::new(None).cores();
    #[expect(clippy::cast_precision_loss, reason = "a share of it")]
    let here_memory = MemoryMonitor::new().sample().limit_bytes as f64;
    // Offers that are not decided take instances too.
    let rooms = rooms_that_fit();
    // The jobs of the measurement join no room.
    let here = Machine {
        cores: here_cores,
        memory_bytes: here_memory,
        instances: instances.saturating_sub(4),
        rooms: u32::MAX,
    };
    let mut round = sample(&jobs, 2, args.time, idle_bytes).await?;
    for _ in 1..ROUNDS {
        let at_once = round.need()?.fit(here, threshold).at_once;
        round = sample(&jobs, at_once, args.time, idle_bytes).await?;
    }
    let need = round.need()?;
    print(&round.text(agent.name(), &need))?;
    let in_room = need.in_room();

    #[expect(clippy::cast_precision_loss, reason = "a share of it")]
    let memory = args.memory.map_or(here_memory, |size| size.as_u64() as f64);
    let instances = instances_that_fit(agent.facts().memory_mappings);
    let asked = Machine { cores: config.cores.unwrap_or(here_cores), memory_bytes: memory, instances, rooms };
    print(&format!(
        "\nat a load of at most {threshold}, each job in a room, which takes about {} and {DESCRIPTORS_OF_ROOM} descriptors more:\n{HEADER}",
        size(BYTES_OF_ROOM)
    ))?;
    for cores in SIZES {
        let machine = Machine { cores: cores.into(), memory_bytes: gib(cores * GIB_PER_CORE), instances, rooms };
        print(&row(machine, in_room.fit(machine, threshold)))?;
    }
    let fit = in_room.fit(asked, threshold);
    print(&format!(
        "\na machine with {} cores and {} runs {} jobs at once, {:.0} an hour; bottleneck: {}",
        asked.cores,
        size(asked.memory_bytes),
        fit.at_once,
        fit.per_hour,
        fit.bottleneck.as_str()
    ))?;
    if fit.bottleneck == Bottleneck::Mappings {
        print(
            "hint: start several processes (`--workers`), or raise the limit of each with `sysctl -w vm.max_map_count`",
        )?;
    }
    if fit.bottleneck == Bottleneck::Descriptors {
        print("hint: start several processes (`--workers`), or raise the limit of each with `ulimit -n`")?;
    }
    if fit.at_once as usize > config.max_jobs {
        print(&format!(
            "hint: a worker runs at most {} jobs at once by default; raise that with `--max-jobs {}`",
            config.max_jobs, fit.at_once
        ))?;
    }
    if args.verify {
        // A worker takes no more than `max-jobs`.
        let most = u32::try_from(config.max_jobs).unwrap_or(u32::MAX);
        let here = Machine { instances: here.instances.min(most), ..here };
        print(&worker.run(here, need.fit(here, threshold), args.time * 2).await?)?;
    }
    Ok(round.jobs.iter().map(|job| job.class).max().unwrap_or(Class::Ok).into())
}

/// Run one round. `idle_bytes` is the resident memory before the first job, because memory that a slot of the pool keeps for its
/// next job counts too.
async fn sample(
    jobs: &ClosedLoop<'_, impl Fn() -> Offer>,
    at_once: u32,
    time: Duration,
    idle_bytes: u64,
) -> Result<Round, Failure> {
    let cpu = process_cpu();
    let mut highest = idle_bytes;
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let jobs = jobs.run(at_once, time, |JobRecord { usage, verdict, .. }| Sampled {
        wall_us: usage.wall_us,
        wait_us: usage.wait_us,
        fuel: usage.fuel,
        class: verdict.code.class(),
    });
    let mut jobs = std::pin::pin!(jobs);
    let Measured { took, jobs, cut } = loop {
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
    /// The need of one job.
    fn need(&self) -> Result<Need, Failure> {
        let count = u32::try_from(self.jobs.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Err(Failure {
                exit: Exit::Host,
                error: "no job ended".into(),
                hint: Some("measure longer: --time".into()),
            });
        }
        // Every loop always has a job, so each job took its share of their time.
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
            "agent `{agent}`, {} jobs, {} at once, {failed} did not end well; each took\n  fuel     {fuel}\n  CPU      {:?}\n  wall     {:?}, {waits:.0} % of it waiting\n  memory   {}",
            self.jobs.len(),
            self.at_once,
            need.cpu,
            need.wall,
            size(need.memory_bytes)
        ) + &self.cut_text()
    }

    /// A hint for jobs that are longer than the round, which makes them look shorter than they are.
    fn cut_text(&self) -> String {
        match self.cut {
            // The last job of a loop is often cut.
            cut if cut * 10 <= self.jobs.len() => String::new(),
            cut => format!(
                "\nhint: the end of the round cut {cut} jobs short, so a job takes longer than measured and an hour sees fewer; measure longer with --time"
            ),
        }
    }
}

const HEADER: &str = "   cores    memory   at once      an hour    CPU  memory  bottleneck";

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

/// Resident anonymous memory. All jobs share the pages of the snapshots, which are not anonymous.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes << 10)
}
