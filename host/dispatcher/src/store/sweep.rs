//! Deletes ended dispatches when they are old, and when the file comes near its bound.

use rusqlite::{Connection, Result};

use super::Settings;
use crate::clock::Moment;

/// Most rows that one statement deletes, so that writes wait only briefly.
const DELETED_MAX: usize = 500;
/// The share of the file's bound above which the oldest ended dispatches are deleted.
const CROWDED_PERCENT: usize = 80;
/// The share of the file's bound above which no new dispatch is accepted. The rest is for changes of open dispatches.
const FULL_PERCENT: usize = 90;

/// Delete what is older than the retention, return freed pages, and [`enforce_bound`].
pub(super) fn sweep(connection: &Connection, settings: &Settings) -> Result<bool> {
    let now = Moment::now().wall_ns;
    let kept = i64::try_from(settings.retention.as_nanos()).unwrap_or(i64::MAX);
    let before = now.saturating_sub(kept);
    let old = format!(
        "DELETE FROM dispatches WHERE id IN (SELECT id FROM dispatches WHERE ended_ns < ?1 ORDER BY ended_ns LIMIT {DELETED_MAX})"
    );
    connection.execute(&old, [before])?;
    connection.execute("DELETE FROM workers WHERE gone_ns < ?1", [before])?;
    connection.execute_batch("PRAGMA incremental_vacuum(2000)")?;
    enforce_bound(connection, settings)
}

/// Delete the oldest ended dispatches while the file is crowded. Returns whether open dispatches fill the file.
pub(super) fn enforce_bound(connection: &Connection, settings: &Settings) -> Result<bool> {
    let percent = |percent: usize| settings.bytes_max / 100 * percent;
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
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    deleted.map(drop)
}

/// Delete the oldest ended dispatches and departed workers. Returns the number of rows.
fn delete_oldest(connection: &Connection) -> Result<usize> {
    let oldest = format!(
        "DELETE FROM dispatches WHERE id IN (SELECT id FROM dispatches WHERE ended_ns IS NOT NULL ORDER BY ended_ns LIMIT {DELETED_MAX})"
    );
    let workers = format!(
        "DELETE FROM workers WHERE id IN (SELECT id FROM workers WHERE gone_ns IS NOT NULL ORDER BY gone_ns LIMIT {DELETED_MAX})"
    );
    Ok(connection.execute(&oldest, [])? + connection.execute(&workers, [])?)
}

/// The size of the file without its free pages.
fn used_bytes(connection: &Connection) -> Result<usize> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    Ok(pages as usize * pragma("page_size")? as usize)
}
