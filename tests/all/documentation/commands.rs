//! The commands of `wasm-worker` that the documentation shows, as a shell reads them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use super::pages::{Page, all};
use crate::support::harness::{cache_dir, target_dir};

/// One shown command line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shown {
    /// The whole of it, for a shell.
    pub(crate) line: String,
    /// What follows `wasm-worker`, or `cargo run --`.
    pub(crate) args: Vec<String>,
    /// Whether it is in a block for a shell, rather than in a sentence or above its output.
    pub(crate) to_type: bool,
}

impl Shown {
    pub(crate) fn verb(&self) -> &str {
        self.args.first().map_or("", String::as_str)
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.args.iter().any(|arg| arg == flag)
    }

    /// What to give for an argument that stands for others.
    pub(crate) fn examples(&self) -> Vec<String> {
        let example = |arg: &String| match arg.as_str() {
            "CODE" => "load".to_owned(),
            "SHELL" => "bash".to_owned(),
            "URL" => "http://127.0.0.1:1".to_owned(),
            _ => arg.clone(),
        };
        self.args.iter().map(example).collect()
    }
}

/// Every command of every page, each once.
pub(crate) fn shown() -> BTreeSet<Shown> {
    all().iter().flat_map(of_page).collect()
}

fn of_page(page: &Page) -> Vec<Shown> {
    let mut found = Vec::new();
    for block in page.blocks() {
        match block.language {
            "sh" => found.extend(statements(&block.lines).iter().filter_map(|line| command(line, true))),
            _ => {
                let typed = block.lines.iter().filter_map(|line| line.strip_prefix("$ "));
                found.extend(typed.filter_map(|line| command(line, false)));
            }
        }
    }
    found.extend(page.spans().iter().filter_map(|span| command(span, false)));
    found
}

/// Lines that belong together: a quote is open at the end of a line, or a pipe.
fn statements(lines: &[&str]) -> Vec<String> {
    let (mut statements, mut open) = (Vec::new(), String::new());
    for line in lines {
        open.push_str(line);
        let pipe = words(&open).is_some_and(|words| words.last().is_some_and(|word| word == "|"));
        if words(&open).is_some() && !pipe {
            statements.push(std::mem::take(&mut open));
        } else {
            open.push('\n');
        }
    }
    assert!(open.is_empty(), "a quote or a pipe has no end: {open}");
    statements
}

fn command(line: &str, to_type: bool) -> Option<Shown> {
    let words = words(line)?;
    let args = words.split(|word| word == "|").find_map(|simple| {
        // Variables may stand before the program.
        let program = simple.iter().position(|word| !word.contains('='))?;
        match &simple[program..] {
            [program, args @ ..] if program == "wasm-worker" => Some(args),
            [cargo, run, rest, args @ ..] if [cargo, run, rest] == ["cargo", "run", "--"] => Some(args),
            _ => None,
        }
    })?;
    (!args.is_empty()).then(|| Shown { line: line.to_owned(), args: args.to_vec(), to_type })
}

/// As a shell takes a line apart, without its comment; nothing while a quote is open.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            (None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// Run a line in a shell that finds `wasm-worker`. The user's own settings do not reach it.
pub(crate) fn run_in_shell(line: &str, dir: &Path) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_wasm-worker")).parent().unwrap();
    let others = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([program.to_owned()].into_iter().chain(std::env::split_paths(&others))).unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &line.replace("cargo run -- ", "wasm-worker ")]).current_dir(dir);
    for (name, _) in std::env::vars_os() {
        if ["WASM_WORKER_", "LIVEKIT_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            shell.env_remove(name);
        }
    }
    // What agents are made of is compiled once for all of them.
    shell.env("PATH", path).env("WASM_WORKER_CACHE_DIR", cache_dir()).env("CARGO_TARGET_DIR", target_dir());
    shell.output().unwrap()
}
