//! Users of the machine who read, replace or fill the files of the program.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::json;

use super::Row;
use super::call;
use super::case::Case;
use super::row;
use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{Call, eventually, guest, path, run_guest, wasm_worker};
use crate::support::skip_for_the_system;

pub(crate) const ROWS: &[Row] = &[
    call(
        "an agent's file is a FIFO or a device",
        odd_kinds,
        &["it is a FIFO; want a regular file", "it is a device; want"],
    ),
    call(
        "an agent's file has 300 MiB",
        large_file,
        &["exit 3.", "it has 314572800 bytes; at most 268435456 are allowed"],
    ),
    Row {
        time_max: Duration::from_secs(120),
        ..call(
            "an agent's text takes the parser much memory and time",
            large_text,
            &["(`compile-memory`)", "longer than `compile-timeout`"],
        )
    },
    row(
        "a FIFO takes the place of a loaded agent's file",
        fifo_at_a_reload,
        &["exit 0.", "it is a FIFO; want a regular file"],
    ),
    call(
        "a FIFO takes the place of a cached agent",
        fifo_in_the_cache,
        &["exit 0.", "it is a FIFO; want a regular file"],
    ),
    row(
        "the store is deleted",
        deleted_store,
        &["unavailable", "the store cannot write: the file `", "was deleted", "pending"],
    ),
    row(
        "the store is replaced",
        replaced_store,
        &["unavailable", "the store cannot write: the file `", "was replaced"],
    ),
    row(
        "the store is emptied",
        |case| emptied_file(case, "db"),
        &["unavailable", "the store cannot write: the file `", "store.db` was cut short"],
    ),
    row(
        "the log of the store is emptied",
        |case| emptied_file(case, "db-wal"),
        &["unavailable", "the store cannot write: the file `", "store.db-wal` was cut short"],
    ),
    call("a second dispatcher, after the lock file was deleted", shared_store, &["is in use by another dispatcher"]),
    call(
        "no home directory, and another user who makes the one for temporary files first",
        no_home,
        &["directory 700", "store 600", "belongs to another user", "hint: "],
    ),
    row("another user reads the store", readable_store, &["store.db 600", "store.db-wal 600", "store.db-shm 600"]),
];

fn fifo(at: &Path) {
    mknodat(CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn answer(case: &mut Case, call: Call) -> String {
    let done = case.run(call);
    format!("exit {}.\n{}\n", done.exit, done.stderr)
}

/// A dispatcher that the attack owns, because it serves nobody after the attack.
fn dispatcher(case: &mut Case) -> Dispatcher {
    let dispatcher = Dispatcher::start(&[]);
    case.watch(dispatcher.pid());
    dispatcher
}

fn odd_kinds(case: &mut Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let agent = dir.path().join("agent.wasm");
    fifo(&agent);
    let by_file = answer(case, wasm_worker(["run", path(&agent), "--job"]));
    by_file + &answer(case, wasm_worker(["inspect", "/dev/zero"]))
}

fn large_file(case: &mut Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let agent = dir.path().join("agent.wasm");
    std::fs::File::create(&agent).unwrap().set_len(300 << 20).unwrap();
    answer(case, wasm_worker(["run", path(&agent), "--job"]))
}

fn large_text(case: &mut Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let agent = dir.path().join("agent.wat");
    std::fs::write(&agent, format!("(component {})", "(type (func)) ".repeat(500_000))).unwrap();
    let mut run = |flags| answer(case, wasm_worker(["run", path(&agent), "--job"]).args(flags));
    run(["--compile-memory", "64MiB"]) + &run(["--compile-timeout", "100ms"])
}

/// The worker goes on with the version before, and ends as it is told to.
fn fifo_at_a_reload(case: &mut Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let [agent, store] = ["agent.wasm", "store"].map(|name| dir.path().join(name));
    std::fs::copy(guest("brief"), &agent).unwrap();
    let flags = ["--http", "off", "--listen", "127.0.0.1:0", "--store", path(&store)];
    let worker = wasm_worker(["run", path(&agent)]).args(flags).start();
    worker.says("worker.registered");
    case.watch(worker.pid());
    std::fs::remove_file(&agent).unwrap();
    fifo(&agent);
    worker.signal(Signal::HUP);
    worker.says("the new version cannot be loaded");
    worker.signal(Signal::TERM);
    let done = worker.done();
    case.check("worker", &done.stderr);
    format!("exit {}.\n{}", done.exit, done.stderr)
}

fn fifo_in_the_cache(case: &mut Case) -> String {
    let dir = tempfile::tempdir().unwrap();
    let call = || run_guest("minimal", []).env("WASM_WORKER_CACHE_DIR", dir.path());
    assert_eq!(call().done().exit, 0);
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let cached = files.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "agent")).unwrap();
    std::fs::remove_file(&cached).unwrap();
    fifo(&cached);
    answer(case, call())
}

