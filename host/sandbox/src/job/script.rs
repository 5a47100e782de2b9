//! The events of a job's description, which arrive in the job's inbox while it runs. They take the place of a room in trials
//! and tests.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;
use wasm_worker_core::job::{Participant, ParticipantKind};

use crate::guest::bindings::wasm_worker::agent::inbox::{AttributeChange, DataMessage, Event, TextMessage};
use crate::guest::control::{Control, StopBy};
use crate::guest::meter::exact;

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
        Self { sid: String::new(), identity, name, metadata, attributes: attributes.into_iter().collect(), kind }
    }
}

fn chat_topic() -> String {
    "lk.chat".into()
}

/// Run a guest, and meanwhile send it the events of the script.
pub(crate) async fn play_during<T>(script: &[Scripted], control: &Arc<Control>, guest: impl Future<Output = T>) -> T {
    if script.is_empty() {
        return guest.await;
    }
    let mut guest = std::pin::pin!(guest);
    let mut at = Instant::now();
    for Scripted { after_ms, event } in script {
        at += Duration::from_millis((*after_ms).into());
        let sleep = {
            let _timers = control.inbox.timers.enter();
            tokio::time::sleep_until(at)
        };
        tokio::select! {
            biased;
            result = &mut guest => return result,
            () = sleep => inject(control, event.clone()),
        }
    }
    guest.await
}

/// Send one event to the job.
fn inject(control: &Control, event: ScriptedEvent) {
    control.inbox.push(match event {
        ScriptedEvent::Text { sender, topic, text } => Event::Text(TextMessage {
            id: String::new(),
            sender,
            topic,
            text,
            attributes: Vec::new(),
            timestamp_ms: exact(u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)),
        }),
        ScriptedEvent::Data { sender, topic, payload } => {
            Event::Data(DataMessage { sender: Some(sender), topic, payload: payload.into_bytes() })
        }
        ScriptedEvent::ParticipantJoined(who) => Event::ParticipantJoined(Participant::from(who).into()),
        ScriptedEvent::ParticipantLeft(who) => Event::ParticipantLeft(Participant::from(who).into()),
        ScriptedEvent::AttributesChanged { identity, changed } => {
            Event::AttributesChanged(AttributeChange { identity, changed: changed.into_iter().collect() })
        }
        ScriptedEvent::Terminate { reason } => return control.ask_to_stop(StopBy::Dispatcher, reason),
        ScriptedEvent::Kill {} => return control.kill_by_operator(),
    });
}
