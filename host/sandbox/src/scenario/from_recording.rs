//! From a recording to a scenario: what reached the agent becomes steps, what the agent sent becomes expectations.
//!
//! Sound, spans and limit warnings have no place in a scenario; the file counts what was left out.
//!
//! Bound: the scenario has at most [`FILE_BYTES_MAX`] bytes.

mod yaml;

mod calls;
mod events;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use wasm_worker_core::text::clip;
use wasm_worker_core::verdict::Code;

use super::FILE_BYTES_MAX;
use crate::guest::bindings::wasm_worker::agent::events::HttpHead;
use crate::guest::clock::Moment;
use crate::recording::reader::{Reader, RecordingError};
use crate::recording::record::{Decided, Inside};
use crate::settings::Limits;
use yaml::{mapping, quoted, time_text};

/// Time that an expectation has beyond the time that the recorded job took.
const SLACK: Duration = Duration::from_secs(10);
/// Fuel that an expectation allows, in percent of what the recorded job used.
const FUEL_PERCENT: u64 = 150;

/// The reason why a recording makes no scenario.
#[derive(Debug, thiserror::Error)]
pub enum FromRecordingError {
    /// The recording cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The contents were left out.
    #[error("the recording has no contents, so it makes no scenario: record with `--record-content on`")]
    NoContent,
    /// The first steps are missing, as in a recording that a ring kept.
    #[error("the recording lacks the steps from {after} on, so it makes no scenario: record with `--record`")]
    Gap {
        /// The last step before the gap.
        after: u32,
    },
    /// The conversation is too long.
    #[error("the recording makes a scenario of more than {FILE_BYTES_MAX} bytes")]
    TooLong,
}

/// Write the scenario of a recording.
///
/// # Errors
/// When the recording cannot be read, or is not whole.
pub fn from_recording(reader: &mut Reader) -> Result<String, FromRecordingError> {
    let Some(decided) = reader.decided().cloned() else { return Err(FromRecordingError::NoContent) };
    let launched = Moment::of_units(reader.launched().unwrap_or(decided.at)).since_1970();
    let mut writer = Writer::begin(reader, &decided, launched);
    while let Some(step) = reader.next()? {
        if let Some(after) = reader.gap() {
            return Err(FromRecordingError::Gap { after });
        }
        let Inside::Whole { events, calls } = &step.inside else { return Err(FromRecordingError::NoContent) };
        writer.now = Moment::of_units(step.at).since_1970();
        events.iter().for_each(|event| writer.event(event));
        writer.calls(calls);
        if writer.steps.len() > FILE_BYTES_MAX {
            return Err(FromRecordingError::TooLong);
        }
    }
    Ok(writer.end(reader))
}

/// Where the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Never,
    Joined,
    Left,
}

/// Writes a scenario line by line.
struct Writer {
    /// The lines before the steps.
    head: String,
    /// Those who were there before the agent.
    first: Vec<String>,
    /// The lines of the steps.
    steps: String,
    /// The time of the present step since the launch.
    now: Duration,
    /// The time of the last `at`.
    at: Duration,
    present: BTreeSet<String>,
    presence: Presence,
    /// Methods and URLs of requests, by their ids.
    requests: BTreeMap<u32, (String, String)>,
    /// Heads and bodies of answers that have not ended.
    answers: BTreeMap<u32, (HttpHead, Vec<u8>)>,
    /// URLs of WebSockets.
    sockets: BTreeMap<u32, String>,
    /// Where the length of the last loss of the room stands in the steps, and when the loss began.
    lost: Option<(usize, Duration)>,
    /// Sockets that the agent closes.
    closing: BTreeSet<u32>,
    /// Destinations and methods of calls of the agent.
    asked: BTreeMap<u32, (String, String)>,
    /// Methods of calls of participants.
    called: BTreeMap<u32, String>,
    /// Topics and texts that the agent writes in parts.
    open: BTreeMap<u32, (String, String)>,
    /// Events that have no place in a scenario, by their names.
    left_out: BTreeMap<&'static str, usize>,
}

