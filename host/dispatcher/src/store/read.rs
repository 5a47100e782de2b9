//! The queries of the store. Columns are read by name.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Result, Row, Rows, params, params_from_iter};

use super::reader::{ReadError, Reader};
use crate::rooms::Room;
use crate::scheduler::{Dispatch as OpenDispatch, Id, RecoveredDispatch};
use wasm_worker_core::api::dispatcher::{Attempt, Dispatch, DispatchState};
use wasm_worker_core::usage::UsageRecord;
use wasm_worker_core::verdict::{Code, Verdict};
use wasm_worker_protocol::dispatcher_session::DispatchKey;

/// A dispatch with its current attempt.
#[derive(Clone, Debug)]
pub(crate) struct DispatchRow {
    /// The dispatch as the API shows it, without waiting and attempts.
    pub(crate) dispatch: Dispatch,
    pub(crate) room_sid: String,
    /// The number of LiveKit's `JobRestartPolicy`.
    pub(crate) restart: i32,
    /// The identity of the agent in the room.
    pub(crate) identity: Option<String>,
    /// Whether the dispatch is removed from the lists of LiveKit's API.
    pub(crate) deleted: bool,
}

impl DispatchRow {
    /// Whether the dispatch has no verdict yet.
    pub(crate) fn is_open(&self) -> bool {
        self.dispatch.state != DispatchState::Ended
    }
}

/// A selection of dispatches, the newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// The room; all rooms for `None`.
    pub(crate) room: Option<String>,
    /// Whether deleted dispatches are left out.
    pub(crate) not_deleted: bool,
    /// Only open dispatches, or only ended ones.
    pub(crate) open: Option<bool>,
    /// Most dispatches.
    pub(crate) limit: usize,
    pub(crate) part: Part,
}

/// The part of each dispatch that a list has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything.
    #[default]
    Whole,
    /// Everything but metadata and attributes, which are not read.
    Brief,
}

/// Most bytes of the texts of a list. The oldest dispatches that do not fit are left out.
const LISTED_BYTES_MAX: usize = 16 << 20;

/// The columns that [`dispatch_row`] and [`recovered_row`] share.
const SHARED_COLUMNS: &str = "d.id, d.job, d.agent, d.deployment, d.room, d.room_sid, d.restart, d.priority, d.attempt, \
    d.created_ns, d.cancelled_ns IS NOT NULL AS cancelled";
/// The columns that may be large.
const LARGE_COLUMNS: &str = "d.metadata, d.attributes";
/// The further columns of [`dispatch_row`].
const DISPATCH_COLUMNS: &str = "j.assigned_ns, j.started_ns, d.ended_ns, j.worker, j.identity, d.verdict, \
    d.deleted_ns IS NOT NULL AS deleted";
/// The further columns of [`recovered_row`].
const RECOVERED_COLUMNS: &str = "d.key, d.job_type, d.room_metadata, d.deadline_ns, j.instance";
/// A dispatch with the job of its current attempt.
const DISPATCHES: &str = "dispatches d LEFT JOIN jobs j ON j.id = d.job";
/// The columns of [`attempt_row`].
const ATTEMPT_COLUMNS: &str = "id, attempt, worker, assigned_ns, started_ns, ended_ns, verdict, usage";
/// The columns of a room, in the order of [`super::write`].
pub(super) const ROOM_COLUMNS: &str =
    "name, sid, metadata, empty_timeout, departure_timeout, max_participants, created_ns";

impl Reader {
    pub(crate) async fn dispatches(&self, filter: Filter) -> std::result::Result<Vec<DispatchRow>, ReadError> {
        self.lists
            .read(move |c| {
                let large = match filter.part {
                    Part::Whole => LARGE_COLUMNS,
                    Part::Brief => "NULL AS metadata, NULL AS attributes",
                };
                let mut sql = format!("SELECT {SHARED_COLUMNS}, {large}, {DISPATCH_COLUMNS} FROM {DISPATCHES} WHERE 1");
                let mut values: Vec<Value> = Vec::new();
                if let Some(room) = filter.room {
                    sql.push_str(" AND d.room = ?");
                    values.push(room.into());
                }
                if filter.not_deleted {
                    sql.push_str(" AND d.deleted_ns IS NULL");
                }
                match filter.open {
                    Some(true) => sql.push_str(" AND d.ended_ns IS NULL"),
                    Some(false) => sql.push_str(" AND d.ended_ns IS NOT NULL"),
                    None => {}
                }
                sql.push_str(" ORDER BY d.created_ns DESC LIMIT ?");
                values.push(i64::try_from(filter.limit).unwrap_or(i64::MAX).into());
                let mut statement = c.prepare_cached(&sql)?;
                within_bytes(statement.query(params_from_iter(values))?, LISTED_BYTES_MAX)
            })
            .await
    }

