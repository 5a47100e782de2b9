//! The facts of participants and of the room: names, metadata, attributes and permissions, and their changes.

use std::collections::HashMap;

use livekit_protocol as proto;
use proto::request_response::Reason;
use proto::signal_response::Message as Response;

use super::answers::updated;
use super::{Room, RoomOutput};
use crate::clock::Moment;
use crate::keys::{Person, permit, source_numbers};
use crate::limits::{ATTRIBUTES_BYTES_MAX, NAME_BYTES_MAX};
use crate::room_host::claims;
use crate::room_host::limits::{FACTS_BYTES_MAX, METADATA_BYTES_MAX};
use crate::room_host::member::MemberId;

/// Why facts are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FactsError {
    /// The identity or the name is too long.
    #[error("the identity or the name has more than {NAME_BYTES_MAX} bytes")]
    Name,
    /// The metadata is too long.
    #[error("the metadata has more than {METADATA_BYTES_MAX} bytes")]
    Metadata,
    /// The attributes are too long.
    #[error("the attributes have more than {ATTRIBUTES_BYTES_MAX} bytes")]
    Attributes,
    /// All participants together have too much.
    #[error("the participants of the room have more than {FACTS_BYTES_MAX} bytes of metadata and attributes")]
    Room,
}

/// A change of a participant. What is empty stays as it is.
struct Change<'a> {
    name: &'a str,
    metadata: &'a str,
    attributes: &'a HashMap<String, String>,
}

/// Check the facts of one participant.
pub(super) fn check(person: &Person) -> Result<(), FactsError> {
    match () {
        () if person.identity.len().max(person.name.len()) > NAME_BYTES_MAX => Err(FactsError::Name),
        () if person.metadata.len() > METADATA_BYTES_MAX => Err(FactsError::Metadata),
        () if person.attributes_bytes() > ATTRIBUTES_BYTES_MAX => Err(FactsError::Attributes),
        () => Ok(()),
    }
}

impl Room {
    /// The dispatcher has changed the facts of the room.
    pub(in crate::room_host) fn set_info(&mut self, info: proto::Room) {
        self.info = info;
        self.tell_room();
    }

    /// Tell all of the room.
    pub(super) fn tell_room(&mut self) {
        let room = Some(self.to_proto());
        self.tell_others(None, Response::RoomUpdate(proto::RoomUpdate { room }));
    }

    /// A participant asks for a change of itself.
    pub(super) fn update_own(&mut self, id: MemberId, update: proto::UpdateParticipantMetadata, now: Moment) {
        let Some(member) = self.members.get(&id) else { return };
        let refused = if member.permission.can_update_metadata {
            let change = Change { name: &update.name, metadata: &update.metadata, attributes: &update.attributes };
            self.change(id, &change, now).err().map(|error| (Reason::LimitExceeded, error.to_string()))
        } else {
            let why = "the token of the participant does not allow `canUpdateOwnMetadata`";
            Some((Reason::NotAllowed, why.to_owned()))
        };
        self.tell(id, updated(update, refused));
    }

    /// A caller of the API changes a participant. `None`: there is none with this identity.
    pub(in crate::room_host) fn update_participant(
        &mut self,
        update: &proto::UpdateParticipantRequest,
        now: Moment,
    ) -> Option<Result<proto::ParticipantInfo, FactsError>> {
        let id = self.member_of(&update.identity)?;
        let change = Change { name: &update.name, metadata: &update.metadata, attributes: &update.attributes };
        if let Err(error) = self.change(id, &change, now) {
            return Some(Err(error));
        }
        if let Some(permission) = &update.permission {
            self.permit(id, permission.clone(), now);
        }
        self.members.get(&id).map(|member| Ok(member.info()))
    }

    fn change(&mut self, id: MemberId, change: &Change<'_>, now: Moment) -> Result<(), FactsError> {
        let Some(member) = self.members.get(&id) else { return Ok(()) };
        let former = &member.caller.person;
        let or = |given: &str, kept: &str| if given.is_empty() { kept.to_owned() } else { given.to_owned() };
        let person = Person {
            name: or(change.name, &former.name),
            metadata: or(change.metadata, &former.metadata),
            attributes: claims::changed(&former.attributes, change.attributes),
            ..former.clone()
        };
        if person == *former {
            return Ok(());
        }
        check(&person)?;
        if !self.has_space_for(person.bytes(), former.bytes()) {
            return Err(FactsError::Room);
        }
        // As in LiveKit's server, the name, the metadata and the attributes are changes of their own, told one after another.
        let named = Person { name: person.name.clone(), ..former.clone() };
        let described = Person { metadata: person.metadata.clone(), ..named.clone() };
        for person in [named, described, person] {
            self.set_person(id, person, now);
        }
        Ok(())
    }

    fn set_person(&mut self, id: MemberId, person: Person, now: Moment) {
        let changed = self.members.get_mut(&id).filter(|member| member.caller.person != person);
        if let Some(member) = changed {
            member.change(|member| member.caller.person = person);
            self.claims_changed(id, now);
        }
    }

    #[expect(deprecated, reason = "older clients read two of these fields")]
    fn permit(&mut self, id: MemberId, permission: proto::ParticipantPermission, now: Moment) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let grants = &mut member.caller.grants;
        permit(grants, &permission);
        let can_publish_sources = source_numbers(&grants.can_publish_sources);
        // Whether others know of a participant, and what it is, is decided when it comes.
        let proto::ParticipantPermission { hidden, recorder, agent, .. } = member.permission;
        let permission = proto::ParticipantPermission { can_publish_sources, hidden, recorder, agent, ..permission };
        member.change(|member| member.permission = permission);
        self.permission_changed(id, now);
        self.claims_changed(id, now);
    }

    /// Tell everybody, and give the participant a token that says the same.
    fn claims_changed(&mut self, id: MemberId, now: Moment) {
        self.tell_changed(id, now);
        self.give_token(id);
    }

    /// Give a participant a new token, with which it can come back.
    pub(super) fn give_token(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id)
            && let Some(link) = member.open_link()
        {
            member.token_grants.clone_from(&member.caller.grants);
            self.outputs.push_back(RoomOutput::Token { link, caller: Box::new(member.caller.clone()) });
        }
    }
}
