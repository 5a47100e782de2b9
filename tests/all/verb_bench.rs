//! `wasm-worker bench`: a table of measured figures.

use crate::support::harness::{guest, wasm_worker};

fn bench(name: &str, flags: &[&str]) -> crate::support::harness::Done {
    wasm_worker(["bench", guest(name).to_str().unwrap()]).args(flags.iter().copied()).done()
}

#[test]
fn every_row_of_the_table_is_measured() {
    let done = bench("minimal", &["--time", "100ms"]);
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let rows: Vec<Vec<&str>> = done.stdout.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    let at_once: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    assert_eq!(at_once, ["1", "2", "8", "64"]);
    // The only thing that is the same on every machine: fuel. And jobs ran, and ended well.
    assert!(
        rows.iter().all(|row| row[1] != "0" && row[8] == rows[0][8] && row.last() == Some(&"0")),
        "{}",
        done.stdout
    );
}

#[test]
fn failed_jobs_are_counted_and_set_the_exit_status() {
    let done = bench("panic", &["--time", "50ms"]);
    assert_eq!(done.exit, 11, "{}", done.stderr);
    let row: Vec<&str> = done.stdout.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(row.last(), row.get(1), "{}", done.stdout);
}

#[test]
fn unmeasurable_agent_or_time_is_an_error() {
    bench("reject", &["--time", "50ms"]).fails_with(4, &["the agent refused the offer: rejected: never in the mood"]);
    bench("minimal", &["--time", "1h"]).fails_with(2, &["want 10ms to 10m, such as 3s"]);
    bench("minimal", &["--time", "50ms", "--idle", "4294967295"]).fails_with(2, &["want at most 1000"]);
}
