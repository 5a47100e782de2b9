//! Faults outside of the host, with the real binary: a server or connection that fails, a full disk, a wrong clock, busy cores.
//! The worker continues and reports the fault.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::support::harness::{guest, root, run_guest};
use crate::support::scripted_server::{Peer, Server, behind, ended, run, stopped, until};

/// A connection that ends at one step of its making.
async fn broken(server: &Server, step: usize) {
    if step >= 2 {
        let mut peer = server.accept().await;
        if step == 3 {
            assert!(matches!(peer.receive().await, ToServer::Register(_)));
        }
        return;
    }
    let (mut stream, _) = server.0.accept().await.unwrap();
    if step == 1 {
        let mut request = [0; 64];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 101 Switching").await.unwrap();
    }
}

/// One that ends in the middle of a job, or of a frame.
async fn cut(mut peer: Peer, step: usize) {
    let job = format!("AJ_{step}");
    match step {
        0 => peer.offer(&job).await,
        1 => {
            peer.offer(&job).await;
            assert!(peer.answer().await.available);
        }
        2 => {
            peer.begin(&job).await;
        }
        _ => {
            // Of a frame of 4,096 bytes there are three.
            let half = [0x82, 0x7e, 0x10, 0x00, 1, 2, 3];
            peer.0.get_mut().write_all(&half).await.unwrap();
        }
    }
}

#[test]
fn connection_lost_at_any_step_is_restored_and_no_job_is_lost() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--http", "off"]);
        for step in 0..4 {
            broken(&server, step).await;
            cut(server.registered().await, step).await;
        }
        let mut peer = server.registered().await;
        let migrate = peer.receive().await;
        assert!(matches!(&migrate, ToServer::MigrateJob(jobs) if jobs.job_ids == ["AJ_2"]), "{migrate:?}");
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_2".into() })).await;
        assert_eq!(peer.report().await, ("AJ_2".into(), proto::JobStatus::JsSuccess, String::new()));
        peer.begin("AJ_9").await;
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_9".into() })).await;
        assert_eq!(peer.report().await.0, "AJ_9");
        let done = stopped(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert_eq!(done.stderr.matches("link.lost").count(), 8, "{}", done.stderr);
        assert_eq!(done.stderr.matches("link.restored").count(), 4, "{}", done.stderr);
    });
}

#[test]
fn message_that_is_too_long_is_no_reason_to_give_the_server_up() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--http", "off", "--max-retry", "2"]);
        for _ in 0..5 {
            let mut peer = server.registered().await;
            // The worker may close before all of it is written.
            peer.0.send(Message::Binary(vec![0; 5 << 20].into())).await.ok();
            while matches!(peer.0.next().await, Some(Ok(_))) {}
        }
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_1".into() })).await;
        assert_eq!(peer.report().await.0, "AJ_1");
        let done = stopped(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert_eq!(done.stderr.matches("the server sent a message that is too long").count(), 5, "{}", done.stderr);
    });
}

#[test]
fn unanswered_registration_is_given_up_after_ten_seconds() {
    run(async {
        let server = Server::bind().await;
        let began = Instant::now();
        let worker = server.worker("obedient", &["--http", "off"]);
        let mut silent = server.accept().await;
        assert!(matches!(silent.receive().await, ToServer::Register(_)));
        while matches!(silent.0.next().await, Some(Ok(_))) {}
        assert!(began.elapsed().as_secs() >= 10, "{:?}", began.elapsed());
        let peer = server.registered().await;
        let done = stopped(worker, peer).await;
        assert!(done.stderr.contains("did not reply to the registration within 10s"), "{}", done.stderr);
    });
}

#[test]
fn offers_pings_and_signals_are_answered_while_every_core_spins() {
    run(async {
        let server = Server::bind().await;
        let flags = [
            "--unresponsive-timeout",
            "1h",
            "--shutdown-grace",
            "200ms",
            "--drain",
            "ask",
            "--assignment-timeout",
            "10s",
            "--http",
            "off",
        ];
        let worker = server.worker("spin", &flags);
        let mut peer = server.registered().await;
        for job in 0..8 {
            peer.begin(&format!("AJ_{job}")).await;
        }
        let mut slowest = Duration::ZERO;
        for job in 8..28 {
            let began = Instant::now();
            peer.offer(&format!("AJ_{job}")).await;
            assert!(peer.answer().await.available);
            slowest = slowest.max(began.elapsed());
        }
        let began = Instant::now();
        peer.0.send(Message::Ping(b"there?".as_slice().into())).await.unwrap();
        while !matches!(peer.0.next().await.unwrap().unwrap(), Message::Pong(_)) {}
        let ping = began.elapsed();
        let began = Instant::now();
        worker.signal(Signal::TERM);
        peer.status(true).await;
        println!("slowest answer {slowest:?}, pong after {ping:?}, FULL after {:?}", began.elapsed());
        // None of the eight has ended: an answer is the next message each time. An offer has its two seconds of the worker's
        // own, and none was refused for them.
        let mut failed = 0;
        while failed < 8 {
            let (_, status, error) = peer.report().await;
            assert!(status == proto::JobStatus::JsFailed && error.starts_with("shutdown-timeout: "), "{error}");
            failed += 1;
        }
        assert_eq!(ended(worker, peer).await.exit, 130);
    });
}

