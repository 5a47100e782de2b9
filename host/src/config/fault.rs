//! Faults of the settings.

use std::fmt;

use wasm_worker_core::text::plural;

/// One fault of the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key of the setting, or `config` for the file.
    pub what: String,
    /// The file, the variable or the command line that set it.
    pub source: String,
    /// The fault, and what is wanted.
    pub why: String,
}

/// The settings cannot be used. The error has all faults.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// At least one fault.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "the configuration has {}", plural(self.faults.len(), "fault"))?;
        for Fault { what, source, why } in &self.faults {
            write!(f, "\n  `{what}` ({source}): {why}")?;
        }
        Ok(())
    }
}
