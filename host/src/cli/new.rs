//! `wasm-worker new`: creates the crate of an agent, which builds, runs and passes its test as it is.
//!
//! The program contains the source of the guest SDK and of the crate for tests, and writes them into the new crate. The crate therefore needs no
//! checkout of wasm-worker, and its directory can be moved to another machine.

mod sources;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, Failure, say};
use sources::{MODELS_FILES, MODELS_MANIFEST, SDK_DIR, SDK_FILES, SDK_MANIFEST, TEST_DIR, TEST_FILES, TEST_MANIFEST};

#[derive(Args)]
pub(crate) struct NewArgs {
    /// Name of the crate and of its directory
    #[arg(value_name = "NAME")]
    name: String,
    /// Directory of the guest SDK to depend on [default: a copy of the SDK in the new crate]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

pub(crate) fn run(args: &NewArgs) -> Result<Exit, Failure> {
    let name = &args.name;
    check_name(name)?;
    let dir = Path::new(name);
    if dir.exists() {
        return Err(Failure::usage(format!("`{name}` exists already")).with_hint("choose another name, or remove it"));
    }
    let sdk = args.sdk.as_deref().map(sdk_directory).transpose()?;
    let created = write_crate(dir, name, sdk.as_deref());
    created.map_err(|error| Failure::usage(format!("`{name}` cannot be created: {error}")))?;
    match sdk {
        Some(sdk) => say(&format!("created `{name}`, which depends on the SDK in `{}`", sdk.display())),
        None => say(&format!("created `{name}`, with a copy of the SDK in `{name}/{SDK_DIR}`")),
    }
    say(&format!("now `wasm-worker run {name} --job`, or `wasm-worker test {name}`"));
    Ok(Exit::Ok)
}

/// A scenario that the new agent passes.
const SCENARIO: &str = r#"# A conversation under virtual time. `wasm-worker test` plays it, and so does `cargo test`.
seed: 1
steps:
  - join: ann
  - expect: {text: {contains: "hello"}, within: 2s}
  - say: {from: ann, text: "good morning"}
  - expect: {text: "you said: good morning"}
  - advance: 10m
  - leave: ann
  - expect: {end: completed, fuel: {max: 10M}}
"#;

/// The tests of the new agent.
const TESTS: &str = r#"//! Conversations with the agent. They need the program `wasm-worker`, in `PATH` or named by `WASM_WORKER`.

use std::time::Duration;

use wasm_worker_test::{Agent, Conversation, equals};

#[test]
fn scenarios_pass() {
    Agent::of_this_crate().passes(["tests/hello.yaml"]);
}

#[test]
fn agent_stops_when_it_is_asked_to() {
    Conversation::new()
        .join("ann")
        .say("ann", "hi")
        .expect_text_within(equals("you said: hi"), Duration::from_secs(2))
        .stop("enough")
        .expect_end("terminated")
        .passes(&Agent::of_this_crate());
}
"#;

/// Names that cargo refuses, that are keywords of Rust, or that hide a library which the new crate uses.
const RESERVED: &str = "abstract alloc as async await become box break const continue core crate do dyn else enum \
    extern false final fn for gen if impl in let log loop macro match mod move mut override priv proc-macro proc_macro \
    pub ref return self static std struct super test trait true try type typeof unsafe unsized use virtual \
    wasm-worker-models wasm_worker_models wasm-worker-sdk wasm_worker_sdk wasm-worker-test wasm_worker_test where while \
    yield";

fn check_name(name: &str) -> Result<(), Failure> {
    let well_formed = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    let reserved = RESERVED.split(' ').any(|reserved| reserved == name);
    let hint = match (well_formed, reserved) {
        (true, false) => return Ok(()),
        (true, true) => format!("Rust or the new crate uses this name; choose another, such as `{name}-agent`"),
        (false, _) => "want lower-case letters, digits, `-` and `_`, a letter first: `my-agent`".into(),
    };
    Err(Failure::usage(format!("`{name}` cannot be the name of an agent crate")).with_hint(hint))
}

fn sdk_directory(dir: &Path) -> Result<PathBuf, Failure> {
    match dir.canonicalize() {
        Ok(dir) if dir.join("wit/agent.wit").is_file() => Ok(dir),
        _ => Err(Failure::usage(format!("`{}` is not the directory of the guest SDK", dir.display()))
            .with_hint("the SDK is `guest-sdk` in the repository of wasm-worker; it contains `wit/agent.wit`")),
    }
}

/// The new crate's only dependency from a registry, as `Cargo.lock` names it.
const LOCKED_LOG: &str = r#"[[package]]
name = "log"
version = "0.4.35"
source = "registry+https://github.com/rust-lang/crates.io-index"
checksum = "5d15f86d12da44cd8d4ec3c73984537eb7f4cadcb9776a575a0a8a05ca11005c"
"#;

/// Writes the crate to a temporary directory first, so that a failure leaves nothing behind.
fn write_crate(dir: &Path, name: &str, sdk: Option<&Path>) -> io::Result<()> {
    let draft = tempfile::Builder::new().prefix(".new-agent").tempdir_in(".")?;
    let write = |path: &str, text: &str| {
        let path = draft.path().join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, text)
    };
    write("Cargo.toml", &manifest(name, sdk))?;
    write("Cargo.lock", &lock_file(name))?;
    write(".gitignore", "/target\n")?;
    write("src/lib.rs", &library(name))?;
    write("tests/conversation.rs", TESTS)?;
    write("tests/hello.yaml", SCENARIO)?;
    write(&format!("{TEST_DIR}/Cargo.toml"), TEST_MANIFEST)?;
    for (path, text) in TEST_FILES {
        write(&format!("{TEST_DIR}/{path}"), text)?;
    }
    if sdk.is_none() {
        write(&format!("{SDK_DIR}/Cargo.toml"), SDK_MANIFEST)?;
        write(&format!("{SDK_DIR}/models/Cargo.toml"), MODELS_MANIFEST)?;
        for (path, text) in SDK_FILES.iter().chain(MODELS_FILES) {
            write(&format!("{SDK_DIR}/{path}"), text)?;
        }
    }
    fs::rename(draft.keep(), dir)
}

