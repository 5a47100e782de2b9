//! The registration of a worker with a server: what the worker is, and what its agent may do.

use std::collections::BTreeSet;
use std::time::Duration;

use wasm_worker_core::job::JobKind;

/// Longest deployment name that LiveKit's server accepts, in bytes.
const DEPLOYMENT_BYTES_MAX: usize = 64;

/// A permission of an agent in its room. The server grants it with the token of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Subscribe to the tracks of others.
    Subscribe,
    /// Publish tracks.
    Publish,
    /// Send data and text.
    Data,
    /// Change its own attributes and metadata.
    Metadata,
    /// Be hidden from the other participants.
    Hidden,
}

/// The load figure that a worker reports to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportLoad {
    /// Scaled so that a full worker reports LiveKit's own limit (0.7).
    #[default]
    Scaled,
    /// The load, unchanged.
    Raw,
}

/// The registration of one agent with a server.
#[derive(Clone, Debug)]
pub struct Registration {
    /// The name of the agent.
    pub agent_name: String,
    /// The kind of jobs that the worker takes.
    pub job_kind: JobKind,
    /// The load figure that the worker reports.
    pub report_load: ReportLoad,
    /// The deployment whose dispatches the worker takes.
    pub deployment: String,
    /// The permissions of the agent in its room.
    pub permissions: BTreeSet<Permission>,
    /// How long the worker waits for the assignment of a job that it accepted.
    pub assignment_within: Duration,
    /// The id of this process, by which a dispatcher recognises it after a reconnect.
    pub instance: String,
}

/// Check a deployment name by the rules of LiveKit's server, which closes the connection without a reason.
///
/// # Errors
/// When the name is too long, or has a space, a control character or `_`. The text says what is wanted.
pub fn check_deployment(name: &str) -> Result<(), String> {
    if name.len() > DEPLOYMENT_BYTES_MAX || name.contains(|c: char| c == ' ' || c == '_' || c.is_control()) {
        return Err(format!("want at most {DEPLOYMENT_BYTES_MAX} bytes, no space and no `_`"));
    }
    Ok(())
}
