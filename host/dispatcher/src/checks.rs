//! Checks of the texts in a request.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Moment;
use crate::limits::{ATTRIBUTES_BYTES_MAX, NAME_BYTES_MAX, is_name};
use crate::twirp::TwirpError;
use wasm_worker_protocol::registration;

/// The attribute with the priority of a dispatch. LiveKit's protocol has no field for it.
pub const PRIORITY: &str = "wasm-worker.priority";
/// The attribute with the time that a dispatch waits for a worker. LiveKit's protocol has no field for it.
pub const DEADLINE: &str = "wasm-worker.deadline";

/// Check the names of an agent and a room. The name of an agent may be empty.
pub(crate) fn check_names(agent: &str, room: &str) -> Result<(), TwirpError> {
    if room.is_empty() {
        return Err(TwirpError::invalid("the name of the room is missing"));
    }
    for (what, name) in [("agent", agent), ("room", room)] {
        if !name.is_empty() && !is_name(name) {
            return Err(TwirpError::invalid(format!(
                "the name of the {what} has control characters, or more than {NAME_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(())
}

pub(crate) fn check_deployment(name: &str) -> Result<(), TwirpError> {
    registration::check_deployment(name)
        .map_err(|why| TwirpError::invalid(format!("invalid deployment name `{name}`: {why}")))
}

pub(crate) fn check_attributes(attributes: &HashMap<String, String>) -> Result<(), TwirpError> {
    let bytes: usize = attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > ATTRIBUTES_BYTES_MAX {
        return Err(TwirpError::invalid(format!(
            "the attributes have {bytes} bytes, at most {ATTRIBUTES_BYTES_MAX} are allowed"
        )));
    }
    Ok(())
}

/// The priority in the attributes; 0 where they have none.
pub(crate) fn priority(attributes: &HashMap<String, String>) -> Result<i32, TwirpError> {
    let Some(text) = attributes.get(PRIORITY) else { return Ok(0) };
    text.parse().map_err(|_| TwirpError::invalid(format!("attribute `{PRIORITY}` is `{text}`, want a whole number")))
}

/// The deadline in the attributes as a Unix time, or the default one.
pub(crate) fn deadline_ns(attributes: &HashMap<String, String>, default: Duration) -> Result<i64, TwirpError> {
    let time = match attributes.get(DEADLINE) {
        None => default,
        Some(text) => wasm_worker_core::duration::parse(text)
            .map_err(|why| TwirpError::invalid(format!("attribute `{DEADLINE}` is `{text}`: {why}")))?,
    };
    Ok(Moment::now().wall_ns_after(time))
}
