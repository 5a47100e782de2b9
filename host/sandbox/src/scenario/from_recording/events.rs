//! What reached the agent of a recording, as steps.

use super::yaml::{mapping, quoted};
use super::{Presence, Writer};
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::contract::Participant;
use crate::guest::events::name_of;

impl Writer {
    /// Something that reached the agent.
    pub(super) fn event(&mut self, event: &Event) {
        let done = self.happen(event).or_else(|| self.act(event)).or_else(|| self.answer(event));
        if done.is_none() {
            *self.left_out.entry(name_of(event)).or_default() += 1;
        }
    }

    /// What happens in the room, and to the job.
    fn happen(&mut self, event: &Event) -> Option<()> {
        match event {
            Event::ParticipantJoined(who) => self.join(who),
            Event::ParticipantLeft(left) => {
                if self.present.remove(&left.participant.identity) {
                    self.step(&format!("leave: {}", quoted(&left.participant.identity)));
                }
            }
            Event::Reconnecting => self.lose(),
            Event::Disconnected(reason) => {
                self.find();
                self.presence = Presence::Left;
                if reason != "client-initiated" {
                    self.step(&format!("fault: {{disconnect: {}}}", quoted(reason)));
                }
            }
            Event::Connected(_) => {
                self.find();
                self.presence = Presence::Joined;
            }
            Event::ShutdownRequested(request) => match request.code.as_str() {
                "requested" => {}
                "drain" => self.step(&format!("drain: {}", quoted(&request.reason))),
                _ => self.step(&format!("stop: {}", quoted(&request.reason))),
            },
            Event::Started(_) | Event::Done(_) | Event::Writable(_) | Event::TasksWanted => {}
            _ => return None,
        }
        Some(())
    }

    /// What participants do. `None` where the server did it.
    fn act(&mut self, event: &Event) -> Option<()> {
        let step = match event {
            Event::ParticipantChanged(change) if !change.attributes.is_empty() => {
                let who = self.actor(Some(&change.participant.identity))?;
                format!("attributes: {{of: {who}, set: {}}}", mapping(&change.attributes))
            }
            Event::Text(text) => {
                let from = self.actor(text.info.sender.as_ref())?;
                format!("say: {{from: {from}, topic: {}, text: {}}}", quoted(&text.info.topic), quoted(&text.text))
            }
            Event::Data(data) => {
                let from = self.actor(data.sender.as_ref())?;
                let (topic, payload) = (quoted(&data.topic), quoted(&String::from_utf8_lossy(&data.payload)));
                format!("data: {{from: {from}, topic: {topic}, payload: {payload}}}")
            }
            Event::File(file) => {
                let from = self.actor(file.info.sender.as_ref())?;
                let [topic, name, mime] =
                    [&file.info.topic, &file.info.name, &file.info.mime_type].map(|text| quoted(text));
                let content = quoted(&String::from_utf8_lossy(&file.bytes));
                format!("file: {{from: {from}, topic: {topic}, name: {name}, mime-type: {mime}, content: {content}}}")
            }
            Event::RpcRequest(request) => {
                let from = self.actor(request.caller.as_ref())?;
                self.called.insert(request.id, request.method.clone());
                let (method, payload) = (quoted(&request.method), quoted(&request.payload));
                let timeout = request.timeout_ms.max(1);
                format!("call: {{from: {from}, method: {method}, payload: {payload}, timeout: {timeout}ms}}")
            }
            _ => return None,
        };
        self.step(&step);
        Some(())
    }

    /// Those who are there before the agent are no steps.
    fn join(&mut self, who: &Participant) {
        if !self.present.insert(who.identity.clone()) {
            return;
        }
        let mut keys = vec![format!("identity: {}", quoted(&who.identity))];
        let texts = [("name", &who.name), ("metadata", &who.metadata)].into_iter().filter(|(_, text)| !text.is_empty());
        keys.extend(texts.map(|(key, text)| format!("{key}: {}", quoted(text))));
        if !who.attributes.is_empty() {
            keys.push(format!("attributes: {}", mapping(&who.attributes)));
        }
        let person = format!("{{{}}}", keys.join(", "));
        match self.presence {
            Presence::Never => self.first.push(person),
            Presence::Joined | Presence::Left => self.step(&format!("join: {person}")),
        }
    }

    /// A participant who acts is there. Without an identity the server acted.
    fn actor(&mut self, identity: Option<&String>) -> Option<String> {
        let identity = identity?.clone();
        if self.present.insert(identity.clone()) {
            self.step(&format!("join: {}", quoted(&identity)));
        }
        Some(quoted(&identity))
    }

    /// What servers and participants answer.
    fn answer(&mut self, event: &Event) -> Option<()> {
        match event {
            Event::RpcAnswer(answer) => {
                let (from, method) = self.asked.remove(&answer.id)?;
                let outcome = match &answer.answer {
                    Ok(payload) => format!("payload: {}", quoted(payload)),
                    Err(error) => format!("error: {{code: {}, message: {}}}", error.code, quoted(&error.message)),
                };
                let (from, method) = (quoted(&from), quoted(&method));
                self.step(&format!("answer: {{from: {from}, method: {method}, {outcome}, times: 1}}"));
            }
            Event::HttpHead(head) => drop(self.answers.insert(head.id, (head.clone(), Vec::new()))),
            Event::HttpBody(body) => {
                let (_, bytes) = self.answers.get_mut(&body.id)?;
                bytes.extend_from_slice(&body.bytes);
                if body.last {
                    let (head, bytes) = self.answers.remove(&body.id)?;
                    let request = self.request(body.id)?;
                    let (status, body) = (head.status, quoted(&String::from_utf8_lossy(&bytes)));
                    self.step(&format!("http: {{match: {request}, status: {status}, body: {body}, times: 1}}"));
                }
            }
            Event::Failed(failure) if self.requests.contains_key(&failure.id) => {
                let request = self.request(failure.id)?;
                self.step(&format!("http: {{match: {request}, fail: {}, times: 1}}", quoted(&failure.code)));
            }
            Event::Failed(failure) if self.sockets.contains_key(&failure.id) => {
                let (url, status) = (quoted(&self.sockets.remove(&failure.id)?), failure.status);
                self.step(&format!("socket: {{match: {url}, refuse: {status}}}"));
            }
            Event::Failed(_) => {}
            Event::SocketOpened(opened) => {
                let (url, protocol) = (quoted(self.sockets.get(&opened.id)?), quoted(&opened.protocol));
                self.step(&format!("socket: {{match: {url}, protocol: {protocol}}}"));
            }
            Event::SocketText(text) => {
                let url = quoted(self.sockets.get(&text.id)?);
                self.step(&format!("socket-send: {{match: {url}, text: {}}}", quoted(&text.text)));
            }
            Event::SocketClosed(closed) => {
                let url = quoted(&self.sockets.remove(&closed.id)?);
                if !self.closing.remove(&closed.id) {
                    let (code, reason) = (closed.code, quoted(&closed.reason));
                    self.step(&format!("socket-close: {{match: {url}, code: {code}, reason: {reason}}}"));
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn request(&mut self, id: u32) -> Option<String> {
        let (method, url) = self.requests.remove(&id)?;
        Some(quoted(&format!("{method} {url}")))
    }
}
