//! The compilation of an agent's crate to a component by cargo. rustup adds the WebAssembly target when it is missing.
//!
//! cargo runs the build scripts and the macros of the crate and of what it depends on, with the rights of this process. They get
//! no variable of this program, so no key and no token.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use cargo_metadata::{CrateType, Message, MetadataCommand};
use wasm_worker_core::secret::{is_own, withhold};
use wasm_worker_core::text::clip;

/// The target whose output is a component.
pub const TARGET: &str = "wasm32-wasip2";

/// The profile of agents: small code, with function names for backtraces. An agent is loaded far more often than compiled.
const PROFILE: &[&str] = &[
    "profile.agent.inherits=\"release\"",
    "profile.agent.opt-level=\"s\"",
    "profile.agent.lto=true",
    "profile.agent.codegen-units=1",
    "profile.agent.strip=\"debuginfo\"",
    "profile.agent.debug=false",
    "profile.agent.panic=\"abort\"",
];

/// Variables with flags for the programs of this machine, such as a linker. cargo would use them for agents too.
const HOST_FLAGS: [&str; 3] = ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS"];
/// cargo's own variable with flags for the target of agents.
const AGENT_FLAGS: &str = "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS";

/// The reason why cargo built no component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The path is no directory.
    #[error("`{}` is not a directory", dir.display())]
    NoDirectory {
        /// The path.
        dir: PathBuf,
    },
    /// The directory has no crate.
    #[error("`{}` is not the directory of a crate: it has no `Cargo.toml`", dir.display())]
    NoCrate {
        /// The path.
        dir: PathBuf,
    },
    /// cargo refuses the `Cargo.toml`.
    #[error("the crate in `{}` cannot be read: {why}", dir.display())]
    Unreadable {
        /// The path.
        dir: PathBuf,
        /// The error of cargo.
        why: String,
    },
    /// A tool cannot be started.
    #[error("`{tool}` cannot be started")]
    Tool {
        /// The name of the tool.
        tool: &'static str,
        /// The error of the system.
        source: io::Error,
    },
    /// rustup could not add the target.
    #[error("the target `{TARGET}` is missing, and `rustup target add {TARGET}` failed ({status})")]
    Target {
        /// The exit status of rustup, which has printed the reason.
        status: ExitStatus,
    },
    /// The crate does not compile; the compiler has printed the reason.
    #[error("the crate in `{}` does not compile", dir.display())]
    Compile {
        /// The path.
        dir: PathBuf,
    },
    /// The crate compiles, but has no library of type `cdylib`.
    #[error("the crate in `{}` builds no component: it has no library of type `cdylib`", dir.display())]
    NoComponent {
        /// The path.
        dir: PathBuf,
    },
}

impl BuildError {
    /// Advice for the operator.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoDirectory { .. } | Self::NoCrate { .. } => {
                Some("`wasm-worker new NAME` makes a crate to begin with".into())
            }
            Self::Tool { .. } => Some("install Rust with rustup, https://rustup.rs".into()),
            Self::Target { .. } => Some(format!("`rustup target add {TARGET}` must work in that directory")),
            Self::Compile { .. } => Some(format!(
                "the compiler has printed why; flags for agents are those of `{AGENT_FLAGS}` and of cargo's configuration files"
            )),
            Self::Unreadable { .. } => None,
            Self::NoComponent { .. } => Some("add `[lib]` with `crate-type = [\"cdylib\"]` to its Cargo.toml".into()),
        }
    }
}

/// Compile the crate in `dir`, and return the path of the component. Cargo's progress and errors go to standard error.
///
/// # Errors
/// When the directory has no crate, the toolchain is missing, or the crate does not compile to a component.
pub fn build(dir: &Path) -> Result<PathBuf, BuildError> {
    let mut cargo = component_build(dir)?;
    cargo.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    let failed = |source| BuildError::Tool { tool: "cargo", source };
    let mut child = cargo.spawn().map_err(failed)?;
    let component = component_of(dir, &mut child);
    if !child.wait().map_err(failed)?.success() {
        return Err(BuildError::Compile { dir: dir.to_owned() });
    }
    component.ok_or_else(|| BuildError::NoComponent { dir: dir.to_owned() })
}

