//! Writes every event to the log, at the level that fits the event.

use wasm_worker_core::event::{DispatcherEvent, Event, HostedEvent};
use wasm_worker_core::observer::Observer;
use wasm_worker_core::verdict::Class;

/// The log as an observer of events.
pub(super) struct Log;

impl Observer for Log {
    fn observe(&self, event: &Event) {
        log(event);
    }
}

fn log(event: &Event) {
    let name = event.name();
    match event {
        Event::AgentLoaded { agent, prewarm, cached, took_ms } => {
            tracing::info!(target: "host", agent, prewarm, cached, took_ms, "{name}");
        }
        // The command that loads the agent shows the error with a hint.
        Event::AgentFailed { agent, error } => tracing::debug!(target: "host", agent, error, "{name}"),
        Event::AgentReloaded { agent } | Event::AgentAvailable { agent } | Event::LinkRestored { agent } => {
            tracing::info!(target: "host", agent, "{name}");
        }
        Event::AgentUnavailable { agent, why, retry_ms } => {
            tracing::error!(target: "host", agent, why, retry_ms, "{name}");
        }
        Event::WorkerDied { worker, why, lost, retry_ms } => {
            tracing::error!(target: "host", worker, why, lost, retry_ms, "{name}");
        }
        Event::WorkerRegistered { agent, worker, server } => {
            tracing::info!(target: "host", agent, worker, server, "{name}");
        }
        Event::WorkerFull { agent, jobs, load, scarce } => {
            let scarce = scarce.as_str();
            tracing::warn!(target: "host", agent, jobs, load = %format_args!("{load:.3}"), scarce, "{name}");
        }
        Event::WorkerAvailable { agent, jobs, load } => {
            tracing::info!(target: "host", agent, jobs, load = %format_args!("{load:.3}"), "{name}");
        }
        Event::WorkerDraining { agent, jobs } => tracing::info!(target: "host", agent, jobs, "{name}"),
        Event::WorkerDrained { agent, cut_short } => tracing::info!(target: "host", agent, cut_short, "{name}"),
        Event::LinkLost { agent, why, retry_ms } => tracing::warn!(target: "host", agent, why, retry_ms, "{name}"),
        Event::Dispatcher(event) => log_dispatcher(event, name),
        Event::OfferRefused { agent, job, reason, detail, terminate } => {
            tracing::warn!(target: "host", agent, job, reason = reason.as_str(), detail, terminate, "{name}");
        }
        Event::JobCreated { agent, job, room, attempt } => {
            tracing::info!(target: "host", agent, job, room, attempt, "{name}");
        }
        Event::JobStarted { agent, job } | Event::JobReady { agent, job } | Event::JobLaunched { agent, job } => {
            tracing::info!(target: "host", agent, job, "{name}");
        }
        Event::RoomJoined { agent, job, room, took_ms } => {
            tracing::info!(target: "host", agent, job, room, took_ms, "{name}");
        }
        Event::RoomFailed { agent, job, room, code, detail, .. } => {
            tracing::warn!(target: "host", agent, job, room, code, detail, "{name}");
        }
        Event::RoomLeft { agent, job, room, reason, used, .. } => {
            let (stayed_ms, resumes, rejoins) = (used.stayed_ms, used.resumes, used.rejoins);
            tracing::info!(target: "host", agent, job, room, reason, stayed_ms, resumes, rejoins, "{name}");
        }
        Event::JobWarning { agent, job, about, detail } => {
            tracing::warn!(target: "host", agent, job, about = about.as_str(), detail, "{name}");
        }
        Event::JobKilled { agent, job, code, detail } => {
            tracing::error!(target: "host", agent, job, %code, detail, "{name}");
        }
        Event::JobClosed { agent, job, verdict, usage } => {
            let (code, detail, fuel) = (verdict.code, verdict.detail.as_str(), usage.fuel);
            match code.class() {
                Class::Ok => tracing::info!(target: "host", agent, job, %code, fuel, "{name}"),
                Class::Host => tracing::error!(target: "host", agent, job, %code, detail, "{name}"),
                _ => tracing::warn!(target: "host", agent, job, %code, detail, "{name}"),
            }
        }
    }
}

fn log_dispatcher(event: &DispatcherEvent, name: &str) {
    match event {
        DispatcherEvent::Created { dispatch, job, agent, room } => {
            tracing::info!(target: "dispatcher", agent, dispatch, job, room, "{name}");
        }
        DispatcherEvent::Assigned { dispatch, job, agent, worker, attempt, waited_us } => {
            tracing::info!(target: "dispatcher", agent, dispatch, job, worker, attempt, waited_us, "{name}");
        }
        DispatcherEvent::Again { dispatch, job, agent, attempt, why } => {
            tracing::warn!(target: "dispatcher", agent, dispatch, job, attempt, why, "{name}");
        }
        DispatcherEvent::Ended { dispatch, job, agent, verdict, attempts, .. } => {
            let (code, detail) = (verdict.code, verdict.detail.as_str());
            match code.class() {
                Class::Ok => tracing::info!(target: "dispatcher", agent, dispatch, job, %code, attempts, "{name}"),
                _ => tracing::warn!(target: "dispatcher", agent, dispatch, job, %code, detail, attempts, "{name}"),
            }
        }
        DispatcherEvent::WorkerJoined { worker, agent, version } => {
            tracing::info!(target: "dispatcher", agent, worker, version, "{name}");
        }
        DispatcherEvent::WorkerLeft { worker, agent, why, jobs } => {
            tracing::info!(target: "dispatcher", agent, worker, why, jobs, "{name}");
        }
        DispatcherEvent::StoreStuck { why } => tracing::error!(target: "dispatcher", why, "{name}"),
        DispatcherEvent::StoreRecovered => tracing::info!(target: "dispatcher", "{name}"),
        DispatcherEvent::Hosted(event) => {
            let HostedEvent { room, participant, track, .. } = &**event;
            tracing::info!(target: "dispatcher", room, participant, track, "{name}");
        }
    }
}
