//! The language that an agent was written in, as its component or the names of its functions tell.

use serde::{Deserialize, Serialize};

/// A language whose tools make agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust, mostly with the SDK.
    Rust,
    /// JavaScript, with an engine in the component.
    JavaScript,
    /// Python, with an interpreter in the component.
    Python,
    /// Go.
    Go,
    /// C, C++ or Zig.
    C,
}

/// Begins of the names of functions that a runtime of a language has. The names are those of a backtrace.
const RUNTIMES: [(&str, Language); 12] = [
    ("_Py", Language::Python),
    ("PyObject_", Language::Python),
    ("PyEval_", Language::Python),
    ("PyRun_", Language::Python),
    ("pymain_", Language::Python),
    ("JS_", Language::JavaScript),
    ("js::", Language::JavaScript),
    ("JS::", Language::JavaScript),
    ("mozilla::", Language::JavaScript),
    ("runtime.", Language::Go),
    ("main.", Language::Go),
    ("__wasm_call_ctors", Language::C),
];

/// Names of tools and languages as components carry them, in lower case. The first one that is found counts: an interpreter is
/// written in C or Rust itself.
const PRODUCERS: [(&str, Language); 14] = [
    ("componentize-py", Language::Python),
    ("python", Language::Python),
    ("componentize-js", Language::JavaScript),
    ("componentizejs", Language::JavaScript),
    ("componentize-qjs", Language::JavaScript),
    ("javascript", Language::JavaScript),
    ("starlingmonkey", Language::JavaScript),
    ("tinygo", Language::Go),
    ("go", Language::Go),
    ("rust", Language::Rust),
    ("rustc", Language::Rust),
    ("c11", Language::C),
    ("c_plus_plus", Language::C),
    ("clang", Language::C),
];

impl Language {
    /// The spelling that all outputs use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "javascript",
            Self::Python => "python",
            Self::Go => "go",
            Self::C => "c",
        }
    }

    /// The language of a backtrace; `None` where the names do not tell.
    pub fn of_frames(frames: &[String]) -> Option<Self> {
        let by_runtime =
            |frame: &String| RUNTIMES.iter().find(|(begin, _)| frame.starts_with(begin)).map(|(_, language)| *language);
        let rust = || frames.iter().any(|frame| frame.contains("::")).then_some(Self::Rust);
        frames.iter().find_map(by_runtime).or_else(rust)
    }

    /// The language by the tools and languages that a component names.
    pub fn of_producers<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let is = |known: &'static str| names.clone().any(|name| name.eq_ignore_ascii_case(known));
        PRODUCERS.iter().find(|(known, _)| is(known)).map(|(_, language)| *language)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(frames: &[&str]) -> Option<Language> {
        Language::of_frames(&frames.iter().map(|frame| (*frame).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_of_functions_tell_the_language() {
        assert_eq!(of(&["abort", "_PyEval_EvalFrameDefault", "PyObject_Call"]), Some(Language::Python));
        assert_eq!(of(&["runtime.fatalpanic", "main.trick"]), Some(Language::Go));
        assert_eq!(of(&["js::RunScript"]), Some(Language::JavaScript));
        assert_eq!(of(&["core::panicking::panic_fmt", "agent::divide"]), Some(Language::Rust));
        assert_eq!(of(&["divide", "entrypoint"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn an_interpreter_is_not_taken_for_the_language_that_it_is_written_in() {
        let names = ["C11", "clang", "Rust", "componentize-py"];
        assert_eq!(Language::of_producers(names.into_iter()), Some(Language::Python));
        assert_eq!(Language::of_producers(["Go", "Rust"].into_iter()), Some(Language::Go));
        assert_eq!(Language::of_producers(["clang"].into_iter()), Some(Language::C));
        assert_eq!(Language::of_producers(std::iter::empty()), None);
    }
}
