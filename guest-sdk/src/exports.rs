//! What the component exports: the calls of the contract, turned into calls of an [`Agent`].

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::time::Duration;

use crate::bindings::Guest;
use crate::types::{Decision, JobInfo};
use crate::{Agent, Either, Error, JobContext, executor, logging, select, stack, time};

/// Share of the shutdown grace that the entrypoint has, in percent; the rest is for the shutdown callbacks.
const PATIENCE_PERCENT: u32 = 75;

/// The component made from an agent type; [`agent!`](crate::agent!) is its only user.
pub struct Exported<A>(PhantomData<A>);

thread_local! {
    /// The prewarmed agent. Part of the memory that a snapshot keeps.
    static AGENT: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
    /// Kept from `entrypoint` for `shutdown`, which runs the callbacks registered in it.
    static CONTEXT: RefCell<Option<JobContext>> = const { RefCell::new(None) };
}

impl<A: Agent> Guest for Exported<A> {
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

/// Run the entrypoint. One that does not end by itself after a request to stop is dropped while there is still time for
/// the shutdown callbacks.
async fn run<A: Agent>(agent: &mut A, ctx: &JobContext) -> Result<(), Error> {
    let patience = async {
        let grace_ms = ctx.shutdown_requested().await.grace_ms;
        time::sleep(Duration::from_millis(grace_ms.into()) * PATIENCE_PERCENT / 100).await;
    };
    match select(agent.entrypoint(ctx), patience).await {
        Either::Left(result) => result,
        Either::Right(()) => {
            log::warn!("the entrypoint did not end after the request to stop, so it is dropped");
            Ok(())
        }
    }
}

/// An error's text with those of its sources, outermost first.
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

/// The agent that `prewarm` left, or a fresh one where the host has not called it.
fn prewarmed<A: Agent>() -> Box<A> {
    AGENT.take().and_then(|agent| agent.downcast::<A>().ok()).unwrap_or_default()
}
