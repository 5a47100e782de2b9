//! More than one agent, more than one process, and agents that change or fail while the worker serves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use livekit_protocol as proto;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::Instant;

use crate::harness::{Started, cache_dir, guest, root, wasm_worker};
use crate::scripted_server::{Peer, Server, behind, ended, run, stopped};

/// The next connection of a worker that registers, and the name that it gives.
async fn registering(server: &Server) -> (String, Peer) {
    let mut peer = server.accept().await;
    let ToServer::Register(register) = peer.receive().await else { panic!("not a registration") };
    let worker_id = format!("AW_{}", register.agent_name);
    peer.send(FromServer::Register(proto::RegisterWorkerResponse { worker_id, ..Default::default() })).await;
    (register.agent_name, peer)
}

/// Both at once, whichever comes first.
async fn two(server: &Server) -> Vec<(String, Peer)> {
    let mut peers = vec![registering(server).await, registering(server).await];
    peers.sort_by(|one, other| one.0.cmp(&other.0));
    peers
}

async fn terminated(peer: &mut Peer, job: &str) {
    peer.send(FromServer::Termination(proto::JobTermination { job_id: job.into() })).await;
    assert_eq!(peer.report().await, (job.into(), proto::JobStatus::JsSuccess, String::new()));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn each_agent_is_registered_by_its_own_name_and_has_its_own_limits() {
    run(async {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[agents.spin]\nagent-name = \"whirl\"\nunresponsive-timeout = \"100ms\"\n";
        std::fs::write(file.path(), text).unwrap();
        let server = Server::bind().await;
        let (spin, obedient) = (guest("spin"), guest("obedient"));
        let call = behind(&server.url(), &[path(&spin), path(&obedient)]);
        let worker = call.args(["--http", "off", "--config", path(file.path())]).start();
        let mut peers = two(&server).await;
        assert_eq!((peers[0].0.as_str(), peers[1].0.as_str()), ("obedient", "whirl"));
        let (_, mut whirl) = peers.pop().unwrap();
        let (_, mut obedient) = peers.pop().unwrap();
        obedient.begin("AJ_1").await;
        whirl.begin("AJ_2").await;
        let (_, status, error) = whirl.report().await;
        assert_eq!(status, proto::JobStatus::JsFailed);
        assert!(error.starts_with("unresponsive: ") && error.contains("100ms"), "{error}");
        terminated(&mut obedient, "AJ_1").await;
        worker.signal(Signal::TERM);
        let (whirl, obedient) = (drained(whirl), drained(obedient));
        let done = tokio::task::spawn_blocking(|| worker.done());
        tokio::join!(whirl, obedient);
        assert_eq!(done.await.unwrap().exit, 0);
    });
}

/// Listen until it has closed.
async fn drained(mut peer: Peer) {
    while peer.next().await.is_some() {}
}

#[test]
fn two_agents_of_one_name_are_refused() {
    let (one, same) = (guest("echo"), tempfile::tempdir().unwrap());
    let same = same.path().join("echo.wasm");
    std::fs::create_dir_all(same.parent().unwrap()).unwrap();
    std::fs::copy(&one, &same).unwrap();
    let done = behind("ws://127.0.0.1:9", &[path(&one), path(&same)]).done();
    done.fails_with(2, &["two agents would be registered as `echo`", "hint: give each an `agent-name`"]);
    behind("ws://127.0.0.1:9", &[path(&one), path(&same)])
        .args(["--job"])
        .done()
        .fails_with(2, &["there is one agent"]);
}

/// The processes that a supervisor started, once there are so many.
async fn processes(supervisor: &Started, count: usize) -> Vec<u32> {
    let children = format!("/proc/{0}/task/{0}/children", supervisor.pid());
    for _ in 0..1_000 {
        let text = std::fs::read_to_string(&children).unwrap_or_default();
        let found: Vec<u32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        if found.len() == count {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there are not {count} processes");
}

/// Which of the processes has this job.
fn process_of(job: &str, processes: &[u32]) -> u32 {
    let has = |pid: &&u32| {
        let (_, jobs) = crate::harness::Door::of(cache_dir(), **pid).get("/jobs");
        jobs.contains(job)
    };
    *processes.iter().find(has).unwrap()
}

#[test]
fn a_process_that_is_killed_is_replaced_and_its_jobs_are_lost() {
    run(async {
        let server = Server::bind().await;
        let events = tempfile::NamedTempFile::new().unwrap();
        let flags = ["--workers", "2", "--http", "127.0.0.1:0", "--events", path(events.path())];
        let worker = behind(&server.url(), &[path(&guest("obedient"))]).args(flags).start();
        let mut peers = two(&server).await;
        let (mut one, mut other) = (peers.remove(0).1, peers.remove(0).1);
        one.begin("AJ_1").await;
        other.begin("AJ_2").await;
        let pids = processes(&worker, 2).await;
        let victim = tokio::task::spawn_blocking(move || process_of("AJ_1", &pids)).await.unwrap();
        kill_process(Pid::from_raw(victim.cast_signed()).unwrap(), Signal::KILL).unwrap();
        while futures_util::StreamExt::next(&mut one.0).await.is_some_and(|frame| frame.is_ok()) {}
        let (_, mut third) = registering(&server).await;
        third.begin("AJ_3").await;
        terminated(&mut other, "AJ_2").await;
        terminated(&mut third, "AJ_3").await;
        worker.signal(Signal::TERM);
        let done = tokio::task::spawn_blocking(|| worker.done());
        tokio::join!(drained(other), drained(third));
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
fn the_processes_end_with_their_supervisor_and_with_its_patience() {
    run(async {
        let server = Server::bind().await;
        let agent = guest("obedient");
        let flags = ["--workers", "2", "--http", "off", "--", path(&agent)];
        let worker = behind(&server.url(), &flags).start();
        let peers = two(&server).await;
        let pids = processes(&worker, 2).await;
        worker.signal(Signal::KILL);
        for (_, peer) in peers {
            drained(peer).await;
        }
        for pid in pids {
            for _ in 0..500 {
                if !Path::new(&format!("/proc/{pid}/exe")).exists() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(!Path::new(&format!("/proc/{pid}/exe")).exists(), "{pid} is still there");
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
fn a_supervisor_is_seen_and_steers_its_processes() {
    run(async {
        let server = Server::bind().await;
        let cache = tempfile::tempdir().unwrap();
        let (dir, events) = (path(cache.path()).to_owned(), tempfile::NamedTempFile::new().unwrap());
        let flags = ["--workers", "2", "--http", "127.0.0.1:0", "--cache-dir", &dir, "--events", path(events.path())];
        let agent = guest("obedient");
        let worker = behind(&server.url(), &[path(&agent)]).args(flags).start();
        let mut peers = two(&server).await;
        let (mut one, mut other) = (peers.remove(0).1, peers.remove(0).1);
        let verb = async |verb: &'static str| {
            let dir = dir.clone();
            let call = move || wasm_worker([verb, "--cache-dir", &dir]).done();
            tokio::task::spawn_blocking(call).await.unwrap()
        };
        let get = async |page: &'static str| {
            let (pid, dir) = (worker.pid(), cache.path().to_owned());
            let ask = move || crate::harness::Door::of(&dir, pid).get(page);
            tokio::task::spawn_blocking(ask).await.unwrap()
        };
        while get("/ready").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let head = format!("supervisor {}: 2 of 2 processes run, the server has ", worker.pid());
        let ps = verb("ps").await.stdout;
        assert!(ps.contains(&head) && ps.matches("agent obedient: available").count() == 2, "{ps}");

        // A process that is killed is missed, with its job, where somebody looks: a job that the supervisor has heard of.
        let said = |event: &str| std::fs::read_to_string(events.path()).unwrap().matches(event).count();
        one.begin("AJ_1").await;
        while said("job.created") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let pids = processes(&worker, 2).await;
        let door = cache.path().to_owned();
        let has = move |pid: &&u32| crate::harness::Door::of(&door, **pid).get("/jobs").1.contains("AJ_1");
        let victim = tokio::task::spawn_blocking(move || *pids.iter().find(has).unwrap()).await.unwrap();
        kill_process(Pid::from_raw(victim.cast_signed()).unwrap(), Signal::KILL).unwrap();
        while futures_util::StreamExt::next(&mut one.0).await.is_some_and(|frame| frame.is_ok()) {}
        let (_, third) = registering(&server).await;
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
        while said("agent.reloaded") < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // And one drain is for all of them, however often it is asked for.
        other.begin("AJ_2").await;
        let drained_by_verb = verb("drain").await;
        assert_eq!(drained_by_verb.stdout, format!("draining {}\n", worker.pid()), "{}", drained_by_verb.stderr);
        assert_eq!(get("/ready").await, (503, r#"{"error":"draining"}"#.into()));
        other.status(true).await;
        verb("drain").await;
        terminated(&mut other, "AJ_2").await;
        let done = tokio::task::spawn_blocking(|| worker.done());
        tokio::join!(drained(other), drained(third));
        let done = done.await.unwrap();
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert!(!done.stderr.contains("cut short"), "{}", done.stderr);
    });
}

#[test]
fn a_new_version_is_for_new_jobs_and_a_bad_one_for_none() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent.wasm");
        let become_agent = |from: PathBuf| {
            // A file is not changed while it is read: the new one takes its place whole.
            let new = dir.path().join("new");
            std::fs::copy(from, &new).unwrap();
            std::fs::rename(new, &agent).unwrap();
        };
        become_agent(guest("obedient"));
        let server = Server::bind().await;
        let events = tempfile::NamedTempFile::new().unwrap();
        let worker =
            behind(&server.url(), &[path(&agent)]).args(["--http", "off", "--events", path(events.path())]).start();
        let said = async |event: &str, times: usize| {
            while std::fs::read_to_string(events.path()).unwrap().matches(&format!("\"{event}\"")).count() < times {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;

        become_agent(guest("panic"));
        said("agent.reloaded", 1).await;
        peer.begin("AJ_2").await;
        let (job, _, error) = peer.report().await;
        assert!(job == "AJ_2" && error.starts_with("trapped: "), "{job} {error}");

        become_agent(guest("prewarm_error"));
        said("agent.failed", 1).await;
        peer.begin("AJ_3").await;
        assert!(peer.report().await.2.starts_with("trapped: "), "the version before goes on");

        // The file is as before; told to, the worker reads it all the same.
        worker.signal(Signal::HUP);
        said("agent.failed", 2).await;
        become_agent(guest("obedient"));
        said("agent.reloaded", 2).await;
        peer.begin("AJ_4").await;
        terminated(&mut peer, "AJ_4").await;
        terminated(&mut peer, "AJ_1").await;
        let done = stopped(worker, peer).await;
        assert!(done.stderr.contains("the new version is not taken"), "{}", done.stderr);
    });
}

#[test]
fn an_agent_that_keeps_crashing_pauses_and_says_so() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("panic", &["--failures-max", "2", "--http", "off"]);
        let mut peer = server.registered().await;
        for job in ["AJ_1", "AJ_2"] {
            peer.begin(job).await;
            assert!(peer.report().await.2.starts_with("trapped: "));
        }
        peer.status(true).await;
        peer.offer("AJ_3").await;
        assert!(!peer.answer().await.available);
        // A second later it may try again, and one crash is enough.
        peer.status(false).await;
        peer.begin("AJ_4").await;
        peer.report().await;
        peer.status(true).await;
        let done = stopped(worker, peer).await;
        for part in [
            "agent.unavailable",
            "2 jobs in a row ended with trapped",
            "retry_ms=1000",
            "retry_ms=2000",
            "reason=\"unavailable\"",
            "scarce=\"agent\"",
        ] {
            assert!(done.stderr.contains(part), "`{part}` is missing in:\n{}", done.stderr);
        }
    });
}

#[test]
fn an_agent_whose_prewarm_fails_gets_no_jobs_and_the_others_do() {
    run(async {
        let server = Server::bind().await;
        let (bad, good) = (guest("prewarm_error"), guest("obedient"));
        let began = Instant::now();
        let worker = behind(&server.url(), &[path(&bad), path(&good)]).args(["--http", "127.0.0.1:0"]).start();
        let mut peers = two(&server).await;
        let (name, mut bad) = peers.pop().unwrap();
        let (_, mut good) = peers.pop().unwrap();
        assert_eq!(name, "prewarm-error");
        bad.status(true).await;
        bad.offer("AJ_1").await;
        assert!(!bad.answer().await.available);
        let pid = worker.pid();
        let ready = tokio::task::spawn_blocking(move || crate::harness::Door::of(cache_dir(), pid).get("/ready"))
            .await
            .unwrap();
        assert_eq!(ready, (503, r#"{"error":"agent `prewarm-error` is pausing"}"#.into()));
        good.begin("AJ_2").await;
        terminated(&mut good, "AJ_2").await;
        worker.signal(Signal::TERM);
        let done = tokio::task::spawn_blocking(|| worker.done());
        tokio::join!(drained(bad), drained(good));
        let done = done.await.unwrap();
        assert!(done.stderr.contains("agent.unavailable") && done.stderr.contains("prewarm failed"), "{}", done.stderr);
        // Each pause is twice as long as the one before it.
        let attempts = done.stderr.matches("agent.unavailable").count() as u64;
        assert!(
            began.elapsed() >= Duration::from_secs((1 << (attempts - 1)) - 1),
            "{attempts} in {:?}",
            began.elapsed()
        );

        // What can never run here ends the start.
        let server = Server::bind().await;
        let file = tempfile::NamedTempFile::with_suffix(".wasm").unwrap();
        std::fs::write(file.path(), b"\0asm\x01\0\0\0").unwrap();
        behind(&server.url(), &[path(file.path())]).done().fails_with(3, &["it is a core module"]);
    });
}

#[test]
fn a_load_function_of_ones_own_decides() {
    run(async {
        let server = Server::bind().await;
        let example = root().join("examples/load");
        let flags = ["--load-threshold", "0.000001", "--http", "off", "--load-fn", path(&example)];
        let worker = behind(&server.url(), &[path(&guest("obedient"))]).args(flags).start();
        let mut peer = server.registered().await;
        // The machine does something, and the worst of ten seconds is kept.
        peer.status(true).await;
        let done = stopped(worker, peer).await;
        assert!(done.stderr.contains("cores in use") && done.stderr.contains("agent=\"load\""), "{}", done.stderr);

        let bad = guest("echo");
        let done = behind(&server.url(), &[path(&guest("obedient"))]).args(["--load-fn", path(&bad)]).done();
        done.fails_with(3, &["the load function `", "cannot be used", "hint: it exports `load`"]);
        let done = behind(&server.url(), &[path(&guest("obedient"))]).args(["--load-fn", "nowhere"]).done();
        done.fails_with(3, &["cannot be used: the agent `nowhere` cannot be read: No such file"]);
        let memories = tempfile::NamedTempFile::with_suffix(".wat").unwrap();
        let two = "(component (core module $m (memory 1) (memory 1)) (core instance (instantiate $m)))";
        std::fs::write(memories.path(), two).unwrap();
        let done = behind(&server.url(), &[path(&guest("obedient"))]).args(["--load-fn", path(memories.path())]).done();
        done.fails_with(3, &["the load function `", "cannot be used"]);
    });
}

#[test]
fn a_load_function_that_loops_costs_nobody_anything() {
    run(async {
        // The first call, which tries it, returns; the next ones loop.
        let looping = r#"(global $calls (mut i32) (i32.const 0))
            (func (export "load") (param f64 f64 f64 f64 f64 f64 i32 i32) (result f64)
              (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
              (loop $again (br_if $again (i32.gt_u (global.get $calls) (i32.const 1))))
              (f64.const 0.25))"#;
        let component = format!(
            r#"(component
              (core module $m {looping})
              (core instance $i (instantiate $m))
              (type $sample' (record (field "cpu" f64) (field "cores" f64) (field "fuel" f64) (field "fuel-rate" f64)
                (field "memory" f64) (field "memory-bytes" f64) (field "jobs" u32) (field "jobs-max" u32)))
              (import "wasm-worker:agent/load-types@0.1.0" (instance $types (export "sample" (type $sample (eq $sample')))))
              (alias export $types "sample" (type $s))
              (func (export "load") (param "sample" $s) (result f64) (canon lift (core func $i "load"))))"#
        );
        let file = tempfile::NamedTempFile::with_suffix(".wat").unwrap();
        std::fs::write(file.path(), component).unwrap();
        let server = Server::bind().await;
        let worker = behind(&server.url(), &[path(&guest("obedient"))])
            .args(["--http", "off", "--load-fn", path(file.path())])
            .start();
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        terminated(&mut peer, "AJ_1").await;
        let done = stopped(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert!(done.stderr.contains("the load function failed, using the worker's own load"), "{}", done.stderr);
    });
}

#[test]
fn a_drain_that_asks_does_not_wait() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--drain", "ask", "--http", "off"]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        worker.signal(Signal::TERM);
        peer.status(true).await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        let done = ended(worker, peer).await;
        assert_eq!(done.exit, 130, "{}", done.stderr);
        assert!(done.stderr.contains("code=drained"), "{}", done.stderr);
    });
}
