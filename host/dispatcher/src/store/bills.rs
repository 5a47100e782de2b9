//! The sums over the bills of the jobs that ended in a period.
//!
//! A store may have millions of jobs. They are read [`PAGE`] at a time, so that a list, or the writer that truncates the log, waits
//! for one page and not for all of them.

use std::ops::Range;

use rusqlite::{Connection, Result, params};

use super::reader::{ReadError, Reader};
use crate::bills::Bills;
use wasm_worker_core::api::usage::UsageBy;

/// Jobs that are read at a time.
const PAGE: i64 = 1_000;
/// A page in the order of the ends. The index finds its begin.
const ENDED_JOBS: &str = "SELECT j.rowid AS place, j.ended_ns, j.usage, d.agent, d.key \
    FROM jobs j CROSS JOIN dispatches d ON d.id = j.dispatch \
    WHERE j.ended_ns >= ?1 AND j.ended_ns < ?3 AND (j.ended_ns, j.rowid) > (?1, ?2) ORDER BY j.ended_ns, j.rowid LIMIT ?4";

/// The place of a job in the order of the ends: the time, and the row.
type Place = (i64, i64);

impl Reader {
    /// Sum the bills of the jobs that ended in this period, in Unix times in nanoseconds.
    pub(crate) async fn bills(&self, by: UsageBy, period: Range<i64>) -> std::result::Result<Bills, ReadError> {
        let (mut bills, mut next) = (Bills::new(by), Some((period.start, i64::MIN)));
        while let Some(after) = next {
            let until_ns = period.end;
            (bills, next) = self.lists.read(move |c| add_page(c, bills, after, until_ns)).await?;
        }
        Ok(bills)
    }
}

/// Add the jobs of one page. Returns the last of them, where further ones may follow.
fn add_page(c: &Connection, mut bills: Bills, after: Place, until_ns: i64) -> Result<(Bills, Option<Place>)> {
    let mut statement = c.prepare_cached(ENDED_JOBS)?;
    let mut rows = statement.query(params![after.0, after.1, until_ns, PAGE])?;
    let (mut count, mut last) = (0, after);
    while let Some(row) = rows.next()? {
        let (agent, key): (String, String) = (row.get("agent")?, row.get("key")?);
        bills.add(&agent, &key, row.get::<_, Option<String>>("usage")?.as_deref());
        (count, last) = (count + 1, (row.get("ended_ns")?, row.get("place")?));
    }
    Ok((bills, (count == PAGE).then_some(last)))
}

#[cfg(test)]
mod tests {
    use super::super::schema::migrate;
    use super::*;

    #[test]
    fn page_is_found_by_the_index() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, std::path::Path::new(":memory:")).unwrap();
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {ENDED_JOBS}")).unwrap();
        let steps = plan.query_map(params![0, 0, 9, PAGE], |row| row.get::<_, String>("detail")).unwrap();
        let steps: Vec<String> = steps.map(std::result::Result::unwrap).collect();
        assert!(steps[0].contains("USING INDEX jobs_that_ended (ended_ns>? AND ended_ns<?)"), "{steps:?}");
        assert!(steps.iter().all(|step| step.starts_with("SEARCH")), "nothing is scanned or sorted: {steps:?}");
    }
}
