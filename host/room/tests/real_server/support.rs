//! A LiveKit server of its own on free ports of loopback, a network that can be cut, and rooms on both.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use livekit_token::{AccessToken, VideoGrants};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::{TcpStream, UdpSocket};
use tokio::process::{Child, Command as Process};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::Uri;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::moderation::{Moderation, ModerationFailure};
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};
use wasm_worker_core::secret::Secret;
use wasm_worker_room::io::{Connect, Connecting, Io, Room, Rooms, RoomsSettings};
use wasm_worker_room::moderation::{self, ModerationGrant};

/// Longest time of a whole test. It only ends a test that would wait for ever, on the slowest machine too.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn run(test: impl AsyncFnOnce(RealServer)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if let Some(server) = RealServer::start().await {
            timeout(PATIENCE, test(server)).await.expect("the test takes too long");
        }
    });
}

/// A server, with rooms on it.
pub(crate) struct RealServer {
    binary: String,
    ports: [u16; 3],
    process: Child,
    pub(crate) network: Arc<Network>,
    rooms: Rooms,
}

impl RealServer {
    /// None where `LIVEKIT_SERVER` names no binary: no package registry has the server.
    #[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a skipped test says so")]
    async fn start() -> Option<Self> {
        let Ok(binary) = std::env::var("LIVEKIT_SERVER") else {
            println!("skipped: LIVEKIT_SERVER names no livekit-server");
            return None;
        };
        let ports = [free_port(), free_port(), free_port()];
        let network = Arc::new(Network { server_udp: ports[2], ..Network::default() });
        let rooms = Rooms::start(RoomsSettings { threads: 1, rooms_max: 8 }, network.clone()).unwrap();
        let process = spawn(&binary, ports);
        let server = Self { binary, ports, process, network, rooms };
        server.listens().await;
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.ports[0])
    }

    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Start it again on the same ports.
    pub(crate) fn start_again(&mut self) {
        self.process = spawn(&self.binary, self.ports);
    }

    /// A room that is not joined.
    pub(crate) fn room(&self, identity: &str) -> Seen {
        let settings = RoomSettings {
            url: self.url(),
            token: Secret(token(identity)),
            name: String::new(),
            metadata: String::new(),
            attributes: Vec::new(),
            limits: RoomLimits::default(),
        };
        Seen { room: self.rooms.open(settings).unwrap(), last_id: 1 }
    }

    /// A room that is joined, and the events until then.
    pub(crate) async fn joined(&self, identity: &str) -> (Seen, Vec<RoomEvent>) {
        let mut room = self.room(identity);
        room.perform(Command::Connect { id: 1 });
        let events = room.until(|event| matches!(event, RoomEvent::Done(1) | RoomEvent::Failed(_))).await;
        assert_eq!(events.last(), Some(&RoomEvent::Done(1)), "{events:?}");
        (room, events)
    }

    /// Have the server's API do something.
    pub(crate) async fn moderate(&self, act: &Moderation) -> Result<(), ModerationFailure> {
        let request = moderation::request_for(act.clone(), "lobby");
        let grants = match request.grant {
            ModerationGrant::Admin { room } => VideoGrants { room_admin: true, room, ..Default::default() },
            ModerationGrant::Move { room, destination } => {
                VideoGrants { room_admin: true, room, destination_room: destination, ..Default::default() }
            }
            ModerationGrant::Create => VideoGrants { room_create: true, ..Default::default() },
        };
        let token = AccessToken::with_api_key("devkey", "secret").with_grants(grants).to_jwt().unwrap();
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-type: {}\r\ncontent-length: {}\r\n\r\n",
            request.path,
            moderation::CONTENT_TYPE,
            request.body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[0])).await.unwrap();
        stream.write_all(&[head.as_bytes(), &request.body].concat()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        let body = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        moderation::outcome(status, &answer[body..])
    }

    async fn listens(&self) {
        while TcpStream::connect(("127.0.0.1", self.ports[0])).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn spawn(binary: &str, [port, tcp, udp]: [u16; 3]) -> Child {
    Process::new(binary)
        .args(["--dev", "--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--rtc.tcp_port", &tcp.to_string(), "--udp-port", &udp.to_string()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub(crate) fn token(identity: &str) -> String {
    let grants = VideoGrants {
        room_join: true,
        room: "lobby".into(),
        can_update_own_metadata: Some(true),
        ..Default::default()
    };
    let token = AccessToken::with_api_key("devkey", "secret").with_identity(identity).with_grants(grants);
    token.with_kind(if identity == "agent" { "agent" } else { "standard" }).to_jwt().unwrap()
}

/// A room, and what is seen of it.
pub(crate) struct Seen {
    pub(crate) room: Room,
    last_id: u32,
}

impl Seen {
    pub(crate) fn new_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn perform(&self, command: Command) {
        self.room.try_perform(command).unwrap();
    }

    pub(crate) fn send_text(&mut self, text: &str) -> u32 {
        let (id, topic) = (self.new_id(), "lk.chat".into());
        self.perform(Command::SendText { id, topic, text: text.into(), options: Default::default() });
        id
    }

    /// The events up to one.
    pub(crate) async fn until(&mut self, mut is_last: impl FnMut(&RoomEvent) -> bool) -> Vec<RoomEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.room.next().await.expect("the room goes on");
            let is_over = is_last(&event);
            events.push(event);
            if is_over {
                return events;
            }
        }
    }
}

/// The way to servers, which can be cut and lose datagrams.
#[derive(Default)]
pub(crate) struct Network {
    cut: Arc<Notify>,
    is_blocked: AtomicBool,
    server_udp: u16,
    /// The port of the relay that stands for the server's, as texts of addresses have both; none without a relay.
    relay: Mutex<Option<(String, String)>>,
}

impl Network {
    /// End all connections of TCP.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Have one of so many datagrams of the server lost, for rooms that are joined from now on: a relay takes the place of the server's
    /// port in the addresses that the server tells.
    #[expect(clippy::disallowed_methods, reason = "a relay of a test")]
    pub(crate) async fn lose(&self, one_of: usize) {
        // The text of an address keeps its length.
        let near = loop {
            let socket = UdpSocket::bind("0.0.0.0:0").await.unwrap();
            if socket.local_addr().unwrap().port().to_string().len() == self.server_udp.to_string().len() {
                break Arc::new(socket);
            }
        };
        let [from, to] = [self.server_udp, near.local_addr().unwrap().port()].map(|port| format!(" {port} typ host"));
        *self.relay.lock().unwrap() = Some((from, to));
        let server_udp = self.server_udp;
        tokio::spawn(async move {
            let (mut far, mut buffer) = (HashMap::<SocketAddr, Arc<UdpSocket>>::new(), [0; 2_048]);
            while let Ok((length, client)) = near.recv_from(&mut buffer).await {
                let socket = match far.get(&client) {
                    Some(socket) => socket.clone(),
                    None => {
                        let socket = Arc::new(UdpSocket::bind("0.0.0.0:0").await.unwrap());
                        tokio::spawn(back(socket.clone(), near.clone(), client, one_of));
                        far.insert(client, socket.clone());
                        socket
                    }
                };
                // Both are on this machine, at the same address.
                drop(socket.send_to(&buffer[..length], (client.ip(), server_udp)).await);
            }
        });
    }

    /// Let new connections fail, or not.
    pub(crate) fn block(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Ordering::Relaxed);
    }
}

impl Connect for Network {
    #[expect(clippy::disallowed_methods, reason = "a relay of a test, on the runtime that asks for it")]
    fn connect(&self, url: &Uri) -> Connecting {
        let authority = url.authority().unwrap().to_string();
        let (cut, is_blocked) = (self.cut.clone(), self.is_blocked.load(Ordering::Relaxed));
        let relay = self.relay.lock().unwrap().clone();
        let connecting = async move {
            if is_blocked {
                return Err("the network is cut".to_owned());
            }
            let mut server = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
            let (near, mut far) = tokio::io::duplex(64 << 10);
            tokio::spawn(async move {
                let relays = async {
                    match relay {
                        None => drop(tokio::io::copy_bidirectional(&mut far, &mut server).await),
                        Some((from, to)) => copy_replacing(far, server, &from, &to).await,
                    }
                };
                tokio::select! {
                    () = cut.notified() => {}
                    () = relays => {}
                }
            });
            Ok(Box::new(near) as Box<dyn Io>)
        };
        Box::pin(connecting) as Pin<Box<_>>
    }
}

/// The datagrams of the server for one client.
async fn back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, client: SocketAddr, one_of: usize) {
    let (mut buffer, mut count) = ([0; 2_048], 0);
    while let Ok(length) = far.recv(&mut buffer).await {
        count += 1;
        if count % one_of != 0 {
            drop(near.send_to(&buffer[..length], client).await);
        }
    }
}

/// Copy both ways, with a text that the server says replaced by another one of the same length. The texts are not split: each is in a
/// message that the server writes at once.
async fn copy_replacing(near: DuplexStream, far: TcpStream, from: &str, to: &str) {
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (tokio::io::split(near), tokio::io::split(far));
    let down = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = far_in.read(&mut buffer).await {
            let mut bytes = buffer[..length].to_vec();
            while let Some(at) = bytes.windows(from.len()).position(|window| window == from.as_bytes()) {
                bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
            if near_out.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = down => {}
        _ = tokio::io::copy(&mut near_in, &mut far_out) => {}
    }
}
