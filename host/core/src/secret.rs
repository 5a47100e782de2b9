//! Texts that no output shows, and environment variables that child processes do not get.

use std::fmt;
use std::process::Command;

/// Beginnings of the variables that are for this program.
const OWN: [&str; 2] = ["LIVEKIT_", "WASM_WORKER_"];
/// Parts of the names of those with a secret.
const SECRET: [&str; 4] = ["KEY", "PASSWORD", "SECRET", "TOKEN"];

/// Whether an environment variable is for this program, as its settings are.
pub fn is_own(variable: &str) -> bool {
    OWN.iter().any(|prefix| variable.starts_with(prefix))
}

/// Whether it has a secret too.
pub fn is_own_secret(variable: &str) -> bool {
    is_own(variable) && SECRET.iter().any(|part| variable.contains(part))
}

/// Start a command without these variables.
pub fn withhold(command: &mut Command, variables: fn(&str) -> bool) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| variables(&name.to_string_lossy())) {
        command.env_remove(name);
    }
}

/// A text that no log, error or event shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_this_program_are_known_by_their_names() {
        assert!(
            ["LIVEKIT_API_SECRET", "LIVEKIT_API_KEY", "LIVEKIT_KEYS", "WASM_WORKER_HTTP_TOKEN"]
                .into_iter()
                .all(is_own_secret)
        );
        assert!(
            ["LIVEKIT_URL", "WASM_WORKER_MAX_JOBS", "CARGO_REGISTRY_TOKEN", "PATH"]
                .into_iter()
                .all(|v| !is_own_secret(v))
        );
        assert!(is_own("LIVEKIT_URL") && !is_own("PATH"));
    }
}
