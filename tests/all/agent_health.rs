//! Agents that crash again and again or cannot be prewarmed are paused; the other agents of the worker are not.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::support::harness::{Door, cache_dir, guest, path};
use crate::support::scripted_server::{Server, behind, run, stopped};

#[test]
fn crashing_agent_is_paused_and_reported_as_unavailable() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("panic", &["--failures-max", "2", "--http", "off"]);
        let mut peer = server.registered().await;
        for job in ["AJ_1", "AJ_2"] {
            peer.begin(job).await;
            assert!(peer.report().await.2.starts_with("trapped: "));
        }
        // After a pause it may try again, and one crash is enough for the next pause, which is twice as long.
        for job in ["AJ_3", "AJ_4", "AJ_5"] {
            peer.status(true).await;
            peer.status(false).await;
            peer.begin(job).await;
            peer.report().await;
        }
        peer.status(true).await;
        // Eight seconds are enough for an offer, on a slow machine too.
        peer.offer("AJ_6").await;
        assert!(!peer.answer().await.available);
        let done = stopped(worker, peer).await;
        for part in [
            "agent.unavailable",
            "2 jobs in a row ended with trapped",
            "retry_ms=1000",
            "retry_ms=2000",
            "retry_ms=8000",
            "reason=\"unavailable\"",
            "scarce=\"agent\"",
        ] {
            assert!(done.stderr.contains(part), "`{part}` is missing in:\n{}", done.stderr);
        }
    });
}

#[test]
fn agent_with_a_failing_prewarm_gets_no_jobs_beside_a_healthy_agent() {
    run(async {
        let server = Server::bind().await;
        let (bad, good) = (guest("prewarm_error"), guest("obedient"));
        let began = Instant::now();
        let worker = behind(&server.url(), &[path(&bad), path(&good)]).args(["--http", "127.0.0.1:0"]).start();
        let mut peers = server.two().await;
        let (name, mut bad) = peers.pop().unwrap();
        let (_, mut good) = peers.pop().unwrap();
        assert_eq!(name, "prewarm_error");
        bad.status(true).await;
        bad.offer("AJ_1").await;
        assert!(!bad.answer().await.available);
        let pid = worker.pid();
        let ready = tokio::task::spawn_blocking(move || Door::of(cache_dir(), pid).get("/ready")).await.unwrap();
        assert_eq!(ready, (503, r#"{"error":"agent `prewarm_error` is pausing"}"#.into()));
        good.begin("AJ_2").await;
        good.terminated("AJ_2").await;
        worker.signal(Signal::TERM);
        let done = tokio::task::spawn_blocking(|| worker.done());
        tokio::join!(bad.drained(), good.drained());
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