fn manifest(name: &str, sdk: Option<&Path>) -> String {
    let sdk = sdk.unwrap_or(Path::new(SDK_DIR)).display().to_string().replace('\\', r"\\").replace('"', "\\\"");
    format!(
        r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
log = "0.4"
wasm-worker-sdk = {{ path = "{sdk}" }}

[dev-dependencies]
wasm-worker-test = {{ path = "{TEST_DIR}" }}

# The crate is a workspace of its own, also inside the directory of another one.
[workspace]
exclude = ["{SDK_DIR}", "{TEST_DIR}"]
"#
    )
}

/// The versions with which wasm-worker is tested. Cargo wants the packages in the order of their names.
fn lock_file(name: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let agent = format!(
        r#"[[package]]
name = "{name}"
version = "0.1.0"
dependencies = [
 "log",
 "wasm-worker-sdk",
 "wasm-worker-test",
]
"#
    );
    let test = format!("[[package]]\nname = \"wasm-worker-test\"\nversion = \"{version}\"\n");
    let sdk = format!(
        r#"[[package]]
name = "wasm-worker-sdk"
version = "{version}"
dependencies = [
 "log",
]
"#
    );
    let mut packages = [("log", LOCKED_LOG), (name, &agent), ("wasm-worker-sdk", &sdk), ("wasm-worker-test", &test)];
    packages.sort_unstable();
    let packages = packages.map(|(_, text)| text).join("\n");
    let head =
        "# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\nversion = 4";
    format!("{head}\n\n{packages}")
}

fn library(name: &str) -> String {
    let agent = type_name(name);
    format!(
        r#"//! An agent for wasm-worker. `entrypoint` runs once in each job.

use std::time::Duration;

use wasm_worker_sdk::{{Agent, Event, JobContext, Result, time::timeout}};

/// Time for somebody to come.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct {agent};

impl Agent for {agent} {{
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {{
        log::info!("job {{}} in room `{{}}`", ctx.job().id, ctx.job().room.name);
        ctx.connect().await?;
        ctx.send_text("lk.transcription", "hello")?;
        if timeout(PATIENCE, ctx.wait_for_participant(None)).await.is_none() {{
            log::info!("nobody came");
            return Ok(());
        }}
        loop {{
            match ctx.next_event().await {{
                Event::Text(message) => {{
                    ctx.send_text("lk.transcription", &format!("you said: {{}}", message.text))?;
                }}
                Event::ParticipantLeft(_) | Event::ShutdownRequested(_) => return Ok(()),
                _ => {{}}
            }}
        }}
    }}
}}

wasm_worker_sdk::agent!({agent});
"#
    )
}

/// The crate's name in camel case, ending in `Agent`, so that it differs from every name that the crate imports.
fn type_name(name: &str) -> String {
    let words = name.split(['-', '_']).map(|word| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    });
    let agent: String = words.collect();
    match agent.strip_suffix("Agent") {
        Some("") => "MyAgent".to_owned(),
        Some(_) => agent,
        None => format!("{agent}Agent"),
    }
}
