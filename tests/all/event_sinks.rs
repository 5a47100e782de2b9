//! The sinks of events, a webhook and a command: they receive every event, and delay no job.

use std::io::{BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::process::Signal;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{guest, run_guest};
use crate::support::hook::{header, hook, read_post};
use crate::support::scripted_server::{Server, behind, ended, holds, run, stopped, until};

/// Longest wait for a post. It only ends a test that would wait for ever.
const POSTED_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn event_file_is_private_and_opened_again_at_sighup() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (events, moved) = (dir.path().join("events"), dir.path().join("events.1"));
        let server = Server::bind().await;
        let worker = behind(&server.url(), &[guest("minimal").to_str().unwrap()])
            .args(["--http", "off", "--events", events.to_str().unwrap()])
            .start();
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        holds(&events, "AJ_1", 1).await;
        assert_eq!(std::fs::metadata(&events).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::rename(&events, &moved).unwrap();
        worker.signal(Signal::HUP);
        until(async || events.exists()).await;
        peer.report().await;
        peer.begin("AJ_2").await;
        peer.report().await;
        holds(&events, "AJ_2", 1).await;
        assert!(!std::fs::read_to_string(&moved).unwrap().contains("AJ_2"));
        stopped(worker, peer).await;
    });
}

#[test]
fn webhook_receives_every_event_with_livekit_s_signature() {
    run(async {
        let (url, received) = hook();
        let server = Server::bind().await;
        let worker = behind(&server.url(), &[guest("minimal").to_str().unwrap()])
            .args(["--http", "off", "--webhook", &url])
            .start();
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        peer.report().await;
        let mut events = Vec::<String>::new();
        let mut worker = Some((worker, peer));
        while events.last().is_none_or(|event| event != "worker.drained") {
            // At its end a worker has five seconds for its webhook; nothing is left to be posted before.
            if events.last().is_some_and(|event| event == "job.closed") {
                let (worker, peer) = worker.take().unwrap();
                stopped(worker, peer).await;
            }
            let (head, body) = received.recv_timeout(POSTED_WITHIN).unwrap();
            assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
            assert_eq!(header(&head, "content-type"), "application/webhook+json");
            let verifier = livekit_token::TokenVerifier::with_api_key("devkey", "secret");
            let claims = verifier.verify(header(&head, "authorization")).unwrap();
            assert_eq!(claims.sha256, BASE64_STANDARD.encode(Sha256::digest(&body)));
            let event: Value = serde_json::from_str(&body).unwrap();
            events.push(event["event"].as_str().unwrap().to_owned());
        }
        let expected = [
            "agent.loaded",
            "worker.registered",
            "job.created",
            "job.started",
            "job.ready",
            "job.launched",
            "job.closed",
            "worker.draining",
            "worker.drained",
        ];
        assert_eq!(events, expected);
    });
}

#[test]
fn webhook_receives_the_end_of_a_dispatch() {
    let (url, received) = hook();
    let flags = ["--webhook", Box::leak(url.into_boxed_str()), "--api-key", "devkey", "--api-secret", "secret"];
    let dispatcher = Dispatcher::start(&flags);
    let id = dispatcher.dispatch("r", "nobody", "");
    assert_eq!(dispatcher.verb(["cancel", &id]).done().exit, 0);
    for (name, code) in [("dispatch.created", Value::Null), ("dispatch.ended", "cancelled".into())] {
        let (_, body) = received.recv_timeout(POSTED_WITHIN).unwrap();
        let event: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&event["event"], &event["dispatch"], &event["code"]), (&name.into(), &id.as_str().into(), &code));
    }
}

/// The events of one job without a server, from the load of its agent on.
const EVENTS_OF_A_JOB: [&str; 6] =
    ["agent.loaded", "job.created", "job.started", "job.ready", "job.launched", "job.closed"];

#[test]
fn job_without_a_server_sends_its_events_to_webhook_and_command() {
    let dir = tempfile::tempdir().unwrap();
    let (out, (url, received)) = (dir.path().join("out"), hook());
    // The command is slower than the job.
    let command = format!("sleep 1; cat > {}", out.display());
    let done = run_guest("minimal", ["--webhook", &url, "--event-command", &command])
        .env("LIVEKIT_API_KEY", "devkey")
        .env("LIVEKIT_API_SECRET", "secret")
        .done();
    assert_eq!((done.exit, done.code().as_str()), (0, "completed"), "{}", done.stderr);
    // Nothing is left to be sent after the end.
    let posted: Vec<Value> = received.try_iter().map(|(_, body)| serde_json::from_str(&body).unwrap()).collect();
    let lines = std::fs::read_to_string(&out).unwrap();
    let read: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for events in [posted, read] {
        let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(names, EVENTS_OF_A_JOB);
    }
}

/// A receiver that answers with one text, closes, and keeps the first line of each request.
fn answers(answer: &'static str) -> (String, std::sync::mpsc::Receiver<String>) {
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", hook.local_addr().unwrap());
    let (lines, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in hook.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let Some((head, _)) = read_post(&mut stream) else { continue };
            // Before the answer: whoever sees the program go on finds its posts here.
            if lines.send(head.lines().next().unwrap().to_owned()).is_err() {
                return;
            }
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, received)
}

