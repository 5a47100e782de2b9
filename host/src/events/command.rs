//! Events as lines of a command's standard input. A command that ends is started again.
//!
//! Bound: it is started at most once in [`RESTART_AFTER`]; meanwhile lines are lost, and counted.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use super::sink::Place;

const RESTART_AFTER: Duration = Duration::from_secs(1);

/// A command that may run.
pub(super) struct CommandLines {
    command: String,
    running: Option<Child>,
    started: Option<Instant>,
}

impl CommandLines {
    pub(super) fn new(command: &str) -> Self {
        Self { command: command.to_owned(), running: None, started: None }
    }

    fn running(&mut self) -> Result<&mut Child, String> {
        if self.running.is_none() {
            if self.started.is_some_and(|started| started.elapsed() < RESTART_AFTER) {
                return Err("it has just been started, and has ended".into());
            }
            self.started = Some(Instant::now());
            // Standard output is for records, and a worker's own under a supervisor.
            let shell = Command::new("/bin/sh")
                .arg("-c")
                .arg(&self.command)
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn();
            self.running = Some(shell.map_err(|error| error.to_string())?);
        }
        self.running.as_mut().ok_or_else(|| "it does not run".into())
    }
}

impl Place for CommandLines {
    fn take(&mut self, line: &str) -> Result<(), String> {
        let input = self.running()?.stdin.as_mut().ok_or("it reads nothing")?;
        let written = input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n"));
        written.map_err(|error| {
            let ended = self.running.take().map(|mut child| {
                drop(child.stdin.take());
                child.wait()
            });
            match ended {
                Some(Ok(status)) => format!("it has ended: {status}"),
                _ => error.to_string(),
            }
        })
    }

    fn flush(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// The command sees the end of its input, and is waited for.
impl Drop for CommandLines {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            drop(child.stdin.take());
            drop(child.wait());
        }
    }
}
