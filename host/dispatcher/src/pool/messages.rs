//! What goes into the pool, and what comes out of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol as proto;
use tokio::time::Instant;

use super::{JobEnd, Kind, OVERHEAD_BYTES, Registered};
use crate::queue::Rank;

pub(crate) type Id = Arc<str>;

/// This moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) at: Instant,
    /// Unix time in nanoseconds, as LiveKit has it.
    pub(crate) wall_ns: i64,
}

impl Now {
    /// The moment of this wall time, if it is still to come.
    pub(super) fn until(self, wall_ns: i64) -> Instant {
        let left = u64::try_from(wall_ns.saturating_sub(self.wall_ns)).unwrap_or(0);
        self.at + Duration::from_nanos(left)
    }
}

/// What somebody wants run.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    pub(crate) id: Id,
    /// The API key that it was made with.
    pub(crate) key: Id,
    pub(crate) kind: Kind,
    pub(crate) room: proto::Room,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// One of LiveKit's restart policies.
    pub(crate) restart: proto::JobRestartPolicy,
    pub(crate) priority: i32,
    pub(crate) created_ns: i64,
    /// When it is no longer wanted, if it does not run by then.
    pub(crate) deadline_ns: i64,
}

impl Dispatch {
    pub(super) fn bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
        OVERHEAD_BYTES + self.metadata.len() + attributes + self.room.metadata.len() + self.room.name.len()
    }

    /// The end of a wait that begins now and is as long as the first one.
    pub(super) fn waits_until_ns(&self, now: Now) -> i64 {
        now.wall_ns.saturating_add(self.deadline_ns.saturating_sub(self.created_ns))
    }

    pub(super) fn rank(&self) -> Rank {
        Rank::new(self.priority, self.created_ns, self.id.clone())
    }
}

/// What bounds the pool.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Whether a dispatch may wait at all.
    pub(crate) queue: bool,
    pub(crate) queue_limit: usize,
    pub(crate) memory_bytes: usize,
    pub(crate) attempts_max: u32,
    /// How long a job waits for its worker to come back.
    pub(crate) lost_after: Duration,
}

/// Why a dispatch is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// So many wait already.
    Queue(usize),
    /// All that are not over take so many bytes.
    Memory(usize),
}

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Tell {
    Offer { job: Box<proto::Job>, resuming: bool },
    Assign { job: Box<proto::Job>, answer: Box<proto::AvailabilityResponse> },
    Terminate { job: Id },
}

/// What is to be remembered, in this order.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Created {
        dispatch: Arc<Dispatch>,
        job: Id,
    },
    Assigned {
        dispatch: Id,
        job: Id,
        attempt: u32,
        worker: Id,
        instance: String,
        identity: String,
        at_ns: i64,
    },
    Started {
        job: Id,
        at_ns: i64,
    },
    Adopted {
        job: Id,
        worker: Id,
        instance: String,
    },
    JobEnded {
        job: Id,
        end: JobEnd,
        at_ns: i64,
    },
    /// A next attempt.
    Again {
        dispatch: Id,
        job: Id,
        attempt: u32,
    },
    Cancelled {
        dispatch: Id,
        at_ns: i64,
    },
    Ended {
        dispatch: Id,
        end: JobEnd,
        at_ns: i64,
    },
    WorkerCame {
        id: Id,
        registered: Registered,
        at_ns: i64,
    },
    WorkerGone {
        id: Id,
        at_ns: i64,
    },
}

/// What concerns those who look on.
#[derive(Debug)]
pub(crate) enum Note {
    Created {
        dispatch: Arc<Dispatch>,
        job: Id,
    },
    Assigned {
        dispatch: Arc<Dispatch>,
        job: Id,
        worker: Id,
        attempt: u32,
        waited_ns: i64,
    },
    Again {
        dispatch: Arc<Dispatch>,
        job: Id,
        attempt: u32,
        why: String,
    },
    /// Its worker says so.
    Runs {
        dispatch: Id,
    },
    Ended {
        dispatch: Arc<Dispatch>,
        job: Id,
        attempts: u32,
        end: JobEnd,
    },
    WorkerCame {
        worker: Id,
        kind: Kind,
        version: String,
    },
    WorkerGone {
        worker: Id,
        kind: Kind,
        why: String,
        jobs: usize,
    },
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Told once everything that was to be written before is written.
    Tell {
        worker: Id,
        what: Tell,
        durable: bool,
    },
    Write(Write),
    Note(Note),
    /// A worker still has jobs that are not among the open ones.
    Strays {
        worker: Id,
        jobs: Vec<String>,
    },
}
