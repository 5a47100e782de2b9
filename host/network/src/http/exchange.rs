//! One exchange: the request, the redirects that it follows, and the answer in parts.

use std::io::ErrorKind;
use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION, PROXY_AUTHORIZATION};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy;
use tokio::time::Instant;
use wasm_worker_core::network::command::HttpRequest;
use wasm_worker_core::network::event::{Failure, Head, NetworkEvent};
use wasm_worker_core::network::traffic::Traffic;

use super::encoding::{Decoder, STEP_BYTES};
use super::request::{Content, Outgoing};
use crate::connect;
use crate::dial::told;
use crate::failure::{self, failure, invalid};
use crate::fault;
use crate::headers;
use crate::job::Teller;
use crate::network::Shared;
use crate::outbox::{ClosesOutbox, Outbox};
use crate::request_body::{Left, Parts, RequestBody};
use crate::secrets::Additions;
use crate::secrets::blank::{Blanker, Patterns, blank_text};
use crate::time_limits::{Activity, TimeLimits};

/// Largest part of a body in one event.
const PART_BYTES_MAX: usize = 32 << 10;

/// One exchange.
pub(crate) struct Exchange {
    pub(crate) shared: Arc<Shared>,
    pub(crate) teller: Teller,
    /// What the agent writes.
    pub(crate) outbox: Arc<Outbox>,
    /// Whether the agent goes on with the body.
    pub(crate) is_in_parts: bool,
}

/// The head of an answer, and what it is to be read by.
struct Answer {
    response: Response<Incoming>,
    patterns: Arc<Patterns>,
    shown: String,
    host: String,
    method: Method,
}

impl Exchange {
    /// Run the exchange to its last event.
    pub(crate) async fn run(self, request: HttpRequest) {
        let _closes = ClosesOutbox(self.outbox.clone());
        let limits = &self.shared.limits;
        let within = if request.timeout.is_zero() {
            limits.exchange_within
        } else {
            request.timeout.min(limits.exchange_longest)
        };
        let (until, idle, activity) = (Instant::now() + within, limits.idle, Activity::new());
        let time = TimeLimits { until, within, idle, activity };
        let mut host = None;
        if let Err(failure) = self.exchange(request, &time, &mut host).await {
            if let Some(host) = host {
                self.teller.count(&host, Traffic { failures: 1, ..Traffic::default() });
            }
            self.teller.fail(failure);
        }
    }

