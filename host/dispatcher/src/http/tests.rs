//! The description of the API, `host/docs/openapi-dispatcher.json`, compared with the routes and the types.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use wasm_worker_core::api::Problem;
use wasm_worker_core::api::dispatcher::{
    Attempt, Cancelled, Dispatch, DispatchList, DispatchState, PoolWorker, PoolWorkerList, PoolWorkerState, Waiting,
};
use wasm_worker_core::api::usage::{UsageBy, UsageList, UsageSums, WorkSums};
use wasm_worker_core::job::JobKind;
use wasm_worker_core::load::{Resource, Scarcity};
use wasm_worker_core::network::traffic::{NetworkUse, Traffic};
use wasm_worker_core::usage::{AudioUse, Calls, HostCalls, ModelSums, PrewarmCost, UsageRecord};
use wasm_worker_core::verdict::{Blame, Code as EndCode, TrapKind, Verdict};

fn description() -> Value {
    serde_json::from_str(include_str!("../../../docs/openapi-dispatcher.json")).unwrap()
}

/// The value that a reference names, or the value itself where it is none.
fn resolved<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().map_or(value, |reference| description.pointer(&reference[1..]).unwrap())
}

/// The methods of a path item.
fn methods(description: &Value, item: &Value) -> BTreeSet<String> {
    resolved(description, item)
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| ["get", "post"].contains(&key.as_str()))
        .cloned()
        .collect()
}

