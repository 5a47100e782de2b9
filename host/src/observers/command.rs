//! Events as lines of a command's standard input. A command that ends is started again.
//!
//! Bound: it is started at most once in [`RESTART_AFTER`]; meanwhile lines are lost, and counted.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::Instant;

use super::sink::{Cut, Place};

const RESTART_AFTER: Duration = Duration::from_secs(1);

/// A command that may run.
pub(crate) struct CommandLines {
    command: String,
    running: Option<Child>,
    /// Its process group, for as long as it is not waited for.
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
                return Err("it has just been started, and has ended".into());
            }
            self.started = Some(Instant::now());
            // Standard output is for records, and a worker's own under a supervisor.
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(&self.command).stdin(Stdio::piped()).stdout(Stdio::null());
            // Whatever it starts is to go with it, and a terminal's Ctrl-C is not for it: the last events are still to come.
            let running = shell.process_group(0).spawn().map_err(|error| error.to_string())?;
            *lock(&self.group) = Pid::from_raw(running.id().cast_signed());
            self.running = Some(running);
        }
        self.running.as_mut().ok_or_else(|| "it does not run".into())
    }

    /// Let it see the end of its input, and wait for its own.
    fn wait(&mut self) -> Option<ExitStatus> {
        let mut child = self.running.take()?;
        drop(child.stdin.take());
        let status = child.wait().ok();
        *lock(&self.group) = None;
        status
    }
}

impl Place for CommandLines {
    fn take(&mut self, line: &str) -> Result<(), String> {
        let input = self.running()?.stdin.as_mut().ok_or("it reads nothing")?;
        let written = input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n"));
        written.map_err(|error| match self.wait() {
            Some(status) => format!("it has ended: {status}"),
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
                // It may just have ended.
                kill_process_group(group, Signal::KILL).ok();
            }
        }))
    }
}

/// The command sees the end of its input, and is waited for.
impl Drop for CommandLines {
    fn drop(&mut self) {
        self.wait();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
