//! `wasm-worker run --workers N`: the supervisor, and what makes a process one of its.

use std::path::PathBuf;
use std::sync::Arc;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::sync::mpsc;
use wasm_worker_dispatcher::{Dispatcher, connections};
use wasm_worker_sandbox::runtimes::Runtimes;

use super::serve::{Home, metrics_text};
use super::worker::{ORDERS, announce, bind, hear_signals, names, no_server, token};
use super::{Exit, Failure};
use crate::config::{Config, EventTarget, HttpBind};
use crate::discovery::Role;
use crate::fleet::{Fleet, FleetOutcome, GaveUp};
use crate::http::control::ControlApi;
use crate::http::fleet::{FleetHttpState, router};
use crate::observers::metrics::Metrics;
use crate::observers::{EventLines, publisher};

/// A process that another one has started.
pub(crate) struct Supervised {
    /// Which of them it is.
    pub(crate) index: usize,
    /// What the dispatcher knows it by.
    pub(crate) instance: String,
}

impl Supervised {
    /// It publishes to its supervisor, which has the sinks, goes when the supervisor goes, and has the ports after the
    /// supervisor's.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        set_parent_process_death_signal(Some(Signal::TERM)).map_err(std::io::Error::from)?;
        (config.events, config.webhook, config.event_command) = (EventTarget::Stdout, None, None);
        if let HttpBind::At(address) = &mut config.http
            && address.port() != 0
        {
            let offset = u16::try_from(self.index + 1).unwrap_or(u16::MAX);
            address.set_port(address.port().saturating_add(offset));
        }
        Ok(())
    }

    pub(super) fn role(&self) -> Role {
        Role::Process { of: getppid().map_or(0, |pid| pid.as_raw_nonzero().get().cast_unsigned()) }
    }
}

/// Supervise so many processes that serve these agents.
pub(crate) fn run(paths: &[PathBuf], config: &Config) -> Result<Exit, Failure> {
    // What is wrong with these is said once, not by each process.
    names(paths, config)?;
    let runtimes = Runtimes::start()?;
    let served = runtimes.block_on(serve(&runtimes, config));
    runtimes.shut_down();
    match served? {
        FleetOutcome { gave_up: Some(GaveUp::Server { why }), .. } => Err(no_server(&why)),
        FleetOutcome { gave_up: Some(GaveUp::Dying { why }), .. } => {
            let error = format!("worker processes keep dying; gave up: the last one {why}").into();
            Err(Failure { exit: Exit::Host, error, hint: None })
        }
        FleetOutcome { exit: 0, .. } => Ok(Exit::Ok),
        FleetOutcome { exit: 130, .. } => Ok(Exit::Interrupted),
        FleetOutcome { .. } => Ok(Exit::Host),
    }
}

async fn serve(runtimes: &Runtimes, config: &Config) -> Result<FleetOutcome, Failure> {
    let (sender, orders) = mpsc::channel(ORDERS);
    hear_signals(sender.clone())?;
    let listener = bind(config.http).await?;
    let metrics = Arc::new(Metrics::new());
    let lines = EventLines::open_all(config)?;
    let events = publisher(&lines, Some(&metrics));
    let Home { url, key, secret, dispatcher } =
        Home::find(config, events.clone(), metrics_text(&metrics, &lines), runtimes.control()).await?;
    // Secrets are in the environment of a process, where other users do not see them.
    let home = vec![("LIVEKIT_URL", url), ("LIVEKIT_API_KEY", key), ("LIVEKIT_API_SECRET", secret)];
    let deaths = dispatcher.as_ref().map(Dispatcher::deaths);
    let fleet = Fleet::new(config.workers, (events, lines.clone()), runtimes.control().clone(), home, deaths);
    let _announced = match listener {
        None => None,
        Some(listener) => {
            let token = token(config);
            let announced = announce(config, &listener, &token, Role::Supervisor)?;
            let status = fleet.status();
            let control = ControlApi::new(token, lines.clone(), sender, status.draining());
            let state = FleetHttpState { control, status, metrics };
            runtimes.control().spawn(connections::serve(listener, router(state)));
            announced
        }
    };
    let served = fleet.serve(orders).await;
    if let Some(dispatcher) = dispatcher {
        dispatcher.stop().await;
    }
    tokio::task::block_in_place(|| lines.close());
    Ok(served)
}
