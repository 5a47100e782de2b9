//! The steps of a scenario, as data.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use wasm_worker_core::room::people::Participant;
use wasm_worker_mock_models::matching::TextMatch;

use super::ModelScript;
use super::matching::{Range, RequestMatch};
use crate::guest::Seed;
use crate::settings::Limits;
use crate::sound::Sound;

/// A scenario as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) name: Option<String>,
    /// The seed of the job's random numbers.
    pub(crate) seed: Seed,
    /// The time since 1970 at which the job begins.
    pub(crate) began: Duration,
    pub(crate) limits: LimitChanges,
    pub(crate) job: JobFacts,
    /// The script of the model; none for the answers of the stand-in itself.
    pub(crate) model: Option<Arc<ModelScript>>,
    pub(crate) steps: Vec<Step>,
}

/// The facts of the job that a scenario sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct JobFacts {
    pub(crate) room: String,
    pub(crate) room_metadata: String,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Those who are in the room before the agent.
    pub(crate) participants: Vec<Participant>,
}

/// The limits that a scenario changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct LimitChanges {
    pub(crate) line: usize,
    pub(crate) fuel: Option<u64>,
    pub(crate) memory: Option<u64>,
    pub(crate) max_duration: Option<Duration>,
    pub(crate) shutdown_grace: Option<Duration>,
    pub(crate) unresponsive: Option<Duration>,
    pub(crate) inbox: Option<usize>,
}

impl LimitChanges {
    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.fuel.is_none()
            && self.memory.is_none()
            && self.max_duration.is_none()
            && self.shutdown_grace.is_none()
            && self.unresponsive.is_none()
            && self.inbox.is_none()
    }

    /// The limits with these changes.
    pub(crate) fn apply(&self, limits: Limits) -> Limits {
        let memory = self.memory.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Limits {
            fuel: self.fuel.or(limits.fuel),
            memory_bytes: memory.unwrap_or(limits.memory_bytes),
            max_duration: self.max_duration.or(limits.max_duration),
            shutdown_grace: self.shutdown_grace.unwrap_or(limits.shutdown_grace),
            unresponsive_timeout: self.unresponsive.unwrap_or(limits.unresponsive_timeout),
            inbox_events: self.inbox.unwrap_or(limits.inbox_events),
            ..limits
        }
    }
}

impl Script {
    /// Whether a step looks at the sound of the agent.
    pub(crate) fn wants_sound(&self) -> bool {
        let of_sound = |step: &Step| match &step.action {
            Action::Expect(expect) => expect.wants.iter().any(|want| matches!(want, Want::Sound(_))),
            _ => false,
        };
        self.steps.iter().any(of_sound)
    }
}

/// One step, and its line in the file.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) line: usize,
    pub(crate) action: Action,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Join(Participant),
    Leave {
        identity: String,
    },
    Change {
        identity: String,
        attributes: BTreeMap<String, String>,
    },
    /// A person speaks.
    Speak {
        from: String,
        sound: Arc<Sound>,
    },
    Say(Said),
    Data {
        from: String,
        topic: String,
        payload: String,
    },
    File(SentFile),
    /// A participant calls a method of the agent.
    Call {
        from: String,
        method: String,
        payload: String,
        timeout: Duration,
    },
    /// Participants answer calls of the agent.
    Answer(Arc<AnswerRule>),
    Http(Arc<HttpRule>),
    Socket(Arc<SocketRule>),
    SocketSend {
        url: RequestMatch,
        text: String,
    },
    SocketClose {
        url: RequestMatch,
        code: u16,
        reason: String,
    },
    Advance(Duration),
    /// Wait until this time since the launch.
    At(Duration),
    /// The dispatcher asks the job to stop.
    Stop {
        reason: String,
    },
    /// The operator's drain asks the job to stop.
    Drain {
        reason: String,
    },
    Fault(Fault),
    Expect(Box<Expect>),
}

/// A text of a participant.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) from: String,
    pub(crate) topic: String,
    pub(crate) text: String,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A file of a participant.
#[derive(Clone, Debug)]
pub(crate) struct SentFile {
    pub(crate) from: String,
    pub(crate) topic: String,
    pub(crate) name: String,
    pub(crate) mime_type: String,
    pub(crate) content: String,
}

/// A fault of the room or of the host.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The operator kills the job.
    Kill,
    /// The room is lost for good.
    Disconnect { reason: String },
    /// The room is lost for this time.
    Reconnect { after: Duration },
}

