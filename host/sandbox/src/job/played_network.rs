//! The servers of a scenario, and the participants whom the agent calls: each answers as the rules of the script say.
//!
//! A request that fits no rule, and is not for the model, waits, until a later step has a rule for it or its time is over.
//!
//! Bounds: the job's own on open ids; [`DUE_BYTES_MAX`] bytes of answers that are on their way, [`BODY_BYTES_MAX`] of one request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::played_model::{self, PlayedModel};
use super::played_rules::{NO_ANSWER, NO_RECIPIENT, Rule, failed, http_events, newest, rpc_error};
use super::world::JobAccess;
use crate::guest::bindings::wasm_worker::agent::events::{Event, RpcAnswer, SocketClosed, SocketOpened, SocketText};
use crate::guest::bindings::wasm_worker::agent::http::Request;
use crate::guest::calls::Call;
use crate::guest::contract::RpcError;
use crate::guest::events::{id_of, payload_bytes};
use crate::guest::kill::Kill;
use crate::scenario::matching::RequestMatch;
use crate::scenario::script::{AnswerRule, HttpRule, SocketRule};
use crate::scenario::trace::SeenRequest;

/// Time for an answer where the agent names none.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The same for a whole exchange by HTTP, as in a worker.
const EXCHANGE: Duration = Duration::from_secs(600);
/// Most bytes of answers that are on their way.
const DUE_BYTES_MAX: usize = 64 << 20;
/// Most bytes of a request's body.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What answers the agent.
#[derive(Default)]
pub(super) struct PlayedNetwork {
    pub(super) model: PlayedModel,
    answers: Vec<Rule<AnswerRule>>,
    http: Vec<Rule<HttpRule>>,
    sockets: Vec<Rule<SocketRule>>,
    /// Requests and calls that have no answer yet, by their ids.
    asked: BTreeMap<u32, Asked>,
    /// WebSockets that are open.
    open: BTreeMap<u32, Open>,
    /// Events on their way, by their times and in order.
    due: BTreeMap<(Instant, u64), Event>,
    due_bytes: usize,
    /// The number of the next event.
    next: u64,
    /// Requests that the play has not seen.
    pub(super) seen: Vec<SeenRequest>,
}

/// Something that waits for a rule.
struct Asked {
    until: Instant,
    what: What,
}

enum What {
    /// A request, whose body is complete or not.
    Http {
        method: String,
        url: String,
        body: Vec<u8>,
        is_whole: bool,
    },
    Socket {
        url: String,
    },
    Rpc {
        to: String,
        method: String,
    },
}

/// An open WebSocket.
struct Open {
    url: String,
    rule: Arc<SocketRule>,
    /// The time at which it opens.
    from: Instant,
}

impl PlayedNetwork {
    /// A network whose model is this one.
    pub(super) fn new(model: PlayedModel) -> Self {
        Self { model, ..Self::default() }
    }

    /// Add a rule. The newest rule that fits is used.
    pub(super) fn answer(&mut self, rule: Arc<AnswerRule>, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.answers.push(Rule::new(rule.times, rule));
        self.match_all(job)
    }

    /// Add a rule.
    pub(super) fn http(&mut self, rule: Arc<HttpRule>, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.http.push(Rule::new(rule.times, rule));
        self.match_all(job)
    }

    /// Add a rule.
    pub(super) fn socket(&mut self, rule: Arc<SocketRule>, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.sockets.push(Rule::new(None, rule));
        self.match_all(job)
    }

    /// A server sends a text.
    pub(super) fn send(&mut self, url: &RequestMatch, text: &str, job: &JobAccess<'_>) {
        for (id, from) in self.open_at(url) {
            self.later(from.max(job.now), Event::SocketText(SocketText { id, text: text.to_owned() }));
        }
    }

    /// A server closes its sockets.
    pub(super) fn close(&mut self, url: &RequestMatch, code: u16, reason: &str, job: &JobAccess<'_>) {
        for (id, from) in self.open_at(url) {
            self.open.remove(&id);
            self.later(from.max(job.now), Event::SocketClosed(SocketClosed { id, code, reason: reason.to_owned() }));
        }
    }

    fn open_at(&self, url: &RequestMatch) -> Vec<(u32, Instant)> {
        self.open.iter().filter(|(_, open)| url.fits("GET", &open.url)).map(|(id, open)| (*id, open.from)).collect()
    }

