//! The worker behind a server: a scripted one that speaks LiveKit's protocol on loopback, and a real one where
//! `LIVEKIT_SERVER` names its binary.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::harness::{guest, wasm_worker};
use crate::support::scripted_server::{Server, behind, ended, run, start, stopped};

#[test]
fn job_runs_from_its_offer_to_its_report() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--agent-name", "support"]);
        let mut peer = server.accept().await;
        let ToServer::Register(register) = peer.receive().await else { panic!("not a registration") };
        assert_eq!((register.agent_name.as_str(), register.r#type), ("support", 0));
        assert!(register.allowed_permissions.unwrap().can_publish_data);
        peer.send(FromServer::Register(proto::RegisterWorkerResponse::default())).await;
        assert!(peer.status(false).await.load < 0.1);

        peer.offer("AJ_1").await;
        let answer = peer.answer().await;
        assert!(answer.available && !answer.terminate);
        assert_eq!((answer.job_id.as_str(), answer.participant_identity.as_str()), ("AJ_1", "agent-AJ_1"));
        assert_eq!(answer.participant_attributes["lk.agent.name"], "support");
        peer.assign("AJ_1").await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsRunning);
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_1".into() })).await;
        assert_eq!(peer.report().await, ("AJ_1".into(), proto::JobStatus::JsSuccess, String::new()));
        let done = stopped(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert!(done.stderr.contains("code=terminated"), "{}", done.stderr);
    });
}

#[test]
fn report_of_a_failed_job_has_its_reason() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("panic", &[]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        let (job, status, error) = peer.report().await;
        assert_eq!((job.as_str(), status), ("AJ_1", proto::JobStatus::JsFailed));
        assert!(error.starts_with("trapped: panicked at tests/guests/panic.rs"), "{error}");
        assert_eq!(stopped(worker, peer).await.exit, 0);
    });
}

#[test]
fn rejection_by_the_agent_is_passed_on() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("reject", &[]);
        let mut peer = server.registered().await;
        peer.offer("AJ_1").await;
        let answer = peer.answer().await;
        assert!(!answer.available && answer.terminate, "{answer:?}");
        let done = stopped(worker, peer).await;
        assert!(done.stderr.contains("offer.refused") && done.stderr.contains("never in the mood"), "{}", done.stderr);
    });
}

#[test]
fn full_worker_reports_its_status_and_refuses_with_a_reason() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--max-jobs", "1"]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        peer.offer("AJ_2").await;
        let answer = peer.answer().await;
        assert!(!answer.available && !answer.terminate, "{answer:?}");
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_1".into() })).await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        peer.status(false).await;
        // Events say it once a second.
        tokio::time::sleep(Duration::from_millis(1_600)).await;
        peer.begin("AJ_3").await;
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_3".into() })).await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        let done = stopped(worker, peer).await;
        for part in ["worker.full", "worker.available", "reason=\"full\"", "max-jobs"] {
            assert!(done.stderr.contains(part), "`{part}` is missing in:\n{}", done.stderr);
        }
    });
}

#[test]
fn job_survives_its_connection_and_is_reported_on_the_next() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &[]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        // An offer that was accepted is forgotten with the connection.
        peer.offer("AJ_2").await;
        assert!(peer.answer().await.available);
        drop(peer);
        let mut peer = server.registered().await;
        let migrate = peer.receive().await;
        assert!(matches!(&migrate, ToServer::MigrateJob(jobs) if jobs.job_ids == ["AJ_1"]), "{migrate:?}");
        peer.assign("AJ_2").await;
        let (job, status, error) = peer.report().await;
        assert_eq!((job.as_str(), status), ("AJ_2", proto::JobStatus::JsFailed), "{error}");
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_1".into() })).await;
        assert_eq!(peer.report().await, ("AJ_1".into(), proto::JobStatus::JsSuccess, String::new()));
        let done = stopped(worker, peer).await;
        assert!(done.stderr.contains("link.lost") && done.stderr.contains("withdrawn"), "{}", done.stderr);
    });
}

#[test]
fn end_without_a_connection_is_reported_on_the_next() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("sleep", &["--max-duration", "100ms"]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        drop(peer);
        let mut peer = server.registered().await;
        let (job, status, error) = match peer.receive().await {
            ToServer::MigrateJob(_) => peer.report().await,
            ToServer::UpdateJob(proto::UpdateJobStatus { job_id, status, error }) => {
                (job_id, status.try_into().unwrap(), error)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!((job.as_str(), status), ("AJ_1", proto::JobStatus::JsFailed));
        assert!(error.starts_with("deadline: "), "{error}");
        stopped(worker, peer).await;
    });
}

