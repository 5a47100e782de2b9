//! Runs `wasm-worker`, and builds its guests.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use wasm_worker_fuzz::core_guest;
use wasm_worker_sandbox::agent::cargo;

/// Longest wait for an event. It does not measure anything: it only ends a test that would wait for ever, on the slowest
/// machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const ASK_EVERY: Duration = Duration::from_millis(10);

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The component of a guest in `tests/guests`, or that directory's `.wat`. All are built at the first call.
pub(crate) fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let dir = root().join("tests/guests");
        let status = cargo::component_build(&dir).unwrap().arg("--examples").status().unwrap();
        assert!(status.success(), "the guests do not compile");
        target_dir().join(cargo::TARGET).join("agent/examples")
    });
    let (whole, core) = (format!("tests/guests/{name}.wat"), format!("tests/guests/core/{name}.wat"));
    match (root().join(whole), root().join(core)) {
        (whole, _) if whole.is_file() => {
            kept_file(&format!("{name}.wat"), core_guest::component_text(&read(&whole)).as_bytes())
        }
        (_, core) if core.is_file() => core_component(name, &read(&core)),
        _ => built.join(format!("{name}.wasm")),
    }
}

/// The component of a guest with this `agent.toml` in it, as `wasm-worker build` puts it there.
pub(crate) fn guest_that_asks(name: &str, manifest: &str) -> PathBuf {
    let number = |number: usize| {
        let (mut bytes, mut rest) = (Vec::new(), number);
        while rest > 0x7f {
            bytes.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        bytes.push(u8::try_from(rest).unwrap());
        bytes
    };
    let section = "wasm-worker:manifest";
    let content = [number(section.len()), section.into(), manifest.into()].concat();
    let component = std::fs::read(guest(name)).unwrap();
    let bytes = [component, vec![0], number(content.len()), content].concat();
    kept_file(&format!("{name}.wasm"), &bytes)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// A component made of the lines of a core module, in a file that stays.
pub(crate) fn core_component(name: &str, lines: &str) -> PathBuf {
    kept_file(&format!("{name}.wasm"), &core_guest::component(lines))
}

/// A file that stays. A hash of its content names its directory, so another process of the tests overwrites it with the same
/// content only.
pub(crate) fn kept_file(name: &str, bytes: &[u8]) -> PathBuf {
    let mut hash = DefaultHasher::new();
    hash.write(bytes);
    let dir = target_dir().join("core-guests").join(format!("{:016x}", hash.finish()));
    let path = dir.join(name);
    if !path.exists() {
        std::fs::create_dir_all(&dir).unwrap();
        let file = tempfile::NamedTempFile::new_in(&dir).unwrap();
        std::fs::write(&file, bytes).unwrap();
        file.persist(&path).unwrap();
    }
    path
}

/// A path as an argument.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The binary lies in `<target>/<profile>`.
pub(crate) fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_wasm-worker")).ancestors().nth(2).unwrap().to_owned()
}

/// A cache that all tests of one run share, so that each guest is compiled once.
pub(crate) fn cache_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| target_dir().join("test-agent-cache"))
}

/// What a test printed that is ignored otherwise, so that what it does to its process is done to no other test.
pub(crate) fn in_a_process_of_its_own(test: &str) -> String {
    let mut own = Command::new(std::env::current_exe().unwrap());
    let output = own.args(["--exact", test, "--ignored", "--nocapture"]).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{stdout}{stderr}");
    // A name that is none is a run of no test, and that succeeds.
    assert!(stdout.contains("1 passed"), "there is no test `{test}`");
    stdout
}

/// One call of the program, to be finished.
pub(crate) struct Call {
    command: Command,
    stdin: String,
}