    /// The dispatch with this id, or with a job of this id.
    pub(crate) async fn dispatch(&self, id: String) -> std::result::Result<Option<DispatchRow>, ReadError> {
        self.lookups
            .read(move |c| {
                let sql = format!(
                    "SELECT {SHARED_COLUMNS}, {LARGE_COLUMNS}, {DISPATCH_COLUMNS} FROM {DISPATCHES} \
                 WHERE d.id = ?1 OR d.job = ?1 OR d.id = (SELECT dispatch FROM jobs WHERE id = ?1)"
                );
                c.prepare_cached(&sql)?.query_row([id], dispatch_row).optional()
            })
            .await
    }

    /// The jobs among these that the store has.
    pub(crate) async fn known_jobs(&self, jobs: Vec<String>) -> std::result::Result<Vec<String>, ReadError> {
        self.lookups
            .read(move |c| {
                let mut statement = c.prepare_cached("SELECT 1 FROM jobs WHERE id = ?1")?;
                let mut known = Vec::new();
                for job in jobs {
                    if statement.exists([&job])? {
                        known.push(job);
                    }
                }
                Ok(known)
            })
            .await
    }

    /// The assigned attempts of a dispatch, in order.
    pub(crate) async fn attempts(&self, dispatch: String) -> std::result::Result<Vec<Attempt>, ReadError> {
        self.lookups
            .read(move |c| {
                let sql = format!("SELECT {ATTEMPT_COLUMNS} FROM jobs WHERE dispatch = ?1 ORDER BY attempt");
                c.prepare_cached(&sql)?.query_map([dispatch], attempt_row)?.collect()
            })
            .await
    }
}

/// The first dispatches whose texts have at most `bytes_max` together. No row is read that is left out, but the first of them.
fn within_bytes(mut rows: Rows, bytes_max: usize) -> Result<Vec<DispatchRow>> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        bytes += text_bytes(row);
        if bytes > bytes_max {
            break;
        }
        found.push(dispatch_row(row)?);
    }
    Ok(found)
}

/// The bytes of the texts in a row.
fn text_bytes(row: &Row) -> usize {
    let columns = row.as_ref().column_count();
    let text = |column| row.get_ref(column).ok()?.as_str_or_null().ok()?.map(str::len);
    (0..columns).filter_map(text).sum()
}

fn dispatch_row(row: &Row) -> Result<DispatchRow> {
    let (assigned_ns, started_ns, ended_ns) = (row.get("assigned_ns")?, row.get("started_ns")?, row.get("ended_ns")?);
    let dispatch = Dispatch {
        state: state(assigned_ns, started_ns, ended_ns),
        dispatch: row.get("id")?,
        job: row.get("job")?,
        agent: row.get("agent")?,
        deployment: row.get("deployment")?,
        room: row.get("room")?,
        metadata: row.get("metadata")?,
        attributes: attributes(row)?,
        priority: row.get("priority")?,
        attempt: row.get("attempt")?,
        created_ns: row.get("created_ns")?,
        assigned_ns,
        started_ns,
        ended_ns,
        worker: row.get("worker")?,
        verdict: verdict(row)?,
        stopping: row.get("cancelled")?,
        waiting: None,
        attempts: Vec::new(),
    };
    Ok(DispatchRow {
        dispatch,
        room_sid: row.get("room_sid")?,
        restart: row.get("restart")?,
        identity: row.get("identity")?,
        deleted: row.get("deleted")?,
    })
}

