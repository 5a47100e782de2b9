//! Agents that change while the worker serves: a new version of the file, and SIGHUP.

use std::path::PathBuf;

use rustix::process::Signal;

use crate::support::harness::{Door, guest, path};
use crate::support::scripted_server::{Server, behind, blocking, holds, run, stopped};

#[test]
fn new_version_serves_new_jobs_and_a_broken_version_is_ignored() {
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
        let worker = behind(&server.url(), &[path(&agent)]).args(["--http", "off", "--events", path(events.path())]);
        let worker = worker.without_a_terminal().start();
        let said = async |event: &str, times: usize| holds(events.path(), &format!("\"{event}\""), times).await;
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
        peer.terminated("AJ_4").await;
        peer.terminated("AJ_1").await;
        let done = stopped(worker, peer).await;
        assert!(done.stderr.contains("the new version cannot be loaded"), "{}", done.stderr);
    });
}

/// The file may have been read before the signal.
#[test]
fn hang_up_while_the_agent_is_loaded_has_it_loaded_again() {
    run(async {
        // A worker answers while it compiles an agent that its cache does not have.
        let cache = tempfile::tempdir().unwrap();
        let events = tempfile::NamedTempFile::new().unwrap();
        let server = Server::bind().await;
        let flags = ["--http", "127.0.0.1:0", "--cache-dir", path(cache.path()), "--events", path(events.path())];
        let worker = behind(&server.url(), &[path(&guest("obedient"))]).args(flags).without_a_terminal().start();
        let (pid, dir) = (worker.pid(), cache.path().to_owned());
        let (status, page) = blocking(move || Door::of(&dir, pid).get("/ready")).await;
        worker.signal(Signal::HUP);
        let peer = server.registered().await;
        holds(events.path(), "\"agent.reloaded\"", 1).await;
        stopped(worker, peer).await;
        assert_eq!(status, 503, "{page}");
    });
}
