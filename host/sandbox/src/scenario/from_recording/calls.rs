//! What the agent of a recording did, as expectations.

use super::yaml::quoted;
use super::{Presence, Writer};
use wasm_worker_core::room::command::AgentState;
use wasm_worker_core::room::names::TRANSCRIPTION;

use crate::guest::calls::Call;

impl Writer {
    /// What the agent did.
    pub(super) fn calls(&mut self, calls: &[Call]) {
        for call in calls {
            match call {
                Call::SendText { topic, text, .. } => self.expect_text(topic, text),
                Call::SendTranscription { text, .. } => self.expect_text(TRANSCRIPTION, text),
                Call::OpenText { id, topic, .. } => drop(self.open.insert(*id, (topic.clone(), String::new()))),
                Call::OpenTranscription { id, .. } => {
                    self.open.insert(*id, (TRANSCRIPTION.into(), String::new()));
                }
                Call::WriteText { id, text } => {
                    if let Some((_, written)) = self.open.get_mut(id) {
                        written.push_str(text);
                    }
                }
                Call::CloseStream { id, .. } => {
                    if let Some((topic, text)) = self.open.remove(id) {
                        self.expect_text(&topic, &text);
                    }
                }
                Call::SetAgentState { state } => self.expect(&format!("state: {}", AgentState::from(*state).as_str())),
                Call::Answer { id, answer } => self.expect_answer(*id, answer.as_ref().map_err(|error| error.code)),
                Call::SendHttp { id, request } | Call::OpenHttp { id, request } => {
                    self.expect(&format!("http: {}", quoted(&format!("{} {}", request.method, request.url))));
                    self.requests.insert(*id, (request.method.clone(), request.url.clone()));
                }
                Call::ConnectSocket { id, url, .. } => drop(self.sockets.insert(*id, url.clone())),
                Call::CloseSocket { id, .. } => {
                    self.closing.insert(*id);
                }
                Call::Rpc { id, destination, method, .. } => {
                    self.asked.insert(*id, (destination.clone(), method.clone()));
                }
                _ => {}
            }
        }
    }

    /// A text. Outside of a room it went nowhere.
    fn expect_text(&mut self, topic: &str, text: &str) {
        if self.presence == Presence::Joined {
            self.expect(&format!("text: {{topic: {}, equals: {}}}", quoted(topic), quoted(text)));
        }
    }

    fn expect_answer(&mut self, id: u32, answer: Result<&String, u32>) {
        let Some(method) = self.called.remove(&id) else { return };
        let outcome = match answer {
            Ok(payload) => format!("payload: {}", quoted(payload)),
            Err(code) => format!("error: {code}"),
        };
        self.expect(&format!("answer: {{method: {}, {outcome}}}", quoted(&method)));
    }
}