impl Writer {
    fn begin(reader: &Reader, decided: &Decided, launched: Duration) -> Self {
        let text = head_of(reader, decided, launched);
        Self {
            head: text,
            first: Vec::new(),
            steps: String::new(),
            now: Duration::ZERO,
            at: Duration::ZERO,
            present: BTreeSet::new(),
            presence: Presence::Never,
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
            sockets: BTreeMap::new(),
            lost: None,
            closing: BTreeSet::new(),
            asked: BTreeMap::new(),
            called: BTreeMap::new(),
            open: BTreeMap::new(),
            left_out: BTreeMap::new(),
        }
    }

    /// Something that reaches the agent, at its time.
    fn step(&mut self, yaml: &str) {
        if self.now > self.at {
            self.at = self.now;
            self.steps.push_str(&format!("  - at: {}\n", time_text(self.now)));
        }
        self.steps.push_str(&format!("  - {yaml}\n"));
    }

    /// The room is lost, for a time that is known later.
    fn lose(&mut self) {
        self.find();
        self.step("fault: {reconnect: }");
        self.lost = Some((self.steps.len() - "}\n".len(), self.now));
    }

    /// The room is found again, or the job is over.
    fn find(&mut self) {
        if let Some((at, since)) = self.lost.take() {
            let lasted = self.now.saturating_sub(since).max(Duration::from_millis(1));
            self.steps.insert_str(at, &time_text(lasted));
        }
    }

    fn expect(&mut self, yaml: &str) {
        let within = self.now.saturating_sub(self.at) + SLACK;
        self.steps.push_str(&format!("  - expect: {{{yaml}, within: {}}}\n", time_text(within)));
    }

    /// The end of the job.
    fn end(mut self, reader: &Reader) -> String {
        self.find();
        let end = reader.end();
        match end.and_then(|end| end.verdict.as_ref()) {
            Some(verdict) => {
                if verdict.code == Code::Killed {
                    self.step("fault: kill");
                }
                let fuel =
                    end.and_then(|end| end.usage.as_ref()).map(|usage| usage.fuel.saturating_mul(FUEL_PERCENT) / 100);
                let fuel = fuel.map(|fuel| format!(", fuel: {{max: {fuel}}}")).unwrap_or_default();
                self.steps.push_str(&format!("  - expect: {{end: {}{fuel}}}\n", verdict.code.as_str()));
            }
            // The recording was cut; the rest is not known, but something has to be expected.
            None => self.steps.push_str("  - expect: {fuel: {min: 0}}\n"),
        }
        if !self.left_out.is_empty() {
            let kinds = self.left_out.iter().map(|(name, count)| format!("{count} {name}"));
            self.steps.push_str(&format!("# Left out: {}.\n", kinds.collect::<Vec<_>>().join(", ")));
        }
        let participants = match self.first.as_slice() {
            [] => String::new(),
            first => format!("participants: [{}]\n", first.join(", ")),
        };
        format!("{}{participants}steps:\n{}", self.head, self.steps)
    }
}

/// The facts of the job.
fn head_of(reader: &Reader, decided: &Decided, launched: Duration) -> String {
    let mut text = format!("# From the recording of job {}.\n", clip(&reader.head().job));
    let seed: String = decided.seed.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push_str(&format!("seed: {seed}\n"));
    if let Ok(time) = Timestamp::from_millisecond(i64::try_from(launched.as_millis()).unwrap_or(i64::MAX)) {
        text.push_str(&format!("time: {time}\n"));
    }
    let offer = &decided.offer;
    for (key, value) in
        [("room", &offer.room.name), ("room-metadata", &offer.room.metadata), ("metadata", &offer.metadata)]
    {
        if !value.is_empty() {
            text.push_str(&format!("{key}: {}\n", quoted(value)));
        }
    }
    if !offer.attributes.is_empty() {
        text.push_str(&format!("attributes: {}\n", mapping(&offer.attributes)));
    }
    let limits = reader.head().limits.apply(Limits::default());
    let fuel = limits.as_ref().and_then(|limits| limits.fuel).map(|fuel| format!("fuel: {fuel}"));
    let time = limits.and_then(|limits| limits.max_duration).map(|time| format!("max-duration: {}", time_text(time)));
    let limits: Vec<String> = fuel.into_iter().chain(time).collect();
    if !limits.is_empty() {
        text.push_str(&format!("limits: {{{}}}\n", limits.join(", ")));
    }
    text
}
