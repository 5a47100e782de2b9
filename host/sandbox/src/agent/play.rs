//! A job of an agent whose outside is a scenario.

use std::sync::Arc;

use wasm_worker_core::observer::Events;

use super::Agent;
use crate::job::launch::{self, JobHandle};
use crate::job::offer::{Offer, OfferedRoom};
use crate::scenario::play::SharedPlay;
use crate::scenario::{Outcome, Scenario};
use crate::settings::Limits;

impl Agent {
    /// Play a scenario with a job of the agent, under virtual time. `limits` are those of the job; none for the agent's own.
    /// `begun` is given the handle of the job.
    pub async fn play(
        &self,
        scenario: &Scenario,
        limits: Option<Limits>,
        events: &Arc<Events>,
        begun: impl FnOnce(JobHandle),
    ) -> Outcome {
        let template = match limits {
            None => self.template.clone(),
            Some(limits) => Arc::new(self.template.with_limits(limits)),
        };
        let play = SharedPlay::from(scenario);
        let offer = Offer {
            info: scenario.job_info(self.name()),
            participants: scenario.participants(),
            room: OfferedRoom::Played(play.clone()),
        };
        let running = match launch::run((&template, &self.granted), offer, events).await {
            Ok(running) => running,
            Err(refusal) => return Outcome::refused(&play, &refusal),
        };
        begun(running.handle());
        match running.closed().await {
            Some(record) => Outcome::closed(&play, record),
            None => Outcome::lost(&play),
        }
    }
}
