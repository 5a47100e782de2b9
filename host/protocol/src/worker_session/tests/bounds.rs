//! Bounds of messages and ids.

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
