use std::collections::BTreeMap;

use livekit_protocol as proto;

use super::*;
use crate::pool::{Dispatch, Id, JobEnd, Kind};
use wasm_worker_core::verdict::Code;

fn settings(path: &Path) -> Settings {
    Settings { path: path.to_owned(), sync: StoreSync::Commit, bytes_max: 8 << 20, retention: Duration::from_secs(60) }
}

fn dispatch(id: &str, metadata: &str) -> Dispatch {
    Dispatch {
        id: id.into(),
        key: "devkey".into(),
        kind: Kind { agent: "a".into(), job_type: 0, deployment: String::new() },
        room: proto::Room { name: "r".into(), sid: "RM_1".into(), ..Default::default() },
        metadata: metadata.into(),
        attributes: BTreeMap::from([("lang".into(), "en".into())]),
        restart: proto::JobRestartPolicy::JrpNever,
        priority: 3,
        created_ns: 1,
        deadline_ns: i64::MAX,
    }
}

fn created(id: &str) -> Entry {
    created_with(id, "m")
}

fn created_with(id: &str, metadata: &str) -> Entry {
    Entry::Pool(Write::Created { dispatch: Arc::new(dispatch(id, metadata)), job: format!("J-{id}").into() })
}

fn assigned(id: &str) -> Entry {
    Entry::Pool(Write::Assigned {
        dispatch: id.into(),
        job: format!("J-{id}").into(),
        attempt: 1,
        worker: "AW_1".into(),
        instance: "i".into(),
        identity: "agent".into(),
        at_ns: 2,
    })
}

fn ended(id: &str, code: Code) -> Vec<Entry> {
    let end = JobEnd { usage: Some("{\"fuel\":7}".into()), ..JobEnd::new(code, "d") };
    let job: Id = format!("J-{id}").into();
    vec![
        Entry::Pool(Write::JobEnded { job, end: end.clone(), at_ns: 3 }),
        Entry::Pool(Write::Ended { dispatch: id.into(), end, at_ns: 3 }),
    ]
}

async fn safe(store: &Store, batch: u64) {
    store.written().wait_for(|written| written.batches >= batch).await.unwrap();
}

#[tokio::test]
async fn what_is_not_over_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in/a/new/directory/store.db");
    let (mut store, left) = Store::open(settings(&path), 0).unwrap();
    assert!(left.open.is_empty() && left.rooms.is_empty());
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
        Entry::Room(room.clone()),
        created("waits"),
        created("runs"),
        assigned("runs"),
        created("ended"),
        assigned("ended"),
    ];
    batch.extend(ended("ended", Code::Completed));
    let handed = store.write(batch).await.unwrap();
    safe(&store, handed).await;
    // Whatever comes later, an end stays.
    store.write(ended("ended", Code::Failed)).await;
    store.close().await;

    let (store, left) = Store::open(settings(&path), 0).unwrap();
    assert_eq!(left.rooms, [room]);
    let open: Vec<(&str, Option<&str>)> =
        left.open.iter().map(|open| (&*open.dispatch.id, open.instance.as_deref())).collect();
    assert_eq!(open, [("waits", None), ("runs", Some("i"))]);
    let first = &left.open[0];
    assert_eq!(
        (first.dispatch.priority, first.dispatch.attributes["lang"].as_str(), &*first.job),
        (3, "en", "J-waits")
    );
    assert_eq!(first.dispatch.restart, proto::JobRestartPolicy::JrpNever);
    let reader = store.reader();
    let row = reader.dispatch("J-ended".into()).await.unwrap().unwrap();
    assert_eq!((row.dispatch.as_str(), row.verdict.unwrap().code, row.ended_ns), ("ended", Code::Completed, Some(3)));
    assert_eq!(reader.attempts("ended".into()).await.unwrap()[0].usage.as_ref().unwrap()["fuel"], 7);
    let filter = Filter { room: Some("r".into()), open: Some(true), limit: 10, ..Filter::default() };
    assert_eq!(reader.dispatches(filter).await.unwrap().len(), 2);
    store.close().await;
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_refused_and_left_as_it_is() {
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
async fn a_store_that_is_full_forgets_what_has_ended_and_keeps_what_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (mut store, _) = Store::open(settings(&path), 0).unwrap();
    let metadata = "x".repeat(100 << 10);
    store.write(vec![created_with("open", &metadata)]).await;
    let mut last = 0;
    // Three times what it may hold.
    for n in 0..240 {
        let id = format!("{n}");
        let mut batch = vec![created_with(&id, &metadata)];
        batch.extend(ended(&id, Code::Completed));
        last = store.write(batch).await.unwrap();
    }
    safe(&store, last).await;
    let row = store.reader().dispatch("open".into()).await.unwrap();
    assert!(row.is_some_and(|row| row.ended_ns.is_none()));
    store.close().await;
    assert!(std::fs::metadata(&path).unwrap().len() <= 8 << 20);
}

#[tokio::test]
async fn what_ended_longer_ago_than_the_retention_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (mut store, _) = Store::open(settings(&path), 0).unwrap();
    let mut batch = vec![created("open"), created("old"), created("new")];
    batch.extend(ended("old", Code::Completed));
    let now = crate::owner::now().wall_ns;
    let end = JobEnd::new(Code::Completed, "");
    batch.push(Entry::Pool(Write::Ended { dispatch: "new".into(), end, at_ns: now }));
    let handed = store.write(batch).await.unwrap();
    safe(&store, handed).await;
    store.close().await;
    let connection = connect(&settings(&path)).unwrap();
    assert!(!sweep::sweep(&connection, &settings(&path)).unwrap(), "there is room");
    let mut left = connection.prepare("SELECT id FROM dispatches ORDER BY id").unwrap();
    let left: Vec<String> = left.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(left, ["new", "open"]);
}

#[tokio::test]
#[ignore = "a measurement: cargo test --lib the_store_alone -- --ignored --nocapture"]
async fn the_store_alone() {
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
        let mut handed = 0;
        for n in 0..count {
            handed = store.write(vec![created(&n.to_string())]).await.unwrap();
            // No more than so many wait, as callers do.
            safe(&store, handed.saturating_sub(at_once - 1)).await;
        }
        safe(&store, handed).await;
        let rate = f64::from(count) / began.elapsed().as_secs_f64();
        let sync = format!("{sync:?}").to_lowercase();
        println!("store-sync {sync:<10} {at_once:>5} at once: {rate:>7.0} dispatches a second");
        store.close().await;
    }
}
