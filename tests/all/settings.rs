//! Settings at their largest values, variables that are mistyped, URLs and addresses, and flags that a verb does not have.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::Signal;
use wasm_worker::config::{SETTINGS, Setting};

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{eventually, guest, path, run_guest, wasm_worker};

/// Quantities of this placeholder: each with its largest value, as flags.
fn largest(of: impl Fn(&Setting) -> bool) -> Vec<(String, &'static str)> {
    let rows = SETTINGS.iter().filter(|setting| !setting.is_text() && of(setting));
    rows.map(|setting| (format!("--{}", setting.key), setting.largest)).collect()
}

/// The settings whose largest value a small machine refuses: each idle instance takes addresses and memory mappings.
const MAY_BE_REFUSED: [&str; 1] = ["--idle"];

#[test]
fn largest_value_of_each_setting_works_or_is_refused() {
    for (flag, value) in largest(|_| true) {
        let done = run_guest("minimal", [flag.as_str(), value]).done();
        assert!(!done.stderr.contains("panicked at"), "{flag} {value}: {}", done.stderr);
        // A job runs alone, so no other number of jobs is tried.
        let right = done.exit == 0 && done.stderr.contains("completed");
        let too_much = ["of addresses, and the limit of this process is ", "memory mappings, and the kernel allows "];
        let refused = done.exit == 2 && too_much.iter().any(|part| done.stderr.contains(part));
        let refused = refused && MAY_BE_REFUSED.contains(&flag.as_str());
        assert!(right || refused, "{flag} {value}: {} {}", done.exit, done.stderr);
        let more = match value.find(|c: char| !c.is_ascii_digit()) {
            Some(unit) => format!("{}1{}", &value[..unit], &value[unit..]),
            None => format!("{value}1"),
        };
        run_guest("minimal", [flag.as_str(), &more]).done().fails_with(2, &[&format!("want at most {value}")]);
    }
}

#[test]
fn longest_times_of_a_worker_work() {
    let dispatcher = Dispatcher::start(&["--retention", "3650d", "--queue-deadline", "365d", "--lost-after", "24h"]);
    let times = largest(|setting| setting.value == "TIME" && !setting.key.starts_with("queue"));
    let of_worker = |key: &str| !["--retention", "--lost-after"].contains(&key);
    let flags: Vec<&str> =
        times.iter().filter(|(flag, _)| of_worker(flag)).flat_map(|(flag, value)| [flag.as_str(), *value]).collect();
    let worker = dispatcher.worker(&["obedient"], &flags);
    let id = dispatcher.dispatch("r", "obedient", "");
    dispatcher.in_state(&id, "running");
    // The drain and the grace are as long, and the job obeys.
    worker.signal(Signal::TERM);
    dispatcher.verb(["cancel", &id]).done();
    assert_eq!(dispatcher.ended(&id)["code"], "terminated");
    let done = worker.done();
    assert_eq!((done.exit, done.stderr.contains("panicked at")), (0, false), "{}", done.stderr);
}

#[test]
fn mistyped_variables_and_a_missing_url_are_told_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.db");
    let call = wasm_worker(["run", path(&guest("minimal")), "--listen", "127.0.0.1:0", "--http", "off", "--store"]);
    let call = call.args([path(&store)]).env("LIVEKIT_URL", "").env("LIVEKIT_API_KEY", "key");
    let call = call.env("LIVEKIT_API_SECRET", "secret-of-somebody").env("LIVEKIT_ULR", "ws://nowhere");
    let call = call.env("WASM_WORKER_MAXJOBS", "5").env("LIVEKIT_CONFIG", "server.yaml");
    let worker = call.start();
    worker.says("LIVEKIT_URL is empty: this worker serves an embedded dispatcher");
    worker.says("`LIVEKIT_ULR` is no setting and has no effect; did you mean `LIVEKIT_URL`?");
    worker.says("`WASM_WORKER_MAXJOBS` is no setting and has no effect; did you mean `WASM_WORKER_MAX_JOBS`?");
    worker.says("worker.registered");
    worker.signal(Signal::TERM);
    let said = worker.done().stderr;
    assert!(!said.contains("LIVEKIT_CONFIG") && !said.contains("secret-of-somebody"), "{said}");
}

#[test]
fn wrong_url_is_refused_with_what_to_change() {
    for (url, part) in [
        ("tcp://localhost:7880", "want ws://, wss://, http://, https:// and a host, not `tcp://`"),
        ("localhost:7880", "such as ws://localhost:7880"),
        ("ws://localhost:99999", "the port `99999` is not between 1 and 65535"),
        ("ws://localhost:7880/?x=1", "remove `?x=1`"),
        ("ws://localhost:7880/agent", "remove the path `/agent`"),
    ] {
        wasm_worker(["workers"]).env("LIVEKIT_URL", url).done().fails_with(2, &["`url` (LIVEKIT_URL)", url, part]);
    }
}

#[test]
fn value_that_is_not_utf_8_is_named() {
    let odd = std::ffi::OsStr::from_bytes(b"\xff");
    let done = wasm_worker(["config", "check"]).env("WASM_WORKER_MAX_JOBS", odd).done();
    done.fails_with(2, &["`max-jobs` (WASM_WORKER_MAX_JOBS): the value is not UTF-8"]);
    let done = wasm_worker(["dispatch", "x"]).env("LIVEKIT_AGENT_DEPLOYMENT", odd).done();
    done.fails_with(2, &["--deployment", "not UTF-8"]);
}

#[test]
fn flags_that_a_dispatcher_has_no_use_for_are_refused() {
    for flag in ["--max-jobs", "--drain-timeout", "--fuel-limit", "--url"] {
        wasm_worker(["serve", flag, "1"]).done().fails_with(2, &["unexpected argument", flag]);
    }
}

#[test]
fn http_is_served_at_the_address_that_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.db");
    for (address, logged) in [("localhost:0", "127.0.0.1:"), (":0", "0.0.0.0:")] {
        let call = wasm_worker(["run", path(&guest("minimal")), "--listen", "127.0.0.1:0", "--http", address]);
        let worker = call.args(["--store", path(&store), "--cache-dir", path(dir.path())]).start();
        let port = eventually("it says where", || {
            let said = worker.said();
            let (port, _) = said.split_once(&format!("http.listening address={logged}"))?.1.split_once('\n')?;
            port.parse::<u16>().ok()
        });
        let live = ureq::get(format!("http://127.0.0.1:{port}/live")).call().unwrap();
        assert_eq!(live.status().as_u16(), 200);
        worker.kill();
    }
}

#[test]
fn config_check_refuses_as_many_jobs_as_a_worker_refuses() {
    let done = wasm_worker(["config", "check", "--max-jobs", "20000"]).done();
    done.fails_with(2, &["`max-jobs` (all sources together): ", "instances at once"]);
}

#[test]
fn settings_of_version_1_open() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/all/settings/version_1.toml");
    let done = wasm_worker(["config", "check", "--config", path(&file)]).done();
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    let text = std::fs::read_to_string(&file).unwrap();
    let keys: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    assert!(keys.len() > 58);
    for key in keys {
        assert!(done.stdout.contains(&format!("{key} = ")), "{key}: {}", done.stdout);
    }
}
