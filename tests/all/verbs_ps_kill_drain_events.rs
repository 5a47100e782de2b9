//! `wasm-worker ps`, `kill`, `drain`, `events` and `logs` reach the workers of this user on this machine.

use std::io::{BufRead, BufReader};

use livekit_protocol as proto;
use proto::server_message::Message as FromServer;
use serde_json::Value;

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{Door, eventually, guest, wasm_worker};
use crate::support::scripted_server::{Server, behind, blocking, ended, run, stopped};

/// The worker answers HTTP at a free port.
const HTTP: [&str; 2] = ["--http", "127.0.0.1:0"];

#[test]
fn ps_kill_drain_and_events_reach_the_workers_of_this_user() {
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
        let mut events = wasm_worker(["events"]).args(["--cache-dir", &dir]).start();
        let mut lines = BufReader::new(events.take_stdout()).lines().map(Result::unwrap);
        // It follows from when its connection is there: jobs come and go until it has seen an event of one.
        let first = tokio::task::spawn_blocking(move || (lines.next(), lines));
        for job in 1.. {
            let job = format!("AJ_early_{job}");
            peer.begin(&job).await;
            peer.terminated(&job).await;
            if first.is_finished() {
                break;
            }
        }
        let (_, mut lines) = first.await.unwrap();
        peer.begin("AJ_1").await;
        let created = blocking(move || {
            let line = lines.find(|line| line.contains("\"AJ_1\"")).unwrap();
            (serde_json::from_str::<Value>(&line).unwrap(), lines)
        });
        let (event, lines) = created.await;
        assert_eq!(event["event"], "job.created", "{event}");

        let ps = verb(&["ps"]).await;
        let rows: Vec<Vec<&str>> = ps.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
        let (pid, columns) = (worker.pid().to_string(), ["WORKER", "LOAD", "JOBS", "AGENT", "STATUS"]);
        assert_eq!((rows.len(), &rows[0][..]), (5, &columns[..]), "{}{}", ps.stdout, ps.stderr);
        assert_eq!(rows[1][0], pid);
        assert_eq!(rows[1][2..], ["1", "obedient", "available,", "registered", "as", "AW_test"]);
        assert_eq!(rows[3], ["WORKER", "JOB", "AGENT", "ROOM", "AGE", "CPU", "WAITS", "FOR", "IN", "ROOM"]);
        assert_eq!(rows[4][..4], [pid.as_str(), "AJ_1", "obedient", "lobby"]);
        let json: Value = serde_json::from_str(&verb(&["ps", "--json"]).await.stdout).unwrap();
        assert_eq!(json["jobs"]["running"][0]["job"], "AJ_1");
        assert_eq!(json["pid"], worker.pid(), "{json}");
        verb(&["kill", "AJ_2", "../x"])
            .await
            .fails_with(2, &["no such job runs: AJ_2, ../x", "hint: `wasm-worker ps`"]);
        assert_eq!(verb(&["kill", "AJ_1"]).await.stdout, "killing AJ_1\n");
        assert!(peer.report().await.2.starts_with("killed: "));
        assert_eq!(verb(&["drain"]).await.stdout, format!("draining {}\n", worker.pid()));
        assert_eq!(ended(worker, peer).await.exit, 0);
        // It ends with its worker.
        let rest: Vec<String> = blocking(move || lines.collect()).await;
        assert!(rest.iter().any(|line| line.contains("\"worker.drained\"")), "{rest:?}");
        assert_eq!(blocking(|| events.done()).await.exit, 0);
        verb(&["ps"]).await.fails_with(1, &["this user runs no worker on this machine", "hint: "]);
        assert_eq!(std::fs::read_dir(cache.path().join("workers")).unwrap().count(), 0);
    });
}

