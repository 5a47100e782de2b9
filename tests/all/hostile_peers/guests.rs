//! Guests of the rooms that the dispatcher hosts: those who may not come, those who never arrive, and those who send garbage. Others in
//! the room go on.

use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use livekit_protocol as proto;
use livekit_token::{AccessToken, VideoGrants};
use prost::Message as _;
use proto::signal_request::Message as Request;
use proto::signal_response::Message as Response;
use serde_json::json;
use str0m::crypto::from_feature_flags;
use str0m::ice::{StunMessage, TransId};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{self, ClientRequestBuilder, Error, Message, WebSocket};

use super::case::Case;
use super::{Row, row};
use crate::support::dispatcher::{Dispatcher, token};

pub(crate) const ROWS: &[Row] = &[
    row(
        "tokens for other rooms, of another secret, without a grant, and none",
        foreign_tokens,
        &["other secret: 401", "no grant: 401", "none: 401", "other room's list: 401", "own: joined"],
    ),
    row(
        "pages and names of other sites at the rooms",
        foreign_pages,
        &["page: 403", "page that asks: 403", "name: 421", "page of this machine: joined"],
    ),
    Row {
        time_max: Duration::from_secs(120),
        ..row("50 people who join and never connect", half_open, &["put out: 50 for JOIN_FAILURE", "other: pong"])
    },
    row(
        "offers and candidates that are garbage",
        garbage,
        &["offers refused: 7", "candidates: pong", "messages: closed", "other: pong"],
    ),
    row(
        "datagrams of nobody, and checks without the secret",
        datagrams,
        &["signed: answered", "others: 0 bytes", "other: pong"],
    ),
    row("somebody who changes all the time", changes, &["told within its share", "other: pong"]),
];

type Link = WebSocket<TcpStream>;

fn grants() -> VideoGrants {
    VideoGrants { room_join: true, room: "lobby".into(), can_update_own_metadata: Some(true), ..VideoGrants::default() }
}

fn token_of(identity: &str, secret: &str, grants: VideoGrants) -> String {
    AccessToken::with_api_key("devkey", secret).with_identity(identity).with_grants(grants).to_jwt().unwrap()
}

