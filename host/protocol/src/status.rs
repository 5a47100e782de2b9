//! The status of a full worker: LiveKit's message with one more field, which the embedded dispatcher reads and other servers skip
//! as unknown. The number of the field is far from any that LiveKit uses.

use livekit_protocol as proto;
use prost::Message;
use wasm_worker_core::load::Scarcity;

/// Longest text of a scarce resource that is read, in bytes.
const SCARCE_BYTES_MAX: usize = 256;

/// LiveKit's `UpdateWorkerStatus`, extended.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// LiveKit's `WorkerStatus`.
    #[prost(int32, optional, tag = "1")]
    pub status: Option<i32>,
    /// The load, 0 to 1.
    #[prost(float, tag = "3")]
    pub load: f32,
    /// The number of jobs.
    #[prost(uint32, tag = "4")]
    pub job_count: u32,
    /// Whether the worker drains.
    #[prost(bool, tag = "5")]
    pub draining: bool,
    /// The resource that makes the worker full, as JSON.
    #[prost(string, tag = "15002")]
    pub scarce: String,
}

/// LiveKit's `WorkerMessage` with its status only.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(message, optional, tag = "3")]
    update_worker: Option<Status>,
}

impl Status {
    /// The status with the resource that makes the worker full.
    pub fn full(status: &proto::UpdateWorkerStatus, scarce: &Scarcity) -> Self {
        let proto::UpdateWorkerStatus { status, load, job_count, draining, .. } = *status;
        // A scarcity has only names and numbers, which JSON can always hold.
        Self { status, load, job_count, draining, scarce: serde_json::to_string(scarce).unwrap_or_default() }
    }

    /// The frame that carries the status.
    pub fn frame(&self) -> Vec<u8> {
        Envelope { update_worker: Some(self.clone()) }.encode_to_vec()
    }
}

/// The scarce resource in a frame; `None` for other frames, and where the worker reports none.
pub fn scarcity(frame: &[u8]) -> Option<Scarcity> {
    let scarce = Envelope::decode(frame).ok()?.update_worker?.scarce;
    let scarce = Some(scarce).filter(|text| text.len() <= SCARCE_BYTES_MAX)?;
    let found: Scarcity = serde_json::from_str(&scarce).ok()?;
    (found.used.is_finite() && found.limit.is_finite()).then_some(found)
}

#[cfg(test)]
mod tests {
    use proto::worker_message::Message as ToServer;
    use wasm_worker_core::load::Resource;

    use super::*;

    #[test]
    fn status_is_a_message_of_livekit_with_the_scarce_resource() {
        let status = proto::UpdateWorkerStatus {
            status: Some(proto::WorkerStatus::WsFull as i32),
            load: 0.7,
            job_count: 3,
            draining: false,
            ..Default::default()
        };
        let scarce = Scarcity { resource: Resource::Cpu, used: 0.99, limit: 0.75 };
        let frame = Status::full(&status, &scarce).frame();
        let read = proto::WorkerMessage::decode(&*frame).unwrap().message;
        assert_eq!(read, Some(ToServer::UpdateWorker(status)));
        assert_eq!(scarcity(&frame), Some(scarce));
        let plain = proto::WorkerMessage { message: Some(ToServer::UpdateWorker(status)) };
        assert_eq!(scarcity(&plain.encode_to_vec()), None);
    }

    #[test]
    fn odd_scarce_resource_is_ignored() {
        for scarce in ["x".repeat(SCARCE_BYTES_MAX + 1), "{}".into(), r#"{"resource":"x","used":1,"limit":1}"#.into()] {
            let frame = Status { scarce, ..Status::default() }.frame();
            assert_eq!(scarcity(&frame), None);
        }
    }
}