#[test]
fn invalid_frames_and_repeated_messages_do_not_stop_the_worker() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("echo", &[]);
        let garbage = [
            Message::Binary(vec![0xff; 100].into()),
            Message::Text("{}".into()),
            Message::Binary(vec![0; (2 << 20) + 1].into()),
            Message::Close(None),
        ];
        for frame in garbage {
            let mut peer = server.registered().await;
            // It may have closed before it has taken all of it.
            drop(peer.0.send(frame).await);
            while matches!(peer.0.next().await, Some(Ok(_))) {}
        }
        let mut peer = server.accept().await;
        peer.receive().await;
        peer.offer("too early").await;
        while matches!(peer.0.next().await, Some(Ok(_))) {}

        let mut peer = server.registered().await;
        let unknown = proto::JobTermination { job_id: "unknown".into() };
        peer.send(FromServer::Termination(unknown)).await;
        peer.assign("unknown").await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsFailed);
        peer.send(FromServer::Availability(proto::AvailabilityRequest::default())).await;
        peer.0.send(Message::Binary(Vec::new().into())).await.unwrap();
        peer.send(FromServer::Register(proto::RegisterWorkerResponse::default())).await;
        peer.begin("AJ_1").await;
        peer.assign("AJ_1").await;
        peer.offer("AJ_1").await;
        let terminate = |job: &str| FromServer::Termination(proto::JobTermination { job_id: job.into() });
        peer.send(terminate("AJ_1")).await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        // It has ended, and nothing is left to be said of it.
        peer.send(terminate("AJ_1")).await;
        peer.begin("AJ_2").await;
        peer.send(terminate("AJ_2")).await;
        assert_eq!(peer.report().await, ("AJ_2".into(), proto::JobStatus::JsSuccess, String::new()));
        assert_eq!(stopped(worker, peer).await.exit, 0);
    });
}

#[test]
fn burst_of_a_thousand_offers_is_answered_and_run() {
    const JOBS: usize = 1_000;
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("neighbour", &["--log-level", "error"]);
        let mut peer = server.registered().await;
        let began = tokio::time::Instant::now();
        for n in 0..JOBS {
            peer.offer(&format!("AJ_{n}")).await;
        }
        let (mut answered, mut ended) = (0, 0);
        while ended < JOBS {
            match peer.receive().await {
                ToServer::Availability(answer) => {
                    assert!(answer.available, "{answer:?}");
                    peer.assign(&answer.job_id).await;
                    answered += 1;
                    if answered == JOBS {
                        println!("{JOBS} offers answered in {:?}", began.elapsed());
                    }
                }
                ToServer::UpdateJob(report) if report.status == proto::JobStatus::JsSuccess as i32 => ended += 1,
                ToServer::UpdateJob(report) => assert_eq!(report.status, proto::JobStatus::JsRunning as i32),
                other => panic!("{other:?}"),
            }
        }
        println!("{JOBS} jobs ended in {:?}", began.elapsed());
        assert_eq!(stopped(worker, peer).await.exit, 0);
    });
}

#[test]
fn drain_waits_for_the_jobs_and_reports_each_before_the_connection_closes() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &[]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        worker.signal(Signal::TERM);
        assert!(peer.status(true).await.draining);
        peer.offer("AJ_2").await;
        assert!(!peer.answer().await.available);
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_1".into() })).await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        let done = ended(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert!(done.stderr.contains("worker.draining") && done.stderr.contains("worker.drained"), "{}", done.stderr);
    });
}

#[test]
fn drain_ends_at_its_timeout_or_at_a_second_signal() {
    run(async {
        for (flags, error) in [(["--drain-timeout", "200ms"], None), (["--drain-timeout", "1h"], Some("killed: "))] {
            let server = Server::bind().await;
            let worker = server.worker("obedient", &flags);
            let mut peer = server.registered().await;
            peer.begin("AJ_1").await;
            worker.signal(Signal::INT);
            peer.status(true).await;
            if error.is_some() {
                worker.signal(Signal::INT);
            }
            let (_, status, said) = peer.report().await;
            let wanted = if error.is_some() { proto::JobStatus::JsFailed } else { proto::JobStatus::JsSuccess };
            assert_eq!(status, wanted, "{said}");
            assert!(said.starts_with(error.unwrap_or_default()), "{said}");
            let done = ended(worker, peer).await;
            assert_eq!(done.exit, 130, "{}", done.stderr);
            assert!(done.stderr.contains("1 job cut short"), "{}", done.stderr);
        }
    });
}

