//! The thread that writes.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Params, named_params, params};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::clock::StoreClock;
use super::file::{FileGone, StoreFile};
use super::read::ROOM_COLUMNS;
use super::reader::Reader;
use super::{BATCH_MAX, RETRY_AFTER, SWEEP_EVERY, Settings, StoreOp, Written, sweep};
use crate::clock::Moment;
use crate::rooms::Room;
use crate::scheduler::{Change, Dispatch, Id, RegisteredWorker};
use wasm_worker_core::verdict::Verdict;
use wasm_worker_protocol::report::JobEnd;

/// The writer of the store.
pub(super) struct Writer {
    connection: Connection,
    settings: Settings,
    progress: watch::Sender<Written>,
    clock: StoreClock,
    last_sweep: Instant,
    /// The readers that wait while the log is truncated.
    reader: Reader,
    /// The file, which is locked until the writer ends.
    file: StoreFile,
}

/// A transaction is not durable.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Gone(#[from] FileGone),
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        settings: Settings,
        progress: watch::Sender<Written>,
        clock: StoreClock,
        (reader, file): (Reader, StoreFile),
    ) -> Self {
        Self { connection, settings, progress, clock, last_sweep: Instant::now(), reader, file }
    }

    /// Write until the store is closed.
    pub(super) fn run(&mut self, mut queue: mpsc::Receiver<Vec<StoreOp>>) {
        // A transaction that is longer than the log may be would make it longer.
        let bytes_max = self.settings.log_bytes_max() / 2;
        while let Some(first) = queue.blocking_recv() {
            let size = |batch: &[StoreOp]| batch.iter().map(StoreOp::bytes).sum::<usize>();
            let (mut ops, mut bytes) = (first.len(), size(&first));
            let mut batches = vec![first];
            while ops < BATCH_MAX
                && bytes < bytes_max
                && let Ok(next) = queue.try_recv()
            {
                ops += next.len();
                bytes += size(&next);
                batches.push(next);
            }
            // One transaction, or one for each batch where that fails.
            let written = self.transact(&batches).is_ok() || batches.iter().all(|batch| self.retry(batch, &queue));
            // What was written to a file that is gone is not durable.
            if !written || !self.wait_for_the_file(&queue) {
                return;
            }
            let count = u64::try_from(batches.len()).unwrap_or(u64::MAX);
            let full = self.sweep();
            self.file.note_sizes();
            self.progress.send_modify(|written| {
                written.batches += count;
                (written.stuck, written.full) = (None, full);
            });
        }
        self.save_clock();
    }

    /// Try until the batch is written. Returns false when the dispatcher ends first.
    fn retry(&mut self, batch: &Vec<StoreOp>, queue: &mpsc::Receiver<Vec<StoreOp>>) -> bool {
        while let Err(error) = self.transact(std::slice::from_ref(batch)) {
            if !self.report_stuck(&error, queue) {
                return false;
            }
            // Only SQLite's own errors may come from a full disk.
            if matches!(error, WriteError::Sqlite(_)) {
                let gate = self.reader.gate();
                let _alone = gate.close();
                if let Err(error) = sweep::free_space(&self.connection) {
                    tracing::debug!(target: "dispatcher", %error, "cannot free space in the store");
                }
                self.file.note_sizes();
            }
            pause(RETRY_AFTER);
        }
        true
    }

    /// Wait until the open file is the one at its path. Returns false when the dispatcher ends first.
    fn wait_for_the_file(&self, queue: &mpsc::Receiver<Vec<StoreOp>>) -> bool {
        while let Err(gone) = self.file.check() {
            if !self.report_stuck(&gone.into(), queue) {
                return false;
            }
            pause(RETRY_AFTER);
        }
        true
    }

    /// Report that the store cannot write, once for each reason. Returns false when the dispatcher ends.
    fn report_stuck(&self, error: &WriteError, queue: &mpsc::Receiver<Vec<StoreOp>>) -> bool {
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
        true
    }

    fn transact(&mut self, batches: &[Vec<StoreOp>]) -> Result<(), WriteError> {
        self.file.check()?;
        self.file.check_sizes()?;
        let now_ns = self.clock.now_ns();
        let transaction = self.connection.transaction()?;
        for op in batches.iter().flatten() {
            write(&transaction, op, now_ns)?;
        }
        Ok(transaction.commit()?)
    }

    /// Delete old dispatches from time to time, and whenever the file is crowded. Returns whether open dispatches fill the file.
    fn sweep(&mut self) -> bool {
        let swept = if self.last_sweep.elapsed() < SWEEP_EVERY {
            sweep::enforce_bound(&self.connection, &self.settings)
        } else {
            self.last_sweep = Instant::now();
            self.save_clock();
            sweep::sweep(&self.connection, &self.settings, self.clock.now_ns())
        };
        let truncated = self.truncate_log();
        truncated.and(swept).unwrap_or_else(|error| {
            tracing::warn!(target: "dispatcher", %error, "cannot delete old dispatches from the store");
            false
        })
    }

    /// Truncate a log that readers kept from being moved into the file. They wait meanwhile.
    fn truncate_log(&self) -> rusqlite::Result<()> {
        if self.file.log_bytes() <= self.settings.log_bytes_max() as u64 {
            return Ok(());
        }
        let gate = self.reader.gate();
        let _alone = gate.close();
        sweep::truncate_log(&self.connection)
    }

    fn save_clock(&self) {
        if let Err(error) = self.clock.save(&self.connection, Moment::now().wall_ns) {
            tracing::warn!(target: "dispatcher", %error, "cannot store the clock of the store");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread has nothing else to do")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Note that the workers of the last dispatcher are not connected to this one.
pub(super) fn mark_workers_left(connection: &Connection, at_ns: i64, store_ns: i64) -> rusqlite::Result<()> {
    connection
        .execute("UPDATE workers SET gone_ns = ?1, gone_store_ns = ?2 WHERE gone_ns IS NULL", [at_ns, store_ns])?;
    Ok(())
}

/// Write an operation at `store_ns` of the store's own clock.
pub(super) fn write(c: &Connection, op: &StoreOp, store_ns: i64) -> rusqlite::Result<()> {
    match op {
        StoreOp::Change(change) => write_change(c, change, store_ns),
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

fn write_room(c: &Connection, room: &Room) -> rusqlite::Result<()> {
    let Room { name, sid, metadata, empty_timeout, departure_timeout, max_participants, created_ns } = room;
    let sql = format!("INSERT OR REPLACE INTO rooms ({ROOM_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)");
    run(c, &sql, params![name, sid, metadata, empty_timeout, departure_timeout, max_participants, created_ns])
}

fn write_change(c: &Connection, change: &Change, store_ns: i64) -> rusqlite::Result<()> {
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
            let sql = "UPDATE dispatches SET ended_ns = ?2, code = ?3, verdict = ?4, ended_store_ns = ?5 \
                       WHERE id = ?1 AND ended_ns IS NULL";
            run(c, sql, params![dispatch, at_ns, verdict.code.as_str(), json(verdict), store_ns])
        }
        Change::WorkerJoined { id, registered, at_ns } => {
            let RegisteredWorker { dispatch_key, api_key, instance, version } = registered;
            let sql = "INSERT INTO workers (id, key, agent, job_type, deployment, instance, version, came_ns) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let (agent, job_type, deployment) = (&dispatch_key.agent, dispatch_key.job_type, &dispatch_key.deployment);
            run(c, sql, params![id, api_key, agent, job_type, deployment, instance, version, at_ns])
        }
        Change::WorkerLeft { id, at_ns } => {
            let sql = "UPDATE workers SET gone_ns = ?2, gone_store_ns = ?3 WHERE id = ?1";
            run(c, sql, params![id, at_ns, store_ns])
        }
    }
}

fn write_dispatch(c: &Connection, dispatch: &Dispatch, job: &Id) -> rusqlite::Result<()> {
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

fn run(c: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<()> {
    c.prepare_cached(sql)?.execute(params)?;
    Ok(())
}