    /// Begin a call; one that is not of the network comes back. `is_there` tells who is in the room.
    pub(super) fn perform(
        &mut self,
        call: Call,
        is_there: impl Fn(&str) -> bool,
        job: &mut JobAccess<'_>,
    ) -> Result<Option<Call>, Kill> {
        match call {
            Call::SendHttp { id, request } => self.request(id, request, true, job),
            Call::OpenHttp { id, request } => self.request(id, request, false, job),
            Call::WriteHttp { id, bytes } => return self.write(id, &bytes, job).map(|()| None),
            Call::EndHttp { id } => self.end(id),
            Call::ConnectSocket { id, url, timeout_ms, .. } => self.ask(id, timeout_ms, What::Socket { url }, job),
            Call::SendSocketText { id, text } => self.reply(id, &text, job),
            Call::SendSocketBytes { .. } => {}
            Call::CloseSocket { id, code, reason } => {
                if let Some(open) = self.open.remove(&id) {
                    self.later(open.from.max(job.now), Event::SocketClosed(SocketClosed { id, code, reason }));
                }
            }
            Call::Rpc { id, destination, .. } if !is_there(&destination) => {
                self.later(job.now, rpc_error(id, NO_RECIPIENT, "recipient not found"));
            }
            Call::Rpc { id, destination, method, timeout_ms, .. } => {
                self.ask(id, timeout_ms, What::Rpc { to: destination, method }, job);
            }
            Call::Cancel { id } => {
                self.asked.remove(&id);
                self.open.remove(&id);
                self.model.cancel(id);
                return Ok(Some(Call::Cancel { id }));
            }
            call => return Ok(Some(call)),
        }
        self.match_all(job)?;
        self.deliver(job).map(|()| None)
    }

    fn ask(&mut self, id: u32, timeout_ms: u32, what: What, job: &JobAccess<'_>) {
        let timeout = match (timeout_ms, &what) {
            (0, What::Http { .. }) => EXCHANGE,
            (0, What::Socket { .. } | What::Rpc { .. }) => TIMEOUT,
            (timeout_ms, _) => Duration::from_millis(timeout_ms.into()),
        };
        self.asked.insert(id, Asked { until: job.now + timeout, what });
    }

    fn request(&mut self, id: u32, request: Request, is_whole: bool, job: &JobAccess<'_>) {
        let Request { method, url, body, timeout_ms, .. } = request;
        self.ask(id, timeout_ms, What::Http { method, url, body, is_whole }, job);
        if is_whole {
            self.see(id);
        }
    }

    fn write(&mut self, id: u32, bytes: &[u8], job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let Some(Asked { what: What::Http { body, is_whole: false, .. }, .. }) = self.asked.get_mut(&id) else {
            return Ok(());
        };
        body.extend_from_slice(bytes);
        if body.len() > BODY_BYTES_MAX {
            self.asked.remove(&id);
            return job.fail(id, "too-large", "the body is larger than scenarios allow");
        }
        job.send_sure(Event::Writable(id))
    }

    fn end(&mut self, id: u32) {
        if let Some(Asked { what: What::Http { is_whole, .. }, .. }) = self.asked.get_mut(&id) {
            *is_whole = true;
            self.see(id);
        }
    }

    fn see(&mut self, id: u32) {
        if let Some(Asked { what: What::Http { method, url, body, .. }, .. }) = self.asked.get(&id) {
            let body = String::from_utf8_lossy(body).into_owned();
            self.seen.push(SeenRequest { method: method.clone(), url: url.clone(), body });
        }
    }

    /// A server replies to a text of the agent.
    fn reply(&mut self, id: u32, text: &str, job: &JobAccess<'_>) {
        let Some(open) = self.open.get(&id) else { return };
        let (rule, from) = (open.rule.clone(), open.from.max(job.now));
        if let Some(reply) = rule.replies.iter().find(|reply| reply.when.fits(text)) {
            for text in &reply.send {
                self.later(from + reply.after, Event::SocketText(SocketText { id, text: text.clone() }));
            }
        }
    }

