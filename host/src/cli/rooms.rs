//! `wasm-worker rooms`: the rooms of a server, who is in them, and what is said there.

use clap::Args;
use livekit_protocol as proto;
use livekit_protocol::participant_info::{Kind, State};
use serde::Serialize;
use tokio::runtime::Builder;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::settings::RoomSettings;

use super::client::ClientFlags;
use super::job::{now_ns, span};
use super::table::{Column, table, time};
use super::{Exit, Failure, print, print_json, say};
use crate::rooms;

const NS_PER_MS: i64 = 1_000_000;

#[expect(clippy::struct_excessive_bools, reason = "flags")]
#[derive(Args)]
pub(crate) struct RoomsArgs {
    /// Show who is in this room
    #[arg(value_name = "ROOM")]
    room: Option<String>,
    /// Follow who comes and goes, and the texts, until the room ends; nobody in it sees that
    #[arg(long, requires = "room")]
    follow: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientFlags,
}

pub(crate) fn run(args: RoomsArgs) -> Result<Exit, Failure> {
    let RoomsArgs { room, follow: is_followed, json, client } = args;
    let client = client.client()?;
    let Some(room) = room else {
        return list(client.rooms(Vec::new())?.into_iter().map(Room::from).collect(), json);
    };
    // Whoever joins a room that is not there creates it.
    if client.rooms(vec![room.clone()])?.is_empty() {
        let hint = "`wasm-worker rooms` lists those that are open";
        return Err(Failure::usage(format!("there is no room `{room}`")).with_hint(hint));
    }
    if is_followed {
        follow(client.listener(&room)?, json)
    } else {
        participants(client.participants(&room)?.into_iter().map(Participant::from).collect(), json)
    }
}

/// An open room.
#[derive(Serialize)]
struct Room {
    room: String,
    sid: String,
    /// Agents are not counted.
    people: u32,
    created_ms: i64,
    metadata: String,
}

impl From<proto::Room> for Room {
    fn from(room: proto::Room) -> Self {
        let proto::Room { name, sid, num_participants, creation_time, creation_time_ms, metadata, .. } = room;
        // Servers before 1.8 tell seconds alone.
        let created_ms = if creation_time_ms == 0 { creation_time.saturating_mul(1_000) } else { creation_time_ms };
        Self { room: name, sid, people: num_participants, created_ms, metadata }
    }
}

fn list(rooms: Vec<Room>, json: bool) -> Result<Exit, Failure> {
    let columns = [Column::Left("ROOM"), Column::Right("PEOPLE"), Column::Right("AGE"), Column::Left("METADATA")];
    let row = |room: &Room| [room.room.clone(), room.people.to_string(), age(room.created_ms), room.metadata.clone()];
    show(&rooms, json, "no rooms", columns, row)
}

/// Somebody in a room.
#[derive(Serialize)]
struct Participant {
    identity: String,
    sid: String,
    name: String,
    kind: &'static str,
    state: &'static str,
    joined_ms: i64,
    /// The kinds of its tracks.
    tracks: Vec<&'static str>,
    attributes: std::collections::BTreeMap<String, String>,
    metadata: String,
}

impl From<proto::ParticipantInfo> for Participant {
    fn from(info: proto::ParticipantInfo) -> Self {
        let (kind, state) = (kind(info.kind()), state(info.state()));
        let joined_ms = if info.joined_at_ms == 0 { info.joined_at.saturating_mul(1_000) } else { info.joined_at_ms };
        let tracks = info.tracks.iter().map(track).collect();
        let proto::ParticipantInfo { identity, sid, name, attributes, metadata, .. } = info;
        let attributes = attributes.into_iter().collect();
        Self { identity, sid, name, kind, state, joined_ms, tracks, attributes, metadata }
    }
}

const fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Standard => "person",
        Kind::Agent => "agent",
        Kind::Ingress => "ingress",
        Kind::Egress => "egress",
        Kind::Sip => "sip",
        _ => "other",
    }
}

const fn state(state: State) -> &'static str {
    match state {
        State::Joining => "joining",
        State::Joined => "joined",
        State::Active => "active",
        State::Disconnected => "left",
    }
}

fn track(track: &proto::TrackInfo) -> &'static str {
    match (track.r#type(), track.muted) {
        (proto::TrackType::Audio, false) => "audio",
        (proto::TrackType::Audio, true) => "audio (muted)",
        (proto::TrackType::Video, false) => "video",
        (proto::TrackType::Video, true) => "video (muted)",
        (proto::TrackType::Data, _) => "data",
    }
}

fn participants(participants: Vec<Participant>, json: bool) -> Result<Exit, Failure> {
    let columns = [
        Column::Left("IDENTITY"),
        Column::Left("KIND"),
        Column::Left("STATE"),
        Column::Right("AGE"),
        Column::Left("TRACKS"),
    ];
    let row = |one: &Participant| {
        [one.identity.clone(), one.kind.into(), one.state.into(), age(one.joined_ms), one.tracks.join(", ")]
    };
    show(&participants, json, "nobody is in the room", columns, row)
}

