//! `wasm-worker capacity`: the number of jobs that fit, and the bottleneck.

use crate::support::harness::{guest, wasm_worker};

#[test]
fn capacity_reports_how_many_jobs_fit_and_verifies_the_number() {
    let agent = guest("neighbour");
    let capacity = || wasm_worker(["capacity", agent.to_str().unwrap(), "--time", "300ms"]);
    let done = capacity().args(["--cores", "4", "--memory", "16GB", "--verify"]).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    for part in [
        "agent `neighbour`, ",
        " fuel ",
        "% of it waiting",
        "bottleneck",
        "a machine with 4 cores and 14.9 GiB runs ",
        "verified on this machine",
    ] {
        assert!(done.stdout.contains(part), "`{part}` is missing in:\n{}", done.stdout);
    }
    // The table grows with the machine.
    let at_once = |cores: &str| {
        let row = done.stdout.lines().find(|line| line.trim_start().starts_with(&format!("{cores} "))).unwrap();
        row.split_whitespace().nth(3).unwrap().parse::<u32>().unwrap()
    };
    assert!(at_once("1") >= 1 && at_once("1") <= at_once("2") && at_once("2") <= at_once("4"), "{}", done.stdout);
    let verified = done.stdout.lines().find(|line| line.trim_start().starts_with("an hour ")).unwrap();
    assert!(verified.ends_with('%'), "{verified}");
    let load = done.stdout.lines().rfind(|line| line.trim_start().starts_with("load ")).unwrap();
    let seen: f64 = load.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert!(seen > 0.0, "{}", done.stdout);
    assert!(done.stdout.contains("\n  refused "), "{}", done.stdout);
    capacity().args(["--memory", "much"]).done().fails_with(2, &["much"]);
    let refuses = wasm_worker(["capacity", guest("reject").to_str().unwrap(), "--time", "50ms"]).done();
    refuses.fails_with(4, &["the agent refused the offer: rejected"]);
}