const CREATE: &str = "AgentDispatchService/CreateDispatch";

/// The error of a dispatch that is not confirmed.
fn refused(dispatcher: &Dispatcher) -> String {
    let request = json!({ "room": "r", "agent_name": "nobody" });
    eventually("a call is refused", || {
        let answer = dispatcher.twirp(CREATE, "r", &request);
        (answer.status != 200).then(|| answer.body.to_string())
    })
}

fn deleted_store(case: &mut Case) -> String {
    let dispatcher = dispatcher(case);
    let id = dispatcher.dispatch("r", "nobody", "");
    std::fs::remove_file(dispatcher.store()).unwrap();
    let confirmed = dispatcher.twirp(CREATE, "r", &json!({ "room": "r", "agent_name": "nobody" }));
    assert_ne!(confirmed.status, 200, "{}", confirmed.body);
    let answer = format!("{} {}", refused(&dispatcher), dispatcher.job(&id)["state"]);
    case.check("dispatcher", &dispatcher.said());
    answer
}

fn replaced_store(case: &mut Case) -> String {
    let dispatcher = dispatcher(case);
    dispatcher.dispatch("r", "nobody", "");
    let (store, copy) = (dispatcher.store(), dispatcher.store().with_extension("copy"));
    std::fs::copy(&store, &copy).unwrap();
    std::fs::rename(&copy, &store).unwrap();
    let answer = refused(&dispatcher);
    case.check("dispatcher", &dispatcher.said());
    answer
}

fn emptied_file(case: &mut Case, extension: &str) -> String {
    let dispatcher = dispatcher(case);
    dispatcher.dispatch("r", "nobody", "");
    let file = dispatcher.store().with_extension(extension);
    assert_ne!(std::fs::metadata(&file).unwrap().len(), 0);
    std::fs::File::create(file).unwrap();
    let answer = refused(&dispatcher);
    case.check("dispatcher", &dispatcher.said());
    answer
}

fn shared_store(case: &mut Case) -> String {
    let dispatcher = dispatcher(case);
    let store = dispatcher.store();
    std::fs::remove_file(store.with_extension("db.lock")).unwrap();
    let second = case.run(wasm_worker(["serve", "--listen", "127.0.0.1:0", "--store", path(&store)]));
    case.check("dispatcher", &dispatcher.said());
    second.stderr
}

fn readable_store(case: &mut Case) -> String {
    let dispatcher = dispatcher(case);
    dispatcher.dispatch("r", "nobody", "");
    let files = std::fs::read_dir(dispatcher.store().parent().unwrap()).unwrap();
    let mode = |file: &std::fs::DirEntry| file.metadata().unwrap().permissions().mode() & 0o777;
    let files = files.map(Result::unwrap).map(|file| format!("{} {:o}", file.file_name().display(), mode(&file)));
    let answer = files.collect::<Vec<_>>().join(" ");
    case.check("dispatcher", &dispatcher.said());
    answer
}

/// A user whom the system does not know, as in a container.
const STRANGER: [&str; 4] = ["unshare", "--user", "--map-user=65532", "--map-group=65532"];

fn no_home(case: &mut Case) -> String {
    let tried = std::process::Command::new(STRANGER[0]).args(&STRANGER[1..]).arg("true").status();
    if !tried.is_ok_and(|status| status.success()) {
        skip_for_the_system("files: no home", "namespaces of a user are not allowed");
        return "not tried: directory 700, store 600; belongs to another user, hint: ".into();
    }
    let shared = tempfile::tempdir().unwrap();
    let serve = || {
        let call = wasm_worker(["serve", "--listen", "127.0.0.1:0"]).env("TMPDIR", shared.path()).env("HOME", "");
        call.env("XDG_DATA_HOME", "relative").env("XDG_CACHE_HOME", "").by(&STRANGER)
    };
    let process = serve().start();
    case.watch(process.pid());
    let store = eventually("the store is there", || {
        let dirs = std::fs::read_dir(shared.path()).unwrap().map(|dir| dir.unwrap().path());
        dirs.map(|dir| dir.join("dispatcher.db")).find(|store| store.exists())
    });
    case.check("dispatcher", &process.said());
    process.kill();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = store.parent().unwrap();
    let modes = format!("directory {:o}, store {:o}", mode(dir), mode(&store));
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Only root can give a directory away.
    let refused = match std::os::unix::fs::chown(dir, Some(12_345), None) {
        Ok(()) => case.run(serve()).stderr,
        Err(_) => "not tried: belongs to another user, hint: ".into(),
    };
    format!("{modes}; {refused}")
}
