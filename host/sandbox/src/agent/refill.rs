//! The task that keeps warm instances of an agent without a snapshot: it creates an instance, and runs `prewarm` in it.
//!
//! Bounds: `--idle` instances, created one at a time, and after a failure a pause that doubles up to [`PAUSE_MAX`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use wasm_worker_core::backoff::Backoff;

use crate::guest::Stage;
use crate::job::instance::{Instance, Template};
use crate::job::run::Crash;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The task of one agent. Dropping this ends the task and drops the warm instances.
pub(super) struct Refill {
    task: AbortHandle,
    template: Arc<Template>,
}

impl Refill {
    /// Start the task.
    pub(super) fn start(template: &Arc<Template>) -> Self {
        let task = template.engine.guests().spawn(fill(Arc::downgrade(template))).abort_handle();
        Self { task, template: template.clone() }
    }
}

impl Drop for Refill {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(warm) = &self.template.warm {
            warm.close();
        }
    }
}

async fn fill(template: Weak<Template>) {
    let mut pauses = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    while let Some(template) = template.upgrade() {
        let Some(warm) = &template.warm else { return };
        if warm.missing() == 0 {
            warm.taken.notified().await;
            continue;
        }
        match create(&template).await {
            Ok(instance) => {
                warm.put(instance);
                pauses.succeed();
            }
            Err(crash) => {
                tracing::error!(target: "host", agent = &*template.agent, "prewarm failed: {}", crash.verdict().detail);
                let sleep = {
                    let _timers = template.engine.timers().enter();
                    tokio::time::sleep(pauses.fail())
                };
                sleep.await;
            }
        }
    }
}

async fn create(template: &Template) -> Result<Instance, Crash> {
    let mut instance = template.empty(Stage::Live).await?;
    let control = instance.control();
    let steps = async {
        instance.instantiate(template).await?;
        instance.prewarm(template).await
    };
    template.init_within(&control, steps).await?;
    Ok(instance)
}
