//! Lists and look-ups beside the writer.

use super::*;
use wasm_worker_core::usage::UsageRecord;

#[tokio::test]
async fn list_is_bounded_in_bytes_and_a_brief_one_reads_no_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { bytes_max: 64 << 20, ..settings(&dir.path().join("store.db")) };
    let (mut store, _) = Store::open(settings, 0).unwrap();
    let metadata = "x".repeat(1 << 20);
    let mut batch_number = 0;
    for n in 0..20 {
        batch_number = store.write(vec![created_with(&n.to_string(), &metadata)]).unwrap();
    }
    durable(&store, batch_number).await;
    let reader = store.reader();
    let list = |part| reader.dispatches(Filter { limit: 100, part, ..Filter::default() });
    let whole = list(Part::Whole).await.unwrap();
    assert_eq!((whole.len(), whole[0].dispatch.metadata.as_ref().map(String::len)), (15, Some(1 << 20)));
    let brief = list(Part::Brief).await.unwrap();
    assert_eq!(brief.len(), 20);
    assert!(brief.iter().all(|row| row.dispatch.metadata.is_none() && row.dispatch.attributes.is_none()));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constant_readers_do_not_make_the_log_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (mut store, _) = Store::open(settings(&path), 0).unwrap();
    let readers: Vec<_> = (0..4)
        .map(|n| {
            let reader = store.reader();
            tokio::runtime::Handle::current().spawn(async move {
                loop {
                    match n % 2 {
                        0 => drop(reader.dispatches(Filter { limit: 1_000, ..Filter::default() }).await.unwrap()),
                        _ => drop(reader.dispatch("1".into()).await.unwrap()),
                    }
                }
            })
        })
        .collect();
    let log = dir.path().join("store.db-wal");
    let (mut largest, mut batch_number) = (0, 0);
    for n in 0..400 {
        let id = n.to_string();
        let mut batch = vec![created_with(&id, &"x".repeat(100 << 10))];
        batch.extend(ended(&id, Code::Completed));
        batch_number = store.write(batch).unwrap();
        durable(&store, batch_number.saturating_sub(8)).await;
        let bytes = std::fs::metadata(&log).unwrap().len() + std::fs::metadata(&path).unwrap().len();
        largest = largest.max(bytes);
    }
    durable(&store, batch_number).await;
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    // A transaction may be half as long as the log.
    assert!(largest <= (8 << 20) + (1 << 20), "{largest}");
    store.close().await;
}

#[tokio::test]
async fn bills_of_a_period_are_summed_over_all_pages() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { bytes_max: 64 << 20, ..settings(&dir.path().join("store.db")) };
    let (mut store, _) = Store::open(settings, 0).unwrap();
    let mut batch = Vec::new();
    for n in 0..2_500_i64 {
        let id = n.to_string();
        let usage = Some("{\"fuel\":7}".into()).filter(|_| n % 2 == 0);
        let end = JobEnd { usage, ..JobEnd::new(Code::Completed, "") };
        batch.extend([created(&id), assigned(&id)]);
        // A thousand and a half end at one moment.
        let at_ns = if n < 500 { n } else { (500 + n / 2_000).min(501) };
        batch.push(StoreOp::Change(Change::JobEnded { job: format!("J-{id}").into(), end, at_ns }));
    }
    batch.extend([created("runs"), assigned("runs")]);
    let batch_number = store.write(batch).unwrap();
    durable(&store, batch_number).await;
    let reader = store.reader();
    for (period, jobs) in [(0..9_000, 2_500), (0..501, 2_000), (100..500, 400), (501..502, 500), (502..9_000, 0)] {
        let list = reader.bills(UsageBy::Key, period.clone()).await.unwrap().list(period.start, period.end);
        assert_eq!((list.jobs, list.unmeasured), (jobs, jobs / 2), "{period:?}");
        let sums: Vec<_> = list.sums.iter().map(|sums| (sums.name.as_str(), sums.work.unwrap().fuel)).collect();
        assert_eq!(sums, [("devkey", 7 * jobs / 2)].into_iter().filter(|_| jobs > 0).collect::<Vec<_>>());
    }
    store.close().await;
}

#[tokio::test]
#[ignore = "a measurement: cargo test --lib measure_the_bills -- --ignored --nocapture"]
async fn measure_the_bills() {
    const JOBS: u32 = 1_000_000;
    let dir = tempfile::tempdir().unwrap();
    let settings =
        Settings { sync: StoreSync::Checkpoint, bytes_max: 8 << 30, ..settings(&dir.path().join("store.db")) };
    let (mut store, _) = Store::open(settings, 0).unwrap();
    let traffic =
        serde_json::json!({ "requests": 3, "sockets": 0, "failures": 0, "bytes_sent": 900, "bytes_received": 9_000 });
    let model = serde_json::json!({ "kind": "llm", "provider": "p", "model": "m", "counters": { "input_tokens": 9, "output_tokens": 4 } });
    let usage = UsageRecord { fuel: 7, ..UsageRecord::default() };
    let mut usage = serde_json::to_value(usage).unwrap();
    usage["network"] = serde_json::json!({ "all": traffic, "by_host": { "api.example.test": traffic } });
    usage["models"] = serde_json::json!([model]);
    let usage = usage.to_string();
    let mut batch_number = 0;
    for n in 0..JOBS {
        let id = n.to_string();
        let end = JobEnd { usage: Some(usage.clone()), ..JobEnd::new(Code::Completed, "") };
        let ended = Change::JobEnded { job: format!("J-{id}").into(), end, at_ns: n.into() };
        batch_number = store.write(vec![created(&id), assigned(&id), StoreOp::Change(ended)]).unwrap();
        durable(&store, batch_number.saturating_sub(1_000)).await;
    }
    durable(&store, batch_number).await;
    for by in [UsageBy::Agent, UsageBy::Host] {
        let began = tokio::time::Instant::now();
        let list = store.reader().bills(by, 0..i64::MAX).await.unwrap().list(0, 1);
        assert_eq!(list.jobs, u64::from(JOBS));
        println!("{JOBS} bills of {} bytes by {}: {:?}", usage.len(), by.as_str(), began.elapsed());
    }
    store.close().await;
}

#[tokio::test]
async fn list_that_finds_no_place_is_refused_and_look_ups_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(settings(&dir.path().join("store.db")), 0).unwrap();
    let reader = store.reader();
    let list = || reader.dispatches(Filter { limit: 1, ..Filter::default() });
    let lists = futures_util::future::join_all((0..100).map(|_| list())).await;
    assert!(lists.iter().any(Result::is_ok));
    assert!(lists.iter().any(|list| matches!(list, Err(ReadError::Busy))));
    assert!(reader.dispatch("x".into()).await.unwrap().is_none());
    store.close().await;
}