/// Ask to join, with these headers. The status, where there is no link.
fn try_join(dispatcher: &Dispatcher, token: &str, headers: &[(&str, &str)]) -> Result<Link, u16> {
    let url = format!("{}/rtc/v1?join_request=&access_token={token}", dispatcher.url);
    let mut request = ClientRequestBuilder::new(url.parse().unwrap());
    for (name, value) in headers {
        request = request.with_header(*name, *value);
    }
    let stream = TcpStream::connect(dispatcher.url.trim_start_matches("ws://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    match tungstenite::client(request, stream) {
        Ok((link, _)) => Ok(link),
        Err(tungstenite::HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// Somebody who has joined, and knows it.
fn joined(dispatcher: &Dispatcher, identity: &str) -> Link {
    let mut link = try_join(dispatcher, &token_of(identity, "secret", grants()), &[]).unwrap();
    assert!(matches!(next(&mut link), Some(Response::Join(_))));
    link
}

/// The next message; none where the link has ended.
fn next(link: &mut Link) -> Option<Response> {
    loop {
        match link.read() {
            Ok(Message::Binary(bytes)) => return proto::SignalResponse::decode(bytes).unwrap().message,
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

fn say(link: &mut Link, message: Request) {
    // The host may have closed the link.
    drop(link.send(Message::Binary(proto::SignalRequest { message: Some(message) }.encode_to_vec().into())));
}

/// Whether a link is still served.
fn pong(link: &mut Link) -> &'static str {
    say(link, Request::Ping(1));
    let is_pong = |message: Option<Response>| match message {
        Some(Response::Pong(_)) => Some("pong"),
        Some(_) => None,
        None => Some("closed"),
    };
    std::iter::repeat_with(|| next(link)).find_map(is_pong).unwrap()
}

fn foreign_tokens(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let status =
        |token: &str| try_join(dispatcher, token, &[]).err().map_or("joined".to_owned(), |code| code.to_string());
    let no_grant = VideoGrants { room_join: false, ..grants() };
    let other = VideoGrants { room_admin: true, room: "yard".into(), ..VideoGrants::default() };
    let request = json!({ "room": "lobby" });
    let listed = dispatcher.twirp_as(&token("secret", other), "RoomService/ListParticipants", &[], &request);
    format!(
        "other secret: {}, no grant: {}, none: {}, other room's list: {}, own: {}",
        status(&token_of("eve", "guess", grants())),
        status(&token_of("eve", "secret", no_grant)),
        status(""),
        listed.status,
        status(&token_of("ann", "secret", grants())),
    )
}

fn foreign_pages(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let token = token_of("ann", "secret", grants());
    let join = |headers: &[(&str, &str)]| {
        try_join(dispatcher, &token, headers).err().map_or("joined".to_owned(), |code| code.to_string())
    };
    let asks = dispatcher.ask("GET", "/rtc/v1/validate", "text/plain", &token, &[("Origin", "https://evil.test")], "");
    format!(
        "page: {}, page that asks: {}, name: {}, page of this machine: {}",
        join(&[("Origin", "https://evil.test")]),
        asks.status,
        status_for_host(dispatcher, "evil.test", &token),
        join(&[("Origin", "http://localhost:3000")]),
    )
}

/// The status of a request to join by another name.
fn status_for_host(dispatcher: &Dispatcher, host: &str, token: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(dispatcher.url.trim_start_matches("ws://")).unwrap();
    let path = format!("/rtc/v1/validate?access_token={token}");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

fn half_open(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let mut links: Vec<Link> = (0..50).map(|number| joined(dispatcher, &format!("eve-{number}"))).collect();
    let put_out = |link: &mut Link| {
        let reason = |message: Option<Response>| match message {
            Some(Response::Leave(leave)) => Some(leave.reason() == proto::DisconnectReason::JoinFailure),
            Some(_) => None,
            None => Some(false),
        };
        std::iter::repeat_with(|| next(link)).find_map(reason).unwrap()
    };
    let count = links.iter_mut().filter_map(|link| put_out(link).then_some(())).count();
    format!("put out: {count} for JOIN_FAILURE, other: {}", pong(&mut joined(dispatcher, "ann")))
}

/// An offer of data channels.
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:evee\r\n\
    a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 \
    00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n\
    a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n";

fn offer(sdp: String) -> Request {
    Request::Offer(proto::SessionDescription { r#type: "offer".into(), sdp, id: 1, ..Default::default() })
}

fn garbage(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let mut other = joined(dispatcher, "ann");
    let lines = format!("{OFFER}{}", "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n".repeat(500));
    let offers = [
        String::new(),
        "garbage".into(),
        "v=0\r\n".repeat(1_000),
        OFFER.replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 zz"),
        OFFER.replace("a=ice-ufrag:evee\r\n", ""),
        lines,
        format!("{OFFER}a=x:{}\r\n", "y".repeat(300 << 10)),
    ];
    let refused = offers.into_iter().filter(|sdp| {
        let mut link = joined(dispatcher, "eve");
        say(&mut link, offer(sdp.clone()));
        let is_refused = |message: Option<Response>| match message {
            Some(Response::Leave(_)) | None => Some(true),
            Some(Response::Answer(_)) => Some(false),
            Some(_) => None,
        };
        std::iter::repeat_with(|| next(&mut link)).find_map(is_refused).unwrap()
    });
    let refused = refused.count();
    let mut link = joined(dispatcher, "eve");
    for candidate in
        ["", "{", "{\"candidate\":\"candidate:1 1 udp 1 255.255.255.255 0 typ host\"}", &"x".repeat(60 << 10)]
    {
        say(
            &mut link,
            Request::Trickle(proto::TrickleRequest { candidate_init: candidate.into(), ..Default::default() }),
        );
    }
    let candidates = pong(&mut link);
    drop(link.send(Message::Binary(vec![0xff; 999].into())));
    format!(
        "offers refused: {refused}, candidates: {candidates}, messages: {}, other: {}",
        pong(&mut link),
        pong(&mut other)
    )
}

fn datagrams(case: &mut Case) -> String {
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let port: &'static str = free.to_string().leak();
    let dispatcher = case.dispatcher(&["--rtc-port", port]);
    let (mut other, mut link) = (joined(dispatcher, "ann"), joined(dispatcher, "eve"));
    say(&mut link, offer(OFFER.into()));
    let sdp_of = |message: Option<Response>| match message.expect("the link is served") {
        Response::Answer(answer) => Some(answer.sdp),
        _ => None,
    };
    let sdp = std::iter::repeat_with(|| next(&mut link)).find_map(sdp_of).unwrap();
    let value = |head: &str| sdp.lines().find_map(|line| line.strip_prefix(head)).unwrap();
    let user = format!("{}:evee", value("a=ice-ufrag:"));
    let open = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket
    };
    let (honest, socket) = (open(), open());
    honest.send_to(&signed(&user, value("a=ice-pwd:")), (Ipv4Addr::LOCALHOST, free)).unwrap();
    let mut answer = [0; 2_048];
    let is_answered = honest.recv(&mut answer).is_ok() && answer.starts_with(&[1, 1]);
    let bare = check(&[(0x0006, user.as_bytes())]);
    let wrong = check(&[(0x0006, user.as_bytes()), (0x0024, &[0, 0, 0, 9]), (0x0008, &[7; 20])]);
    for _ in 0..2_000 {
        for datagram in [&[][..], &[22; 1_200], &[128; 60], &[0xff; 1_400], &bare, &wrong, &[1, 1, 0, 0]] {
            // What the system does not take is lost.
            drop(socket.send_to(datagram, (Ipv4Addr::LOCALHOST, free)));
        }
    }
    let mut answered = 0;
    while let Ok(bytes) = socket.recv(&mut [0; 2_048]) {
        answered += bytes;
    }
    let signed = if is_answered { "answered" } else { "no answer" };
    format!("signed: {signed}, others: {answered} bytes, other: {}", pong(&mut other))
}

/// A check of the path with this secret.
fn signed(user: &str, secret: &str) -> Vec<u8> {
    let check = StunMessage::binding_request(user, TransId::new(), true, 1, 1, false);
    let hash = from_feature_flags().sha1_hmac_provider;
    let mut bytes = vec![0; 512];
    let length = check.to_bytes(Some(secret.as_bytes()), &mut bytes, |key, parts| hash.sha1_hmac(key, parts)).unwrap();
    bytes.truncate(length);
    bytes
}

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

/// The most that somebody else is told in this time, in bytes: a share of 64 KiB a second, four seconds of it at once, and two for what
/// reaches the bound.
fn told_bytes_max(time: Duration) -> usize {
    (4 + usize::try_from(time.as_secs()).unwrap() + 2) * (64 << 10)
}

fn changes(case: &mut Case) -> String {
    let dispatcher = case.dispatcher(&[]);
    let (mut other, mut link) = (joined(dispatcher, "ann"), joined(dispatcher, "eve"));
    let began = Instant::now();
    for number in 0..150 {
        let metadata = format!("{number:050000}");
        say(&mut link, Request::UpdateMetadata(proto::UpdateParticipantMetadata { metadata, ..Default::default() }));
    }
    // The last one is handled by then.
    assert_eq!(pong(&mut link), "pong");
    say(&mut other, Request::Ping(1));
    let (mut told, mut updates) = (0, 0);
    loop {
        match next(&mut other).expect("the link is served") {
            Response::Pong(_) => break,
            Response::Update(update) => {
                told += update.encoded_len();
                updates += update.participants.iter().filter(|info| info.identity == "eve" && info.version > 1).count();
            }
            _ => {}
        }
    }
    let share = match (updates, told <= told_bytes_max(began.elapsed())) {
        (0, _) => "nothing",
        (_, true) => "within its share",
        (_, false) => "far too much",
    };
    format!("told {share} ({told} bytes), other: {}", pong(&mut other))
}
