//! A LiveKit server's side of the connection of one worker, on loopback: it registers the worker, offers it jobs, assigns what
//! it accepts and hears what becomes of that. It is scripted, and knows no rooms.
//!
//! Bounds: nothing is awaited past the moment that the caller names.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use prost::Message as _;
use proto::server_message::Message as FromServer;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub(crate) use proto::worker_message::Message as ToServer;

/// Where a worker is to connect.
pub(crate) struct Server(TcpListener);

impl Server {
    pub(crate) async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    /// The worker that connects and registers.
    pub(crate) async fn registered(&self, within: Duration) -> Option<Peer> {
        let until = Instant::now() + within;
        let (stream, _) = timeout_at(until, self.0.accept()).await.ok()?.unwrap();
        // A small frame is not to wait for the acknowledgement of the last.
        stream.set_nodelay(true).unwrap();
        let socket = timeout_at(until, tokio_tungstenite::accept_async(stream)).await.ok()?.ok()?;
        let mut peer = Peer { socket, offered: 0 };
        while !matches!(peer.hear(until).await?, ToServer::Register(_)) {}
        let info = proto::ServerInfo { version: "1.13.5".into(), protocol: 17, ..Default::default() };
        let reply = proto::RegisterWorkerResponse {
            worker_id: "AW_bench".into(),
            server_info: Some(info),
            ..Default::default()
        };
        peer.send(FromServer::Register(reply)).await;
        Some(peer)
    }
}

/// A worker that has registered.
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    /// How many jobs so far, for each its own id.
    offered: u32,
}

impl Peer {
    /// A connection that is gone shows when the worker is next heard: that ends the measurement.
    async fn send(&mut self, message: FromServer) {
        self.feed(message).await;
        drop(self.socket.flush().await);
    }

    async fn feed(&mut self, message: FromServer) {
        let message = proto::ServerMessage { message: Some(message) };
        drop(self.socket.feed(Message::Binary(message.encode_to_vec().into())).await);
    }

    /// What the worker says next; nothing when it has closed, or that moment has come.
    pub(crate) async fn hear(&mut self, until: Instant) -> Option<ToServer> {
        loop {
            if let Message::Binary(bytes) = timeout_at(until, self.socket.next()).await.ok()??.ok()? {
                match proto::WorkerMessage::decode(bytes).unwrap().message {
                    // As LiveKit's server does.
                    Some(ToServer::Ping(ping)) => {
                        let pong = proto::WorkerPong { last_timestamp: ping.timestamp, timestamp: 0 };
                        self.send(FromServer::Pong(pong)).await;
                    }
                    message => return message,
                }
            }
        }
    }

    /// Offer a job that is to do this; returns it.
    pub(crate) async fn offer(&mut self, metadata: &str) -> proto::Job {
        let job = self.queue_offer(metadata).await;
        drop(self.socket.flush().await);
        job
    }

    /// Offer jobs that are to do this, in one write; returns them.
    #[allow(dead_code, reason = "only the bench of overload offers many at once")]
    pub(crate) async fn offer_all(&mut self, metadata: &[&str]) -> Vec<proto::Job> {
        let mut jobs = Vec::new();
        for metadata in metadata {
            jobs.push(self.queue_offer(metadata).await);
        }
        drop(self.socket.flush().await);
        jobs
    }

    async fn queue_offer(&mut self, metadata: &str) -> proto::Job {
        self.offered += 1;
        let room = proto::Room { sid: "RM_bench".into(), name: "lobby".into(), ..Default::default() };
        let id = format!("AJ_{}", self.offered);
        let job = proto::Job { id, room: Some(room), metadata: metadata.into(), ..Default::default() };
        self.feed(FromServer::Availability(proto::AvailabilityRequest { job: Some(job.clone()), resuming: false }))
            .await;
        job
    }

    pub(crate) async fn assign(&mut self, job: proto::Job) {
        let assignment = proto::JobAssignment { job: Some(job), url: None, token: "token".into() };
        self.send(FromServer::Assignment(assignment)).await;
    }
}
