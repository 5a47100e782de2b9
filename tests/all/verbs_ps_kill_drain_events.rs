//! `wasm-worker ps`, `kill`, `drain` and `events` reach the workers of this user on this machine.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use crate::support::harness::{Door, guest, wasm_worker};
use crate::support::scripted_server::{Server, behind, blocking, ended, run};

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
        let rest: Vec<String> = blocking(move || lines.collect()).await;
        assert!(rest.iter().any(|line| line.contains("\"worker.drained\"")), "{rest:?}");
        assert_eq!(blocking(|| events.done()).await.exit, 0);
        verb(&["ps"]).await.fails_with(1, &["no worker of yours runs on this machine", "hint: "]);
        assert_eq!(std::fs::read_dir(cache.path().join("workers")).unwrap().count(), 0);
    });
}
