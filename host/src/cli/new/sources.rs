//! The sources that a new crate gets a copy of: the guest SDK, the crate of models beside it, and the crate for tests.

/// Directory of the copy of the crate for tests inside the new crate.
pub(super) const TEST_DIR: &str = "wasm-worker-test";

/// Every file of the crate for tests but its manifest, by its path.
pub(super) const TEST_FILES: &[(&str, &str)] = &[
    ("src/agent.rs", include_str!("../../../test/src/agent.rs")),
    ("src/conversation.rs", include_str!("../../../test/src/conversation.rs")),
    ("src/lib.rs", include_str!("../../../test/src/lib.rs")),
];

/// The manifest of the crate for tests, with the values that it inherits from the workspace in the repository.
pub(super) const TEST_MANIFEST: &str = concat!(
    r#"[package]
name = "wasm-worker-test"
description = "Tests agents of wasm-worker from `cargo test`: scripted conversations under virtual time"
version = ""#,
    env!("CARGO_PKG_VERSION"),
    r#""
edition = "2024"
rust-version = ""#,
    env!("CARGO_PKG_RUST_VERSION"),
    r#""
license = ""#,
    env!("CARGO_PKG_LICENSE"),
    r#""
repository = ""#,
    env!("CARGO_PKG_REPOSITORY"),
    r#""
"#
);

/// Directory of the SDK's copy inside the new crate.
pub(super) const SDK_DIR: &str = "wasm-worker-sdk";

macro_rules! sdk_files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("../../../../guest-sdk/", $path)))),*] };
}

/// Every file of the SDK but its manifest, by its path.
pub(super) const SDK_FILES: &[(&str, &str)] = sdk_files![
    "src/agent.rs",
    "src/audio.rs",
    "src/audio/source.rs",
    "src/audio/tests.rs",
    "src/bindings.rs",
    "src/calls.rs",
    "src/context.rs",
    "src/event.rs",
    "src/executor.rs",
    "src/exports.rs",
    "src/failure.rs",
    "src/http.rs",
    "src/http/response.rs",
    "src/http/retry.rs",
    "src/http/tests.rs",
    "src/http/upload.rs",
    "src/inbox.rs",
    "src/lib.rs",
    "src/load.rs",
    "src/load_bindings.rs",
    "src/logging.rs",
    "src/moderation.rs",
    "src/native.rs",
    "src/operation.rs",
    "src/pacing.rs",
    "src/random.rs",
    "src/room.rs",
    "src/rpc.rs",
    "src/runtime.rs",
    "src/select.rs",
    "src/session.rs",
    "src/socket.rs",
    "src/socket/tests.rs",
    "src/spawn.rs",
    "src/stack.rs",
    "src/streams.rs",
    "src/tests.rs",
    "src/time.rs",
    "src/usage.rs",
    "src/waits.rs",
    "wit/agent.wit",
    "wit/load.wit",
];

/// The SDK's manifest, with the values that it inherits from the workspace in the repository.
pub(super) const SDK_MANIFEST: &str = concat!(
    r#"[package]
name = "wasm-worker-sdk"
description = "Write an AI agent as a WebAssembly component for wasm-worker"
version = ""#,
    env!("CARGO_PKG_VERSION"),
    r#""
edition = "2024"
rust-version = ""#,
    env!("CARGO_PKG_RUST_VERSION"),
    r#""
license = ""#,
    env!("CARGO_PKG_LICENSE"),
    r#""
repository = ""#,
    env!("CARGO_PKG_REPOSITORY"),
    r#""

[dependencies]
log = "0.4.35"
"#
);

/// Every file of the crate of models but its manifest, by its path in the SDK. A new crate does not depend on it at first.
pub(super) const MODELS_FILES: &[(&str, &str)] = sdk_files![
    "models/src/chat.rs",
    "models/src/error.rs",
    "models/src/fake.rs",
    "models/src/fallback.rs",
    "models/src/lib.rs",
    "models/src/mcp.rs",
    "models/src/mcp/headers.rs",
    "models/src/mcp/message.rs",
    "models/src/mcp/session.rs",
    "models/src/mcp/tests.rs",
    "models/src/mcp/tools.rs",
    "models/src/model.rs",
    "models/src/openai.rs",
    "models/src/openai/answer.rs",
    "models/src/openai/refusal.rs",
    "models/src/openai/request.rs",
    "models/src/openai/tests.rs",
    "models/src/openai/tests/wire.rs",
    "models/src/openai/tool_calls.rs",
    "models/src/sse.rs",
    "models/src/stream.rs",
    "models/src/tool.rs",
    "models/src/wire.rs",
    "models/src/with_tools.rs",
];

/// The manifest of the crate of models, in the same way.
pub(super) const MODELS_MANIFEST: &str = concat!(
    r#"[package]
name = "wasm-worker-models"
description = "Chat models and their tools for agents of wasm-worker"
version = ""#,
    env!("CARGO_PKG_VERSION"),
    r#""
edition = "2024"
rust-version = ""#,
    env!("CARGO_PKG_RUST_VERSION"),
    r#""
license = ""#,
    env!("CARGO_PKG_LICENSE"),
    r#""
repository = ""#,
    env!("CARGO_PKG_REPOSITORY"),
    r#""

[dependencies]
log = "0.4.35"
serde_json = "1.0.154"
wasm-worker-sdk = { path = "..", version = ""#,
    env!("CARGO_PKG_VERSION"),
    r#"" }
"#
);
