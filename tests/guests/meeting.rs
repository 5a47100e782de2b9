//! Waits for a person, and says who it is; the callbacks say in which order they run.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Meeting;

impl Agent for Meeting {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        ctx.connect().await?;
        for name in ["first", "second"] {
            let context = ctx.clone();
            ctx.add_shutdown_callback(async move |_| {
                let inner = context.clone();
                context.add_shutdown_callback(async move |_| drop(inner.send_text("callback", "added late")));
                drop(context.send_text("callback", name));
            });
        }
        let who = ctx.wait_for_participant(None).await;
        ctx.send_text("met", &who.identity)?;
        let there: Vec<String> = ctx.participants().into_iter().map(|who| who.identity).collect();
        ctx.send_text("there", &there.join(","))?;
        Err("left early".into())
    }
}

wasm_worker_sdk::agent!(Meeting);
