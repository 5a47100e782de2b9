//! `wasm-worker new` and `wasm-worker build`: crates outside of the repository, and crates that do not compile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::harness::{root, wasm_worker};

#[test]
fn new_crate_builds_and_runs_outside_of_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    let made = wasm_worker(["new", "my-agent"]).dir(dir.path()).done();
    assert_eq!(made.exit, 0, "{}", made.stderr);
    assert!(made.stderr.contains("a copy of the SDK in `my-agent/wasm-worker-sdk`"), "{}", made.stderr);
    assert!(made.stderr.contains("wasm-worker run my-agent --job"));
    let locked = std::fs::read_to_string(dir.path().join("my-agent/Cargo.lock")).unwrap();

    // The crate needs no other directory, so it can be moved.
    let moved = dir.path().join("moved");
    std::fs::create_dir(&moved).unwrap();
    std::fs::rename(dir.path().join("my-agent"), moved.join("my-agent")).unwrap();
    let ran = wasm_worker(["run", "my-agent", "--job"]).dir(&moved).done();
    assert!(ran.stderr.contains("nobody came"), "{}", ran.stderr);
    assert_eq!((ran.exit, ran.code().as_str()), (0, "completed"), "{}", ran.stderr);
    assert_eq!(ran.record()["agent"], "my-agent");
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
    assert_eq!(
        std::fs::read_to_string(moved.join("my-agent/Cargo.lock")).unwrap(),
        locked,
        "cargo chose other versions"
    );

    // The name `agent` is also one of the SDK's.
    let made = wasm_worker(["new", "agent"]).dir(dir.path()).done();
    assert_eq!(made.exit, 0, "{}", made.stderr);
    let target = moved.join("my-agent/target");
    let ran = wasm_worker(["run", "agent", "--job"]).dir(dir.path()).env("CARGO_TARGET_DIR", &target).done();
    assert_eq!(ran.code(), "completed", "{}", ran.stderr);

    let built = wasm_worker(["build", "my-agent"]).dir(&moved).done();
    assert_eq!(built.exit, 0, "{}", built.stderr);
    assert!(Path::new(built.stdout.trim()).is_file());

    let source = moved.join("my-agent/src/lib.rs");
    let broken = std::fs::read_to_string(&source).unwrap().replacen("Ok(())", "Ok(1)", 1);
    std::fs::write(&source, broken).unwrap();
    let failed = wasm_worker(["run", "my-agent", "--job"]).dir(&moved).done();
    failed.fails_with(3, &["mismatched types", "src/lib.rs:", "error: the crate in `my-agent` does not compile"]);
    assert_eq!(failed.stdout, "");
}

#[test]
fn new_crate_passes_its_tests() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(wasm_worker(["new", "my-agent"]).dir(dir.path()).done().exit, 0);
    let created = dir.path().join("my-agent");
    let done = wasm_worker(["test", "my-agent"]).dir(dir.path()).done();
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("tests/hello.yaml") && done.stdout.contains("1 passed, 0 failed"), "{}", done.stdout);

    let cargo = || {
        let mut cargo = std::process::Command::new("cargo");
        cargo.args(["test", "--offline"]).current_dir(&created).env("WASM_WORKER", env!("CARGO_BIN_EXE_wasm-worker"));
        cargo.env("WASM_WORKER_CACHE_DIR", crate::support::harness::cache_dir());
        let output = cargo.env_remove("CARGO_TARGET_DIR").output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.success(), stdout, stderr)
    };
    let (passed, stdout, stderr) = cargo();
    assert!(passed && stdout.contains("2 passed; 0 failed"), "{stdout}{stderr}");
    assert!(!stderr.contains("warning"), "{stderr}");

    // What the agent does wrong is told where the author looks.
    let source = created.join("src/lib.rs");
    let rude = std::fs::read_to_string(&source).unwrap().replace("\"hello\"", "\"go away\"");
    std::fs::write(&source, rude).unwrap();
    let (passed, stdout, stderr) = cargo();
    assert!(!passed && stdout.contains("1 passed; 1 failed"), "{stdout}{stderr}");
    assert!(stdout.contains("hello.yaml:5: expected a text that contains \"hello\""), "{stdout}");
    assert!(stdout.contains("+ 0.000s lk.transcription \"go away\""), "{stdout}");
}

/// The files below a directory, by their paths in it.
fn files(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => drop(
                    found.insert(path.strip_prefix(dir).unwrap().to_owned(), std::fs::read_to_string(path).unwrap()),
                ),
            }
        }
    }
    found
}

fn toml(path: &Path) -> toml::Table {
    std::fs::read_to_string(path).unwrap().parse().unwrap()
}

#[test]
fn program_carries_the_whole_sdk() {
    let dir = tempfile::tempdir().unwrap();
    wasm_worker(["new", "my-agent"]).dir(dir.path()).done();
    let (created, sdk) = (dir.path().join("my-agent"), root().join("guest-sdk"));
    for part in ["src", "wit", "models/src"] {
        let (copied, original) = (files(&created.join("wasm-worker-sdk").join(part)), files(&sdk.join(part)));
        let names = |files: &BTreeMap<PathBuf, String>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(
            names(&copied),
            names(&original),
            "host/src/cli/new/sources.rs lacks a file of the SDK or of the models, or has one too many"
        );
        assert!(copied == original, "the program was not built from these files");
    }
    let copied = files(&created.join("wasm-worker-test/src"));
    assert!(
        copied == files(&root().join("host/test/src")),
        "`TEST_FILES` in host/src/cli/new/sources.rs differs from host/test"
    );
    let repository = root().display().to_string();
    for (path, text) in files(&created) {
        assert!(!text.contains(&repository), "{} names the repository", path.display());
    }
}

