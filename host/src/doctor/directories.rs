//! The directories that a worker writes to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use rustix::fs::statvfs;

use super::Finding;
use crate::config::Config;

/// Free space under which a warning is due: a compiled agent takes up to 100 MB.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// What a directory is for.
#[derive(Clone, Copy, Debug)]
struct Purpose {
    check: &'static str,
    /// What does not work without the directory.
    loss: &'static str,
    /// Whether a worker runs without the directory.
    optional: bool,
    /// The line that names another directory.
    fix: &'static str,
}

const CACHE: Purpose = Purpose {
    check: "cache-dir",
    loss: "agents are compiled at each start, and `ps`, `drain` and their like do not find the worker",
    optional: true,
    fix: "WASM_WORKER_CACHE_DIR=/var/cache/wasm-worker",
};
const STORE: Purpose = Purpose {
    check: "store",
    loss: "the dispatcher does not start",
    optional: false,
    fix: "WASM_WORKER_STORE=/var/lib/wasm-worker/dispatcher.db",
};

/// What is known of a directory.
#[derive(Debug)]
struct Facts {
    dir: PathBuf,
    /// Where the directory is missing, the nearest one above it is tried.
    written: Result<(), io::Error>,
    free_bytes: Option<u64>,
}

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![judge(CACHE, &Facts::read(&config.cache_dir))];
    if config.livekit.url.is_none() {
        let dir = config.dispatcher.store.parent().unwrap_or(Path::new(""));
        findings.push(judge(STORE, &Facts::read(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })));
    }
    findings
}

impl Facts {
    fn read(dir: &Path) -> Self {
        let present = dir.ancestors().find(|dir| fs::symlink_metadata(dir).is_ok()).unwrap_or(dir);
        Self {
            dir: dir.to_owned(),
            written: tempfile::tempfile_in(present).map(drop),
            free_bytes: statvfs(present).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)),
        }
    }
}

fn judge(purpose: Purpose, facts: &Facts) -> Finding {
    let Purpose { check, loss, optional, fix } = purpose;
    let dir = facts.dir.display();
    match (&facts.written, facts.free_bytes) {
        (Err(error), _) => {
            let detail = format!("`{dir}` is not writable ({error}): {loss}");
            if optional { Finding::warn(check, detail, fix) } else { Finding::fail(check, detail, fix) }
        }
        (Ok(()), Some(free)) if free < FREE_BYTES_MIN => {
            Finding::warn(check, format!("`{dir}` has {} left", ByteSize::b(free).display().iec()), fix)
        }
        (Ok(()), _) => Finding::ok(check, format!("`{dir}` is writable")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_missing_directory_is_tried_where_it_would_be_made_and_nothing_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let facts = Facts::read(&dir.path().join("a/b"));
        assert!(facts.written.is_ok() && facts.free_bytes.is_some());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(Facts::read(&file.join("b")).written.is_err(), "a file is no directory");
    }

    #[test]
    fn a_cache_is_optional_and_a_store_is_not() {
        let denied =
            || Facts { dir: "/x".into(), written: Err(io::ErrorKind::ReadOnlyFilesystem.into()), free_bytes: None };
        assert_eq!(judge(CACHE, &denied()).level, Level::Warn);
        assert_eq!(judge(STORE, &denied()).level, Level::Fail);
        let full = Facts { dir: "/x".into(), written: Ok(()), free_bytes: Some(1 << 20) };
        assert_eq!(judge(STORE, &full).level, Level::Warn);
        assert_eq!(judge(STORE, &Facts { free_bytes: Some(1 << 30), ..full }).level, Level::Ok);
    }
}
