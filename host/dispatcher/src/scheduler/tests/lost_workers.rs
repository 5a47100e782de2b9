//! Workers that are lost or return, and the attempts that follow.

use super::*;

#[test]
fn job_of_a_worker_without_reports_is_not_run_again() {
    let (mut scheduler, now) = start();
    let w = worker(&mut scheduler, now, "");
    for id in ["long", "deleted", "just"] {
        let now = if id == "just" { later(now, REPORT_WITHIN) } else { now };
        let job = scheduler.create(now, dispatch(id, now)).unwrap();
        scheduler.on_message(now, &w, answer(&job, true));
    }
    scheduler.take_outputs();
    let now = later(now, REPORT_WITHIN);
    assert!(scheduler.cancel(now, "deleted", "it was deleted"));
    scheduler.on_timer(now);
    let outputs = scheduler.take_outputs();
    assert_eq!((ends(&outputs), sent(&outputs).len()), (vec![("deleted".into(), Code::Terminated)], 1));
    scheduler.worker_left(now, &w, "cut".into());
    assert_eq!(ends(&scheduler.take_outputs()), [("long".into(), Code::Lost)], "the other job may not have started");
}

#[test]
fn returned_worker_keeps_its_job() {
    let (mut scheduler, now) = start();
    let (w, job) = running(&mut scheduler, now, "i");
    scheduler.worker_left(now, &w, "cut".into());
    let again = worker(&mut scheduler, now, "i");
    scheduler.on_message(now, &again, WorkerMessage::Migrate { jobs: vec![job.to_string()] });
    scheduler.on_message(now, &again, WorkerMessage::Status { load: 0.0, readiness: Readiness::Available });
    scheduler.on_timer(later(now, Duration::from_secs(60)));
    assert!(ends(&scheduler.take_outputs()).is_empty());
    scheduler.on_message(now, &again, ended(&job, Code::Completed));
    assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Completed)]);
}

#[test]
fn returned_worker_has_time_to_list_its_jobs() {
    let (mut scheduler, now) = start();
    let (w, job) = running(&mut scheduler, now, "i");
    scheduler.worker_left(now, &w, "cut".into());
    // It registers just in time, and its list of jobs takes a while.
    let now = later(now, bounds().lost_after - Duration::from_millis(1));
    let again = worker(&mut scheduler, now, "i");
    let now = later(now, Duration::from_secs(1));
    scheduler.on_timer(now);
    scheduler.on_message(now, &again, WorkerMessage::Migrate { jobs: vec![job.to_string()] });
    scheduler.on_message(now, &again, ended(&job, Code::Completed));
    assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Completed)]);
}

#[test]
fn job_of_a_lost_worker_is_run_again_and_then_quarantined() {
    let (mut scheduler, mut now) = start();
    let (mut w, first) = running(&mut scheduler, now, "");
    for attempt in 2..=3 {
        scheduler.worker_left(now, &w, "cut".into());
        now = later(now, bounds().lost_after);
        scheduler.on_timer(now);
        w = worker(&mut scheduler, now, "");
        let (_, job) = offers(&scheduler.take_outputs()).remove(0);
        assert_ne!(*job, *first);
        scheduler.on_message(now, &w, answer(&job, true));
        assert!(
            matches!(&scheduler.take_outputs()[0], Output::Store(Change::Assigned { attempt: found, .. }) if *found == attempt)
        );
    }
    scheduler.worker_left(now, &w, "cut".into());
    scheduler.on_timer(later(now, bounds().lost_after));
    assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Lost)]);
}

#[test]
fn job_is_lost_at_once_when_its_worker_returns_without_it_or_its_process_died() {
    let (mut scheduler, now) = start();
    let (w, job) = running(&mut scheduler, now, "i");
    scheduler.worker_left(now, &w, "cut".into());
    let again = worker(&mut scheduler, now, "i");
    scheduler.on_message(now, &again, WorkerMessage::Status { load: 0.0, readiness: Readiness::Available });
    let outputs = scheduler.take_outputs();
    let (_, second) = offers(&outputs).remove(0);
    assert_ne!(*second, *job);
    scheduler.on_message(now, &again, answer(&second, true));
    scheduler.take_outputs();
    // The process dies before the loss of its connection is noticed.
    scheduler.process_died(now, "i");
    assert!(
        scheduler
            .take_outputs()
            .iter()
            .any(|output| matches!(output, Output::Store(Change::Retried { attempt: 3, .. })))
    );
}

