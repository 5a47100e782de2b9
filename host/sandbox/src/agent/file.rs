//! The reading of a file that somebody else may have written or replaced.
//!
//! Bounds: a regular file of at most the given size. A FIFO, a device or a socket is refused by its kind: a read of it could wait
//! for ever, and opening a device can have effects.

use std::fs::{FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// The contents of a regular file of at most `bytes_max`.
///
/// # Errors
/// When the file cannot be read, is not a regular file, or is longer.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    check(&std::fs::metadata(path)?.file_type())?;
    // The file may have been replaced by a FIFO since: without this flag, opening that would wait for a writer.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    check(&found.file_type())?;
    if found.len() > bytes_max {
        return Err(too_large(found.len(), bytes_max));
    }
    let mut bytes = Vec::new();
    // The file may grow meanwhile.
    let read = file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)? as u64;
    if read > bytes_max { Err(too_large(read, bytes_max)) } else { Ok(bytes) }
}

fn too_large(bytes: u64, bytes_max: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {bytes} bytes; at most {bytes_max} are allowed"))
}

/// Refuse everything but a regular file, by its kind.
fn check(kind: &FileType) -> io::Result<()> {
    let name = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "of an unknown kind",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {name}; want a regular file")))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    use super::*;

    #[test]
    fn only_a_regular_file_within_the_bound_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let [file, fifo] = ["file", "fifo"].map(|name| dir.path().join(name));
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        let long = read(&file, 4).unwrap_err();
        assert_eq!(long.to_string(), "it has 5 bytes; at most 4 are allowed");
        mknodat(CWD, &fifo, Kind::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(read(&fifo, 5).unwrap_err().to_string(), "it is a FIFO; want a regular file");
        assert_eq!(read(dir.path(), 5).unwrap_err().to_string(), "it is a directory; want a regular file");
        assert_eq!(read(Path::new("/dev/zero"), 5).unwrap_err().to_string(), "it is a device; want a regular file");
        // A file whose length the system does not know is bounded too.
        assert!(read(Path::new("/proc/self/status"), 10).unwrap_err().to_string().contains("at most 10 are allowed"));
    }
}
