//! Tests that compare `host/docs/openapi-worker.json` with the tables of routes and with the types of the answers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use wasm_worker_core::api::Problem;
use wasm_worker_core::api::worker::{
    AgentState, AgentStatus, Draining, EndedJob, FleetInfo, JobDetail, JobList, JobLog, Killing, RunningJob, WorkerInfo,
};
use wasm_worker_core::job::{Present, RoomStatus, Task, TaskReport, Tracks, WaitsFor};
use wasm_worker_core::record::{JobRecord, LogLine};
use wasm_worker_core::usage::{AudioUse, RoomUse};
use wasm_worker_core::verdict::{Blame, Code};

use super::routes::{Access, Method, Route};
use super::{fleet, worker};

/// An operation: its path, its method, and whether it needs the token.
type Operation = (String, Method, Access);

fn description() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi-worker.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The target of a reference; other values are their own targets.
fn resolved<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => description.pointer(reference.strip_prefix('#').unwrap()).expect(reference),
        None => value,
    }
}

/// The operations that the description attributes to `server`.
fn described(description: &Value, server: &str) -> BTreeSet<Operation> {
    let mut operations = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        let item = resolved(description, item).as_object().unwrap();
        for (method, operation) in item.iter().filter(|(key, _)| *key != "parameters") {
            let method = match method.as_str() {
                "get" => Method::Get,
                "post" => Method::Post,
                other => panic!("{path}: no route has the method {other}"),
            };
            assert!(operation["responses"].is_object() && operation["summary"].is_string(), "{path}");
            let access = match operation["security"].as_array().unwrap().as_slice() {
                [] => Access::Public,
                [scheme] if scheme["token"].is_array() => Access::Token,
                other => panic!("{path}: {other:?}"),
            };
            if operation["x-served-by"].as_array().unwrap().contains(&server.into()) {
                operations.insert((path.clone(), method, access));
            }
        }
    }
    operations
}

fn served<S: Clone + Send + Sync + 'static>(table: &[Route<S>]) -> BTreeSet<Operation> {
    table.iter().flat_map(|route| route.paths().into_iter().map(|path| (path, route.method, route.access))).collect()
}

#[test]
fn every_route_is_described_and_every_described_path_is_served() {
    let description = description();
    assert_eq!(described(&description, "worker"), served(&worker::table()));
    assert_eq!(described(&description, "supervisor"), served(&fleet::table()));
}

