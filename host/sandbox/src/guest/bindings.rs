//! The contract in `guest-sdk/wit`, as Rust.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The world of an agent.
#[allow(clippy::all, clippy::pedantic, clippy::restriction, unreachable_pub, reason = "generated code")]
mod agent {
    wasmtime::component::bindgen!({
        path: "../../guest-sdk/wit",
        world: "agent",
        imports: { default: tracing | trappable },
        exports: { default: async },
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

use wasm_worker::agent::events::ParticipantChanges;
use wasm_worker::agent::types::Permissions;

/// The bindings derive no serde for flags: they are written as the number of their bits.
macro_rules! serde_of_flags {
    ($flags:ident: $($flag:ident)*) => {
        impl Serialize for $flags {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.as_array().serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $flags {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let [bits] = <[u32; 1]>::deserialize(deserializer)?;
                let all = [$(Self::$flag),*];
                let set = all.into_iter().filter(|flag| flag.as_array().iter().any(|flag| flag & bits != 0));
                Ok(set.fold(Self::empty(), |set, flag| set | flag))
            }
        }
    };
}

serde_of_flags!(Permissions: SUBSCRIBE PUBLISH PUBLISH_DATA UPDATE_OWN HIDDEN SUBSCRIBE_METRICS MANAGE_AGENT_SESSION);
serde_of_flags!(ParticipantChanges: NAME METADATA ATTRIBUTES PERMISSIONS STATE);
