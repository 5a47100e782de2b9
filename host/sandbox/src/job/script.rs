//! The events of a job's description, which happen while the job runs. They take the place of a room in trials and tests.

use std::collections::BTreeMap;

use serde::Deserialize;
use wasm_worker_core::room::people::{Participant, ParticipantKind};

use crate::guest::bindings::wasm_worker::agent::events::{
    DataMessage, Departure, Event, ParticipantChange, ParticipantChanges, RpcRequest, StreamInfo, TextMessage,
};
use crate::guest::clock::Moment;
use crate::guest::contract;

/// One event and its time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    /// Milliseconds after the previous event; for the first one, after the launch.
    #[serde(default)]
    pub after_ms: u32,
    /// The event.
    pub event: ScriptedEvent,
}

/// An event from outside of a job.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScriptedEvent {
    /// A participant sends a text.
    Text {
        /// The identity of the sender.
        sender: String,
        /// The topic; `lk.chat` when absent.
        #[serde(default = "chat_topic")]
        topic: String,
        /// The text.
        text: String,
    },
    /// A participant sends data.
    Data {
        /// The identity of the sender.
        sender: String,
        /// The topic.
        #[serde(default)]
        topic: String,
        /// The data, as text.
        payload: String,
    },
    /// A participant calls a method of the agent.
    Rpc {
        /// The identity of the caller.
        sender: String,
        /// The method.
        method: String,
        /// The payload.
        #[serde(default)]
        payload: String,
        /// Milliseconds after which the caller gives up.
        #[serde(default = "rpc_timeout_ms")]
        timeout_ms: u32,
    },
    /// A participant joins the room.
    ParticipantJoined(Person),
    /// A participant leaves the room.
    ParticipantLeft(Person),
    /// Attributes of a participant change.
    AttributesChanged {
        /// The identity of the participant.
        identity: String,
        /// The new values; an empty value removes an attribute.
        changed: BTreeMap<String, String>,
    },
    /// The dispatcher asks the job to stop.
    Terminate {
        /// The reason that the agent receives.
        reason: String,
    },
    /// An operator kills the job.
    Kill {},
}

/// A participant in a job's description.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The identity, unique in the room.
    pub identity: String,
    /// The name that users see.
    #[serde(default)]
    pub name: String,
    /// The metadata.
    #[serde(default)]
    pub metadata: String,
    /// The attributes.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// The kind of the participant.
    #[serde(default)]
    pub kind: PersonKind,
}

/// The kind of a participant: how it joined the room.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersonKind {
    /// A user.
    #[default]
    Standard,
    /// An incoming stream.
    Ingress,
    /// A recording or an outgoing stream.
    Egress,
    /// A telephone call.
    Sip,
    /// An agent.
    Agent,
    /// A connector to another service.
    Connector,
}

impl From<Person> for Participant {
    fn from(Person { identity, name, metadata, attributes, kind }: Person) -> Self {
        let kind = match kind {
            PersonKind::Standard => ParticipantKind::Standard,
            PersonKind::Ingress => ParticipantKind::Ingress,
            PersonKind::Egress => ParticipantKind::Egress,
            PersonKind::Sip => ParticipantKind::Sip,
            PersonKind::Agent => ParticipantKind::Agent,
            PersonKind::Connector => ParticipantKind::Connector,
        };
        Self { name, metadata, attributes: attributes.into_iter().collect(), kind, ..Self::present(identity) }
    }
}

fn chat_topic() -> String {
    "lk.chat".into()
}

const fn rpc_timeout_ms() -> u32 {
    10_000
}

impl ScriptedEvent {
    /// The event in the room, whose participants are brought up to date. None where nothing happens in the room, and where the
    /// event is about a participant who is not there. `position` is that of the event in its script.
    pub(super) fn into_event(
        self,
        position: usize,
        at: Moment,
        present: &mut BTreeMap<String, contract::Participant>,
    ) -> Option<Event> {
        Some(match self {
            Self::Text { sender, topic, text } => {
                Event::Text(TextMessage { info: stream_info(position, sender, topic, text.len(), at), text })
            }
            Self::Data { sender, topic, payload } => {
                let payload = payload.into_bytes();
                Event::Data(DataMessage { sender: Some(sender), topic, payload, reliable: true })
            }
            Self::Rpc { sender, method, payload, timeout_ms } => {
                Event::RpcRequest(RpcRequest { id: 0, caller: Some(sender), method, payload, timeout_ms })
            }
            Self::ParticipantJoined(who) => {
                let who: contract::Participant = Participant::from(who).into();
                present.insert(who.identity.clone(), who.clone());
                Event::ParticipantJoined(who)
            }
            Self::ParticipantLeft(who) => {
                let participant = present.remove(&who.identity).unwrap_or_else(|| Participant::from(who).into());
                Event::ParticipantLeft(Departure { participant, reason: "client-initiated".into() })
            }
            Self::AttributesChanged { identity, changed } => {
                let who = present.get_mut(&identity)?;
                who.attributes.retain(|(name, _)| !changed.contains_key(name));
                who.attributes.extend(
                    changed.iter().filter(|(_, value)| !value.is_empty()).map(|(n, value)| (n.clone(), value.clone())),
                );
                let (participant, changes) = (who.clone(), ParticipantChanges::ATTRIBUTES);
                let attributes = changed.into_iter().collect();
                Event::ParticipantChanged(ParticipantChange { participant, changes, attributes })
            }
            Self::Terminate { .. } | Self::Kill {} => return None,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a text in a description is far below 2^53 bytes")]
pub(super) fn stream_info(position: usize, sender: String, topic: String, bytes: usize, at: Moment) -> StreamInfo {
    StreamInfo {
        stream_id: format!("script-{position}"),
        sender: Some(sender),
        topic,
        name: String::new(),
        mime_type: "text/plain".into(),
        attributes: Vec::new(),
        timestamp_ms: at.as_ms(),
        size: Some(bytes as f64),
        reply_to: String::new(),
    }
}
