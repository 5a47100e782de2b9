//! Agents in Python and JavaScript talk on WebSockets by the interfaces of their language: in the style of PyPI's `websockets`, and by
//! the web's `WebSocket`. They send forms too. `tests/interop/README.md` says what the agents do.

use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::foreign_models::{answers, javascript_passes, job, python_passes, text};
use crate::support::toolchains::Language;
use crate::support::web::{Web, ok};

/// A server of WebSockets on loopback, whose threads end with the process.
struct Talk {
    address: String,
    /// The codes and reasons with which its clients closed, or answered its close.
    closes: Receiver<(u16, String)>,
}

impl Talk {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, (sender, closes)) = (listener.local_addr().unwrap().to_string(), channel());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                converse(stream, &sender).ok();
            }
        });
        Self { address, closes }
    }
}

/// Send two messages back. Then close, or have the client close, as the path says.
fn converse(stream: TcpStream, closes: &Sender<(u16, String)>) -> tungstenite::Result<()> {
    let mut path = String::new();
    #[expect(clippy::result_large_err, reason = "the type of the callback")]
    let check = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        request.uri().path().clone_into(&mut path);
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        if header("x-talker") != Some("yes") || header("sec-websocket-protocol") != Some("talk") {
            let mut refusal = ErrorResponse::new(None);
            *refusal.status_mut() = StatusCode::UNAUTHORIZED;
            return Err(refusal);
        }
        response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("talk"));
        Ok(response)
    };
    let accepted = tungstenite::accept_hdr(stream, check);
    let mut socket = accepted.map_err(|_| tungstenite::Error::ConnectionClosed)?;
    for _ in 0..2 {
        let message = socket.read()?;
        socket.send(message)?;
    }
    if path == "/closes" {
        socket.close(Some(CloseFrame { code: 4001.into(), reason: "enough".into() }))?;
    } else {
        socket.send(Message::text("close"))?;
    }
    loop {
        if let Message::Close(Some(frame)) = socket.read()? {
            closes.send((frame.code.into(), frame.reason.to_string())).ok();
        }
    }
}

fn talks(language: Language) {
    let talk = Talk::start();
    let web = Web::start(|asked| ok(asked.path()));
    let allowed = format!("{},{}", talk.address, web.address);
    let inbox = [
        text(200, &format!("socket ws://{}/closes", talk.address)),
        text(3_000, &format!("socket ws://{}/asks", talk.address)),
        text(3_000, "socket wss://example.com/"),
        text(3_000, &format!("upload {}", web.url("form"))),
        text(3_000, "bye"),
    ];
    let Some(done) = job(language, "http://127.0.0.1:1/v1", &allowed, &inbox) else { return };
    let said = answers(&done);
    let [closes, asks, refused, form] = &said[..] else { panic!("{language:?}: {said:?}\n{}", done.stderr) };
    assert_eq!(closes, "talk, hello, 0 1 255, 4001 enough", "{language:?}: {}", done.stderr);
    assert_eq!(asks, "talk, hello, 0 1 255, close, 3000 done", "{language:?}: {}", done.stderr);
    assert!(refused.starts_with("The socket fails: not-allowed: `wss://example.com` "), "{language:?}: {refused}");
    let closes: Vec<_> = talk.closes.try_iter().collect();
    assert_eq!(closes, [(4001, "enough".to_owned()), (3000, "done".to_owned())], "{language:?}");
    let network = &done.record()["usage"]["network"];
    assert_eq!(network["all"]["sockets"], 2, "{language:?}: {network}");

    assert_eq!(form, "200 /form", "{language:?}: {}", done.stderr);
    let asked = web.asked().remove(0);
    let boundary = asked.header("content-type").strip_prefix("multipart/form-data; boundary=").unwrap();
    let parts: Vec<&str> = asked.body.split(&format!("--{boundary}")).collect();
    assert_eq!((parts[0], parts[3]), ("", "--\r\n"), "{language:?}: {parts:?}");
    assert_eq!(parts[1], "\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\none\r\n", "{language:?}");
    let file = "\r\nContent-Disposition: form-data; name=\"file\"; filename=\"n.txt\"\r\nContent-Type: text/plain\r\n\r\nhé\0\r\n";
    assert_eq!((parts[2], parts.len()), (file, 4), "{language:?}");
}

#[test]
fn websockets_of_python_talk_in_an_agent() {
    talks(Language::Python);
}

#[test]
fn websocket_of_the_web_talks_in_an_agent() {
    talks(Language::JavaScript);
}

#[test]
fn sockets_of_python_keep_the_rules_of_the_contract() {
    python_passes("socket_test.py");
}

#[test]
fn websocket_of_the_web_keeps_the_rules_of_the_contract() {
    javascript_passes("websocket_test.mjs");
}
