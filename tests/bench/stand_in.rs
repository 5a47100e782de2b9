//! The stand-in for a model whose turns the benches measure: 40 tokens at 40 a second.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A conversation has a turn this often.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// The least that a turn takes.
const IDEAL: Duration = Duration::from_secs(1);
/// Ten of the tokens.
const TOKENS: &str = "one two three four five six seven eight nine ten";

/// What the model says in each turn.
pub(crate) fn answer() -> String {
    [TOKENS; 4].join(" ")
}

/// `wasm-worker mock-models`, which ends with this value.
pub(crate) struct Models {
    process: Child,
    pub(crate) address: String,
    _script: tempfile::NamedTempFile,
}

impl Models {
    pub(crate) fn start() -> Self {
        let script = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
        let pace = "pace: {first-token: 25ms, tokens-per-second: 40}";
        std::fs::write(script.path(), format!("{pace}\nrules:\n  - answer: \"{}\"\n", answer())).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wasm-worker"));
        command.arg("mock-models").arg(script.path()).args(["--listen", "127.0.0.1:0"]);
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("http://").trim_end_matches("/v1").to_owned();
        Self { process, address, _script: script }
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        // It may have ended.
        self.process.kill().unwrap_or_default();
        drop(self.process.wait());
    }
}

/// What the turns took beyond the ideal.
pub(crate) fn beyond(mut turns: Vec<Duration>) -> String {
    turns.sort_unstable();
    let at = |percent: usize| {
        let turn = turns[(turns.len() * percent).div_ceil(100).max(1) - 1];
        turn.saturating_sub(IDEAL).as_secs_f64() * 1e3
    };
    format!("p50 {:.2} ms, p99 {:.2} ms", at(50), at(99))
}
