//! The value of a secret: given, or from a file that is read again when it changes.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use wasm_worker_core::secret::Secret;

use super::Source;

/// Longest file, in bytes: servers take heads of 8 to 16 KiB.
const FILE_BYTES_MAX: u64 = 8 << 10;
/// Shortest value, in bytes: a shorter one would be found in innocent texts.
const VALUE_BYTES_MIN: usize = 8;
/// Values of one secret that answers are searched for: the present one, and those before it.
const VALUES_MAX: usize = 4;

/// The value of one secret.
#[derive(Debug, Default)]
pub(super) struct Value {
    /// How the file was when it was read.
    stamp: Option<Stamp>,
    /// The present value last.
    known: Vec<Secret>,
}

/// A file that differs in any of these has changed.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Value {
    /// Read the value anew, if it may have changed. Whether it has.
    pub(super) fn refresh(&mut self, source: &Source) -> Result<bool, String> {
        match source {
            Source::Value(value) => {
                if self.known.is_empty() {
                    return self.take(&value.0);
                }
                Ok(false)
            }
            Source::File(path) => {
                let named = |why: String| format!("{}: {why}", path.display());
                let (stamp, file) = open(path).map_err(named)?;
                if self.stamp.as_ref() == Some(&stamp) {
                    return Ok(false);
                }
                let mut text = String::new();
                file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| named(error.to_string()))?;
                let changed = self.take(text.trim()).map_err(named)?;
                self.stamp = Some(stamp);
                Ok(changed)
            }
        }
    }

    /// The present value.
    pub(super) fn current(&self) -> Option<&Secret> {
        self.known.last()
    }

    /// The present value, and those before it.
    pub(super) fn known(&self) -> impl Iterator<Item = &Secret> {
        self.known.iter()
    }

    fn take(&mut self, value: &str) -> Result<bool, String> {
        if value.len() < VALUE_BYTES_MIN {
            let got = value.len();
            return Err(format!(
                "it has {got} characters; want at least {VALUE_BYTES_MIN}, so that answers can be searched for it"
            ));
        }
        if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err("it has characters that no header can carry; want visible characters of ASCII".into());
        }
        let secret = Secret(value.to_owned());
        if self.known.last() == Some(&secret) {
            return Ok(false);
        }
        self.known.retain(|known| *known != secret);
        self.known.push(secret);
        if self.known.len() > VALUES_MAX {
            self.known.remove(0);
        }
        Ok(true)
    }
}

fn open(path: &Path) -> Result<(Stamp, File), String> {
    // A FIFO would keep the thread.
    let is_file = std::fs::metadata(path).map_err(|error| error.to_string())?.is_file();
    if !is_file {
        return Err("it is no regular file".into());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("it has {} bytes, and may have {FILE_BYTES_MAX}", metadata.len()));
    }
    Ok((Stamp::new(&metadata), file))
}

impl Stamp {
    fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}
