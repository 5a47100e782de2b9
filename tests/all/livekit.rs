//! The worker behind a server: a scripted one that speaks LiveKit's protocol on loopback, and a real one where
//! `LIVEKIT_SERVER` names its binary.

use std::future::Future;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use prost::Message as _;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use rustix::process::Signal;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Done, Started, guest, wasm_worker};

/// Longer than anything here takes, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.expect("the test takes too long") })
}

/// A server that does what a test says.
struct Server(TcpListener);

/// One connection of a worker.
struct Peer(WebSocketStream<TcpStream>);

impl Server {
    async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn worker(&self, guest_name: &str, flags: &[&'static str]) -> Started {
        let url = format!("ws://{}", self.0.local_addr().unwrap());
        start(&url, guest_name, flags)
    }

    async fn accept(&self) -> Peer {
        let (stream, _) = self.0.accept().await.unwrap();
        Peer(tokio_tungstenite::accept_async(stream).await.unwrap())
    }

    /// Accept a worker, and register it.
    async fn registered(&self) -> Peer {
        let mut peer = self.accept().await;
        let register = peer.receive().await;
        assert!(matches!(register, ToServer::Register(_)), "{register:?}");
        let info = proto::ServerInfo { version: "test".into(), ..Default::default() };
        let reply = proto::RegisterWorkerResponse {
            worker_id: "AW_test".into(),
            server_info: Some(info),
            ..Default::default()
        };
        peer.send(FromServer::Register(reply)).await;
        peer
    }
}

fn start(url: &str, guest_name: &str, flags: &[&'static str]) -> Started {
    let guest = guest(guest_name);
    let call = wasm_worker(["run", guest.to_str().unwrap()]).args(flags.iter().copied());
    // Other tests keep the machine busy.
    let call = call.env("WASM_WORKER_LOAD_THRESHOLD", "none");
    call.env("LIVEKIT_URL", url).env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret").start()
}

fn job(id: &str) -> Option<proto::Job> {
    let room = proto::Room { sid: "RM_1".into(), name: "lobby".into(), ..Default::default() };
    Some(proto::Job { id: id.into(), room: Some(room), agent_name: "x".into(), ..Default::default() })
}

impl Peer {
    async fn send(&mut self, message: FromServer) {
        let message = proto::ServerMessage { message: Some(message) };
        self.0.send(Message::Binary(message.encode_to_vec().into())).await.unwrap();
    }

    /// The next message, whatever it is; nothing when the worker has closed.
    async fn next(&mut self) -> Option<ToServer> {
        loop {
            match self.0.next().await?.ok()? {
                Message::Binary(bytes) => return proto::WorkerMessage::decode(bytes).unwrap().message,
                Message::Close(frame) => {
                    assert_eq!(u16::from(frame.unwrap().code), 1000);
                    // The answer to it, and the end.
                    while self.0.next().await.is_some() {}
                    return None;
                }
                _ => {}
            }
        }
    }

    /// The next that is not about its load.
    async fn receive(&mut self) -> ToServer {
        loop {
            match self.next().await.expect("the worker has closed") {
                ToServer::UpdateWorker(_) => {}
                other => return other,
            }
        }
    }

    /// The next status that says it is full, or not.
    async fn status(&mut self, full: bool) -> proto::UpdateWorkerStatus {
        loop {
            if let ToServer::UpdateWorker(status) = self.next().await.expect("the worker has closed")
                && status.status == Some(i32::from(full))
            {
                return status;
            }
        }
    }

    async fn offer(&mut self, id: &str) {
        self.send(FromServer::Availability(proto::AvailabilityRequest { job: job(id), resuming: false })).await;
    }

    async fn answer(&mut self) -> proto::AvailabilityResponse {
        match self.receive().await {
            ToServer::Availability(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    async fn assign(&mut self, id: &str) {
        let assignment = proto::JobAssignment { job: job(id), url: None, token: "token".into() };
        self.send(FromServer::Assignment(assignment)).await;
    }

    async fn report(&mut self) -> (String, proto::JobStatus, String) {
        match self.receive().await {
            ToServer::UpdateJob(proto::UpdateJobStatus { job_id, status, error }) => {
                (job_id, status.try_into().unwrap(), error)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Offer a job and assign it; it runs then.
    async fn begin(&mut self, id: &str) {
        self.offer(id).await;
        assert!(self.answer().await.available);
        self.assign(id).await;
        assert_eq!(self.report().await, (id.into(), proto::JobStatus::JsRunning, String::new()));
    }
}

/// Ask the worker to stop, and wait until it has.
async fn stopped(worker: Started, peer: Peer) -> Done {
    worker.signal(Signal::TERM);
    ended(worker, peer).await
}

/// Wait for its end, and go on listening to it meanwhile.
async fn ended(worker: Started, mut peer: Peer) -> Done {
    let done = tokio::task::spawn_blocking(|| worker.done());
    while peer.next().await.is_some() {}
    done.await.unwrap()
}

#[test]
fn a_job_runs_from_its_offer_to_its_report() {
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
fn the_server_hears_why_a_job_failed() {
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
fn an_agent_that_rejects_is_asked_and_its_answer_passed_on() {
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
fn a_full_worker_says_so_and_refuses_with_a_reason() {
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
fn a_job_survives_its_connection_and_is_reported_on_the_next() {
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
fn an_end_without_a_connection_is_reported_on_the_next() {
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
fn whatever_the_server_sends_the_worker_goes_on() {
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
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_1".into() })).await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        assert_eq!(stopped(worker, peer).await.exit, 0);
    });
}

#[test]
fn a_burst_of_a_thousand_offers_is_answered_and_run() {
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
fn a_drain_waits_for_the_jobs_and_reports_them_before_it_closes() {
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
fn a_drain_has_an_end_and_a_second_signal_is_one() {
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
fn a_server_that_is_not_there_or_refuses_is_given_up() {
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
fn a_job_assigned_during_a_drain_is_stopped_with_the_others() {
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
fn a_machine_that_is_busy_is_full() {
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
fn the_variables_of_a_server_do_not_keep_a_job_from_running_here() {
    let call = crate::harness::run_guest("echo", []).env("LIVEKIT_URL", "ws://nowhere").env("NUM_CPUS", "many");
    assert_eq!(call.done().exit, 0);
}

#[test]
fn what_is_missing_is_said() {
    let guest = guest("echo");
    let run = |flags: &[&'static str]| wasm_worker(["run", guest.to_str().unwrap()]).args(flags.iter().copied()).done();
    run(&[]).fails_with(2, &["the URL of the LiveKit server (`--url`) is missing", "hint: set LIVEKIT_URL"]);
    run(&["--url", "ws://x", "--api-key", "k"]).fails_with(2, &["the API secret (`--api-secret`) is missing"]);
    let with = |url| run(&["--url", url, "--api-key", "k", "--api-secret", "s"]);
    with("localhost").fails_with(2, &["the server's URL `localhost` is not usable: want ws://"]);
    let cores = ["--url", "ws://x", "--api-key", "k", "--api-secret", "s", "--cores", "0"];
    run(&cores).fails_with(2, &["`0` cores are not usable"]);
    run(&["--deployment", "a_b"]).fails_with(2, &["the deployment `a_b` is not usable"]);
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

#[test]
#[expect(clippy::disallowed_methods, reason = "the one variable that tests read")]
fn a_real_server_gives_jobs_and_hears_how_they_end() {
    let Ok(binary) = std::env::var("LIVEKIT_SERVER") else {
        println!("skipped: LIVEKIT_SERVER names no livekit-server");
        return;
    };
    run(async {
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, tcp, udp) = (free(), free(), free());
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut server = tokio::process::Command::new(binary)
            .args(["--dev", "--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(["--rtc.tcp_port", &tcp.to_string(), "--udp-port", &udp.to_string()])
            .stdout(log.reopen().unwrap())
            .stderr(log.reopen().unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // The server may not listen yet: the worker tries again.
        let worker = start(&format!("http://127.0.0.1:{port}"), "panic", &["--agent-name", "tester"]);
        let said = async |words: &str| {
            while !std::fs::read_to_string(log.path()).unwrap().contains(words) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        said("\"agentName\": \"tester\"").await;
        let created = twirp(port, "CreateDispatch", r#"{"agent_name": "tester", "room": "lobby"}"#).await;
        assert!(created.starts_with("HTTP/1.1 200"), "{created}");
        said("\"status\": \"JS_FAILED\", \"error\": \"trapped: panicked at tests/guests/panic.rs").await;
        worker.signal(Signal::TERM);
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        assert_eq!(done.exit, 0, "{}", done.stderr);
        said("the worker was stopped").await;
        server.kill().await.unwrap();
    });
}
