//! What a worker, a supervisor and a dispatcher tell the service manager that started them, by the protocol of systemd.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{Call, guest, path, pause, wasm_worker};

/// The watchdog of the tests, in microseconds: a ping each second.
const WATCHDOG_USEC: &str = "3000000";
/// Longest wait for a message. It only ends a test that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// A service manager that listens.
struct Manager {
    socket: UnixDatagram,
    dir: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, dir }
    }

    /// A call in the environment that systemd gives a service.
    fn starts(&self, call: Call) -> Call {
        call.env("NOTIFY_SOCKET", self.dir.path().join("notify")).env("WATCHDOG_USEC", WATCHDOG_USEC)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 4_096];
        let length = self.socket.recv(&mut bytes).expect("no message comes");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// The messages up to the first one with this line.
    #[track_caller]
    fn until(&self, wanted: &str) -> Vec<String> {
        let (mut messages, began) = (Vec::new(), Instant::now());
        loop {
            let message = self.next();
            let found = message.lines().any(|line| line == wanted);
            messages.push(message);
            if found {
                return messages;
            }
            assert!(began.elapsed() < PATIENCE, "`{wanted}` does not come, but {messages:?}");
        }
    }

    /// Wait for this status, unless it is among these messages. Those that come are added to them.
    #[track_caller]
    fn until_status(&self, seen: &mut Vec<String>, status: &str) {
        let line = format!("STATUS={status}");
        if !has(seen, &line) {
            seen.extend(self.until(&line));
        }
    }

    /// The messages that have come.
    fn drain(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut messages = Vec::new();
        let mut bytes = [0; 4_096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            messages.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
        self.socket.set_nonblocking(false).unwrap();
        messages
    }
}

fn has(messages: &[String], line: &str) -> bool {
    messages.iter().any(|message| message.lines().any(|found| found == line))
}

/// A worker with a dispatcher of its own.
fn worker(dir: &std::path::Path, flags: &[&str]) -> Call {
    let store = dir.join("store.db");
    let call = wasm_worker(["run", path(&guest("echo")), "--listen", "127.0.0.1:0", "--http", "off"]);
    call.args(["--store", path(&store), "--load-threshold", "none"]).args(flags.iter().copied())
}

#[test]
fn worker_tells_its_service_manager_when_it_is_ready_reloads_lives_and_stops() {
    let manager = Manager::new();
    let worker = manager.starts(worker(manager.dir.path(), &[])).start();
    let mut start = manager.until("READY=1");
    assert!(!has(&start, "STOPPING=1") && !has(&start, "RELOADING=1"), "{start:?}");
    manager.until_status(&mut start, "serving 1 agent, running 0 jobs");
    manager.until("WATCHDOG=1");
    worker.signal(Signal::HUP);
    let reload = manager.until("RELOADING=1");
    assert!(reload.last().unwrap().contains("\nMONOTONIC_USEC="), "{reload:?}");
    manager.until("READY=1");
    worker.signal(Signal::TERM);
    manager.until("STOPPING=1");
    let done = worker.done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
}

#[test]
fn watchdog_is_not_fed_by_a_worker_that_hangs() {
    let manager = Manager::new();
    let worker = manager.starts(worker(manager.dir.path(), &[])).start();
    manager.until("WATCHDOG=1");
    worker.signal(Signal::STOP);
    pause(Duration::from_millis(200));
    manager.drain();
    pause(Duration::from_secs(3));
    assert!(manager.drain().is_empty(), "a process that is stopped pings");
    worker.signal(Signal::CONT);
    manager.until("WATCHDOG=1");
    worker.signal(Signal::TERM);
    assert_eq!(worker.done().exit, 0);
}

#[test]
fn service_manager_without_a_file_is_told_too() {
    let name = format!("wasm-worker-tests-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let manager = Manager { socket, dir: tempfile::tempdir().unwrap() };
    let call = wasm_worker(["serve", "--listen", "127.0.0.1:0", "--store", path(&manager.dir.path().join("store.db"))]);
    let dispatcher = call.env("NOTIFY_SOCKET", format!("@{name}")).env("WATCHDOG_USEC", WATCHDOG_USEC).start();
    let start = manager.until("READY=1");
    assert!(start.last().unwrap().contains("\nSTATUS=dispatching at ws://127.0.0.1:"), "{start:?}");
    manager.until("WATCHDOG=1");
    dispatcher.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert_eq!(dispatcher.done().exit, 0);
}

#[test]
fn supervisor_speaks_to_the_service_manager_for_its_processes() {
    let manager = Manager::new();
    let worker = manager.starts(worker(manager.dir.path(), &["--workers", "2"])).start();
    let mut messages = manager.until("READY=1");
    manager.until_status(&mut messages, "2 processes wanted, 2 running, 2 registered");
    messages.extend(manager.until("WATCHDOG=1"));
    worker.signal(Signal::TERM);
    messages.extend(manager.until("STOPPING=1"));
    let done = worker.done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    messages.extend(manager.drain());
    let ready = messages.iter().flat_map(|message| message.lines()).filter(|line| *line == "READY=1").count();
    assert_eq!(ready, 1, "a process of the supervisor says that it is ready: {messages:?}");
}

#[test]
fn service_manager_that_is_gone_costs_a_warning_and_no_job() {
    let dispatcher = Dispatcher::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let nobody = dir.path().join("nobody");
    let call = wasm_worker(["run", path(&guest("echo")), "--http", "off"]).env("NOTIFY_SOCKET", nobody);
    let call = call.env("LIVEKIT_URL", &dispatcher.url).env("LIVEKIT_API_KEY", "devkey");
    let worker = call.env("LIVEKIT_API_SECRET", "secret").args(["--load-threshold", "none"]).start();
    worker.says("the service manager cannot be told the state of this process");
    worker.says("worker.registered");
    let id = dispatcher.dispatch("r", "echo", "");
    assert_eq!(dispatcher.ended(&id)["code"], "completed");
    worker.signal(Signal::TERM);
    assert_eq!(worker.done().exit, 0);
}