    /// Answer everything that fits a rule.
    fn match_all(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let ids: Vec<u32> = self.asked.keys().copied().collect();
        for id in ids {
            let Some(Asked { what, .. }) = self.asked.get(&id) else { continue };
            let found = match what {
                What::Http { method, url, is_whole: true, .. } => {
                    let rule = newest(&mut self.http, |rule| rule.request.fits(method, url));
                    let of_model = || self.model.path(method, url).map(Answer::Model);
                    rule.map(|rule| Answer::Http(rule, url.clone())).or_else(of_model)
                }
                What::Http { is_whole: false, .. } => None,
                What::Socket { url } => {
                    let rule = newest(&mut self.sockets, |rule| rule.url.fits("GET", url));
                    rule.map(|rule| Answer::Socket(rule, url.clone()))
                }
                What::Rpc { to, method } => {
                    let fits = |rule: &AnswerRule| {
                        rule.from.as_ref().is_none_or(|from| from == to)
                            && rule.method.as_ref().is_none_or(|wanted| wanted == method)
                    };
                    newest(&mut self.answers, fits).map(Answer::Rpc)
                }
            };
            let Some(answer) = found else { continue };
            let Some(asked) = self.asked.remove(&id) else { continue };
            if self.due_bytes > DUE_BYTES_MAX {
                job.fail(id, "limit", "too many bytes of answers are on their way")?;
            } else if let (Answer::Model(path), What::Http { method, url, body, .. }) = (&answer, &asked.what) {
                let asked = played_model::Asked { method, url, path, body, until: asked.until };
                self.model.ask(id, &asked, job.now, job.moment().since_1970());
            } else {
                self.schedule(id, answer, asked.until, job.now);
            }
        }
        Ok(())
    }

    fn schedule(&mut self, id: u32, answer: Answer, until: Instant, now: Instant) {
        match answer {
            Answer::Rpc(rule) if now + rule.after <= until => {
                let answer =
                    rule.answer.clone().map_err(|(code, message)| RpcError { code, message, data: String::new() });
                self.later(now + rule.after, Event::RpcAnswer(RpcAnswer { id, answer }));
            }
            Answer::Rpc(_) => self.later(until, rpc_error(id, NO_ANSWER, "response timeout")),
            Answer::Socket(rule, url) => self.schedule_socket(id, rule, url, now),
            Answer::Http(rule, url) => {
                http_events(id, &rule, url, until, now).into_iter().for_each(|(at, event)| self.later(at, event));
            }
            Answer::Model(_) => {}
        }
    }

    fn schedule_socket(&mut self, id: u32, rule: Arc<SocketRule>, url: String, now: Instant) {
        let from = now + rule.after;
        if let Some(status) = rule.refuse {
            return self.later(from, failed(id, "refused", status));
        }
        let opened = SocketOpened { id, protocol: rule.protocol.clone(), headers: Vec::new() };
        self.later(from, Event::SocketOpened(opened));
        rule.send.iter().for_each(|text| self.later(from, Event::SocketText(SocketText { id, text: text.clone() })));
        self.open.insert(id, Open { url, rule, from });
    }

    fn later(&mut self, at: Instant, event: Event) {
        self.due_bytes += payload_bytes(&event);
        self.due.insert((at, self.next), event);
        self.next += 1;
    }

    /// The next time at which something happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let due = self.due.first_key_value().map(|((at, _), _)| *at);
        self.asked.values().map(|asked| asked.until).chain(due).chain(self.model.wake_at()).min()
    }

    /// Have everything happen that is due.
    pub(super) fn advance(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let late: Vec<u32> = self.asked.iter().filter(|(_, asked)| asked.until <= job.now).map(|(id, _)| *id).collect();
        for id in late {
            match self.asked.remove(&id).map(|asked| asked.what) {
                Some(What::Rpc { .. }) => self.later(job.now, rpc_error(id, NO_ANSWER, "response timeout")),
                _ => self.later(job.now, failed(id, "timeout", 0)),
            }
        }
        self.deliver(job)
    }

    fn deliver(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        while let Some(first) = self.due.first_entry()
            && first.key().0 <= job.now
        {
            let event = first.remove();
            self.due_bytes = self.due_bytes.saturating_sub(payload_bytes(&event));
            // Nothing is heard of an id after its end; a socket that failed is gone.
            if matches!(event, Event::Failed(_)) {
                self.open.remove(&id_of(&event));
            }
            job.send_sure(event)?;
        }
        self.model.due(job.now).into_iter().try_for_each(|event| job.send_sure(event))
    }
}

/// A rule that fits.
enum Answer {
    Http(Arc<HttpRule>, String),
    Socket(Arc<SocketRule>, String),
    Rpc(Arc<AnswerRule>),
    /// The model answers, under this path.
    Model(String),
}
