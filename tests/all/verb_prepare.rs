//! `wasm-worker prepare`: the cache of compiled agents is filled before a worker starts.

use crate::support::harness::{guest, kept_file, path, run_guest, wasm_worker};

#[test]
fn prepare_fills_the_cache_and_names_what_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    let (first, second) = (guest("randomness"), guest("minimal"));
    let prepare = || wasm_worker(["prepare", path(&first), path(&second), "--cache-dir", path(&cache)]).done();
    let done = prepare();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let lines: Vec<Vec<String>> =
        done.stdout.lines().map(|line| line.split("  ").map(str::to_owned).collect()).collect();
    for (line, name) in lines.iter().zip(["randomness", "minimal"]) {
        let [agent, hash, _time, size, how] = line.as_slice() else { panic!("{line:?}") };
        assert_eq!((agent.as_str(), how.as_str()), (name, "compiled"));
        assert!(cache.join(hash).with_extension("agent").is_file(), "{hash}");
        assert!(size.ends_with("iB"), "{size}");
    }
    assert_eq!(lines.len(), 2);
    let again = prepare();
    assert_eq!(again.stdout.lines().filter(|line| line.ends_with("  cached")).count(), 2, "{}", again.stdout);

    let run = run_guest("randomness", ["--events", "-", "--cache-dir", path(&cache)]).done();
    let loaded = run.lines().into_iter().find(|line| line["event"] == "agent.loaded").unwrap();
    assert_eq!(loaded["cached"], true);
}

#[test]
fn prepare_tells_every_agent_that_it_cannot_prepare() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, good) = (kept_file("bad.wat", b"(component)"), guest("minimal"));
    let args = ["prepare", path(&bad), "nothing-here.wasm", path(&good), "--cache-dir", path(dir.path())];
    let done = wasm_worker(args).done();
    done.fails_with(3, &["agent `bad` does not implement", "the agent `nothing-here.wasm` cannot be read"]);
    assert!(done.stdout.starts_with("minimal  "), "{}", done.stdout);

    let file = dir.path().join("a-file");
    std::fs::write(&file, "in the way").unwrap();
    let unusable = wasm_worker(["prepare", path(&good), "--cache-dir", path(&file.join("cache"))]).done();
    unusable.fails_with(1, &["the cache directory `", "cannot be used", "hint: --cache-dir"]);
}