/// The name of the component of the crate in `dir`.
///
/// # Errors
/// When the directory has no crate, or the crate has no library of type `cdylib`.
pub(crate) fn component_name(dir: &Path) -> Result<String, BuildError> {
    let manifest = dir.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(BuildError::NoCrate { dir: dir.to_owned() });
    }
    let unreadable = |why: String| BuildError::Unreadable { dir: dir.to_owned(), why };
    let mut cargo = MetadataCommand::new().manifest_path(&manifest).no_deps().cargo_command();
    let read = for_the_crate(&mut cargo).output().map_err(|source| BuildError::Tool { tool: "cargo", source })?;
    if !read.status.success() {
        return Err(unreadable(clip(String::from_utf8_lossy(&read.stderr).trim())));
    }
    let metadata = MetadataCommand::parse(String::from_utf8_lossy(&read.stdout));
    let metadata = metadata.map_err(|error| unreadable(error.to_string()))?;
    let manifest = manifest.canonicalize().ok();
    let own = metadata.packages.iter().find(|package| manifest.as_deref() == Some(package.manifest_path.as_std_path()));
    let library = own.and_then(|package| package.targets.iter().find(|t| t.crate_types.contains(&CrateType::CDyLib)));
    own.zip(library)
        .map(|(package, target)| agent_name(package.name.as_ref(), &target.name))
        .ok_or_else(|| BuildError::NoComponent { dir: dir.to_owned() })
}

/// The name of the crate, where its library has that name: cargo writes `_` for `-` in the names of libraries.
fn agent_name(package: &str, library: &str) -> String {
    let named_alike = package.replace('-', "_") == library.replace('-', "_");
    if named_alike { package.to_owned() } else { library.to_owned() }
}

/// The command `cargo build` for components of the crate in `dir`, after the target was added. The caller adds what to build.
///
/// # Errors
/// When the directory has no crate, or the target cannot be added.
pub fn component_build(dir: &Path) -> Result<Command, BuildError> {
    if !dir.is_dir() {
        return Err(BuildError::NoDirectory { dir: dir.to_owned() });
    }
    if !dir.join("Cargo.toml").is_file() {
        return Err(BuildError::NoCrate { dir: dir.to_owned() });
    }
    add_target(dir)?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(dir).args(["build", "--profile", "agent", "--target", TARGET]);
    for setting in PROFILE {
        cargo.args(["--config", setting]);
    }
    for_the_crate(&mut cargo);
    if HOST_FLAGS.iter().any(|variable| std::env::var_os(variable).is_some()) {
        tracing::info!(target: "host", "agents are built without `RUSTFLAGS`; `{AGENT_FLAGS}` has flags for them");
    }
    Ok(cargo)
}

/// The component among the artifacts that cargo reports: the last one is that of the crate.
fn component_of(dir: &Path, cargo: &mut Child) -> Option<PathBuf> {
    let manifest = dir.join("Cargo.toml").canonicalize().ok();
    let messages = Message::parse_stream(BufReader::new(cargo.stdout.take()?));
    let mut component = None;
    for message in messages.map_while(Result::ok) {
        if let Message::CompilerArtifact(artifact) = message
            && artifact.target.crate_types.contains(&CrateType::CDyLib)
            && manifest.as_deref() == Some(artifact.manifest_path.as_std_path())
        {
            component = artifact.filenames.into_iter().find(|file| file.extension() == Some("wasm"));
        }
    }
    component.map(Into::into)
}

/// Have rustup add the target to the toolchain of the directory, when it is missing. Neither cargo nor a rustup without
/// automatic installation adds it.
fn add_target(dir: &Path) -> Result<(), BuildError> {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(dir).args(["--print", "target-libdir", "--target", TARGET]).stderr(Stdio::inherit());
    let printed = for_the_crate(&mut rustc).output();
    let printed = printed.map_err(|source| BuildError::Tool { tool: "rustc", source })?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&printed.stdout).trim());
    if libraries.is_dir() {
        return Ok(());
    }
    tracing::info!(target: "host", "adding the target `{TARGET}` with rustup");
    let mut rustup = Command::new("rustup");
    rustup.current_dir(dir).args(["target", "add", TARGET]).stdout(Stdio::null());
    let status = for_the_crate(&mut rustup).status();
    let status = status.map_err(|source| BuildError::Tool { tool: "rustup", source })?;
    if status.success() { Ok(()) } else { Err(BuildError::Target { status }) }
}

/// Remove the variables that a build of the crate must not get: those of cargo and rustup, which `cargo run` and `cargo test` set,
/// so that the crate's directory decides which toolchain builds it; flags for this machine; and those of this program.
fn for_the_crate(command: &mut Command) -> &mut Command {
    for variable in ["RUSTUP_TOOLCHAIN", "CARGO"].iter().chain(&HOST_FLAGS) {
        command.env_remove(variable);
    }
    withhold(command, is_own);
    command
}
