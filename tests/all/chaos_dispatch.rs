//! Workers and the dispatcher are killed again and again: every dispatch ends exactly once.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::support::dispatcher::{Dispatcher, create_across_kills, everything};
use crate::support::harness::Started;

/// Callers at once.
const CALLERS: usize = 4;
const WORKERS: usize = 3;
/// Number of kills of workers, and of the dispatcher.
const KILLS_MIN: u32 = 3;
/// For all to end after the last kill.
const PATIENCE: Duration = Duration::from_secs(600);

/// Dispatch so many, and kill something every so often until all are accepted.
#[expect(clippy::print_stdout, reason = "what was seen, for whoever looks")]
fn dispatches_under_kills(count: usize, pause: Duration) {
    let flags = ["--lost-after", "2s", "--attempts-max", "100", "--retention", "1h"];
    let mut dispatcher = Dispatcher::start(&flags);
    let worker = |dispatcher: &Dispatcher| dispatcher.worker(&["brief", "nap"], &[]);
    let mut workers: Vec<Option<Started>> = (0..WORKERS).map(|_| Some(worker(&dispatcher))).collect();
    let mut random = StdRng::seed_from_u64(11);
    let (mut of_workers, mut of_dispatcher) = (0, 0);
    let url = dispatcher.url.clone();
    let accepted = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let url = &url;
                scope.spawn(move || (caller..count).step_by(CALLERS).map(|n| create(url, n)).collect::<Vec<String>>())
            })
            .collect();
        while callers.iter().any(|caller| !caller.is_finished()) || of_workers < KILLS_MIN || of_dispatcher < KILLS_MIN
        {
            std::thread::park_timeout(pause.mul_f64(random.random_range(0.5..1.5)));
            if random.random_range(0..3) == 0 {
                dispatcher.kill();
                of_dispatcher += 1;
                dispatcher.start_again();
            } else {
                let place = random.random_range(0..WORKERS);
                workers[place].take().unwrap().kill();
                of_workers += 1;
                workers[place] = Some(worker(&dispatcher));
            }
        }
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect::<Vec<String>>()
    });
    assert_eq!(
        accepted.iter().collect::<std::collections::HashSet<_>>().len(),
        count,
        "two requests made one dispatch"
    );
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let jobs = loop {
        let jobs = all(&dispatcher);
        if jobs.iter().all(|job| job["state"] == "ended") {
            break jobs;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "some do not end: {:?}",
            jobs.iter().find(|job| job["state"] != "ended")
        );
        std::thread::park_timeout(Duration::from_millis(200));
    };
    let codes = jobs.iter().fold(HashMap::<&str, usize>::new(), |mut codes, job| {
        *codes.entry(job["code"].as_str().unwrap()).or_default() += 1;
        codes
    });
    let again = jobs.iter().filter(|job| job["attempt"] != 1).count();
    println!(
        "{count} dispatches, {of_workers} kills of workers, {of_dispatcher} of the dispatcher: {codes:?}, {again} took more than one attempt"
    );
    assert_eq!(jobs.len(), count, "each is there once");
    let known: std::collections::HashSet<&str> = jobs.iter().map(|job| job["dispatch"].as_str().unwrap()).collect();
    assert!(accepted.iter().all(|id| known.contains(id.as_str())), "an accepted dispatch is gone");
    assert_eq!(codes, HashMap::from([("completed", count)]));
    completed_once(&dispatcher);
    for worker in workers.into_iter().flatten() {
        worker.kill();
    }
}

/// The dispatch of this number.
fn create(url: &str, n: usize) -> String {
    let agent = if n.is_multiple_of(4) { "nap" } else { "brief" };
    create_across_kills(url, &format!("room-{}", n % 100), agent, &format!("request-{n}"))
}

fn all(dispatcher: &Dispatcher) -> Vec<Value> {
    let answer = dispatcher.ask("GET", "/jobs?limit=10000", "application/json", &everything(""), &[], "");
    answer.body["jobs"].as_array().unwrap().clone()
}

/// Exactly one attempt of each dispatch ended well.
fn completed_once(dispatcher: &Dispatcher) {
    let store = rusqlite::Connection::open(dispatcher.store()).unwrap();
    let sql = "SELECT count(*) FROM (SELECT dispatch FROM jobs WHERE code = 'completed' GROUP BY dispatch HAVING count(*) <> 1)";
    let twice: i64 = store.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(twice, 0, "dispatches that ran to completion twice");
}

#[test]
fn dispatches_complete_once_while_workers_and_dispatcher_are_killed() {
    dispatches_under_kills(1_000, Duration::from_millis(300));
}

#[test]
#[ignore = "a quarter of an hour: cargo test ten_thousand -- --ignored --nocapture"]
fn ten_thousand_dispatches_complete_once_while_workers_and_dispatcher_are_killed() {
    dispatches_under_kills(10_000, Duration::from_millis(300));
}
