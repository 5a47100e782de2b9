//! What is asked of the store.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use rusqlite::{Connection, OptionalExtension, Result, Row, params, params_from_iter};
use serde::Serialize;
use wasm_worker_core::verdict::{Code, Verdict};

use super::{ReadError, Reader};
use crate::pool::{Dispatch, Id, Kind, Open};
use crate::rooms::Room;

/// One dispatch, with its present attempt.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DispatchRow {
    pub(crate) dispatch: String,
    pub(crate) job: String,
    pub(crate) agent: String,
    pub(crate) deployment: String,
    pub(crate) room: String,
    #[serde(skip)]
    pub(crate) room_sid: String,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    #[serde(skip)]
    pub(crate) restart: i32,
    pub(crate) priority: i32,
    pub(crate) attempt: u32,
    pub(crate) created_ns: i64,
    pub(crate) assigned_ns: Option<i64>,
    pub(crate) started_ns: Option<i64>,
    pub(crate) ended_ns: Option<i64>,
    pub(crate) worker: Option<String>,
    #[serde(skip)]
    pub(crate) identity: Option<String>,
    #[serde(flatten)]
    pub(crate) verdict: Option<Verdict>,
    /// Whether it is to stop.
    pub(crate) stopping: bool,
    #[serde(skip)]
    pub(crate) deleted_ns: Option<i64>,
}

/// One attempt.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct JobRow {
    pub(crate) job: String,
    pub(crate) attempt: u32,
    pub(crate) worker: String,
    pub(crate) assigned_ns: i64,
    pub(crate) started_ns: Option<i64>,
    pub(crate) ended_ns: Option<i64>,
    #[serde(flatten)]
    pub(crate) verdict: Option<Verdict>,
    /// The worker's usage record.
    pub(crate) usage: Option<serde_json::Value>,
}

/// Which dispatches are wanted; the newest first, and no more than so many.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) room: Option<String>,
    /// Not those that were deleted.
    pub(crate) listed: bool,
    /// Only those that are not over, or only those that are.
    pub(crate) open: Option<bool>,
    pub(crate) limit: usize,
}

const COLUMNS: &str = "d.id, d.job, d.agent, d.deployment, d.room, d.room_sid, d.metadata, d.attributes, d.restart, d.priority, \
    d.attempt, d.created_ns, j.assigned_ns, j.started_ns, d.ended_ns, j.worker, j.identity, d.verdict, \
    d.cancelled_ns IS NOT NULL AS stopping, d.deleted_ns FROM dispatches d LEFT JOIN jobs j ON j.id = d.job";

impl Reader {
    pub(crate) async fn dispatches(&self, filter: Filter) -> std::result::Result<Vec<DispatchRow>, ReadError> {
        self.read(move |c| {
            let mut sql = format!("SELECT {COLUMNS} WHERE 1");
            let mut values: Vec<rusqlite::types::Value> = Vec::new();
            if let Some(room) = filter.room {
                sql.push_str(" AND d.room = ?");
                values.push(room.into());
            }
            if filter.listed {
                sql.push_str(" AND d.deleted_ns IS NULL");
            }
            match filter.open {
                Some(true) => sql.push_str(" AND d.ended_ns IS NULL"),
                Some(false) => sql.push_str(" AND d.ended_ns IS NOT NULL"),
                None => {}
            }
            sql.push_str(" ORDER BY d.created_ns DESC LIMIT ?");
            values.push(i64::try_from(filter.limit).unwrap_or(i64::MAX).into());
            c.prepare_cached(&sql)?.query_map(params_from_iter(values), row)?.collect()
        })
        .await
    }

    /// By its own id, or that of any of its jobs.
    pub(crate) async fn dispatch(&self, id: String) -> std::result::Result<Option<DispatchRow>, ReadError> {
        self.read(move |c| {
            let sql = format!(
                "SELECT {COLUMNS} WHERE d.id = ?1 OR d.job = ?1 OR d.id = (SELECT dispatch FROM jobs WHERE id = ?1)"
            );
            c.prepare_cached(&sql)?.query_row([id], row).optional()
        })
        .await
    }