#[test]
fn full_disk_costs_the_cache_and_events_and_no_job() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (cache, events) = (dir.path().join("cache"), dir.path().join("events"));
        let server = Server::bind().await;
        let flags = ["--http", "off", "--cache-dir", cache.to_str().unwrap(), "--events", events.to_str().unwrap()];
        let call = behind(&server.url(), &[guest("minimal").to_str().unwrap()]).args(flags);
        let worker = call.on_a_full_disk().start();
        let mut peer = server.registered().await;
        for job in 0..100 {
            peer.begin(&format!("AJ_{job}")).await;
            assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        }
        let done = stopped(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        for part in
            ["the compiled agent is not cached", "events cannot be written; the sink tries again", "events were lost"]
        {
            assert!(done.stderr.contains(part), "`{part}` is missing in:\n{}", done.stderr);
        }
        assert!(std::fs::metadata(&events).unwrap().len() <= 8 << 10);
    });
}

#[test]
fn full_disk_under_the_event_file_costs_events_and_no_job() {
    let done = run_guest("minimal", ["--count", "50", "--events", "/dev/full"]).done();
    assert_eq!((done.exit, done.lines().len()), (0, 50), "{}", done.stderr);
    assert!(done.stderr.contains("events cannot be written; the sink tries again"), "{}", done.stderr);
    assert!(done.stderr.contains("No space left on device"), "{}", done.stderr);
}

#[test]
fn late_assignment_and_assignment_of_an_ended_job_are_reported_as_failed() {
    run(async {
        let server = Server::bind().await;
        // LiveKit's own workers wait 7.5 s, as the default is here.
        let worker = server.worker("obedient", &["--http", "off", "--assignment-timeout", "7500ms"]);
        let mut peer = server.registered().await;
        peer.offer("AJ_1").await;
        peer.offer("AJ_2").await;
        assert!(peer.answer().await.available && peer.answer().await.available);
        // Ended before it began.
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_2".into() })).await;
        peer.assign("AJ_2").await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsFailed);
        until(async || worker.said().matches("reason=\"withdrawn\"").count() == 2).await;
        peer.assign("AJ_1").await;
        let (job, status, error) = peer.report().await;
        assert_eq!((job.as_str(), status), ("AJ_1", proto::JobStatus::JsFailed));
        assert!(error.contains("did not wait for this assignment"), "{error}");
        let done = stopped(worker, peer).await;
        for part in ["the assignment did not arrive in time", "the server terminated the job before its assignment"] {
            assert!(done.stderr.contains(part), "`{part}` is missing in:\n{}", done.stderr);
        }
    });
}

#[test]
fn skewed_clock_changes_event_times_and_nothing_else() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("skewed_clock.so");
        let source = root().join("tests/interop/skewed_clock.c");
        let compiled =
            std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(compiled.unwrap().success());
        for skew in [-86_400_i64, 86_400] {
            let server = Server::bind().await;
            let events = tempfile::NamedTempFile::new().unwrap();
            let flags = ["--http", "off", "--max-duration", "300ms", "--events", events.path().to_str().unwrap()];
            let call = behind(&server.url(), &[guest("sleep").to_str().unwrap()]).args(flags);
            let worker = call.env("LD_PRELOAD", &library).env("SKEW_SECONDS", skew.to_string()).start();
            let mut peer = server.registered().await;
            let began = Instant::now();
            peer.begin("AJ_1").await;
            assert!(peer.report().await.2.starts_with("deadline: "));
            // Not at once, and not a day later.
            assert!(began.elapsed().as_millis() >= 300, "{:?}", began.elapsed());
            assert_eq!(stopped(worker, peer).await.exit, 0);
            let text = std::fs::read_to_string(events.path()).unwrap();
            let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            let at: jiff::Timestamp = line["at"].as_str().unwrap().parse().unwrap();
            let off = at.duration_since(jiff::Timestamp::now()).as_secs();
            assert!((off - skew).abs() < 300, "the clock was not off: {off}");
        }
    });
}
