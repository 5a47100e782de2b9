//! The description of a job in JSON, for `run --job`, and the offers that follow from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::Deserialize;
use wasm_worker_core::job::{JobInfo, JobKind, RoomInfo};

use super::offer::{Offer, OfferedRoom};
use super::script::{Person, Scripted};

/// Random characters of a job id, as in LiveKit's ids.
const ID_CHARS: usize = 12;

/// The description of a job. Every field is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSpec {
    /// The name of the room; `local` when absent.
    pub room: Option<String>,
    /// The metadata of the room.
    pub room_metadata: String,
    /// The metadata of the job, often JSON.
    pub metadata: String,
    /// The attributes of the job.
    pub attributes: BTreeMap<String, String>,
    /// The id of the dispatch.
    pub dispatch_id: String,
    /// The number of the attempt, from 1; 1 when absent.
    pub attempt: Option<u32>,
    /// The participant that the job is for.
    pub participant: Option<Person>,
    /// The participants of the room.
    pub participants: Vec<Person>,
    /// Events that arrive after the launch.
    pub inbox: Vec<Scripted>,
}

/// The reason why a text describes no job.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The text is not an object. A derived deserializer would accept an array too.
    #[error("want a JSON object")]
    NoObject,
    /// The JSON is wrong; the message has the line and the column.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

impl JobSpec {
    /// Read a description.
    ///
    /// # Errors
    /// When the text is not a JSON object, or one with unknown or mistyped fields.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let start = text.trim_start();
        if !start.is_empty() && !start.starts_with('{') {
            return Err(SpecError::NoObject);
        }
        Ok(serde_json::from_str(text)?)
    }

    /// A source of offers for this description; each offer has an id of its own.
    pub fn into_offers(self, agent: &str) -> impl Fn() -> Offer + use<> {
        let Self { room, room_metadata, metadata, attributes, dispatch_id, attempt, participant, participants, inbox } =
            self;
        let info = JobInfo {
            id: String::new(),
            dispatch_id,
            // LiveKit's own rule: a job for a participant has that participant.
            kind: if participant.is_some() { JobKind::Participant } else { JobKind::Room },
            room: RoomInfo {
                sid: String::new(),
                name: room.unwrap_or_else(|| "local".into()),
                metadata: room_metadata,
            },
            participant: participant.map(Into::into),
            metadata,
            attributes: attributes.into_iter().collect(),
            agent_name: agent.into(),
            attempt: attempt.unwrap_or(1),
        };
        let participants: Vec<_> = participants.into_iter().map(Into::into).collect();
        let script: Arc<[Scripted]> = inbox.into();
        move || Offer {
            info: JobInfo { id: job_id(), ..info.clone() },
            participants: participants.clone(),
            room: OfferedRoom::Scripted(script.clone()),
        }
    }
}

/// A job id in LiveKit's form.
fn job_id() -> String {
    let id = rand::rng().sample_iter(Alphanumeric).take(ID_CHARS).map(char::from);
    "AJ_".chars().chain(id).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_job_or_an_error(text in ".{0,200}", at in 0..300_usize, with in any::<char>()) {
            drop(JobSpec::parse(&text));
            // One character of a good description is another.
            let good = r#"{"room": "r", "attempt": 2, "participant": {"identity": "ann"}, "attributes": {"a": "b"},
                "inbox": [{"after_ms": 5, "event": {"text": {"sender": "ann", "text": "hi"}}}, {"event": {"kill": {}}}]}"#;
            prop_assert!(JobSpec::parse(good).is_ok());
            let changed: String = good.chars().enumerate().map(|(n, old)| if n == at { with } else { old }).collect();
            if let Ok(spec) = JobSpec::parse(&changed) {
                let offer = spec.into_offers("agent")();
                prop_assert!(offer.info.id.starts_with("AJ_"));
            }
        }
    }
}
