//! The job that `run --job` offers: from flags, or from a description in JSON.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::Deserialize;

use super::Failure;
use crate::hostcalls::contract::{JobInfo, JobKind, RoomInfo};
use crate::job::admission::Offer;
use crate::job::script::{Person, Scripted};

/// A description beyond this is refused; LiveKit's own metadata limit is far below.
const SPEC_BYTES_MAX: u64 = 4 << 20;
const ID_CHARS: usize = 12;

/// Flags that describe the job.
#[derive(Args)]
pub(crate) struct JobFlags {
    /// Room of the job
    #[arg(long, value_name = "NAME", requires = "job", conflicts_with = "spec")]
    room: Option<String>,
    /// Metadata of the job, often JSON
    #[arg(long, value_name = "TEXT", requires = "job", conflicts_with = "spec")]
    metadata: Option<String>,
    /// Attribute of the job; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute, requires = "job", conflicts_with = "spec")]
    attribute: Vec<(String, String)>,
    /// Describe the job in JSON: a file, or `-` for standard input
    #[arg(long, value_name = "FILE", requires = "job")]
    spec: Option<PathBuf>,
}

fn attribute(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("want NAME=VALUE")?;
    if name.is_empty() { Err("the name is empty".into()) } else { Ok((name.into(), value.into())) }
}

/// A job as JSON describes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JobSpec {
    room: Option<String>,
    room_metadata: String,
    metadata: String,
    attributes: BTreeMap<String, String>,
    dispatch_id: String,
    attempt: Option<u32>,
    /// The participant that the job is for.
    participant: Option<Person>,
    /// Everyone who is in the room already.
    participants: Vec<Person>,
    inbox: Vec<Scripted>,
}

impl JobFlags {
    pub(crate) fn into_spec(self) -> Result<JobSpec, Failure> {
        let Self { room, metadata, attribute, spec } = self;
        match spec {
            Some(path) => read_spec(&path),
            None => Ok(JobSpec {
                room,
                metadata: metadata.unwrap_or_default(),
                attributes: attribute.into_iter().collect(),
                ..JobSpec::default()
            }),
        }
    }
}

fn read_spec(path: &Path) -> Result<JobSpec, Failure> {
    let shown = path.display();
    let from_stdin = path == Path::new("-");
    let mut text = String::new();
    let read = if from_stdin {
        std::io::stdin().take(SPEC_BYTES_MAX + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(SPEC_BYTES_MAX + 1).read_to_string(&mut text))
    };
    let bytes =
        read.map_err(|error| Failure::usage(format!("the job's description `{shown}` cannot be read: {error}")))?;
    let refuse = |why: String| {
        Failure::usage(format!("the job's description `{shown}` is not one: {why}"))
            .with_hint(r#"for example {"room": "support", "metadata": "", "attributes": {"lang": "en"}}"#)
    };
    if bytes as u64 > SPEC_BYTES_MAX {
        return Err(refuse(format!("it is larger than {SPEC_BYTES_MAX} bytes")));
    }
    // A derived deserializer would take the fields from an array too.
    if !text.trim_start().is_empty() && !text.trim_start().starts_with('{') {
        return Err(refuse("want a JSON object".into()));
    }
    serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))
}

impl JobSpec {
    /// The offers to make of it; each job gets an id of its own.
    pub(crate) fn into_offers(self, agent: &str) -> impl Fn() -> Offer + use<> {
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
