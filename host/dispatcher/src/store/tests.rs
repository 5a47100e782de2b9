use std::collections::BTreeMap;

use livekit_protocol as proto;

use super::*;
use crate::clock::Moment;
use crate::scheduler::{Dispatch, Id};
use wasm_worker_core::api::dispatcher::DispatchState;
use wasm_worker_core::api::usage::UsageBy;
use wasm_worker_core::verdict::{Blame, Code, TrapKind, Verdict};
use wasm_worker_protocol::dispatcher_session::DispatchKey;
use wasm_worker_protocol::report::JobEnd;

mod faults;
mod readers;

fn settings(path: &Path) -> Settings {
    Settings { path: path.to_owned(), sync: StoreSync::Commit, bytes_max: 8 << 20, retention: Duration::from_secs(60) }
}

fn dispatch(id: &str, metadata: &str) -> Dispatch {
    Dispatch {
        id: id.into(),
        api_key: "devkey".into(),
        dispatch_key: DispatchKey { agent: "a".into(), job_type: 0, deployment: String::new() },
        room: proto::Room { name: "r".into(), sid: "RM_1".into(), ..Default::default() },
        metadata: metadata.into(),
        attributes: BTreeMap::from([("lang".into(), "en".into())]),
        restart: proto::JobRestartPolicy::JrpNever,
        priority: 3,
        created_ns: 1,
        deadline_ns: i64::MAX,
    }
}

fn created(id: &str) -> StoreOp {
    created_with(id, "m")
}

fn created_with(id: &str, metadata: &str) -> StoreOp {
    StoreOp::Change(Change::Created { dispatch: Arc::new(dispatch(id, metadata)), job: format!("J-{id}").into() })
}

fn assigned(id: &str) -> StoreOp {
    StoreOp::Change(Change::Assigned {
        dispatch: id.into(),
        job: format!("J-{id}").into(),
        attempt: 1,
        worker: "AW_1".into(),
        instance: "i".into(),
        identity: "agent".into(),
        at_ns: 2,
    })
}

fn ended(id: &str, code: Code) -> Vec<StoreOp> {
    let end = JobEnd { usage: Some("{\"fuel\":7}".into()), ..JobEnd::new(code, "d") };
    let job: Id = format!("J-{id}").into();
    vec![
        StoreOp::Change(Change::JobEnded { job, end: end.clone(), at_ns: 3 }),
        StoreOp::Change(Change::Ended { dispatch: id.into(), end, at_ns: 3 }),
    ]
}

async fn durable(store: &Store, batch: u64) {
    store.written().wait_for(|written| written.batches >= batch).await.unwrap();
}

#[tokio::test]
async fn open_dispatches_are_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in/a/new/directory/store.db");
    let (mut store, recovered) = Store::open(settings(&path), 0).unwrap();
    assert!(recovered.dispatches.is_empty() && recovered.rooms.is_empty());
    let room = Room {
        name: "r".into(),
        sid: "RM_1".into(),
        metadata: "x".into(),
        empty_timeout: 5,
        departure_timeout: 6,
        max_participants: 7,
        created_ns: 8,
    };
    let mut batch = vec![
        StoreOp::Room(room.clone()),
        created("waits"),
        created("runs"),
        assigned("runs"),
        created("ended"),
        assigned("ended"),
    ];
    batch.extend(ended("ended", Code::Completed));
    let batch_number = store.write(batch).unwrap();
    durable(&store, batch_number).await;
    // The first end stays.
    store.write(ended("ended", Code::Failed)).unwrap();
    store.close().await;

    let (store, recovered) = Store::open(settings(&path), 0).unwrap();
    assert_eq!(recovered.rooms, [room]);
    let open: Vec<(&str, Option<&str>)> =
        recovered.dispatches.iter().map(|open| (&*open.dispatch.id, open.instance.as_deref())).collect();
    assert_eq!(open, [("waits", None), ("runs", Some("i"))]);
    let first = &recovered.dispatches[0];
    assert_eq!(
        (first.dispatch.priority, first.dispatch.attributes["lang"].as_str(), &*first.job),
        (3, "en", "J-waits")
    );
    assert_eq!(first.dispatch.restart, proto::JobRestartPolicy::JrpNever);
    let reader = store.reader();
    let row = reader.dispatch("J-ended".into()).await.unwrap().unwrap();
    assert_eq!(
        (row.dispatch.dispatch.as_str(), row.dispatch.verdict.as_ref().unwrap().code, row.dispatch.ended_ns),
        ("ended", Code::Completed, Some(3))
    );
    assert_eq!(reader.attempts("ended".into()).await.unwrap()[0].usage.as_ref().unwrap().fuel, 7);
    let filter = Filter { room: Some("r".into()), open: Some(true), limit: 10, ..Filter::default() };
    assert_eq!(reader.dispatches(filter).await.unwrap().len(), 2);
    store.close().await;
}

