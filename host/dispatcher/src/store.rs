//! The durable record of dispatches, jobs, workers and rooms: a file of SQLite with one writing thread and one reader.
//!
//! All operations that wait go into one transaction, so a burst costs one flush to the disk. [`Store::written`] tells which batches
//! are durable. With `store-sync` at `commit` they are on the disk. With `checkpoint` the operating system has them: a process that
//! is killed loses nothing, a machine that loses power may lose the last seconds.
//!
//! While the disk cannot write, for example because it is full, operations wait and are retried. Nothing is confirmed meanwhile.
//!
//! Bounds: [`QUEUE`] batches wait, a transaction has about [`BATCH_MAX`] operations, and the file has at most
//! [`Settings::bytes_max`]. Ended dispatches are kept for [`Settings::retention`], and no longer than the file's bound allows.

mod read;
mod sweep;
mod write;

mod schema;

#[cfg(test)]
pub(crate) mod memory;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, watch};

use crate::rooms::Room;
use crate::scheduler::{Change, RecoveredDispatch};
use crate::settings::StoreSync;
pub(crate) use read::{DispatchRow, Filter};

/// Most batches that wait for the writer. The coordinator waits while the queue is full.
const QUEUE: usize = 1_024;
/// The number of operations from which a transaction takes no further batch.
const BATCH_MAX: usize = 4_096;
/// The pause before a failed write is retried.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The length of the write-ahead log at which SQLite moves it into the file, in pages.
const CHECKPOINT_PAGES: u32 = 4_000;
/// The size to which the file of the write-ahead log is truncated, in bytes.
const LOG_BYTES_MAX: u32 = 64 << 20;
/// Time between two deletions of old dispatches.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// The settings of the store.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) path: PathBuf,
    pub(crate) sync: StoreSync,
    pub(crate) bytes_max: usize,
    pub(crate) retention: Duration,
}

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file or its lock cannot be opened.
    #[error("cannot open the store `{}`", path.display())]
    Open {
        /// The file of the store.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another dispatcher has the store.
    #[error("the store `{}` is in use by another dispatcher", path.display())]
    InUse {
        /// The file of the store.
        path: PathBuf,
    },
    /// The schema is newer than this version.
    #[error("the store `{}` was written by a newer version of wasm-worker", path.display())]
    Newer {
        /// The file of the store.
        path: PathBuf,
    },
    /// SQLite fails.
    #[error("cannot use the store `{}`", path.display())]
    Sqlite {
        /// The file of the store.
        path: PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
    /// The file is not a store, or it is damaged.
    #[error("the file `{}` is damaged, or not a store: {why}", path.display())]
    Damaged {
        /// The file of the store.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// The thread of the writer cannot start.
    #[error("cannot start the writer of the store")]
    Thread(#[source] io::Error),
}

impl StoreError {
    /// Advice for the operator.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InUse { .. } => Some("connect to that dispatcher with --url, or choose another file with --store"),
            Self::Newer { .. } => Some("run that version, or choose another file with --store"),
            Self::Open { .. } | Self::Sqlite { .. } => Some("choose another file with --store"),
            Self::Damaged { .. } => Some("move the file away, or choose another one with --store"),
            Self::Thread(_) => None,
        }
    }
}

/// One operation of the store.
#[derive(Clone, Debug)]
pub(crate) enum StoreOp {
    /// Record a change of the scheduler.
    Change(Change),
    /// Create or replace a room.
    Room(Room),
    /// Delete a room, and remove its dispatches from the lists of LiveKit's API.
    RoomDeleted { name: String, at_ns: i64 },
    /// Remove a dispatch from the lists of LiveKit's API.
    Deleted { dispatch: Arc<str>, at_ns: i64 },
}

/// The progress of the writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// The number of durable batches.
    pub(crate) batches: u64,
    /// Why the writer cannot write at present.
    pub(crate) stuck: Option<Arc<str>>,
    /// Whether the file has no space for new dispatches.
    pub(crate) full: bool,
}

