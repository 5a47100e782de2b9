//! The worker processes that are measured, ours and that of livekit-agents: how each is made, started, asked for its memory
//! and ended.
//!
//! Bounds: a worker registers within [`START_WITHIN`] and has [`STOP_WITHIN`] once it is asked to stop; then it and all that it
//! started are killed, and so they are when a measurement is given up.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use wasm_worker_sandbox::agent::cargo;

use crate::process::Process;
use crate::server::{Peer, Server};

const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(5);
const ENTRIES_MAX: usize = 16;

/// All that is installed for livekit-agents, with versions.
const REQUIREMENTS: &str = include_str!("../interop/livekit_agents/requirements.txt");

/// What a job does.
#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    Return,
    Wait,
    Loop,
    Crash,
    /// Computes, loops or waits, as its metadata says.
    #[allow(dead_code, reason = "only the bench of overload computes")]
    Compute,
}

impl Behaviour {
    /// A guest in `tests/guests`.
    fn guest(self) -> &'static str {
        match self {
            Self::Return => "brief",
            Self::Wait => "obedient",
            Self::Loop => "spin",
            Self::Crash => "panic",
            Self::Compute => "mixed",
        }
    }

    /// What `agent.py` goes by.
    pub(crate) fn metadata(self) -> &'static str {
        match self {
            Self::Return => "return",
            Self::Wait => "wait",
            Self::Loop => "loop",
            Self::Crash => "raise",
            Self::Compute => "",
        }
    }
}

/// One of the two that are compared.
pub(crate) enum Subject {
    /// The directory of the guests.
    Ours(PathBuf),
    /// The Python that has livekit-agents.
    Theirs(PathBuf),
}

impl Subject {
    /// Compiles the guests.
    pub(crate) fn ours() -> Self {
        let mut build = cargo::component_build(&repository().join("tests/guests")).unwrap();
        build.arg("--examples");
        assert!(build.status().unwrap().success(), "the guests do not compile");
        Self::Ours(target_dir().join(cargo::TARGET).join("agent/examples"))
    }

    /// Installs livekit-agents where that has not been done; or says why it cannot be.
    pub(crate) fn theirs() -> Result<Self, String> {
        let environment = target_dir().join("livekit-agents");
        let (python, installed) = (environment.join("bin/python"), environment.join("installed.txt"));
        if std::fs::read_to_string(&installed).is_ok_and(|installed| installed == REQUIREMENTS) {
            return Ok(Self::Theirs(python));
        }
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        let requirements = interop_dir().join("requirements.txt");
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements))?;
        std::fs::write(&installed, REQUIREMENTS).unwrap();
        Ok(Self::Theirs(python))
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Ours(_) => concat!("wasm-worker ", env!("CARGO_PKG_VERSION")).into(),
            Self::Theirs(_) => {
                let pinned = REQUIREMENTS.lines().find(|line| line.starts_with("livekit-agents==")).unwrap();
                pinned.replace("==", " ")
            }
        }
    }

    /// A worker that behaves like this, with flags beyond its defaults.
    fn command(&self, behaviour: Behaviour, flags: &[&str]) -> Command {
        match self {
            Self::Ours(guests) => {
                let mut command = program(Path::new(env!("CARGO_BIN_EXE_wasm-worker")));
                command.arg("run").arg(guests.join(behaviour.guest()).with_extension("wasm"));
                command.args(flags).env("WASM_WORKER_CACHE_DIR", target_dir().join("side-by-side-cache"));
                command
            }
            Self::Theirs(python) => {
                let mut command = program(python);
                command.arg(interop_dir().join("agent.py")).arg("start").args(flags);
                command
            }
        }
    }
}

/// The user's settings do not reach it, and it has no proxy on its way to loopback.
fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_uppercase();
        if ["WASM_WORKER_", "LIVEKIT_"].iter().any(|prefix| text.starts_with(prefix)) || text.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status =
        command.stdout(Stdio::null()).status().map_err(|error| format!("`{name}` cannot be started: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{name}` failed to make its environment ({status})")) }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn interop_dir() -> PathBuf {
    repository().join("tests/interop/livekit_agents")
}

/// The binary lies in `<target>/<profile>`.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_wasm-worker")).ancestors().nth(2).unwrap().to_owned()
}

/// A worker that runs and has registered.
pub(crate) struct Worker {
    pub(crate) peer: Peer,
    pub(crate) behaviour: Behaviour,
    /// When the entrypoint of a job wrote its line, by the job's id.
    pub(crate) entries: mpsc::Receiver<(String, Instant)>,
    process: Process,
}

impl Worker {
    /// What it logs is kept in the target directory.
    pub(crate) async fn start(subject: &Subject, behaviour: Behaviour, flags: &[&str]) -> Self {
        let server = Server::bind().await;
        let mut command = subject.command(behaviour, flags);
        command.env("LIVEKIT_URL", server.url()).env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret");
        let log = target_dir().join(format!("side-by-side-{}.log", subject.name().replace(' ', "-")));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        // Theirs logs to standard output, and its jobs' own lines are on standard error.
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (entered, entries) = mpsc::channel(ENTRIES_MAX);
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || listen(stderr, log, &entered));
        let process = Process::new(child);
        let peer = server.registered(START_WITHIN).await.expect("the worker does not register");
        Self { peer, behaviour, entries, process }
    }

    /// Memory in kB that no other process shares, of the worker and all that it started.
    pub(crate) fn private_kilobytes(&self) -> u64 {
        self.process.memory().private
    }

    /// The CPU time of the worker and all that it started.
    #[allow(dead_code, reason = "only the bench of overload asks")]
    pub(crate) fn cpu(&self) -> Duration {
        self.process.cpu()
    }

    /// Ask it to stop, and kill what is left.
    pub(crate) async fn stop(mut self) {
        self.process.ask_to_end();
        let until = Instant::now() + STOP_WITHIN;
        // It closes the connection when it has stopped.
        while self.peer.hear(until).await.is_some() {}
        while Instant::now() < until && !self.process.has_ended() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Ends when all who could write are gone.
fn listen(stderr: ChildStderr, mut log: std::fs::File, entered: &mpsc::Sender<(String, Instant)>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some((_, rest)) = line.split_once("entered ")
            && let Some(id) = rest.split_once("job=\"").and_then(|(_, rest)| rest.split('"').next())
        {
            // In a burst nobody takes them.
            drop(entered.try_send((id.into(), Instant::now())));
        }
        writeln!(log, "{line}").unwrap();
    }
}
