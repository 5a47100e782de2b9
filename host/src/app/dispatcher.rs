//! A process that is only a dispatcher: `wasm-worker serve`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use wasm_worker_dispatcher::Dispatcher;
use wasm_worker_sandbox::runtimes::Runtimes;

use super::error::AppError;
use super::process::{HangUp, OF_SERVERS, end_at_next_signal, handle_signals, reopen_at_hangup, survive_large_files};
use super::reaper::reap_orphans;
use super::service::follow_dispatcher;
use super::upstream::{key_pairs, metrics_text};
use crate::config::Config;
use crate::observers::metrics::Metrics;
use crate::observers::{EventLines, publisher};
use crate::service_manager::ServiceManager;

/// Dispatch until SIGINT or SIGTERM, or until the terminal is closed; a second signal ends the process at once. Without a terminal,
/// SIGHUP opens the event file again. `listening` gets the URL, which a caller cannot know where the system chose the port.
///
/// # Errors
/// When the dispatcher cannot start or `listening` fails.
pub(crate) fn run(config: &Config, listening: impl FnOnce(&str) -> std::io::Result<()>) -> Result<(), AppError> {
    config.check_server()?;
    let runtimes = Runtimes::start()?;
    let served = runtimes.block_on(serve(config, listening, runtimes.control()));
    runtimes.shut_down();
    served
}

async fn serve(
    config: &Config,
    listening: impl FnOnce(&str) -> std::io::Result<()>,
    control: &Handle,
) -> Result<(), AppError> {
    let hang_up = HangUp::of_this_process();
    handle_signals(&OF_SERVERS)?;
    let (mut interrupts, mut terminations) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut hangups = signal(SignalKind::hangup())?;
    survive_large_files()?;
    reap_orphans();
    let metrics = Arc::new(Metrics::new());
    let lines = EventLines::open_all(config)?;
    reopen_at_hangup(lines.clone())?;
    let events = publisher(&lines, Some(&metrics));
    let page = metrics_text(&metrics, &lines);
    let mut dispatcher = Dispatcher::start(&config.dispatcher, &key_pairs(config), events, page, control).await?;
    listening(&dispatcher.public_url())?;
    let stopping = Arc::new(AtomicBool::new(false));
    let _follower =
        ServiceManager::find().map(|manager| follow_dispatcher(manager, &dispatcher, stopping.clone(), control));
    let served = tokio::select! {
        _ = interrupts.recv() => Ok(()),
        _ = terminations.recv() => Ok(()),
        _ = hangups.recv(), if hang_up == HangUp::Drain => Ok(()),
        () = dispatcher.over() => Err(AppError::DispatcherEnded),
    };
    end_at_next_signal();
    stopping.store(true, Ordering::Relaxed);
    if served.is_ok() {
        dispatcher.stop().await;
    }
    tokio::task::block_in_place(|| lines.close());
    served
}
