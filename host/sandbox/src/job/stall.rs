//! The words about a job that nothing can wake. Pure.

use wasm_worker_core::job::Task;

/// Most tasks that the words name.
const TASKS_MAX: usize = 16;

/// The detail of the verdict: what is missing, and what the tasks of the agent wait for.
pub(super) fn detail(nothing_to_come: &str, open: usize, tasks: &[Task]) -> String {
    let calls = match open {
        0 => "no call".to_owned(),
        1 => "1 open call that only the agent can end".to_owned(),
        open => format!("{open} open calls that only the agent can end"),
    };
    let mut detail = format!("nothing can wake the job: no timer, {calls}, and {nothing_to_come}");
    for (position, Task { name, waits_for }) in tasks.iter().take(TASKS_MAX).enumerate() {
        let link = if position == 0 { ";" } else { "," };
        detail.push_str(&format!("{link} task `{name}` waits for {waits_for}"));
    }
    match tasks.len() {
        0 => detail.push_str("; the agent reported no task"),
        count if count > TASKS_MAX => detail.push_str(&format!(", and {} more tasks", count - TASKS_MAX)),
        _ => {}
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(name: &str, waits_for: &str) -> Task {
        Task { name: name.into(), waits_for: waits_for.into() }
    }

    #[test]
    fn a_stall_names_what_is_missing_and_what_the_tasks_wait_for() {
        let tasks = [task("entrypoint", "next_event"), task("timer", "nothing")];
        assert_eq!(
            detail("the agent is not in a room", 0, &tasks),
            "nothing can wake the job: no timer, no call, and the agent is not in a room; \
             task `entrypoint` waits for next_event, task `timer` waits for nothing"
        );
        assert!(
            detail("x", 2, &[])
                .ends_with("2 open calls that only the agent can end, and x; the agent reported no task")
        );
        let many = vec![task("t", "u"); 20];
        assert!(detail("x", 0, &many).ends_with("waits for u, and 4 more tasks"));
    }
}
