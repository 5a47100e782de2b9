//! A report of a job's state as our own dispatcher reads it: LiveKit's message, and two fields more, which other servers skip
//! as unknown. Their numbers are far from any that LiveKit uses.

use livekit_protocol as proto;
use prost::Message;

/// LiveKit's `UpdateJobStatus`, extended.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Report {
    #[prost(string, tag = "1")]
    pub(crate) job_id: String,
    /// A `JobStatus`.
    #[prost(int32, tag = "2")]
    pub(crate) status: i32,
    #[prost(string, tag = "3")]
    pub(crate) error: String,
    /// The verdict's code, also of a success.
    #[prost(string, tag = "15001")]
    pub(crate) code: String,
    /// The usage record, as JSON.
    #[prost(string, tag = "15002")]
    pub(crate) usage: String,
}

/// LiveKit's `WorkerMessage`, as far as reports go.
#[derive(Clone, PartialEq, Eq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "4")]
    update_job: Option<Report>,
}

impl Report {
    pub(crate) fn running(job_id: &str) -> Self {
        Self { job_id: job_id.to_owned(), status: proto::JobStatus::JsRunning as i32, ..Self::default() }
    }

    /// Whether nothing is to follow.
    pub(crate) fn is_end(&self) -> bool {
        self.status != proto::JobStatus::JsRunning as i32
    }

    /// The frame of a worker that says so.
    pub(crate) fn frame(&self) -> Vec<u8> {
        Envelope { update_job: Some(self.clone()) }.encode_to_vec()
    }
}

/// The report in a frame, if that is what it is.
pub(crate) fn decode(frame: &[u8]) -> Option<Report> {
    Envelope::decode(frame).ok()?.update_job
}

#[cfg(test)]
mod tests {
    use proto::worker_message::Message as ToServer;

    use super::*;

    #[test]
    fn other_servers_read_livekit_s_message() {
        let report = Report { job_id: "j".into(), status: 3, error: "e".into(), code: "c".into(), usage: "{}".into() };
        let read = proto::WorkerMessage::decode(&*report.frame()).unwrap().message;
        let want = proto::UpdateJobStatus { job_id: "j".into(), status: 3, error: "e".into() };
        assert_eq!(read, Some(ToServer::UpdateJob(want)));
        assert_eq!(decode(&report.frame()), Some(report));
    }
}
