//! What an operator sees of a worker and does to it: HTTP, the verbs that use it, metrics, `config check`.

use std::io::{BufRead, BufReader};

use livekit_protocol as proto;
use serde_json::Value;

use crate::documentation::generated;
use crate::harness::{Door, cache_dir, guest, wasm_worker};
use crate::scripted_server::{Server, behind, ended, run, stopped};

/// A worker in this process's shared cache answers HTTP at a free port.
const HTTP: [&str; 2] = ["--http", "127.0.0.1:0"];

/// Off the thread on which the server is played.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn door(worker: &crate::harness::Started) -> Door {
    let pid = worker.pid();
    blocking(move || Door::of(cache_dir(), pid)).await
}

async fn get(door: &Door, path: &str) -> (u16, Value) {
    let (door, path) = (Door { url: door.url.clone(), token: door.token.clone() }, path.to_owned());
    let (status, body) = blocking(move || door.get(&path)).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

async fn post(door: &Door, path: &str) -> u16 {
    let (door, path) = (Door { url: door.url.clone(), token: door.token.clone() }, path.to_owned());
    blocking(move || door.post(&path)).await.0
}

/// Until the worker's pages show that the server has it.
async fn ready(door: &Door) {
    for _ in 0..1_000 {
        if get(door, "/ready").await.0 == 200 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("never ready: {:?}", get(door, "/ready").await);
}

#[test]
fn its_pages_show_the_worker_and_its_jobs() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &HTTP);
        let door = door(&worker).await;
        // It answers from the start, while its agent is still being loaded.
        assert_eq!(get(&door, "/live").await.0, 200);
        assert_eq!(get(&door, "/").await, (200, "OK".into()));
        let unready = async |why: &str| {
            let expected = serde_json::json!({ "error": format!("agent `obedient` {why}") });
            while get(&door, "/ready").await != (503, expected.clone()) {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        unready("has no connection to the server").await;
        let mut peer = server.registered().await;
        ready(&door).await;
        peer.begin("AJ_1").await;

        let (_, info) = get(&door, "/worker").await;
        assert_eq!((&info["worker_type"], &info["agent_name"]), (&"JT_ROOM".into(), &"obedient".into()));
        assert_eq!((&info["active_jobs"], &info["agents"][0]["worker"]), (&1.into(), &"AW_test".into()));
        assert!(info["sample"]["cores"].as_f64().unwrap() > 0.0);
        let (_, jobs) = get(&door, "/jobs").await;
        assert_eq!((&jobs["running"][0]["job"], &jobs["running"][0]["room"]), (&"AJ_1".into(), &"lobby".into()));
        assert_eq!(get(&door, "/jobs/AJ_1").await.1["state"], "running");
        assert_eq!(get(&door, "/jobs/AJ_2").await.0, 404);
        assert_eq!(get(&door, "/nowhere").await.0, 404);

        assert_eq!(post(&door, "/jobs/AJ_1/kill").await, 202);
        let (job, status, error) = peer.report().await;
        assert_eq!((job.as_str(), status), ("AJ_1", proto::JobStatus::JsFailed));
        assert!(error.starts_with("killed: "), "{error}");
        assert_eq!(post(&door, "/jobs/AJ_1/kill").await, 409);
        assert_eq!(get(&door, "/jobs/AJ_1").await.1["job"]["verdict"]["blame"], "operator");
        assert_eq!(get(&door, "/jobs").await.1["ended"][0]["code"], "killed");

        peer.begin("AJ_3").await;
        assert_eq!(post(&door, "/drain").await, 202);
        assert_eq!(get(&door, "/ready").await, (503, serde_json::json!({ "error": "draining" })));
        // Asked once more, it still waits.
        assert_eq!(post(&door, "/drain").await, 202);
        peer.status(true).await;
        assert_eq!(post(&door, "/jobs/AJ_3/kill").await, 202);
        assert_eq!(peer.report().await.0, "AJ_3");
        assert_eq!(ended(worker, peer).await.exit, 0);
    });
}

#[test]
fn what_reveals_or_changes_needs_the_token() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--http", "127.0.0.1:0", "--http-token", "hunter2"]);
        let door = door(&worker).await;
        let peer = server.registered().await;
        let ask = |method: &'static str, path: &'static str, token: &'static str| {
            let door = Door { url: door.url.clone(), token: door.token.clone() };
            blocking(move || door.ask(method, path, token))
        };
        for (method, path) in
            [("GET", "/jobs"), ("GET", "/jobs/x"), ("POST", "/jobs/x/kill"), ("POST", "/drain"), ("GET", "/events")]
        {
            for token in ["", "wrong", "hunter"] {
                let (status, why) = ask(method, path, token).await;
                assert_eq!(status, 401, "{path} {token}: {why}");
            }
        }
        assert_eq!(ask("GET", "/jobs", "hunter2").await.0, 200);
        for path in ["/", "/worker", "/live", "/metrics"] {
            assert_eq!(ask("GET", path, "").await.0, 200, "{path}");
        }
        let done = stopped(worker, peer).await;
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    });
}

