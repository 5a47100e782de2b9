use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use livekit_protocol as proto;
use livekit_token::{AccessToken, VideoGrants};
use serde_json::{Value, json};

use super::*;
use crate::keys::DEVELOPMENT_PAIR;
use crate::scheduler::{Change, Dispatch};
use crate::settings::StoreSync;
use crate::store::StoreOp;
use wasm_worker_core::secret::Secret;
use wasm_worker_core::verdict::{Code, TrapKind, Verdict};
use wasm_worker_protocol::dispatcher_session::{DispatchKey, WorkerRegistration};
use wasm_worker_protocol::report::JobEnd;

fn settings(dir: &Path) -> DispatcherSettings {
    DispatcherSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        rtc_port: 0,
        rtc_address: None,
        tls_cert: None,
        tls_key: None,
        keys: None,
        store: dir.join("store.db"),
        store_sync: StoreSync::Checkpoint,
        store_bytes_max: 8 << 20,
        retention: Duration::from_secs(60),
        queue: true,
        queue_limit: 10,
        queue_memory_bytes: 1 << 20,
        queue_deadline: Duration::from_secs(60),
        attempts_max: 3,
        lost_after: Duration::from_secs(10),
        rate: None,
        metadata_bytes_max: 1 << 10,
    }
}

/// The routes of a dispatcher with the store in this directory, after these operations.
async fn routes(dir: &Path, ops: Vec<StoreOp>) -> Router {
    http::router(serving(dir, ops).await)
}

/// The state of the handlers of such a dispatcher.
async fn serving(dir: &Path, ops: Vec<StoreOp>) -> Arc<ApiState> {
    serving_with(DEVELOPMENT_PAIR, dir, ops).await
}

/// The same, with this API key and its secret.
async fn serving_with((key, secret): (&str, &str), dir: &Path, ops: Vec<StoreOp>) -> Arc<ApiState> {
    let settings = settings(dir);
    let (mut store, _) = Store::open(store_settings(&settings), 0).unwrap();
    store.write(ops).unwrap();
    store.close().await;
    let keys = Arc::new(Keys::new(&KeyPairs::from([(key.into(), Secret(secret.into()))])));
    let opened = Store::open(store_settings(&settings), 0).unwrap();
    let metrics: MetricsText = Arc::new(|waiting, running| format!("waiting {waiting} running {running}"));
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let room_host = RoomHost::start(address, keys.clone(), Arc::new(Events::default())).unwrap();
    let (state, coordinator) =
        assemble(&settings, (keys, room_host), opened, Arc::new(Events::default()), metrics, address);
    Handle::current().spawn(coordinator.serve());
    state
}

/// The answer to a request whose token has all grants.
async fn request(router: &Router, method: &str, path: &str) -> (StatusCode, Value) {
    let (key, secret) = DEVELOPMENT_PAIR;
    let grants =
        VideoGrants { room_list: true, room_create: true, room_admin: true, room: "r".into(), ..Default::default() };
    let token = AccessToken::with_api_key(key, secret).with_grants(grants).to_jwt().unwrap();
    let request = Request::builder().method(method).uri(path).header("Authorization", format!("Bearer {token}"));
    answer(router, request.body(Body::empty()).unwrap()).await
}

