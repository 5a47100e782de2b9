//! What the agent of a scenario did so far. Pure.
//!
//! Bounds: [`KEPT_MAX`] entries of each kind, [`BYTES_MAX`] bytes of all. Later ones are counted, and no expectation sees them.

use std::time::Duration;

use wasm_worker_core::record::SentText;

use crate::guest::calls::Call;

/// Most entries of each kind.
const KEPT_MAX: usize = 100_000;
/// Most bytes of all entries.
const BYTES_MAX: usize = 64 << 20;

/// Something that was seen, and the time since the launch.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    pub(crate) at: Duration,
    pub(crate) it: T,
}

/// A call of the agent: its name in the contract, and what it carries as JSON.
#[derive(Clone, Debug)]
pub(crate) struct SeenCall {
    pub(crate) name: &'static str,
    pub(crate) json: String,
}

/// A request of the agent.
#[derive(Clone, Debug)]
pub(crate) struct SeenRequest {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) body: String,
}

/// A request to the model.
#[derive(Clone, Debug)]
pub(crate) struct SeenQuestion {
    /// The name of the model.
    pub(crate) model: String,
    /// The last text of the user.
    pub(crate) user: String,
    /// The tools whose results the request ends with.
    pub(crate) tools: Vec<String>,
    pub(crate) body: String,
}

/// An answer of the agent to a participant's call.
#[derive(Clone, Debug)]
pub(crate) struct SeenAnswer {
    pub(crate) method: String,
    pub(crate) answer: Result<String, (u32, String)>,
}

/// Sound that the agent played. Its time is that of its first sample.
#[derive(Debug)]
pub(crate) struct SeenSound {
    pub(crate) rate: u32,
    pub(crate) samples: Vec<i16>,
}

/// Everything that was seen, in order.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) texts: Vec<Seen<SentText>>,
    pub(crate) states: Vec<Seen<String>>,
    pub(crate) calls: Vec<Seen<SeenCall>>,
    pub(crate) requests: Vec<Seen<SeenRequest>>,
    pub(crate) questions: Vec<Seen<SeenQuestion>>,
    pub(crate) answers: Vec<Seen<SeenAnswer>>,
    pub(crate) sounds: Vec<Seen<SeenSound>>,
    bytes: usize,
    /// Whether an expectation looks at calls.
    keeps_calls: bool,
    /// Entries that are not kept.
    pub(crate) not_kept: u64,
}

impl Trace {
    /// Nothing was seen.
    pub(super) fn new(keeps_calls: bool) -> Self {
        Self {
            texts: Vec::new(),
            states: Vec::new(),
            calls: Vec::new(),
            requests: Vec::new(),
            questions: Vec::new(),
            answers: Vec::new(),
            sounds: Vec::new(),
            bytes: 0,
            keeps_calls,
            not_kept: 0,
        }
    }

    pub(crate) fn text(&mut self, at: Duration, it: SentText) {
        if self.admit(self.texts.len(), it.bytes()) {
            self.texts.push(Seen { at, it });
        }
    }

    pub(crate) fn state(&mut self, at: Duration, it: String) {
        if self.admit(self.states.len(), it.len()) {
            self.states.push(Seen { at, it });
        }
    }

    pub(crate) fn call(&mut self, at: Duration, call: &Call) {
        if !self.keeps_calls {
            return;
        }
        let value = serde_json::to_value(call).unwrap_or_default();
        let json =
            value.as_object().and_then(|object| object.values().next()).map(ToString::to_string).unwrap_or_default();
        if self.admit(self.calls.len(), json.len()) {
            self.calls.push(Seen { at, it: SeenCall { name: call.name(), json } });
        }
    }

    pub(crate) fn request(&mut self, at: Duration, it: SeenRequest) {
        if self.admit(self.requests.len(), it.url.len() + it.body.len()) {
            self.requests.push(Seen { at, it });
        }
    }

    pub(crate) fn question(&mut self, at: Duration, it: SeenQuestion) {
        let tools = it.tools.iter().map(String::len).sum::<usize>();
        if self.admit(self.questions.len(), it.model.len() + it.user.len() + tools + it.body.len()) {
            self.questions.push(Seen { at, it });
        }
    }

    pub(crate) fn answer(&mut self, at: Duration, it: SeenAnswer) {
        let bytes = it.answer.as_ref().map_or_else(|(_, message)| message.len(), String::len);
        if self.admit(self.answers.len(), it.method.len() + bytes) {
            self.answers.push(Seen { at, it });
        }
    }

    pub(crate) fn sound(&mut self, at: Duration, rate: u32, samples: Vec<i16>) {
        if self.admit(self.sounds.len(), size_of_val(&*samples)) {
            self.sounds.push(Seen { at, it: SeenSound { rate, samples } });
        }
    }

    fn admit(&mut self, count: usize, bytes: usize) -> bool {
        let fits = count < KEPT_MAX && self.bytes + bytes <= BYTES_MAX;
        if fits {
            self.bytes += bytes;
        } else {
            self.not_kept += 1;
        }
        fits
    }
}
