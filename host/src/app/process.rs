//! What every serving process does at its start: signals, the HTTP address, the announcement to this user's commands; and what
//! makes a process one of a supervisor's.

use std::sync::Arc;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use wasm_worker_core::secret::Secret;
use wasm_worker_dispatcher::reachable;

use super::error::AppError;
use crate::config::{Config, EventTarget, HttpBind};
use crate::discovery::{self, Announcement, LocalWorker, Role};
use crate::http;
use crate::observers::EventLines;
use crate::worker::control_signal::ControlSignal;

/// Signals and requests that wait for a busy worker.
pub(super) const SIGNALS_MAX: usize = 16;

/// One of the processes that a supervisor has started.
pub(crate) struct Supervised {
    /// The index of the process, from 0.
    pub(crate) index: usize,
    /// The name of the process at its dispatcher.
    pub(crate) instance: String,
}

impl Supervised {
    /// Adapt the settings. The process publishes to its supervisor, which has the sinks; it ends when the supervisor ends; and
    /// its port follows the supervisor's.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), AppError> {
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

/// Forward SIGINT and SIGTERM, which mean the same, SIGHUP, and SIGUSR1, by which a supervisor drains: it ends no job, however
/// often it comes and whatever came before.
pub(super) fn forward_signals(signals: mpsc::Sender<ControlSignal>) -> Result<(), AppError> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut hangups = signal(SignalKind::hangup())?;
    let mut drains = signal(SignalKind::user_defined1())?;
    tokio::runtime::Handle::current().spawn(async move {
        loop {
            let signal = tokio::select! {
                _ = interrupts.recv() => ControlSignal::Stop,
                _ = terminations.recv() => ControlSignal::Stop,
                _ = hangups.recv() => ControlSignal::Reload,
                _ = drains.recv() => ControlSignal::Drain,
            };
            if signals.send(signal).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Open the event file again at each SIGHUP, as programs that rotate files expect.
pub(super) fn reopen_at_hangup(lines: Arc<EventLines>) -> Result<(), AppError> {
    let mut hangups = signal(SignalKind::hangup())?;
    tokio::runtime::Handle::current().spawn(async move {
        while hangups.recv().await.is_some() {
            lines.reopen();
        }
    });
    Ok(())
}

/// The bearer token of the endpoints that expose or change state.
pub(super) fn control_token(config: &Config) -> Secret {
    config.http_token.clone().unwrap_or_else(|| Secret(discovery::make_token()))
}

/// Take the HTTP address, so that it is known before anything is served.
pub(super) async fn bind(http: HttpBind) -> Result<Option<TcpListener>, AppError> {
    let address = match http {
        HttpBind::At(address) => address.to_string(),
        HttpBind::Auto | HttpBind::Off => "127.0.0.1".into(),
    };
    http::bind(http).await.map_err(|source| AppError::Http { address, source })
}

/// Tell this user's commands the address of this process. A failure is logged, and the commands then need `--worker`.
pub(super) fn announce(
    config: &Config,
    listener: &TcpListener,
    token: &Secret,
    role: Role,
) -> Result<Option<Announcement>, AppError> {
    let url = format!("http://{}", reachable(listener.local_addr()?));
    tracing::info!(target: "host", url, "http.listening");
    let worker = LocalWorker::this_process(url, token, role);
    Ok(discovery::announce(&config.cache_dir, &worker)
        .map_err(|error| {
            let dir = config.cache_dir.display();
            tracing::warn!(target: "host", %dir, %error, "`ps`, `logs`, `kill`, `drain` and `events` will not find this worker without `--worker`");
        })
        .ok())
}
