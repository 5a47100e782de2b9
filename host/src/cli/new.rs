//! `wasm-worker new`: a crate that builds and runs as it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Exit, Failure, say};

#[derive(Args)]
pub(crate) struct NewArgs {
    /// Name of the crate, and of the directory that is made for it
    #[arg(value_name = "NAME")]
    name: String,
    /// Directory of the guest SDK to depend on [default: this repository's, where it is there, else the published crate]
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
    let sdk = sdk_dependency(args.sdk.as_deref())?;
    write_crate(dir, name, &sdk)?;
    say(&format!("made `{name}`, which depends on `{sdk}`; now `wasm-worker run {name} --job`"));
    Ok(Exit::Ok)
}

/// Names that cargo refuses, or that would shadow a library: Rust's keywords, its own crates, and what the crate uses.
const TAKEN: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "log",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "wasm-worker-sdk",
    "wasm_worker_sdk",
    "where",
    "while",
    "yield",
];

fn check_name(name: &str) -> Result<(), Failure> {
    let fits = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_');
    if fits && !TAKEN.contains(&name) {
        return Ok(());
    }
    let why = format!("`{name}` cannot be the name of an agent crate");
    Err(Failure::usage(why).with_hint("want lower-case letters, digits, `-` and `_`, a letter first: `my-agent`"))
}

/// The line that names the SDK in the new crate's manifest.
fn sdk_dependency(given: Option<&Path>) -> Result<String, Failure> {
    let of_this_repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest-sdk");
    let dir = given.map_or(of_this_repository, Path::to_owned);
    match dir.canonicalize() {
        Ok(dir) if dir.join("wit/agent.wit").is_file() => {
            // A TOML literal string, which has no escapes.
            Ok(format!("wasm-worker-sdk = {{ path = '{}' }}", dir.display()))
        }
        _ if given.is_none() => Ok(format!("wasm-worker-sdk = \"{}\"", env!("CARGO_PKG_VERSION"))),
        _ => Err(Failure::usage(format!("`{}` is not the directory of the guest SDK", dir.display()))
            .with_hint("it is `guest-sdk` in the repository of wasm-worker, with `wit/agent.wit` in it")),
    }
}

/// The whole directory or none: it gets its name when all is written.
fn write_crate(dir: &Path, name: &str, sdk: &str) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let parent = match dir.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        let draft = tempfile::Builder::new().prefix(".new-agent").tempdir_in(parent)?;
        fs::create_dir(draft.path().join("src"))?;
        fs::write(draft.path().join("Cargo.toml"), manifest(name, sdk))?;
        fs::write(draft.path().join(".gitignore"), "/target\n")?;
        fs::write(draft.path().join("src/lib.rs"), library(name))?;
        fs::rename(draft.keep(), dir)
    };
    write().map_err(|error| Failure::usage(format!("`{name}` cannot be made: {error}")))
}

fn manifest(name: &str, sdk: &str) -> String {
    format!(
        r#"[package]
name = "{name}"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
log = "0.4"
{sdk}

# A workspace of its own, wherever the directory lies.
[workspace]
"#
    )
}

fn library(name: &str) -> String {
    let agent: String = name
        .split(['-', '_'])
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        })
        .collect();
    // A name of its own, which is none of those that the crate imports.
    let agent = match agent.strip_suffix("Agent") {
        Some("") => "MyAgent".to_owned(),
        Some(_) => agent,
        None => format!("{agent}Agent"),
    };
    format!(
        r#"//! An agent for wasm-worker: what it does is in `entrypoint`.

use std::time::Duration;

use wasm_worker_sdk::{{Agent, Either, JobContext, Result, select, time::sleep}};

#[derive(Default)]
struct {agent};

impl Agent for {agent} {{
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {{
        log::info!("job {{}} in room `{{}}`", ctx.job().id, ctx.job().room.name);
        match select(sleep(Duration::from_millis(100)), ctx.shutdown_requested()).await {{
            Either::Left(()) => log::info!("done"),
            Either::Right(request) => log::info!("asked to stop: {{}}", request.reason),
        }}
        Ok(())
    }}
}}

wasm_worker_sdk::agent!({agent});
"#
    )
}
