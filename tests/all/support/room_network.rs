//! The way of a worker to a server of rooms, which can be cut: links over TCP, and peer connections over UDP and TCP.
//!
//! A server tells its clients addresses of its own for their peer connections. This way puts its own addresses in their place, in
//! every message that passes, and takes the clients' addresses out, so that there is no other path between the two. It understands
//! the requests of our own worker, not those of all clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol::{
    JoinRequest, SessionDescription, SignalRequest, SignalResponse, TrickleRequest, WrappedJoinRequest, signal_request,
    signal_response,
};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{accept_async, client_async};

use super::harness::PATIENCE;
use super::livekit_server::{LiveKitServer, Ports};
use super::network::BACKGROUND;

/// A request's head, with its token.
const HEAD_BYTES_MAX: usize = 16 << 10;
const DATAGRAM_BYTES_MAX: usize = 2_048;

/// The way, which is open at first.
pub(crate) struct RoomNetwork {
    way: Arc<Way>,
    /// The URL of the server on this way.
    pub(crate) url: String,
}

struct Way {
    server: Ports,
    /// The address of the server for peer connections, as it told it: that of an interface, often not loopback.
    peer_host: Mutex<String>,
    own: Ports,
    /// Ends the links of rooms.
    cut: Notify,
    /// Ends what goes over TCP beside them: peer connections.
    cut_tcp: Notify,
    is_blocked: AtomicBool,
    is_udp_cut: AtomicBool,
    /// The number of messages of the server after which the next link is held; 0: never.
    hold_after: AtomicUsize,
    /// A link is held: nothing passes until it is released, in any direction.
    held: Notify,
    released: Notify,
}

impl RoomNetwork {
    pub(crate) fn to(server: &LiveKitServer) -> Self {
        Self::between(server.ports)
    }

    /// The way to a server that listens there.
    pub(crate) fn between(server: Ports) -> Self {
        BACKGROUND.block_on(async {
            let listen = || TcpListener::bind("127.0.0.1:0");
            let (links, peers, datagrams) =
                (listen().await.unwrap(), listen().await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
            let own = Ports {
                http: links.local_addr().unwrap().port(),
                tcp: peers.local_addr().unwrap().port(),
                udp: datagrams.local_addr().unwrap().port(),
            };
            let way = Arc::new(Way {
                server,
                peer_host: Mutex::default(),
                own,
                cut: Notify::new(),
                cut_tcp: Notify::new(),
                is_blocked: AtomicBool::new(false),
                is_udp_cut: AtomicBool::new(false),
                hold_after: AtomicUsize::new(0),
                held: Notify::new(),
                released: Notify::new(),
            });
            BACKGROUND.spawn(way.clone().take_links(links));
            BACKGROUND.spawn(way.clone().take_peers(peers));
            BACKGROUND.spawn(way.clone().relay(Arc::new(datagrams)));
            Self { way, url: format!("ws://127.0.0.1:{}", own.http) }
        })
    }

    /// Cut the links of rooms; new ones are made as before.
    pub(crate) fn cut_links(&self) {
        self.way.cut.notify_waiters();
    }

    /// Hold the next link of a room after so many messages of the server.
    pub(crate) fn hold_the_next_link_after(&self, messages: usize) {
        self.way.hold_after.store(messages, Ordering::SeqCst);
    }

    /// Wait until that link is held.
    pub(crate) fn holds(&self) {
        let held = async { tokio::time::timeout(PATIENCE, self.way.held.notified()).await };
        BACKGROUND.block_on(held).expect("the server sends so many messages");
    }

    /// Let the link that is held go on.
    pub(crate) fn release(&self) {
        self.way.released.notify_one();
    }

    /// Whether no link of a room can be made. Those that are there remain.
    pub(crate) fn block_links(&self, is_blocked: bool) {
        self.way.is_blocked.store(is_blocked, Ordering::SeqCst);
    }

    /// Whether the datagrams of peer connections are lost.
    pub(crate) fn cut_udp(&self, is_cut: bool) {
        self.way.is_udp_cut.store(is_cut, Ordering::SeqCst);
    }

    /// Cut the peer connections that go over TCP.
    pub(crate) fn cut_tcp(&self) {
        self.way.cut_tcp.notify_waiters();
    }
}

impl Way {
    async fn take_links(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            BACKGROUND.spawn(self.clone().link(stream));
        }
    }

