//! The worker behind a real LiveKit server, where `LIVEKIT_SERVER` names its binary.
//!
//! These tests are skipped without a failure elsewhere: no package registry has the server.

use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::support::harness::guest;
use crate::support::scripted_server::{behind, run, start};

/// A call of one of the server's APIs, as its clients make them. The answer is JSON.
async fn twirp(port: u16, method: &str, body: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let grants = livekit_token::VideoGrants { room_admin: true, room: "lobby".into(), ..Default::default() };
    let token = livekit_token::AccessToken::with_api_key("devkey", "secret").with_grants(grants).to_jwt().unwrap();
    let request = format!(
        "POST /twirp/livekit.AgentDispatchService/{method} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

/// A server of LiveKit's own on free ports of loopback; none where `LIVEKIT_SERVER` names no binary.
struct RealServer {
    binary: String,
    port: u16,
    log: tempfile::NamedTempFile,
    process: tokio::process::Child,
}

impl RealServer {
    #[expect(clippy::disallowed_methods, reason = "the one variable that tests read")]
    fn start() -> Option<Self> {
        let binary = std::env::var("LIVEKIT_SERVER").ok()?;
        let log = tempfile::NamedTempFile::new().unwrap();
        let port = free_port();
        let process = Self::spawn(&binary, port, &log);
        Some(Self { binary, port, log, process })
    }

    fn spawn(binary: &str, port: u16, log: &tempfile::NamedTempFile) -> tokio::process::Child {
        let (tcp, udp) = (free_port(), free_port());
        tokio::process::Command::new(binary)
            .args(["--dev", "--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--rtc.tcp_port", &tcp.to_string(), "--udp-port", &udp.to_string()])
            .stdout(log.reopen().unwrap())
            .stderr(log.reopen().unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn says(&self, words: &str, times: usize) {
        while std::fs::read_to_string(self.log.path()).unwrap().matches(words).count() < times {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn restart(&mut self) {
        self.process.kill().await.unwrap();
        self.log = tempfile::NamedTempFile::new().unwrap();
        self.process = Self::spawn(&self.binary, self.port, &self.log);
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The one skip that is no failure in CI: see `support::skip`.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn no_server() {
    println!("skipped: LIVEKIT_SERVER names no livekit-server");
}

#[test]
fn real_server_assigns_jobs_and_receives_their_ends() {
    run(async {
        let Some(mut server) = RealServer::start() else {
            no_server();
            return;
        };
        // The server may not listen yet: the worker tries again.
        let worker = start(&server.url(), "panic", &["--agent-name", "tester"]);
        server.says("\"agentName\": \"tester\"", 1).await;
        let created = twirp(server.port, "CreateDispatch", r#"{"agent_name": "tester", "room": "lobby"}"#).await;
        assert!(created.starts_with("HTTP/1.1 200"), "{created}");
        server.says("\"status\": \"JS_FAILED\", \"error\": \"trapped: panicked at tests/guests/panic.rs", 1).await;
        worker.signal(Signal::TERM);
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        assert_eq!(done.exit, 0, "{}", done.stderr);
        server.says("the worker was stopped", 1).await;
        server.process.kill().await.unwrap();
    });
}

#[test]
fn two_workers_form_a_pool_of_a_real_server_and_survive_its_restart() {
    run(async {
        let Some(mut server) = RealServer::start() else {
            no_server();
            return;
        };
        let events = [tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap()];
        let said = |at: usize, event: &str| {
            let text = std::fs::read_to_string(events[at].path()).unwrap();
            text.matches(&format!("\"{event}\"")).count()
        };
        let until = async |done: &dyn Fn() -> bool| {
            while !done() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let workers = [0, 1].map(|at| {
            let call = behind(&server.url(), &[guest("obedient").to_str().unwrap()]);
            call.args(["--max-jobs", "1", "--http", "off", "--events", events[at].path().to_str().unwrap()]).start()
        });
        until(&|| said(0, "worker.registered") + said(1, "worker.registered") == 2).await;
        let dispatch = async |room: &str| {
            let body = format!(r#"{{"agent_name": "obedient", "room": "{room}"}}"#);
            assert!(twirp(server.port, "CreateDispatch", &body).await.starts_with("HTTP/1.1 200"));
        };
        // Who is full passes, and the other one takes the job.
        dispatch("lobby").await;
        until(&|| said(0, "worker.full") + said(1, "worker.full") == 1).await;
        dispatch("lobby").await;
        until(&|| said(0, "job.launched") == 1 && said(1, "job.launched") == 1).await;
        // Both jobs outlive the server, and their ends are told to the next one.
        server.restart().await;
        until(&|| said(0, "link.restored") == 1 && said(1, "link.restored") == 1).await;
        assert_eq!(said(0, "job.closed") + said(1, "job.closed"), 0);
        workers.iter().for_each(|worker| worker.signal(Signal::TERM));
        until(&|| said(0, "worker.draining") + said(1, "worker.draining") == 2).await;
        workers.iter().for_each(|worker| worker.signal(Signal::TERM));
        for worker in workers {
            let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
            assert_eq!(done.exit, 130, "{}", done.stderr);
        }
        server.says("the worker was stopped", 2).await;
        server.process.kill().await.unwrap();
    });
}
