//! The record of a finished job: its verdict, its use, its activity in the room, and its last log lines.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::text::{pair_bytes, text_bytes};
use crate::usage::UsageRecord;
use crate::verdict::Verdict;

/// A text that an agent sent.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SentText {
    /// The topic of the text.
    pub topic: String,
    /// The whole text.
    pub text: String,
    /// Identities of the receivers; empty for everyone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// Attributes sent with the text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

impl SentText {
    /// Host memory that the text takes, in bytes.
    pub fn bytes(&self) -> usize {
        let Self { topic, text, destinations, attributes } = self;
        let pairs = attributes.iter().map(|(name, value)| pair_bytes(name, value));
        let texts = [topic, text].into_iter().chain(destinations).map(|text| text_bytes(text));
        texts.sum::<usize>() + pairs.sum::<usize>()
    }
}

/// The activity of an agent in its room.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct RoomRecord {
    /// The agent's own attributes at the end.
    pub attributes: BTreeMap<String, String>,
    /// The first texts that the agent sent, in order.
    pub texts: Vec<SentText>,
    /// Number of later texts, which are not kept.
    pub texts_not_kept: u64,
}

impl RoomRecord {
    /// Shorten the record to `bytes_max` bytes of host memory, and count the texts that are dropped.
    pub fn shorten(&mut self, bytes_max: usize) {
        let mut left = bytes_max;
        let mut fits = |bytes: usize| left.checked_sub(bytes).map(|less| left = less).is_some();
        self.attributes.retain(|name, value| fits(pair_bytes(name, value)));
        let kept = self.texts.iter().take_while(|text| fits(text.bytes())).count();
        self.texts_not_kept += self.texts.drain(kept..).count() as u64;
        self.texts.shrink_to_fit();
    }
}

/// One log line of a job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct LogLine {
    /// The number of the line in its job, from 0.
    pub number: u64,
    /// The time of the line.
    pub at: Timestamp,
    /// The level: `trace`, `debug`, `info`, `warn` or `error`.
    pub level: LogLevel,
    /// The text.
    pub message: String,
    /// The fields of the line and of its job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

/// The level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Every detail.
    Trace,
    /// Details for a developer.
    Debug,
    /// What happens.
    Info,
    /// What may be wrong.
    Warn,
    /// What is wrong.
    Error,
}

/// The record of a finished job.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct JobRecord {
    /// The time of the end.
    pub at: Timestamp,
    /// The id of the job.
    pub job: String,
    /// The dispatch that asked for the job; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dispatch: String,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The agent that ran the job.
    pub agent: String,
    /// The name of the room.
    pub room: String,
    /// The identity of the agent in the room.
    pub identity: String,
    /// How the job ended.
    pub verdict: Verdict,
    /// What the job used.
    pub usage: UsageRecord,
    /// What the agent did in the room.
    pub activity: RoomRecord,
    /// The last log lines of the job, the oldest first. They are asked for by themselves and are in no JSON of the record.
    #[serde(default, skip_serializing)]
    pub log: Vec<LogLine>,
    /// The number of older log lines, which are not kept.
    #[serde(default, skip_serializing)]
    pub log_not_kept: u64,
}