#[test]
fn description_has_the_routes_of_the_router() {
    let description = description();
    let described: BTreeSet<(String, String)> = description["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| methods(&description, item).into_iter().map(|method| (method, path.clone())))
        .collect();
    let name = |method: MethodFilter| if method == MethodFilter::GET { "get" } else { "post" };
    let served: BTreeSet<(String, String)> =
        ROUTES.iter().map(|route| (name(route.method).to_owned(), route.path.to_owned())).collect();
    assert_eq!(described, served);
}

/// Every reference in a value.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn description_has_no_broken_reference_and_each_path_parameter() {
    let description = description();
    let mut found = Vec::new();
    references(&description, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(description.pointer(&reference[1..]).is_some(), "{reference} does not exist");
    }
    for (path, item) in description["paths"].as_object().unwrap() {
        let item = resolved(&description, item);
        let wanted: BTreeSet<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        let given: BTreeSet<&str> = item["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|parameter| resolved(&description, parameter))
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        assert_eq!(wanted, given, "{path}");
    }
}

fn verdict() -> Verdict {
    Verdict {
        trap: Some(TrapKind::Unreachable),
        kill_lag_us: Some(1),
        backtrace: vec!["f".into()],
        ..Verdict::new(EndCode::Trapped, "d")
    }
}

fn usage() -> UsageRecord {
    let models =
        vec![ModelSums { kind: "llm".into(), provider: "p".into(), model: "m".into(), counters: BTreeMap::new() }];
    let audio = AudioUse { heard_ms: 1, ..AudioUse::default() };
    UsageRecord { start_us: Some(1), models, network: network(), audio, ..UsageRecord::default() }
}

fn network() -> NetworkUse {
    let mut network = NetworkUse::default();
    network.add("h", &Traffic { requests: 1, ..Traffic::default() });
    network
}

fn sums() -> UsageSums {
    let models = usage().models;
    UsageSums {
        name: "a".into(),
        jobs: 1,
        unmeasured: 0,
        work: Some(WorkSums::default()),
        network: network().all,
        audio: usage().audio,
        models,
    }
}

fn attempt() -> Attempt {
    Attempt {
        job: "j".into(),
        attempt: 1,
        worker: "w".into(),
        assigned_ns: 1,
        started_ns: Some(1),
        ended_ns: Some(1),
        verdict: Some(verdict()),
        usage: Some(usage()),
    }
}

fn waiting() -> Waiting {
    Waiting { position: 1, of: 1, why: "w".into() }
}

fn dispatch() -> Dispatch {
    Dispatch {
        state: DispatchState::Ended,
        dispatch: "d".into(),
        job: "j".into(),
        agent: "a".into(),
        deployment: "e".into(),
        room: "r".into(),
        metadata: Some("m".into()),
        attributes: Some(BTreeMap::new()),
        priority: 0,
        attempt: 1,
        created_ns: 1,
        assigned_ns: Some(1),
        started_ns: Some(1),
        ended_ns: Some(1),
        worker: Some("w".into()),
        verdict: Some(verdict()),
        stopping: false,
        waiting: Some(waiting()),
        attempts: vec![attempt()],
    }
}

fn scarcity() -> Scarcity {
    Scarcity { resource: Resource::Cpu, used: 0.9, limit: 0.75 }
}

fn worker() -> PoolWorker {
    PoolWorker {
        worker: "w".into(),
        agent: "a".into(),
        job_type: JobKind::Room,
        deployment: "d".into(),
        version: "v".into(),
        state: PoolWorkerState::Available,
        load: 0.5,
        scarce: Some(scarcity()),
        full_since_ns: Some(1),
        jobs: 1,
        offers: 1,
        since_ns: 1,
    }
}

/// The fields of a schema, with those of the schemas that it includes.
fn fields(description: &Value, schema: &Value) -> BTreeSet<String> {
    let own = schema["properties"].as_object().into_iter().flat_map(|properties| properties.keys().cloned());
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let included = parts.flat_map(|part| fields(description, resolved(description, part)));
    own.chain(included).collect()
}

#[test]
fn schemas_have_the_fields_of_the_types() {
    let description = description();
    let check = |name: &str, sample: Value| {
        let schema = &description["components"]["schemas"][name];
        let sample: BTreeSet<String> = sample.as_object().unwrap().keys().cloned().collect();
        assert_eq!(fields(&description, schema), sample, "{name}");
    };
    check("Problem", json!(Problem { error: "e".into() }));
    check("Dispatch", json!(dispatch()));
    check("DispatchList", json!(DispatchList { jobs: vec![dispatch()] }));
    check("Attempt", json!(attempt()));
    check("Verdict", json!(verdict()));
    check("Waiting", json!(waiting()));
    check("Usage", json!(usage()));
    check("PrewarmCost", json!(PrewarmCost::default()));
    check("HostCalls", json!(HostCalls::default()));
    check("Calls", json!(Calls::default()));
    check("ModelSums", json!(usage().models[0]));
    check("NetworkUse", json!(network()));
    check("AudioUse", json!(AudioUse::default()));
    check("Traffic", json!(Traffic::default()));
    check("UsageSums", json!(sums()));
    let list = UsageList { by: UsageBy::Key, since_ns: 0, until_ns: 1, jobs: 1, unmeasured: 0, sums: vec![sums()] };
    check("UsageList", json!(list));
    check("Cancelled", json!(Cancelled { dispatch: "d".into() }));
    check("Scarcity", json!(scarcity()));
    check("PoolWorker", json!(worker()));
    check("PoolWorkerList", json!(PoolWorkerList { workers: vec![worker()] }));
}

#[test]
fn schemas_have_the_values_of_the_enums() {
    fn check<T: Serialize>(description: &Value, name: &str, values: &[T]) {
        assert_eq!(description["components"]["schemas"][name]["enum"], json!(values), "{name}");
    }
    let description = description();
    use DispatchState::{Assigned, Ended, Pending, Running};
    check(&description, "DispatchState", &[Pending, Assigned, Running, Ended]);
    check(&description, "EndCode", &EndCode::ALL);
    check(&description, "Blame", &[Blame::Guest, Blame::Host, Blame::Dispatcher, Blame::Operator]);
    check(&description, "UsageBy", &[UsageBy::Agent, UsageBy::Key, UsageBy::Host]);
    check(&description, "JobKind", &[JobKind::Room, JobKind::Publisher, JobKind::Participant]);
    use PoolWorkerState::{Available, Draining, Full, Paused};
    check(&description, "PoolWorkerState", &[Available, Full, Draining, Paused]);
    let traps = [
        TrapKind::StackOverflow,
        TrapKind::MemoryOutOfBounds,
        TrapKind::TableOutOfBounds,
        TrapKind::IndirectCallToNull,
        TrapKind::BadSignature,
        TrapKind::IntegerOverflow,
        TrapKind::DivideByZero,
        TrapKind::BadConversionToInteger,
        TrapKind::Unreachable,
        TrapKind::AllocationTooLarge,
        TrapKind::BrokenContract,
    ];
    check(&description, "TrapKind", &traps);
    let resources = [
        Resource::Cpu,
        Resource::Fuel,
        Resource::Memory,
        Resource::Jobs,
        Resource::Descriptors,
        Resource::Agent,
        Resource::AgentJobs,
        Resource::AgentCores,
        Resource::AgentTokens,
    ];
    assert_eq!(description["components"]["schemas"]["Scarcity"]["properties"]["resource"]["enum"], json!(resources));
}
