//! `wasm-worker job`: one dispatch, its attempts, and how it ended.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::client::{ClientFlags, escaped};
use super::{Exit, Failure, print};
use wasm_worker_core::verdict::Code;

#[derive(Args)]
pub(crate) struct JobArgs {
    /// Dispatch or job
    #[arg(value_name = "ID")]
    id: String,
    /// Print JSON, with metadata and usage
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientFlags,
}

/// Of a dispatcher's page, what is printed.
#[derive(Deserialize)]
pub(crate) struct Job {
    pub(crate) state: String,
    pub(crate) dispatch: String,
    pub(crate) job: String,
    pub(crate) agent: String,
    pub(crate) room: String,
    pub(crate) attempt: u32,
    pub(crate) created_ns: i64,
    pub(crate) assigned_ns: Option<i64>,
    started_ns: Option<i64>,
    ended_ns: Option<i64>,
    pub(crate) worker: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) waiting: Option<Waiting>,
    #[serde(default)]
    attempts: Vec<Attempt>,
}

#[derive(Deserialize)]
pub(crate) struct Waiting {
    position: usize,
    of: usize,
    why: String,
}

#[derive(Deserialize)]
struct Attempt {
    job: String,
    attempt: u32,
    worker: String,
    code: Option<String>,
    detail: Option<String>,
    usage: Option<Usage>,
}

/// Of a worker's usage record.
#[derive(Deserialize)]
struct Usage {
    fuel: u64,
    start_us: Option<u64>,
    wall_us: u64,
    cpu_us: u64,
    memory_peak_bytes: u64,
}

pub(crate) fn run(args: JobArgs) -> Result<Exit, Failure> {
    let page = args.client.client()?.page(&format!("/jobs/{}", escaped(&args.id)))?;
    print(&if args.json { page.to_string() } else { text(&Job::read(&page)?) })?;
    Ok(Exit::Ok)
}

/// The exit status for a job that is over.
pub(crate) fn exit_of(job: &Job) -> Exit {
    job.code.as_deref().and_then(Code::named).map_or(Exit::Host, |code| code.class().into())
}

impl Job {
    pub(crate) fn read(page: &Value) -> Result<Self, Failure> {
        serde_json::from_value(page.clone()).map_err(|error| Failure {
            exit: Exit::Host,
            error: format!("the dispatcher is of another version: {error}").into(),
            hint: None,
        })
    }

    /// Where it is, in a line.
    pub(crate) fn news(&self) -> String {
        let worker = self.worker.as_deref().unwrap_or("?");
        match (self.state.as_str(), &self.waiting) {
            ("pending", Some(Waiting { position, of, why })) if *position > 0 => {
                format!("pending: {position} of {of}; {why}")
            }
            ("pending", Some(Waiting { why, .. })) => format!("pending: {why}"),
            ("assigned" | "running", _) => format!("{}: worker {worker}, attempt {}", self.state, self.attempt),
            ("ended", _) => self.verdict(),
            (state, _) => state.to_owned(),
        }
    }

    /// Whether it ended well, or not, or has not ended.
    pub(crate) fn mark(&self) -> &'static str {
        match self.state.as_str() {
            "ended" if exit_of(self) == Exit::Ok => "✔",
            "ended" => "✘",
            _ => "·",
        }
    }

    /// Its code, and what there is to say about it.
    pub(crate) fn verdict(&self) -> String {
        let code = self.code.as_deref().unwrap_or("?");
        let detail = self.detail.as_deref().filter(|detail| !detail.is_empty());
        let detail = detail.or_else(|| Code::named(code).map(Code::meaning)).unwrap_or_default();
        format!("{code}: {detail}")
    }
}

/// All of it, for people.
pub(crate) fn text(job: &Job) -> String {
    let mut lines = vec![
        format!("{} {}", job.mark(), job.news()),
        format!("  dispatch {} to agent `{}`, room `{}`", job.dispatch, job.agent, job.room),
    ];
    for Attempt { job, attempt, worker, code, detail, usage } in &job.attempts {
        let end = code.as_deref().map(|code| format!(": {code} {}", detail.as_deref().unwrap_or_default()));
        lines.push(format!("  attempt  {attempt}, job {job}, worker {worker}{}", end.unwrap_or_default().trim_end()));
        lines.extend(usage.as_ref().map(Usage::text));
    }
    let span =
        |from: i64, to: Option<i64>| Duration::from_nanos(to.and_then(|to| u64::try_from(to - from).ok()).unwrap_or(0));
    let at = Timestamp::from_nanosecond(job.created_ns.into()).unwrap_or_default();
    let waited = job.assigned_ns.map(|_| format!(", assigned after {:.1?}", span(job.created_ns, job.assigned_ns)));
    let began = job.started_ns.or(job.assigned_ns);
    let ran = began.filter(|_| job.ended_ns.is_some()).map(|began| format!(", ran {:.1?}", span(began, job.ended_ns)));
    lines.push(format!("  time     created {at:.3}{}{}", waited.unwrap_or_default(), ran.unwrap_or_default()));
    lines.join("\n")
}

impl Usage {
    fn text(&self) -> String {
        let micros = Duration::from_micros;
        let start = self.start_us.map(|start| format!(", {:?} to its entrypoint", micros(start))).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let memory = self.memory_peak_bytes as f64 / f64::from(1 << 20);
        let (wall, cpu) = (micros(self.wall_us), micros(self.cpu_us));
        format!("  usage    {wall:.1?} in all, {cpu:.1?} of CPU{start}, {} fuel, {memory:.1} MiB at most", self.fuel)
    }
}
