//! The readers of the store: one for look-ups, one for lists, so that no list delays a look-up.
//!
//! Bounds: [`LOOKUPS_WAITING_MAX`] look-ups and [`LISTS_WAITING_MAX`] lists wait; further ones are refused. A read is short: a look-up has one row, and
//! a list has a bound of its own. The writer keeps all readers out while it truncates the log.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

/// Most look-ups that wait: one for each HTTP connection.
const LOOKUPS_WAITING_MAX: usize = 4_096;
/// Most lists that wait. Each is an answer of megabytes.
const LISTS_WAITING_MAX: usize = 64;

/// The store cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot read the store")]
    Sqlite(#[from] rusqlite::Error),
    #[error("cannot read the store: {0}")]
    Panic(String),
    #[error("the store is busy: too many requests wait to read it")]
    Busy,
}

/// The readers of durable state, beside the writer.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(super) lookups: Lane,
    pub(super) lists: Lane,
    gate: Gate,
}

impl Reader {
    pub(super) fn open(path: &Path) -> rusqlite::Result<Self> {
        let gate = Gate::default();
        let lookups = Lane::open(path, LOOKUPS_WAITING_MAX, gate.clone())?;
        let lists = Lane::open(path, LISTS_WAITING_MAX, gate.clone())?;
        Ok(Self { lookups, lists, gate })
    }

    pub(super) fn gate(&self) -> Gate {
        self.gate.clone()
    }
}

/// Lets readers in, or the writer alone. A writer that waits goes before readers that come later.
#[derive(Clone, Default)]
pub(super) struct Gate(Arc<RwLock<()>>);

impl Gate {
    /// Keep readers out until the guard is dropped.
    pub(super) fn close(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection for reads, one at a time, in the order of their requests.
#[derive(Clone)]
pub(super) struct Lane {
    connection: Arc<Mutex<Connection>>,
    /// A permit for the read whose turn it is.
    turn: Arc<Semaphore>,
    /// A permit for each read that waits or reads.
    places: Arc<Semaphore>,
    gate: Gate,
}

impl Lane {
    fn open(path: &Path, waiting_max: usize, gate: Gate) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        // The first read opens the log, which a later one finds open even if the files are deleted meanwhile.
        connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            turn: Arc::new(Semaphore::new(1)),
            places: Arc::new(Semaphore::new(waiting_max)),
            gate,
        })
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let place = self.places.clone().try_acquire_owned().map_err(|_| ReadError::Busy)?;
        // The semaphore is never closed.
        let turn = self.turn.clone().acquire_owned().await.map_err(|_| ReadError::Busy)?;
        let (connection, gate) = (self.connection.clone(), self.gate.clone());
        let reading = tokio::task::spawn_blocking(move || {
            // A caller that gives up does not end the read, and the next one waits for its end.
            let _held = (place, turn);
            let _open = gate.0.read().unwrap_or_else(PoisonError::into_inner);
            query(&connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(reading.await.map_err(|panic| ReadError::Panic(panic.to_string()))??)
    }
}
