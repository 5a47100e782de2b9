//! Where an agent comes from: a component, a component as text, or a crate that is compiled to one.

use std::io;
use std::path::{Path, PathBuf};

use super::cargo::{self, BuildError};

/// A component's bytes, and the agent's name.
#[derive(Clone, Debug)]
pub struct Source {
    /// File name without its extension, or the crate's name.
    pub name: String,
    /// WebAssembly, in the binary format.
    pub bytes: Vec<u8>,
}

/// No component can be had from there.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Nothing there, or not readable.
    #[error("the agent `{}` cannot be read", path.display())]
    Read {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A `.wat` that is none.
    #[error("the agent `{}` is not WebAssembly text: {why}", path.display())]
    Text {
        /// As it was given.
        path: PathBuf,
        /// With the line and column.
        why: String,
    },
    /// A crate that does not compile.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl SourceError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read { .. } => Some("an agent is a `.wasm` file, a `.wat` file or the directory of a crate".into()),
            Self::Text { .. } => None,
            Self::Build(error) => error.hint(),
        }
    }
}

/// Read a file, or compile a crate.
///
/// # Errors
/// When there is nothing to read, or the crate does not compile.
pub fn read(path: &Path) -> Result<Source, SourceError> {
    let failed = |source| SourceError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.is_dir() {
        let built = cargo::build(path)?;
        let bytes = std::fs::read(&built).map_err(|source| SourceError::Read { path: built.clone(), source })?;
        return Ok(Source { name: name_of(&built), bytes });
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

/// What the agent of this path is called, without compiling it.
///
/// # Errors
/// When there is nothing to read, or the crate is none.
pub fn name(path: &Path) -> Result<String, SourceError> {
    let found = std::fs::metadata(path).map_err(|source| SourceError::Read { path: path.to_owned(), source })?;
    if found.is_dir() { Ok(name_of(Path::new(&cargo::component_name(path)?))) } else { Ok(name_of(path)) }
}

fn name_of(path: &Path) -> String {
    path.file_stem().map_or_else(|| "agent".into(), |stem| stem.to_string_lossy().replace('_', "-"))
}
