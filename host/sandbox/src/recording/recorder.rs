//! The observer of one job. It is told of the start, of each step and of the end, and changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use wasm_worker_core::usage::{UsageRecord, micros};
use wasm_worker_core::verdict::{Class, Verdict};

use super::codec::{Encoder, StepToWrite};
use super::format::Nonce;
use super::record::{Decided, End, Head, RecordedLimits, Start, StepEnd, StepFacts};
use super::ring::Ring;
use super::writer::{Stream, Writer};
use crate::guest::HostState;
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::clock::Moment;
use crate::settings::{AgentSettings, PrewarmMode};

/// Longest wait for the disk at the end of a job.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the recordings of one agent have in common.
#[expect(clippy::struct_excessive_bools, reason = "two settings that have nothing to do with each other")]
pub(crate) struct Recordings {
    writer: Writer,
    dir: PathBuf,
    /// Whether every job is recorded, and not only those that did not end well.
    all: bool,
    bytes_max: usize,
    content: bool,
    agent: String,
    artifact: String,
    component: String,
    prewarm: &'static str,
    limits: RecordedLimits,
}

impl Recordings {
    /// Begin to record the jobs of an agent, where its settings say so. A directory that cannot be used is a warning.
    pub(crate) fn start(
        settings: &AgentSettings,
        agent: &str,
        artifact: &blake3::Hash,
        component: &[u8],
    ) -> Option<Arc<Self>> {
        let record = &settings.record;
        let dir = record.all.as_ref().or(record.failed.as_ref())?;
        let writer = Writer::start(dir).map_err(|error| {
            tracing::warn!(target: "host", agent, dir = %dir.display(), %error, "no job of this agent is recorded");
        });
        Some(Arc::new(Self {
            writer: writer.ok()?,
            dir: dir.clone(),
            all: record.all.is_some(),
            bytes_max: record.bytes_max,
            content: record.content,
            agent: agent.to_owned(),
            artifact: artifact.to_hex().to_string(),
            component: blake3::hash(component).to_hex().to_string(),
            prewarm: match settings.prewarm {
                PrewarmMode::Snapshot => "snapshot",
                PrewarmMode::Pool => "pool",
            },
            limits: RecordedLimits::of(&settings.limits),
        }))
    }

    /// Record a job that is admitted.
    pub(crate) fn begin(self: &Arc<Self>, decided: Decided) -> Recorder {
        let head = Head {
            program: env!("CARGO_PKG_VERSION").into(),
            at: Timestamp::now(),
            agent: self.agent.clone(),
            job: decided.offer.id.clone(),
            attempt: decided.offer.attempt,
            artifact: self.artifact.clone(),
            component: self.component.clone(),
            arch: std::env::consts::ARCH.into(),
            content: self.content,
            prewarm: self.prewarm.into(),
            limits: self.limits,
        };
        let start = Start { decision: self.content.then_some(decided), launched: None };
        Recorder {
            recordings: self.clone(),
            job: head.job.clone(),
            waits: Some(Box::new((head, start))),
            sink: Sink::None,
            encoder: Encoder::default(),
            record: Vec::new(),
            number: 0,
            launched: 0,
            fuel: 0,
            cpu: Duration::ZERO,
        }
    }
}

/// Where records go.
enum Sink {
    /// Nowhere: the recording has not begun, or has ended early.
    None,
    File(Arc<Stream>),
    Ring(Box<Ring>),
}

/// The observer of one job.
pub(crate) struct Recorder {
    recordings: Arc<Recordings>,
    /// The id of the job.
    job: String,
    /// The head and the start, until the launch.
    waits: Option<Box<(Head, Start)>>,
    sink: Sink,
    encoder: Encoder,
    /// Memory of one record.
    record: Vec<u8>,
    /// The number of the last step.
    number: u32,
    /// The time of the launch, in units of a moment.
    launched: u64,
    /// Fuel and CPU time before the present step.
    fuel: u64,
    cpu: Duration,
}

impl Recorder {
    /// The job is launched at this moment.
    pub(crate) fn launched(&mut self, moment: Moment) {
        self.launched = moment.units();
        self.open(Some(moment.units()));
    }

