//! The durable record of dispatches, jobs, workers and rooms: a file of SQLite with one writing thread and two readers.
//!
//! All operations that wait go into one transaction, so a burst costs one flush to the disk. [`Store::written`] tells which batches
//! are durable. With `store-sync` at `commit` they are on the disk. With `checkpoint` the operating system has them: a process that
//! is killed loses nothing, a machine that loses power may lose the last seconds.
//!
//! While the disk cannot write, for example because it is full, operations wait and are retried. Nothing is confirmed meanwhile,
//! nor after the file was deleted or replaced.
//!
//! Bounds: [`QUEUE`] batches wait for the writer; what follows waits as one more batch, and [`Store::is_congested`] says so. A
//! transaction has about [`BATCH_MAX`] operations. The file and its write-ahead log have at most [`Settings::bytes_max`]
//! together. Ended dispatches are kept for [`Settings::retention`], and no longer than the file's bound allows.

mod clock;
mod file;
mod reader;

mod bills;
mod read;
mod sweep;
mod write;

mod schema;

#[cfg(test)]
pub(crate) mod memory;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use crate::rooms::Room;
use crate::scheduler::{Change, RecoveredDispatch};
use crate::settings::StoreSync;
use clock::StoreClock;
use file::StoreFile;
pub(crate) use read::{DispatchRow, Filter, Part};
pub(crate) use reader::{ReadError, Reader};

/// Most batches that wait for the writer.
const QUEUE: usize = 1_024;
/// The number of operations from which a transaction takes no further batch.
const BATCH_MAX: usize = 4_096;
/// The pause before a failed write is retried.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The bounds of [`Settings::log_bytes_max`].
const LOG_BYTES: std::ops::RangeInclusive<usize> = 256 << 10..=64 << 20;
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

impl Settings {
    /// The size of the write-ahead log at which it is truncated. It is a part of [`Self::bytes_max`].
    fn log_bytes_max(&self) -> usize {
        (self.bytes_max / 8).clamp(*LOG_BYTES.start(), *LOG_BYTES.end())
    }

    /// The largest size of the file without its log.
    fn file_bytes_max(&self) -> usize {
        self.bytes_max.saturating_sub(self.log_bytes_max())
    }
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

impl StoreOp {
    /// An estimate of the bytes that the operation writes.
    fn bytes(&self) -> usize {
        const ROW_BYTES: usize = 1 << 10;
        ROW_BYTES
            + match self {
                Self::Change(Change::Created { dispatch, .. }) => dispatch.bytes(),
                Self::Change(Change::JobEnded { end, .. }) => end.usage.as_deref().unwrap_or_default().len(),
                Self::Room(room) => room.metadata.len(),
                Self::Change(_) | Self::RoomDeleted { .. } | Self::Deleted { .. } => 0,
            }
    }
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
    /// The operations that wait for space in the queue.
    unsent: Vec<StoreOp>,
    /// An estimate of the bytes that they write.
    unsent_bytes: usize,
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
        let mut file = StoreFile::open(&settings.path)?;
        let mut connection = connect(&settings)?;
        schema::migrate(&mut connection, &settings.path)?;
        let failed = |source| StoreError::Sqlite { path: settings.path.clone(), source };
        let clock = StoreClock::open(&connection, wall_ns).map_err(failed)?;
        write::mark_workers_left(&connection, wall_ns, clock.now_ns()).map_err(failed)?;
        let recovered = Recovered {
            dispatches: read::open_dispatches(&connection).map_err(failed)?,
            rooms: read::rooms(&connection).map_err(failed)?,
        };
        let reader = Reader::open(&settings.path).map_err(failed)?;
        file.note_log().map_err(|source| StoreError::Open { path: settings.path.clone(), source })?;
        let (sender, batches) = mpsc::channel(QUEUE);
        let (report, written) = watch::channel(Written::default());
        let mut writer = write::Writer::new(connection, settings.clone(), report, clock, (reader.clone(), file));
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(batches))
            .map_err(StoreError::Thread)?;
        Ok((
            Self { settings, sender, unsent: Vec::new(), unsent_bytes: 0, batches: 0, written, reader, writer },
            recovered,
        ))
    }

    /// Give operations to the writer, and return the number of their batch. The batch is durable once [`Written::batches`] has
    /// reached the number. Returns `None` when the writer has ended, which is a bug.
    pub(crate) fn write(&mut self, mut ops: Vec<StoreOp>) -> Option<u64> {
        let waiting = self.unsent.len();
        self.unsent.append(&mut ops);
        let batch_number = self.send_waiting();
        // Nothing is left of operations that were sent.
        self.unsent_bytes += self.unsent.iter().skip(waiting).map(StoreOp::bytes).sum::<usize>();
        batch_number
    }

    /// Give the operations that waited for space to the writer. Returns the number of the last batch, which may still wait, or
    /// `None` when the writer has ended.
    pub(crate) fn send_waiting(&mut self) -> Option<u64> {
        if self.unsent.is_empty() {
            return Some(self.batches);
        }
        match self.sender.try_reserve() {
            Ok(place) => {
                place.send(std::mem::take(&mut self.unsent));
                self.unsent_bytes = 0;
                self.batches += 1;
                Some(self.batches)
            }
            Err(TrySendError::Full(())) => Some(self.batches + 1),
            Err(TrySendError::Closed(())) => None,
        }
    }

    /// Whether the queue of the writer is full.
    pub(crate) fn is_congested(&self) -> bool {
        !self.unsent.is_empty() || self.sender.capacity() == 0
    }

    /// Whether so much waits behind the full queue that requests have to be refused: more than one transaction takes.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.unsent_bytes >= self.settings.log_bytes_max() / 2
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

    /// Write the batches that wait, and close the store. A store that cannot write is closed without them.
    pub(crate) async fn close(mut self) {
        if !self.unsent.is_empty() {
            tokio::select! {
                // A writer that has ended is a bug, and is logged where it was noticed.
                sent = self.sender.send(self.unsent) => drop(sent),
                stuck = self.written.wait_for(|written| written.stuck.is_some()) => drop(stuck),
            }
        }
        drop(self.sender);
        let writer = self.writer;
        drop(tokio::task::spawn_blocking(move || writer.join()).await);
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
        let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        // SQLite moves the log into the file early enough that a log without readers does not reach its bound.
        let checkpoint_pages = pages_max(settings.log_bytes_max() / 4, page_bytes);
        connection.pragma_update(None, "wal_autocheckpoint", checkpoint_pages)?;
        connection.pragma_update(
            None,
            "journal_size_limit",
            i64::try_from(settings.log_bytes_max()).unwrap_or(i64::MAX),
        )?;
        connection.pragma_update(None, "max_page_count", pages_max(settings.file_bytes_max(), page_bytes))
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
