//! What goes wrong between a worker and its server, and on its machine, with the real binary: it goes on, and says what it saw.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::guest;
use crate::scripted_server::{Peer, Server, behind, ended, run, stopped};

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
fn a_server_that_goes_at_any_step_is_found_again_and_no_job_is_lost() {
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
fn a_server_that_does_not_answer_the_registration_is_left() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--http", "off"]);
        let mut silent = server.accept().await;
        let began = Instant::now();
        assert!(matches!(silent.receive().await, ToServer::Register(_)));
        while matches!(silent.0.next().await, Some(Ok(_))) {}
        assert!((9..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        let peer = server.registered().await;
        let done = stopped(worker, peer).await;
        assert!(done.stderr.contains("did not reply to the registration within 10s"), "{}", done.stderr);
    });
}

#[test]
fn with_every_core_spinning_offers_pings_and_signals_are_answered_in_time() {
    run(async {
        let server = Server::bind().await;
        let flags = ["--unresponsive-timeout", "60s", "--shutdown-grace", "200ms", "--drain", "ask", "--http", "off"];
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
        // What the server gives an offer, and what it gives a worker that is to stop taking jobs.
        assert!(slowest < Duration::from_secs(2) && ping < Duration::from_secs(1), "{slowest:?} {ping:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
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
fn a_full_disk_costs_the_cache_and_events_and_no_job() {
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
        for part in ["the compiled agent is not cached", "writing events failed; trying on", "events were lost"] {
            assert!(done.stderr.contains(part), "`{part}` is missing in:\n{}", done.stderr);
        }
        assert!(std::fs::metadata(&events).unwrap().len() <= 8 << 10);
    });
}

#[test]
fn an_assignment_that_comes_too_late_or_after_the_end_is_answered() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--http", "off"]);
        let mut peer = server.registered().await;
        peer.offer("AJ_1").await;
        peer.offer("AJ_2").await;
        assert!(peer.answer().await.available && peer.answer().await.available);
        // Ended before it began.
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_2".into() })).await;
        peer.assign("AJ_2").await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsFailed);
        // A worker waits 7.5 s for an assignment, as LiveKit's own do.
        tokio::time::sleep(Duration::from_millis(8_500)).await;
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
fn a_clock_that_is_off_changes_the_times_in_events_and_nothing_else() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let library = dir.path().join("skewed_clock.so");
        let source = crate::harness::root().join("tests/interop/skewed_clock.c");
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
            assert!((200..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
            assert_eq!(stopped(worker, peer).await.exit, 0);
            let text = std::fs::read_to_string(events.path()).unwrap();
            let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            let at: jiff::Timestamp = line["at"].as_str().unwrap().parse().unwrap();
            let off = at.duration_since(jiff::Timestamp::now()).as_secs();
            assert!((off - skew).abs() < 300, "the clock was not off: {off}");
        }
    });
}
