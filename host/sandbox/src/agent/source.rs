//! The source of an agent: a component, a component as text, or a crate that compiles to a component.
//!
//! Bound: a file has at most [`FILE_BYTES_MAX`]. A file is read here and not looked into: the process of the compiler does that.

use std::io;
use std::path::{Path, PathBuf};

use wasm_worker_core::manifest::Manifest;

use super::cargo::{self, BuildError};
use super::{file, manifest};

/// Most bytes of an agent's file. The largest agents, which bring an interpreter along, have some 50 MB.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// The contents of an agent's file, and the name of the agent.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name: the file name without its extension, or the name of the crate.
    pub name: String,
    /// The contents of the file.
    pub bytes: Vec<u8>,
    /// The format of the contents.
    pub format: Format,
}

/// The format of a WebAssembly file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// WebAssembly in the binary format.
    Binary,
    /// WebAssembly text.
    Text,
}

/// The reason why a path gives no component.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file does not exist or cannot be read.
    #[error("the agent `{}` cannot be read", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The `agent.toml` is not usable.
    #[error("`{}` is not usable: {why}", path.display())]
    Manifest {
        /// The path.
        path: PathBuf,
        /// The fault, with its line.
        why: String,
    },
    /// The crate does not compile.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl SourceError {
    /// Advice for the operator.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("an agent is a `.wasm` file, a `.wat` file or the directory of a crate".into()),
            Self::Manifest { .. } => Some("guest-sdk/docs/network.md describes the file".into()),
            Self::Build(error) => error.hint(),
        }
    }
}

/// Read the file, or compile the crate.
///
/// # Errors
/// When the file cannot be read, is no regular file or too large, or when the crate does not compile.
pub fn read(path: &Path) -> Result<Source, SourceError> {
    let failed = |source| SourceError::Read { path: path.to_owned(), source };
    let is_crate = std::fs::metadata(path).map_err(failed)?.is_dir();
    // Before the build, which takes longer.
    let manifest = if is_crate { manifest_of(path)? } else { None };
    let file = if is_crate { cargo::build(path)? } else { path.to_owned() };
    let mut bytes =
        file::read(&file, FILE_BYTES_MAX).map_err(|source| SourceError::Read { path: file.clone(), source })?;
    if let Some(text) = manifest {
        manifest::embed(&mut bytes, &text);
    }
    let is_text = file.extension().is_some_and(|extension| extension == "wat");
    // A copy of a crate below another workspace compiles, and its manifest cannot be read.
    let crate_name = if is_crate { cargo::component_name(path).ok() } else { None };
    let name = crate_name.unwrap_or_else(|| name_of(&file));
    Ok(Source { name, bytes, format: if is_text { Format::Text } else { Format::Binary } })
}

/// Compile the crate, and return the path of the component, which has the manifest of the crate.
///
/// # Errors
/// When the crate does not compile, or its `agent.toml` is not usable.
pub fn build(dir: &Path) -> Result<PathBuf, SourceError> {
    let text = manifest_of(dir)?;
    let built = cargo::build(dir)?;
    let Some(text) = text else { return Ok(built) };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SourceError::Read { path, source }
    };
    let mut bytes = file::read(&built, FILE_BYTES_MAX).map_err(failed(&built))?;
    manifest::embed(&mut bytes, &text);
    // Beside cargo's own file, which cargo does not make again; the name of the file is that of the agent.
    let (dir, name) = (built.with_file_name("with-manifest"), built.file_name().unwrap_or_default());
    let component = dir.join(name);
    std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&component, bytes)).map_err(failed(&component))?;
    Ok(component)
}

/// What the `agent.toml` of a crate asks for, without a compilation. Nothing where there is none.
///
/// # Errors
/// When the file is not usable.
pub fn manifest(dir: &Path) -> Result<Manifest, SourceError> {
    let text = manifest_of(dir)?.unwrap_or_default();
    manifest::parse(&text).map_err(|why| SourceError::Manifest { path: dir.join(manifest::FILE), why })
}

fn manifest_of(dir: &Path) -> Result<Option<String>, SourceError> {
    manifest::of_dir(dir).map_err(|why| SourceError::Manifest { path: dir.join(manifest::FILE), why })
}

/// The name of the agent at this path, without a compilation.
///
/// # Errors
/// When the file does not exist, or the directory has no crate.
pub fn name(path: &Path) -> Result<String, SourceError> {
    let found = std::fs::metadata(path).map_err(|source| SourceError::Read { path: path.to_owned(), source })?;
    if found.is_dir() { Ok(cargo::component_name(path)?) } else { Ok(name_of(path)) }
}

/// The file name without its extension, unchanged: names of agents may have `_` and `-`.
fn name_of(path: &Path) -> String {
    path.file_stem().map_or_else(|| "agent".into(), |stem| stem.to_string_lossy().into_owned())
}
