//! The model of a scenario: the stand-in for model servers, under the time of the job.
//!
//! Frames of an answer are made when their time has come, so a long answer takes no memory before.
//!
//! Bounds: one frame of each answer; the job's own on open ids, and its memory on what the agent has not taken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_mock_models::answer::{Act, Frame, Frames};
use wasm_worker_mock_models::exchange::{HeadTime, Response, respond};
use wasm_worker_mock_models::request::{Protocol, Request};
use wasm_worker_mock_models::script::{Counts, Script};

use super::played_rules::{PART_BYTES, failed};
use crate::guest::bindings::wasm_worker::agent::events::{Event, HttpBody, HttpHead};
use crate::scenario::MODEL_HOST;
use crate::scenario::trace::SeenQuestion;

/// The endpoints that answer at any host, as the ends of their paths, where the scenario has a script.
const ENDPOINTS: [(&str, &str, Protocol); 2] = [
    ("/chat/completions", "/v1/chat/completions", Protocol::Chat),
    ("/responses", "/v1/responses", Protocol::Responses),
];

/// The model of one scenario.
pub(super) struct PlayedModel {
    script: Arc<Script>,
    /// Whether it answers in the place of other hosts too.
    is_scripted: bool,
    counts: Counts,
    /// What has not ended, by the ids of the requests.
    answers: BTreeMap<u32, Answering>,
    /// Requests that the play has not seen.
    pub(super) seen: Vec<SeenQuestion>,
}

/// A request for the model.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a str,
    /// The path by [`PlayedModel::path`].
    pub(super) path: &'a str,
    pub(super) body: &'a [u8],
    /// The time at which the request fails.
    pub(super) until: Instant,
}

/// An answer that has not ended.
struct Answering {
    began: Instant,
    until: Instant,
    /// The head, until it is told.
    head: Option<(HeadTime, HttpHead)>,
    /// None where nothing more comes.
    body: Option<Body>,
}

/// What is left of a body.
struct Body {
    /// The next frame; none at the end.
    next: Option<Frame>,
    frames: Frames,
    /// The time of the last frame that came.
    last: Instant,
}

impl Default for PlayedModel {
    fn default() -> Self {
        Self::new(None)
    }
}

impl PlayedModel {
    /// The model with this script; without one it repeats what it hears.
    pub(super) fn new(script: Option<Arc<Script>>) -> Self {
        let is_scripted = script.is_some();
        let script = script.unwrap_or_else(|| Arc::new(Script::built_in()));
        Self { script, is_scripted, counts: Counts::default(), answers: BTreeMap::new(), seen: Vec::new() }
    }

    /// The path under which the model answers a request; none for requests that are not for it.
    pub(super) fn path(&self, method: &str, url: &str) -> Option<String> {
        let (_, rest) = url.split_once("://")?;
        let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = path.split(['?', '#']).next().unwrap_or_default();
        if host.split(':').next() == Some(MODEL_HOST) {
            return Some(if path.is_empty() { "/".into() } else { path.to_owned() });
        }
        let (_, known, _) = ENDPOINTS.into_iter().find(|(end, ..)| path.ends_with(end))?;
        (self.is_scripted && method.eq_ignore_ascii_case("POST")).then(|| known.to_owned())
    }

    /// Begin the answer to a request. `since_1970` is the time.
    pub(super) fn ask(&mut self, id: u32, asked: &Asked<'_>, now: Instant, since_1970: Duration) {
        let Asked { method, url, path, body, until } = *asked;
        self.see(path, body);
        let response = respond(&self.script, &mut self.counts, method, path, body, since_1970.as_secs());
        let (head, body) = match response {
            None => (None, None),
            Some(Response { status, headers, head, mut frames }) => {
                let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                let told = HttpHead { id, status, url: url.to_owned(), headers };
                (Some((head, told)), Some(Body { next: frames.next(), frames, last: now }))
            }
        };
        self.answers.insert(id, Answering { began: now, until, head, body });
    }

