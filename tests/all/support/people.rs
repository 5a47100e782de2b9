//! People in rooms: LiveKit's own clients for Python, for Node and for browsers. `tests/interop/README.md` says what they are told and
//! what they tell.

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::skip;
use super::toolchains::{PYTHON, installed_node, installed_python};

/// Longest wait for the next line. It only ends a test that would wait for ever, on the slowest machine too.
const PATIENCE: Duration = Duration::from_secs(180);

/// The least share of the power that is at the frequency of a tone which is heard.
pub(crate) const SHARE_MIN: f64 = 0.95;
/// Time in which a tone is heard clearly once. The first sound of a track is quiet or broken, and a client that gets no time loses some.
const HEARS_WITHIN_MS: u32 = 60_000;

/// A client of LiveKit's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// PyPI's `livekit`.
    Python,
    /// npm's `@livekit/rtc-node`.
    Node,
    /// npm's `livekit-client` in Chromium.
    Browser,
    /// PyPI's `livekit` with two peer connections.
    PythonOfTwo,
    /// npm's `livekit-client` in Chromium, with two peer connections.
    BrowserOfTwo,
}

/// Somebody in a room, who leaves it with this value.
pub(crate) struct Person {
    process: Child,
    /// Closed, it ends.
    orders: Option<ChildStdin>,
    lines: Receiver<Value>,
    /// All that it has told.
    told: Vec<Value>,
    /// Number of these that the test has looked at.
    looked_at: usize,
}

impl Client {
    /// Its identity in rooms.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Python => "ann-by-python",
            Self::Node => "ann-by-node",
            Self::Browser => "ann-by-browser",
            Self::PythonOfTwo => "ann-by-python-of-two",
            Self::BrowserOfTwo => "ann-by-browser-of-two",
        }
    }

    /// Join a room with this token. None where the machine lacks something, which is said.
    pub(crate) fn joins(self, url: &str, token: &str) -> Option<Person> {
        let mut command = match self {
            Self::Python | Self::PythonOfTwo => {
                let dir = installed_python("clients")?;
                let mut command = Command::new(dir.join(PYTHON));
                command.arg(dir.join("person.py"));
                command
            }
            Self::Node => node("person.mjs")?,
            Self::Browser | Self::BrowserOfTwo => {
                if !Path::new(CHROMIUM).exists() {
                    skip("people", "there is no Chromium on this machine");
                    return None;
                }
                node("person_browser.mjs")?
            }
        };
        let connections = if matches!(self, Self::PythonOfTwo | Self::BrowserOfTwo) { "two" } else { "one" };
        command.args([url, token, connections]);
        Some(Person::begin(command))
    }
}

/// Somebody who tells every event of its room, as `tests/interop/clients/witness.py` does. None where the machine lacks something,
/// which is said.
pub(crate) fn witness(url: &str, token: &str) -> Option<Person> {
    let dir = installed_python("clients")?;
    let mut command = Command::new(dir.join(PYTHON));
    command.arg(dir.join("witness.py")).args([url, token]);
    Some(Person::begin(command))
}

impl Person {
    fn begin(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // It has no proxy on its way to loopback. A browser starts more processes, which are ended as a group.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().to_uppercase().ends_with("_PROXY") {
                command.env_remove(name);
            }
        }
        let mut process = command.process_group(0).spawn().unwrap();
        let (told, lines) = channel();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            // The client for Node writes its log there too.
            let lines = stdout.lines().map_while(Result::ok).map(|line| serde_json::from_str::<Value>(&line).unwrap());
            // Nothing reads the lines of one who is gone.
            lines.filter(|line| line["saw"].is_string()).all(|line| told.send(line).is_ok())
        });
        let orders = process.stdin.take();
        Self { process, orders, lines, told: Vec::new(), looked_at: 0 }
    }
}

/// Where Debian's package is.
const CHROMIUM: &str = "/usr/bin/chromium";

/// Whether a person tells this.
pub(crate) fn saw(line: &Value, what: &str) -> bool {
    line["saw"] == what
}

fn node(script: &str) -> Option<Command> {
    let mut command = Command::new("node");
    command.arg(installed_node("clients")?.join(script));
    Some(command)
}

impl Person {
    /// Have it do something.
    pub(crate) fn order(&mut self, order: &Value) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
    }

    /// Read on until the lines that were not looked at are complete, and return these.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, is_complete: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        while !is_complete(&self.told[self.looked_at..]) {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.told.push(line),
                Err(why) => panic!("no {what} ({why}) in {:#?}", &self.told[self.looked_at..]),
            }
        }
        let lines = self.told[self.looked_at..].to_vec();
        self.looked_at = self.told.len();
        lines
    }

    /// Read on until a line that was not looked at is this, and return it.
    #[track_caller]
    pub(crate) fn sees(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let lines = self.until(what, |lines| lines.iter().any(&is_it));
        lines.into_iter().find(is_it).unwrap()
    }

    /// Have it speak a tone.
    pub(crate) fn speaks(&mut self, hz: u32, ms: u32) {
        self.order(&json!({ "do": "speak", "hz": hz, "ms": ms }));
    }

    /// Hear a tone of somebody for so long, clearly and without much silence.
    #[track_caller]
    pub(crate) fn hears(&mut self, who: &str, hz: u32, ms: u32) {
        let mut heard = Vec::new();
        for _ in 0..HEARS_WITHIN_MS / ms {
            let sound = self.hears_something(who, hz, ms);
            let loud = sound["loud_ms"].as_f64() > Some(f64::from(ms) / 2.0);
            if loud && sound["share"].as_f64() >= Some(SHARE_MIN) {
                return;
            }
            heard.push(sound);
        }
        panic!("{hz} Hz of {who} are not heard: {heard:#?}");
    }

    /// Hear nothing of somebody for a second.
    #[track_caller]
    pub(crate) fn hears_nothing(&mut self, who: &str) {
        let is_silent = |sound: &Value| sound["loud_ms"].as_f64() == Some(0.0);
        let tries = HEARS_WITHIN_MS / 1_000;
        assert!((0..tries).any(|_| is_silent(&self.hears_something(who, 440, 1_000))), "{who} is still heard");
    }

    fn hears_something(&mut self, who: &str, hz: u32, ms: u32) -> Value {
        self.order(&json!({ "do": "hear", "who": who, "hz": hz, "ms": ms }));
        self.sees("sound", |line| saw(line, "sound") || saw(line, "failed"))
    }

    /// All that it has told so far.
    pub(crate) fn told(&mut self) -> &[Value] {
        self.told.extend(self.lines.try_iter());
        &self.told
    }

    /// Have it leave the room as a person does, and wait for it.
    #[track_caller]
    pub(crate) fn leaves(mut self) {
        drop(self.orders.take());
        assert!(self.process.wait().unwrap().success(), "{:#?}", self.told);
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            // Not waited for yet, so its id is still its own; but all of the group may have ended.
            kill_process_group(Pid::from_child(&self.process), Signal::KILL).unwrap_or_default();
            drop(self.process.wait());
        }
    }
}