fn state(assigned_ns: Option<i64>, started_ns: Option<i64>, ended_ns: Option<i64>) -> DispatchState {
    match (assigned_ns, started_ns, ended_ns) {
        (_, _, Some(_)) => DispatchState::Ended,
        (_, Some(_), None) => DispatchState::Running,
        (Some(_), None, None) => DispatchState::Assigned,
        (None, None, None) => DispatchState::Pending,
    }
}

fn attempt_row(row: &Row) -> Result<Attempt> {
    let usage: Option<String> = row.get("usage")?;
    Ok(Attempt {
        job: row.get("id")?,
        attempt: row.get("attempt")?,
        worker: row.get("worker")?,
        assigned_ns: row.get("assigned_ns")?,
        started_ns: row.get("started_ns")?,
        ended_ns: row.get("ended_ns")?,
        verdict: verdict(row)?,
        usage: usage.and_then(|usage| serde_json::from_str::<UsageRecord>(&usage).ok()),
    })
}

/// The verdict of an ended row.
fn verdict(row: &Row) -> Result<Option<Verdict>> {
    let text: Option<String> = row.get("verdict")?;
    let damaged = |_| Verdict::new(Code::HostFault, "the verdict in the store cannot be read");
    Ok(text.map(|text| serde_json::from_str(&text).unwrap_or_else(damaged)))
}

/// The attributes of a row that has them.
fn attributes(row: &Row) -> Result<Option<BTreeMap<String, String>>> {
    let text: Option<String> = row.get("attributes")?;
    Ok(text.map(|text| serde_json::from_str(&text).unwrap_or_default()))
}

/// All open dispatches, the oldest first.
pub(super) fn open_dispatches(c: &Connection) -> Result<Vec<RecoveredDispatch>> {
    let sql = format!(
        "SELECT {SHARED_COLUMNS}, {LARGE_COLUMNS}, {RECOVERED_COLUMNS} FROM {DISPATCHES} \
         WHERE d.ended_ns IS NULL ORDER BY d.created_ns"
    );
    let mut recovered: Vec<RecoveredDispatch> =
        c.prepare(&sql)?.query_map([], recovered_row)?.collect::<Result<_>>()?;
    let mut former = c.prepare("SELECT id FROM jobs WHERE dispatch = ?1 AND id <> ?2 ORDER BY attempt")?;
    for open in &mut recovered {
        let ids = former.query_map(params![open.dispatch.id, open.job], |row| row.get::<_, Id>("id"))?;
        open.former = ids.collect::<Result<_>>()?;
    }
    Ok(recovered)
}

fn recovered_row(row: &Row) -> Result<RecoveredDispatch> {
    let room = proto::Room {
        name: row.get("room")?,
        sid: row.get("room_sid")?,
        metadata: row.get("room_metadata")?,
        ..Default::default()
    };
    let dispatch_key =
        DispatchKey { agent: row.get("agent")?, job_type: row.get("job_type")?, deployment: row.get("deployment")? };
    let dispatch = OpenDispatch {
        id: row.get("id")?,
        api_key: row.get("key")?,
        dispatch_key,
        room,
        metadata: row.get("metadata")?,
        attributes: attributes(row)?.unwrap_or_default(),
        restart: proto::JobRestartPolicy::try_from(row.get::<_, i32>("restart")?).unwrap_or_default(),
        priority: row.get("priority")?,
        created_ns: row.get("created_ns")?,
        deadline_ns: row.get("deadline_ns")?,
    };
    Ok(RecoveredDispatch {
        dispatch,
        job: row.get("job")?,
        attempt: row.get("attempt")?,
        former: Vec::new(),
        cancelled: row.get("cancelled")?,
        instance: row.get("instance")?,
    })
}

pub(super) fn rooms(c: &Connection) -> Result<Vec<Room>> {
    let room = |row: &Row| {
        Ok(Room {
            name: row.get("name")?,
            sid: row.get("sid")?,
            metadata: row.get("metadata")?,
            empty_timeout: row.get("empty_timeout")?,
            departure_timeout: row.get("departure_timeout")?,
            max_participants: row.get("max_participants")?,
            created_ns: row.get("created_ns")?,
        })
    };
    c.prepare(&format!("SELECT {ROOM_COLUMNS} FROM rooms"))?.query_map([], room)?.collect()
}
