//! Other users, files that are deleted or replaced, a second dispatcher, and a writer that cannot write.

use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn files_of_the_store_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/store.db");
    for round in ["new", "of an older version"] {
        let (mut store, _) = Store::open(settings(&path), 0).unwrap();
        let batch_number = store.write(vec![created(round)]).unwrap();
        durable(&store, batch_number).await;
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        for file in ["store.db", "store.db-wal", "store.db-shm", "store.db.lock"] {
            assert_eq!(mode(&path.with_file_name(file)), 0o600, "{round}: {file}");
        }
        store.close().await;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
}

#[tokio::test]
async fn change_is_not_confirmed_after_the_file_was_deleted_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    for (name, what) in [("store.db", "deleted"), ("store.db", "replaced"), ("store.db-wal", "deleted")] {
        let (mut store, _) = Store::open(settings(&path), 0).unwrap();
        let (file, away) = (dir.path().join(name), dir.path().join("away"));
        std::fs::rename(&file, &away).unwrap();
        if what == "replaced" {
            std::fs::copy(&away, &file).unwrap();
        }
        let batch_number = store.write(vec![created(&format!("{name}-{what}"))]).unwrap();
        let mut written = store.written();
        let stuck = written.wait_for(|written| written.stuck.is_some()).await.unwrap().clone();
        let why = stuck.stuck.unwrap();
        assert!(why.contains(name) && why.contains(what) && stuck.batches < batch_number, "{why}");
        std::fs::rename(&away, &file).unwrap();
        durable(&store, batch_number).await;
        assert_eq!(written.borrow().stuck, None);
        store.close().await;
    }
    assert_eq!(Store::open(settings(&path), 0).unwrap().1.dispatches.len(), 3);
}

#[tokio::test]
async fn second_dispatcher_is_refused_without_the_lock_file_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (store, _) = Store::open(settings(&path), 0).unwrap();
    std::fs::remove_file(dir.path().join("store.db.lock")).unwrap();
    assert!(matches!(Store::open(settings(&path), 0), Err(StoreError::InUse { .. })));
    store.close().await;
    assert!(Store::open(settings(&path), 0).is_ok());
}

#[tokio::test]
async fn full_queue_makes_no_caller_wait() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (mut store, _) = Store::open(settings(&path), 0).unwrap();
    let away = dir.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    let first = store.write(vec![created("0")]).unwrap();
    // The writer takes many batches at once, and nothing more once it is stuck.
    store.written().wait_for(|written| written.stuck.is_some()).await.unwrap();
    let further = (1..3_000).map(|n| store.write(vec![created(&n.to_string())]).unwrap());
    let batch_numbers: Vec<u64> = std::iter::once(first).chain(further).collect();
    assert!(store.is_congested() && batch_numbers.is_sorted());
    assert!(store.reader().dispatch("0".into()).await.unwrap().is_none());
    std::fs::rename(&away, &path).unwrap();
    let mut written = store.written();
    while store.is_congested() {
        written.changed().await.unwrap();
        store.send_waiting().unwrap();
    }
    durable(&store, *batch_numbers.last().unwrap()).await;
    assert!(store.reader().dispatch("2999".into()).await.unwrap().is_some());
    store.close().await;
}

#[tokio::test]
async fn full_queue_of_a_store_that_cannot_write_does_not_keep_it_open() {
    let (_dir, mut store) = stuck_with_a_full_queue().await;
    store.write(vec![created("one more")]).unwrap();
    tokio::time::timeout(Duration::from_secs(60), store.close()).await.unwrap();
}

#[tokio::test]
async fn bytes_that_wait_behind_a_full_queue_are_bounded() {
    let (_dir, mut store) = stuck_with_a_full_queue().await;
    let metadata = "x".repeat(100 << 10);
    let written = (0..100).take_while(|_| {
        let refused = store.is_overloaded();
        store.write(vec![created_with("large", &metadata)]).unwrap();
        !refused
    });
    let (written, most) = (written.count() * metadata.len(), store.settings.log_bytes_max() / 2);
    assert!((most..=most + metadata.len()).contains(&written), "{written}, {most}");
    store.close().await;
}

/// A store that cannot write, whose queue is full, and its directory.
async fn stuck_with_a_full_queue() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    let (mut store, _) = Store::open(settings(&path), 0).unwrap();
    std::fs::rename(&path, dir.path().join("away")).unwrap();
    store.write(vec![created("small")]).unwrap();
    // The writer takes many batches at once, and nothing more once it is stuck.
    store.written().wait_for(|written| written.stuck.is_some()).await.unwrap();
    while !store.is_congested() {
        store.write(vec![created("small")]).unwrap();
    }
    (dir, store)
}