    /// Note a question for the play. One that is refused for its form is none.
    fn see(&mut self, path: &str, body: &[u8]) {
        let protocol = ENDPOINTS.into_iter().find(|(_, known, _)| *known == path);
        let Some(request) = protocol.and_then(|(.., protocol)| Request::parse(protocol, body).ok()) else { return };
        let Request { model, user, results, .. } = request;
        let tools = results.into_iter().map(|result| result.name).collect();
        self.seen.push(SeenQuestion { model, user, tools, body: String::from_utf8_lossy(body).into_owned() });
    }

    /// The agent gives a request up.
    pub(super) fn cancel(&mut self, id: u32) {
        self.answers.remove(&id);
    }

    /// The next time at which something happens.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.answers.values().map(Answering::wake_at).min()
    }

    /// Everything that is due, in the order of each answer.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Event> {
        let mut events = Vec::new();
        self.answers.retain(|id, answering| answering.tell(*id, now, &mut events));
        events
    }
}

impl Answering {
    fn wake_at(&self) -> Instant {
        let next = match (&self.head, &self.body) {
            (Some((HeadTime::AtOnce, _)), _) => self.began,
            (_, None) => self.until,
            (_, Some(body)) => body.next.as_ref().map_or(body.last, |frame| self.began + frame.at),
        };
        next.min(self.until)
    }

    /// Tell what is due. Returns whether more may come.
    fn tell(&mut self, id: u32, now: Instant, events: &mut Vec<Event>) -> bool {
        if let Some((HeadTime::AtOnce, _)) = &self.head {
            self.tell_head(events);
        }
        let due = now.min(self.until);
        while let Some(body) = &mut self.body {
            let Some(frame) = body.next.take_if(|frame| self.began + frame.at <= due) else {
                if body.next.is_some() {
                    break;
                }
                self.tell_head(events);
                events.push(Event::HttpBody(HttpBody { id, bytes: Vec::new(), last: true }));
                return false;
            };
            (body.last, body.next) = (self.began + frame.at, body.frames.next());
            match frame.act {
                Act::Send(bytes) => {
                    self.tell_head(events);
                    let parts = bytes.chunks(PART_BYTES).map(<[u8]>::to_vec);
                    events.extend(parts.map(|bytes| Event::HttpBody(HttpBody { id, bytes, last: false })));
                }
                Act::Hang => self.body = None,
                Act::Cut => {
                    events.push(failed(id, "unavailable", 0));
                    return false;
                }
            }
        }
        if self.until > now {
            return true;
        }
        events.push(failed(id, "timeout", 0));
        false
    }

