//! A server of LiveKit's own on free ports of loopback, where `LIVEKIT_SERVER` names its binary. No package registry has it.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::harness::eventually;
use super::skip_for_the_system;

/// A server that runs; it is killed with this value.
pub(crate) struct LiveKitServer {
    binary: String,
    /// Settings beside those that each server has, as YAML.
    settings: String,
    pub(crate) ports: Ports,
    log: tempfile::NamedTempFile,
    process: Child,
}

/// Where it listens.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    /// Signalling, workers and its API.
    pub(crate) http: u16,
    /// Peer connections over TCP.
    pub(crate) tcp: u16,
    /// Peer connections over UDP.
    pub(crate) udp: u16,
}

impl LiveKitServer {
    /// None where there is no binary, which is said.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::with_settings(test, String::new())
    }

    /// One that posts what happens to this URL.
    pub(crate) fn with_webhook(test: &str, url: &str) -> Option<Self> {
        Self::with_settings(test, format!("webhook: {{ api_key: devkey, urls: [\"{url}\"] }}"))
    }

    #[expect(clippy::disallowed_methods, reason = "the one variable that tests read")]
    fn with_settings(test: &str, settings: String) -> Option<Self> {
        let Ok(binary) = std::env::var("LIVEKIT_SERVER") else {
            skip_for_the_system(test, "LIVEKIT_SERVER names no livekit-server");
            return None;
        };
        let (ports, log) = (Ports::free(), tempfile::NamedTempFile::new().unwrap());
        let process = spawn(&binary, &settings, ports, &log);
        let server = Self { binary, settings, ports, log, process };
        server.listens();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.ports.http)
    }

    /// Wait until it has logged these words so many times since its start.
    #[track_caller]
    pub(crate) fn says(&self, words: &str, times: usize) {
        let said = || std::fs::read_to_string(self.log.path()).unwrap().matches(words).count();
        eventually(&format!("the server says `{words}`"), || (said() >= times).then_some(()));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Wait until it has ended by itself.
    #[track_caller]
    pub(crate) fn ends(&mut self) {
        eventually("the server ends", || self.process.try_wait().unwrap());
    }

    /// Kill it, without a word to anybody.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Start another one on the same ports.
    pub(crate) fn start_again(&mut self) {
        self.log = tempfile::NamedTempFile::new().unwrap();
        self.process = spawn(&self.binary, &self.settings, self.ports, &self.log);
        self.listens();
    }

    fn listens(&self) {
        eventually("the server listens", || TcpStream::connect(("127.0.0.1", self.ports.http)).ok());
    }
}

impl Drop for LiveKitServer {
    fn drop(&mut self) {
        // It may have ended.
        self.process.kill().unwrap_or_default();
        drop(self.process.wait());
    }
}

impl Ports {
    fn free() -> Self {
        // All are held until all are known, so that they differ.
        let [http, tcp] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let [http, tcp] = [http, tcp].map(|listener| listener.local_addr().unwrap().port());
        Self { http, tcp, udp: udp.local_addr().unwrap().port() }
    }
}

fn spawn(binary: &str, settings: &str, ports: Ports, log: &tempfile::NamedTempFile) -> Child {
    Command::new(binary)
        .args(["--dev", "--bind", "127.0.0.1", "--port", &ports.http.to_string()])
        .env("LIVEKIT_CONFIG", settings)
        .args(["--rtc.tcp_port", &ports.tcp.to_string(), "--udp-port", &ports.udp.to_string()])
        .stdin(Stdio::null())
        .stdout(log.reopen().unwrap())
        .stderr(log.reopen().unwrap())
        .spawn()
        .unwrap()
}
