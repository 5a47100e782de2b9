//! The thread that writes.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Result, params};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use wasm_worker_core::verdict::Verdict;

use super::{BATCH_MAX, Entry, RETRY_AFTER, SWEEP_EVERY, Settings, Written, sweep};
use crate::pool::{Dispatch, Id, Write};

pub(super) struct Writer {
    connection: Connection,
    settings: Settings,
    report: watch::Sender<Written>,
    swept: Instant,
    /// Held as long as the store is.
    _lock: File,
}

impl Writer {
    pub(super) fn new(connection: Connection, settings: Settings, report: watch::Sender<Written>, lock: File) -> Self {
        Self { connection, settings, report, swept: Instant::now(), _lock: lock }
    }

    /// Write until nobody has anything to write any more.
    pub(super) fn run(&mut self, mut batches: mpsc::Receiver<Vec<Entry>>) {
        while let Some(first) = batches.blocking_recv() {
            let mut taken = vec![first];
            let mut entries = taken.first().map_or(0, Vec::len);
            while entries < BATCH_MAX
                && let Ok(next) = batches.try_recv()
            {
                entries += next.len();
                taken.push(next);
            }
            // All at once, or where that fails each by itself.
            let written = self.transact(&taken).is_ok() || taken.iter().all(|batch| self.insist(batch, &batches));
            if !written {
                return;
            }
            let count = u64::try_from(taken.len()).unwrap_or(u64::MAX);
            let full = self.sweep();
            self.report.send_modify(|written| {
                written.batches += count;
                (written.stuck, written.full) = (None, full);
            });
        }
    }

    /// Try until the disk takes it. False when nobody waits for it any more, either.
    fn insist(&mut self, batch: &Vec<Entry>, batches: &mpsc::Receiver<Vec<Entry>>) -> bool {
        while let Err(error) = self.transact(std::slice::from_ref(batch)) {
            let why: Arc<str> = error.to_string().into();
            let known = self.report.borrow().stuck.as_ref() == Some(&why);
            if !known {
                let store = self.settings.path.display();
                tracing::error!(target: "dispatcher", %store, %error, "the store takes nothing; tried again");
                self.report.send_modify(|written| written.stuck = Some(why));
            }
            if batches.is_closed() {
                tracing::error!(target: "dispatcher", "the dispatcher ends, and the store has not taken everything");
                return false;
            }
            // What has ended makes room for what is open.
            sweep::make_room(&self.connection).ok();
            pause(RETRY_AFTER);
        }
        true
    }

    fn transact(&mut self, taken: &[Vec<Entry>]) -> Result<()> {
        let transaction = self.connection.transaction()?;
        for entry in taken.iter().flatten() {
            write(&transaction, entry)?;
        }
        transaction.commit()
    }

