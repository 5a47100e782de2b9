//! The contract in `guest-sdk/wit`, as Rust.

/// The handle of a job's one inbox. It carries nothing: the inbox is in the state of the instance.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Receiver;

/// The world of an agent.
#[allow(clippy::all, clippy::pedantic, clippy::restriction, unreachable_pub, reason = "generated code")]
mod agent {
    wasmtime::component::bindgen!({
        path: "../../guest-sdk/wit",
        world: "agent",
        imports: {
            "wasm-worker:agent/inbox.[method]receiver.next": async | tracing | trappable,
            default: tracing | trappable,
        },
        exports: { default: async },
        with: {
            "wasi:io/poll": wasmtime_wasi::p2::bindings::io::poll,
            "wasm-worker:agent/inbox.receiver": super::Receiver,
        },
        additional_derives: [PartialEq, serde::Deserialize, serde::Serialize],
    });
}

/// The world of a load function. Its imports are those of an agent.
#[allow(clippy::all, clippy::pedantic, clippy::restriction, unreachable_pub, reason = "generated code")]
pub(crate) mod load_function {
    wasmtime::component::bindgen!({
        path: "../../guest-sdk/wit",
        world: "load-function",
        imports: { default: tracing | trappable },
        exports: { default: async },
        with: {
            "wasm-worker:agent/types": super::agent::wasm_worker::agent::types,
            "wasm-worker:agent/log": super::agent::wasm_worker::agent::log,
        },
    });
}

pub(crate) use agent::{Agent, AgentPre, wasm_worker};
