//! Users of the machine who read, replace or fill the files of the program.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;

use super::case::Case;
use super::{Row, row};
use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{eventually, wasm_worker};

pub(crate) const ROWS: &[Row] = &[
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
    row("a second dispatcher, after the lock file was deleted", shared_store, &["is in use by another dispatcher"]),
    row(
        "no home directory, and another user who makes the one for temporary files first",
        no_home,
        &["directory 700", "store 600", "belongs to another user", "hint: "],
    ),
    row("another user reads the store", readable_store, &["store.db 600", "store.db-wal 600", "store.db-shm 600"]),
];

const CREATE: &str = "AgentDispatchService/CreateDispatch";

/// The error of a dispatch that is not confirmed.
fn refused(dispatcher: &Dispatcher) -> String {
    let request = json!({ "room": "r", "agent_name": "nobody" });
    eventually("a call is refused", || {
        let answer = dispatcher.twirp(CREATE, "r", &request);
        (answer.status != 200).then(|| answer.body.to_string())
    })
}

fn deleted_store(_: &mut Case) -> String {
    let dispatcher = Dispatcher::start(&[]);
    let id = dispatcher.dispatch("r", "nobody", "");
    std::fs::remove_file(dispatcher.store()).unwrap();
    let confirmed = dispatcher.twirp(CREATE, "r", &json!({ "room": "r", "agent_name": "nobody" }));
    assert_ne!(confirmed.status, 200, "{}", confirmed.body);
    format!("{} {}", refused(&dispatcher), dispatcher.job(&id)["state"])
}

fn replaced_store(_: &mut Case) -> String {
    let dispatcher = Dispatcher::start(&[]);
    dispatcher.dispatch("r", "nobody", "");
    let (store, copy) = (dispatcher.store(), dispatcher.store().with_extension("copy"));
    std::fs::copy(&store, &copy).unwrap();
    std::fs::rename(&copy, &store).unwrap();
    refused(&dispatcher)
}

fn shared_store(_: &mut Case) -> String {
    let dispatcher = Dispatcher::start(&[]);
    let store = dispatcher.store();
    std::fs::remove_file(store.with_extension("db.lock")).unwrap();
    wasm_worker(["serve", "--listen", "127.0.0.1:0", "--store", store.to_str().unwrap()]).done().stderr
}

fn readable_store(_: &mut Case) -> String {
    let dispatcher = Dispatcher::start(&[]);
    dispatcher.dispatch("r", "nobody", "");
    let files = std::fs::read_dir(dispatcher.store().parent().unwrap()).unwrap();
    let mode = |file: &std::fs::DirEntry| file.metadata().unwrap().permissions().mode() & 0o777;
    let files = files.map(Result::unwrap).map(|file| format!("{} {:o}", file.file_name().display(), mode(&file)));
    files.collect::<Vec<_>>().join(" ")
}

fn no_home(_: &mut Case) -> String {
    let shared = tempfile::tempdir().unwrap();
    let serve = || {
        let call = wasm_worker(["serve", "--listen", "127.0.0.1:0"]).env("TMPDIR", shared.path()).env("HOME", "");
        call.env("XDG_DATA_HOME", "relative").env("XDG_CACHE_HOME", "")
    };
    let process = serve().start();
    let store = eventually("the store is there", || {
        let dirs = std::fs::read_dir(shared.path()).unwrap().map(|dir| dir.unwrap().path());
        dirs.map(|dir| dir.join("dispatcher.db")).find(|store| store.exists())
    });
    process.kill();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = store.parent().unwrap();
    let modes = format!("directory {:o}, store {:o}", mode(dir), mode(&store));
    // Only root can give a directory away.
    let refused = match std::os::unix::fs::chown(dir, Some(12_345), None) {
        Ok(()) => serve().done().stderr,
        Err(_) => "not tried: belongs to another user, hint: ".into(),
    };
    format!("{modes}; {refused}")
}
