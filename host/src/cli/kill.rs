//! `wasm-worker kill`: end jobs that run, now.

use clap::Args;

use super::remote::RemoteFlags;
use super::{Exit, Failure, print};

#[derive(Args)]
pub(crate) struct KillArgs {
    /// The jobs, as `wasm-worker ps` shows them
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    #[command(flatten)]
    remote: RemoteFlags,
}

pub(crate) fn run(args: KillArgs) -> Result<Exit, Failure> {
    let workers = args.remote.workers()?;
    let mut unknown = Vec::new();
    for job in args.jobs {
        let mut killed = false;
        for worker in &workers {
            // A job's id is a path here; what a path cannot be is no job's.
            killed |= job.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte))
                && worker.post(&format!("/jobs/{job}/kill"))?.status == 202;
        }
        if killed {
            print(&format!("killing {job}"))?;
        } else {
            unknown.push(job);
        }
    }
    if unknown.is_empty() {
        return Ok(Exit::Ok);
    }
    let failure = Failure::usage(format!("no such job runs: {}", unknown.join(", ")));
    Err(failure.with_hint("`wasm-worker ps` shows those that do"))
}