#[test]
fn logs_shows_the_lines_of_a_job_while_it_runs_and_after_its_end() {
    run(async {
        let cache = tempfile::tempdir().unwrap();
        let dir = cache.path().to_str().unwrap().to_owned();
        let server = Server::bind().await;
        let worker = behind(&server.url(), &[guest("ignore_stop").to_str().unwrap()])
            .args(HTTP)
            .args(["--cache-dir", &dir, "--shutdown-grace", "10m"])
            .start();
        let mut peer = server.registered().await;
        let (pid, at) = (worker.pid(), cache.path().to_owned());
        blocking(move || Door::of(&at, pid)).await;
        let verb = |words: &'static [&'static str]| {
            let dir = dir.clone();
            blocking(move || wasm_worker(words.iter().copied()).args(["--cache-dir", &dir]).done())
        };
        peer.begin("AJ_1").await;
        // The guest logs a line when it is asked to stop, and runs on.
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_1".into() })).await;
        let line = async |words: &'static [&'static str]| loop {
            let done = verb(words).await;
            assert_eq!(done.exit, 0, "{}", done.stderr);
            if !done.stdout.is_empty() {
                return done.stdout;
            }
        };
        let text = line(&["logs", "AJ_1"]).await;
        assert!(text.contains(" INFO asked to stop within ") && text.lines().count() == 1, "{text}");
        let json: Value = serde_json::from_str(&line(&["logs", "AJ_1", "--json"]).await).unwrap();
        assert_eq!((&json["number"], &json["level"]), (&0.into(), &"info".into()));

        let followed = wasm_worker(["logs", "AJ_1", "--follow", "--cache-dir", &dir]).start();
        assert_eq!(verb(&["kill", "AJ_1"]).await.exit, 0);
        assert!(peer.report().await.2.starts_with("killed: "));
        let followed = blocking(move || followed.done()).await;
        assert_eq!((followed.exit, followed.stdout.as_str()), (0, text.as_str()), "{}", followed.stderr);
        assert_eq!(verb(&["logs", "AJ_1"]).await.stdout, text);
        for unknown in [&["logs", "AJ_2"], &["logs", "../x"]] {
            verb(unknown).await.fails_with(2, &["no worker has a log of the job", unknown[1], "hint: "]);
        }
        stopped(worker, peer).await;
    });
}

#[test]
fn ps_and_job_show_what_a_job_waits_for() {
    let dispatcher = Dispatcher::start(&[]);
    let cache = tempfile::tempdir().unwrap();
    let dir = cache.path().to_str().unwrap();
    let [http, at] = HTTP;
    let worker = dispatcher.worker(&["obedient"], &[http, at, "--cache-dir", dir]);
    let door = Door::of(cache.path(), worker.pid());
    let dispatch = dispatcher.dispatch("lobby", "obedient", "");
    let job = dispatcher.in_state(&dispatch, "running")["job"].as_str().unwrap().to_owned();
    let verb = |words: &[&str]| {
        let done = dispatcher.verb(words.iter().copied()).env("WASM_WORKER_CACHE_DIR", dir).done();
        assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
        done.stdout
    };
    // It is in its room, and has a timer of a day.
    let line = eventually("it waits", || {
        let listed = verb(&["ps"]);
        listed.lines().find(|line| line.contains("  timer in 23h")).map(str::to_owned)
    });
    assert!(line.contains(&job) && line.contains("m, the room  ") && line.ends_with("  joined, alone"), "{line}");
    let listed: Value = serde_json::from_str(&verb(&["ps", "--json"])).unwrap();
    let listed = &listed["jobs"]["running"][0];
    assert_eq!((&listed["waits"]["joined"], &listed["waits"]["operations"]), (&true.into(), &0.into()), "{listed}");
    assert!(listed["waits"]["timer_ms"].as_u64().unwrap() > 86_000_000, "{listed}");
    assert!(listed.get("tasks").is_none(), "{listed}");
    assert_eq!((&listed["in_room"]["state"], &listed["in_room"]["others"]), (&"joined".into(), &0.into()), "{listed}");

    // Somebody looks, and the agent is asked. A slow machine shows the report at the next look.
    eventually("the tasks are shown", || {
        let shown = verb(&["job", &dispatch]);
        let parts = [
            "\n  waits    timer in 23h",
            "m, the room\n",
            "\n  room     joined for ",
            "\n  task     `entrypoint` waits for ",
        ];
        parts.iter().all(|part| shown.contains(part)).then_some(())
    });
    let shown: Value = serde_json::from_str(&verb(&["job", &job, "--json"])).unwrap();
    assert_eq!((&shown["state"], &shown["waits"]["joined"]), (&"running".into(), &true.into()), "{shown}");
    assert_eq!(shown["tasks"]["tasks"][0]["name"], "entrypoint", "{shown}");
    assert_eq!(shown["in_room"]["state"], "joined", "{shown}");
    let (status, body) = door.get(&format!("/api/v1/jobs/{job}"));
    let detail: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &detail["job"]["tasks"]["tasks"]), (200, &shown["tasks"]["tasks"]), "{detail}");

    verb(&["cancel", &dispatch]);
    let ended: Value = dispatcher.in_state(&dispatch, "ended");
    assert_eq!(ended["code"], "terminated", "{ended}");
    assert!(!verb(&["job", &dispatch]).contains("  waits    "));
    worker.kill();
}
