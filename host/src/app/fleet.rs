//! A process that supervises several worker processes: `wasm-worker run --workers N`.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use wasm_worker_dispatcher::{Dispatcher, connections};
use wasm_worker_sandbox::runtimes::Runtimes;

use super::agents;
use super::error::AppError;
use super::process::{
    HangUp, SIGNALS_MAX, announce, bind, control_token, end_at_next_signal, forward_signals, reopen_at_hangup,
};
use super::service::follow_fleet;
use super::upstream::{Upstream, metrics_text};
use crate::config::Config;
use crate::discovery::Role;
use crate::fleet::{Fleet, FleetOutcome};
use crate::http::control::ControlApi;
use crate::http::fleet::{FleetHttpState, router};
use crate::observers::metrics::Metrics;
use crate::observers::{EventLines, publisher};
use crate::service_manager::ServiceManager;

/// Supervise the processes that serve these agents, until all have ended.
///
/// # Errors
/// When the agents or the settings are not usable, which is reported here once and not by each process; or when the supervisor
/// cannot start.
pub(crate) fn run(paths: &[PathBuf], config: &Config) -> Result<FleetOutcome, AppError> {
    agents::named(paths, config)?;
    let runtimes = Runtimes::start()?;
    let served = runtimes.block_on(serve(&runtimes, config));
    runtimes.shut_down();
    served
}

async fn serve(runtimes: &Runtimes, config: &Config) -> Result<FleetOutcome, AppError> {
    let (sender, signals) = mpsc::channel(SIGNALS_MAX);
    forward_signals(sender.clone(), HangUp::of_this_process())?;
    let listener = bind(config.http).await?;

    let metrics = Arc::new(Metrics::new());
    let lines = EventLines::open_all(config)?;
    reopen_at_hangup(lines.clone())?;
    let events = publisher(&lines, Some(&metrics));
    let page = metrics_text(&metrics, &lines);
    let Upstream { url, key, secret, dispatcher } =
        Upstream::find(config, events.clone(), page, runtimes.control()).await?;

    // Secrets go through the environment of a process, where other users do not see them.
    let variables = vec![("LIVEKIT_URL", url), ("LIVEKIT_API_KEY", key), ("LIVEKIT_API_SECRET", secret)];
    let deaths = dispatcher.as_ref().map(Dispatcher::death_notifier);
    let fleet = Fleet::new(config.workers, (events, lines.clone()), runtimes.control().clone(), variables, deaths);
    let _follower = ServiceManager::find()
        .map(|manager| follow_fleet(manager, fleet.status(), dispatcher.as_ref(), runtimes.control()));
    let _announcement = match listener {
        None => None,
        Some(listener) => {
            let token = control_token(config);
            let announcement = announce(config, &listener, &token, Role::Supervisor)?;
            let status = fleet.status();
            let control = ControlApi::new(token, lines.clone(), sender, status.draining());
            let state = FleetHttpState { control, status, metrics };
            runtimes.control().spawn(connections::serve(listener, router(state)));
            announcement
        }
    };

    let served = fleet.serve(signals).await;
    if let Some(dispatcher) = dispatcher {
        dispatcher.stop().await;
    }
    tokio::task::block_in_place(|| lines.close());
    end_at_next_signal();
    Ok(served)
}
