//! The workers of this user on this machine: each leaves a file in the cache directory that says where it answers HTTP, and with
//! which token, so that `ps`, `kill`, `drain` and `events` find it. The directory is the user's alone.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rand::distr::{Alphanumeric, SampleString};
use serde::{Deserialize, Serialize};

const DIR: &str = "workers";
/// Some 190 bits.
const TOKEN_CHARS: usize = 32;

/// Where one worker answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LocalWorker {
    pub(crate) pid: u32,
    pub(crate) url: String,
    pub(crate) token: String,
    #[serde(default)]
    pub(crate) role: Role,
}

/// What it is to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// A worker by itself.
    #[default]
    Worker,
    /// It has processes, and no jobs.
    Supervisor,
    /// One of them.
    Process { of: u32 },
}

/// A file that is there as long as the worker is.
pub(crate) struct Announcement(PathBuf);

impl Drop for Announcement {
    fn drop(&mut self) {
        // It may have been taken away with the directory.
        drop(fs::remove_file(&self.0));
    }
}

/// Tell this user's commands where the worker is.
pub(crate) fn announce(cache_dir: &Path, worker: &LocalWorker) -> io::Result<Announcement> {
    let dir = cache_dir.join(DIR);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let text = serde_json::to_string(worker).map_err(io::Error::from)?;
    // Readable for its owner only, and whole or not there.
    let file = tempfile::NamedTempFile::new_in(&dir)?;
    fs::write(file.path(), text)?;
    let path = dir.join(format!("{}.json", worker.pid));
    file.persist(&path).map_err(|error| error.error)?;
    Ok(Announcement(path))
}

/// All that are announced and run. What is left of one that was killed is taken away.
pub(crate) fn all(cache_dir: &Path) -> Vec<LocalWorker> {
    let Ok(files) = fs::read_dir(cache_dir.join(DIR)) else { return Vec::new() };
    let paths = files.filter_map(|file| Some(file.ok()?.path()));
    let mut workers: Vec<LocalWorker> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .filter_map(|path| {
            let worker: LocalWorker = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            if Path::new(&format!("/proc/{}", worker.pid)).exists() {
                return Some(worker);
            }
            drop(fs::remove_file(path));
            None
        })
        .collect();
    workers.sort_by_key(|worker| worker.pid);
    workers
}

/// A token that nobody guesses.
pub(crate) fn make_token() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), TOKEN_CHARS)
}
