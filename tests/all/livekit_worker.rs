//! The worker behind a scripted server that speaks LiveKit's protocol on loopback.

use futures_util::{SinkExt, StreamExt};
use livekit_protocol as proto;
use proto::server_message::Message as FromServer;
use proto::worker_message::Message as ToServer;
use tokio_tungstenite::tungstenite::Message;

use crate::support::harness::{guest, run_guest, wasm_worker};
use crate::support::scripted_server::{Server, run, says, start, stopped};

#[test]
fn job_runs_from_its_offer_to_its_report() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--agent-name", "support"]);
        let mut peer = server.accept().await;
        let ToServer::Register(register) = peer.receive().await else { panic!("not a registration") };
        assert_eq!((register.agent_name.as_str(), register.r#type), ("support", 0));
        assert!(register.allowed_permissions.unwrap().can_publish_data);
        peer.send(FromServer::Register(proto::RegisterWorkerResponse::default())).await;
        assert!(peer.status(false).await.load < 0.1);

        peer.offer("AJ_1").await;
        let answer = peer.answer().await;
        assert!(answer.available && !answer.terminate);
        assert_eq!((answer.job_id.as_str(), answer.participant_identity.as_str()), ("AJ_1", "agent-AJ_1"));
        assert_eq!(answer.participant_attributes["lk.agent.name"], "support");
        peer.assign("AJ_1").await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsRunning);
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_1".into() })).await;
        assert_eq!(peer.report().await, ("AJ_1".into(), proto::JobStatus::JsSuccess, String::new()));
        let done = stopped(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert!(done.stderr.contains("code=terminated"), "{}", done.stderr);
    });
}

#[test]
fn report_of_a_failed_job_has_its_reason() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("panic", &[]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        let (job, status, error) = peer.report().await;
        assert_eq!((job.as_str(), status), ("AJ_1", proto::JobStatus::JsFailed));
        assert!(error.starts_with("trapped: panicked at tests/guests/panic.rs"), "{error}");
        assert_eq!(stopped(worker, peer).await.exit, 0);
    });
}

#[test]
fn rejection_by_the_agent_is_passed_on() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("reject", &[]);
        let mut peer = server.registered().await;
        peer.offer("AJ_1").await;
        let answer = peer.answer().await;
        assert!(!answer.available && answer.terminate, "{answer:?}");
        let done = stopped(worker, peer).await;
        assert!(done.stderr.contains("offer.refused") && done.stderr.contains("never in the mood"), "{}", done.stderr);
    });
}

#[test]
fn full_worker_reports_its_status_and_refuses_with_a_reason() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--max-jobs", "1"]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        peer.offer("AJ_2").await;
        let answer = peer.answer().await;
        assert!(!answer.available && !answer.terminate, "{answer:?}");
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_1".into() })).await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        peer.status(false).await;
        // Events say it at most once a second.
        says(&worker, "worker.available").await;
        peer.begin("AJ_3").await;
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_3".into() })).await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        let done = stopped(worker, peer).await;
        for part in ["worker.full", "worker.available", "reason=\"full\"", "max-jobs"] {
            assert!(done.stderr.contains(part), "`{part}` is missing in:\n{}", done.stderr);
        }
    });
}

#[test]
fn job_survives_its_connection_and_is_reported_on_the_next() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &[]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        // An offer that was accepted is forgotten with the connection.
        peer.offer("AJ_2").await;
        assert!(peer.answer().await.available);
        drop(peer);
        let mut peer = server.registered().await;
        let migrate = peer.receive().await;
        assert!(matches!(&migrate, ToServer::MigrateJob(jobs) if jobs.job_ids == ["AJ_1"]), "{migrate:?}");
        peer.assign("AJ_2").await;
        let (job, status, error) = peer.report().await;
        assert_eq!((job.as_str(), status), ("AJ_2", proto::JobStatus::JsFailed), "{error}");
        peer.send(FromServer::Termination(proto::JobTermination { job_id: "AJ_1".into() })).await;
        assert_eq!(peer.report().await, ("AJ_1".into(), proto::JobStatus::JsSuccess, String::new()));
        let done = stopped(worker, peer).await;
        assert!(done.stderr.contains("link.lost") && done.stderr.contains("withdrawn"), "{}", done.stderr);
    });
}