    /// Those of these jobs that are known.
    pub(crate) async fn known(&self, jobs: Vec<String>) -> std::result::Result<Vec<String>, ReadError> {
        self.read(move |c| {
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

    /// All attempts of a dispatch that were assigned, in order.
    pub(crate) async fn attempts(&self, dispatch: String) -> std::result::Result<Vec<JobRow>, ReadError> {
        self.read(move |c| {
            let sql = "SELECT id, attempt, worker, assigned_ns, started_ns, ended_ns, verdict, usage FROM jobs WHERE dispatch = ?1 ORDER BY attempt";
            c.prepare_cached(sql)?.query_map([dispatch], job)?.collect()
        })
        .await
    }
}

fn row(row: &Row) -> Result<DispatchRow> {
    let attributes: String = row.get("attributes")?;
    Ok(DispatchRow {
        dispatch: row.get("id")?,
        job: row.get("job")?,
        agent: row.get("agent")?,
        deployment: row.get("deployment")?,
        room: row.get("room")?,
        room_sid: row.get("room_sid")?,
        metadata: row.get("metadata")?,
        attributes: serde_json::from_str(&attributes).unwrap_or_default(),
        restart: row.get("restart")?,
        priority: row.get("priority")?,
        attempt: row.get("attempt")?,
        created_ns: row.get("created_ns")?,
        assigned_ns: row.get("assigned_ns")?,
        started_ns: row.get("started_ns")?,
        ended_ns: row.get("ended_ns")?,
        worker: row.get("worker")?,
        identity: row.get("identity")?,
        verdict: verdict(row)?,
        stopping: row.get("stopping")?,
        deleted_ns: row.get("deleted_ns")?,
    })
}

fn job(row: &Row) -> Result<JobRow> {
    let usage: Option<String> = row.get("usage")?;
    Ok(JobRow {
        job: row.get("id")?,
        attempt: row.get("attempt")?,
        worker: row.get("worker")?,
        assigned_ns: row.get("assigned_ns")?,
        started_ns: row.get("started_ns")?,
        ended_ns: row.get("ended_ns")?,
        verdict: verdict(row)?,
        usage: usage.and_then(|usage| serde_json::from_str(&usage).ok()),
    })
}

/// The verdict of an ended row.
fn verdict(row: &Row) -> Result<Option<Verdict>> {
    let text: Option<String> = row.get("verdict")?;
    let damaged = |_| Verdict::new(Code::HostFault, "the verdict in the store cannot be read");
    Ok(text.map(|text| serde_json::from_str(&text).unwrap_or_else(damaged)))
}

/// Everything that is not over.
pub(super) fn open(c: &Connection) -> Result<Vec<Open>> {
    let sql = "SELECT d.id, d.key, d.agent, d.job_type, d.deployment, d.room, d.room_sid, d.room_metadata, d.metadata, d.attributes, \
               d.restart, d.priority, d.created_ns, d.deadline_ns, d.job, d.attempt, d.cancelled_ns IS NOT NULL AS cancelled, j.instance \
               FROM dispatches d LEFT JOIN jobs j ON j.id = d.job WHERE d.ended_ns IS NULL ORDER BY d.created_ns";
    let mut opens: Vec<Open> = c.prepare(sql)?.query_map([], open_row)?.collect::<Result<_>>()?;
    let mut former = c.prepare("SELECT id FROM jobs WHERE dispatch = ?1 AND id <> ?2 ORDER BY attempt")?;
    for open in &mut opens {
        let ids = former.query_map(params![open.dispatch.id, open.job], |row| row.get::<_, Id>(0))?;
        open.former = ids.collect::<Result<_>>()?;
    }
    Ok(opens)
}

fn open_row(row: &Row) -> Result<Open> {
    let attributes: String = row.get("attributes")?;
    let room = proto::Room {
        name: row.get("room")?,
        sid: row.get("room_sid")?,
        metadata: row.get("room_metadata")?,
        ..Default::default()
    };
    let dispatch = Dispatch {
        id: row.get("id")?,
        key: row.get("key")?,
        kind: Kind { agent: row.get("agent")?, job_type: row.get("job_type")?, deployment: row.get("deployment")? },
        room,
        metadata: row.get("metadata")?,
        attributes: serde_json::from_str(&attributes).unwrap_or_default(),
        restart: proto::JobRestartPolicy::try_from(row.get::<_, i32>("restart")?).unwrap_or_default(),
        priority: row.get("priority")?,
        created_ns: row.get("created_ns")?,
        deadline_ns: row.get("deadline_ns")?,
    };
    Ok(Open {
        dispatch,
        job: row.get("job")?,
        attempt: row.get("attempt")?,
        former: Vec::new(),
        cancelled: row.get("cancelled")?,
        instance: row.get("instance")?,
    })
}

pub(super) fn rooms(c: &Connection) -> Result<Vec<Room>> {
    let sql = "SELECT name, sid, metadata, empty_timeout, departure_timeout, max_participants, created_ns FROM rooms";
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
    c.prepare(sql)?.query_map([], room)?.collect()
}
