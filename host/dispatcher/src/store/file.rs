//! The file of the store: private, locked, and still the one at its path.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
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
    /// The write-ahead log, and the device and the inode that it had at the start.
    log: (PathBuf, Identity),
    /// Locked too: older versions lock this file only.
    _lock: File,
}

/// The device and the inode of a file.
type Identity = (u64, u64);

/// The store's file or its log is not the one that is open, so that writes would be lost.
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
        let log = beside(path, "-wal");
        for left in [log.clone(), beside(path, "-shm")] {
            // The last dispatcher was killed. SQLite gives new ones the permissions of the store.
            if let Ok(left) = File::open(left) {
                private_files::close_to_others(&left).map_err(failed)?;
            }
        }
        Ok(Self { path: path.to_owned(), file, log: (log, (0, 0)), _lock: lock })
    }

    /// Note the log, which exists once the store is open.
    pub(super) fn note_log(&mut self) -> io::Result<()> {
        let (path, identity) = &mut self.log;
        *identity = identity_of(&std::fs::metadata(path)?);
        Ok(())
    }

    /// Check that the paths still lead to the open files. What is written to deleted files is lost.
    pub(super) fn check(&self) -> Result<(), FileGone> {
        let gone = |path: &Path, what| FileGone { path: path.to_owned(), what };
        let open = self.file.metadata().map(|open| identity_of(&open)).unwrap_or_default();
        for (path, identity) in [(&self.path, open), (&self.log.0, self.log.1)] {
            match std::fs::metadata(path) {
                Ok(found) if identity_of(&found) == identity => {}
                Ok(_) => return Err(gone(path, "replaced")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone(path, "deleted or moved")),
                // The directory cannot be read for a moment. The file is the open one as far as is known.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// The size of the write-ahead log.
    pub(super) fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log.0).map_or(0, |found| found.len())
    }
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