/// Times and texts of a store that version 1 of the schema wrote: an ended dispatch, and an open one.
const V1_ROWS: &str = "
INSERT INTO dispatches VALUES ('ended', 'devkey', 'a', 0, '', 'r', 'RM_1', '', 'm', '{}', 0, 0, 1, 9, 'J-ended', 1, NULL, 4,
    'trapped', 'the agent panicked', NULL);
INSERT INTO jobs VALUES ('J-ended', 'ended', 1, 'AW_1', 'i', 'agent', 2, 3, 4, 'trapped', 'the agent panicked', NULL);
INSERT INTO dispatches VALUES ('open', 'devkey', 'a', 0, '', 'r', 'RM_1', '', 'm', '{}', 0, 0, 1, 9, 'J-open', 1, NULL, NULL,
    NULL, NULL, NULL);
";

#[tokio::test]
async fn store_of_version_1_is_migrated_with_its_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let old = Connection::open(&path).unwrap();
    old.execute_batch(schema::V1).unwrap();
    old.execute_batch(V1_ROWS).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);

    let (store, recovered) = Store::open(settings(&path), 0).unwrap();
    assert_eq!(recovered.dispatches.iter().map(|open| &*open.dispatch.id).collect::<Vec<_>>(), ["open"]);
    let reader = store.reader();
    let verdict = Verdict::new(Code::Trapped, "the agent panicked");
    let row = reader.dispatch("ended".into()).await.unwrap().unwrap();
    assert_eq!((row.dispatch.state, row.dispatch.verdict.as_ref()), (DispatchState::Ended, Some(&verdict)));
    assert_eq!(verdict.blame, Blame::Guest);
    let attempts = reader.attempts("ended".into()).await.unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.verdict.as_ref()).collect::<Vec<_>>(), [Some(&verdict)]);
    assert_eq!(reader.dispatch("open".into()).await.unwrap().unwrap().dispatch.verdict, None);
    let bills = reader.bills(UsageBy::Agent, 0..9).await.unwrap().list(0, 9);
    assert_eq!((bills.jobs, bills.unmeasured, bills.sums[0].name.as_str()), (1, 1, "a"));
    store.close().await;
}

#[tokio::test]
async fn trapped_verdict_is_stored_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(settings(&dir.path().join("store.db")), 0).unwrap();
    let verdict = Verdict {
        trap: Some(TrapKind::DivideByZero),
        kill_lag_us: Some(7),
        backtrace: vec!["agent::divide".into(), "agent::main".into()],
        ..Verdict::new(Code::Trapped, "wasm trap: integer divide by zero")
    };
    let end = JobEnd { verdict: verdict.clone(), usage: None };
    let mut batch = vec![created("d"), assigned("d")];
    batch.push(StoreOp::Change(Change::JobEnded { job: "J-d".into(), end: end.clone(), at_ns: 3 }));
    batch.push(StoreOp::Change(Change::Ended { dispatch: "d".into(), end, at_ns: 3 }));
    let batch_number = store.write(batch).unwrap();
    durable(&store, batch_number).await;
    let reader = store.reader();
    let row = reader.dispatch("J-d".into()).await.unwrap().unwrap();
    assert_eq!(row.dispatch.verdict.as_ref(), Some(&verdict));
    assert_eq!(reader.attempts("d".into()).await.unwrap()[0].verdict.as_ref(), Some(&verdict));
    store.close().await;
}

#[tokio::test]
async fn unusable_store_is_refused_and_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (store, _) = Store::open(settings(&path), 0).unwrap();
    assert!(matches!(Store::open(settings(&path), 0), Err(StoreError::InUse { .. })));
    store.close().await;
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(Store::open(settings(&path), 0), Err(StoreError::Newer { .. })));
    let garbage = dir.path().join("garbage.db");
    let bytes = [b'x'; 9_000];
    std::fs::write(&garbage, bytes).unwrap();
    assert!(matches!(Store::open(settings(&garbage), 0), Err(StoreError::Damaged { .. })));
    assert_eq!(std::fs::read(&garbage).unwrap(), bytes);
    let nowhere = Path::new("/proc/nowhere/store.db");
    assert!(matches!(Store::open(settings(nowhere), 0), Err(StoreError::Open { .. })));
}

