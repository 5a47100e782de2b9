//! What a running job waits for, in words.

use std::time::Duration;

use wasm_worker_core::job::{Task, TaskReport, WaitsFor};

use super::table::time;

/// A report that is older was made for somebody who looked before.
const FRESH: Duration = Duration::from_secs(1);

/// What a job waits for, in a few words.
pub(super) fn text(waits: &WaitsFor) -> String {
    let WaitsFor { running, timer_ms, operations, joined } = waits;
    if *running {
        return "running".into();
    }
    let timer = timer_ms.map(|millis| format!("timer in {}", until(Duration::from_millis(millis))));
    let calls = match operations {
        0 => None,
        1 => Some("1 call".into()),
        calls => Some(format!("{calls} calls")),
    };
    let room = joined.then(|| "the room".to_owned());
    let waits: Vec<String> = [timer, calls, room].into_iter().flatten().collect();
    if waits.is_empty() { "nothing".into() } else { waits.join(", ") }
}

/// A line for each task that an agent reported.
pub(super) fn task_lines(TaskReport { age_ms, tasks }: &TaskReport) -> Vec<String> {
    let line = |Task { name, waits_for }: &Task| format!("  task     `{name}` waits for {waits_for}");
    let age = Duration::from_millis(*age_ms);
    let old = (age > FRESH).then(|| format!("  tasks    as of {} ago", time(age)));
    tasks.iter().map(line).chain(old).collect()
}

/// A time with tenths of its seconds, where they matter.
fn until(wait: Duration) -> String {
    match wait.as_secs() {
        1..60 => format!("{}.{}s", wait.as_secs(), wait.subsec_millis() / 100),
        _ => time(wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_names_all_that_can_wake_the_job() {
        let mut waits = WaitsFor { running: false, timer_ms: Some(2_540), operations: 1, joined: true };
        assert_eq!(text(&waits), "timer in 2.5s, 1 call, the room");
        (waits.timer_ms, waits.operations) = (None, 2);
        assert_eq!(text(&waits), "2 calls, the room");
        waits.running = true;
        assert_eq!(text(&waits), "running");
        assert_eq!(text(&WaitsFor::default()), "nothing");
        let timers = [0, 400, 59_999, 7_800_000].map(|millis| until(Duration::from_millis(millis)));
        assert_eq!(timers, ["0ms", "400ms", "59.9s", "2h10m"]);
    }

    #[test]
    fn a_report_has_a_line_for_each_task_and_its_age_once_it_is_old() {
        let task = |name: &str, waits_for: &str| Task { name: name.into(), waits_for: waits_for.into() };
        let tasks = vec![task("entrypoint", "next_event"), task("silence", "time::sleep")];
        let mut report = TaskReport { age_ms: 40, tasks };
        let lines = ["  task     `entrypoint` waits for next_event", "  task     `silence` waits for time::sleep"];
        assert_eq!(task_lines(&report), lines);
        report.age_ms = 12_000;
        assert_eq!(task_lines(&report)[2], "  tasks    as of 12s ago");
    }
}
