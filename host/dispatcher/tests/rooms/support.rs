//! A dispatcher on free ports of loopback, a network that can be cut, and rooms on both.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol as proto;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message as _;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use str0m::Rtc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use wasm_worker_core::observer::Events;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::moderation::{Moderation, ModerationFailure};
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};
use wasm_worker_core::secret::Secret;
use wasm_worker_dispatcher::settings::{DispatcherSettings, StoreSync};
use wasm_worker_dispatcher::{DEVELOPMENT_PAIR, Dispatcher};
use wasm_worker_room::io::{Connect, Connecting, Io, Room, Rooms, RoomsSettings};
use wasm_worker_room::moderation::{self, ModerationGrant};

/// Longest time of a whole test. It only ends a test that would wait for ever, on the slowest machine too.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn run(test: impl AsyncFnOnce(Host)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let host = Host::start().await;
        timeout(PATIENCE, test(host)).await.expect("the test takes too long");
    });
}

/// A dispatcher, with rooms on it.
pub(crate) struct Host {
    dispatcher: Dispatcher,
    /// `ws://127.0.0.1:…`
    url: String,
    rtc_port: u16,
    pub(crate) network: Arc<Network>,
    rooms: Rooms,
    _dir: TempDir,
}

impl Host {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rtc_port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let settings = DispatcherSettings {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            rtc_port,
            rtc_address: None,
            tls_cert: None,
            tls_key: None,
            keys: None,
            store: dir.path().join("store.db"),
            store_sync: StoreSync::Checkpoint,
            store_bytes_max: 8 << 20,
            retention: Duration::from_secs(60),
            queue: true,
            queue_limit: 10,
            queue_memory_bytes: 1 << 20,
            queue_deadline: Duration::from_secs(60),
            attempts_max: 3,
            lost_after: Duration::from_secs(10),
            rate: None,
            metadata_bytes_max: 1 << 10,
        };
        let (key, secret) = DEVELOPMENT_PAIR;
        let pairs = BTreeMap::from([(key.to_owned(), Secret(secret.to_owned()))]);
        let metrics = Arc::new(|_, _| String::new());
        let events = Arc::new(Events::default());
        let dispatcher = Dispatcher::start(&settings, &pairs, events, metrics, &Handle::current()).await.unwrap();
        let network = Arc::new(Network::default());
        let rooms = Rooms::start(RoomsSettings { threads: 1, rooms_max: 8 }, network.clone()).unwrap();
        Self { url: dispatcher.url(), dispatcher, rtc_port, network, rooms, _dir: dir }
    }

    pub(crate) async fn stop(self) {
        // The rooms of the participants go on, and hear why.
        std::mem::forget(self.rooms);
        self.dispatcher.stop().await;
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A URL of the dispatcher for other programs, whose links the network can cut.
    pub(crate) async fn url_of_network(&self) -> String {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (port, network) = (listener.local_addr().unwrap().port(), self.network.clone());
        let url: Uri = self.url.parse().unwrap();
        Handle::current().spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = network.connect(&url).await.unwrap();
                Handle::current().spawn(async move { drop(copy_bidirectional(&mut near, &mut far).await) });
            }
        });
        format!("ws://127.0.0.1:{port}")
    }

    fn authority(&self) -> &str {
        self.url.strip_prefix("ws://").unwrap()
    }

    /// A room that is joined, and the events until then.
    pub(crate) async fn joined(&self, identity: &str) -> (Seen, Vec<RoomEvent>) {
        self.joined_with(token(identity)).await
    }

    /// A room that is joined with this token, and the events until then.
    pub(crate) async fn joined_with(&self, token: String) -> (Seen, Vec<RoomEvent>) {
        let settings = RoomSettings {
            url: self.url.clone(),
            token: Secret(token),
            name: String::new(),
            metadata: String::new(),
            attributes: Vec::new(),
            limits: RoomLimits { join_within: PATIENCE, ..RoomLimits::default() },
        };
        let mut room = Seen { room: self.rooms.open(settings).unwrap(), last_id: 100 };
        room.perform(Command::Connect { id: 1 });
        let events = room.until(|event| matches!(event, RoomEvent::Done(1) | RoomEvent::Failed(_))).await;
        assert_eq!(events.last(), Some(&RoomEvent::Done(1)), "{events:?}");
        (room, events)
    }

    /// Have the API do something.
    pub(crate) async fn moderate(&self, act: &Moderation) -> Result<(), ModerationFailure> {
        let request = moderation::request_for(act.clone(), "lobby");
        let grants = match request.grant {
            ModerationGrant::Admin { room } | ModerationGrant::Move { room, .. } => {
                VideoGrants { room_admin: true, room, ..Default::default() }
            }
            ModerationGrant::Create => VideoGrants { room_create: true, ..Default::default() },
        };
        self.post(request.path, &request.body, grants).await.map(drop)
    }

    /// Call a method of LiveKit's `RoomService`.
    pub(crate) async fn room_service(
        &self,
        method: &str,
        request: &impl prost::Message,
    ) -> Result<Vec<u8>, ModerationFailure> {
        let grants = VideoGrants {
            room_admin: true,
            room_create: true,
            room_list: true,
            room: "lobby".into(),
            ..Default::default()
        };
        self.post(&format!("/twirp/livekit.RoomService/{method}"), &request.encode_to_vec(), grants).await
    }

    /// Call a method of a service, with a token that has these grants.
    pub(crate) async fn post(
        &self,
        path: &str,
        body: &[u8],
        grants: VideoGrants,
    ) -> Result<Vec<u8>, ModerationFailure> {
        let (key, secret) = DEVELOPMENT_PAIR;
        let token = AccessToken::with_api_key(key, secret).with_grants(grants).to_jwt().unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-type: {}\r\ncontent-length: {}\r\n\r\n",
            moderation::CONTENT_TYPE,
            body.len()
        );
        let (status, body) = self.exchange(&[head.as_bytes(), body].concat()).await;
        moderation::outcome(status, &body).map(|()| body)
    }

    /// Get a path, with a token.
    pub(crate) async fn get(&self, path: &str, token: Option<String>) -> (u16, String) {
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n{token}\r\n");
        let (status, body) = self.exchange(head.as_bytes()).await;
        (status, String::from_utf8(body).unwrap())
    }

    async fn exchange(&self, request: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect(self.authority()).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let status = std::str::from_utf8(&answer[9..12]).unwrap().parse().unwrap();
        let body = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        (status, answer[body..].to_vec())
    }

    /// The link of somebody who has joined at this path, without an offer.
    pub(crate) async fn link(&self, path: &str) -> WebSocketStream<TcpStream> {
        // A wrapped request without anything in it.
        let uri: Uri = format!("{}{path}?join_request=&access_token={}", self.url, token("eve")).parse().unwrap();
        let stream = TcpStream::connect(self.authority()).await.unwrap();
        let (mut socket, _) = client_async(ClientRequestBuilder::new(uri), stream).await.unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Message::Binary(_)))), "the join comes first");
        socket
    }

    /// Join with links that then send what no client sends, and send datagrams to the host that nobody asked for.
    pub(crate) async fn send_garbage(&self) {
        let large = proto::AddTrackRequest { name: "x".repeat(100 << 10), ..Default::default() };
        let large = proto::SignalRequest { message: Some(Request::AddTrack(large)) }.encode_to_vec();
        for message in [vec![0xff; 100], vec![0; 600 << 10], large] {
            let (mut socket, message) = (self.link("/rtc/v1").await, Message::Binary(message.into()));
            // The host may close the link before it has read everything.
            drop(socket.send(message).await);
            while let Some(Ok(message)) = socket.next().await {
                assert!(matches!(message, Message::Binary(_) | Message::Close(_)), "{message:?}");
            }
        }
        let mut link = self.link("/rtc/v1").await;
        let name = name_of_peer(&mut link).await;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        // Checks for a peer without a secret: one without more, and one with a wrong proof.
        let user = format!("{name}:eve");
        let bare = check(&[(USERNAME, user.as_bytes())]);
        let wrong = check(&[(USERNAME, user.as_bytes()), (PRIORITY, &[0, 0, 0, 9]), (INTEGRITY, &[7; 20])]);
        for datagram in [&[][..], &[0; 20], &[22; 1_200], &[128; 60], &[0xff; 2_000], &[0; 9_000], &bare, &wrong] {
            socket.send_to(datagram, (Ipv4Addr::LOCALHOST, self.rtc_port)).unwrap();
        }
        // The host still serves the link whose peer they were for.
        let ping = proto::SignalRequest { message: Some(Request::Ping(1)) }.encode_to_vec();
        link.send(Message::Binary(ping.into())).await.unwrap();
        while !matches!(response(&mut link).await, Response::Pong(_)) {}
    }
}