fn show<T: Serialize, const N: usize>(
    all: &[T],
    json: bool,
    none: &str,
    columns: [Column; N],
    row: impl Fn(&T) -> [String; N],
) -> Result<Exit, Failure> {
    if json {
        all.iter().try_for_each(print_json)?;
    } else if all.is_empty() {
        print(none)?;
    } else {
        print(&table(columns, &all.iter().map(row).collect::<Vec<_>>()))?;
    }
    Ok(Exit::Ok)
}

fn age(since_ms: i64) -> String {
    time(span(since_ms.saturating_mul(NS_PER_MS), now_ns()))
}

/// One line of what is followed.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Seen {
    Joined { identity: String, kind: &'static str },
    Left { identity: String, reason: &'static str },
    Text { identity: String, topic: String, text: String },
    Lost,
    Back,
    Ended { reason: &'static str },
}

impl Seen {
    /// What of an event is shown.
    fn of(event: RoomEvent) -> Option<Self> {
        Some(match event {
            RoomEvent::ParticipantJoined(who) => Self::Joined { identity: who.identity, kind: who.kind.as_str() },
            RoomEvent::ParticipantLeft { participant, reason } => {
                Self::Left { identity: participant.identity, reason: reason.as_str() }
            }
            RoomEvent::Text { info, text } => {
                Self::Text { identity: info.sender.unwrap_or_else(|| "the server".into()), topic: info.topic, text }
            }
            RoomEvent::Reconnecting => Self::Lost,
            RoomEvent::Disconnected { reason, .. } => Self::Ended { reason: reason.as_str() },
            _ => return None,
        })
    }

    fn line(&self) -> String {
        match self {
            Self::Joined { identity, kind } => format!("{identity} ({kind}) is here"),
            Self::Left { identity, reason } => format!("{identity} left: {reason}"),
            Self::Text { identity, topic, text } => format!("{identity} on {topic}: {text}"),
            Self::Lost => "the connection is lost; joining again".into(),
            Self::Back => "joined again".into(),
            Self::Ended { reason } => format!("the room is over: {reason}"),
        }
    }
}

/// Ends with the room, or when nobody reads the output any more.
fn follow(settings: RoomSettings, json: bool) -> Result<Exit, Failure> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let rooms = rooms::start(1)?;
        let room = rooms.open(settings).map_err(|error| Failure::usage(error.to_string()))?;
        // A room that was just opened has space.
        room.try_perform(Command::Connect { id: 1 }).ok();
        let mut is_lost = false;
        while let Some(event) = room.next().await {
            match &event {
                RoomEvent::Failed(failure) => {
                    let why = format!("the room cannot be joined: {}: {}", failure.code, failure.message);
                    return Err(Failure::usage(why));
                }
                RoomEvent::Connected { .. } if !is_lost => say("follows the room; Ctrl-C ends it"),
                _ => {}
            }
            let seen = match event {
                RoomEvent::Connected { .. } if is_lost => Some(Seen::Back),
                event => Seen::of(event),
            };
            let Some(seen) = seen else { continue };
            is_lost = seen == Seen::Lost;
            let printed = if json { print_json(&seen) } else { print(&seen.line()) };
            if printed.is_err() || matches!(seen, Seen::Ended { .. }) {
                break;
            }
        }
        drop(room);
        rooms::leave(&rooms).await;
        Ok(Exit::Ok)
    })
}

#[cfg(test)]
mod tests {
    use wasm_worker_core::room::event::{Reason, StreamInfo};

    use super::*;

    #[test]
    fn texts_and_ends_are_followed_and_the_rest_is_not() {
        let info = StreamInfo { sender: Some("ann".into()), topic: "lk.chat".into(), ..StreamInfo::default() };
        let seen = Seen::of(RoomEvent::Text { info, text: "hello".into() }).unwrap();
        assert_eq!(seen.line(), "ann on lk.chat: hello");
        let json = serde_json::to_value(&seen).unwrap();
        assert_eq!(
            json,
            serde_json::json!({ "event": "text", "identity": "ann", "topic": "lk.chat", "text": "hello" })
        );
        let over = Seen::of(RoomEvent::Disconnected { reason: Reason::RoomDeleted, message: String::new() });
        assert_eq!(over.unwrap().line(), "the room is over: room-deleted");
        assert_eq!(Seen::of(RoomEvent::Done(1)), None);
    }

    #[test]
    fn times_of_old_servers_are_seconds() {
        let room = |ms| Room::from(proto::Room { creation_time: 7, creation_time_ms: ms, ..Default::default() });
        assert_eq!((room(0).created_ms, room(7_250).created_ms), (7_000, 7_250));
    }
}
