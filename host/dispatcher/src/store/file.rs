//! The file of the store: private, locked, and still the one at its path.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::StoreError;
use crate::private_files;

/// The file of the store, which this process has locked.
///
/// SQLite's own locks end with the first descriptor of the file that this process closes. This one must therefore be dropped after
/// the connection of the writer.
pub(super) struct StoreFile {
    path: PathBuf,
    file: File,
    log: Option<Log>,
    /// The sizes of the file and of the log after the last writes of this process, in bytes.
    sizes: [u64; 2],
    /// Locked too: older versions lock this file only.
    _lock: File,
}

/// The write-ahead log, which exists once the store is open.
struct Log {
    path: PathBuf,
    file: File,
    identity: Identity,
}

/// The first bytes of a log that is not empty, but for the last bit, which is the order of bytes in its checksums
/// (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
const LOG_BEGIN: [u8; 4] = [0x37, 0x7f, 0x06, 0x82];

/// The device and the inode of a file.
type Identity = (u64, u64);

/// The store's file or its log is not the one that is open, or is not whole, so that writes would be lost.
#[derive(Debug, thiserror::Error)]
#[error("the file `{}` was {what} while it was in use; put it back, or restart the dispatcher", path.display())]
pub(super) struct FileGone {
    path: PathBuf,
    what: &'static str,
}

impl StoreFile {
    /// Create the file where it is missing, and lock it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            private_files::create_dir(dir).map_err(failed)?;
            // Whoever comes first can make a directory there.
            let shared = std::env::temp_dir();
            if dir.starts_with(&shared) && dir != shared {
                private_files::check_owner(dir).map_err(failed)?;
            }
        }
        let lock = private_files::creating().open(beside(path, ".lock")).map_err(failed)?;
        lock_exclusively(&lock, path)?;
        let file = private_files::creating().read(true).open(path).map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
        }
        lock_exclusively(&file, path)?;
        private_files::close_to_others(&file).map_err(failed)?;
        for left in [beside(path, "-wal"), beside(path, "-shm")] {
            // The last dispatcher was killed. SQLite gives new ones the permissions of the store.
            if let Ok(left) = File::open(left) {
                private_files::close_to_others(&left).map_err(failed)?;
            }
        }
        Ok(Self { path: path.to_owned(), file, log: None, sizes: [0; 2], _lock: lock })
    }

    /// Note the log, once the store is open.
    pub(super) fn note_log(&mut self) -> io::Result<()> {
        let path = beside(&self.path, "-wal");
        let file = File::open(&path)?;
        let identity = identity_of(&file.metadata()?);
        self.log = Some(Log { path, file, identity });
        self.note_sizes();
        Ok(())
    }

    /// Note the sizes after writes of this process.
    pub(super) fn note_sizes(&mut self) {
        self.sizes = self.sizes_now();
    }

    fn sizes_now(&self) -> [u64; 2] {
        let size = |file: &File| file.metadata().map_or(0, |found| found.len());
        [size(&self.file), self.log_bytes()]
    }

    /// Check before a write that nobody else has made the files shorter since the last one.
    pub(super) fn check_sizes(&self) -> Result<(), FileGone> {
        let ([file, log], [file_before, log_before]) = (self.sizes_now(), self.sizes);
        match &self.log {
            _ if file < file_before => Err(gone(&self.path, "cut short")),
            Some(found) if log < log_before => Err(gone(&found.path, "cut short")),
            _ => Ok(()),
        }
    }

    /// Check that the paths still lead to the open files, and that these begin as they should. What is written to other files
    /// is lost.
    pub(super) fn check(&self) -> Result<(), FileGone> {
        let open = self.file.metadata().map(|open| identity_of(&open)).unwrap_or_default();
        let log = self.log.as_ref().map(|log| (&log.path, log.identity));
        for (path, identity) in [(&self.path, open)].into_iter().chain(log) {
            match std::fs::metadata(path) {
                Ok(found) if identity_of(&found) == identity => {}
                Ok(_) => return Err(gone(path, "replaced")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone(path, "deleted or moved")),
                // The directory cannot be read for a moment. The file is the open one as far as is known.
                Err(_) => {}
            }
        }
        // A log that was emptied between two looks is written on behind a hole.
        let mut begin = LOG_BEGIN;
        match &self.log {
            Some(log) if log.file.read_exact_at(&mut begin, 0).is_ok() => {
                begin[3] &= !1;
                if begin == LOG_BEGIN { Ok(()) } else { Err(gone(&log.path, "cut short")) }
            }
            _ => Ok(()),
        }
    }

    /// The size of the write-ahead log, in bytes.
    pub(super) fn log_bytes(&self) -> u64 {
        self.log.as_ref().and_then(|log| log.file.metadata().ok()).map_or(0, |found| found.len())
    }
}

fn gone(path: &Path, what: &'static str) -> FileGone {
    FileGone { path: path.to_owned(), what }
}

fn identity_of(found: &Metadata) -> Identity {
    (found.dev(), found.ino())
}

/// The path of a file whose name continues that of the store.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

fn lock_exclusively(file: &File, path: &Path) -> Result<(), StoreError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::InUse { path: path.to_owned() }),
        Err(error) => Err(StoreError::Open { path: path.to_owned(), source: error.into() }),
    }
}
