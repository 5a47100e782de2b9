use super::*;

fn frame(message: FromWorker) -> Vec<u8> {
    proto::WorkerMessage { message: Some(message) }.encode_to_vec()
}

fn register(deployment: &str) -> Vec<u8> {
    frame(FromWorker::Register(proto::RegisterWorkerRequest {
        agent_name: "a".into(),
        deployment: deployment.into(),
        ..Default::default()
    }))
}

#[test]
fn worker_registers_first_once_and_in_time() {
    let now = Instant::now();
    let status = frame(FromWorker::UpdateWorker(proto::UpdateWorkerStatus::default()));
    let mut session = Session::new(now);
    assert!(session.receive(now, Encoding::Binary, &status).is_err());
    let mut session = Session::new(now);
    let ping = frame(FromWorker::Ping(proto::WorkerPing { timestamp: 7 }));
    assert!(matches!(session.receive(now, Encoding::Binary, &ping), Ok(Received::Ping { timestamp: 7 })));
    assert!(session.receive(now, Encoding::Binary, &register("a_b")).is_err());
    assert!(matches!(session.receive(now, Encoding::Binary, &register("eu")), Ok(Received::Register(_))));
    assert!(session.receive(now, Encoding::Binary, &register("eu")).is_err());
    let mut silent = Session::new(now);
    assert!(matches!(silent.due(now + REGISTER_WITHIN), Some(Due::Close(_))));
}

#[test]
fn silent_worker_is_pinged_and_then_disconnected() {
    let now = Instant::now();
    let mut session = Session::new(now);
    session.receive(now, Encoding::Binary, &register("")).unwrap();
    assert_eq!(session.due(now), None);
    assert_eq!(session.due(now + PING_EVERY), Some(Due::Ping));
    session.note_alive(now + PING_EVERY);
    assert_eq!(session.due(now + SILENCE_MAX), Some(Due::Ping));
    assert!(matches!(session.due(now + PING_EVERY + SILENCE_MAX), Some(Due::Close(_))));
}

#[test]
fn invalid_frames_are_errors_and_json_is_answered_in_json() {
    let now = Instant::now();
    let mut session = Session::new(now);
    for bad in [&b"\xff\xff"[..], b"", b"{}"] {
        assert!(session.receive(now, Encoding::Binary, bad).is_err());
    }
    let text = br#"{"register": {"agentName": "a", "type": "JT_ROOM", "unknown": 1}}"#;
    assert!(matches!(session.receive(now, Encoding::Json, text), Ok(Received::Register(_))));
    let pong = proto::server_message::Message::Pong(proto::WorkerPong { last_timestamp: 1, timestamp: 2 });
    let Encoded::Json(text) = session.encode(pong) else { panic!("not JSON") };
    assert_eq!(text, r#"{"pong":{"lastTimestamp":"1","timestamp":"2"}}"#);
}

#[test]
fn registration_migrates_as_many_jobs_as_a_worker_may_have() {
    let now = Instant::now();
    let migrate = |count: usize| {
        let job_ids = (0..count).map(|job| format!("AJ_{job}")).chain([String::new(), "x".repeat(1_000)]).collect();
        frame(FromWorker::MigrateJob(proto::MigrateJobRequest { job_ids }))
    };
    let mut session = Session::new(now);
    session.receive(now, Encoding::Binary, &register("")).unwrap();
    let mut jobs = 0;
    for _ in 0..40 {
        match session.receive(now, Encoding::Binary, &migrate(1_000)).unwrap() {
            Received::Message(WorkerMessage::Migrate { jobs: migrated }) => jobs += migrated.len(),
            Received::Nothing => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(jobs, MIGRATED_JOBS_MAX);
}

proptest::proptest! {
    #[test]
    fn any_frame_is_read_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64), json: bool) {
        let now = Instant::now();
        let mut session = Session::new(now);
        session.receive(now, Encoding::Binary, &register("")).unwrap();
        let encoding = if json { Encoding::Json } else { Encoding::Binary };
        drop(session.receive(now, encoding, &bytes));
    }
}
