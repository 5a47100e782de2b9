//! The calls whose effects the SDK's own tests look at. A component calls its host; on the build machine, where there is
//! none, they are kept for the test to read.

#[cfg(target_arch = "wasm32")]
pub(crate) use crate::bindings::wasm_worker::agent::{audio, flow, http, job::random, socket, usage};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::native::{audio, flow, http, random, socket, usage};
