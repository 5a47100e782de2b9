//! Servers of the web on loopback that note what they are asked, and answer as a test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use super::network::{listen, read_head};

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Its lines before the body.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a header; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = |line: &'_ str| -> Option<usize> {
            let (own, _) = line.split_once(':')?;
            own.eq_ignore_ascii_case(name).then_some(own.len() + 1)
        };
        self.head.lines().find_map(|line| value(line).map(|at| line[at..].trim())).unwrap_or_default()
    }
}

/// What a server does with a request.
pub(crate) enum Act {
    /// Send these bytes, and close.
    Answer(Vec<u8>),
    /// Send these bytes, and nothing more.
    Hang(Vec<u8>),
    /// Send the first bytes, and the others again and again.
    Pour(Vec<u8>, Vec<u8>),
}

/// An answer of HTTP with the status 200 and this text.
pub(crate) fn ok(text: &str) -> Act {
    answer("200 OK", &[], text)
}

pub(crate) fn answer(status: &str, headers: &[(&str, &str)], text: &str) -> Act {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = text.len();
    Act::Answer(
        format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{text}")
            .into_bytes(),
    )
}

/// A server of HTTP. Each connection is for one request.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Web {
    pub(crate) fn start(act: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Self {
        let (act, asked) = (Arc::new(act), Arc::<Mutex<Vec<Asked>>>::default());
        let noted = asked.clone();
        let address = listen(move |stream| serve(stream, act.clone(), noted.clone()));
        Self { address, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, act: Arc<impl Fn(&Asked) -> Act>, noted: Arc<Mutex<Vec<Asked>>>) {
    let mut stream = BufReader::new(stream);
    let head = read_head(&mut stream).await;
    if !head.ends_with("\r\n\r\n") {
        return;
    }
    let mut asked = Asked { head, body: String::new() };
    let mut body = vec![0; asked.header("content-length").parse().unwrap_or(0)];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    asked.body = String::from_utf8_lossy(&body).into_owned();
    let act = act(&asked);
    noted.lock().unwrap().push(asked);
    let stream = stream.get_mut();
    match act {
        Act::Answer(bytes) => {
            stream.write_all(&bytes).await.ok();
            stream.shutdown().await.ok();
        }
        Act::Hang(bytes) => {
            stream.write_all(&bytes).await.ok();
            // Until the other side is gone.
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.ok();
        }
        Act::Pour(first, again) => {
            stream.write_all(&first).await.ok();
            while stream.write_all(&again).await.is_ok() {}
        }
    }
}

/// A server of WebSockets. It gets the header `authorization` and the first text, sends these messages, and closes.
pub(crate) fn sockets(messages: impl Fn(&str, &str) -> Vec<Message> + Send + Sync + 'static) -> SocketAddr {
    let messages = Arc::new(messages);
    listen(move |stream| talk(stream, messages.clone()))
}

async fn talk(stream: TcpStream, messages: Arc<impl Fn(&str, &str) -> Vec<Message>>) {
    let mut key = String::new();
    #[expect(clippy::result_large_err, reason = "the type of the callback")]
    let note = |request: &Request, response: Response| {
        let header = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        header.unwrap_or_default().clone_into(&mut key);
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, note).await else { return };
    let Some(Ok(first)) = socket.next().await else { return };
    let text = first.into_text().map(|text| text.to_string()).unwrap_or_default();
    for message in messages(&key, &text) {
        if socket.send(message).await.is_err() {
            return;
        }
    }
    socket.close(None).await.ok();
    while let Some(Ok(_)) = socket.next().await {}
}
