//! Jobs that a worker asks for itself.

use super::*;

#[test]
fn simulated_job_is_for_the_worker_that_asked_for_it_and_ends_with_it() {
    let (mut scheduler, now) = start();
    let asks = worker(&mut scheduler, now, "1");
    let other = worker(&mut scheduler, now, "2");
    scheduler.on_message(now, &asks, WorkerMessage::Status { load: 0.9, readiness: Readiness::Full });
    scheduler.create_for(now, dispatch("d", now), asks.clone()).unwrap();
    assert!(offers(&scheduler.take_outputs()).is_empty(), "the other worker is not asked");
    assert!(scheduler.is_simulating(&asks) && !scheduler.is_simulating(&other));
    // Dispatches behind it are not blocked.
    let job = scheduler.create(now, dispatch("e", now)).unwrap();
    assert_eq!(offers(&scheduler.take_outputs()), [(other, job.to_string())]);
    scheduler.worker_left(now, &asks, "gone".into());
    assert_eq!(ends(&scheduler.take_outputs()), [("d".into(), Code::Cancelled)]);
}
