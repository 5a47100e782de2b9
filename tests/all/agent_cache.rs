//! The cache of compiled agents: only authentic files are loaded, and a cache that is unusable costs no job.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::harness::{Done, run_guest};

fn run(cache: &Path) -> Done {
    run_guest("randomness", ["--events", "-"]).env("WASM_WORKER_CACHE_DIR", cache).done()
}

fn cached(done: &Done) -> bool {
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let lines = done.lines();
    let loaded = lines.iter().find(|line| line["event"] == "agent.loaded").unwrap();
    loaded["cached"].as_bool().unwrap()
}

fn artifacts(cache: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "agent")).collect()
}

#[test]
fn second_run_loads_the_agent_from_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("not/there/yet");
    assert!(!cached(&run(&cache)));
    assert!(cached(&run(&cache)));
    assert_eq!(artifacts(&cache).len(), 1);
}

#[test]
fn tampered_file_is_refused_and_compiled_again() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path());
    let [file] = artifacts(dir.path()).try_into().unwrap();
    let good = std::fs::read(&file).unwrap();
    let middle = good.len() / 2;
    let mut flipped = good.clone();
    flipped[middle] ^= 1;
    for bad in [flipped, good[..middle].to_vec(), good[..10].to_vec(), Vec::new(), b"\x7fELF".repeat(100)] {
        std::fs::write(&file, bad).unwrap();
        let done = run(dir.path());
        assert!(!cached(&done));
        assert!(done.stderr.contains("cached agent refused, compiling it again"), "{}", done.stderr);
        assert!(cached(&run(dir.path())));
    }
}

#[test]
fn file_of_another_user_is_refused() {
    let (mine, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run(mine.path());
    run(theirs.path());
    let (my_file, their_file) = (artifacts(mine.path()).remove(0), artifacts(theirs.path()).remove(0));
    std::fs::copy(their_file, my_file).unwrap();
    let done = run(mine.path());
    assert!(!cached(&done));
    assert!(done.stderr.contains("its MAC is wrong"), "{}", done.stderr);
}

#[test]
fn unwritable_cache_costs_a_warning_and_no_job() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    std::fs::write(&file, "in the way").unwrap();
    let done = run(&file.join("cache"));
    assert!(!cached(&done));
    assert!(done.stderr.contains("agents are compiled at each start (set --cache-dir)"), "{}", done.stderr);

    let broken = dir.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    let key = broken.join("mac.key");
    std::fs::write(&key, "short").unwrap();
    std::fs::set_permissions(&broken, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let done = run(&broken);
    assert!(done.stderr.contains("its `mac.key` can be read by others"), "{}", done.stderr);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let done = run(&broken);
    assert!(!cached(&done));
    assert!(done.stderr.contains("its `mac.key` has 5 bytes, want 32; remove it"), "{}", done.stderr);
}

#[test]
fn key_is_readable_by_its_user_only() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    run(&cache);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&cache), mode(&cache.join("mac.key"))), (0o700, 0o600));
}