    /// Forget what may be forgotten, from time to time or when it has to be; whether there is no room left for more.
    fn sweep(&mut self) -> bool {
        let swept = if self.swept.elapsed() < SWEEP_EVERY {
            sweep::keep_within(&self.connection, &self.settings)
        } else {
            self.swept = Instant::now();
            sweep::sweep(&self.connection, &self.settings)
        };
        swept.unwrap_or_else(|error| {
            tracing::warn!(target: "dispatcher", %error, "the store could not be swept");
            false
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, and nothing else to do")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Workers of the dispatcher before this one are not connected to this one.
pub(super) fn workers_gone(connection: &Connection, at_ns: i64) -> Result<()> {
    connection.execute("UPDATE workers SET gone_ns = ?1 WHERE gone_ns IS NULL", [at_ns])?;
    Ok(())
}

fn write(c: &Connection, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Pool(write) => write_pool(c, write),
        Entry::Room(room) => {
            let sql = "INSERT OR REPLACE INTO rooms VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let r = room;
            run(
                c,
                sql,
                params![
                    r.name,
                    r.sid,
                    r.metadata,
                    r.empty_timeout,
                    r.departure_timeout,
                    r.max_participants,
                    r.created_ns
                ],
            )
        }
        Entry::RoomGone { name, at_ns } => {
            run(c, "DELETE FROM rooms WHERE name = ?1", params![name])?;
            run(c, "UPDATE dispatches SET deleted_ns = ?2 WHERE room = ?1 AND deleted_ns IS NULL", params![name, at_ns])
        }
        Entry::Deleted { dispatch, at_ns } => run(
            c,
            "UPDATE dispatches SET deleted_ns = ?2 WHERE id = ?1 AND deleted_ns IS NULL",
            params![dispatch, at_ns],
        ),
    }
}

fn write_pool(c: &Connection, write: &Write) -> Result<()> {
    match write {
        Write::Created { dispatch, job } => created(c, dispatch, job),
        Write::Assigned { dispatch, job, attempt, worker, instance, identity, at_ns } => run(
            c,
            "INSERT INTO jobs (id, dispatch, attempt, worker, instance, identity, assigned_ns) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![job, dispatch, attempt, worker, instance, identity, at_ns],
        ),
        Write::Started { job, at_ns } => {
            run(c, "UPDATE jobs SET started_ns = ?2 WHERE id = ?1 AND started_ns IS NULL", params![job, at_ns])
        }
        Write::Adopted { job, worker, instance } => {
            run(c, "UPDATE jobs SET worker = ?2, instance = ?3 WHERE id = ?1", params![job, worker, instance])
        }
        // The first end of an attempt stays, but for one that was only taken for lost.
        Write::JobEnded { job, end, at_ns } => run(
            c,
            "UPDATE jobs SET ended_ns = ?2, code = ?3, verdict = ?4, usage = ?5 WHERE id = ?1 AND (ended_ns IS NULL OR code = 'lost')",
            params![job, at_ns, end.verdict.code.as_str(), json(&end.verdict), end.usage],
        ),
        Write::Again { dispatch, job, attempt } => {
            run(c, "UPDATE dispatches SET job = ?2, attempt = ?3 WHERE id = ?1", params![dispatch, job, attempt])
        }
        Write::Cancelled { dispatch, at_ns } => run(
            c,
            "UPDATE dispatches SET cancelled_ns = ?2 WHERE id = ?1 AND cancelled_ns IS NULL",
            params![dispatch, at_ns],
        ),
        Write::Ended { dispatch, end, at_ns } => run(
            c,
            "UPDATE dispatches SET ended_ns = ?2, code = ?3, verdict = ?4 WHERE id = ?1 AND ended_ns IS NULL",
            params![dispatch, at_ns, end.verdict.code.as_str(), json(&end.verdict)],
        ),
        Write::WorkerCame { id, registered, at_ns } => {
            let (kind, key) = (&registered.kind, &registered.key);
            let sql = "INSERT INTO workers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, NULL)";
            let (instance, version) = (&registered.instance, &registered.version);
            run(c, sql, params![id, key, kind.agent, kind.job_type, kind.deployment, instance, version, at_ns])
        }
        Write::WorkerGone { id, at_ns } => run(c, "UPDATE workers SET gone_ns = ?2 WHERE id = ?1", params![id, at_ns]),
    }
}

fn created(c: &Connection, dispatch: &Dispatch, job: &Id) -> Result<()> {
    let Dispatch { id, key, kind, room, metadata, attributes, restart, priority, created_ns, deadline_ns } = dispatch;
    let attributes = serde_json::to_string(attributes).unwrap_or_default();
    let sql = "INSERT INTO dispatches (id, key, agent, job_type, deployment, room, room_sid, room_metadata, metadata, attributes, \
               restart, priority, created_ns, deadline_ns, job, attempt) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, 1)";
    let restart = *restart as i32;
    run(
        c,
        sql,
        params![
            id,
            key,
            kind.agent,
            kind.job_type,
            kind.deployment,
            room.name,
            room.sid,
            room.metadata,
            metadata,
            attributes,
            restart,
            priority,
            created_ns,
            deadline_ns,
            job
        ],
    )
}

/// A verdict as the store keeps it. It has only texts and numbers, which JSON can always hold.
pub(super) fn json(verdict: &Verdict) -> String {
    serde_json::to_string(verdict).unwrap_or_default()
}

fn run(c: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<()> {
    c.prepare_cached(sql)?.execute(params)?;
    Ok(())
}
