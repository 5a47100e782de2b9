//! The sink that writes events to the standard input of a command. A command that ends is started again.
//!
//! The command gets no variable with a secret of this program.
//!
//! Bound: the command is started at most once in [`RESTART_AFTER`]; lines in between are lost, and counted.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::Instant;
use wasm_worker_core::secret::{is_own_secret, withhold};

use super::sink::{Cut, EventSink};

const RESTART_AFTER: Duration = Duration::from_secs(1);

/// The command, which may run.
pub(crate) struct CommandLines {
    command: String,
    running: Option<Child>,
    /// The process group of the command, until the end of the command is known.
    group: Arc<Mutex<Option<Pid>>>,
    started: Option<Instant>,
}

impl CommandLines {
    pub(crate) fn new(command: &str) -> Self {
        Self { command: command.to_owned(), running: None, group: Arc::default(), started: None }
    }

    fn running(&mut self) -> Result<&mut Child, String> {
        if self.running.is_none() {
            if self.started.is_some_and(|started| started.elapsed() < RESTART_AFTER) {
                return Err("the command ended right after its start".into());
            }
            self.started = Some(Instant::now());
            // Standard output carries job records, or the events for a supervisor.
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(&self.command).stdin(Stdio::piped()).stdout(Stdio::null());
            withhold(&mut shell, is_own_secret);
            // In a group of its own, the command ends together with its children, and does not receive the Ctrl-C of a terminal: the
            // last events are still to come.
            let running = shell.process_group(0).spawn().map_err(|error| error.to_string())?;
            *lock(&self.group) = Pid::from_raw(running.id().cast_signed());
            self.running = Some(running);
        }
        self.running.as_mut().ok_or_else(|| "the command does not run".into())
    }

    /// Close the input of the command, and wait for its end.
    fn wait(&mut self) -> Option<ExitStatus> {
        let mut child = self.running.take()?;
        drop(child.stdin.take());
        let status = child.wait().ok();
        *lock(&self.group) = None;
        status
    }
}

impl EventSink for CommandLines {
    fn write(&mut self, line: &str) -> Result<(), String> {
        let input = self.running()?.stdin.as_mut().ok_or("the command has no standard input")?;
        let written = input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n"));
        written.map_err(|error| match self.wait() {
            Some(status) => format!("the command ended: {status}"),
            None => error.to_string(),
        })
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn cut(&self) -> Option<Cut> {
        let group = self.group.clone();
        Some(Box::new(move || {
            if let Some(group) = *lock(&group) {
                // The group may have ended just now.
                kill_process_group(group, Signal::KILL).ok();
            }
        }))
    }
}

/// Closes the input of the command, and waits for its end.
impl Drop for CommandLines {
    fn drop(&mut self) {
        self.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