    /// A step ended. `state` has its calls still, `fuel` is that of the job so far.
    pub(crate) fn step(&mut self, events: &[Event], state: &mut HostState, fuel: u64, end: StepEnd) {
        self.number = self.number.saturating_add(1);
        let cpu = state.control.clock.cpu();
        let spent = (fuel.saturating_sub(self.fuel), cpu.saturating_sub(self.cpu));
        (self.fuel, self.cpu) = (fuel, cpu);
        let Some(budgets) = state.tape.take_answers() else {
            return self.give_up("a step asked for its budget too often");
        };
        if matches!(self.sink, Sink::None) {
            return;
        }
        let (calls, wake, finish) = state.calls.look();
        let content = self.recordings.content;
        let without = |result: &Result<(), String>| result.clone().map_err(|_| String::new());
        let facts = StepFacts {
            budgets: if content { budgets } else { Vec::new() },
            wake,
            finish: if content { finish.cloned() } else { finish.map(without) },
            fuel: spent.0,
            cpu_us: u32::try_from(micros(spent.1)).unwrap_or(u32::MAX),
            end: if content { end } else { without_content(end) },
        };
        let at = state.clock.now().units().saturating_sub(self.launched);
        let step = StepToWrite { number: self.number, at, events, calls, facts: &facts };
        self.record.clear();
        let written = match content {
            true => self.encoder.step(&mut self.record, &step),
            false => self.encoder.outline(&mut self.record, &step),
        };
        if written { self.append() } else { self.give_up("a step is too large") }
    }

    /// The job ended. Returns once its recording is whole, or is not written.
    pub(crate) async fn end(mut self, verdict: &Verdict, usage: &UsageRecord) {
        self.open(None);
        let mut verdict = verdict.clone();
        if !self.recordings.content {
            verdict.detail = verdict.code.meaning().to_owned();
        }
        self.record.clear();
        let good = verdict.code.class() == Class::Ok;
        let end = End { verdict: Some(verdict), usage: Some(usage.clone()), cut: None };
        if self.encoder.end(&mut self.record, &end) {
            match &mut self.sink {
                Sink::Ring(ring) => ring.append_end(&self.record),
                Sink::File(_) | Sink::None => self.append(),
            }
        }
        let Self { recordings, sink, job, .. } = self;
        let closed = match sink {
            Sink::File(stream) => recordings.writer.close(&stream),
            Sink::Ring(ring) if !good => recordings.writer.whole(&recordings.dir, &job, ring.into_file()),
            Sink::None | Sink::Ring(_) => return,
        };
        if tokio::time::timeout(PATIENCE, closed).await.is_err() {
            tracing::warn!(target: "host", "the disk is slow: a job ends before its recording is written");
        }
    }

    /// Write the head and the start, unless that is done.
    fn open(&mut self, launched: Option<u64>) {
        let Some(waits) = self.waits.take() else { return };
        let (head, mut start) = *waits;
        start.launched = launched;
        self.record.clear();
        let written = self.encoder.head(&mut self.record, &head) && self.encoder.start(&mut self.record, &start);
        let Recordings { writer, dir, all, bytes_max, .. } = &*self.recordings;
        let nonce: Nonce = rand::random();
        self.sink = match (written, all) {
            (false, _) => Sink::None,
            (true, true) => Sink::File(writer.stream(dir, &head.job, nonce, *bytes_max)),
            (true, false) => Sink::Ring(Box::new(Ring::new(nonce, &self.record, *bytes_max))),
        };
        if let Sink::File(_) = self.sink {
            self.append();
        }
    }

    /// End the recording before its job.
    fn give_up(&mut self, why: &str) {
        self.record.clear();
        let end = End { verdict: None, usage: None, cut: Some(why.to_owned()) };
        if self.encoder.end(&mut self.record, &end) {
            self.append();
        }
        if let Sink::File(stream) = std::mem::replace(&mut self.sink, Sink::None) {
            // Nobody waits for it.
            drop(self.recordings.writer.close(&stream));
        }
    }

    /// Hand the record on.
    fn append(&mut self) {
        let goes_on = match &mut self.sink {
            Sink::None => return,
            Sink::File(stream) => self.recordings.writer.append(stream, &self.record),
            Sink::Ring(ring) => {
                ring.append(&self.record);
                true
            }
        };
        if !goes_on {
            self.sink = Sink::None;
        }
    }
}

/// The end of a step without the words of the guest.
fn without_content(end: StepEnd) -> StepEnd {
    match end {
        StepEnd::Trapped { kind, detail: _, backtrace } => StepEnd::Trapped { kind, detail: String::new(), backtrace },
        end => end,
    }
}