#[test]
fn end_without_a_connection_is_reported_on_the_next() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("sleep", &["--max-duration", "100ms"]);
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        drop(peer);
        let mut peer = server.registered().await;
        let (job, status, error) = match peer.receive().await {
            ToServer::MigrateJob(_) => peer.report().await,
            ToServer::UpdateJob(proto::UpdateJobStatus { job_id, status, error }) => {
                (job_id, status.try_into().unwrap(), error)
            }
            other => panic!("{other:?}"),
        };
        assert_eq!((job.as_str(), status), ("AJ_1", proto::JobStatus::JsFailed));
        assert!(error.starts_with("deadline: "), "{error}");
        stopped(worker, peer).await;
    });
}

#[test]
fn invalid_frames_and_repeated_messages_do_not_stop_the_worker() {
    run(async {
        let server = Server::bind().await;
        // Its jobs end when they are told to, so that what comes before is about a job that runs.
        let worker = server.worker("obedient", &[]);
        let garbage = [
            Message::Binary(vec![0xff; 100].into()),
            Message::Text("{}".into()),
            Message::Binary(vec![0; (2 << 20) + 1].into()),
            Message::Close(None),
        ];
        for frame in garbage {
            let mut peer = server.registered().await;
            // It may have closed before it has taken all of it.
            drop(peer.0.send(frame).await);
            while matches!(peer.0.next().await, Some(Ok(_))) {}
        }
        let mut peer = server.accept().await;
        peer.receive().await;
        peer.offer("too early").await;
        while matches!(peer.0.next().await, Some(Ok(_))) {}

        let mut peer = server.registered().await;
        let unknown = proto::JobTermination { job_id: "unknown".into() };
        peer.send(FromServer::Termination(unknown)).await;
        peer.assign("unknown").await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsFailed);
        peer.send(FromServer::Availability(proto::AvailabilityRequest::default())).await;
        peer.0.send(Message::Binary(Vec::new().into())).await.unwrap();
        peer.send(FromServer::Register(proto::RegisterWorkerResponse::default())).await;
        peer.begin("AJ_1").await;
        peer.assign("AJ_1").await;
        peer.offer("AJ_1").await;
        let terminate = |job: &str| FromServer::Termination(proto::JobTermination { job_id: job.into() });
        peer.send(terminate("AJ_1")).await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsSuccess);
        // It has ended, and nothing is left to be said of it.
        peer.send(terminate("AJ_1")).await;
        peer.assign("AJ_1").await;
        peer.begin("AJ_2").await;
        peer.send(terminate("AJ_2")).await;
        assert_eq!(peer.report().await, ("AJ_2".into(), proto::JobStatus::JsSuccess, String::new()));
        assert_eq!(stopped(worker, peer).await.exit, 0);
    });
}

#[test]
fn burst_of_a_thousand_offers_is_answered_and_run() {
    const JOBS: usize = 1_000;
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("neighbour", &["--log-level", "error"]);
        let mut peer = server.registered().await;
        let began = tokio::time::Instant::now();
        for n in 0..JOBS {
            peer.offer(&format!("AJ_{n}")).await;
        }
        let (mut answered, mut refused, mut ended) = (0, 0, 0);
        while ended < JOBS {
            match peer.receive().await {
                // No answer within an offer's two seconds is a refusal; a server asks again.
                ToServer::Availability(answer) if !answer.available => {
                    assert!(!answer.terminate, "{answer:?}");
                    refused += 1;
                    peer.offer(&answer.job_id).await;
                }
                ToServer::Availability(answer) => {
                    peer.assign(&answer.job_id).await;
                    answered += 1;
                    if answered == JOBS {
                        println!("{JOBS} offers accepted in {:?}, {refused} only when asked again", began.elapsed());
                    }
                }
                ToServer::UpdateJob(report) if report.status == proto::JobStatus::JsSuccess as i32 => ended += 1,
                ToServer::UpdateJob(report) => assert_eq!(report.status, proto::JobStatus::JsRunning as i32),
                other => panic!("{other:?}"),
            }
        }
        println!("{JOBS} jobs ended in {:?}", began.elapsed());
        assert_eq!(stopped(worker, peer).await.exit, 0);
    });
}

