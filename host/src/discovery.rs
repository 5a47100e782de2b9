//! Discovery of the workers of this user on this machine.
//!
//! Each worker keeps a file in the cache directory with its HTTP address and its token, so that `ps`, `kill`, `drain` and `events`
//! find it. Only the user can read the directory.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rand::distr::{Alphanumeric, SampleString};
use serde::{Deserialize, Serialize};

const DIR: &str = "workers";
/// 32 characters have about 190 bits.
const TOKEN_CHARS: usize = 32;

/// One worker process of this user.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LocalWorker {
    pub(crate) pid: u32,
    /// The URL of its HTTP endpoints.
    pub(crate) url: String,
    /// The bearer token of its HTTP endpoints.
    pub(crate) token: String,
    #[serde(default)]
    pub(crate) role: Role,
}

/// The role of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// A worker without a supervisor.
    #[default]
    Worker,
    /// A supervisor, which has worker processes and no jobs.
    Supervisor,
    /// A worker process of a supervisor.
    Process {
        /// The process id of the supervisor.
        of: u32,
    },
}

/// The file of this process. Dropping it deletes the file.
pub(crate) struct Announcement(PathBuf);

impl Drop for Announcement {
    fn drop(&mut self) {
        // The directory may have been deleted.
        drop(fs::remove_file(&self.0));
    }
}

/// Write the file of this process.
pub(crate) fn announce(cache_dir: &Path, worker: &LocalWorker) -> io::Result<Announcement> {
    let dir = cache_dir.join(DIR);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let text = serde_json::to_string(worker).map_err(io::Error::from)?;
    // The file is readable for its owner only, and appears complete or not at all.
    let file = tempfile::NamedTempFile::new_in(&dir)?;
    fs::write(file.path(), text)?;
    let path = dir.join(format!("{}.json", worker.pid));
    file.persist(&path).map_err(|error| error.error)?;
    Ok(Announcement(path))
}

/// All workers that are announced and run. The files of killed workers are deleted.
pub(crate) fn find_all(cache_dir: &Path) -> Vec<LocalWorker> {
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

/// A random token.
pub(crate) fn make_token() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), TOKEN_CHARS)
}
