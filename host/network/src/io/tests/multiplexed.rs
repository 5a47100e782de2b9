//! Servers that speak HTTP/2.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::server::{Ca, Server};
use super::*;
use crate::ledger::AHEAD_BYTES_MAX;

/// A body without an end.
struct Endless(Arc<AtomicUsize>);

impl Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.fetch_add(16 << 10, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(vec![b'x'; 16 << 10].into()))))
    }
}

/// A server that answers with what it gets, or without an end at `/endless`.
async fn start(ca: &Ca, sent: Arc<AtomicUsize>) -> Server {
    let acceptor = tokio_rustls::TlsAcceptor::from(ca.server("localhost", &[b"h2"]));
    Server::start(move |stream, _| {
        let (acceptor, sent) = (acceptor.clone(), sent.clone());
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let answer = service_fn(move |request: Request<Incoming>| {
                let sent = sent.clone();
                async move {
                    assert_eq!(request.version(), Version::HTTP_2);
                    let is_endless = request.uri().path() == "/endless";
                    let authority = request.uri().authority().unwrap().to_string();
                    if is_endless {
                        return Ok::<_, hyper::Error>(Response::new(Either::Left(Endless(sent))));
                    }
                    if request.uri().path() == "/many" {
                        let mut answer = Response::builder();
                        for number in 0..500 {
                            answer = answer.header(format!("h{number}"), "x");
                        }
                        return Ok(answer.body(Either::Right(Full::new(Bytes::new()))).unwrap());
                    }
                    let body = request.into_body().collect().await?.to_bytes();
                    let text = format!("{authority} {}", String::from_utf8_lossy(&body));
                    Ok(Response::new(Either::Right(Full::new(Bytes::from(text)))))
                }
            });
            // A client that is gone is an error.
            drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await);
        }
    })
    .await
}

#[tokio::test]
async fn exchanges_share_a_connection_and_do_not_hold_each_other_up() {
    let (ca, sent) = (Ca::new("private"), Arc::new(AtomicUsize::new(0)));
    let server = start(&ca, sent.clone()).await;
    let authority = format!("localhost:{}", server.port);
    let url = format!("https://{authority}/");
    let mut setup = Setup::new(&[&format!("https://{authority}")]);
    setup.trust = Trust::Only(ca.client());
    let mut client = setup.client();
    let mut asked = request("POST", &url);
    (asked.body, asked.headers) = (b"hello".to_vec(), headers(&[("host", "other.test"), ("connection", "close")]));
    assert_eq!(client.send(asked).await.text(), format!("{authority} hello"));

    // An answer that nobody takes waits, and the others go on beside it.
    client.takes = false;
    client.connection.perform(Command::Send { id: 1, request: request("GET", &format!("{url}endless")) });
    let mut charge = 0;
    while charge < AHEAD_BYTES_MAX {
        charge += client.next().await.charge();
    }
    client.takes = true;
    for id in 2..20 {
        client.connection.perform(Command::Open { id, request: request("PUT", &url) });
        client.connection.perform(Command::Write { id, bytes: vec![b'y'; 60_000] });
        client.connection.perform(Command::End { id });
        assert_eq!(client.finish(id).await.text().len(), authority.len() + 1 + 60_000);
    }
    assert_eq!(server.accepted(), 1);
    assert!(charge < AHEAD_BYTES_MAX + (64 << 10) && sent.load(Ordering::SeqCst) < 4 << 20, "the server waits");
    client.connection.perform(Command::Cancel { id: 1 });
    assert_eq!(client.get(&url).await.text(), format!("{authority} "));
    let many = client.get(&format!("{url}many")).await;
    assert_eq!(many.code(), "too-large", "{many:?}");
}
