//! Bounds of messages, ids and the cost of an event.

use super::*;

#[test]
fn many_jobs_are_reported_in_several_messages_after_a_reconnect() {
    let now = Instant::now();
    let mut session = up(now);
    for job in 0..MIGRATED_AT_ONCE_MAX + 7 {
        let job = job.to_string();
        session.advance(now, offer(&job));
        session.advance(now, accepted(&job));
        session.advance(now, assignment(&job));
    }
    session.advance(now, Input::Disconnected);
    session.advance(now, Input::Connected);
    let migrated = |output: &Output| match output {
        Output::Send(ToServer::MigrateJob(migrate)) => Some(migrate.job_ids.len()),
        _ => None,
    };
    let migrated: Vec<usize> = session.advance(now, register()).iter().filter_map(migrated).collect();
    assert_eq!(migrated, [MIGRATED_AT_ONCE_MAX, 7]);
}

#[test]
fn job_with_a_long_id_is_ignored() {
    let now = Instant::now();
    let mut session = up(now);
    let long = "x".repeat(1_000);
    for input in [offer(&long), assignment(&long)] {
        let outputs = session.advance(now, input);
        assert!(matches!(&outputs[..], [Output::Warn(what)] if what.len() < 200), "{outputs:?}");
    }
    assert_eq!(session.jobs(), 0);
}

#[test]
fn cost_of_an_event_does_not_depend_on_the_number_of_jobs() {
    let now = Instant::now();
    let mut session = up(now);
    let begin = |session: &mut Session, id: &str, phases: usize| {
        let inputs = [offer(id), accepted(id), assignment(id)];
        inputs.into_iter().take(phases).for_each(|input| drop(session.advance(now, input)));
    };
    for n in 0..JOBS_MAX - 1 {
        begin(&mut session, &format!("{n}"), 1 + n % 3);
    }
    // A walk over all jobs at each event is a billion steps, which takes minutes in the development build.
    let began = Instant::now();
    for _ in 0..JOBS_MAX / 2 {
        begin(&mut session, "one", 3);
        assert_eq!(session.wake_at(), Some(now + ANSWER_WITHIN));
        session.advance(now, Input::TimeUp);
        let end = Box::new(JobEnd::new(Code::Completed, ""));
        session.advance(now, Input::Ended { job: "one".into(), end });
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    session.advance(now + ANSWER_WITHIN, Input::TimeUp);
    session.advance(now + ASSIGNMENT_WITHIN, Input::TimeUp);
    assert_eq!((session.jobs(), session.deadlines.len()), ((JOBS_MAX - 1) / 3, 0));
}
