//! Tools of other languages, installed from their registries into `interop` in the target directory, and the agents of
//! `tests/interop` that they build.
//!
//! Each is installed when a pinned version changes, and an agent is built when its sources, its tools or the contract change.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::skip;

/// In the directory of what is installed for Python.
pub(crate) const PYTHON: &str = "venv/bin/python";

/// The package that agents in Python have from this repository.
const PYTHON_SDK: &str = "guest-sdk/python/wasm_worker";
/// The one of agents in JavaScript.
const NODE_SDK: &str = "guest-sdk/js";
/// Puts the manifest into an agent in Python.
const PYTHON_EMBED: &str = "guest-sdk/python/embed_manifest.py";

/// Where Debian's package wasi-libc is.
const WASI_LIBC: &str = "/usr/include/wasm32-wasi";

/// A language that an agent of `tests/interop` is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    C,
    Python,
    JavaScript,
}

impl Language {
    /// The component of its agent; none where a tool is missing on this machine.
    pub(crate) fn agent(self) -> Option<PathBuf> {
        static ONE_OF_EACH: [Mutex<()>; 3] = [const { Mutex::new(()) }; 3];
        let _guard = ONE_OF_EACH[self as usize].lock().unwrap_or_else(PoisonError::into_inner);
        match self {
            Self::C => {
                has("clang")?;
                if !Path::new(WASI_LIBC).exists() {
                    skip("interop", "there is no wasi-libc on this machine");
                    return None;
                }
                Some(built("c", &[root().join("Cargo.lock")], build_c))
            }
            Self::Python => {
                installed_python("python")?;
                let sdk = [files(&root().join(PYTHON_SDK)), vec![root().join(PYTHON_EMBED)]].concat();
                Some(built("python", &sdk, build_python))
            }
            Self::JavaScript => {
                installed_node("javascript")?;
                Some(built("javascript", &files(&root().join(NODE_SDK)), build_javascript))
            }
        }
    }
}

/// By clang, with what the generator of bindings and the encoder of components do for users as `wit-bindgen c` and as
/// `wasm-tools component new`.
fn build_c(place: &Path, wit: &Path) {
    let tools = |words: &[&Path]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(root()).args(["run", "--quiet", "--locked", "-p", "sdk-bindings", "--bin", "c-tools", "--"]);
        must(cargo.args(words));
    };
    tools(&["bindings".as_ref(), wit, place]);
    let mut clang = Command::new("clang");
    clang.args([
        "--target=wasm32-wasi",
        "-mexec-model=reactor",
        "-O2",
        "-Wall",
        "-Werror",
        "-Wl,--strip-debug",
        "-o",
        "core.wasm",
    ]);
    must(clang.args(["talker.c", "steps.c", "agent.c", "agent_component_type.o"]).current_dir(place));
    tools(&["component".as_ref(), &place.join("core.wasm"), &place.join("agent.wasm")]);
}

fn build_python(place: &Path, wit: &Path) {
    copy(PYTHON_SDK, &place.join("wasm_worker"));
    let mut componentize = Command::new(place.join("venv/bin/componentize-py"));
    componentize.arg("-d").arg(wit).args(["-w", "agent", "componentize", "-p", ".", "app", "-o", "agent.wasm"]);
    // It looks for packages there.
    must(componentize.env("VIRTUAL_ENV", place.join("venv")).current_dir(place));
    let mut embed = Command::new(place.join(PYTHON));
    embed.arg(root().join(PYTHON_EMBED)).args(["agent.toml", "agent.wasm"]);
    must(embed.current_dir(place));
}