#[tokio::test]
async fn full_store_deletes_ended_dispatches_and_keeps_open_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (mut store, _) = Store::open(settings(&path), 0).unwrap();
    let metadata = "x".repeat(100 << 10);
    store.write(vec![created_with("open", &metadata)]).unwrap();
    let mut last = 0;
    // Three times the bound of the file.
    for n in 0..240 {
        let id = format!("{n}");
        let mut batch = vec![created_with(&id, &metadata)];
        batch.extend(ended(&id, Code::Completed));
        last = store.write(batch).unwrap();
    }
    durable(&store, last).await;
    let row = store.reader().dispatch("open".into()).await.unwrap();
    assert!(row.is_some_and(|row| row.is_open()));
    store.close().await;
    assert!(std::fs::metadata(&path).unwrap().len() <= 8 << 20);
}

const DAY_NS: i64 = 24 * 60 * 60 * 1_000_000_000;
const YEAR_NS: i64 = 365 * DAY_NS;

/// The ids of the dispatches that a sweep leaves, with a clock that continues at this time of the wall clock.
fn left_by_a_sweep(settings: &Settings, wall_ns: i64) -> Vec<String> {
    let connection = connect(settings).unwrap();
    let clock = StoreClock::open(&connection, wall_ns).unwrap();
    clock.save(&connection, wall_ns).unwrap();
    assert!(!sweep::sweep(&connection, settings, clock.now_ns()).unwrap(), "the file is not full");
    let mut left = connection.prepare("SELECT id FROM dispatches ORDER BY id").unwrap();
    left.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn dispatch_is_deleted_after_the_retention_wherever_the_wall_clock_jumps() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let settings = Settings { retention: Duration::from_secs(7 * 24 * 60 * 60), ..settings(&path) };
    let now = Moment::now().wall_ns;
    let (mut store, _) = Store::open(settings.clone(), now).unwrap();
    let mut batch = vec![created("open")];
    // The wall clock was a year late, right, and a year early when they ended.
    for (id, at_ns) in
        [("late", now - YEAR_NS), ("right", now), ("early", now + YEAR_NS), ("older-version", now - YEAR_NS)]
    {
        let end = JobEnd::new(Code::Completed, "");
        batch.extend([created(id), StoreOp::Change(Change::Ended { dispatch: id.into(), end, at_ns })]);
    }
    let batch_number = store.write(batch).unwrap();
    durable(&store, batch_number).await;
    store.close().await;
    let old = "UPDATE dispatches SET ended_store_ns = NULL WHERE id = 'older-version'";
    Connection::open(&path).unwrap().execute(old, []).unwrap();

    // Restarts with a wall clock that jumps do not count as years.
    for wall_ns in [now, now + YEAR_NS, now - YEAR_NS, now] {
        assert_eq!(left_by_a_sweep(&settings, wall_ns), ["early", "late", "open", "right"]);
    }
    // A day at a time, as a dispatcher that is restarted each day.
    for day in 1..=4 {
        assert_eq!(left_by_a_sweep(&settings, now + day * DAY_NS).len(), 4, "day {day}");
    }
    (5..=8).for_each(|day| drop(left_by_a_sweep(&settings, now + day * DAY_NS)));
    assert_eq!(left_by_a_sweep(&settings, now + 9 * DAY_NS), ["open"]);
}

#[tokio::test]
#[ignore = "a measurement: cargo test --lib measure_the_store -- --ignored --nocapture"]
async fn measure_the_store() {
    const DISPATCHES: u32 = 20_000;
    for (sync, at_once) in [StoreSync::Commit, StoreSync::Checkpoint]
        .into_iter()
        .flat_map(|sync| [1, 32, 1_000].map(|at_once| (sync, at_once)))
    {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { sync, bytes_max: 1 << 30, ..settings(&dir.path().join("store.db")) };
        let (mut store, _) = Store::open(settings, 0).unwrap();
        let count = if at_once == 1 { DISPATCHES / 10 } else { DISPATCHES };
        let began = tokio::time::Instant::now();
        let mut batch_number = 0;
        for n in 0..count {
            batch_number = store.write(vec![created(&n.to_string())]).unwrap();
            // At most `at_once` batches wait, as with that many clients.
            durable(&store, batch_number.saturating_sub(at_once - 1)).await;
        }
        durable(&store, batch_number).await;
        let rate = f64::from(count) / began.elapsed().as_secs_f64();
        let sync = format!("{sync:?}").to_lowercase();
        println!("store-sync {sync:<10} {at_once:>5} at once: {rate:>7.0} dispatches a second");
        store.close().await;
    }
}
