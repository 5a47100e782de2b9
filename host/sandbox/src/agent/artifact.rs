//! The cache of compiled agents on disk.
//!
//! A cached agent runs as native code. So every file has a MAC under a key that only this user can read. A file whose MAC is
//! wrong is refused, removed and made again. A failure of the cache is a warning and costs time, never a job.
//!
//! Bounds: [`FILES_MAX`] files of at most [`FILE_BYTES_MAX`], in all [`BYTES_MAX`]; the oldest are removed first.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use wasmtime::component::Component;

use super::{Facts, file};
use crate::engine::{Engine, chain};
use crate::machine;
use crate::settings::PrewarmMode;

/// Most compiled agents. Each version of an agent is one, and a worker may have hundreds of agents.
const FILES_MAX: usize = 1_024;
/// Most bytes of all files. An agent in Rust has about 2 MB, one with an interpreter tens of megabytes.
const BYTES_MAX: u64 = 8 << 30;
/// Most bytes of a file: a larger one is not written, and not read.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Most bytes that are read of a key of the wrong size.
const KEY_FILE_BYTES_MAX: u64 = 4 << 10;
const KEY_FILE: &str = "mac.key";
const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = blake3::OUT_LEN;
const LENGTH_BYTES: usize = size_of::<u32>();
const EXTENSION: &str = "agent";

/// The reason why the cache directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the cache directory `{}` cannot be used", dir.display())]
pub struct CacheError {
    /// The directory.
    pub dir: PathBuf,
    /// The error of the system.
    pub source: io::Error,
}

/// A directory of compiled agents.
pub struct Cache {
    dir: PathBuf,
    key: [u8; KEY_BYTES],
}

/// The key of one artifact: a hash of the component, the engine and the settings.
pub struct Key(blake3::Hash);

impl Key {
    /// The key with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        blake3::Hash::from_hex(name).ok().map(Self)
    }

    /// The hash.
    pub(super) fn hash(&self) -> &blake3::Hash {
        &self.0
    }
}

/// A compiled agent in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name of its file without the extension, which is its key.
    pub name: String,
    /// The size of its file, in bytes.
    pub bytes: u64,
}

/// The key of a component, or of its text, under this engine and these settings.
pub fn key(engine: &Engine, component: &[u8], prewarm: PrewarmMode) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
    hasher.update(&[u8::from(prewarm == PrewarmMode::Pool)]);
    hasher.update(&engine.compatibility().to_le_bytes());
    hasher.update(component);
    Key(hasher.finalize())
}

impl Cache {
    /// Open the directory. The directory and its key are created when they are missing.
    ///
    /// # Errors
    /// When the directory cannot be written, others can write it, or its key has the wrong size.
    pub fn open(dir: &Path) -> Result<Self, CacheError> {
        let failed = |source| CacheError { dir: dir.to_owned(), source };
        make_private_dir(dir).map_err(failed)?;
        let key = read_or_make_key(dir).map_err(failed)?;
        // A write test now, rather than an error after minutes of compilation.
        tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
        Ok(Self { dir: dir.to_owned(), key })
    }

    /// What the cache has under this key. The file is not looked into.
    pub fn entry(&self, key: &Key) -> Option<Entry> {
        let found = fs::metadata(self.path(key)).ok()?;
        Some(Entry { name: key.0.to_hex().to_string(), bytes: found.len() })
    }

    /// The artifact of this key, if it exists and its MAC is right.
    pub(super) fn load(&self, engine: &Engine, key: &Key) -> Option<(Facts, Component)> {
        let path = self.path(key);
        let loaded = match file::read(&path, FILE_BYTES_MAX) {
            Ok(bytes) => self.verify(key, &bytes).and_then(|body| read_body(engine, body)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => Err(Unusable::of_read(&error)),
        };
        match loaded {
            Ok(loaded) => return Some(loaded),
            Err(Unusable::Here(why)) => {
                tracing::warn!(target: "host", file = %path.display(), why, "the system does not let the cached agent be loaded");
            }
            Err(Unusable::File(why)) => {
                tracing::warn!(target: "host", file = %path.display(), why, "cached agent refused, compiling it again");
                if let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(target: "host", file = %path.display(), %error, "the refused file cannot be removed");
                }
            }
        }
        None
    }

    /// Write an artifact: the whole file or none.
    pub(super) fn store(&self, key: &Key, facts: &Facts, component: &Component) {
        if let Err(error) = self.try_store(key, facts, component) {
            tracing::warn!(target: "host", dir = %self.dir.display(), error, "the compiled agent is not cached");
        }
    }

    fn try_store(&self, key: &Key, facts: &Facts, component: &Component) -> Result<(), String> {
        let code = component.serialize().map_err(|error| error.to_string())?;
        let facts = serde_json::to_vec(facts).map_err(|error| error.to_string())?;
        let length = u32::try_from(facts.len()).map_err(|error| error.to_string())?;
        let mut body = Vec::with_capacity(LENGTH_BYTES + facts.len() + code.len());
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(&facts);
        body.extend_from_slice(&code);
        if body.len() as u64 > FILE_BYTES_MAX - MAC_BYTES as u64 {
            return Err(format!("it has {} bytes; at most {FILE_BYTES_MAX} are cached", body.len()));
        }
        let mac = self.mac(key, &body);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            file.write_all(mac.as_bytes())?;
            file.write_all(&body)?;
            file.persist(self.path(key))?;
            self.prune()
        };
        write().map_err(|error| error.to_string())
    }

    /// The body of a file with the right MAC.
    fn verify<'a>(&self, key: &Key, bytes: &'a [u8]) -> Result<&'a [u8], Unusable> {
        let (mac, body) =
            bytes.split_first_chunk::<MAC_BYTES>().ok_or_else(|| Unusable::File("it is truncated".into()))?;
        // The comparison of two `blake3::Hash` takes constant time.
        if self.mac(key, body) == blake3::Hash::from_bytes(*mac) {
            Ok(body)
        } else {
            Err(Unusable::File("its MAC is wrong".into()))
        }
    }

    /// The MAC of a body. It covers the key too, so that one file cannot replace another.
    fn mac(&self, key: &Key, body: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(key.0.as_bytes());
        hasher.update(body);
        hasher.finalize()
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.dir.join(key.0.to_hex().as_str()).with_extension(EXTENSION)
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == EXTENSION) {
                let metadata = entry.metadata()?;
                files.push(Written { at: metadata.modified()?, path: entry.path(), bytes: metadata.len() });
            }
        }
        surplus(files).into_iter().try_for_each(|file| fs::remove_file(file.path))
    }
}