/// Compare the fields of a value with a schema, at every depth that the value shows.
fn check(description: &Value, at: &str, schema: &Value, value: &Value) {
    let schema = resolved(description, schema);
    if let Some(alternatives) = schema["oneOf"].as_array() {
        let state = &value["state"];
        let fits = alternatives.iter().find(|one| resolved(description, one)["properties"]["state"]["const"] == *state);
        return check(description, at, fits.expect(at), value);
    }
    match value {
        Value::Object(fields) if schema["properties"].is_object() => {
            let properties = schema["properties"].as_object().unwrap();
            for (name, field) in fields {
                let property = properties.get(name).unwrap_or_else(|| panic!("{at}.{name} is not described"));
                check(description, &format!("{at}.{name}"), property, field);
            }
            for required in schema["required"].as_array().unwrap() {
                assert!(fields.contains_key(required.as_str().unwrap()), "{at}: {required} is absent");
            }
        }
        Value::Object(fields) => {
            assert!(schema["additionalProperties"].is_object(), "{at} is not a map");
            fields.values().for_each(|field| check(description, at, &schema["additionalProperties"], field));
        }
        Value::Array(items) => items.iter().for_each(|item| check(description, at, &schema["items"], item)),
        Value::String(text) => {
            let known = schema["enum"].as_array().is_none_or(|names| names.contains(value));
            assert!(known && schema["const"].as_str().is_none_or(|only| only == text), "{at}: `{text}`");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn record() -> JobRecord {
    let usage = json!({ "start_us": 1, "models": [
        { "kind": "llm", "provider": "p", "model": "m", "counters": { "tokens": 1.0 } }
    ] });
    let text = json!({ "topic": "t", "text": "x", "destinations": ["b"], "attributes": { "a": "b" } });
    serde_json::from_value(json!({
        "at": "2026-01-01T00:00:00Z", "job": "AJ_1", "dispatch": "AD_1", "attempt": 1, "agent": "a", "room": "r",
        "identity": "agent-AJ_1",
        "verdict": {
            "code": "trapped", "blame": "guest", "retry": false, "detail": "d", "trap": "unreachable",
            "kill_lag_us": 1, "backtrace": ["f"]
        },
        "usage": usage,
        "activity": { "attributes": { "a": "b" }, "texts": [text], "texts_not_kept": 0 },
    }))
    .unwrap()
}

#[test]
fn every_field_of_an_answer_is_described() {
    let description = description();
    let answer = |schema: &str, value: Value| {
        check(&description, schema, &json!({ "$ref": format!("#/components/schemas/{schema}") }), &value);
    };
    let at = "2026-01-01T00:00:00Z".parse().unwrap();
    let text = || "x".to_owned();
    let running = RunningJob {
        job: text(),
        agent: text(),
        room: text(),
        dispatch: text(),
        attempt: 1,
        since: at,
        cpu_us: 1,
        wait_us: 1,
        waits: Some(WaitsFor { timer_ms: Some(1), ..WaitsFor::default() }),
        in_room: Some(RoomStatus {
            present: vec![Present { identity: text(), kind: text(), state: text() }],
            used: RoomUse { audio: AudioUse { heard_ms: 1, ..AudioUse::default() }, ..RoomUse::default() },
            tracks: Tracks { heard: 1, published: 1 },
            ..RoomStatus::default()
        }),
        tasks: Some(TaskReport { age_ms: 1, tasks: vec![Task::default()] }),
    };
    let ended = EndedJob { job: text(), agent: text(), room: text(), at, code: Code::Killed, detail: text() };
    let agent = AgentStatus { agent: text(), worker: None, state: AgentState::GivenUp };
    let line: LogLine = serde_json::from_value(json!({
        "number": 0, "at": "2026-01-01T00:00:00Z", "level": "info", "message": "m", "fields": { "a": "b" }
    }))
    .unwrap();
    let worker = WorkerInfo {
        worker_type: "JT_ROOM".into(),
        agent_name: text(),
        active_jobs: 1,
        sdk_version: text(),
        worker_load: 0.5,
        protocol_version: 1,
        agents: vec![agent],
        draining: false,
        sample: Default::default(),
    };
    let fleet = FleetInfo { sdk_version: text(), processes: 2, running: 1, registered: 1, draining: true };
    answer("WorkerInfo", json!(worker));
    answer("FleetInfo", json!(fleet));
    answer("JobList", json!(JobList { running: vec![running.clone()], ended: vec![ended] }));
    answer("JobDetail", json!(JobDetail::Running(Box::new(running))));
    answer("JobDetail", json!(JobDetail::Ended(Box::new(record()))));
    answer("JobLog", json!(JobLog { job: text(), lines: vec![line], not_kept: 0, ended: false }));
    answer("Killing", json!(Killing { job: text(), state: "killing".into() }));
    answer("Draining", json!(Draining { state: "draining".into() }));
    answer("Problem", json!(Problem { error: text() }));
}

#[test]
fn every_code_blame_and_state_is_described() {
    let description = description();
    let names = |pointer: &str| description.pointer(pointer).unwrap().as_array().unwrap().clone();
    let codes: Vec<Value> = Code::ALL.iter().map(|code| code.as_str().into()).collect();
    assert_eq!(names("/components/schemas/Code/enum"), codes);
    let blames: BTreeSet<&str> = Code::ALL.iter().map(|code| code.blame()).map(Blame::as_str).collect();
    let described = names("/components/schemas/Verdict/properties/blame/enum");
    assert!(blames.iter().all(|blame| described.contains(&(*blame).into())), "{blames:?} {described:?}");
    for name in names("/components/schemas/AgentState/enum") {
        let state: AgentState = serde_json::from_value(name.clone()).unwrap();
        assert_eq!(name, state.as_str());
    }
    // No schema is left over, and no reference leads nowhere.
    let mut uses = BTreeMap::new();
    count_references(&description, &description, &mut uses);
    for kind in ["schemas", "responses", "pathItems"] {
        for name in description["components"][kind].as_object().unwrap().keys() {
            assert!(uses.contains_key(&format!("#/components/{kind}/{name}")), "{kind}/{name} is not used");
        }
    }
}

fn count_references(description: &Value, value: &Value, uses: &mut BTreeMap<String, usize>) {
    if let Some(reference) = value["$ref"].as_str() {
        assert!(resolved(description, value).is_object(), "{reference}");
        *uses.entry(reference.to_owned()).or_default() += 1;
    }
    match value {
        Value::Object(fields) => fields.values().for_each(|field| count_references(description, field, uses)),
        Value::Array(items) => items.iter().for_each(|item| count_references(description, item, uses)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