#[test]
fn metrics_are_those_that_the_readme_lists() {
    run(async {
        let server = Server::bind().await;
        let flags = ["--http", "127.0.0.1:0", "--max-duration", "100ms", "--event-command", "cat > /dev/null"];
        let worker = server.worker("obedient", &flags);
        let door = door(&worker).await;
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsFailed);
        peer.offer("AJ_2").await;
        assert!(peer.answer().await.available);
        drop(peer);
        let peer = server.registered().await;
        ready(&door).await;
        let (_, text) = get(&door, "/metrics").await;
        let text = text.as_str().unwrap().to_owned();
        for line in [
            r#"wasm_worker_jobs_ended_total{agent="obedient",code="deadline",blame="guest"} 1"#,
            r#"wasm_worker_offers_accepted_total{agent="obedient"} 1"#,
            r#"wasm_worker_offers_refused_total{agent="obedient",reason="withdrawn"} 1"#,
            r#"wasm_worker_link_lost_total{agent="obedient"} 1"#,
            r#"wasm_worker_jobs_running{agent="obedient"} 0"#,
            r#"wasm_worker_link_up{agent="obedient"} 1"#,
            r#"wasm_worker_job_start_seconds_count{agent="obedient"} 1"#,
            "wasm_worker_kill_lag_seconds_count 1",
            r#"wasm_worker_events_dropped_total{sink="command"} 0"#,
            r#"wasm_worker_used_ratio{resource="jobs"} 0"#,
        ] {
            assert!(text.contains(line), "`{line}` is missing in:\n{text}");
        }
        let fuel = text.lines().find_map(|line| line.strip_prefix("wasm_worker_fuel_total ")).unwrap();
        assert!(fuel.parse::<u64>().unwrap() > 1_000, "{fuel}");
        generated::check_metrics("worker", &text);
        stopped(worker, peer).await;
    });
}

#[test]
fn verbs_reach_the_workers_of_this_user() {
    run(async {
        let cache = tempfile::tempdir().unwrap();
        let dir = cache.path().to_str().unwrap().to_owned();
        let server = Server::bind().await;
        let worker = behind(&server.url(), &[guest("obedient").to_str().unwrap()])
            .args(HTTP)
            .args(["--cache-dir", &dir])
            .start();
        let mut peer = server.registered().await;
        let (pid, at) = (worker.pid(), cache.path().to_owned());
        blocking(move || Door::of(&at, pid)).await;
        // What a worker that was killed has left.
        std::fs::write(cache.path().join("workers/4194304.json"), r#"{"pid":4194304,"url":"http://x","token":""}"#)
            .unwrap();
        let verb = |words: &'static [&'static str]| {
            let dir = dir.clone();
            blocking(move || wasm_worker(words.iter().copied()).args(["--cache-dir", &dir]).done())
        };
        let followed = wasm_worker(["events"]).args(["--cache-dir", &dir]).start();
        let followed = blocking(move || {
            let mut followed = followed;
            let lines = BufReader::new(followed.take_stdout());
            (lines, followed)
        });
        let (mut lines, events) = followed.await;
        // It follows once its connection is there.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        peer.begin("AJ_1").await;
        let first = blocking(move || {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            (line, lines)
        });
        let (line, lines) = first.await;
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["event"], "job.created", "{line}");

        let ps = verb(&["ps"]).await;
        let head = format!("worker {}: load ", worker.pid());
        for part in [
            head.as_str(),
            "1 running",
            "agent obedient: available, registered as AW_test",
            "AJ_1  obedient  room `lobby`",
        ] {
            assert!(ps.stdout.contains(part), "`{part}` is missing in:\n{}{}", ps.stdout, ps.stderr);
        }
        let json: Value = serde_json::from_str(&verb(&["ps", "--json"]).await.stdout).unwrap();
        assert_eq!(json["jobs"]["running"][0]["job"], "AJ_1");
        verb(&["kill", "AJ_2", "../x"])
            .await
            .fails_with(2, &["no such job runs: AJ_2, ../x", "hint: `wasm-worker ps`"]);
        assert_eq!(verb(&["kill", "AJ_1"]).await.stdout, "killing AJ_1\n");
        assert!(peer.report().await.2.starts_with("killed: "));
        assert_eq!(verb(&["drain"]).await.stdout, format!("draining {}\n", worker.pid()));
        assert_eq!(ended(worker, peer).await.exit, 0);
        // It ends with its worker.
        let rest: Vec<String> = blocking(move || lines.lines().map(Result::unwrap).collect()).await;
        assert!(rest.iter().any(|line| line.contains("\"worker.drained\"")), "{rest:?}");
        assert_eq!(blocking(|| events.done()).await.exit, 0);
        verb(&["ps"]).await.fails_with(1, &["no worker of yours runs on this machine", "hint: "]);
        assert_eq!(std::fs::read_dir(cache.path().join("workers")).unwrap().count(), 0);
    });
}

