//! Agents of strangers in one worker: the limits of each, and the sums of their bills.

use serde_json::Value;

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{eventually, guest, path};
use crate::support::scripted_server::{Server, behind, run};

/// A file of settings.
fn settings(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn agent_at_its_own_limit_is_refused_by_name_and_leaves_the_worker_to_others() {
    run(async {
        let file = settings("[agents.obedient]\nagent-max-jobs = 1\n");
        let server = Server::bind().await;
        let (limited, other) = (guest("obedient"), guest("nap"));
        let call = behind(&server.url(), &[path(&limited), path(&other)]);
        let worker = call.args(["--http", "off", "--config", path(file.path())]).start();
        let mut peers = server.two().await;
        assert_eq!((peers[0].0.as_str(), peers[1].0.as_str()), ("nap", "obedient"));
        let (_, mut obedient) = peers.pop().unwrap();
        let (_, mut nap) = peers.pop().unwrap();
        obedient.begin("AJ_1").await;
        obedient.offer("AJ_2").await;
        let answer = obedient.answer().await;
        assert!(!answer.available && !answer.terminate, "another worker may take it: {answer:?}");
        // The other agent has the rest of the worker.
        nap.begin("AJ_3").await;
        assert_eq!(nap.report().await.1, livekit_protocol::JobStatus::JsSuccess);
        obedient.terminated("AJ_1").await;
        // It was full for its server.
        obedient.status(false).await;
        obedient.begin("AJ_4").await;
        obedient.terminated("AJ_4").await;
        worker.signal(rustix::process::Signal::TERM);
        let (nap, obedient) = (nap.drained(), obedient.drained());
        let done = tokio::task::spawn_blocking(|| worker.done());
        tokio::join!(nap, obedient);
        let said = done.await.unwrap().stderr;
        for part in ["reason=\"quota\"", "has 1 jobs, which is its most (`agent-max-jobs`)"] {
            assert!(said.contains(part), "`{part}` is missing in:\n{said}");
        }
    });
}

#[test]
fn dispatch_of_an_agent_at_its_limit_waits_with_the_reason() {
    let dispatcher = Dispatcher::start(&[]);
    let file = settings("[agents.spender]\ndaily-tokens = 1500\n[agents.burn]\nagent-cores = 0.001\n");
    let worker = dispatcher.worker(&["spender", "burn", "brief"], &["--config", path(file.path())]);
    eventually("all register", || (dispatcher.workers().len() == 3).then_some(()));
    let why = |id: &str| dispatcher.job(id)["waiting"]["why"].as_str().unwrap_or_default().to_owned();
    let waits = |agent: &str, wanted: &str| {
        let dispatch = dispatcher.dispatch("r", agent, "0");
        eventually(wanted, || why(&dispatch).contains(wanted).then_some(()));
    };
    let full =
        |part: &str| eventually(part, || dispatcher.verb(["workers"]).done().stdout.contains(part).then_some(()));
    // The first leaves tokens, the second takes more than there are.
    for tokens in ["1000", "800"] {
        let job = dispatcher.ended(&dispatcher.dispatch("r", "spender", tokens));
        assert_eq!(job["code"], "completed", "{job}");
    }
    full("full (tokens of its agent 1800 in 24 h, `daily-tokens` 1500)");
    waits("spender", "is full: tokens of its agent 1800 in 24 h, `daily-tokens` 1500");

    let burning = dispatcher.dispatch("r", "burn", "");
    dispatcher.in_state(&burning, "running");
    full("`agent-cores` 0.001)");
    waits("burn", "is full: cores of its agent");
    // The other agent is not concerned.
    assert_eq!(dispatcher.ended(&dispatcher.dispatch("r", "brief", ""))["code"], "completed");
    worker.kill();
}

#[test]
fn usage_sums_the_bills_by_agent_and_key() {
    let dispatcher = Dispatcher::start(&[]);
    let usage = |words: &[&str]| {
        let done = dispatcher.verb(["usage"].into_iter().chain(words.iter().copied())).done();
        assert_eq!(done.exit, 0, "{}", done.stderr);
        done.stdout
    };
    assert_eq!(usage(&[]), "no usage\n");
    let worker = dispatcher.worker(&["spender", "panic"], &[]);
    for (agent, metadata) in [("spender", "400"), ("spender", "40"), ("panic", "one")] {
        dispatcher.ended(&dispatcher.dispatch("r", agent, metadata));
    }
    let lines = usage(&["--json"]);
    let sums: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [panic, spender] = &sums[..] else { panic!("{lines}") };
    assert_eq!((&panic["name"], &panic["models"]), (&"panic".into(), &Value::Array(Vec::new())));
    assert_eq!((&spender["name"], &spender["jobs"], &spender["unmeasured"]), (&"spender".into(), &2.into(), &0.into()));
    let tokens = &spender["models"][0]["counters"];
    assert_eq!((&tokens["input_tokens"], &tokens["output_tokens"]), (&330.0.into(), &110.0.into()));
    assert!(spender["wall_us"].as_u64() >= Some(10_000) && spender["fuel"].as_u64() > Some(0), "{spender}");

    let table = usage(&["--by", "key", "--since", "1h"]);
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row[0], table.lines().count()), ("devkey", 2), "{table}");
    assert!(table.starts_with("KEY ") && table.contains("small: input_cached_tokens 0, input_tokens 330, "), "{table}");
    let csv = usage(&["--by", "agent", "--csv"]);
    let head = csv.lines().next().unwrap();
    assert!(head.starts_with("agent,jobs,unmeasured,wall_us,cpu_us,fuel,requests,"), "{csv}");
    assert!(head.contains("llm/nobody/small/input_tokens") && csv.lines().nth(2).unwrap().starts_with("spender,2,0,"));
    assert_eq!(usage(&["--by", "host"]), "no usage\n");
    dispatcher.verb(["usage", "--since", "0s"]).done().fails_with(2, &["want a time above zero"]);
    worker.kill();
}
