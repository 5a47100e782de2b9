//! A server on loopback that speaks LiveKit's protocol and follows a test's script.

use std::future::Future;
use std::path::Path;
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

use crate::support::harness::{Call, Done, Started, guest, wasm_worker};

/// Longest time of a whole test. It only ends a test that would wait for ever, on the slowest machine too.
const PATIENCE: Duration = Duration::from_secs(600);
const ASK_EVERY: Duration = Duration::from_millis(10);

pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE, test).await.expect("the test takes too long") })
}

/// Ask again until it is so. The test's own [`PATIENCE`] bounds the wait.
pub(crate) async fn until(mut ask: impl AsyncFnMut() -> bool) {
    while !ask().await {
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Wait until this text is in the worker's standard error.
pub(crate) async fn says(worker: &Started, text: &str) {
    until(async || worker.said().contains(text)).await;
}

/// Wait until a file holds this text so many times, such as an event's name in a file of events.
pub(crate) async fn holds(file: &Path, text: &str, times: usize) {
    until(async || std::fs::read_to_string(file).is_ok_and(|lines| lines.matches(text).count() >= times)).await;
}

/// Off the thread on which the server is played.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// A server that does what a test says.
pub(crate) struct Server(pub(crate) TcpListener);

/// One connection of a worker.
pub(crate) struct Peer(pub(crate) WebSocketStream<TcpStream>);

impl Server {
    pub(crate) async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    pub(crate) fn worker(&self, guest_name: &str, flags: &[&'static str]) -> Started {
        start(&self.url(), guest_name, flags)
    }

    pub(crate) async fn accept(&self) -> Peer {
        let (stream, _) = self.0.accept().await.unwrap();
        // As LiveKit's server does: an offer is not to wait until the answer to a ping is acknowledged.
        stream.set_nodelay(true).unwrap();
        Peer(tokio_tungstenite::accept_async(stream).await.unwrap())
    }

    /// Accept a worker, and register it.
    pub(crate) async fn registered(&self) -> Peer {
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

    /// The next connection of a worker that registers, and the name that it gives.
    pub(crate) async fn registering(&self) -> (String, Peer) {
        let mut peer = self.accept().await;
        let ToServer::Register(register) = peer.receive().await else { panic!("not a registration") };
        let worker_id = format!("AW_{}", register.agent_name);
        peer.send(FromServer::Register(proto::RegisterWorkerResponse { worker_id, ..Default::default() })).await;
        (register.agent_name, peer)
    }

    /// Two of them, whichever comes first, in the order of their names.
    pub(crate) async fn two(&self) -> Vec<(String, Peer)> {
        let mut peers = vec![self.registering().await, self.registering().await];
        peers.sort_by(|one, other| one.0.cmp(&other.0));
        peers
    }
}

pub(crate) fn start(url: &str, guest_name: &str, flags: &[&'static str]) -> Started {
    behind(url, &[guest(guest_name).to_str().unwrap()]).args(flags.iter().copied()).start()
}

/// `wasm-worker run AGENTS` behind the server of this URL.
pub(crate) fn behind(url: &str, agents: &[&str]) -> Call {
    let call = wasm_worker(["run"].into_iter().chain(agents.iter().copied()));
    // Other tests keep the machine busy, and a test may be slow to assign what was accepted.
    let call = call.env("WASM_WORKER_LOAD_THRESHOLD", "none").env("WASM_WORKER_ASSIGNMENT_TIMEOUT", "10m");
    call.env("LIVEKIT_URL", url).env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret")
}

pub(crate) fn job(id: &str) -> Option<proto::Job> {
    let room = proto::Room { sid: "RM_1".into(), name: "lobby".into(), ..Default::default() };
    Some(proto::Job { id: id.into(), room: Some(room), agent_name: "x".into(), ..Default::default() })
}

impl Peer {
    pub(crate) async fn send(&mut self, message: FromServer) {
        let message = proto::ServerMessage { message: Some(message) };
        self.0.send(Message::Binary(message.encode_to_vec().into())).await.unwrap();
    }

    /// The next message, whatever it is; nothing when the worker has closed.
    pub(crate) async fn next(&mut self) -> Option<ToServer> {
        loop {
            match self.0.next().await?.ok()? {
                Message::Binary(bytes) => match proto::WorkerMessage::decode(bytes).unwrap().message {
                    // As LiveKit's server does: it is the receipt for what came before.
                    Some(ToServer::Ping(ping)) => {
                        let pong = proto::WorkerPong { last_timestamp: ping.timestamp, timestamp: 0 };
                        self.send(FromServer::Pong(pong)).await;
                    }
                    message => return message,
                },
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
    pub(crate) async fn receive(&mut self) -> ToServer {
        loop {
            match self.next().await.expect("the worker has closed") {
                ToServer::UpdateWorker(_) => {}
                other => return other,
            }
        }
    }

    /// The next status that says it is full, or not.
    pub(crate) async fn status(&mut self, full: bool) -> proto::UpdateWorkerStatus {
        loop {
            if let ToServer::UpdateWorker(status) = self.next().await.expect("the worker has closed")
                && status.status == Some(i32::from(full))
            {
                return status;
            }
        }
    }

    pub(crate) async fn offer(&mut self, id: &str) {
        self.send(FromServer::Availability(proto::AvailabilityRequest { job: job(id), resuming: false })).await;
    }

    pub(crate) async fn answer(&mut self) -> proto::AvailabilityResponse {
        match self.receive().await {
            ToServer::Availability(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn assign(&mut self, id: &str) {
        let assignment = proto::JobAssignment { job: job(id), url: None, token: String::new() };
        self.send(FromServer::Assignment(assignment)).await;
    }

    pub(crate) async fn report(&mut self) -> (String, proto::JobStatus, String) {
        match self.receive().await {
            ToServer::UpdateJob(proto::UpdateJobStatus { job_id, status, error }) => {
                (job_id, status.try_into().unwrap(), error)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Offer a job and assign it; it runs then.
    pub(crate) async fn begin(&mut self, id: &str) {
        self.offer(id).await;
        assert!(self.answer().await.available);
        self.assign(id).await;
        assert_eq!(self.report().await, (id.into(), proto::JobStatus::JsRunning, String::new()));
    }

    /// Ask a job that runs to stop; it obeys.
    pub(crate) async fn terminated(&mut self, job: &str) {
        self.send(FromServer::Termination(proto::JobTermination { job_id: job.into() })).await;
        assert_eq!(self.report().await, (job.into(), proto::JobStatus::JsSuccess, String::new()));
    }

    /// Listen until the worker has closed.
    pub(crate) async fn drained(mut self) {
        while self.next().await.is_some() {}
    }
}

/// Ask the worker to stop, and wait until it has.
pub(crate) async fn stopped(worker: Started, peer: Peer) -> Done {
    worker.signal(Signal::TERM);
    ended(worker, peer).await
}

/// Wait for its end, and go on listening to it meanwhile.
pub(crate) async fn ended(worker: Started, mut peer: Peer) -> Done {
    let done = tokio::task::spawn_blocking(|| worker.done());
    while peer.next().await.is_some() {}
    // The worker waits for the connection to be gone.
    drop(peer);
    done.await.unwrap()
}
