//! The report of a job's state: LiveKit's message with two more fields, which the embedded dispatcher reads and other servers
//! skip as unknown. The numbers of the fields are far from any that LiveKit uses.
//!
//! Bounds: a report keeps [`DETAIL_BYTES_MAX`] of a verdict's detail and [`USAGE_BYTES_MAX`] of a usage record.

use livekit_protocol as proto;
use prost::Message;
use wasm_worker_core::verdict::{Class, Code, Verdict};

use crate::frame::FRAME_BYTES_MAX;

/// Longest detail of a verdict that is kept, in bytes.
pub const DETAIL_BYTES_MAX: usize = 4 << 10;
/// Longest usage record that is kept, in bytes.
pub const USAGE_BYTES_MAX: usize = 16 << 10;
/// Longest verdict in JSON that is read, in bytes: the detail and [`wasm_worker_core::verdict::FRAMES_MAX`] frames, all escaped.
const VERDICT_BYTES_MAX: usize = 128 << 10;

/// How a job ended, and what it used.
#[derive(Clone, Debug, PartialEq)]
pub struct JobEnd {
    /// The verdict.
    pub verdict: Verdict,
    /// The worker's usage record as JSON, where the worker sent one.
    pub usage: Option<String>,
}

impl JobEnd {
    /// The end of a job without a usage record.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { verdict: Verdict::new(code, detail), usage: None }
    }
}

/// LiveKit's `UpdateJobStatus`, extended.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Report {
    /// The id of the job.
    #[prost(string, tag = "1")]
    pub job_id: String,
    /// LiveKit's `JobStatus`.
    #[prost(int32, tag = "2")]
    pub status: i32,
    /// The error of a job that failed, as LiveKit's server shows it: `code: detail`.
    #[prost(string, tag = "3")]
    pub error: String,
    /// The usage record as JSON.
    #[prost(string, tag = "15002")]
    pub usage: String,
    /// The verdict as JSON, also of a job that completed.
    #[prost(string, tag = "15003")]
    pub verdict: String,
}

/// LiveKit's `WorkerMessage` with its report only.
#[derive(Clone, PartialEq, Eq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "4")]
    update_job: Option<Report>,
}

impl Report {
    /// The report that a job runs.
    pub fn running(job_id: &str) -> Self {
        Self { job_id: job_id.to_owned(), status: proto::JobStatus::JsRunning as i32, ..Self::default() }
    }

    /// The report that a job ended.
    pub fn ended(job_id: String, end: JobEnd) -> Self {
        let JobEnd { verdict, usage } = end;
        let success = verdict.code.class() == Class::Ok;
        let status = if success { proto::JobStatus::JsSuccess } else { proto::JobStatus::JsFailed };
        let error = if success { String::new() } else { format!("{}: {}", verdict.code, verdict.detail) };
        // A verdict has only texts and numbers, which JSON can always hold.
        let verdict = serde_json::to_string(&verdict).unwrap_or_default();
        Self { job_id, status: status as i32, error, usage: usage.unwrap_or_default(), verdict }
    }

    /// The report without the fields that only the embedded dispatcher reads.
    #[must_use]
    pub fn for_livekit(self) -> Self {
        Self { usage: String::new(), verdict: String::new(), ..self }
    }

    /// Whether this is the last report of its job.
    pub fn is_end(&self) -> bool {
        self.status != proto::JobStatus::JsRunning as i32
    }

    /// The frame that carries the report. A report that is too long for a frame loses the fields that LiveKit's own lacks.
    pub fn frame(&self) -> Vec<u8> {
        let envelope = Envelope { update_job: Some(self.clone()) };
        if envelope.encoded_len() <= FRAME_BYTES_MAX {
            return envelope.encode_to_vec();
        }
        Envelope { update_job: Some(self.clone().for_livekit()) }.encode_to_vec()
    }

