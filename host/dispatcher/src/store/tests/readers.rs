//! Lists and look-ups beside the writer.

use super::*;

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
