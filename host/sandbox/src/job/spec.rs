//! A job as JSON describes it, and the offers to make of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::Deserialize;
use wasm_worker_core::job::{JobInfo, JobKind, RoomInfo};

use super::admission::Offer;
use super::script::{Person, Scripted};

const ID_CHARS: usize = 12;

/// A job's description. Everything may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobSpec {
    /// Name of the room; `local` when absent.
    pub room: Option<String>,
    /// Metadata of the room.
    pub room_metadata: String,
    /// Metadata of the job, often JSON.
    pub metadata: String,
    /// Attributes of the job.
    pub attributes: BTreeMap<String, String>,
    /// The dispatch that asks for it.
    pub dispatch_id: String,
    /// 1 for the first attempt, which is the default.
    pub attempt: Option<u32>,
    /// The participant that the job is for.
    pub participant: Option<Person>,
    /// Everyone who is in the room already.
    pub participants: Vec<Person>,
    /// Events that come in once it runs.
    pub inbox: Vec<Scripted>,
}

/// A text that describes no job.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A derived deserializer would take the fields from an array too.
    #[error("want a JSON object")]
    NoObject,
    /// With the line and the column.
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

    /// The offers to make of it; each job gets an id of its own.
    pub fn into_offers(self, agent: &str) -> impl Fn() -> Offer + use<> {
        let Self { room, room_metadata, metadata, attributes, dispatch_id, attempt, participant, participants, inbox } =
            self;
        let info = JobInfo {
            id: String::new(),
            dispatch_id,
            // LiveKit's own rule: a job has a participant where its kind has one.
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
            script: script.clone(),
        }
    }
}

/// In LiveKit's form.
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
        fn whatever_the_text_there_is_a_job_or_an_error(text in ".{0,200}", at in 0..300_usize, with in any::<char>()) {
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
