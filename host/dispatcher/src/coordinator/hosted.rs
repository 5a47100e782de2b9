//! The rooms of the directory that are served, because somebody joined them.

use std::time::Duration;

use livekit_protocol as proto;
use proto::DisconnectReason;
use tokio::time::Instant;

use super::Coordinator;
use crate::clock::Moment;
use crate::command::{CommandError, DispatchRequest};
use crate::limits::ENTER_WITHIN;
use crate::room_host::{HostedRoom, Occupancy, RoomHandle};
use crate::rooms::{Room, RoomRequest};
use crate::store::StoreOp;

/// How often a room that is occupied is looked at, at most.
const LOOK_EVERY_MIN: Duration = Duration::from_secs(1);

impl Coordinator {
    /// Serve a room for somebody who joins it. Where there is none, create it as requested with its first dispatches. As in LiveKit's
    /// server, an existing room is not changed.
    pub(super) fn enter_room(
        &mut self,
        request: RoomRequest,
        requests: Vec<DispatchRequest>,
        api_key: &str,
    ) -> Result<RoomHandle, CommandError> {
        let (now, name) = (Moment::now(), request.name.clone());
        let existing = self.rooms.get(&name).cloned();
        let room = match &existing {
            Some(room) => room.clone(),
            None => {
                self.check_store()?;
                self.default_room(&name, now).changed_by(request)
            }
        };
        let found = self.hosted.get(&name).filter(|hosted| hosted.is_open(&room.sid));
        let handle = match found {
            Some(hosted) => hosted.handle(),
            None => {
                let hosted = self.room_host.open(room.to_proto()).ok_or(CommandError::TooManyHosted)?;
                let handle = hosted.handle();
                self.hosted.insert(name.clone(), hosted);
                handle
            }
        };
        if existing.is_none() {
            let mut ops = Vec::new();
            if let Err(full) = self.add_room(now, room, &mut ops) {
                self.hosted.remove(&name);
                return Err(full);
            }
            if requests.is_empty() {
                self.dispatch_to_unnamed_workers(now, &name, &api_key.into());
            }
            for request in requests {
                if let Err(error) = self.create_dispatch(request) {
                    tracing::warn!(target: "dispatcher", room = name, %error, "cannot dispatch an agent of a new room");
                }
            }
            self.flush(ops);
        }
        self.rooms.join(&name, now.at + ENTER_WITHIN);
        Ok(handle)
    }

    /// End the rooms whose time has come, and that are vacant.
    pub(super) fn expire_rooms(&mut self, now: Moment, ops: &mut Vec<StoreOp>) {
        while let Some((room, idle_since)) = self.rooms.to_look_at(now.at) {
            let occupancy = self.hosted.get(&room.name).map(HostedRoom::occupancy).unwrap_or_default();
            let (name, kept_until) = (room.name.clone(), kept_until(room, idle_since, occupancy, now.at));
            if let Some(until) = kept_until {
                self.rooms.look_again(&name, until);
                continue;
            }
            self.rooms.remove(&name);
            self.close_hosted(&name, DisconnectReason::RoomClosed);
            ops.push(StoreOp::RoomDeleted { name, at_ns: now.wall_ns });
        }
    }

    /// End a room for its participants.
    pub(super) fn close_hosted(&mut self, name: &str, reason: DisconnectReason) {
        if let Some(hosted) = self.hosted.remove(name) {
            hosted.close(reason);
        }
    }

    /// End all rooms for their participants, who may come back to the next dispatcher.
    pub(super) async fn close_all_hosted(&mut self) {
        for (_, hosted) in self.hosted.drain() {
            hosted.close(DisconnectReason::ServerShutdown);
        }
        self.room_host.closed().await;
    }
}

/// Until when a room without open dispatches is kept at least; none where its time is over.
fn kept_until(room: &Room, idle_since: Instant, occupancy: Occupancy, now: Instant) -> Option<Instant> {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let due = match (occupancy.people, occupancy.vacant_since) {
        (1.., _) => return Some(now + seconds(room.departure_timeout).max(LOOK_EVERY_MIN)),
        (0, Some(vacant_since)) => vacant_since.max(idle_since) + seconds(room.departure_timeout),
        (0, None) => idle_since + seconds(room.empty_timeout),
    };
    (due > now).then_some(due)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn participants_keep_a_room_until_the_departure_timeout_is_over() {
        let (begin, room) = (Instant::now(), Room::new("r", "RM_1".into(), 0));
        let after = |seconds| begin + Duration::from_secs(seconds);
        let occupied = Occupancy { people: 1, vacant_since: None };
        assert_eq!(kept_until(&room, begin, occupied, after(100)), Some(after(120)));
        let vacant = Occupancy { vacant_since: Some(after(100)), ..Occupancy::default() };
        assert_eq!(kept_until(&room, begin, vacant, after(105)), Some(after(120)));
        assert_eq!(kept_until(&room, begin, vacant, after(120)), None);
        assert_eq!(kept_until(&room, after(110), vacant, after(120)), Some(after(130)), "its dispatch ended later");
        // Nobody ever came.
        assert_eq!(kept_until(&room, begin, Occupancy::default(), after(299)), Some(after(300)));
        assert_eq!(kept_until(&room, begin, Occupancy::default(), after(300)), None);
        // A room whose timeout is 0 is not looked at all the time.
        let hasty = Room { departure_timeout: 0, ..room };
        assert_eq!(kept_until(&hasty, begin, occupied, begin), Some(begin + LOOK_EVERY_MIN));
    }
}
