//! The agent that is tested, and the program that plays with it.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The exit status of `wasm-worker test` where a scenario failed.
const A_SCENARIO_FAILED: i32 = 17;

/// An agent that is tested.
#[derive(Clone, Debug)]
pub struct Agent {
    path: PathBuf,
    program: OsString,
    arguments: Vec<String>,
}

impl Agent {
    /// The agent of the crate whose tests run.
    ///
    /// # Panics
    /// Where the test is not run by cargo.
    #[must_use]
    pub fn of_this_crate() -> Self {
        let Some(directory) = std::env::var_os("CARGO_MANIFEST_DIR") else {
            fail("`CARGO_MANIFEST_DIR` is not set: run this by `cargo test`, or use `Agent::at`")
        };
        Self::at(directory)
    }

    /// The agent in this file or directory.
    ///
    /// ```
    /// let agent = wasm_worker_test::Agent::at("agent.wasm").setting("fuel-limit", "10M");
    /// ```
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        let program = std::env::var_os("WASM_WORKER").unwrap_or_else(|| "wasm-worker".into());
        Self { path: path.into(), program, arguments: Vec::new() }
    }

    /// Use a setting of `wasm-worker`, such as `fuel-limit`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.arguments.push(format!("--{name}={value}"));
        self
    }

    /// Use the program at this path.
    #[must_use]
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.program = program.into();
        self
    }

    /// Play the scenarios of these files. Paths are those of the agent's directory.
    ///
    /// # Panics
    /// Where one of them fails, with what was expected and what was got.
    #[track_caller]
    pub fn passes<P: AsRef<Path>>(&self, scenarios: impl IntoIterator<Item = P>) {
        let directory = if self.path.is_dir() { self.path.as_path() } else { Path::new(".") };
        let paths = scenarios.into_iter().map(|path| directory.join(path).into_os_string()).collect();
        self.play(paths, "").or_panic();
    }

    /// Run the program on these scenarios; `-` is `text`.
    pub(crate) fn play(&self, scenarios: Vec<OsString>, text: &str) -> Played {
        let mut command = Command::new(&self.program);
        command.arg("test").arg(&self.path).args(scenarios).args(&self.arguments);
        match run(command, text) {
            Ok(played) => played,
            Err(error) => {
                let program = self.program.to_string_lossy();
                let hint = "install wasm-worker, or set `WASM_WORKER` to its path";
                Played { passed: false, output: format!("`{program}` cannot be run: {error}\nhint: {hint}") }
            }
        }
    }
}

fn run(mut command: Command, text: &str) -> std::io::Result<Played> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input says why.
        drop(stdin.write_all(text.as_bytes()));
    }
    let done = child.wait_with_output()?;
    let mut output = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.code() != Some(0) && done.status.code() != Some(A_SCENARIO_FAILED) {
        output.push_str(&String::from_utf8_lossy(&done.stderr));
    }
    Ok(Played { passed: done.status.success(), output })
}

/// What became of a conversation.
#[derive(Clone, Debug)]
pub struct Played {
    /// Whether every expectation held.
    pub passed: bool,
    /// The output of `wasm-worker test`.
    pub output: String,
}

impl Played {
    #[track_caller]
    #[allow(clippy::print_stdout, reason = "the runner of tests shows what a test prints where it is asked to")]
    pub(crate) fn or_panic(self) {
        if !self.passed {
            fail(&format!("\n{}", self.output));
        }
        println!("{}", self.output);
    }
}

#[track_caller]
#[allow(clippy::panic, reason = "a test fails by a panic")]
fn fail(why: &str) -> ! {
    panic!("{why}")
}
