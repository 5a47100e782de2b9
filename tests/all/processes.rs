//! `--workers N`: a supervisor and its worker processes.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::harness::{Door, Started, cache_dir, guest, path, wasm_worker};
use crate::support::scripted_server::{Server, behind, holds, run, until};

/// The processes that a supervisor started, once there are so many.
async fn processes(supervisor: &Started, count: usize) -> Vec<u32> {
    let children = format!("/proc/{0}/task/{0}/children", supervisor.pid());
    let mut found = Vec::new();
    until(async || {
        let text = std::fs::read_to_string(&children).unwrap_or_default();
        found = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        found.len() == count
    })
    .await;
    found
}

/// Which of the processes has this job.
fn process_of(job: &str, processes: &[u32]) -> u32 {
    let has = |pid: &&u32| {
        let (_, jobs) = Door::of(cache_dir(), **pid).get("/jobs");
        jobs.contains(job)
    };
    *processes.iter().find(has).unwrap()
}

#[test]
fn killed_process_is_replaced_and_its_jobs_end_as_lost() {
    run(async {
        let server = Server::bind().await;
        let events = tempfile::NamedTempFile::new().unwrap();
        let flags = ["--workers", "2", "--http", "127.0.0.1:0", "--events", path(events.path())];
        let worker = behind(&server.url(), &[path(&guest("obedient"))]).args(flags).start();
        let mut peers = server.two().await;
        let (mut one, mut other) = (peers.remove(0).1, peers.remove(0).1);
        one.begin("AJ_1").await;
        other.begin("AJ_2").await;
        // Lost are the jobs that the supervisor has heard of.
        holds(events.path(), "\"AJ_1\"", 1).await;
        let pids = processes(&worker, 2).await;
        let victim = tokio::task::spawn_blocking(move || process_of("AJ_1", &pids)).await.unwrap();
        kill_process(Pid::from_raw(victim.cast_signed()).unwrap(), Signal::KILL).unwrap();
        while futures_util::StreamExt::next(&mut one.0).await.is_some_and(|frame| frame.is_ok()) {}
        let (_, mut third) = server.registering().await;
        third.begin("AJ_3").await;
        other.terminated("AJ_2").await;
        third.terminated("AJ_3").await;
        worker.signal(Signal::TERM);
        let done = tokio::task::spawn_blocking(|| worker.done());
        tokio::join!(other.drained(), third.drained());
        let done = done.await.unwrap();
        assert_eq!(done.exit, 0, "{}", done.stderr);
        let text = std::fs::read_to_string(events.path()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut ends: Vec<(&str, &str)> = lines
            .iter()
            .filter(|line| line["event"] == "job.closed")
            .map(|line| (line["job"].as_str().unwrap(), line["verdict"]["code"].as_str().unwrap()))
            .collect();
        // Processes do not wait for each other.
        ends.sort_unstable();
        assert_eq!(ends, [("AJ_1", "lost"), ("AJ_2", "terminated"), ("AJ_3", "terminated")]);
        let died = lines.iter().find(|line| line["event"] == "worker.died").unwrap();
        assert_eq!((&died["why"], &died["lost"]), (&"ended by signal 9".into(), &1.into()));
    });
}

#[test]
fn processes_end_with_their_supervisor_and_the_supervisor_with_its_processes() {
    run(async {
        let server = Server::bind().await;
        let agent = guest("obedient");
        let flags = ["--workers", "2", "--http", "off", "--", path(&agent)];
        let worker = behind(&server.url(), &flags).start();
        let peers = server.two().await;
        let pids = processes(&worker, 2).await;
        worker.signal(Signal::KILL);
        for (_, peer) in peers {
            peer.drained().await;
        }
        for pid in pids {
            until(async || !Path::new(&format!("/proc/{pid}/exe")).exists()).await;
        }

        // When all have given the server up, so does the supervisor, by itself.
        let gone = Server::bind().await.url();
        let flags = ["--workers", "2", "--http", "off", "--max-retry", "1"];
        let worker = behind(&gone, &[path(&guest("obedient"))]).args(flags).start();
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        done.fails_with(1, &["no connection to the server: ws://127.0.0.1", "hint: check LIVEKIT_URL"]);

        // What is wrong with an agent is so for each process.
        let broken = tempfile::NamedTempFile::with_suffix(".wasm").unwrap();
        std::fs::write(broken.path(), b"\0asm\x01\0\0\0").unwrap();
        let worker = behind(&gone, &[path(broken.path())]).args(["--workers", "2", "--http", "off"]).start();
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        done.fails_with(1, &["worker processes keep dying; gave up", "it is a core module"]);
    });
}

#[test]
fn supervisor_shows_and_controls_its_processes() {
    run(async {
        let server = Server::bind().await;
        let cache = tempfile::tempdir().unwrap();
        let (dir, events) = (path(cache.path()).to_owned(), tempfile::NamedTempFile::new().unwrap());
        let flags = ["--workers", "2", "--http", "127.0.0.1:0", "--cache-dir", &dir, "--events", path(events.path())];
        let agent = guest("obedient");
        let worker = behind(&server.url(), &[path(&agent)]).args(flags).without_a_terminal().start();
        let mut peers = server.two().await;
        let (mut one, mut other) = (peers.remove(0).1, peers.remove(0).1);
        let verb = async |verb: &'static str| {
            let dir = dir.clone();
            let call = move || wasm_worker([verb, "--cache-dir", &dir]).done();
            tokio::task::spawn_blocking(call).await.unwrap()
        };
        let get = async |page: &'static str| {
            let (pid, dir) = (worker.pid(), cache.path().to_owned());
            let ask = move || Door::of(&dir, pid).get(page);
            tokio::task::spawn_blocking(ask).await.unwrap()
        };
        until(async || get("/ready").await.0 == 200).await;
        let ps = verb("ps").await.stdout;
        let supervisor = ps.lines().find(|line| line.starts_with(&format!("{} ", worker.pid()))).unwrap();
        assert!(supervisor.contains("  supervisor: 2 of 2 processes run, "), "{ps}");
        assert_eq!(ps.matches("  obedient  available, ").count(), 2, "{ps}");

        // A process that is killed is missed, with its job, where somebody looks: a job that the supervisor has heard of.
        one.begin("AJ_1").await;
        holds(events.path(), "job.created", 1).await;
        let pids = processes(&worker, 2).await;
        let door = cache.path().to_owned();
        let has = move |pid: &&u32| Door::of(&door, **pid).get("/jobs").1.contains("AJ_1");
        let victim = tokio::task::spawn_blocking(move || *pids.iter().find(has).unwrap()).await.unwrap();
        kill_process(Pid::from_raw(victim.cast_signed()).unwrap(), Signal::KILL).unwrap();
        while futures_util::StreamExt::next(&mut one.0).await.is_some_and(|frame| frame.is_ok()) {}
        let (_, third) = server.registering().await;
        let metrics = get("/metrics").await.1;
        for line in [
            r#"wasm_worker_jobs_ended_total{agent="obedient",code="lost",blame="host"} 1"#,
            "wasm_worker_process_deaths_total 1",
        ] {
            assert!(metrics.contains(line), "`{line}` is missing in:\n{metrics}");
        }
        assert!(!metrics.contains("wasm_worker_jobs_running{"), "{metrics}");

        // Told once to load again, each does.
        worker.signal(Signal::HUP);
        holds(events.path(), "agent.reloaded", 2).await;
        // And one drain is for all of them, however often it is asked for.
        other.begin("AJ_2").await;
        let drained_by_verb = verb("drain").await;
        assert_eq!(drained_by_verb.stdout, format!("draining {}\n", worker.pid()), "{}", drained_by_verb.stderr);
        assert_eq!(get("/ready").await, (503, r#"{"error":"draining"}"#.into()));
        other.status(true).await;
        verb("drain").await;
        other.terminated("AJ_2").await;
        let done = tokio::task::spawn_blocking(|| worker.done());
        tokio::join!(other.drained(), third.drained());
        let done = done.await.unwrap();
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert!(!done.stderr.contains("cut short"), "{}", done.stderr);
    });
}