    async fn exchange(
        &self,
        request: HttpRequest,
        time: &TimeLimits,
        host: &mut Option<String>,
    ) -> Result<(), Failure> {
        let (follows, rules) = (request.follow_redirects, self.shared.dialer.rules());
        let mut outgoing = Outgoing::new(request, self.is_in_parts, rules, self.shared.limits.request_bytes_max)?;
        for _ in 0..=self.shared.limits.redirects_max {
            *host = Some(outgoing.target.name.to_string());
            let answer = self.ask(&outgoing, time).await?;
            let location =
                answer.response.headers().get(LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()));
            // What the server repeats of a secret does not go to another one.
            let location = location.map(|location| blank_text(&answer.patterns, &location));
            if !follows || !outgoing.redirected(answer.response.status(), location.as_deref(), rules)? {
                return self.tell(answer, &outgoing, time).await;
            }
        }
        let (shown, most) = (outgoing.target.shown(), self.shared.limits.redirects_max);
        Err(failure("redirect", format!("more than {most} redirects, the last one to `{shown}`")))
    }

    /// Send the request to one server, and wait for the head of its answer.
    async fn ask(&self, outgoing: &Outgoing, time: &TimeLimits) -> Result<Answer, Failure> {
        let (target, host) = (&outgoing.target, outgoing.target.name.to_string());
        let shown = target.shown();
        let additions = time.own(&shown, self.shared.additions(target)).await??;
        // A warm connection may be closed by its server just now. What changes nothing there can be asked again.
        let mut may_retry = outgoing.method.is_safe() && !matches!(outgoing.content, Content::Parts(_));
        let response = loop {
            let (request, sent) = self.request(outgoing, &additions, time)?;
            self.teller.count(&host, Traffic { requests: 1, bytes_sent: sent, ..Traffic::default() });
            let uri = request.uri().clone();
            let agent = matches!(outgoing.content, Content::Parts(_)).then_some(&*self.outbox);
            match time.server(&shown, agent, self.shared.client.request(request)).await? {
                Ok(response) => break response,
                Err(error) if may_retry && is_lost(&error) => may_retry = false,
                Err(error) => return Err(fault_of(&uri, &error)),
            }
        };
        let bytes_received = headers_size(response.headers());
        self.teller.count(&host, Traffic { bytes_received, ..Traffic::default() });
        let (most, headers_most) = (self.shared.limits.head_bytes_max, self.shared.limits.headers_max);
        let count = response.headers().len();
        if count > headers_most {
            return Err(failure(
                "too-large",
                format!("the answer of `{shown}` has {count} headers, and may have {headers_most}"),
            ));
        }
        if bytes_received > most as u64 {
            return Err(failure(
                "too-large",
                format!("the head of the answer of `{shown}` has more than {most} bytes"),
            ));
        }
        Ok(Answer { response, patterns: additions.patterns, shown, host, method: outgoing.method.clone() })
    }

    /// The request as it is sent, and its bytes as far as they are known.
    fn request(
        &self,
        outgoing: &Outgoing,
        additions: &Additions,
        time: &TimeLimits,
    ) -> Result<(Request<RequestBody>, u64), Failure> {
        let url = additions.url(&outgoing.target.url);
        let uri: Uri = url.as_str().parse().map_err(|_| invalid("the URL has characters that HTTP does not allow"))?;
        let activity = time.activity.clone();
        let (body, mut sent) = match &outgoing.content {
            Content::None => (RequestBody::Whole { left: Bytes::new(), activity }, 0),
            Content::Whole(bytes) => (RequestBody::Whole { left: bytes.clone(), activity }, bytes.len() as u64),
            Content::Parts(length) => {
                let parts = Parts {
                    outbox: self.outbox.clone(),
                    voice: self.teller.voice.clone(),
                    host: outgoing.target.name.to_string(),
                    activity,
                    left: length.map_or(Left::AtMost(self.shared.limits.request_bytes_max), Left::Exactly),
                };
                (RequestBody::Parts(parts), 0)
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = outgoing.method.clone();
        *request.headers_mut() = outgoing.headers.clone();
        for (name, value) in &additions.headers {
            request.headers_mut().insert(name, value.clone());
        }
        if matches!(&outgoing.content, Content::Whole(bytes) if bytes.is_empty()) {
            // `hyper` tells the length of other bodies itself.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        sent += headers_size(request.headers()) + url.as_str().len() as u64;
        if let Some(password) = connect::password_for_forwarding(&uri).map_err(|error| told(&error))? {
            request.headers_mut().insert(PROXY_AUTHORIZATION, password);
        }
        *request.uri_mut() = uri;
        Ok((request, sent))
    }

    /// Tell the agent an answer, to its end.
    async fn tell(&self, answer: Answer, outgoing: &Outgoing, time: &TimeLimits) -> Result<(), Failure> {
        let (limits, shown) = (&self.shared.limits, answer.shown);
        let (head, body) = answer.response.into_parts();
        let encoding =
            head.headers.get(CONTENT_ENCODING).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let has_body = answer.method != Method::HEAD && head.status.as_u16() != 304;
        let encoding = encoding.filter(|_| has_body);
        let length = answer_length(&head.headers).filter(|length| has_body && *length > limits.response_bytes_max);
        if let Some(length) = length {
            let most = limits.response_bytes_max;
            return Err(failure(
                "too-large",
                format!("the answer of `{shown}` has {length} bytes, and may have {most}"),
            ));
        }
        let decoder =
            Decoder::new(encoding.as_deref(), limits.inflation_max, limits.response_bytes_max, shown.clone())?;
        let mut told = head.headers;
        if decoder.decodes() {
            told.remove(CONTENT_ENCODING);
            told.remove(CONTENT_LENGTH);
        }
        let blanked = |(name, value): (String, String)| {
            (blank_text(&answer.patterns, &name), blank_text(&answer.patterns, &value))
        };
        let headers = headers::told(&told).into_iter().map(blanked).collect();
        let url = outgoing.target.url.as_str().to_owned();
        let (id, status) = (self.teller.id(), head.status.as_u16());
        self.teller.tell(NetworkEvent::Head { id, head: Head { status, url, headers } });
        let blanker = Blanker::new(answer.patterns);
        Reading { exchange: self, time, shown, host: answer.host, decoder, blanker, part: Vec::new() }.run(body).await
    }
}

/// The body of an answer that is being told.
struct Reading<'a> {
    exchange: &'a Exchange,
    time: &'a TimeLimits,
    shown: String,
    host: String,
    decoder: Decoder,
    blanker: Blanker,
    /// What is told next.
    part: Vec<u8>,
}

impl Reading<'_> {
    async fn run(mut self, mut body: Incoming) -> Result<(), Failure> {
        loop {
            // Nothing is read while the agent has enough.
            self.room().await?;
            let agent = self.exchange.is_in_parts.then_some(&*self.exchange.outbox);
            match self.time.server(&self.shown, agent, body.frame()).await? {
                None => break,
                Some(Err(error)) => return Err(self.lost(&error)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.time.activity.note();
                        self.take(&data).await?;
                    }
                }
            }
        }
        let rest = self.decoder.finish()?;
        self.add(rest).await?;
        let rest = self.blanker.finish();
        self.part.extend(rest);
        while self.part.len() > PART_BYTES_MAX {
            let rest = self.part.split_off(PART_BYTES_MAX);
            self.flush().await?;
            self.part = rest;
        }
        let bytes = std::mem::take(&mut self.part);
        self.exchange.teller.tell(NetworkEvent::Body { id: self.exchange.teller.id(), bytes, last: true });
        Ok(())
    }

    /// Take bytes of the body.
    async fn take(&mut self, data: &Bytes) -> Result<(), Failure> {
        let traffic = Traffic { bytes_received: data.len() as u64, ..Traffic::default() };
        self.exchange.teller.count(&self.host, traffic);
        let step = if self.decoder.decodes() { STEP_BYTES } else { PART_BYTES_MAX };
        for piece in data.chunks(step) {
            let clear = self.decoder.push(piece)?;
            self.add(clear).await?;
        }
        self.flush().await
    }

    /// Add decompressed bytes, and tell them where there are many.
    async fn add(&mut self, clear: Vec<u8>) -> Result<(), Failure> {
        let clear = self.blanker.push(clear);
        for piece in clear.chunks(PART_BYTES_MAX) {
            if self.part.len() + piece.len() > PART_BYTES_MAX {
                self.flush().await?;
            }
            self.part.extend_from_slice(piece);
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if !self.part.is_empty() {
            self.room().await?;
            let bytes = std::mem::take(&mut self.part);
            self.exchange.teller.tell(NetworkEvent::Body { id: self.exchange.teller.id(), bytes, last: false });
        }
        Ok(())
    }

    async fn room(&self) -> Result<(), Failure> {
        self.time.own(&self.shown, self.exchange.teller.room()).await
    }

    /// The failure of an answer that broke off.
    fn lost(&self, error: &hyper::Error) -> Failure {
        if let Some(failure) = failure::find(error) {
            return failure.clone();
        }
        let shown = &self.shown;
        // Sizes of chunks that are none.
        let is_invalid =
            |cause: &std::io::Error| matches!(cause.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData);
        if error.is_parse() || fault::find::<std::io::Error>(error).is_some_and(is_invalid) {
            return failure("malformed", format!("the body of the answer of `{shown}` breaks the rules of HTTP"));
        }
        failure("unavailable", format!("`{shown}` broke off its answer; ask again"))
    }
}

/// Whether a connection was lost before any answer.
fn is_lost(error: &legacy::Error) -> bool {
    let is_reset = |cause: &std::io::Error| matches!(cause.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe);
    let is_end = |cause: &hyper::Error| cause.is_incomplete_message() || cause.is_closed() || cause.is_canceled();
    !error.is_connect()
        && (fault::find::<std::io::Error>(error).is_some_and(is_reset)
            || fault::find::<hyper::Error>(error).is_some_and(is_end))
}

fn fault_of(uri: &Uri, error: &legacy::Error) -> Failure {
    if let Some(failure) = failure::find(error) {
        return failure.clone();
    }
    match connect::server_of(uri) {
        Ok(server) => told(&fault::of_request(server, error)),
        Err(error) => told(&error),
    }
}

fn answer_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The bytes of headers as HTTP/1.1 writes them.
fn headers_size(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len() + 4) as u64).sum()
}
