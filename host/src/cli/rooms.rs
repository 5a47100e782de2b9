//! `wasm-worker rooms`: the rooms of a server, who is in them, and what is said there.

use std::collections::BTreeMap;

use clap::Args;
use livekit_protocol as proto;
use serde::Serialize;
use tokio::runtime::Builder;
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::people::{Participant as Facts, RoomInfo, Track, TrackKind};
use wasm_worker_core::room::settings::RoomSettings;
use wasm_worker_core::text::one_line;
use wasm_worker_room::wire;

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
        let RoomInfo { name, sid, participants, created_at_ms, metadata, .. } = wire::room(&room);
        Self { room: name, sid, people: participants, created_ms: whole(created_at_ms), metadata }
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
    attributes: BTreeMap<String, String>,
    metadata: String,
}

impl From<proto::ParticipantInfo> for Participant {
    fn from(info: proto::ParticipantInfo) -> Self {
        let Facts { sid, identity, name, metadata, attributes, kind, state, joined_at_ms, .. } =
            wire::participant(&info);
        let tracks = info.tracks.iter().map(|track| word_of(&wire::track(track, &identity))).collect();
        let (kind, state, joined_ms) = (kind.as_str(), state.as_str(), whole(joined_at_ms));
        Self {
            identity,
            sid,
            name,
            kind,
            state,
            joined_ms,
            tracks,
            attributes: attributes.into_iter().collect(),
            metadata,
        }
    }
}

const fn word_of(track: &Track) -> &'static str {
    match (track.kind, track.muted) {
        (TrackKind::Audio, false) => "audio",
        (TrackKind::Audio, true) => "audio (muted)",
        (TrackKind::Video, false) => "video",
        (TrackKind::Video, true) => "video (muted)",
        (TrackKind::Data, _) => "data",
        (TrackKind::Other, _) => "other",
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a cast saturates, and no server has been there for 2^53 ms")]
const fn whole(millis: f64) -> i64 {
    millis as i64
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
    /// What of an event is shown. `is_lost`: the connection is lost, and not yet back.
    fn of(event: RoomEvent, is_lost: &mut bool) -> Option<Self> {
        Some(match event {
            RoomEvent::Reconnecting if !std::mem::replace(is_lost, true) => Self::Lost,
            RoomEvent::Connected { .. } if std::mem::take(is_lost) => Self::Back,
            RoomEvent::ParticipantJoined(who) => Self::Joined { identity: who.identity, kind: who.kind.as_str() },
            RoomEvent::ParticipantLeft { participant, reason } => {
                Self::Left { identity: participant.identity, reason: reason.as_str() }
            }
            RoomEvent::Text { info, text } => {
                Self::Text { identity: info.sender.unwrap_or_else(|| "the server".into()), topic: info.topic, text }
            }
            RoomEvent::Disconnected { reason, .. } => Self::Ended { reason: reason.as_str() },
            _ => return None,
        })
    }

    /// One line, whatever participants send.
    fn line(&self) -> String {
        let line = match self {
            Self::Joined { identity, kind } => format!("{identity} ({kind}) is here"),
            Self::Left { identity, reason } => format!("{identity} left: {reason}"),
            Self::Text { identity, topic, text } => format!("{identity} on {topic}: {text}"),
            Self::Lost => "the connection is lost; joining again".into(),
            Self::Back => "joined again".into(),
            Self::Ended { reason } => format!("the room is over: {reason}"),
        };
        one_line(&line).into_owned()
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
            let Some(seen) = Seen::of(event, &mut is_lost) else { continue };
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

    fn seen(event: RoomEvent) -> Option<Seen> {
        Seen::of(event, &mut false)
    }

    fn text(text: &str) -> RoomEvent {
        let info = StreamInfo { sender: Some("ann".into()), topic: "lk.chat".into(), ..StreamInfo::default() };
        RoomEvent::Text { info, text: text.into() }
    }

    #[test]
    fn texts_and_ends_are_followed_and_the_rest_is_not() {
        let hello = seen(text("hello")).unwrap();
        assert_eq!(hello.line(), "ann on lk.chat: hello");
        let json = serde_json::to_value(&hello).unwrap();
        assert_eq!(
            json,
            serde_json::json!({ "event": "text", "identity": "ann", "topic": "lk.chat", "text": "hello" })
        );
        let over = seen(RoomEvent::Disconnected { reason: Reason::RoomDeleted, message: String::new() });
        assert_eq!(over.unwrap().line(), "the room is over: room-deleted");
        assert_eq!(seen(RoomEvent::Done(1)), None);
    }

    #[test]
    fn a_line_is_one_line_whatever_participants_send() {
        let forged = seen(text("hi\nbob left: client-initiated\r\u{1b}[2J\u{2028}")).unwrap();
        assert_eq!(forged.line(), "ann on lk.chat: hi bob left: client-initiated  [2J ");
        let who = Facts { identity: "a\nb".into(), ..Facts::default() };
        assert_eq!(seen(RoomEvent::ParticipantJoined(who)).unwrap().line(), "a b (standard) is here");
    }

    #[test]
    fn a_connection_is_lost_and_back_once_whatever_happens_between() {
        let (mut is_lost, connected) =
            (false, || RoomEvent::Connected { local: Facts::default(), room: RoomInfo::default() });
        let events =
            [connected(), RoomEvent::Reconnecting, RoomEvent::Reconnecting, text("late"), connected(), connected()];
        let lines = events.into_iter().filter_map(|event| Seen::of(event, &mut is_lost)).map(|seen| seen.line());
        let expected = ["the connection is lost; joining again", "ann on lk.chat: late", "joined again"];
        assert_eq!(lines.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn participants_are_told_in_the_words_of_the_contract() {
        let track =
            |r#type: proto::TrackType, muted| proto::TrackInfo { r#type: r#type.into(), muted, ..Default::default() };
        let one = Participant::from(proto::ParticipantInfo {
            identity: "ann".into(),
            state: proto::participant_info::State::Active.into(),
            kind: proto::participant_info::Kind::Connector.into(),
            tracks: vec![track(proto::TrackType::Audio, true), track(proto::TrackType::Video, false)],
            joined_at: 3,
            ..Default::default()
        });
        assert_eq!((one.kind, one.state, one.joined_ms), ("connector", "active", 3_000));
        assert_eq!(one.tracks, ["audio (muted)", "video"]);
        let unknown = Participant::from(proto::ParticipantInfo { state: 77, kind: 77, ..Default::default() });
        assert_eq!((unknown.kind, unknown.state), ("other", "joining"));
    }

    #[test]
    fn times_of_old_servers_are_seconds() {
        let room = |ms| Room::from(proto::Room { creation_time: 7, creation_time_ms: ms, ..Default::default() });
        assert_eq!((room(0).created_ms, room(7_250).created_ms), (7_000, 7_250));
    }
}
