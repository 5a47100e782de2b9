//! The calls about rooms.

use livekit_protocol as proto;
use livekit_token::{AccessToken, VideoGrants};
use wasm_worker_core::room::settings::{RoomLimits, RoomSettings};
use wasm_worker_core::secret::Secret;

use super::{Client, ClientError, ROOM_CHARS, TOKEN_TTL};
use crate::discovery::make_token;

impl Client {
    /// The open rooms; those with these names, where there are any.
    pub(crate) fn rooms(&self, names: Vec<String>) -> Result<Vec<proto::Room>, ClientError> {
        let grants = VideoGrants { room_list: true, ..Default::default() };
        let found: proto::ListRoomsResponse =
            self.twirp("RoomService/ListRooms", grants, &proto::ListRoomsRequest { names })?;
        Ok(found.rooms)
    }

    /// The participants of a room. A room that is not there has none.
    pub(crate) fn participants(&self, room: &str) -> Result<Vec<proto::ParticipantInfo>, ClientError> {
        let grants = VideoGrants { room_admin: true, room: room.into(), ..Default::default() };
        let request = proto::ListParticipantsRequest { room: room.into() };
        let found: proto::ListParticipantsResponse = self.twirp("RoomService/ListParticipants", grants, &request)?;
        Ok(found.participants)
    }

    /// What it takes to be in a room without being seen or heard there.
    pub(crate) fn listener(&self, room: &str) -> Result<RoomSettings, ClientError> {
        let grants = VideoGrants {
            room_join: true,
            room: room.into(),
            hidden: true,
            can_publish: Some(false),
            can_publish_data: Some(false),
            ..Default::default()
        };
        let identity = format!("listener-{}", make_token().get(..ROOM_CHARS).unwrap_or_default());
        let token = AccessToken::with_api_key(&self.key, &self.secret).with_ttl(TOKEN_TTL).with_identity(&identity);
        let token = token.with_grants(grants).to_jwt();
        Ok(RoomSettings {
            url: self.url.clone(),
            token: Secret(token.map_err(|error| ClientError::Token { why: error.to_string() })?),
            name: String::new(),
            metadata: String::new(),
            attributes: Vec::new(),
            limits: RoomLimits::default(),
        })
    }
}
