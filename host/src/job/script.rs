//! Events that a job's description brings along, played into its inbox while it runs. This is how an agent is tried out,
//! and tested, without a room.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::hostcalls::bindings::wasm_worker::agent::inbox::{Event, TextMessage};
use crate::hostcalls::contract::{Participant, ParticipantKind};
use crate::hostcalls::control::{Control, StopBy};

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
    /// Somebody enters the room.
    ParticipantJoined(Person),
    /// Somebody leaves the room.
    ParticipantLeft(Person),
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
}

impl From<Person> for Participant {
    fn from(Person { identity, name, metadata }: Person) -> Self {
        Self { identity, name, metadata, attributes: Vec::new(), kind: ParticipantKind::Standard }
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
    match event {
        ScriptedEvent::Text { sender, topic, text } => {
            control.inbox.push(Event::Text(TextMessage { sender, topic, text, attributes: Vec::new() }));
        }
        ScriptedEvent::ParticipantJoined(who) => control.inbox.push(Event::ParticipantJoined(who.into())),
        ScriptedEvent::ParticipantLeft(who) => control.inbox.push(Event::ParticipantLeft(who.into())),
        ScriptedEvent::Terminate { reason } => control.ask_to_stop(StopBy::Dispatcher, reason),
        ScriptedEvent::Kill {} => control.kill_by_operator(),
    }
}
