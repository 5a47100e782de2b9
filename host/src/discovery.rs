//! Discovery of the workers of this user on this machine.
//!
//! Each worker keeps a file in the cache directory with its HTTP address and its token, so that `ps`, `kill`, `drain` and `events`
//! find it. Only the user can read the directory. A worker locks its file while it runs, so a file without a lock is one that a
//! killed worker left. Containers may share the directory: a file says where its worker runs, and commands elsewhere skip it.
//!
//! Bound: a file has at most [`FILE_BYTES_MAX`].

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::distr::{Alphanumeric, SampleString};
use serde::{Deserialize, Serialize};
use wasm_worker_core::secret::Secret;
use wasm_worker_dispatcher::private_files;

const DIR: &str = "workers";
const EXTENSION: &str = "json";
/// 32 characters have about 190 bits.
const TOKEN_CHARS: usize = 32;
/// The random characters of the name of a file.
const NAME_CHARS: usize = 16;
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// The age at which a file without a lock is deleted although another kernel has written it, whose locks may not reach here.
const FOREIGN_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

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
    /// Where process id and URL mean this worker; absent in the file of an older version.
    place: Option<Place>,
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

/// The kernel and the namespaces of a process. Two containers differ in them; so do two machines.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
struct Place {
    /// The id of the kernel's start.
    boot: String,
    /// The namespace of process ids.
    processes: String,
    /// The namespace of addresses.
    network: String,
}

impl Place {
    /// The place of this process. A part that the system does not tell is empty.
    fn own() -> Self {
        let namespace = |name: &str| fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let (processes, network) = (text(namespace("pid")), text(namespace("net")));
        Self { boot: boot.trim().to_owned(), processes, network }
    }
}

impl LocalWorker {
    /// This process, with the address and the token of its HTTP endpoints.
    pub(crate) fn this_process(url: String, token: &Secret, role: Role) -> Self {
        let place = Some(Place::own());
        Self { pid: std::process::id(), url, token: token.0.clone(), role, place }
    }
}

/// The file of this process, locked. Dropping it deletes the file.
pub(crate) struct Announcement {
    path: PathBuf,
    _file: File,
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // The directory may have been deleted.
        drop(fs::remove_file(&self.path));
    }
}

/// Write the file of this process. Its name is random, because process ids of containers are not unique.
pub(crate) fn announce(cache_dir: &Path, worker: &LocalWorker) -> io::Result<Announcement> {
    let dir = cache_dir.join(DIR);
    private_files::create_own_dir(&dir)?;
    let text = serde_json::to_string(worker).map_err(io::Error::from)?;
    // The file is readable for its owner only, and appears complete and locked, or not at all.
    let mut file = tempfile::NamedTempFile::new_in(&dir)?;
    file.write_all(text.as_bytes())?;
    // Without locks of this file system, the process id tells whether the process runs.
    file.as_file().try_lock().ok();
    let path = dir.join(random(NAME_CHARS)).with_extension(EXTENSION);
    let file = file.persist_noclobber(&path).map_err(|error| error.error)?;
    Ok(Announcement { path, _file: file })
}

/// All workers that are announced, run, and can be reached from here. The files of killed workers are deleted.
pub(crate) fn find_all(cache_dir: &Path) -> Vec<LocalWorker> {
    let (dir, own) = (cache_dir.join(DIR), Place::own());
    // What another user wrote is not trusted.
    if private_files::check_own_dir(&dir).is_err() {
        return Vec::new();
    }
    let Ok(files) = fs::read_dir(dir) else { return Vec::new() };
    let paths = files.filter_map(|file| Some(file.ok()?.path()));
    let announced = paths.filter(|path| path.extension().is_some_and(|end| end == EXTENSION));
    let mut workers: Vec<LocalWorker> = announced.filter_map(|path| find(&path, &own)).collect();
    workers.sort_by_key(|worker| worker.pid);
    workers
}

/// The worker that has written this file, if it runs here. The file of a worker that has ended is deleted.
fn find(path: &Path, own: &Place) -> Option<LocalWorker> {
    let file = File::open(path).ok()?;
    let mut text = String::new();
    (&file).take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
    let worker: LocalWorker = serde_json::from_str(&text).ok()?;
    let runs = || Path::new(&format!("/proc/{}", worker.pid)).exists();
    let Some(place) = &worker.place else {
        // A worker of an older version, which has no lock.
        return if runs() { Some(worker) } else { forget(path) };
    };
    let (here, same_kernel) = (place == own, place.boot == own.boot);
    match file.try_lock_shared() {
        Ok(()) if same_kernel || age(&file) > FOREIGN_KEPT => forget(path),
        Err(TryLockError::Error(_)) if here && !runs() => forget(path),
        Ok(()) | Err(_) => Some(worker).filter(|_| here),
    }
}

/// Delete the file of a worker that has ended.
fn forget(path: &Path) -> Option<LocalWorker> {
    // Another command may have deleted it already.
    drop(fs::remove_file(path));
    None
}

/// The time since a file was written.
fn age(file: &File) -> Duration {
    let written = file.metadata().and_then(|found| found.modified());
    written.ok().and_then(|written| written.elapsed().ok()).unwrap_or_default()
}

/// A random token.
pub(crate) fn make_token() -> String {
    random(TOKEN_CHARS)
}

fn random(chars: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), chars)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> LocalWorker {
        LocalWorker::this_process("http://127.0.0.1:1".into(), &Secret("t".into()), Role::Worker)
    }

    fn files(cache: &Path) -> usize {
        fs::read_dir(cache.join(DIR)).unwrap().count()
    }

    #[test]
    fn worker_is_found_until_it_ends() {
        let cache = tempfile::tempdir().unwrap();
        let (first, second) = (announce(cache.path(), &worker()).unwrap(), announce(cache.path(), &worker()).unwrap());
        // Two containers may both have a process 1.
        assert_eq!(find_all(cache.path()).len(), 2);
        drop(first);
        assert_eq!((find_all(cache.path()).len(), files(cache.path())), (1, 1));
        // A killed process deletes nothing, and its lock ends.
        let path = second.path.clone();
        let killed = path.with_extension("old");
        fs::rename(&path, &killed).unwrap();
        drop(second);
        fs::rename(&killed, &path).unwrap();
        assert_eq!((find_all(cache.path()).len(), files(cache.path())), (0, 0));
    }

    #[test]
    fn worker_of_another_container_is_skipped_and_its_file_stays() {
        let cache = tempfile::tempdir().unwrap();
        let own = Place::own();
        let elsewhere = Place { processes: "pid:[1]".into(), ..own.clone() };
        let other = LocalWorker { place: Some(elsewhere), ..worker() };
        let announced = announce(cache.path(), &other).unwrap();
        assert_eq!((find_all(cache.path()).len(), files(cache.path())), (0, 1));
        let other = LocalWorker { place: Some(Place { boot: "b".into(), ..own }), ..worker() };
        let far = announce(cache.path(), &other).unwrap();
        far._file.unlock().unwrap();
        announced._file.unlock().unwrap();
        assert_eq!((find_all(cache.path()).len(), files(cache.path())), (0, 1), "the far one may have another lock");
    }

    #[test]
    fn directory_of_others_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let cache = tempfile::tempdir().unwrap();
        let _announced = announce(cache.path(), &worker()).unwrap();
        fs::set_permissions(cache.path().join(DIR), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(find_all(cache.path()).is_empty() && announce(cache.path(), &worker()).is_err());
    }
}
