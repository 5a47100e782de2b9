//! What the token of a participant says of it: its kind, its permissions, its attributes. Pure.

use std::collections::{BTreeMap, HashMap};

use livekit_protocol as proto;
use livekit_token::VideoGrants;
use proto::participant_info::Kind;

use crate::keys::{Caller, source_numbers};

/// Whether the participant of a token serves the others, as agents and recorders do: alone they keep no room, and they take nobody's
/// place. The rule is that of LiveKit's server.
pub(super) fn is_dependent(caller: &Caller) -> bool {
    is_agent(caller) || kind(caller) == Kind::Egress || caller.grants.recorder
}

/// Whether a token is an agent's.
pub(super) fn is_agent(caller: &Caller) -> bool {
    caller.grants.agent || caller.person.kind == "agent"
}

/// The kind of a participant, as LiveKit's tokens name it.
pub(super) fn kind(caller: &Caller) -> Kind {
    match Kind::from_str_name(&caller.person.kind.to_ascii_uppercase()) {
        Some(Kind::Standard) | None if is_agent(caller) => Kind::Agent,
        found => found.unwrap_or(Kind::Standard),
    }
}

/// What a token permits, as others see it.
pub(super) fn permission(grants: &VideoGrants, agent: bool) -> proto::ParticipantPermission {
    #[expect(deprecated, reason = "older clients read these two fields")]
    proto::ParticipantPermission {
        can_subscribe: grants.can_subscribe(),
        can_publish: grants.can_publish(),
        can_publish_data: grants.can_publish_data(),
        can_publish_sources: source_numbers(&grants.can_publish_sources),
        can_update_metadata: grants.can_update_own_metadata(),
        hidden: grants.hidden,
        recorder: grants.recorder,
        agent,
        ..Default::default()
    }
}

/// The attributes after a change. An empty value removes one.
pub(super) fn changed(
    attributes: &BTreeMap<String, String>,
    change: &HashMap<String, String>,
) -> BTreeMap<String, String> {
    let mut attributes = attributes.clone();
    for (name, value) in change {
        if value.is_empty() {
            attributes.remove(name);
        } else {
            attributes.insert(name.clone(), value.clone());
        }
    }
    attributes
}
