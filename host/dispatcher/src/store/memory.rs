//! A store in memory, for tests: the tables and the rules of the real one, without its file and its threads.

use std::path::Path;

use rusqlite::Connection;

use super::{RecoveredDispatch, StoreOp, read, schema, write};

/// A store in memory.
pub(crate) struct MemoryStore(Connection);

impl MemoryStore {
    pub(crate) fn new() -> Self {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::migrate(&mut connection, Path::new(":memory:")).unwrap();
        connection.set_prepared_statement_cache_capacity(64);
        Self(connection)
    }

    /// Write a batch, as the writer does.
    pub(crate) fn write(&mut self, batch: &[StoreOp]) {
        let transaction = self.0.transaction().unwrap();
        batch.iter().for_each(|op| write::write(&transaction, op, 0).unwrap());
        transaction.commit().unwrap();
    }

    /// The open dispatches, as a starting dispatcher reads them.
    pub(crate) fn recover(&self, at_ns: i64) -> Vec<RecoveredDispatch> {
        write::mark_workers_left(&self.0, at_ns, 0).unwrap();
        read::open_dispatches(&self.0).unwrap()
    }

    pub(crate) fn has_dispatch(&self, id: &str) -> bool {
        self.0.prepare_cached("SELECT 1 FROM dispatches WHERE id = ?1").unwrap().exists([id]).unwrap()
    }

    /// Whether the assignment of a job is recorded.
    pub(crate) fn has_job(&self, id: &str) -> bool {
        self.0.prepare_cached("SELECT 1 FROM jobs WHERE id = ?1").unwrap().exists([id]).unwrap()
    }

    /// The end code of a dispatch, once it has ended.
    pub(crate) fn end_of(&self, id: &str) -> Option<String> {
        let mut query = self.0.prepare_cached("SELECT code FROM dispatches WHERE id = ?1").unwrap();
        query.query_row([id], |row| row.get(0)).unwrap_or_default()
    }

    /// Make a store empty, for the next run.
    pub(crate) fn clear(&mut self) {
        self.0.execute_batch("DELETE FROM dispatches; DELETE FROM workers; DELETE FROM rooms").unwrap();
    }
}