/// The open store.
pub(crate) struct Store {
    settings: Settings,
    sender: mpsc::Sender<Vec<StoreOp>>,
    /// The number of batches that the writer received.
    batches: u64,
    written: watch::Receiver<Written>,
    reader: Reader,
    writer: std::thread::JoinHandle<()>,
}

/// The state that the last dispatcher left.
pub(crate) struct Recovered {
    /// The open dispatches, the oldest first.
    pub(crate) dispatches: Vec<RecoveredDispatch>,
    pub(crate) rooms: Vec<Room>,
}

impl Store {
    /// Open the store, migrate it to the schema of this version, and read the open dispatches.
    pub(crate) fn open(settings: Settings, wall_ns: i64) -> Result<(Self, Recovered), StoreError> {
        let lock = lock(&settings.path)?;
        let mut connection = connect(&settings)?;
        schema::migrate(&mut connection, &settings.path)?;
        let failed = |source| StoreError::Sqlite { path: settings.path.clone(), source };
        write::mark_workers_left(&connection, wall_ns).map_err(failed)?;
        let recovered = Recovered {
            dispatches: read::open_dispatches(&connection).map_err(failed)?,
            rooms: read::rooms(&connection).map_err(failed)?,
        };
        let reader = Reader::open(&settings.path).map_err(failed)?;
        let (sender, batches) = mpsc::channel(QUEUE);
        let (report, written) = watch::channel(Written::default());
        let mut writer = write::Writer::new(connection, settings.clone(), report, lock);
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(batches))
            .map_err(StoreError::Thread)?;
        Ok((Self { settings, sender, batches: 0, written, reader, writer }, recovered))
    }

    /// Give a batch to the writer, and return its number. The batch is durable once [`Written::batches`] has reached the number.
    /// Waits while the queue is full. Returns `None` when the writer has ended, which is a bug.
    pub(crate) async fn write(&mut self, batch: Vec<StoreOp>) -> Option<u64> {
        self.sender.send(batch).await.ok()?;
        self.batches += 1;
        Some(self.batches)
    }

    /// The progress of the writer.
    pub(crate) fn written(&self) -> watch::Receiver<Written> {
        self.written.clone()
    }

    pub(crate) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Write the batches that wait, and close the store.
    pub(crate) async fn close(self) {
        drop(self.sender);
        let writer = self.writer;
        drop(tokio::task::spawn_blocking(move || writer.join()).await);
    }
}

/// A reader of durable state, beside the writer.
#[derive(Clone)]
pub(crate) struct Reader(Arc<Mutex<Connection>>);

/// The store cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot read the store")]
    Sqlite(#[from] rusqlite::Error),
    #[error("cannot read the store: {0}")]
    Panic(String),
}

impl Reader {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let connection = self.0.clone();
        let reading =
            tokio::task::spawn_blocking(move || query(&connection.lock().unwrap_or_else(PoisonError::into_inner)));
        Ok(reading.await.map_err(|panic| ReadError::Panic(panic.to_string()))??)
    }
}

/// Lock the store for this process.
fn lock(path: &Path) -> Result<File, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(failed)?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(name).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(error) => Err(failed(error.into())),
    }
}

fn connect(settings: &Settings) -> Result<Connection, StoreError> {
    let path = &settings.path;
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { path: path.clone(), why: source.to_string() }
        }
        _ => StoreError::Sqlite { path: path.clone(), source },
    };
    let connection = Connection::open(path).map_err(failed)?;
    let synchronous = match settings.sync {
        StoreSync::Commit => "FULL",
        StoreSync::Checkpoint => "NORMAL",
    };
    let prepare = || {
        // The sweep returns freed pages to the file system. The pragma has effect before the first table exists only.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", synchronous)?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES_MAX)?;
        let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        connection.pragma_update(None, "max_page_count", pages_max(settings.bytes_max, page_bytes))
    };
    prepare().map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// A size in pages of SQLite.
fn pages_max(bytes: usize, page_bytes: u32) -> u32 {
    u32::try_from(bytes / (page_bytes as usize).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