#[test]
fn absent_or_refusing_server_is_given_up_with_a_reason() {
    run(async {
        // A port where nobody listens any more.
        let gone = Server::bind().await.0.local_addr().unwrap();
        let worker = start(&format!("ws://{gone}"), "echo", &["--max-retry", "2"]);
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        done.fails_with(1, &["no connection to the server: ws://127.0.0.1:", "refused", "hint: check LIVEKIT_URL"]);
        assert_eq!(done.stderr.matches("link.lost").count(), 3, "{}", done.stderr);

        let server = Server::bind().await;
        let worker = server.worker("echo", &[]);
        let (mut stream, _) = server.0.accept().await.unwrap();
        let reply = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 8\r\n\r\nno such!";
        tokio::io::AsyncWriteExt::write_all(&mut stream, reply).await.unwrap();
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        done.fails_with(1, &["the server refused the key or its secret: no such!"]);
    });
}

#[test]
fn busy_machine_makes_the_worker_full() {
    run(async {
        let server = Server::bind().await;
        let flags = ["--load-threshold", "0.000001", "--load-log", "100ms"];
        let worker = server.worker("obedient", &flags);
        let mut peer = server.registered().await;
        // Whatever the machine does, it does something.
        peer.status(true).await;
        peer.offer("AJ_1").await;
        let answer = peer.answer().await;
        assert!(!answer.available && !answer.terminate, "{answer:?}");
        let done = stopped(worker, peer).await;
        for part in ["reason=\"load\"", "exceeds `load-threshold`", "worker.load"] {
            assert!(done.stderr.contains(part), "`{part}` is missing in:\n{}", done.stderr);
        }
    });
}

#[test]
fn server_variables_do_not_affect_a_local_job() {
    let call = run_guest("echo", []).env("LIVEKIT_URL", "ws://nowhere").env("NUM_CPUS", "many");
    assert_eq!(call.done().exit, 0);
}

#[test]
fn missing_or_invalid_connection_settings_are_errors() {
    let guest = guest("echo");
    let run = |flags: &[&'static str]| wasm_worker(["run", guest.to_str().unwrap()]).args(flags.iter().copied()).done();
    // Without a URL there is a dispatcher, which another test is about.
    run(&["--url", "ws://x", "--api-secret", "s"])
        .fails_with(2, &["the API key (`--api-key`) is missing", "hint: set LIVEKIT_API_KEY"]);
    run(&["--url", "ws://x", "--api-key", "k"]).fails_with(2, &["the API secret (`--api-secret`) is missing"]);
    let with = |url| run(&["--url", url, "--api-key", "k", "--api-secret", "s"]);
    with("localhost").fails_with(2, &["`url` (command line): `localhost` is not usable: want ws://"]);
    with("ws://a b").fails_with(2, &["`url` (command line): `ws://a b` is not usable: want ws://"]);
    with("ws://[a").fails_with(2, &["`url` (command line): `ws://[a` is not usable: want ws://"]);
    let cores = ["--url", "ws://x", "--api-key", "k", "--api-secret", "s", "--cores", "0"];
    run(&cores).fails_with(2, &["`cores` (command line): `0` is not usable"]);
    run(&["--deployment", "a_b"]).fails_with(2, &["`deployment` (command line): `a_b` is not usable"]);
    let variable = wasm_worker(["run", guest.to_str().unwrap()]).env("LIVEKIT_URL", "nowhere").done();
    variable.fails_with(2, &["`url` (LIVEKIT_URL): `nowhere` is not usable"]);
}
