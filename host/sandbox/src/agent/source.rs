//! The source of an agent: a component, a component as text, or a crate that compiles to a component.

use std::io;
use std::path::{Path, PathBuf};

use super::cargo::{self, BuildError};

/// The bytes of a component, and the name of the agent.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name: the file name without its extension, or the name of the crate.
    pub name: String,
    /// WebAssembly in the binary format.
    pub bytes: Vec<u8>,
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
    /// The file ends in `.wat` and is no WebAssembly text.
    #[error("the agent `{}` is not WebAssembly text: {why}", path.display())]
    Text {
        /// The path.
        path: PathBuf,
        /// The fault, with its line and column.
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
            Self::Text { .. } => None,
            Self::Build(error) => error.hint(),
        }
    }
}

/// Read the file, or compile the crate.
///
/// # Errors
/// When the file cannot be read, or the crate does not compile.
pub fn read(path: &Path) -> Result<Source, SourceError> {
    let failed = |source| SourceError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.is_dir() {
        let built = cargo::build(path)?;
        let bytes = std::fs::read(&built).map_err(|source| SourceError::Read { path: built.clone(), source })?;
        return Ok(Source { name: name(path)?, bytes });
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let is_text = path.extension().is_some_and(|extension| extension == "wat");
    let bytes = if is_text {
        let parsed = wat::parse_bytes(&bytes).map(|parsed| parsed.into_owned());
        parsed.map_err(|error| SourceError::Text { path: path.to_owned(), why: error.to_string() })?
    } else {
        bytes
    };
    Ok(Source { name: name_of(path), bytes })
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