#[test]
fn webhook_counts_only_a_2xx_answer_as_delivered_and_follows_nothing() {
    for (answer, failed) in [
        ("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", None),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", None),
        (
            "HTTP/1.1 307 Moved\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            Some("answered 307 Temporary Redirect; set the URL to `/elsewhere`"),
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n",
            Some("answered 304 Not Modified; want a 2xx status"),
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Some("/hook: ")),
        ("HTTP/1.1 2000 OK\r\n\r\n", Some("sends no HTTP")),
        ("200 OK", Some("/hook: ")),
        ("", Some("ended the connection without an answer")),
    ] {
        let (url, received) = answers(answer);
        let done = run_guest("minimal", ["--webhook", &url])
            .env("LIVEKIT_API_KEY", "devkey")
            .env("LIVEKIT_API_SECRET", "secret")
            .done();
        assert_eq!(done.code(), "completed");
        let posts: Vec<String> = received.try_iter().collect();
        assert!(posts.iter().all(|line| line == "POST /hook HTTP/1.1"), "{answer:?}: {posts:?}");
        match failed {
            None => {
                assert_eq!(posts.len(), EVENTS_OF_A_JOB.len(), "{answer:?}");
                assert!(!done.stderr.contains("events"), "{answer:?}: {}", done.stderr);
            }
            Some(why) => done.fails_with(0, &["events were lost", &url, why]),
        }
    }
}

#[test]
fn event_command_reads_events_and_is_restarted() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        // It reads two lines and ends.
        let command = format!("head -n 2 >> {}", out.display());
        let server = Server::bind().await;
        let agent = guest("minimal");
        let worker = behind(&server.url(), &[agent.to_str().unwrap()])
            .args(["--http", "off", "--event-command", &command])
            .start();
        let mut peer = server.registered().await;
        // A job has more events than it reads, and it is started at most once a second.
        let mut jobs = 0;
        while std::fs::read_to_string(&out).unwrap_or_default().lines().count() < 4
            || !worker.said().contains("events cannot be written")
        {
            jobs += 1;
            peer.begin(&format!("AJ_{jobs}")).await;
            peer.report().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let done = stopped(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        let lines = std::fs::read_to_string(&out).unwrap();
        assert!(lines.lines().count() >= 4, "it was not started again:\n{lines}\n{}", done.stderr);
        assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines}");
        assert!(
            done.stderr.contains("events cannot be written; the sink tries again")
                && done.stderr.contains("events were lost"),
            "{}",
            done.stderr
        );
    });
}

#[test]
fn dead_webhook_and_stuck_command_delay_no_job() {
    const JOBS: usize = 100;
    run(async {
        // It takes connections and never answers.
        let dead = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", dead.local_addr().unwrap());
        let server = Server::bind().await;
        let sinks =
            ["--webhook", url.as_str(), "--event-command", "exec sleep 2", "--http", "off", "--log-level", "error"];
        let worker = behind(&server.url(), &[guest("minimal").to_str().unwrap()]).args(sinks).start();
        let mut peer = server.registered().await;
        for job in 0..JOBS {
            peer.begin(&format!("AJ_{job}")).await;
            assert_eq!(peer.report().await.1, livekit_protocol::JobStatus::JsSuccess);
        }
        // One attempt of a post takes three seconds, and a job has five events: jobs that waited for them would outlast this test.
        worker.signal(Signal::TERM);
        let done = ended(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert!(
            done.stderr.contains("events were lost") && done.stderr.contains("sink=\"webhook\""),
            "{}",
            done.stderr
        );
    });
}

#[test]
fn stuck_command_does_not_keep_the_worker_from_ending() {
    run(async {
        let server = Server::bind().await;
        // What a shell starts is to go with it.
        let sinks = ["--event-command", "sleep 10000; true", "--http", "127.0.0.1:0", "--log-level", "error"];
        let worker = behind(&server.url(), &[guest("minimal").to_str().unwrap()]).args(sinks).start();
        let mut peer = server.registered().await;
        // More than a pipe holds.
        for job in 0..200 {
            peer.begin(&format!("AJ_{job}")).await;
            peer.report().await;
        }
        worker.signal(Signal::TERM);
        // Five seconds are the sink's, to pass on what it has. The command itself would outlast this test.
        let done = ended(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert!(
            done.stderr.contains("events were lost") && done.stderr.contains("sink=\"command\""),
            "{}",
            done.stderr
        );
    });
}

#[test]
fn recovered_sink_receives_events_again() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let [out, gate, failed] = ["out", "gate", "failed"].map(|name| dir.path().join(name));
        // Until the gate is open the command ends at once.
        let command = format!(
            "test -e {} || {{ touch {}; exit 1; }}; cat >> {}",
            gate.display(),
            failed.display(),
            out.display()
        );
        let server = Server::bind().await;
        let agent = guest("minimal");
        let worker = behind(&server.url(), &[agent.to_str().unwrap()])
            .args(["--http", "off", "--event-command", &command])
            .start();
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        peer.report().await;
        until(async || failed.exists()).await;
        std::fs::write(&gate, "").unwrap();
        // The command is started at most once a second, and events of before are lost.
        let mut jobs = 1;
        while !worker.said().contains("events can be written again") {
            jobs += 1;
            peer.begin(&format!("AJ_{jobs}")).await;
            peer.report().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        peer.begin("AJ_last").await;
        peer.report().await;
        holds(&out, "AJ_last", 1).await;
        let done = stopped(worker, peer).await;
        let lines = std::fs::read_to_string(&out).unwrap();
        assert!(lines.contains("worker.drained"), "{lines}");
        assert!(done.stderr.contains("events can be written again"), "{}", done.stderr);
    });
}
