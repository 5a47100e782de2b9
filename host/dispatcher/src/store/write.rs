//! The thread that writes.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Params, Result, named_params, params};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::read::ROOM_COLUMNS;
use super::{BATCH_MAX, RETRY_AFTER, SWEEP_EVERY, Settings, StoreOp, Written, sweep};
use crate::rooms::Room;
use crate::scheduler::{Change, Dispatch, Id, RegisteredWorker};
use wasm_worker_core::verdict::Verdict;
use wasm_worker_protocol::report::JobEnd;

/// The writer of the store.
pub(super) struct Writer {
    connection: Connection,
    settings: Settings,
    progress: watch::Sender<Written>,
    last_sweep: Instant,
    /// The lock of the store, held until the writer ends.
    _lock: File,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        settings: Settings,
        progress: watch::Sender<Written>,
        lock: File,
    ) -> Self {
        Self { connection, settings, progress, last_sweep: Instant::now(), _lock: lock }
    }

    /// Write until the store is closed.
    pub(super) fn run(&mut self, mut queue: mpsc::Receiver<Vec<StoreOp>>) {
        while let Some(first) = queue.blocking_recv() {
            let mut ops = first.len();
            let mut batches = vec![first];
            while ops < BATCH_MAX
                && let Ok(next) = queue.try_recv()
            {
                ops += next.len();
                batches.push(next);
            }
            // One transaction, or one for each batch where that fails.
            let written = self.transact(&batches).is_ok() || batches.iter().all(|batch| self.retry(batch, &queue));
            if !written {
                return;
            }
            let count = u64::try_from(batches.len()).unwrap_or(u64::MAX);
            let full = self.sweep();
            self.progress.send_modify(|written| {
                written.batches += count;
                (written.stuck, written.full) = (None, full);
            });
        }
    }

    /// Try until the batch is written. Returns false when the dispatcher ends first.
    fn retry(&mut self, batch: &Vec<StoreOp>, queue: &mpsc::Receiver<Vec<StoreOp>>) -> bool {
        while let Err(error) = self.transact(std::slice::from_ref(batch)) {
            let why: Arc<str> = error.to_string().into();
            let known = self.progress.borrow().stuck.as_ref() == Some(&why);
            if !known {
                let store = self.settings.path.display();
                tracing::error!(target: "dispatcher", %store, %error, "the store cannot write; retrying");
                self.progress.send_modify(|written| written.stuck = Some(why));
            }
            if queue.is_closed() {
                tracing::error!(target: "dispatcher", "the dispatcher ends with changes that the store could not write");
                return false;
            }
            if let Err(error) = sweep::free_space(&self.connection) {
                tracing::debug!(target: "dispatcher", %error, "cannot free space in the store");
            }
            pause(RETRY_AFTER);
        }
        true
    }

    fn transact(&mut self, batches: &[Vec<StoreOp>]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        for op in batches.iter().flatten() {
            write(&transaction, op)?;
        }
        transaction.commit()
    }

    /// Delete old dispatches from time to time, and whenever the file is crowded. Returns whether open dispatches fill the file.
    fn sweep(&mut self) -> bool {
        let swept = if self.last_sweep.elapsed() < SWEEP_EVERY {
            sweep::enforce_bound(&self.connection, &self.settings)
        } else {
            self.last_sweep = Instant::now();
            sweep::sweep(&self.connection, &self.settings)
        };
        swept.unwrap_or_else(|error| {
            tracing::warn!(target: "dispatcher", %error, "cannot delete old dispatches from the store");
            false
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Note that the workers of the last dispatcher are not connected to this one.
pub(super) fn mark_workers_left(connection: &Connection, at_ns: i64) -> Result<()> {
    connection.execute("UPDATE workers SET gone_ns = ?1 WHERE gone_ns IS NULL", [at_ns])?;
    Ok(())
}

pub(super) fn write(c: &Connection, op: &StoreOp) -> Result<()> {
    match op {
        StoreOp::Change(change) => write_change(c, change),
        StoreOp::Room(room) => write_room(c, room),
        StoreOp::RoomDeleted { name, at_ns } => {
            run(c, "DELETE FROM rooms WHERE name = ?1", params![name])?;
            let sql = "UPDATE dispatches SET deleted_ns = ?2 WHERE room = ?1 AND deleted_ns IS NULL";
            run(c, sql, params![name, at_ns])
        }
        StoreOp::Deleted { dispatch, at_ns } => {
            let sql = "UPDATE dispatches SET deleted_ns = ?2 WHERE id = ?1 AND deleted_ns IS NULL";
            run(c, sql, params![dispatch, at_ns])
        }
    }
}

fn write_room(c: &Connection, room: &Room) -> Result<()> {
    let Room { name, sid, metadata, empty_timeout, departure_timeout, max_participants, created_ns } = room;
    let sql = format!("INSERT OR REPLACE INTO rooms ({ROOM_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
    run(c, &sql, params![name, sid, metadata, empty_timeout, departure_timeout, max_participants, created_ns])
}

fn write_change(c: &Connection, change: &Change) -> Result<()> {
    match change {
        Change::Created { dispatch, job } => write_dispatch(c, dispatch, job),
        Change::Assigned { dispatch, job, attempt, worker, instance, identity, at_ns } => {
            let sql = "INSERT INTO jobs (id, dispatch, attempt, worker, instance, identity, assigned_ns) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            run(c, sql, params![job, dispatch, attempt, worker, instance, identity, at_ns])
        }
        Change::Started { job, at_ns } => {
            run(c, "UPDATE jobs SET started_ns = ?2 WHERE id = ?1 AND started_ns IS NULL", params![job, at_ns])
        }
        Change::Adopted { job, worker, instance } => {
            run(c, "UPDATE jobs SET worker = ?2, instance = ?3 WHERE id = ?1", params![job, worker, instance])
        }
        Change::JobEnded { job, end: JobEnd { verdict, usage }, at_ns } => {
            // The first end of an attempt stays; only `lost`, which is an assumption, is replaced.
            let sql = "UPDATE jobs SET ended_ns = ?2, code = ?3, verdict = ?4, usage = ?5 \
                       WHERE id = ?1 AND (ended_ns IS NULL OR code = 'lost')";
            run(c, sql, params![job, at_ns, verdict.code.as_str(), json(verdict), usage])
        }
        Change::Retried { dispatch, job, attempt } => {
            run(c, "UPDATE dispatches SET job = ?2, attempt = ?3 WHERE id = ?1", params![dispatch, job, attempt])
        }
        Change::Cancelled { dispatch, at_ns } => {
            let sql = "UPDATE dispatches SET cancelled_ns = ?2 WHERE id = ?1 AND cancelled_ns IS NULL";
            run(c, sql, params![dispatch, at_ns])
        }
        Change::Ended { dispatch, end: JobEnd { verdict, .. }, at_ns } => {
            let sql = "UPDATE dispatches SET ended_ns = ?2, code = ?3, verdict = ?4 WHERE id = ?1 AND ended_ns IS NULL";
            run(c, sql, params![dispatch, at_ns, verdict.code.as_str(), json(verdict)])
        }
        Change::WorkerJoined { id, registered, at_ns } => {
            let RegisteredWorker { dispatch_key, api_key, instance, version } = registered;
            let sql = "INSERT INTO workers (id, key, agent, job_type, deployment, instance, version, came_ns) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let (agent, job_type, deployment) = (&dispatch_key.agent, dispatch_key.job_type, &dispatch_key.deployment);
            run(c, sql, params![id, api_key, agent, job_type, deployment, instance, version, at_ns])
        }
        Change::WorkerLeft { id, at_ns } => run(c, "UPDATE workers SET gone_ns = ?2 WHERE id = ?1", params![id, at_ns]),
    }
}

fn write_dispatch(c: &Connection, dispatch: &Dispatch, job: &Id) -> Result<()> {
    let Dispatch { id, api_key, dispatch_key, room, metadata, attributes, restart, priority, created_ns, deadline_ns } =
        dispatch;
    let sql = "INSERT INTO dispatches (id, key, agent, job_type, deployment, room, room_sid, room_metadata, metadata, \
               attributes, restart, priority, created_ns, deadline_ns, job, attempt) \
               VALUES (:id, :key, :agent, :job_type, :deployment, :room, :room_sid, :room_metadata, :metadata, \
               :attributes, :restart, :priority, :created_ns, :deadline_ns, :job, 1)";
    // A map of texts is always valid JSON.
    let attributes = serde_json::to_string(attributes).unwrap_or_default();
    run(
        c,
        sql,
        named_params! {
            ":id": id,
            ":key": api_key,
            ":agent": dispatch_key.agent,
            ":job_type": dispatch_key.job_type,
            ":deployment": dispatch_key.deployment,
            ":room": room.name,
            ":room_sid": room.sid,
            ":room_metadata": room.metadata,
            ":metadata": metadata,
            ":attributes": attributes,
            ":restart": *restart as i32,
            ":priority": priority,
            ":created_ns": created_ns,
            ":deadline_ns": deadline_ns,
            ":job": job,
        },
    )
}

/// The JSON of a verdict. A verdict has only texts and numbers, which JSON can always hold.
pub(super) fn json(verdict: &Verdict) -> String {
    serde_json::to_string(verdict).unwrap_or_default()
}

fn run(c: &Connection, sql: &str, params: impl Params) -> Result<()> {
    c.prepare_cached(sql)?.execute(params)?;
    Ok(())
}