/// `wasm-worker` with these arguments. The user's own settings do not reach it.
pub(crate) fn wasm_worker<'a>(args: impl IntoIterator<Item = &'a str>) -> Call {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-worker"));
    for (name, _) in std::env::vars_os() {
        if ["WASM_WORKER_", "LIVEKIT_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.env("WASM_WORKER_CACHE_DIR", cache_dir()).args(args);
    Call { command, stdin: String::new() }
}

/// `wasm-worker run GUEST --job` with more arguments.
pub(crate) fn run_guest<'a>(name: &str, args: impl IntoIterator<Item = &'a str>) -> Call {
    let guest = guest(name);
    wasm_worker(["run", guest.to_str().unwrap(), "--job"]).args(args)
}

impl Call {
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    pub(crate) fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// No file may become longer than 8 KiB, as on a disk that is full.
    pub(crate) fn on_a_full_disk(self) -> Self {
        self.after("ulimit -f 16")
    }

    /// Run these commands of a shell first, in the same process.
    pub(crate) fn after(self, commands: &str) -> Self {
        let commands = format!("{commands}; exec \"$0\" \"$@\"");
        self.by(&["/bin/sh", "-c", &commands])
    }

    /// Run by another program, which gets the program and its arguments as its last arguments.
    pub(crate) fn by(mut self, program: &[&str]) -> Self {
        let mut other = Command::new(program[0]);
        other.args(&program[1..]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => other.env(name, value),
                None => other.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            other.current_dir(dir);
        }
        self.command = other;
        self
    }

    pub(crate) fn stdin(mut self, text: &str) -> Self {
        text.clone_into(&mut self.stdin);
        self
    }

    /// The process has no controlling terminal, so a hang-up is a request to reload.
    pub(crate) fn without_a_terminal(self) -> Self {
        self.by(&["/usr/bin/setsid"])
    }

    /// The process ignores hang-ups at its start, as under `nohup`.
    pub(crate) fn under_nohup(self) -> Self {
        self.after("trap '' HUP")
    }

    /// The command itself, for a test that gives it streams of its own.
    pub(crate) fn command(self) -> Command {
        self.command
    }

    pub(crate) fn start(mut self) -> Started {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let reader = read_along(child.stderr.take().unwrap(), said.clone());
        match child.stdin.take().unwrap().write_all(self.stdin.as_bytes()) {
            // A program need not read all of its input.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.unwrap(),
        }
        Started { child, said, reader }
    }

    /// Run to the end.
    pub(crate) fn done(self) -> Done {
        self.start().done()
    }
}

/// A call that runs.
pub(crate) struct Started {
    child: Child,
    /// Standard error so far.
    said: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

/// Collect a stream while the process runs, so that a test can wait for a line, and the process never waits for a reader.
fn read_along(mut stream: ChildStderr, said: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut bytes = [0; 8 << 10];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            said.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
        }
    })
}

/// Where a worker answers HTTP, and with which token.
pub(crate) struct Door {
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Door {
    /// The HTTP endpoint of the process with this id, once the process announced itself in this cache directory. A killed worker
    /// that had the same id may have left an announcement, whose port nobody listens at.
    pub(crate) fn of(cache: &Path, pid: u32) -> Self {
        let listens =
            |door: &Value| TcpStream::connect(door["url"].as_str().unwrap().trim_start_matches("http://")).is_ok();
        let announced = || announcements(cache).find(|door| door["pid"] == pid && listens(door));
        let door = eventually("it announces itself", announced);
        let part = |name: &str| door[name].as_str().unwrap().to_owned();
        Self { url: part("url"), token: part("token") }
    }

    /// Status and body.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, &self.token)
    }

    pub(crate) fn post(&self, path: &str) -> (u16, String) {
        self.ask("POST", path, &self.token)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, token: &str) -> (u16, String) {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        let request = request.header("Authorization", format!("Bearer {token}")).body(()).unwrap();
        let mut response = agent.run(request).unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }
}

/// What the workers that announced themselves in this cache directory have written.
fn announcements(cache: &Path) -> impl Iterator<Item = Value> {
    let files = std::fs::read_dir(cache.join("workers")).into_iter().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok());
    texts.filter_map(|text| serde_json::from_str(&text).ok())
}

/// Ask again until there is an answer.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "it does not come to this: {what}");
        pause(ASK_EVERY);
    }
}

/// Stop this thread for a while.
#[expect(clippy::disallowed_methods, reason = "nobody waits for this thread")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

impl Started {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kill it, and wait until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Standard error so far.
    pub(crate) fn said(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Wait until this text is in standard error.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) {
        eventually(&format!("it says `{text}`"), || self.said().contains(text).then_some(()));
    }

    /// Its standard output, to be read while it runs.
    pub(crate) fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// Stop reading its standard output.
    pub(crate) fn hang_up(&mut self) {
        drop(self.child.stdout.take());
    }

    pub(crate) fn done(self) -> Done {
        let output = self.child.wait_with_output().unwrap();
        self.reader.join().unwrap();
        let stderr = std::mem::take(&mut *self.said.lock().unwrap_or_else(PoisonError::into_inner));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Done {
            exit: output.status.code().expect("ended by a signal"),
            stdout: text(output.stdout),
            stderr: text(stderr),
        }
    }
}

/// A call that has ended.
pub(crate) struct Done {
    pub(crate) exit: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Every line of standard output, which is JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The one record.
    #[track_caller]
    pub(crate) fn record(&self) -> Value {
        let mut lines = self.lines();
        assert_eq!(lines.len(), 1, "want one record:\n{}\n{}", self.stdout, self.stderr);
        lines.remove(0)
    }

    /// The code of the one record's verdict.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let record = self.record();
        record["verdict"]["code"].as_str().unwrap_or_else(|| panic!("no verdict in {record}")).to_owned()
    }

    /// The texts that the one job sent, by topic.
    #[track_caller]
    pub(crate) fn texts(&self) -> BTreeMap<String, Vec<String>> {
        let mut texts = BTreeMap::<String, Vec<String>>::new();
        for sent in self.record()["activity"]["texts"].as_array().unwrap() {
            let part = |name: &str| sent[name].as_str().unwrap().to_owned();
            texts.entry(part("topic")).or_default().push(part("text"));
        }
        texts
    }

    /// Exit status and a part of standard error.
    #[track_caller]
    pub(crate) fn fails_with(&self, exit: i32, parts: &[&str]) {
        assert_eq!(self.exit, exit, "{}{}", self.stdout, self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
    }
}
