//! `wasm-worker dispatch`: metadata from files and standard input, and the wait for a verdict.

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{eventually, path, run_guest};

#[test]
fn metadata_comes_from_a_file_or_from_standard_input() {
    let dispatcher = Dispatcher::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("metadata.json");
    let large = format!("{{\"text\": \"{}\"}}\n", "é".repeat(150 << 10));
    std::fs::write(&file, &large).unwrap();
    let from_file = format!("@{}", path(&file));
    for (written, stdin, wanted) in [
        (from_file.as_str(), "", large.as_str()),
        ("-", "from a pipe\n", "from a pipe\n"),
        ("@@name", "", "@name"),
        ("plain @text", "", "plain @text"),
        ("", "", ""),
    ] {
        let done = dispatcher.verb(["dispatch", "nobody", "--metadata", written]).stdin(stdin).done();
        assert_eq!(done.exit, 0, "{written}: {}", done.stderr);
        let id = done.stdout.split_whitespace().next().unwrap().to_owned();
        assert_eq!(dispatcher.job(&id)["metadata"], wanted, "{written}");
    }
    let done = dispatcher.verb(["dispatch", "nobody", "--metadata", "@/nowhere/x"]).done();
    done.fails_with(2, &["the metadata in `/nowhere/x` cannot be read: No such file", "hint: `@` before a name"]);
    std::fs::write(&file, vec![b'x'; 5 << 20]).unwrap();
    let done = dispatcher.verb(["dispatch", "nobody", "--metadata", &from_file]).done();
    done.fails_with(2, &["want at most 4194304 bytes"]);
    std::fs::write(&file, b"\xff").unwrap();
    run_guest("minimal", ["--metadata", &from_file]).done().fails_with(2, &["cannot be read: ", "UTF-8"]);
}

#[test]
fn wait_says_the_id_first_and_outlasts_a_restart_of_the_dispatcher() {
    let mut dispatcher = Dispatcher::start(&[]);
    let waiting = dispatcher.verb(["dispatch", "nobody", "--wait"]).start();
    waiting.says("pending: ");
    let said = waiting.said();
    let id = said.split_whitespace().next().unwrap().to_owned();
    assert!(id.starts_with("AD_") && said.starts_with(&format!("{id}  agent `nobody`  room `")), "{said}");
    dispatcher.kill();
    waiting.says("waiting for the dispatcher: ");
    dispatcher.start_again();
    eventually("it is open again", || (dispatcher.job(&id)["state"] == "pending").then_some(()));
    assert_eq!(dispatcher.verb(["cancel", &id]).done().exit, 0);
    let done = waiting.done();
    assert_eq!(done.exit, 15, "{}", done.stderr);
    assert!(done.stdout.starts_with("✘ cancelled: "), "{}", done.stdout);
}