/// A dispatch whose first attempt on worker `i` was lost, and whose second one runs on worker `j`.
fn second_attempt(scheduler: &mut Scheduler, now: Moment) -> (Moment, Id, Id, String) {
    let (w, job) = running(scheduler, now, "i");
    scheduler.worker_left(now, &w, "cut".into());
    let now = later(now, bounds().lost_after);
    scheduler.on_timer(now);
    let other = worker(scheduler, now, "j");
    let (_, second) = offers(&scheduler.take_outputs()).remove(0);
    scheduler.on_message(now, &other, answer(&second, true));
    (now, job, other, second)
}

#[test]
fn first_end_decides_and_the_other_attempt_is_stopped() {
    let (mut scheduler, now) = start();
    let (now, job, other, second) = second_attempt(&mut scheduler, now);
    scheduler.take_outputs();
    let back = worker(&mut scheduler, now, "i");
    scheduler.on_message(now, &back, ended(&job, Code::Completed));
    let outputs = scheduler.take_outputs();
    assert_eq!(ends(&outputs), [("d".into(), Code::Completed)]);
    assert_eq!(sent(&outputs), [format!("terminate {second}")]);
    scheduler.on_message(now, &other, ended(&second, Code::Terminated));
    assert!(ends(&scheduler.take_outputs()).is_empty());
}

#[test]
fn end_of_a_stopped_former_attempt_does_not_end_the_dispatch() {
    let (mut scheduler, now) = start();
    let (now, job, other, second) = second_attempt(&mut scheduler, now);
    let back = worker(&mut scheduler, now, "i");
    scheduler.take_outputs();
    scheduler.on_message(now, &back, WorkerMessage::Migrate { jobs: vec![job.to_string()] });
    assert_eq!(sent(&scheduler.take_outputs()), [format!("terminate {job}")]);
    scheduler.on_message(now, &back, ended(&job, Code::Completed));
    assert!(ends(&scheduler.take_outputs()).is_empty(), "the job was stopped before its end");
    scheduler.on_message(now, &other, ended(&second, Code::Completed));
    assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Completed)]);
}

#[test]
fn second_registration_of_a_process_reindexs_the_first() {
    let (mut scheduler, now) = start();
    let (_, job) = running(&mut scheduler, now, "i");
    let again = worker(&mut scheduler, now, "i");
    assert_eq!(scheduler.workers(now).len(), 1);
    scheduler.on_message(now, &again, ended(&job, Code::Completed));
    assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Completed)]);
}

#[test]
fn next_attempt_waits_as_long_as_the_first_one_could() {
    let (mut scheduler, now) = start();
    let (w, _) = running(&mut scheduler, now, "");
    let hour = later(now, Duration::from_secs(3_600));
    scheduler.worker_left(hour, &w, "cut".into());
    let now = later(hour, bounds().lost_after);
    scheduler.on_timer(now);
    assert!(ends(&scheduler.take_outputs()).is_empty());
    scheduler.on_timer(later(now, Duration::from_secs(60)));
    assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Expired)]);
}

#[test]
fn open_dispatches_are_recovered_after_a_restart() {
    let (mut scheduler, now) = start();
    let open = |id: &str, instance: Option<&str>| RecoveredDispatch {
        dispatch: dispatch(id, now),
        job: format!("J{id}").into(),
        attempt: 1,
        former: Vec::new(),
        cancelled: false,
        instance: instance.map(str::to_owned),
    };
    scheduler.recover(now, vec![open("waits", None), open("ran", Some("i")), open("inside", Some("embedded-1"))]);
    assert!(
        scheduler
            .take_outputs()
            .iter()
            .any(|output| matches!(output, Output::Store(Change::Retried { dispatch, .. }) if &**dispatch == "inside"))
    );
    let w = worker(&mut scheduler, now, "i");
    scheduler.on_message(now, &w, WorkerMessage::Migrate { jobs: vec!["Jran".into(), "unknown".into()] });
    let outputs = scheduler.take_outputs();
    // A worker has one offer at first.
    assert_eq!(offers(&outputs).len(), 1);
    assert!(outputs.iter().any(|output| matches!(output, Output::UnknownJobs { jobs, .. } if *jobs == ["unknown"])));
    scheduler.on_message(now, &w, ended("Jran", Code::Completed));
    assert_eq!(ends(&scheduler.take_outputs()), [("ran".into(), Code::Completed)]);
}
