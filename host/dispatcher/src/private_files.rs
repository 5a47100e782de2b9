//! Files and directories that only their user can read, from their first byte on.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The permissions of a new directory.
const DIR_MODE: u32 = 0o700;
/// The permissions of a new file.
const FILE_MODE: u32 = 0o600;
/// The permissions with which others can write.
const OTHERS_WRITE: u32 = 0o022;

/// Create a directory and its parents where they are missing. What exists keeps its permissions.
///
/// # Errors
/// When the directory cannot be created.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir)
}

/// The same, for a directory whose files this process trusts.
///
/// # Errors
/// When the directory cannot be created, belongs to another user, or can be written by others.
pub fn create_own_dir(dir: &Path) -> io::Result<()> {
    create_dir(dir)?;
    check_own_dir(dir)
}

/// Check that a directory belongs to this user, and that others cannot write it.
///
/// # Errors
/// When the directory cannot be read, belongs to another user, or can be written by others.
pub fn check_own_dir(dir: &Path) -> io::Result<()> {
    let found = check_owner(dir)?;
    if found.mode() & OTHERS_WRITE != 0 {
        return Err(refused(dir, "can be written by others"));
    }
    Ok(())
}

/// Check that a directory belongs to this user.
pub(crate) fn check_owner(dir: &Path) -> io::Result<Metadata> {
    // The dot makes a link to a directory count as the directory.
    let found = std::fs::symlink_metadata(dir.join("."))?;
    if is_own(&found) { Ok(found) } else { Err(refused(dir, "belongs to another user")) }
}

fn refused(dir: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("the directory `{}` {why}", dir.display()))
}

/// The options that open a file for writing and create it where it is missing. A file that exists keeps its permissions.
pub fn creating() -> OpenOptions {
    let mut options = File::options();
    options.create(true).write(true).truncate(false).mode(FILE_MODE);
    options
}

/// Take the permissions of other users away from an open file of this user.
///
/// # Errors
/// When the permissions cannot be changed.
pub(crate) fn close_to_others(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    if !is_own(&found) || found.mode() & 0o077 == 0 {
        return Ok(());
    }
    file.set_permissions(std::fs::Permissions::from_mode(FILE_MODE))
}

fn is_own(found: &Metadata) -> bool {
    found.uid() == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn new_directories_and_files_are_private() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("a/b");
        create_own_dir(&dir).unwrap();
        let file = creating().open(dir.join("file")).unwrap();
        assert_eq!((mode(&base.path().join("a")), mode(&dir), mode(&dir.join("file"))), (0o700, 0o700, 0o600));
        file.set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
        close_to_others(&file).unwrap();
        assert_eq!(mode(&dir.join("file")), 0o600);
    }

    #[test]
    fn directory_that_others_can_write_is_refused() {
        let base = tempfile::tempdir().unwrap();
        std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let why = create_own_dir(base.path()).unwrap_err().to_string();
        assert!(why.contains("can be written by others"), "{why}");
        let why = check_own_dir(Path::new("/proc/1")).map_err(|error| error.to_string());
        assert!(is_own(&std::fs::metadata("/proc/1").unwrap()) || why.is_err());
    }
}