/// Offer a peer connection. Returns the name of the host's peer.
async fn name_of_peer(link: &mut WebSocketStream<TcpStream>) -> String {
    let mut rtc = Rtc::builder().build(Instant::now().into_std());
    let mut changes = rtc.sdp_api();
    changes.add_channel("_reliable".into());
    let sdp = changes.apply().unwrap().0.to_sdp_string();
    let offer = proto::SessionDescription { r#type: "offer".into(), sdp, ..Default::default() };
    let offer = proto::SignalRequest { message: Some(Request::Offer(offer)) }.encode_to_vec();
    link.send(Message::Binary(offer.into())).await.unwrap();
    loop {
        if let Response::Answer(answer) = response(link).await {
            let name = answer.sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:"));
            return name.unwrap().to_owned();
        }
    }
}

/// The next message of the host.
async fn response(link: &mut WebSocketStream<TcpStream>) -> Response {
    let Some(Ok(Message::Binary(bytes))) = link.next().await else { panic!("the link ended") };
    proto::SignalResponse::decode(bytes).unwrap().message.unwrap()
}

/// The attributes of STUN (RFC 8489 and RFC 8445).
const USERNAME: u16 = 0x0006;
const INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;

/// A request for a check of the path, with these attributes.
fn check(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut rest = Vec::new();
    for (kind, value) in attributes {
        rest.extend(kind.to_be_bytes());
        rest.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        rest.extend(*value);
        rest.resize(rest.len().next_multiple_of(4), 0);
    }
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&[0, 1], &length[..], &[0x21, 0x12, 0xa4, 0x42], &[7; 12], &rest].concat()
}