#[test]
fn draining_worker_publishes_no_available_event() {
    run(async {
        let server = Server::bind().await;
        // Longer than the second that lies between two events of it.
        let worker = server.worker("obedient", &["--drain-timeout", "1200ms", "--max-jobs", "1"]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        worker.signal(Signal::INT);
        peer.report().await;
        let done = ended(worker, peer).await;
        assert!(done.stderr.contains("worker.full") && !done.stderr.contains("worker.available"), "{}", done.stderr);
    });
}

#[test]
fn absent_or_refusing_server_is_given_up_with_a_reason() {
    run(async {
        // A port where nobody listens any more.
        let gone = Server::bind().await.0.local_addr().unwrap();
        let worker = start(&format!("ws://{gone}"), "echo", &["--max-retry", "2"]);
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        done.fails_with(1, &["no connection to the server: ws://127.0.0.1:", "refused", "hint: check LIVEKIT_URL"]);
        assert_eq!(done.stderr.matches("link.lost").count(), 3, "{}", done.stderr);

        let server = Server::bind().await;
        let worker = server.worker("echo", &[]);
        let (mut stream, _) = server.0.accept().await.unwrap();
        let reply = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 8\r\n\r\nno such!";
        tokio::io::AsyncWriteExt::write_all(&mut stream, reply).await.unwrap();
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        done.fails_with(1, &["the server refused the key or its secret: no such!"]);
    });
}

#[test]
fn job_assigned_during_a_drain_is_stopped_with_the_others() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--drain-timeout", "100ms"]);
        let mut peer = server.registered().await;
        peer.offer("AJ_1").await;
        assert!(peer.answer().await.available);
        worker.signal(Signal::TERM);
        peer.status(true).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        peer.assign("AJ_1").await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsRunning);
        assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        let done = ended(worker, peer).await;
        assert_eq!(done.exit, 130, "{}", done.stderr);
        assert!(done.stderr.contains("code=drained"), "{}", done.stderr);
    });
}

#[test]
fn busy_machine_makes_the_worker_full() {
    run(async {
        let server = Server::bind().await;
        let flags = ["--load-threshold", "0.000001", "--load-log", "100ms"];
        let worker = server.worker("obedient", &flags);
        let mut peer = server.registered().await;
        // Whatever the machine does, it does something.
        peer.status(true).await;
        peer.offer("AJ_1").await;
        let answer = peer.answer().await;
        assert!(!answer.available && !answer.terminate, "{answer:?}");
        let done = stopped(worker, peer).await;
        for part in ["reason=\"load\"", "past `load-threshold`", "worker.load"] {
            assert!(done.stderr.contains(part), "`{part}` is missing in:\n{}", done.stderr);
        }
    });
}

#[test]
fn server_variables_do_not_affect_a_local_job() {
    let call = crate::support::harness::run_guest("echo", []).env("LIVEKIT_URL", "ws://nowhere").env("NUM_CPUS", "many");
    assert_eq!(call.done().exit, 0);
}

#[test]
fn missing_or_invalid_connection_settings_are_errors() {
    let guest = guest("echo");
    let run = |flags: &[&'static str]| wasm_worker(["run", guest.to_str().unwrap()]).args(flags.iter().copied()).done();
    // Without a URL there is a dispatcher, which another test is about.
    run(&["--url", "ws://x", "--api-secret", "s"])
        .fails_with(2, &["the API key (`--api-key`) is missing", "hint: set LIVEKIT_API_KEY"]);
    run(&["--url", "ws://x", "--api-key", "k"]).fails_with(2, &["the API secret (`--api-secret`) is missing"]);
    let with = |url| run(&["--url", url, "--api-key", "k", "--api-secret", "s"]);
    with("localhost").fails_with(2, &["`url` (command line): `localhost` is not usable: want ws://"]);
    with("ws://a b").fails_with(2, &["`url` (command line): `ws://a b` is not usable: want ws://"]);
    with("ws://[a").fails_with(2, &["the server's URL `ws://[a` is not usable"]);
    let cores = ["--url", "ws://x", "--api-key", "k", "--api-secret", "s", "--cores", "0"];
    run(&cores).fails_with(2, &["`cores` (command line): `0` is not usable"]);
    run(&["--deployment", "a_b"]).fails_with(2, &["`deployment` (command line): `a_b` is not usable"]);
    let variable = wasm_worker(["run", guest.to_str().unwrap()]).env("LIVEKIT_URL", "nowhere").done();
    variable.fails_with(2, &["`url` (LIVEKIT_URL): `nowhere` is not usable"]);
}

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

#[test]
fn real_server_assigns_jobs_and_receives_their_ends() {
    run(async {
        let Some(mut server) = RealServer::start() else {
            println!("skipped: LIVEKIT_SERVER names no livekit-server");
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
            println!("skipped: LIVEKIT_SERVER names no livekit-server");
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
