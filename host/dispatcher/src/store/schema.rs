//! The tables, and the migrations from older versions. A store of a newer version is refused and not changed.

use std::path::Path;

use rusqlite::{Connection, Transaction};
use rusqlite_migration::{HookResult, M, MigrationDefinitionError, Migrations};
use wasm_worker_core::verdict::{Code, Verdict};

use super::StoreError;
use super::write::json;

/// The first version. Times are Unix times in nanoseconds. `jobs` has a row for each assigned attempt; `dispatches.job` is the
/// job of the current attempt.
pub(super) const V1: &str = "
CREATE TABLE rooms (
    name TEXT PRIMARY KEY,
    sid TEXT NOT NULL,
    metadata TEXT NOT NULL,
    empty_timeout INTEGER NOT NULL,
    departure_timeout INTEGER NOT NULL,
    max_participants INTEGER NOT NULL,
    created_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE dispatches (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    agent TEXT NOT NULL,
    job_type INTEGER NOT NULL,
    deployment TEXT NOT NULL,
    room TEXT NOT NULL,
    room_sid TEXT NOT NULL,
    room_metadata TEXT NOT NULL,
    metadata TEXT NOT NULL,
    attributes TEXT NOT NULL,
    restart INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    deadline_ns INTEGER NOT NULL,
    job TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    cancelled_ns INTEGER,
    ended_ns INTEGER,
    code TEXT,
    detail TEXT,
    deleted_ns INTEGER
) STRICT;
CREATE INDEX dispatches_by_room ON dispatches (room, created_ns);
CREATE INDEX dispatches_by_age ON dispatches (created_ns);
CREATE INDEX dispatches_that_ended ON dispatches (ended_ns) WHERE ended_ns IS NOT NULL;
CREATE INDEX dispatches_that_are_open ON dispatches (created_ns) WHERE ended_ns IS NULL;
CREATE INDEX dispatches_by_job ON dispatches (job);

CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    dispatch TEXT NOT NULL REFERENCES dispatches (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    worker TEXT NOT NULL,
    instance TEXT NOT NULL,
    identity TEXT NOT NULL,
    assigned_ns INTEGER NOT NULL,
    started_ns INTEGER,
    ended_ns INTEGER,
    code TEXT,
    detail TEXT,
    usage TEXT
) STRICT;
CREATE INDEX jobs_by_dispatch ON jobs (dispatch, attempt);

CREATE TABLE workers (
    id TEXT PRIMARY KEY,
    key TEXT NOT NULL,
    agent TEXT NOT NULL,
    job_type INTEGER NOT NULL,
    deployment TEXT NOT NULL,
    instance TEXT NOT NULL,
    version TEXT NOT NULL,
    came_ns INTEGER NOT NULL,
    gone_ns INTEGER
) STRICT;
CREATE INDEX workers_that_went ON workers (gone_ns);
";

/// The second version has the whole verdict as JSON in place of its detail.
const V2: &str = "
ALTER TABLE dispatches ADD COLUMN verdict TEXT;
ALTER TABLE jobs ADD COLUMN verdict TEXT;
";
const V2_AFTER: &str = "
ALTER TABLE dispatches DROP COLUMN detail;
ALTER TABLE jobs DROP COLUMN detail;
";

/// The third version has a clock of its own, by which ended rows grow old. Older rows keep the time of the wall clock.
const V3: &str = "
CREATE TABLE clock (
    id INTEGER PRIMARY KEY CHECK (id = 0),
    store_ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL
) STRICT;
ALTER TABLE dispatches ADD COLUMN ended_store_ns INTEGER;
ALTER TABLE workers ADD COLUMN gone_store_ns INTEGER;
DROP INDEX dispatches_that_ended;
CREATE INDEX dispatches_that_ended ON dispatches (COALESCE(ended_store_ns, ended_ns)) WHERE ended_ns IS NOT NULL;
DROP INDEX workers_that_went;
CREATE INDEX workers_that_went ON workers (COALESCE(gone_store_ns, gone_ns)) WHERE gone_ns IS NOT NULL;
";

/// The fourth version finds jobs by the time of their end, for sums over a period.
const V4: &str = "
CREATE INDEX jobs_that_ended ON jobs (ended_ns) WHERE ended_ns IS NOT NULL;
";

/// Write the verdicts of rows that ended under version 1.
fn fill_verdicts(transaction: &Transaction) -> HookResult {
    for table in ["dispatches", "jobs"] {
        let mut rows = transaction.prepare(&format!("SELECT id, code, detail FROM {table} WHERE code IS NOT NULL"))?;
        let mut update = transaction.prepare(&format!("UPDATE {table} SET verdict = ?2 WHERE id = ?1"))?;
        let ended = rows.query_map([], |row| {
            Ok((row.get::<_, String>("id")?, row.get::<_, String>("code")?, row.get::<_, Option<String>>("detail")?))
        })?;
        for row in ended {
            let (id, code, detail) = row?;
            if let Some(code) = Code::named(&code) {
                update.execute((id, json(&Verdict::new(code, detail.unwrap_or_default()))))?;
            }
        }
    }
    transaction.execute_batch(V2_AFTER)?;
    Ok(())
}

/// Bring the tables to the latest version.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let versions = vec![M::up(V1), M::up_with_hook(V2, fill_verdicts), M::up(V3), M::up(V4)];
    let migrated = Migrations::new(versions).to_latest(connection);
    migrated.map_err(|error| match error {
        rusqlite_migration::Error::MigrationDefinition(MigrationDefinitionError::DatabaseTooFarAhead) => {
            StoreError::Newer { path: path.to_owned() }
        }
        rusqlite_migration::Error::RusqliteError { err, .. } => {
            StoreError::Sqlite { path: path.to_owned(), source: err }
        }
        other => StoreError::Damaged { path: path.to_owned(), why: other.to_string() },
    })?;
    let foreign_keys = connection.pragma_update(None, "foreign_keys", "ON");
    foreign_keys.map_err(|source| StoreError::Sqlite { path: path.to_owned(), source })
}
