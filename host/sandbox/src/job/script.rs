//! Events that a job's description brings along, played into its inbox while it runs. This is how an agent is tried out,
//! and tested, without a room.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;
use wasm_worker_core::job::{Participant, ParticipantKind};

use crate::hostcalls::bindings::wasm_worker::agent::inbox::{AttributeChange, DataMessage, Event, TextMessage};
use crate::hostcalls::control::{Control, StopBy};
use crate::hostcalls::meter::exact;

/// One event and its time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    /// Milliseconds after the event before it; for the first, after the launch.
    #[serde(default)]
    pub after_ms: u32,
    /// What happens.
    pub event: ScriptedEvent,
}

/// What can happen to a job from outside.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScriptedEvent {
    /// Somebody writes.
    Text {
        /// Identity of the sender.
        sender: String,
        /// `lk.chat` when absent.
        #[serde(default = "chat_topic")]
        topic: String,
        /// The words.
        text: String,
    },
    /// Somebody sends data.
    Data {
        /// Identity of the sender.
        sender: String,
        /// Whatever the receivers know it by.
        #[serde(default)]
        topic: String,
        /// The data, as text.
        payload: String,
    },
    /// Somebody enters the room.
    ParticipantJoined(Person),
    /// Somebody leaves the room.
    ParticipantLeft(Person),
    /// Attributes of somebody change.
    AttributesChanged {
        /// Whose.
        identity: String,
        /// Which; an empty value removes one.
        changed: BTreeMap<String, String>,
    },
    /// The dispatcher ends the job.
    Terminate {
        /// As it is told to the agent.
        reason: String,
    },
    /// An operator kills the job.
    Kill {},
}

/// Somebody in the room, as a job's description names them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Unique in the room.
    pub identity: String,
    /// What users see.
    #[serde(default)]
    pub name: String,
    /// Whatever they brought along.
    #[serde(default)]
    pub metadata: String,
    /// Whatever they brought along.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// How they came into the room.
    #[serde(default)]
    pub kind: PersonKind,
}

/// How somebody came into the room.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PersonKind {
    #[default]
    Standard,
    Ingress,
    Egress,
    Sip,
    Agent,
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

/// Run a guest, and meanwhile let the script happen to it.
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
            () = sleep => happen(control, event.clone()),
        }
    }
    guest.await
}

fn happen(control: &Control, event: ScriptedEvent) {
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
