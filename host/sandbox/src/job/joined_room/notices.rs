//! What is published about the room of one job: that it was joined, could not be joined, was left.

use std::sync::Arc;

use tokio::time::Instant;
use wasm_worker_core::event::Event;
use wasm_worker_core::job::JobInfo;
use wasm_worker_core::observer::Events;
use wasm_worker_core::room::connection::RoomStatistics;
use wasm_worker_core::room::event::Reason;
use wasm_worker_core::text::clip;
use wasm_worker_core::usage::{RoomUse, millis};

use crate::guest::room_view::{RoomCounter, use_between};

/// Publishes for one job.
pub(super) struct Notices {
    events: Arc<Events>,
    agent: String,
    job: String,
    room: String,
    /// The time of the join, while the agent is in the room.
    joined_at: Option<Instant>,
    /// The numbers of the room that were published.
    told: RoomStatistics,
}

impl Notices {
    /// Nothing is published yet.
    pub(super) fn new(info: &JobInfo, events: Arc<Events>) -> Self {
        Self {
            events,
            agent: info.agent_name.clone(),
            job: info.id.clone(),
            room: info.room.name.clone(),
            joined_at: None,
            told: RoomStatistics::default(),
        }
    }

    /// The name of the room.
    pub(super) fn room(&self) -> &str {
        &self.room
    }

    /// The numbers of a new room count from zero.
    pub(super) fn opened(&mut self) {
        self.told = RoomStatistics::default();
    }

    /// The agent is in the room.
    pub(super) fn joined(&mut self, counter: &RoomCounter, now: Instant) {
        self.joined_at = Some(now);
        let took_ms = millis(counter.statistics().joined_in.unwrap_or_default());
        let (agent, job, room) = self.names();
        self.events.publish(&Event::RoomJoined { agent, job, room, took_ms });
    }

    /// A join failed. No counter: the room was not opened.
    pub(super) fn failed(&self, code: &'static str, detail: &str, counter: Option<&RoomCounter>) {
        let (agent, job, room) = self.names();
        let uncounted = counter.map(RoomCounter::take).unwrap_or_default();
        self.events.publish(&Event::RoomFailed { agent, job, room, code, detail: clip(detail), uncounted });
    }

    /// The agent is not in the room any more, if it was.
    pub(super) fn left(&mut self, reason: Reason, counter: &RoomCounter, now: Instant) {
        let Some(joined_at) = self.joined_at.take() else { return };
        let (statistics, uncounted) = (counter.statistics(), counter.take());
        let told = std::mem::replace(&mut self.told, statistics);
        let stayed_ms = millis(now.saturating_duration_since(joined_at));
        let used = RoomUse { stayed_ms, ..use_between(&told, &statistics) };
        let (agent, job, room) = self.names();
        self.events.publish(&Event::RoomLeft { agent, job, room, reason: reason.as_str(), used, uncounted });
    }

    fn names(&self) -> (String, String, String) {
        (self.agent.clone(), self.job.clone(), self.room.clone())
    }
}
