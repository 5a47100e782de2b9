//! Says what it was told about its job, by the offer and by the job itself.

use wasm_worker_sdk::types::{Decision, JobInfo};
use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Echo {
    offered: String,
}

impl Agent for Echo {
    fn decide(&mut self, offer: &JobInfo) -> Decision {
        self.offered = describe(offer);
        log::info!("offered {}", self.offered);
        Decision::accept()
    }

    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        ctx.send_text("offer", &self.offered)?;
        ctx.send_text("job", &describe(ctx.job()))
    }
}

fn describe(job: &JobInfo) -> String {
    let participant = job.participant.as_ref().map_or("nobody", |who| who.identity.as_str());
    format!(
        "{:?} {} ({}) for {participant}: {} {:?} dispatch `{}` attempt {} of {}",
        job.kind,
        job.room.name,
        job.room.metadata,
        job.metadata,
        job.attributes,
        job.dispatch_id,
        job.attempt,
        job.agent_name,
    )
}

wasm_worker_sdk::agent!(Echo);
