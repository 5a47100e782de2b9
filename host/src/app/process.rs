//! What every serving process does at its start: signals, the HTTP address, the announcement to this user's commands; and what
//! makes a process one of a supervisor's.

use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_default;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use wasm_worker_core::secret::Secret;
use wasm_worker_dispatcher::reachable;

use super::error::AppError;
use super::reaper::reap_orphans;
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

/// Have a write beyond the limit on the size of files (`ulimit -f`) fail with an error. By default it ends the process.
pub(crate) fn survive_large_files() -> std::io::Result<()> {
    // The handler stays, and does nothing.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    Ok(())
}

/// The meaning of a hang-up (SIGHUP).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HangUp {
    /// The agents are loaded again.
    Reload,
    /// The terminal was closed: the worker drains.
    Drain,
}

impl HangUp {
    /// A process with a terminal drains when the terminal is closed, unless it was started to outlive it (`nohup`). For a process
    /// without a terminal, such as a service, a hang-up is a request to reload. This is read before the process handles signals,
    /// which undoes the ignoring.
    pub(super) fn of_this_process() -> Self {
        let has_terminal = File::open("/dev/tty").is_ok();
        let ignored = fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hang_up(&status));
        if has_terminal && !ignored { Self::Drain } else { Self::Reload }
    }
}

/// Whether a process ignores SIGHUP, by the mask of ignored signals in its status. The lowest bit is the first signal.
fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// The signals that a serving process handles.
pub(crate) const OF_SERVERS: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];
/// The signals that a command which runs jobs handles. A hang-up ends it.
pub(crate) const OF_COMMANDS: [i32; 2] = [SIGINT, SIGTERM];

/// Whether the handled signals have their usual effect again.
static LAST_SIGNALS: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Handle these signals, until [`end_at_next_signal`].
pub(crate) fn handle_signals(numbers: &[i32]) -> std::io::Result<()> {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    LAST_SIGNALS.store(false, Ordering::Relaxed);
    if REGISTERED.set(()).is_ok() {
        for number in numbers {
            register_conditional_default(*number, Arc::clone(&LAST_SIGNALS))?;
        }
    }
    Ok(())
}

/// From now on the handled signals end the process at once, whatever it waits for.
pub(crate) fn end_at_next_signal() {
    LAST_SIGNALS.store(true, Ordering::Relaxed);
}

/// Forward SIGINT and SIGTERM, which mean the same, SIGHUP, and SIGUSR1, by which a supervisor drains: it ends no job, however
/// often it comes and whatever came before. A third SIGINT or SIGTERM ends the process.
pub(super) fn forward_signals(signals: mpsc::Sender<ControlSignal>, hang_up: HangUp) -> Result<(), AppError> {
    handle_signals(&OF_SERVERS)?;
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let mut hangups = signal(SignalKind::hangup())?;
    let mut drains = signal(SignalKind::user_defined1())?;
    survive_large_files()?;
    reap_orphans();
    tokio::runtime::Handle::current().spawn(async move {
        let mut stops = 0;
        loop {
            let signal = tokio::select! {
                _ = interrupts.recv() => ControlSignal::Stop,
                _ = terminations.recv() => ControlSignal::Stop,
                _ = hangups.recv() => match hang_up {
                    HangUp::Reload => ControlSignal::Reload,
                    HangUp::Drain => ControlSignal::Drain,
                },
                _ = drains.recv() => ControlSignal::Drain,
            };
            stops += u32::from(signal == ControlSignal::Stop);
            if stops > 1 {
                end_at_next_signal();
            }
            if signals.send(signal).await.is_err() {
                // Nothing takes signals any more.
                end_at_next_signal();
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
    let address = listener.local_addr()?;
    let url = format!("http://{}", reachable(address));
    tracing::info!(target: "host", %address, "http.listening");
    let worker = LocalWorker::this_process(url, token, role);
    Ok(discovery::announce(&config.cache_dir, &worker)
        .map_err(|error| {
            let dir = config.cache_dir.display();
            tracing::warn!(target: "host", %dir, %error, "`ps`, `logs`, `kill`, `drain` and `events` will not find this worker without `--worker`");
        })
        .ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_nohup_started_ignores_hang_ups() {
        assert!(ignores_hang_up("Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000000\n"));
        assert!(!ignores_hang_up("Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000000001\n"));
        assert!(!ignores_hang_up(""));
    }
}