    fn tell_head(&mut self, events: &mut Vec<Event>) {
        events.extend(self.head.take().map(|(_, head)| Event::HttpHead(head)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://api.example/v1/chat/completions";

    fn model(rules: &str) -> PlayedModel {
        PlayedModel::new(Some(Arc::new(Script::parse("f", &format!("rules: [{rules}]")).unwrap())))
    }

    /// Ask, and let time pass in steps of what comes next. The events with their seconds.
    fn told(model: &mut PlayedModel, stream: bool, within: u64) -> Vec<(u64, Event)> {
        let began = Instant::now();
        let message = r#"[{"role": "user", "content": "hi"}]"#;
        let body = format!(r#"{{"model": "m", "stream": {stream}, "messages": {message}}}"#);
        let path = model.path("POST", URL).unwrap();
        let until = began + Duration::from_secs(within);
        let asked = Asked { method: "POST", url: URL, path: &path, body: body.as_bytes(), until };
        model.ask(7, &asked, began, Duration::ZERO);
        let mut all = Vec::new();
        while let Some(now) = model.wake_at() {
            let second = now.saturating_duration_since(began).as_secs();
            all.extend(model.due(now).into_iter().map(|event| (second, event)));
        }
        all
    }

    fn in_words((second, event): &(u64, Event)) -> String {
        match event {
            Event::HttpHead(head) => format!("{second} head {}", head.status),
            Event::HttpBody(body) if body.last => format!("{second} end"),
            Event::HttpBody(_) => format!("{second} body"),
            Event::Failed(failure) => format!("{second} {}", failure.code),
            _ => panic!("{event:?}"),
        }
    }

    fn words(rules: &str, stream: bool, within: u64) -> Vec<String> {
        let mut all: Vec<String> = told(&mut model(rules), stream, within).iter().map(in_words).collect();
        all.dedup();
        all
    }

    #[test]
    fn frames_come_at_their_times() {
        let slow = "{answer: {text: one two three, first-token: 2s, tokens-per-second: 1}}";
        assert_eq!(words(slow, true, 60), ["0 head 200", "2 body", "3 body", "4 body", "4 end"]);
        assert_eq!(words(slow, false, 60), ["4 head 200", "4 body", "4 end"]);
        assert_eq!(words(slow, true, 3), ["0 head 200", "2 body", "3 body", "3 timeout"]);
        assert_eq!(words(slow, false, 3), ["3 timeout"]);
    }

    #[test]
    fn faults_of_a_script_reach_the_agent() {
        let slow = "answer: {text: one two three, tokens-per-second: 1}";
        assert_eq!(words("{faults: hang}", true, 9), ["9 timeout"]);
        assert_eq!(words(&format!("{{{slow}, faults: {{hang: 1}}}}"), true, 9), ["0 head 200", "0 body", "9 timeout"]);
        assert_eq!(
            words(&format!("{{{slow}, faults: {{cut: 1}}}}"), true, 9),
            ["0 head 200", "0 body", "1 unavailable"]
        );
        let stopped = words(&format!("{{{slow}, faults: {{stop: 1}}}}"), true, 9);
        assert_eq!((stopped.first().unwrap().as_str(), stopped.last().unwrap().as_str()), ("0 head 200", "0 end"));
        assert_eq!(words("{refuse: 429}", true, 9), ["0 head 429", "0 body", "0 end"]);
        let long = told(&mut model("{answer: x, faults: {long-line: 1MiB}}"), true, 9);
        let most =
            long.iter().map(|(_, event)| if let Event::HttpBody(body) = event { body.bytes.len() } else { 0 }).max();
        assert_eq!(most, Some(PART_BYTES));
    }

    #[test]
    fn other_hosts_are_the_models_where_it_has_a_script() {
        let (scripted, built_in) = (model("{answer: x}"), PlayedModel::new(None));
        let chat = Some("/v1/chat/completions".to_owned());
        assert_eq!(scripted.path("POST", "https://x.example:8443/openai/v1/chat/completions?api-version=1"), chat);
        assert_eq!((scripted.path("GET", URL), built_in.path("POST", URL)), (None, None));
        assert_eq!(scripted.path("POST", "https://x.example/v1/other#/chat/completions"), None);
        let own = |path: &str| built_in.path("GET", &format!("http://{MODEL_HOST}{path}"));
        assert_eq!((own("/v1/models?x"), own("")), (Some("/v1/models".into()), Some("/".into())));
        assert_eq!((own(":80/v1"), own(".example/v1"), own("@other/v1")), (Some("/v1".into()), None, None));
        assert_eq!(built_in.path("GET", "no url"), None);
    }

    #[test]
    fn questions_are_noted_and_an_answer_can_be_given_up() {
        let mut model = model("{answer: {text: one, first-token: 1s}}");
        told(&mut model, true, 60);
        let [question] = &model.seen[..] else { panic!("{:?}", model.seen) };
        assert_eq!((&*question.model, &*question.user, question.tools.len()), ("m", "hi", 0));
        let now = Instant::now();
        let path = model.path("POST", URL).unwrap();
        let asked = Asked { method: "POST", url: URL, path: &path, body: b"{}", until: now + Duration::from_secs(1) };
        model.ask(8, &asked, now, Duration::ZERO);
        assert_eq!(model.seen.len(), 1, "one that is refused for its form is no question");
        model.cancel(8);
        assert!(model.wake_at().is_none() && model.due(now).is_empty());
    }
}
