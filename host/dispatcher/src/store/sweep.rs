//! What has ended is forgotten when it is old, and when the file comes near its bound.

use jiff::Timestamp;
use rusqlite::{Connection, Result};

use super::Settings;

/// Dispatches forgotten in one go: the writer has other things to do.
const AT_ONCE: usize = 500;
/// Of the file's bound: above it the oldest are forgotten.
const CROWDED_PERCENT: usize = 80;
/// Of the same: above it nothing new is taken. The rest is for what becomes of what is there.
const FULL_PERCENT: usize = 90;

/// Forget what is old, give freed pages back, and all of [`keep_within`].
pub(super) fn sweep(connection: &Connection, settings: &Settings) -> Result<bool> {
    let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let kept = i64::try_from(settings.retention.as_nanos()).unwrap_or(i64::MAX);
    let before = now.saturating_sub(kept);
    let old = format!(
        "DELETE FROM dispatches WHERE id IN (SELECT id FROM dispatches WHERE ended_ns < ?1 ORDER BY ended_ns LIMIT {AT_ONCE})"
    );
    connection.execute(&old, [before])?;
    connection.execute("DELETE FROM workers WHERE gone_ns < ?1", [before])?;
    connection.execute_batch("PRAGMA incremental_vacuum(2000)")?;
    keep_within(connection, settings)
}

/// Forget the oldest of what has ended while the file is crowded; whether it is full of what is open.
pub(super) fn keep_within(connection: &Connection, settings: &Settings) -> Result<bool> {
    let percent = |percent: usize| settings.bytes_max / 100 * percent;
    while bytes(connection)? > percent(CROWDED_PERCENT) {
        if forget_oldest(connection)? == 0 {
            break;
        }
    }
    Ok(bytes(connection)? > percent(FULL_PERCENT))
}

/// The disk, or the file's bound, takes nothing more.
pub(super) fn make_room(connection: &Connection) -> Result<()> {
    // On a full disk nothing can be deleted either, but the log may be given back.
    let forgotten = forget_oldest(connection);
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    forgotten.map(drop)
}

/// How many were forgotten.
fn forget_oldest(connection: &Connection) -> Result<usize> {
    let oldest = format!(
        "DELETE FROM dispatches WHERE id IN (SELECT id FROM dispatches WHERE ended_ns IS NOT NULL ORDER BY ended_ns LIMIT {AT_ONCE})"
    );
    let workers = format!(
        "DELETE FROM workers WHERE id IN (SELECT id FROM workers WHERE gone_ns IS NOT NULL ORDER BY gone_ns LIMIT {AT_ONCE})"
    );
    Ok(connection.execute(&oldest, [])? + connection.execute(&workers, [])?)
}

/// In use, without what was freed.
fn bytes(connection: &Connection) -> Result<usize> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, u32>(0));
    let pages = pragma("page_count")?.saturating_sub(pragma("freelist_count")?);
    Ok(pages as usize * pragma("page_size")? as usize)
}
