//! What is remembered of dispatches, jobs, workers and rooms: SQLite in a file, written by one thread, read by others.
//!
//! Whatever waits to be written goes into one transaction, so a burst costs one flush to the disk. [`Store::written`] says up to
//! which write all is safe. With `store-sync` at `commit` that means on the disk; at `checkpoint` it means in the hands of the
//! system: a killed process loses nothing, a machine that loses power may lose the last seconds.
//!
//! When the disk takes nothing (it is full, say), writes wait and are tried again; nothing is confirmed meanwhile.
//!
//! Bounds: [`QUEUE`] batches wait, [`BATCH_MAX`] writes a transaction, [`Settings::bytes_max`] the file, and what has ended is
//! kept for [`Settings::retention`] and while there is room.

mod read;
mod schema;
mod sweep;
mod write;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use tokio::sync::{mpsc, watch};

use super::pool::{Open, Write};
use super::rooms::Room;
use crate::settings::StoreSync;
pub(crate) use read::{DispatchRow, Filter};

/// Batches that wait for the writer; whoever has more waits.
const QUEUE: usize = 1_024;
/// Writes of one transaction.
const BATCH_MAX: usize = 4_096;
/// Between attempts when the disk takes nothing.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Pages of the write-ahead log that are moved into the file at once.
const CHECKPOINT_PAGES: u32 = 4_000;
/// What is kept of the write-ahead log's file once it is moved.
const LOG_BYTES_MAX: u32 = 64 << 20;
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Where the store is, and what bounds it.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) path: PathBuf,
    pub(crate) sync: StoreSync,
    pub(crate) bytes_max: usize,
    pub(crate) retention: Duration,
}

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store `{}` cannot be opened", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("the store `{}` is in use by another dispatcher", path.display())]
    InUse { path: PathBuf },
    #[error("the store `{}` was written by a newer version of wasm-worker", path.display())]
    Newer { path: PathBuf },
    #[error("the store `{}` cannot be used", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("the store `{}` is damaged, or no store: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("the writer of the store cannot start")]
    Thread(#[source] io::Error),
}

impl StoreError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InUse { .. } => {
                Some("join that dispatcher with --url, or give this one a store of its own with --store")
            }
            Self::Newer { .. } => Some("run that version, or choose another file with --store"),
            Self::Open { .. } | Self::Sqlite { .. } => Some("choose another file with --store"),
            Self::Damaged { .. } => Some("move it away, or choose another file with --store"),
            Self::Thread(_) => None,
        }
    }
}

/// One thing to write.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Pool(Write),
    Room(Room),
    RoomGone {
        name: String,
        at_ns: i64,
    },
    /// A dispatch is not listed any more.
    Deleted {
        dispatch: Arc<str>,
        at_ns: i64,
    },
}

/// What the writer has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// Batches that are safe.
    pub(crate) batches: u64,
    /// Why it cannot go on, at the moment.
    pub(crate) stuck: Option<Arc<str>>,
    /// Whether there is room for nothing new.
    pub(crate) full: bool,
}

/// The open store.
pub(crate) struct Store {
    settings: Settings,
    sender: mpsc::Sender<Vec<Entry>>,
    /// Batches that were handed over.
    handed: u64,
    written: watch::Receiver<Written>,
    reader: Reader,
    writer: std::thread::JoinHandle<()>,
}

/// What was not over when the last dispatcher ended.
pub(crate) struct Left {
    pub(crate) open: Vec<Open>,
    pub(crate) rooms: Vec<Room>,
}

impl Store {
    /// Open it, make it what this version wants, and read what was left.
    pub(crate) fn open(settings: Settings, wall_ns: i64) -> Result<(Self, Left), StoreError> {
        let lock = lock(&settings.path)?;
        let mut connection = connect(&settings)?;
        schema::migrate(&mut connection, &settings.path)?;
        let failed = |source| StoreError::Sqlite { path: settings.path.clone(), source };
        write::workers_gone(&connection, wall_ns).map_err(failed)?;
        let left =
            Left { open: read::open(&connection).map_err(failed)?, rooms: read::rooms(&connection).map_err(failed)? };
        let reader = Reader::open(&settings.path).map_err(failed)?;
        let (sender, batches) = mpsc::channel(QUEUE);
        let (report, written) = watch::channel(Written::default());
        let mut writer = write::Writer::new(connection, settings.clone(), report, lock);
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(batches))
            .map_err(StoreError::Thread)?;
        Ok((Self { settings, sender, handed: 0, written, reader, writer }, left))
    }

    /// Hand over a batch; it is safe once [`Written::batches`] has this number. Waits while the writer is far behind. None
    /// when there is no writer any more, which is a bug of ours.
    pub(crate) async fn write(&mut self, batch: Vec<Entry>) -> Option<u64> {
        self.sender.send(batch).await.ok()?;
        self.handed += 1;
        Some(self.handed)
    }

    pub(crate) fn written(&self) -> watch::Receiver<Written> {
        self.written.clone()
    }

    pub(crate) fn reader(&self) -> Reader {
        self.reader.clone()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Write what is left, and close.
    pub(crate) async fn close(self) {
        drop(self.sender);
        let writer = self.writer;
        drop(tokio::task::spawn_blocking(move || writer.join()).await);
    }
}

/// Reads what was written, beside the writer.
#[derive(Clone)]
pub(crate) struct Reader(Arc<Mutex<Connection>>);

/// Reading failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the store cannot be read")]
    Sqlite(#[from] rusqlite::Error),
    #[error("reading the store failed: {0}")]
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

/// One dispatcher has it at a time.
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
        // Freed pages are given back by the sweep. It has to be said before the first table is made.
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

/// SQLite counts in pages.
fn pages_max(bytes: usize, page_bytes: u32) -> u32 {
    u32::try_from(bytes / (page_bytes as usize).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
