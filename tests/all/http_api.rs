//! The HTTP API of a worker: pages, token and metrics.

use livekit_protocol as proto;
use serde_json::Value;

use crate::documentation::generated;
use crate::support::harness::{Door, Started, cache_dir, guest};
use crate::support::scripted_server::{Server, behind, blocking, ended, run, stopped, until};

/// A worker in this process's shared cache answers HTTP at a free port.
const HTTP: [&str; 2] = ["--http", "127.0.0.1:0"];

async fn door(worker: &Started) -> Door {
    let pid = worker.pid();
    blocking(move || Door::of(cache_dir(), pid)).await
}

async fn get(door: &Door, path: &str) -> (u16, Value) {
    let (door, path) = (Door { url: door.url.clone(), token: door.token.clone() }, path.to_owned());
    let (status, body) = blocking(move || door.get(&path)).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

async fn post(door: &Door, path: &str) -> u16 {
    let (door, path) = (Door { url: door.url.clone(), token: door.token.clone() }, path.to_owned());
    blocking(move || door.post(&path)).await.0
}

/// Until the worker's pages show that the server has it.
async fn ready(door: &Door) {
    until(async || get(door, "/ready").await.0 == 200).await;
}

#[test]
fn pages_show_the_worker_and_its_jobs() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &HTTP);
        let door = door(&worker).await;
        // It answers from the start, while its agent is still being loaded.
        assert_eq!(get(&door, "/live").await.0, 200);
        assert_eq!(get(&door, "/").await, (200, "OK".into()));
        let unready = async |why: &str| {
            let expected = serde_json::json!({ "error": format!("agent `obedient` {why}") });
            until(async || get(&door, "/ready").await == (503, expected.clone())).await;
        };
        unready("has no connection to the server").await;
        let mut peer = server.registered().await;
        ready(&door).await;
        peer.begin("AJ_1").await;

        let (_, info) = get(&door, "/worker").await;
        assert_eq!((&info["worker_type"], &info["agent_name"]), (&"JT_ROOM".into(), &"obedient".into()));
        assert_eq!((&info["active_jobs"], &info["agents"][0]["worker"]), (&1.into(), &"AW_test".into()));
        assert!(info["sample"]["cores"].as_f64().unwrap() > 0.0);
        let (_, jobs) = get(&door, "/jobs").await;
        assert_eq!((&jobs["running"][0]["job"], &jobs["running"][0]["room"]), (&"AJ_1".into(), &"lobby".into()));
        assert_eq!(get(&door, "/jobs/AJ_1").await.1["state"], "running");
        // The versioned paths have the same answers.
        assert_eq!(get(&door, "/api/v1/worker").await.1["agents"], info["agents"]);
        assert_eq!(get(&door, "/api/v1/jobs").await.1["running"][0]["job"], "AJ_1");
        assert_eq!(get(&door, "/api/v1/jobs/AJ_1").await.1["state"], "running");
        let (_, log) = get(&door, "/api/v1/jobs/AJ_1/logs?after=0").await;
        assert_eq!((&log["job"], &log["ended"]), (&"AJ_1".into(), &false.into()));
        assert_eq!(get(&door, "/api/v1/jobs/AJ_1/logs?after=x").await.0, 400);
        assert_eq!(get(&door, "/api/v1/jobs/AJ_2/logs").await.0, 404);
        assert_eq!(get(&door, "/jobs/AJ_2").await.0, 404);
        assert_eq!(get(&door, "/nowhere").await.0, 404);

        assert_eq!(post(&door, "/jobs/AJ_1/kill").await, 202);
        let (job, status, error) = peer.report().await;
        assert_eq!((job.as_str(), status), ("AJ_1", proto::JobStatus::JsFailed));
        assert!(error.starts_with("killed: "), "{error}");
        assert_eq!(post(&door, "/jobs/AJ_1/kill").await, 409);
        assert_eq!(get(&door, "/jobs/AJ_1").await.1["job"]["verdict"]["blame"], "operator");
        assert_eq!(get(&door, "/jobs").await.1["ended"][0]["code"], "killed");
        assert_eq!(get(&door, "/api/v1/jobs/AJ_1/logs").await.1["ended"], true);

        peer.begin("AJ_3").await;
        assert_eq!(post(&door, "/drain").await, 202);
        assert_eq!(get(&door, "/ready").await, (503, serde_json::json!({ "error": "draining" })));
        // Asked once more, it still waits.
        assert_eq!(post(&door, "/api/v1/drain").await, 202);
        peer.status(true).await;
        assert_eq!(post(&door, "/jobs/AJ_3/kill").await, 202);
        assert_eq!(peer.report().await.0, "AJ_3");
        assert_eq!(ended(worker, peer).await.exit, 0);
    });
}

