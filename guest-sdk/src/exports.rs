//! The component's exports, implemented by calls of an [`Agent`].

use std::any::Any;
use std::cell::RefCell;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::pin;
use std::time::Duration;

use crate::bindings::Guest;
use crate::types::{Decision, JobInfo};
use crate::{Agent, Either, Error, Event, JobContext, executor, inbox, logging, select, stack, time};

/// Percentage of the shutdown grace that the entrypoint may use. The rest is reserved for the shutdown callbacks.
const ENTRYPOINT_GRACE_PERCENT: u32 = 75;

/// The component of an agent type. [`agent!`](crate::agent!) is its only user.
pub struct ExportedAgent<A>(PhantomData<A>);

thread_local! {
    /// The prewarmed agent, part of the snapshotted memory.
    static AGENT: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
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

    fn resume(now_ms: f64, batch: Vec<Event>) {
        logging::install::<A>();
        executor::step(now_ms, batch, start::<A>);
    }
}

/// Begins the job: its first task owns the agent.
fn start<A: Agent>(job: JobInfo) {
    executor::spawn("entrypoint".into(), Box::pin(run(prewarmed::<A>(), JobContext::new(job))));
}

/// Runs the whole job: the entrypoint, the shutdown callbacks, the end.
async fn run<A: Agent>(mut agent: Box<A>, ctx: JobContext) {
    let result = entrypoint(&mut *agent, &ctx).await.map_err(with_sources);
    drop(agent);
    let reason = inbox::stop_reason().unwrap_or_else(|| match &result {
        Ok(()) => "entrypoint returned".to_owned(),
        Err(error) => format!("entrypoint failed: {error}"),
    });
    run_shutdown_callbacks(&ctx, reason).await;
    executor::finish(result);
}

/// Runs the entrypoint. An entrypoint that ignores a request to stop is dropped in time for the shutdown callbacks.
async fn entrypoint<A: Agent>(agent: &mut A, ctx: &JobContext) -> Result<(), Error> {
    let grace_used = async {
        let grace_ms = inbox::shutdown_requested("").await.grace_ms;
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

/// Runs the shutdown callbacks. If they wait, the job asks for its end, so that the shutdown grace bounds them.
async fn run_shutdown_callbacks(ctx: &JobContext, reason: String) {
    let mut callbacks = pin!(ctx.run_shutdown_callbacks(reason.clone()));
    poll_fn(|cx| {
        let polled = callbacks.as_mut().poll(cx);
        if polled.is_pending() && !inbox::stopping() {
            ctx.shutdown(&reason);
        }
        polled
    })
    .await;
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
