//! The processes that the program starts: they get no secret that they have no use for, and none is left behind.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::support::harness::{Call, eventually, guest, path, wasm_worker};
use crate::support::skip_for_the_system;

/// A worker with an embedded dispatcher, whose store is in this directory.
fn worker(dir: &Path) -> Call {
    let store = dir.join("store");
    let flags = ["--http", "off", "--listen", "127.0.0.1:0", "--store", path(&store)];
    wasm_worker(["run", path(&guest("brief"))]).args(flags)
}

#[test]
fn event_command_gets_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let variables = dir.path().join("variables");
    let command = format!("export -p > {0}.new; mv {0}.new {0}; cat > /dev/null", path(&variables));
    let worker = worker(dir.path())
        .args(["--event-command", &command])
        .env("LIVEKIT_API_KEY", "my-key")
        .env("LIVEKIT_API_SECRET", "my-secret-my-secret-my-secret-my")
        .env("WASM_WORKER_HTTP_TOKEN", "my-token")
        .env("WASM_WORKER_LOG_LEVEL", "info")
        .start();
    worker.says("worker.registered");
    let got = eventually("it gets events", || std::fs::read_to_string(&variables).ok());
    assert!(!got.contains("my-") && got.contains("PATH=") && got.contains("WASM_WORKER_LOG_LEVEL="), "{got}");
    worker.signal(Signal::TERM);
    assert_eq!(worker.done().exit, 0);
}

/// Tools that say what they get, in place of the real ones.
#[test]
fn build_of_a_crate_gets_no_variable_of_the_program_and_no_flags_of_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("Cargo.toml"), "").unwrap();
    let tools = dir.path().join("bin");
    std::fs::create_dir(&tools).unwrap();
    let variables = dir.path().join("variables");
    for tool in ["rustc", "cargo", "rustup"] {
        let script = tools.join(tool);
        std::fs::write(&script, format!("#!/bin/sh\nexport -p >> {}\nexit 1\n", path(&variables))).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let got = || std::fs::read_to_string(&variables).unwrap();
    let call = |args: &[&'static str]| {
        wasm_worker(args.iter().copied())
            .args([path(dir.path())])
            .env("PATH", &tools)
            .env("CARGO", tools.join("cargo"))
            .env("LIVEKIT_API_SECRET", "mine")
            .env("LIVEKIT_URL", "ws://mine")
            .env("WASM_WORKER_HTTP_TOKEN", "mine")
            .env("RUSTFLAGS", "-C link-arg=mine")
            .env("CARGO_ENCODED_RUSTFLAGS", "-Clink-arg=mine")
            .done()
    };
    // `rustc` and `rustup`, then cargo, which is asked for the name of the crate.
    assert_eq!(call(&["build"]).exit, 3);
    assert_eq!(call(&["run"]).exit, 3);
    assert!(got().matches("PATH=").count() >= 3 && !got().contains("mine"), "{}", got());

    let rustc = tools.join("rustc");
    std::fs::write(rustc, "#!/bin/sh\necho /\n").unwrap();
    let built = call(&["build"]);
    built.fails_with(3, &["agents are built without `RUSTFLAGS`", "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS"]);
    assert!(!got().contains("mine"), "{}", got());
}

#[test]
fn worker_processes_get_no_secret_of_their_supervisor() {
    let dir = tempfile::tempdir().unwrap();
    let supervisor = worker(dir.path())
        .args(["--workers", "2"])
        .env("LIVEKIT_KEYS", "devkey: secret, other: withheld-secret")
        .env("WASM_WORKER_EVENT_COMMAND", "cat > /dev/null # withheld-hook")
        .start();
    let read = |pid: &u32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let processes = eventually("its processes run", || {
        let processes = children(supervisor.pid()).into_iter();
        let processes: Vec<u32> = processes.filter(|pid| read(pid, "cmdline").contains("--supervised")).collect();
        Some(processes).filter(|processes| processes.len() == 2)
    });
    for pid in processes {
        let variables = read(&pid, "environ");
        assert!(variables.contains("LIVEKIT_API_SECRET=secret"), "{variables}");
        assert!(!variables.contains("withheld-"), "{variables}");
    }
    eventually("both serve", || (supervisor.said().matches("worker.registered").count() >= 2).then_some(()));
    supervisor.signal(Signal::TERM);
    assert_eq!(supervisor.done().exit, 0);
}

/// Process 1 of a namespace. Its event command leaves a process behind that ends.
#[test]
fn process_1_waits_for_orphans() {
    let namespace = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let tried = Command::new(namespace[0]).args(&namespace[1..]).arg("true").status();
    if !tried.is_ok_and(|status| status.success()) {
        return skip_for_the_system("process_1_waits_for_orphans", "namespaces of a user are not allowed");
    }
    let dir = tempfile::tempdir().unwrap();
    let command = "(/bin/sh -c 'sleep 0.1' & ) ; cat > /dev/null";
    let unshare = worker(dir.path()).args(["--event-command", command]).by(&namespace).start();
    unshare.says("worker.registered");
    let init = eventually("it runs", || children(unshare.pid()).first().copied());
    let zombies = || children(init).into_iter().filter(|pid| state(*pid) == Some('Z')).count();
    eventually("the orphan ends", || (zombies() == 1).then_some(()));
    eventually("the orphan is waited for", || (zombies() == 0).then_some(()));
    rustix::process::kill_process(rustix::process::Pid::from_raw(init.cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(unshare.done().exit, 0);
}

fn children(of: u32) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fields(*pid).is_some_and(|fields| fields.get(1) == Some(&of.to_string()))).collect()
}

fn state(pid: u32) -> Option<char> {
    fields(pid)?.first()?.chars().next()
}

/// What follows the name of a process: its state, its parent and more.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}
