//! What is asked of the store.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use rusqlite::{Connection, OptionalExtension, Result, Row, params, params_from_iter};
use serde::Serialize;

use super::{ReadError, Reader};
use crate::dispatcher::pool::{Dispatch, Id, Kind, Open};
use crate::dispatcher::rooms::Room;

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
    pub(crate) code: Option<String>,
    pub(crate) detail: Option<String>,
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
    pub(crate) code: Option<String>,
    pub(crate) detail: Option<String>,
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
    d.attempt, d.created_ns, j.assigned_ns, j.started_ns, d.ended_ns, j.worker, j.identity, d.code, d.detail, \
    d.cancelled_ns IS NOT NULL, d.deleted_ns FROM dispatches d LEFT JOIN jobs j ON j.id = d.job";

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
            let sql = "SELECT id, attempt, worker, assigned_ns, started_ns, ended_ns, code, detail, usage FROM jobs WHERE dispatch = ?1 ORDER BY attempt";
            c.prepare_cached(sql)?.query_map([dispatch], job)?.collect()
        })
        .await
    }
}

fn row(row: &Row) -> Result<DispatchRow> {
    let attributes: String = row.get(7)?;
    Ok(DispatchRow {
        dispatch: row.get(0)?,
        job: row.get(1)?,
        agent: row.get(2)?,
        deployment: row.get(3)?,
        room: row.get(4)?,
        room_sid: row.get(5)?,
        metadata: row.get(6)?,
        attributes: serde_json::from_str(&attributes).unwrap_or_default(),
        restart: row.get(8)?,
        priority: row.get(9)?,
        attempt: row.get(10)?,
        created_ns: row.get(11)?,
        assigned_ns: row.get(12)?,
        started_ns: row.get(13)?,
        ended_ns: row.get(14)?,
        worker: row.get(15)?,
        identity: row.get(16)?,
        code: row.get(17)?,
        detail: row.get(18)?,
        stopping: row.get(19)?,
        deleted_ns: row.get(20)?,
    })
}

fn job(row: &Row) -> Result<JobRow> {
    let usage: Option<String> = row.get(8)?;
    Ok(JobRow {
        job: row.get(0)?,
        attempt: row.get(1)?,
        worker: row.get(2)?,
        assigned_ns: row.get(3)?,
        started_ns: row.get(4)?,
        ended_ns: row.get(5)?,
        code: row.get(6)?,
        detail: row.get(7)?,
        usage: usage.and_then(|usage| serde_json::from_str(&usage).ok()),
    })
}

/// Everything that is not over.
pub(super) fn open(c: &Connection) -> Result<Vec<Open>> {
    let sql = "SELECT d.id, d.key, d.agent, d.job_type, d.deployment, d.room, d.room_sid, d.room_metadata, d.metadata, d.attributes, \
               d.restart, d.priority, d.created_ns, d.deadline_ns, d.job, d.attempt, d.cancelled_ns IS NOT NULL, j.instance \
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
    let attributes: String = row.get(9)?;
    let room = proto::Room { name: row.get(5)?, sid: row.get(6)?, metadata: row.get(7)?, ..Default::default() };
    let dispatch = Dispatch {
        id: row.get(0)?,
        key: row.get(1)?,
        kind: Kind { agent: row.get(2)?, job_type: row.get(3)?, deployment: row.get(4)? },
        room,
        metadata: row.get(8)?,
        attributes: serde_json::from_str(&attributes).unwrap_or_default(),
        restart: proto::JobRestartPolicy::try_from(row.get::<_, i32>(10)?).unwrap_or_default(),
        priority: row.get(11)?,
        created_ns: row.get(12)?,
        deadline_ns: row.get(13)?,
    };
    Ok(Open {
        dispatch,
        job: row.get(14)?,
        attempt: row.get(15)?,
        former: Vec::new(),
        cancelled: row.get(16)?,
        instance: row.get(17)?,
    })
}

pub(super) fn rooms(c: &Connection) -> Result<Vec<Room>> {
    let sql = "SELECT name, sid, metadata, empty_timeout, departure_timeout, max_participants, created_ns FROM rooms";
    let room = |row: &Row| {
        Ok(Room {
            name: row.get(0)?,
            sid: row.get(1)?,
            metadata: row.get(2)?,
            empty_timeout: row.get(3)?,
            departure_timeout: row.get(4)?,
            max_participants: row.get(5)?,
            created_ns: row.get(6)?,
        })
    };
    c.prepare(sql)?.query_map([], room)?.collect()
}