pub(crate) fn token(identity: &str) -> String {
    token_for(identity, proto::RoomConfiguration::default())
}

/// The token of a participant, with what the room is to be like where there is none.
pub(crate) fn token_for(identity: &str, room_config: proto::RoomConfiguration) -> String {
    let grants = VideoGrants {
        room_join: !identity.is_empty(),
        room: "lobby".into(),
        can_update_own_metadata: Some(true),
        ..Default::default()
    };
    let (key, secret) = DEVELOPMENT_PAIR;
    let token = AccessToken::with_api_key(key, secret).with_identity(identity).with_grants(grants);
    let token = token.with_room_config(room_config);
    token.with_kind(if identity == "agent" { "agent" } else { "standard" }).to_jwt().unwrap()
}

/// A room, and what is seen of it.
pub(crate) struct Seen {
    pub(crate) room: Room,
    last_id: u32,
}

impl Seen {
    pub(crate) fn perform(&self, command: Command) {
        self.room.try_perform(command).unwrap();
    }

    pub(crate) fn send_text(&mut self, text: &str) {
        self.last_id += 1;
        let (id, topic) = (self.last_id, "lk.chat".into());
        self.perform(Command::SendText { id, topic, text: text.into(), options: Default::default() });
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

/// The way to the host, which can be cut.
#[derive(Default)]
pub(crate) struct Network {
    cut: Arc<Notify>,
}

impl Network {
    /// End all connections of TCP.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }
}

impl Connect for Network {
    fn connect(&self, url: &Uri) -> Connecting {
        let (authority, cut) = (url.authority().unwrap().to_string(), self.cut.clone());
        let connecting = async move {
            let mut server = TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
            let (near, mut far) = tokio::io::duplex(64 << 10);
            Handle::current().spawn(async move {
                tokio::select! {
                    () = cut.notified() => {}
                    _ = copy_bidirectional(&mut far, &mut server) => {}
                }
            });
            Ok(Box::new(near) as Box<dyn Io>)
        };
        Box::pin(connecting) as Pin<Box<_>>
    }
}
