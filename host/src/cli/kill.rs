//! `wasm-worker kill`: end jobs that run, now.

use clap::Args;

use super::remote::{Audience, RemoteFlags, each};
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
    let workers = args.remote.of(Audience::Workers)?;
    let (mut unknown, mut asked) = (Vec::new(), Ok(()));
    for job in args.jobs {
        // A job's id is a path here; what a path cannot be is no job's.
        let path = job.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte));
        let mut killed = false;
        if path {
            asked = asked.and(each(&workers, |worker| {
                killed |= worker.post(&format!("/jobs/{job}/kill"))?.status == 202;
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
    // It may run where nobody answered.
    asked?;
    let failure = Failure::usage(format!("no such job runs: {}", unknown.join(", ")));
    Err(failure.with_hint("`wasm-worker ps` shows those that do"))
}