#[test]
fn private_and_changing_routes_need_the_token() {
    run(async {
        let server = Server::bind().await;
        let worker = server.worker("obedient", &["--http", "127.0.0.1:0", "--http-token", "hunter2"]);
        let door = door(&worker).await;
        let peer = server.registered().await;
        let ask = |method: &'static str, path: String, token: &'static str| {
            let door = Door { url: door.url.clone(), token: door.token.clone() };
            blocking(move || door.ask(method, &path, token))
        };
        let protected =
            [("GET", "/jobs"), ("GET", "/jobs/x"), ("POST", "/jobs/x/kill"), ("POST", "/drain"), ("GET", "/events")];
        let versioned = protected.map(|(method, path)| (method, format!("/api/v1{path}")));
        let protected = protected.map(|(method, path)| (method, path.to_owned()));
        let logs = [("GET", "/api/v1/jobs/x/logs".to_owned())];
        for (method, path) in protected.into_iter().chain(versioned).chain(logs) {
            for token in ["", "wrong", "hunter"] {
                let (status, why) = ask(method, path.clone(), token).await;
                assert_eq!(status, 401, "{path} {token}: {why}");
            }
        }
        assert_eq!(ask("GET", "/jobs".into(), "hunter2").await.0, 200);
        for path in ["/", "/worker", "/live", "/metrics", "/api/v1/worker"] {
            assert_eq!(ask("GET", path.into(), "").await.0, 200, "{path}");
        }
        let done = stopped(worker, peer).await;
        assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    });
}

#[test]
fn served_metrics_are_the_documented_metrics() {
    run(async {
        let server = Server::bind().await;
        let flags = ["--http", "127.0.0.1:0", "--max-duration", "100ms", "--event-command", "cat > /dev/null"];
        let worker = server.worker("obedient", &flags);
        let door = door(&worker).await;
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        assert_eq!(peer.report().await.1, proto::JobStatus::JsFailed);
        peer.offer("AJ_2").await;
        assert!(peer.answer().await.available);
        drop(peer);
        let peer = server.registered().await;
        ready(&door).await;
        // A worker is ready a moment before its metrics say so.
        let up = r#"wasm_worker_link_up{agent="obedient"} 1"#;
        let metrics = async || get(&door, "/metrics").await.1.as_str().unwrap().to_owned();
        until(async || metrics().await.contains(up)).await;
        let text = metrics().await;
        for line in [
            r#"wasm_worker_jobs_ended_total{agent="obedient",code="deadline",blame="guest"} 1"#,
            r#"wasm_worker_offers_accepted_total{agent="obedient"} 1"#,
            r#"wasm_worker_offers_refused_total{agent="obedient",reason="withdrawn"} 1"#,
            r#"wasm_worker_link_lost_total{agent="obedient"} 1"#,
            r#"wasm_worker_jobs_running{agent="obedient"} 0"#,
            r#"wasm_worker_link_up{agent="obedient"} 1"#,
            r#"wasm_worker_job_start_seconds_count{agent="obedient"} 1"#,
            "wasm_worker_kill_lag_seconds_count 1",
            r#"wasm_worker_events_dropped_total{sink="command"} 0"#,
            r#"wasm_worker_used_ratio{resource="jobs"} 0"#,
        ] {
            assert!(text.contains(line), "`{line}` is missing in:\n{text}");
        }
        let fuel = text.lines().find_map(|line| line.strip_prefix("wasm_worker_fuel_total ")).unwrap();
        assert!(fuel.parse::<u64>().unwrap() > 1_000, "{fuel}");
        generated::check_metrics("worker", &text);
        stopped(worker, peer).await;
    });
}

#[test]
fn occupied_port_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = behind("ws://127.0.0.1:9", &[guest("echo").to_str().unwrap()]).args(["--http", &address]).done();
    done.fails_with(2, &["HTTP cannot be served at", &address, "hint: choose another address"]);
}
