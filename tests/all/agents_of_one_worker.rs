//! One worker with several agents: each agent has its own name, registration and limits.

use livekit_protocol as proto;
use rustix::process::Signal;

use crate::support::harness::{guest, path};
use crate::support::scripted_server::{Server, behind, run};

#[test]
fn every_agent_has_its_own_registration_and_limits() {
    run(async {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[agents.spin]\nagent-name = \"whirl\"\nunresponsive-timeout = \"100ms\"\n";
        std::fs::write(file.path(), text).unwrap();
        let server = Server::bind().await;
        let (spin, obedient) = (guest("spin"), guest("obedient"));
        let call = behind(&server.url(), &[path(&spin), path(&obedient)]);
        let worker = call.args(["--http", "off", "--config", path(file.path())]).start();
        let mut peers = server.two().await;
        assert_eq!((peers[0].0.as_str(), peers[1].0.as_str()), ("obedient", "whirl"));
        let (_, mut whirl) = peers.pop().unwrap();
        let (_, mut obedient) = peers.pop().unwrap();
        obedient.begin("AJ_1").await;
        whirl.begin("AJ_2").await;
        let (_, status, error) = whirl.report().await;
        assert_eq!(status, proto::JobStatus::JsFailed);
        assert!(error.starts_with("unresponsive: ") && error.contains("100ms"), "{error}");
        obedient.terminated("AJ_1").await;
        worker.signal(Signal::TERM);
        let (whirl, obedient) = (whirl.drained(), obedient.drained());
        let done = tokio::task::spawn_blocking(|| worker.done());
        tokio::join!(whirl, obedient);
        assert_eq!(done.await.unwrap().exit, 0);
    });
}

#[test]
fn agents_with_equal_names_are_refused() {
    let (one, same) = (guest("echo"), tempfile::tempdir().unwrap());
    let same = same.path().join("echo.wasm");
    std::fs::create_dir_all(same.parent().unwrap()).unwrap();
    std::fs::copy(&one, &same).unwrap();
    let done = behind("ws://127.0.0.1:9", &[path(&one), path(&same)]).done();
    done.fails_with(2, &["two agents would be registered as `echo`", "hint: give each an `agent-name`"]);
    behind("ws://127.0.0.1:9", &[path(&one), path(&same)])
        .args(["--job"])
        .done()
        .fails_with(2, &["`--job` takes exactly one agent"]);
}
