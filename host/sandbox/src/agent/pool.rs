//! Keeps the shelf of an agent without a snapshot full: makes an instance, runs `prewarm` in it, puts it there.
//!
//! Bounds: as many as `--idle`, one made at a time, and after a failure a pause that doubles up to [`PAUSE_MAX`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use wasm_worker_core::backoff::Backoff;

use crate::hostcalls::Stage;
use crate::job::admission::init_within;
use crate::job::instance::{Instance, Template};
use crate::job::run::Crash;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The task that fills a shelf; when this is dropped it ends, and what is on the shelf goes.
pub(super) struct Refill {
    task: AbortHandle,
    template: Arc<Template>,
}

impl Refill {
    pub(super) fn start(template: &Arc<Template>) -> Self {
        let task = template.engine.guests().spawn(fill(Arc::downgrade(template))).abort_handle();
        Self { task, template: template.clone() }
    }
}

impl Drop for Refill {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(shelf) = &self.template.shelf {
            shelf.close();
        }
    }
}

async fn fill(template: Weak<Template>) {
    let mut pauses = Backoff::new(PAUSE_MIN, PAUSE_MAX);
    while let Some(template) = template.upgrade() {
        let Some(shelf) = &template.shelf else { return };
        if shelf.missing() == 0 {
            shelf.taken.notified().await;
            continue;
        }
        match warm(&template).await {
            Ok(instance) => {
                shelf.put(instance);
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

async fn warm(template: &Template) -> Result<Instance, Crash> {
    let mut instance = template.empty(Stage::Live).await?;
    let control = instance.control();
    let make = async {
        instance.instantiate(template).await?;
        instance.prewarm(template).await
    };
    init_within(&control, template, make).await?;
    Ok(instance)
}