async fn answer(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = TowerToHyperService::new(router.clone()).call(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

fn created(id: &str) -> StoreOp {
    let dispatch = Dispatch {
        id: id.into(),
        api_key: DEVELOPMENT_PAIR.0.into(),
        dispatch_key: DispatchKey { agent: "a".into(), job_type: 0, deployment: String::new() },
        room: proto::Room { name: "r".into(), ..Default::default() },
        metadata: "m".into(),
        attributes: BTreeMap::from([("lang".into(), "en".into())]),
        restart: proto::JobRestartPolicy::JrpNever,
        priority: 0,
        created_ns: 1,
        deadline_ns: Moment::now().wall_ns_after(Duration::from_secs(60)),
    };
    StoreOp::Change(Change::Created { dispatch: Arc::new(dispatch), job: format!("J-{id}").into() })
}

/// A dispatch `d` whose job trapped.
fn trapped() -> (Verdict, Vec<StoreOp>) {
    let verdict = Verdict {
        trap: Some(TrapKind::DivideByZero),
        kill_lag_us: Some(7),
        backtrace: vec!["agent::divide".into(), "agent::main".into()],
        ..Verdict::new(Code::Trapped, "wasm trap: integer divide by zero")
    };
    let end = JobEnd { verdict: verdict.clone(), usage: Some(r#"{"fuel":7}"#.into()) };
    let assigned = Change::Assigned {
        dispatch: "d".into(),
        job: "J-d".into(),
        attempt: 1,
        worker: "AW_1".into(),
        instance: "i".into(),
        identity: "agent".into(),
        at_ns: 2,
    };
    let job_ended = Change::JobEnded { job: "J-d".into(), end: end.clone(), at_ns: 3 };
    let ended = Change::Ended { dispatch: "d".into(), end, at_ns: 3 };
    let changes = [assigned, job_ended, ended].map(StoreOp::Change);
    (verdict, std::iter::once(created("d")).chain(changes).collect())
}

#[tokio::test]
async fn trapped_verdict_is_shown_with_its_backtrace_at_both_paths() {
    let dir = tempfile::tempdir().unwrap();
    let (verdict, ops) = trapped();
    let router = routes(dir.path(), ops).await;
    for path in ["/jobs/d", "/jobs/J-d?after=&wait_ms=5", "/api/v1/jobs/d"] {
        let (status, job) = request(&router, "GET", path).await;
        assert_eq!(status, StatusCode::OK, "{job}");
        assert_eq!(
            (&job["state"], &job["metadata"], &job["attributes"]["lang"]),
            (&json!("ended"), &json!("m"), &json!("en"))
        );
        for shown in [&job, &job["attempts"][0]] {
            assert_eq!(serde_json::from_value::<Verdict>(shown.clone()).unwrap(), verdict, "{shown}");
            assert_eq!(shown["backtrace"][0], "agent::divide");
        }
        assert_eq!(job["attempts"][0]["usage"]["fuel"], 7);
    }
}

#[tokio::test]
async fn list_has_no_metadata_and_an_open_dispatch_has_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (_, mut ops) = trapped();
    ops.push(created("open"));
    let router = routes(dir.path(), ops).await;
    let (_, list) = request(&router, "GET", "/api/v1/jobs?limit=10").await;
    let jobs = list["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 2, "{list}");
    for job in jobs {
        assert!(["metadata", "attributes", "attempts"].iter().all(|field| job.get(field).is_none()), "{job}");
    }
    let (_, list) = request(&router, "GET", "/jobs?state=open").await;
    let waiting = json!({ "position": 1, "of": 1, "why": "no worker of agent `a` is connected" });
    assert_eq!((&list["jobs"][0]["dispatch"], &list["jobs"][0]["waiting"]), (&json!("open"), &waiting));
    assert_eq!(
        request(&router, "POST", "/jobs/J-open/cancel").await,
        (StatusCode::ACCEPTED, json!({ "dispatch": "open" }))
    );
    let (_, job) = request(&router, "GET", "/jobs/open?after=pending&wait_ms=10000").await;
    assert_eq!((&job["state"], &job["code"]), (&json!("ended"), &json!("cancelled")));
    assert_eq!(request(&router, "GET", "/workers").await, (StatusCode::OK, json!({ "workers": [] })));
}

#[tokio::test]
async fn usage_is_summed_for_callers_that_may_list() {
    let dir = tempfile::tempdir().unwrap();
    let (_, ops) = trapped();
    let router = routes(dir.path(), ops).await;
    let (status, list) = request(&router, "GET", "/api/v1/usage?by=key").await;
    assert_eq!(
        (status, &list["jobs"], &list["by"], &list["since_ns"]),
        (StatusCode::OK, &json!(1), &json!("key"), &json!(0))
    );
    let sums = &list["sums"][0];
    assert_eq!((&sums["name"], &sums["jobs"], &sums["fuel"]), (&json!(DEVELOPMENT_PAIR.0), &json!(1), &json!(7)));
    let (_, none) = request(&router, "GET", "/api/v1/usage?by=agent&since_ns=4").await;
    assert_eq!((&none["jobs"], &none["sums"]), (&json!(0), &json!([])));
    for path in ["/api/v1/usage", "/api/v1/usage?by=room", "/api/v1/usage?by=key&since_ns=1d"] {
        let (status, problem) = request(&router, "GET", path).await;
        assert_eq!((status, problem["error"].is_string()), (StatusCode::BAD_REQUEST, true), "{path}");
    }
    let (key, secret) = DEVELOPMENT_PAIR;
    let grants = VideoGrants { room_admin: true, room: "r".into(), ..Default::default() };
    let token = AccessToken::with_api_key(key, secret).with_grants(grants).to_jwt().unwrap();
    let asked = Request::builder().uri("/api/v1/usage?by=agent").header("Authorization", format!("Bearer {token}"));
    let (status, problem) = answer(&router, asked.body(Body::empty()).unwrap()).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED, "{problem}");
}

#[tokio::test]
async fn every_error_of_the_json_api_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let (_, ops) = trapped();
    let router = routes(dir.path(), ops).await;
    for (method, path, status, part) in [
        ("GET", "/api/v1/jobs/x", StatusCode::NOT_FOUND, "no dispatch or job has the id `x`"),
        ("GET", "/api/v1/jobs?state=other", StatusCode::BAD_REQUEST, "`open` or `ended`"),
        ("GET", "/api/v1/jobs/d?after=other", StatusCode::BAD_REQUEST, "`pending`"),
        ("POST", "/api/v1/jobs/d/cancel", StatusCode::CONFLICT, "`d` has ended"),
    ] {
        let (found, problem) = request(&router, method, path).await;
        assert_eq!(found, status, "{method} {path}: {problem}");
        assert!(problem["error"].as_str().unwrap().contains(part), "{method} {path}: {problem}");
    }
    for (token, part) in [(None, "permissions denied"), (Some("Bearer x"), "invalid token")] {
        let request = Request::builder().uri("/api/v1/workers");
        let request = token.into_iter().fold(request, |request, token| request.header("Authorization", token));
        let (status, problem) = answer(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(problem["error"].as_str().unwrap().contains(part), "{problem}");
    }
}

#[tokio::test]
async fn reads_are_answered_and_changes_refused_while_the_store_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let state = serving(dir.path(), vec![created("d")]).await;
    let router = http::router(state.clone());
    std::fs::remove_file(dir.path().join("store.db")).unwrap();
    // More than the queue of the store takes.
    let mut connections = Vec::new();
    for _ in 0..3_000 {
        let registration = Box::new(WorkerRegistration {
            dispatch_key: DispatchKey { agent: "b".into(), job_type: 0, deployment: String::new() },
            instance: String::new(),
            version: "1".into(),
            permissions: proto::ParticipantPermission::default(),
        });
        let ((outbound, queue), (reply, _)) = (mpsc::channel(8), tokio::sync::oneshot::channel());
        connections.push(queue);
        let register = WorkerCommand::Register { registration, api_key: "devkey".into(), outbound, reply };
        state.worker_commands.send(register).await.unwrap();
    }
    let (_, workers) = loop {
        let answer = request(&router, "GET", "/workers").await;
        if answer.1["workers"].as_array().unwrap().len() >= 1_000 {
            break answer;
        }
    };
    assert!(workers["workers"].as_array().unwrap().len() < 3_000, "the others wait");
    for path in ["/api/v1/jobs", "/api/v1/jobs/d"] {
        assert_eq!(request(&router, "GET", path).await.0, StatusCode::OK, "{path}");
    }
    let (status, problem) = request(&router, "POST", "/jobs/d/cancel").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let error = problem["error"].as_str().unwrap();
    assert!(error.contains("the store cannot write: the file `") && error.contains("was deleted"), "{error}");
}

#[tokio::test]
async fn pages_of_other_machines_join_rooms_with_own_keys_only() {
    let status = async |pair: (&str, &str), origin: Option<&str>| {
        let dir = tempfile::tempdir().unwrap();
        let router = http::router(serving_with(pair, dir.path(), Vec::new()).await);
        let grants = VideoGrants { room_join: true, room: "r".into(), ..Default::default() };
        let token = AccessToken::with_api_key(pair.0, pair.1).with_identity("ann").with_grants(grants);
        let uri = format!("/rtc/v1/validate?access_token={}", token.to_jwt().unwrap());
        let request = Request::builder().uri(uri);
        let request = origin.into_iter().fold(request, |request, origin| request.header("Origin", origin));
        let request = request.body(Body::empty()).unwrap();
        TowerToHyperService::new(router).call(request).await.unwrap().status().as_u16()
    };
    let own = ("key", "a secret of more than thirty-two bytes");
    let front = Some("https://front.example");
    assert_eq!((status(DEVELOPMENT_PAIR, front).await, status(own, front).await), (403, 200));
    assert_eq!(status(DEVELOPMENT_PAIR, Some("null")).await, 403);
    assert_eq!(status(DEVELOPMENT_PAIR, Some("http://localhost:3000")).await, 200);
    assert_eq!(status(DEVELOPMENT_PAIR, None).await, 200);
}