    /// A link of a room, or what else goes to the server: links of workers, calls of the API.
    async fn link(self: Arc<Self>, mut client: TcpStream) {
        let Some((path, token)) = head(&client).await else { return };
        let is_room = path.starts_with("/rtc/v1?");
        if is_room && self.is_blocked.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", self.server.http)).await else { return };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        if !is_room {
            drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            return;
        }
        let mut request =
            format!("ws://127.0.0.1:{}{}", self.server.http, joined(&path)).into_client_request().unwrap();
        request.headers_mut().insert("authorization", token.parse().unwrap());
        let Ok((mut server, _)) = client_async(request, server).await else { return };
        let Ok(mut client) = accept_async(client).await else { return };
        let hold_after = self.hold_after.swap(0, Ordering::SeqCst);
        let mut told = 0;
        loop {
            tokio::select! {
                () = self.cut.notified() => return,
                message = server.next() => {
                    let Some(Ok(message)) = message else { return };
                    if let Some(message) = self.to_client(message) && client.send(message).await.is_err() {
                        return;
                    }
                    told += 1;
                    if told == hold_after {
                        self.held.notify_one();
                        tokio::select! {
                            () = self.cut.notified() => return,
                            () = self.released.notified() => {}
                        }
                    }
                }
                message = client.next() => {
                    let Some(Ok(message)) = message else { return };
                    if let Some(message) = to_server(message) && server.send(message).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn take_peers(self: Arc<Self>, listener: TcpListener) {
        while let Ok((mut client, _)) = listener.accept().await {
            let way = self.clone();
            BACKGROUND.spawn(async move {
                let Ok(mut server) = TcpStream::connect((way.peer_host(), way.server.tcp)).await else { return };
                tokio::select! {
                    () = way.cut_tcp.notified() => {}
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                }
            });
        }
    }

    /// Each client has a socket of its own to the server, by which the server tells them apart.
    async fn relay(self: Arc<Self>, front: Arc<UdpSocket>) {
        let backs = Mutex::new(BTreeMap::<SocketAddr, Arc<UdpSocket>>::new());
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        // A client that is gone is an error of the one datagram.
        loop {
            let Ok((length, client)) = front.recv_from(&mut datagram).await else { continue };
            if self.is_udp_cut.load(Ordering::SeqCst) {
                continue;
            }
            let known = backs.lock().unwrap().get(&client).cloned();
            let back = match known {
                Some(back) => back,
                None => {
                    let back = Arc::new(UdpSocket::bind("0.0.0.0:0").await.unwrap());
                    back.connect((self.peer_host(), self.server.udp)).await.unwrap();
                    backs.lock().unwrap().insert(client, back.clone());
                    BACKGROUND.spawn(self.clone().relay_back(back.clone(), front.clone(), client));
                    back
                }
            };
            back.send(&datagram[..length]).await.ok();
        }
    }

    async fn relay_back(self: Arc<Self>, back: Arc<UdpSocket>, front: Arc<UdpSocket>, client: SocketAddr) {
        let mut datagram = [0; DATAGRAM_BYTES_MAX];
        loop {
            // A server that is gone, for now.
            let Ok(length) = back.recv(&mut datagram).await else { continue };
            if !self.is_udp_cut.load(Ordering::SeqCst) {
                front.send_to(&datagram[..length], client).await.ok();
            }
        }
    }

    /// None where the message is not for the client.
    fn to_client(&self, message: Message) -> Option<Message> {
        use signal_response::Message::{Answer, Offer, Trickle};
        let Message::Binary(bytes) = &message else { return Some(message) };
        let mut response = SignalResponse::decode(bytes.clone()).unwrap();
        match &mut response.message {
            Some(Answer(description) | Offer(description)) => {
                description.sdp = lines(&description.sdp, |candidate| self.own_candidate(candidate));
            }
            Some(Trickle(trickle)) => *trickle = self.own_trickle(trickle)?,
            _ => return Some(message),
        }
        Some(Message::Binary(response.encode_to_vec().into()))
    }

    fn own_trickle(&self, trickle: &TrickleRequest) -> Option<TrickleRequest> {
        let mut init: Value = serde_json::from_str(&trickle.candidate_init).unwrap();
        let candidate = init["candidate"].as_str().unwrap();
        // An empty one is the end of them.
        init["candidate"] = json!(if candidate.is_empty() { String::new() } else { self.own_candidate(candidate)? });
        Some(TrickleRequest { candidate_init: init.to_string(), ..trickle.clone() })
    }

    fn peer_host(&self) -> String {
        self.peer_host.lock().unwrap().clone()
    }

    /// A candidate of the server as one of this way. Those of IP version 6 are left out.
    fn own_candidate(&self, candidate: &str) -> Option<String> {
        let mut words: Vec<&str> = candidate.split(' ').collect();
        let (server, own) = match words.get(2)?.to_lowercase().as_str() {
            "udp" => (self.server.udp, self.own.udp),
            _ => (self.server.tcp, self.own.tcp),
        };
        let own = own.to_string();
        if words.get(5)? != &server.to_string() || words[4].contains(':') {
            return None;
        }
        words[4].clone_into(&mut self.peer_host.lock().unwrap());
        words[4] = "127.0.0.1";
        words[5] = &own;
        Some(words.join(" "))
    }
}

/// Path and token of a request, which stays in the stream.
async fn head(stream: &TcpStream) -> Option<(String, String)> {
    let mut bytes = vec![0; HEAD_BYTES_MAX];
    loop {
        stream.readable().await.ok()?;
        let length = stream.peek(&mut bytes).await.ok()?;
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if text.contains("\r\n\r\n") {
            let path = text.split(' ').nth(1)?.to_owned();
            let is_token = |line: &&str| line.to_lowercase().starts_with("authorization:");
            let token = text.lines().find(is_token).map_or("", |line| line["authorization:".len()..].trim());
            return Some((path, token.to_owned()));
        }
        if length == 0 {
            return None;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// The path of a join whose offer names no addresses.
fn joined(path: &str) -> String {
    let Some((before, value)) = path.split_once("join_request=") else { return path.to_owned() };
    let bytes = BASE64_URL_SAFE.decode(value.replace("%3D", "=")).unwrap();
    let mut wrapped = WrappedJoinRequest::decode(bytes.as_slice()).unwrap();
    let mut request = JoinRequest::decode(wrapped.join_request.as_slice()).unwrap();
    if let Some(offer) = &mut request.publisher_offer {
        *offer = without_candidates(offer);
    }
    wrapped.join_request = request.encode_to_vec();
    let value = BASE64_URL_SAFE.encode(wrapped.encode_to_vec()).replace('=', "%3D");
    format!("{before}join_request={value}")
}

/// None where the message names an address.
fn to_server(message: Message) -> Option<Message> {
    use signal_request::Message::{Answer, Offer, Trickle};
    let Message::Binary(bytes) = &message else { return Some(message) };
    let mut request = SignalRequest::decode(bytes.clone()).unwrap();
    match &mut request.message {
        Some(Offer(description) | Answer(description)) => *description = without_candidates(description),
        Some(Trickle(_)) => return None,
        _ => return Some(message),
    }
    Some(Message::Binary(request.encode_to_vec().into()))
}

fn without_candidates(description: &SessionDescription) -> SessionDescription {
    SessionDescription { sdp: lines(&description.sdp, |_| None), ..description.clone() }
}

/// A description with other candidates, or without some.
fn lines(sdp: &str, candidate: impl Fn(&str) -> Option<String>) -> String {
    let line = |line: &str| match line.strip_prefix("a=") {
        Some(value) if value.starts_with("candidate:") => candidate(value).map(|value| format!("a={value}\r\n")),
        _ => Some(format!("{line}\r\n")),
    };
    sdp.lines().filter_map(line).collect()
}
