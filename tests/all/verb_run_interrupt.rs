//! Ctrl-C and SIGTERM during `wasm-worker run --job`: jobs are asked to stop within their grace, then killed, and counted.

use rustix::process::Signal;

use crate::support::harness::{Started, eventually, run_guest};

fn started(guest: &str, jobs: usize, args: &[&str]) -> Started {
    // The event file says when its jobs run.
    let events = tempfile::NamedTempFile::new().unwrap();
    let file = events.path().to_str().unwrap();
    let started = run_guest(guest, args.iter().copied().chain(["--events", file])).start();
    let launched = || std::fs::read_to_string(events.path()).unwrap().matches("job.launched").count();
    eventually("the jobs run", || (launched() == jobs).then_some(()));
    started
}

#[test]
fn job_that_stops_within_its_grace_is_drained() {
    for signal in [Signal::INT, Signal::TERM] {
        let job = started("obedient", 1, &[]);
        job.signal(signal);
        let done = job.done();
        assert_eq!((done.code().as_str(), done.exit), ("drained", 0), "{}", done.stderr);
        assert!(done.stderr.contains("asking 1 job to stop"), "{}", done.stderr);
        assert_eq!(done.texts()["end"], ["interrupted"]);
    }
}

#[test]
fn unstarted_jobs_are_counted() {
    let jobs = started("obedient", 3, &["--count", "100", "--concurrency", "3"]);
    jobs.signal(Signal::INT);
    let done = jobs.done();
    assert_eq!(done.exit, 130);
    assert_eq!(done.lines().len(), 3);
    assert!(done.lines().iter().all(|record| record["verdict"]["code"] == "drained"));
    assert!(done.stderr.contains("interrupted: 97 not started, 0 cut short"), "{}", done.stderr);
}

#[test]
fn second_signal_kills_the_jobs() {
    let job = started("ignore_stop", 1, &[]);
    job.signal(Signal::INT);
    // Two signals at once would count as one.
    job.says("asking 1 job to stop");
    job.signal(Signal::INT);
    let done = job.done();
    assert_eq!((done.code().as_str(), done.exit), ("killed", 130), "{}", done.stderr);
    assert!(done.stderr.contains("killing 1 job"), "{}", done.stderr);
}

#[test]
fn job_that_ignores_the_signal_is_killed_after_its_grace() {
    let job = started("ignore_stop", 1, &["--shutdown-grace", "300ms"]);
    job.signal(Signal::INT);
    let done = job.done();
    assert_eq!((done.code().as_str(), done.exit), ("shutdown-timeout", 130), "{}", done.stderr);
    assert!(done.stderr.contains("interrupted: 0 not started, 1 cut short"), "{}", done.stderr);
}
