//! The component's exports, implemented by calls of an [`Agent`].

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::time::Duration;

use crate::bindings::Guest;
use crate::types::{Decision, JobInfo};
use crate::{Agent, Either, Error, JobContext, executor, logging, select, stack, time};

/// Percentage of the shutdown grace that the entrypoint may use. The rest is reserved for the shutdown callbacks.
const ENTRYPOINT_GRACE_PERCENT: u32 = 75;

/// The component of an agent type. [`agent!`](crate::agent!) is its only user.
pub struct ExportedAgent<A>(PhantomData<A>);

thread_local! {
    /// The prewarmed agent, part of the snapshotted memory.
    static AGENT: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
    /// The context of `entrypoint`, whose shutdown callbacks `shutdown` runs.
    static CONTEXT: RefCell<Option<JobContext>> = const { RefCell::new(None) };
}

impl<A: Agent> Guest for ExportedAgent<A> {
    fn prewarm() -> Result<(), String> {
        logging::install::<A>();
        let mut agent = A::default();
        agent.prewarm().map_err(with_sources)?;
        AGENT.set(Some(Box::new(agent)));
        stack::mark();
        Ok(())
    }

    fn decide(offer: JobInfo) -> Decision {
        logging::install::<A>();
        let mut agent = prewarmed::<A>();
        let decision = agent.decide(&offer);
        AGENT.set(Some(agent));
        decision
    }

    fn entrypoint() -> Result<(), String> {
        logging::install::<A>();
        let mut agent = prewarmed::<A>();
        let ctx = JobContext::open();
        CONTEXT.set(Some(ctx.clone()));
        executor::block_on(run(&mut *agent, &ctx)).map_err(with_sources)
    }

    fn shutdown(reason: String) {
        if let Some(ctx) = CONTEXT.take() {
            executor::block_on(ctx.run_shutdown_callbacks(reason));
        }
    }
}

/// Runs the entrypoint. An entrypoint that ignores a request to stop is dropped in time for the shutdown callbacks.
async fn run<A: Agent>(agent: &mut A, ctx: &JobContext) -> Result<(), Error> {
    let grace_used = async {
        let grace_ms = ctx.shutdown_requested().await.grace_ms;
        time::sleep(Duration::from_millis(grace_ms.into()) * ENTRYPOINT_GRACE_PERCENT / 100).await;
    };
    match select(agent.entrypoint(ctx), grace_used).await {
        Either::Left(result) => result,
        Either::Right(()) => {
            log::warn!("the entrypoint did not end after the request to stop and is dropped");
            Ok(())
        }
    }
}

/// The text of an error followed by the texts of its sources, outermost first.
fn with_sources(error: Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// The prewarmed agent, or a new one if the host has not called `prewarm`.
fn prewarmed<A: Agent>() -> Box<A> {
    AGENT.take().and_then(|agent| agent.downcast::<A>().ok()).unwrap_or_default()
}