#[test]
fn a_port_that_is_taken_is_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = behind("ws://127.0.0.1:9", &[guest("echo").to_str().unwrap()]).args(["--http", &address]).done();
    done.fails_with(2, &["HTTP cannot be served at", &address, "hint: choose another address"]);
}

#[test]
fn config_check_says_every_fault_or_what_is_set() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let check = || wasm_worker(["config", "check", "--config", path]);
    std::fs::write(file.path(), "max-jobs = 5\napi-secret = \"hunter2\"\n[agents.a]\nfuel-limit = \"1M\"\n").unwrap();
    let done = check().env("WASM_WORKER_LOG_RATE", "9").done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    for line in [
        "max-jobs = 5  (",
        "api-secret = (secret)  (",
        "agents.a.fuel-limit = 1M  (",
        "log-rate = 9  (WASM_WORKER_LOG_RATE)",
        "5 values set",
    ] {
        assert!(done.stdout.contains(line), "`{line}` is missing in:\n{}", done.stdout);
    }
    std::fs::write(file.path(), "max-job = 5\n[agents.a]\nworkers = 2\n").unwrap();
    let done = check().args(["--webhook", "http://x"]).env("NUM_CPUS", "many").done();
    done.fails_with(
        2,
        &[
            "4 faults",
            "`max-job`",
            "`agents.a.workers`",
            "`webhook`",
            "want `api-key` and `api-secret` too",
            "`cores` (NUM_CPUS)",
        ],
    );
    std::fs::write(file.path(), "url = \"ws://x\"\n").unwrap();
    check().done().fails_with(2, &["`url`", "want `api-key` and `api-secret` too: a server"]);
    // A line that cannot be read may hold a secret.
    std::fs::write(file.path(), "max-jobs = 5\napi-secret = \"hunter2\n").unwrap();
    let done = check().done();
    done.fails_with(2, &["not TOML: line 2, column "]);
    assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    std::fs::write(file.path(), "").unwrap();
    check().env("NUM_CPUS", "many").done().fails_with(2, &["`cores` (NUM_CPUS)", "want a number above 0"]);
}

#[test]
fn capacity_says_how_many_fit_and_shows_it() {
    let agent = guest("neighbour");
    let capacity = || wasm_worker(["capacity", agent.to_str().unwrap(), "--time", "300ms"]);
    let done = capacity().args(["--cores", "4", "--memory", "16GB", "--verify"]).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    for part in [
        "agent `neighbour`, ",
        " fuel ",
        "% of it waiting",
        "what binds it",
        "a machine of 4 cores and 14.9 GiB takes ",
        "verified here",
    ] {
        assert!(done.stdout.contains(part), "`{part}` is missing in:\n{}", done.stdout);
    }
    // The table grows with the machine.
    let at_once = |cores: &str| {
        let row = done.stdout.lines().find(|line| line.trim_start().starts_with(&format!("{cores} "))).unwrap();
        row.split_whitespace().nth(3).unwrap().parse::<u32>().unwrap()
    };
    assert!(at_once("1") >= 1 && at_once("1") <= at_once("2") && at_once("2") <= at_once("4"), "{}", done.stdout);
    let verified = done.stdout.lines().find(|line| line.trim_start().starts_with("an hour ")).unwrap();
    assert!(verified.ends_with('%'), "{verified}");
    let load = done.stdout.lines().rfind(|line| line.trim_start().starts_with("load ")).unwrap();
    let seen: f64 = load.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!(seen > 0.0, "{}", done.stdout);
    assert!(done.stdout.contains("\n  refused "), "{}", done.stdout);
    capacity().args(["--memory", "much"]).done().fails_with(2, &["much"]);
    let refuses = wasm_worker(["capacity", guest("reject").to_str().unwrap(), "--time", "50ms"]).done();
    refuses.fails_with(4, &["the agent refused the offer: rejected"]);
}