/// A file of the cache, with the time at which it was written.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Written {
    at: SystemTime,
    path: PathBuf,
    bytes: u64,
}

/// The oldest files, without which the others keep to the bounds.
fn surplus(mut files: Vec<Written>) -> Vec<Written> {
    files.sort();
    let mut bytes = 0;
    let newest = files.iter().rev().take(FILES_MAX);
    let kept = newest.take_while(|file| {
        bytes += file.bytes;
        bytes <= BYTES_MAX
    });
    files.truncate(files.len() - kept.count());
    files
}

/// Why a file of the cache is not loaded.
enum Unusable {
    /// The file is not one that this cache has written.
    File(String),
    /// The file may be good, and the system does not let it be read or loaded.
    Here(String),
}

impl Unusable {
    fn of_read(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => Self::File(error.to_string()),
            _ => Self::Here(error.to_string()),
        }
    }
}

fn read_body(engine: &Engine, body: &[u8]) -> Result<(Facts, Component), Unusable> {
    let wrong = |why: &str| Unusable::File(why.to_owned());
    let (length, rest) = body.split_first_chunk::<LENGTH_BYTES>().ok_or_else(|| wrong("it has no header"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let (facts, code) = rest.split_at_checked(length).ok_or_else(|| wrong("its header is truncated"))?;
    let facts = serde_json::from_slice(facts).map_err(|error| Unusable::File(error.to_string()))?;
    #[expect(unsafe_code, reason = "the only way to load compiled code")]
    // SAFETY: `code` was serialized by this program: its MAC, under a key that only this user can read, has just been
    // verified over these bytes in memory. The engine itself checks that version and settings are its own.
    let component = unsafe { Component::deserialize(engine.wasmtime(), code) };
    let component = component.map_err(|error| match machine::refused(&error) {
        true => Unusable::Here(chain(&error)),
        false => Unusable::File(error.to_string()),
    });
    Ok((facts, component?))
}

fn make_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    builder.recursive(true).create(dir)?;
    // Everyone who can write here can have this process run their code.
    let owned = fs::symlink_metadata(dir.join("."))?;
    check_owner(&owned, 0o022, "it can be written by others")
}

/// Refuse a file or directory of another user, or with forbidden permissions.
fn check_owner(of: &fs::Metadata, forbidden: u32, why: &str) -> io::Result<()> {
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, why.to_owned()));
    if of.uid() != rustix::process::geteuid().as_raw() {
        return refuse("it belongs to another user");
    }
    if of.mode() & forbidden != 0 { refuse(why) } else { Ok(()) }
}

fn read_or_make_key(dir: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let path = dir.join(KEY_FILE);
    // A link to nothing is there, and refused below.
    if fs::symlink_metadata(&path).is_err() {
        // Only the owner can read a temporary file. Of two processes, the second one uses the key of the first.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&rand::random::<[u8; KEY_BYTES]>())?;
        match file.persist_noclobber(&path) {
            Ok(_) => {}
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.error),
        }
    }
    let owned = fs::symlink_metadata(&path)?;
    check_owner(&owned, 0o077, "its `mac.key` can be read by others")?;
    if !owned.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its `mac.key` is not a file"));
    }
    let bytes = file::read(&path, KEY_FILE_BYTES_MAX)?;
    bytes.try_into().map_err(|bytes: Vec<u8>| {
        let why = format!("its `{KEY_FILE}` has {} bytes, want {KEY_BYTES}; remove it", bytes.len());
        io::Error::new(io::ErrorKind::InvalidData, why)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// So many files of this size, each a second younger than the one before it.
    fn written(count: usize, bytes: u64) -> Vec<Written> {
        let file = |number: usize| Written {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(number as u64),
            path: number.to_string().into(),
            bytes,
        };
        (0..count).map(file).collect()
    }

    fn surplus_of(count: usize, bytes: u64) -> Vec<PathBuf> {
        let mut files = written(count, bytes);
        files.reverse();
        surplus(files).into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn the_oldest_files_past_the_most_files_are_surplus() {
        assert_eq!(surplus_of(FILES_MAX, 2 << 20), Vec::<PathBuf>::new());
        assert_eq!(surplus_of(FILES_MAX + 2, 2 << 20), ["0", "1"].map(PathBuf::from));
    }

    #[test]
    fn the_oldest_files_past_the_most_bytes_are_surplus() {
        assert_eq!(surplus_of(8, FILE_BYTES_MAX), Vec::<PathBuf>::new());
        assert_eq!(surplus_of(9, FILE_BYTES_MAX), ["0"].map(PathBuf::from));
    }
}