    /// How the job ended; `None` while it runs. A worker of LiveKit's own SDKs sends status and error only.
    pub fn end(self) -> Option<JobEnd> {
        let Self { status, error, usage, verdict, .. } = self;
        let usage = Some(usage).filter(|usage| !usage.is_empty() && usage.len() <= USAGE_BYTES_MAX);
        let own = Some(verdict).filter(|text| !text.is_empty() && text.len() <= VERDICT_BYTES_MAX);
        let own: Option<Verdict> = own.and_then(|text| serde_json::from_str(&text).ok());
        let verdict = match (proto::JobStatus::try_from(status), own) {
            (Ok(proto::JobStatus::JsPending | proto::JobStatus::JsRunning), _) => return None,
            (_, Some(verdict)) => verdict,
            (Ok(proto::JobStatus::JsSuccess), None) => Verdict::new(Code::Completed, error),
            // A newer protocol may know more ways to fail.
            (Ok(proto::JobStatus::JsFailed) | Err(_), None) => failed(&error),
        };
        Some(JobEnd { verdict: verdict.bounded(DETAIL_BYTES_MAX), usage })
    }
}

/// The verdict on a job that failed, from its error alone. Workers of LiveKit's SDKs do not write `code: detail`; their whole
/// error is the detail.
fn failed(error: &str) -> Verdict {
    let split = error.split_once(": ").and_then(|(code, detail)| Some((Code::named(code)?, detail)));
    match split {
        Some((code, detail)) => Verdict::new(code, detail),
        None if error.is_empty() => Verdict::new(Code::Failed, "the worker reports no error"),
        None => Verdict::new(Code::Failed, error),
    }
}

/// The report in a frame; `None` for other frames.
pub fn decode(frame: &[u8]) -> Option<Report> {
    Envelope::decode(frame).ok()?.update_job
}

#[cfg(test)]
mod tests {
    use proto::worker_message::Message as ToServer;
    use wasm_worker_core::verdict::TrapKind;

    use super::*;

    fn trapped() -> JobEnd {
        let verdict = Verdict {
            trap: Some(TrapKind::Unreachable),
            backtrace: vec!["agent::main".into()],
            ..Verdict::new(Code::Trapped, "panicked")
        };
        JobEnd { verdict, usage: Some("{}".into()) }
    }

    #[test]
    fn report_is_a_message_of_livekit() {
        let report = Report::ended("j".into(), trapped());
        let read = proto::WorkerMessage::decode(&*report.frame()).unwrap().message;
        let want = proto::UpdateJobStatus { job_id: "j".into(), status: 3, error: "trapped: panicked".into() };
        assert_eq!(read, Some(ToServer::UpdateJob(want)));
        assert_eq!(decode(&report.frame()), Some(report));
    }

    #[test]
    fn verdict_survives_the_wire() {
        let report = Report::ended("j".into(), trapped());
        assert_eq!(decode(&report.frame()).unwrap().end(), Some(trapped()));
        assert_eq!(Report::running("j").end(), None);
        let plain = report.for_livekit().end().unwrap();
        assert_eq!((plain.verdict.code, plain.verdict.backtrace.len()), (Code::Trapped, 0));
    }

    #[test]
    fn report_that_is_too_long_keeps_its_status() {
        let report = Report { usage: "x".repeat(FRAME_BYTES_MAX), ..Report::ended("j".into(), trapped()) };
        let sent = decode(&report.frame()).unwrap();
        assert_eq!((sent.job_id.as_str(), sent.status, sent.error.as_str()), ("j", 3, "trapped: panicked"));
        assert_eq!((sent.usage.as_str(), sent.verdict.as_str()), ("", ""));
    }

    #[test]
    fn error_of_a_livekit_worker_becomes_the_detail() {
        let end = |error: &str| {
            let status = proto::JobStatus::JsFailed as i32;
            Report { job_id: "j".into(), status, error: error.into(), ..Report::default() }.end().unwrap().verdict
        };
        assert_eq!(
            (end("unresponsive: it ran").code, end("unresponsive: it ran").detail.as_str()),
            (Code::Unresponsive, "it ran")
        );
        assert_eq!((end("ValueError: x").code, end("ValueError: x").detail.as_str()), (Code::Failed, "ValueError: x"));
        assert_eq!(end("").detail, "the worker reports no error");
    }

    proptest::proptest! {
        #[test]
        fn any_report_is_read_within_bounds(status in -1..9, error in ".{0,40}", usage in ".{0,40}", verdict in ".{0,40}|\\{.{0,40}\\}") {
            let report = Report { job_id: "j".into(), status, error, usage, verdict };
            if let Some(end) = report.end() {
                proptest::prop_assert!(end.verdict.detail.len() <= DETAIL_BYTES_MAX);
            }
        }
    }
}