#[test]
fn new_crate_has_the_versions_of_the_repository() {
    let dir = tempfile::tempdir().unwrap();
    wasm_worker(["new", "my-agent"]).dir(dir.path()).done();
    let created = dir.path().join("my-agent");

    let workspace = toml(&root().join("Cargo.toml"));
    for (copied, original) in [("wasm-worker-sdk", "guest-sdk"), ("wasm-worker-sdk/models", "guest-sdk/models")] {
        let mut expanded = toml(&root().join(original).join("Cargo.toml"));
        expanded.remove("lints");
        let package = expanded["package"].as_table_mut().unwrap();
        package.remove("include");
        inherit(package, &workspace["workspace"]["package"]);
        inherit(expanded["dependencies"].as_table_mut().unwrap(), &workspace["workspace"]["dependencies"]);
        assert_eq!(toml(&created.join(copied).join("Cargo.toml")), expanded);
    }
    let mut expanded = toml(&root().join("host/test/Cargo.toml"));
    expanded.remove("lints");
    let package = expanded["package"].as_table_mut().unwrap();
    package.remove("include");
    inherit(package, &workspace["workspace"]["package"]);
    assert_eq!(toml(&created.join("wasm-worker-test/Cargo.toml")), expanded);

    let (lock, locked) = (toml(&created.join("Cargo.lock")), toml(&root().join("Cargo.lock")));
    for package in lock["package"].as_array().unwrap() {
        let known = package["name"] == "my-agent".into() || locked["package"].as_array().unwrap().contains(package);
        assert!(known, "{package:?}");
    }
}

/// Replaces each `workspace = true` by the value that stands for.
fn inherit(table: &mut toml::Table, workspace: &toml::Value) {
    for (key, value) in table.iter_mut() {
        if value.get("workspace").is_some() {
            *value = workspace[key].clone();
        }
    }
}

#[test]
fn invalid_crate_name_creates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let [form, taken] = ["hint: want lower-case letters", "hint: Rust or the new crate uses this name"];
    let names = [("My-Agent", form), ("1st", form), ("a b", form), ("../up", form)];
    for (name, hint) in names.into_iter().chain([("test", taken), ("self", taken), ("fn", taken)]) {
        let failed = wasm_worker(["new", name]).dir(dir.path()).done();
        failed.fails_with(2, &["cannot be the name of an agent crate", hint]);
    }
    std::fs::create_dir(dir.path().join("there")).unwrap();
    wasm_worker(["new", "there"]).dir(dir.path()).done().fails_with(2, &["`there` exists already"]);
    let missing = wasm_worker(["new", "agent", "--sdk", "nowhere"]).dir(dir.path()).done();
    missing.fails_with(2, &["`nowhere` is not the directory of the guest SDK"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "something was left behind");
}

#[test]
fn directory_without_a_component_crate_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    wasm_worker(["build", path]).done().fails_with(3, &["has no `Cargo.toml`", "hint: `wasm-worker new NAME`"]);
    wasm_worker(["run", path, "--job"]).done().fails_with(3, &["is not the directory of a crate"]);

    let missing = wasm_worker(["build", "/nowhere/at/all"]).done();
    missing.fails_with(3, &["`/nowhere/at/all` is not a directory"]);

    let sdk = root().join("guest-sdk");
    wasm_worker(["build", sdk.to_str().unwrap()]).done().fails_with(3, &["builds no component", "crate-type"]);
}

/// A toolchain without the target, and a rustup that does what it is told and tells it.
#[cfg(unix)]
#[test]
fn missing_target_is_added_with_rustup() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Cargo.toml"), "").unwrap();
    let tools = dir.path().join("bin");
    std::fs::create_dir(&tools).unwrap();
    let script = |name: &str, text: &str| {
        let path = tools.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    script("rustc", "echo /nowhere");
    script("cargo", "echo cargo \"$1\" >> calls; exit 1");
    script("rustup", "echo rustup \"$@\" >> calls");
    let run = || {
        let path = dir.path().to_str().unwrap();
        wasm_worker(["build", path]).env("PATH", &tools).env("RUSTUP_AUTO_INSTALL", "0").done()
    };
    run().fails_with(3, &["adding the target `wasm32-wasip2` with rustup", "does not compile"]);
    let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap();
    assert_eq!(calls, "rustup target add wasm32-wasip2\ncargo build\n");

    script("rustup", "echo no network >&2; exit 1");
    run().fails_with(3, &["no network", "`rustup target add wasm32-wasip2` failed", "hint:"]);
    std::fs::remove_file(tools.join("rustc")).unwrap();
    run().fails_with(3, &["`rustc` cannot be started", "https://rustup.rs"]);
}
