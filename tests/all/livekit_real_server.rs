//! The worker behind a real LiveKit server, where `LIVEKIT_SERVER` names its binary.
//!
//! These tests are skipped without a failure elsewhere: no package registry has the server.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::support::harness::guest;
use crate::support::livekit_server::LiveKitServer;
use crate::support::people::{Client, saw};
use crate::support::rooms::{dispatch, dispatch_with, token};
use crate::support::scripted_server::{behind, run, start};

#[test]
fn real_server_assigns_jobs_and_receives_their_ends() {
    run(async {
        let Some(server) = LiveKitServer::start("a worker behind a real server") else { return };
        let worker = start(&server.url(), "panic", &["--agent-name", "tester"]);
        server.says("\"agentName\": \"tester\"", 1);
        dispatch(&server.url(), "lobby", "tester");
        server.says("\"status\": \"JS_FAILED\", \"error\": \"trapped: panicked at tests/guests/panic.rs", 1);
        worker.signal(Signal::TERM);
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        assert_eq!(done.exit, 0, "{}", done.stderr);
        server.says("the worker stops", 1);
    });
}

#[test]
fn granted_agent_deletes_its_room_at_a_real_server() {
    run(async {
        let Some(server) = LiveKitServer::start("moderation at a real server") else { return };
        let worker = start(&server.url(), "steward", &["--agent-name", "tester", "--moderate", "on", "--http", "off"]);
        server.says("\"agentName\": \"tester\"", 1);
        dispatch(&server.url(), "lobby", "tester");
        // Nobody of that name is there.
        server.says("participant does not exist; deleted\"", 1);
        worker.signal(Signal::TERM);
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        assert_eq!(done.exit, 0, "{}", done.stderr);
    });
}

#[test]
fn granted_agent_mutes_a_track_at_a_real_server() {
    run(async {
        let Some(server) = LiveKitServer::start("a muted track at a real server") else { return };
        let url = server.url();
        let Some(mut person) = Client::Python.joins(&url, &token("lobby", Client::Python.name())) else { return };
        person.sees("room", |line| saw(line, "connected"));
        person.order(&json!({ "do": "publish" }));
        let published = person.sees("track", |line| saw(line, "published"));
        let worker = start(&url, "silencer", &["--agent-name", "tester", "--moderate", "on", "--http", "off"]);
        server.says("\"agentName\": \"tester\"", 1);
        let metadata = format!("{} {}", Client::Python.name(), published["sid"].as_str().unwrap());
        dispatch_with(&url, "lobby", "tester", &metadata);
        let muted = person.sees("end of the sound", |line| saw(line, "muted"));
        assert_eq!((&muted["who"], &muted["sid"]), (&json!(Client::Python.name()), &published["sid"]));
        // Only LiveKit's own clusters move participants.
        server.says("failed: muted; not-supported", 1);
        person.leaves();
        worker.signal(Signal::TERM);
        let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
        assert_eq!(done.exit, 0, "{}", done.stderr);
    });
}

#[test]
fn two_workers_form_a_pool_of_a_real_server_and_survive_its_restart() {
    run(async {
        let Some(mut server) = LiveKitServer::start("a pool behind a real server") else { return };
        let events = [tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap()];
        let said = |at: usize, event: &str| {
            let text = std::fs::read_to_string(events[at].path()).unwrap();
            text.matches(&format!("\"{event}\"")).count()
        };
        let until = async |done: &dyn Fn() -> bool| {
            while !done() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let workers = [0, 1].map(|at| {
            let call = behind(&server.url(), &[guest("obedient").to_str().unwrap()]);
            call.args(["--max-jobs", "1", "--http", "off", "--events", events[at].path().to_str().unwrap()]).start()
        });
        until(&|| said(0, "worker.registered") + said(1, "worker.registered") == 2).await;
        // Who is full passes, and the other one takes the job.
        dispatch(&server.url(), "lobby", "obedient");
        until(&|| said(0, "worker.full") + said(1, "worker.full") == 1).await;
        dispatch(&server.url(), "lobby", "obedient");
        until(&|| said(0, "job.launched") == 1 && said(1, "job.launched") == 1).await;
        // Both jobs outlive the server, and their ends are told to the next one.
        server.kill();
        server.start_again();
        until(&|| said(0, "link.restored") == 1 && said(1, "link.restored") == 1).await;
        assert_eq!(said(0, "job.closed") + said(1, "job.closed"), 0);
        workers.iter().for_each(|worker| worker.signal(Signal::TERM));
        until(&|| said(0, "worker.draining") + said(1, "worker.draining") == 2).await;
        workers.iter().for_each(|worker| worker.signal(Signal::TERM));
        for worker in workers {
            let done = tokio::task::spawn_blocking(|| worker.done()).await.unwrap();
            assert_eq!(done.exit, 130, "{}", done.stderr);
        }
        server.says("the worker stops", 2);
    });
}