/// How participants answer calls of the agent.
#[derive(Debug)]
pub(crate) struct AnswerRule {
    /// The participant; none for everyone.
    pub(crate) from: Option<String>,
    /// The method; none for every method.
    pub(crate) method: Option<String>,
    pub(crate) answer: Result<String, (u32, String)>,
    pub(crate) after: Duration,
    /// Calls that the rule answers; none for all.
    pub(crate) times: Option<u32>,
}

/// How a server answers requests.
#[derive(Debug)]
pub(crate) struct HttpRule {
    pub(crate) request: RequestMatch,
    pub(crate) outcome: HttpOutcome,
    /// Time from the request to the head of the answer.
    pub(crate) after: Duration,
    pub(crate) times: Option<u32>,
}

/// The answer of a server, or its failure.
#[derive(Debug)]
pub(crate) enum HttpOutcome {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        /// The parts of the body.
        parts: Vec<String>,
        /// Time between two parts.
        every: Duration,
    },
    /// The code of the failure.
    Fail(String),
}

/// How a server takes WebSockets.
#[derive(Debug)]
pub(crate) struct SocketRule {
    pub(crate) url: RequestMatch,
    /// The status with which connections are refused.
    pub(crate) refuse: Option<u16>,
    pub(crate) protocol: String,
    pub(crate) after: Duration,
    /// Texts that the server sends at once.
    pub(crate) send: Vec<String>,
    pub(crate) replies: Vec<SocketReply>,
}

/// What a server sends after a text of the agent.
#[derive(Debug)]
pub(crate) struct SocketReply {
    pub(crate) when: TextMatch,
    pub(crate) send: Vec<String>,
    pub(crate) after: Duration,
}

/// Something that has to hold.
#[derive(Clone, Debug)]
pub(crate) struct Expect {
    pub(crate) wants: Vec<Want>,
    /// Virtual time for it.
    pub(crate) within: Duration,
}

/// One part of it.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    Text(WantedText),
    /// No such text comes until the time is over.
    NoText(WantedText),
    State(String),
    /// The value of an attribute of the agent; none where it has to be absent.
    Attribute {
        name: String,
        value: Option<TextMatch>,
    },
    Call(WantedCall),
    Http(WantedRequest),
    Sound(WantedSound),
    Model(WantedQuestion),
    Answer(WantedAnswer),
    Fuel(Range),
    Memory(Range),
    End(WantedEnd),
}

impl Want {
    /// Whether it can hold once the job has ended, and not before.
    pub(crate) fn is_of_end(&self) -> bool {
        matches!(self, Self::End(_))
    }
}

/// A text of the agent.
#[derive(Clone, Debug)]
pub(crate) struct WantedText {
    pub(crate) text: TextMatch,
    pub(crate) topic: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// A call of the agent, by its name in the contract.
#[derive(Clone, Debug)]
pub(crate) struct WantedCall {
    pub(crate) name: String,
    /// A part of the call as JSON.
    pub(crate) json: TextMatch,
    /// Calls that there have to be in all; none for one more than expected so far.
    pub(crate) times: Option<Range>,
}

/// Sound of the agent that is mostly one tone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WantedSound {
    pub(crate) hz: f64,
    /// The least time of it.
    pub(crate) least: Duration,
}

impl WantedSound {
    /// The share of its power that has to be at the frequency.
    pub(crate) const SHARE: f64 = 0.9;
}

/// A request of the agent.
#[derive(Clone, Debug)]
pub(crate) struct WantedRequest {
    pub(crate) request: RequestMatch,
    pub(crate) body: TextMatch,
}

/// A request to the model. Everything that is set has to hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct WantedQuestion {
    /// The last text of the user.
    pub(crate) user: TextMatch,
    /// It ends with a result of such a tool; `*` stands for any characters.
    pub(crate) tool: Option<String>,
    /// The name of the model; `*` as above.
    pub(crate) model: Option<String>,
    pub(crate) body: TextMatch,
    /// Requests that there have to be in all; none for one more than expected so far.
    pub(crate) times: Option<Range>,
}

/// An answer of the agent to a call.
#[derive(Clone, Debug)]
pub(crate) struct WantedAnswer {
    pub(crate) method: Option<String>,
    /// The payload, or the code of the error.
    pub(crate) answer: Result<TextMatch, Option<u32>>,
}

/// The end of the job.
#[derive(Clone, Debug)]
pub(crate) struct WantedEnd {
    /// One of these codes.
    pub(crate) codes: Vec<String>,
    pub(crate) detail: TextMatch,
}
