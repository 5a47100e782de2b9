//! `wasm-worker kill`: end running jobs by force.

use clap::Args;
use wasm_worker_core::api::worker::Killing;

use super::remote::{Answer, Audience, Remote, RemoteFlags, each, job_path};
use super::{Exit, Failure, print};

#[derive(Args)]
pub(crate) struct KillArgs {
    /// Ids of jobs, as `wasm-worker ps` prints them
    #[arg(value_name = "JOB", required = true)]
    jobs: Vec<String>,
    #[command(flatten)]
    remote: RemoteFlags,
}

pub(crate) fn run(args: KillArgs) -> Result<Exit, Failure> {
    let workers = args.remote.of(Audience::Workers)?;
    let (mut unknown, mut asked) = (Vec::new(), Ok(()));
    for job in args.jobs {
        let mut killed = false;
        if let Some(path) = job_path(&job) {
            asked = asked.and(each(&workers, |worker| {
                killed |= kill(worker, path)?;
                Ok(())
            }));
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
    // A job may run where nobody answered.
    asked?;
    let failure = Failure::usage(format!("no such job runs: {}", unknown.join(", ")));
    Err(failure.with_hint("`wasm-worker ps` lists the running jobs"))
}

/// Whether the job ran there. A job that has ended is refused.
fn kill(worker: &Remote, job: &str) -> Result<bool, Failure> {
    Ok(matches!(worker.post::<Killing>(&format!("/jobs/{job}/kill"))?, Answer::Done(_)))
}
