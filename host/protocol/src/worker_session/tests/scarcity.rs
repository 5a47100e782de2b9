//! What a full worker reports.

use wasm_worker_core::load::Resource;

use super::*;
use crate::status::scarcity;

#[test]
fn embedded_dispatcher_learns_what_makes_the_worker_full() {
    let now = Instant::now();
    let scarce = Scarcity { resource: Resource::Cpu, used: 0.99, limit: 0.75 };
    for (node, told) in [(EMBEDDED_NODE_ID, true), ("ND_livekit", false)] {
        let mut session = session(now);
        session.set_scarcity(Some(scarce));
        session.advance(now, Input::Connected);
        let server_info = Some(proto::ServerInfo { node_id: node.into(), ..Default::default() });
        let response = proto::RegisterWorkerResponse { server_info, ..Default::default() };
        let registered = session.advance(now, frame(FromServer::Register(response)));
        let available = |output: &Output| matches!(output, Output::Send(ToServer::UpdateWorker(_)));
        assert!(registered.last().is_some_and(available), "a worker that is not full reports nothing more");
        session.utilisation = 1.0;
        let outputs = session.advance(now, Input::TimeUp);
        match &outputs[..] {
            [Output::Status(status)] if told => assert_eq!(scarcity(&status.frame()), Some(scarce)),
            [Output::Send(ToServer::UpdateWorker(_))] if !told => {}
            other => panic!("{node}: {other:?}"),
        }
    }
}
