//! Deletes ended dispatches when they are old, and when the file comes near its bound; truncates the write-ahead log.

use rusqlite::{Connection, Result};

use super::Settings;
use super::clock::nanoseconds;

/// Most rows that one statement deletes, so that writes wait only briefly.
const DELETED_MAX: usize = 500;
/// The share of the file's bound above which the oldest ended dispatches are deleted.
const CROWDED_PERCENT: usize = 80;
/// The share of the file's bound above which no new dispatch is accepted. The rest is for changes of open dispatches.
const FULL_PERCENT: usize = 90;

/// The time at which a dispatch ended, by the store's own clock. Rows of older versions have the wall clock's only.
/// The schema has an index on this expression.
const AGE: &str = "COALESCE(ended_store_ns, ended_ns)";
/// The same for a worker that left.
const WORKER_AGE: &str = "COALESCE(gone_store_ns, gone_ns)";

/// Delete what is older than the retention at `now_ns` of the store's clock, return freed pages, and [`enforce_bound`].
pub(super) fn sweep(connection: &Connection, settings: &Settings, now_ns: i64) -> Result<bool> {
    let before = now_ns.saturating_sub(nanoseconds(settings.retention));
    let old = format!(
        "DELETE FROM dispatches WHERE id IN (SELECT id FROM dispatches WHERE ended_ns IS NOT NULL AND {AGE} < ?1 \
         ORDER BY {AGE} LIMIT {DELETED_MAX})"
    );
    connection.execute(&old, [before])?;
    let workers = format!("DELETE FROM workers WHERE gone_ns IS NOT NULL AND {WORKER_AGE} < ?1");
    connection.execute(&workers, [before])?;
    connection.execute_batch("PRAGMA incremental_vacuum(2000)")?;
    enforce_bound(connection, settings)
}

/// Delete the oldest ended dispatches while the file is crowded. Returns whether open dispatches fill the file.
pub(super) fn enforce_bound(connection: &Connection, settings: &Settings) -> Result<bool> {
    let percent = |percent: usize| settings.file_bytes_max() / 100 * percent;
    while used_bytes(connection)? > percent(CROWDED_PERCENT) {
        if delete_oldest(connection)? == 0 {
            break;
        }
    }
    Ok(used_bytes(connection)? > percent(FULL_PERCENT))
}

/// Free space after a write failed.
pub(super) fn free_space(connection: &Connection) -> Result<()> {
    // A full disk refuses deletions as well, but truncating the log may free some space.
    let deleted = delete_oldest(connection);
    truncate_log(connection)?;
    deleted.map(drop)
}

/// Move the write-ahead log into the file, and truncate it. To be called while nobody reads: a reader keeps the log.
pub(super) fn truncate_log(connection: &Connection) -> Result<()> {
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
}

/// Delete the oldest ended dispatches and departed workers. Returns the number of rows.
fn delete_oldest(connection: &Connection) -> Result<usize> {
    let oldest = format!(
        "DELETE FROM dispatches WHERE id IN (SELECT id FROM dispatches WHERE ended_ns IS NOT NULL ORDER BY {AGE} LIMIT {DELETED_MAX})"
    );
    let workers = format!(
        "DELETE FROM workers WHERE id IN (SELECT id FROM workers WHERE gone_ns IS NOT NULL ORDER BY {WORKER_AGE} LIMIT {DELETED_MAX})"
    );
    Ok(connection.execute(&oldest, [])? + connection.execute(&workers, [])?)
}

/// The size of the file without its free pages.
fn used_bytes(connection: &Connection) -> Result<usize> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    Ok(pages as usize * pragma("page_size")? as usize)
}
