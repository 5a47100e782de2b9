//! The tools that compile the crate of an agent. A worker whose agents are `.wasm` files needs none.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::runtime::Builder;
use tokio::time::timeout;
use wasm_worker_core::secret::{is_own, withhold};
use wasm_worker_core::text::clip;
use wasm_worker_sandbox::agent::cargo::TARGET;

use super::Finding;

/// Time limit for the answer of a tool.
pub(super) const TOOL_WITHIN: Duration = Duration::from_secs(10);

/// What the tools say.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The version of cargo; none without cargo.
    cargo: Option<String>,
    /// Whether the libraries of the WebAssembly target are there.
    target: bool,
}

impl Facts {
    pub(super) fn read() -> Self {
        // Without a runtime nothing can be asked.
        let Ok(runtime) = Builder::new_current_thread().enable_all().build() else { return Self::default() };
        runtime.block_on(async {
            let cargo = answer("cargo", &["--version"]).await;
            let libraries = answer("rustc", &["--print", "target-libdir", "--target", TARGET]).await;
            let target = libraries.is_some_and(|dir| PathBuf::from(dir).is_dir());
            Self { cargo, target }
        })
    }
}

/// The first line that a tool prints. rustup is asked to install nothing.
async fn answer(tool: &str, args: &[&str]) -> Option<String> {
    let mut command = std::process::Command::new(tool);
    withhold(&mut command, is_own);
    let mut command = Command::from(command);
    command.args(args).env("RUSTUP_AUTO_INSTALL", "0").stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(TOOL_WITHIN, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| clip(text.lines().next().unwrap_or_default()))
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let install = format!("rustup target add {TARGET}");
    vec![match (&facts.cargo, facts.target) {
        (None, _) => Finding::warn(
            "toolchain",
            "cargo does not answer: crates of agents cannot be built; `.wasm` files need no tool",
            "install Rust with rustup, https://rustup.rs",
        ),
        (Some(cargo), false) => Finding::warn("toolchain", format!("{cargo}, without the target {TARGET}"), install),
        (Some(cargo), true) => Finding::ok("toolchain", format!("{cargo}, with the target {TARGET}")),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    #[test]
    fn a_missing_tool_is_a_warning_with_the_command_that_installs_it() {
        let whole = Facts { cargo: Some("cargo 1.95.0".into()), target: true };
        assert_eq!(judge(&whole)[0].level, Level::Ok);
        let half = &judge(&Facts { target: false, ..whole })[0];
        assert_eq!((half.level, half.fix.as_deref()), (Level::Warn, Some("rustup target add wasm32-wasip2")));
        assert_eq!(judge(&Facts::default())[0].level, Level::Warn);
    }
}