/// The agent and its packages, as one file.
fn build_javascript(place: &Path, wit: &Path) {
    let sdk = place.join("node_modules/wasm-worker-agent");
    copy(NODE_SDK, &sdk);
    must(Command::new(place.join("node_modules/.bin/rolldown")).arg("--config").current_dir(place));
    let mut componentize = Command::new(place.join("node_modules/.bin/componentize-js"));
    componentize.arg("dist/app.js").arg("-w").arg(wit).args([
        "-n",
        "agent",
        "-d",
        "http",
        "fetch-event",
        "-o",
        "agent.wasm",
    ]);
    must(componentize.current_dir(place));
    let mut embed = Command::new("node");
    must(embed.arg(sdk.join("embed-manifest.js")).args(["agent.toml", "agent.wasm"]).current_dir(place));
}

/// `agent.wasm` in the copy of a directory of `tests/interop`, built anew when a source, the contract or one of these other files
/// has changed.
fn built(dir: &str, others: &[PathBuf], build: impl FnOnce(&Path, &Path)) -> PathBuf {
    let place = installed(dir, None, |_| {});
    // Other processes of the tests use the same directory.
    let lock = File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let wit = root().join("guest-sdk/wit");
    let mut inputs = [files(&root().join("tests/interop").join(dir)), files(&wit)].concat();
    inputs.extend_from_slice(others);
    let mut hash = DefaultHasher::new();
    for input in inputs {
        hash.write(&std::fs::read(input).unwrap());
    }
    let (wanted, stamp) = (format!("{:016x}", hash.finish()), place.join("agent.wasm.built"));
    if std::fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        build(&place, &wit);
        std::fs::write(&stamp, &wanted).unwrap();
    }
    place.join("agent.wasm")
}

/// A copy of this directory of `tests/interop` with a Python that has what its `requirements.txt` lists.
pub(crate) fn installed_python(dir: &str) -> Option<PathBuf> {
    has("python3")?;
    Some(installed(dir, Some("requirements.txt"), |place| {
        must(Command::new("python3").args(["-m", "venv", "--clear"]).arg(place.join("venv")));
        let mut pip = Command::new(place.join(PYTHON));
        must(pip.args(["-m", "pip", "install", "--quiet", "--requirement", "requirements.txt"]).current_dir(place));
    }))
}

/// A copy that has what its `package-lock.json` lists: Node looks for packages beside the script.
pub(crate) fn installed_node(dir: &str) -> Option<PathBuf> {
    has("node")?;
    has("npm")?;
    Some(installed(dir, Some("package-lock.json"), |place| {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(place);
        must(&mut npm);
    }))
}

/// A copy of a directory of `tests/interop` with what one of its files lists, which is installed anew when that has changed.
fn installed(dir: &str, list: Option<&str>, install: impl FnOnce(&Path)) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // Other processes of the tests use the same directory.
    let lock = File::create(target_dir().join("interop.lock")).unwrap();
    lock.lock().unwrap();
    let place = target_dir().join("interop").join(dir);
    copy(&format!("tests/interop/{dir}"), &place);
    let Some(list) = list else { return place };
    let (wanted, stamp) = (std::fs::read(place.join(list)).unwrap(), place.join(format!("{list}.installed")));
    if std::fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        install(&place);
        std::fs::write(&stamp, &wanted).unwrap();
    }
    place
}

/// Copy the files of a directory of the repository.
fn copy(dir: &str, place: &Path) {
    std::fs::create_dir_all(place).unwrap();
    for file in files(&root().join(dir)) {
        std::fs::copy(&file, place.join(file.file_name().unwrap())).unwrap();
    }
}

/// The files of a directory, in the order of their names.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Whether there is such a program; the tests that need it are skipped where not.
fn has(program: &str) -> Option<()> {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if asked.is_ok_and(|status| status.success()) {
        return Some(());
    }
    skip("interop", &format!("there is no `{program}` on this machine"));
    None
}

#[track_caller]
fn must(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{command:?} fails:\n{stdout}{stderr}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// The binary lies in `<target>/<profile>`.
fn target_dir() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_wasm-worker")).ancestors().nth(2).unwrap().to_owned()
}
