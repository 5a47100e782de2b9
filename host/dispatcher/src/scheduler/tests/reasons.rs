//! What a waiting dispatch is told.

use super::*;

#[test]
fn unknown_agent_is_told_with_the_names_that_exist() {
    let (mut scheduler, now) = start();
    for agent in ["support_bot", "sales", ""] {
        let dispatch_key = DispatchKey { agent: agent.into(), ..key() };
        scheduler.register(now, RegisteredWorker { dispatch_key, ..registered(agent) });
    }
    let mut why = |agent: &str| {
        let dispatch_key = DispatchKey { agent: agent.into(), ..key() };
        scheduler.create(now, Dispatch { dispatch_key, ..dispatch(agent, now) }).unwrap();
        scheduler.waiting(now, &[agent.into()])[agent].why.clone()
    };
    let meant = " (connected: `sales`, `support_bot`); did you mean `support_bot`?";
    assert_eq!(why("support-bot"), format!("no worker of agent `support-bot` is connected{meant}"));
    assert_eq!(why("x"), "no worker of agent `x` is connected (connected: `sales`, `support_bot`)");
}

#[test]
fn names_in_a_reason_are_bounded() {
    let (mut scheduler, now) = start();
    for number in 0..100 {
        let dispatch_key = DispatchKey { agent: format!("agent-{number:03}"), ..key() };
        scheduler.register(now, RegisteredWorker { dispatch_key, ..registered("") });
    }
    scheduler.create(now, dispatch("d", now)).unwrap();
    let why = &scheduler.waiting(now, &["d".into()])["d"].why;
    assert!(why.ends_with("`agent-008`, `agent-009` and 90 more)"), "{why}");
}
