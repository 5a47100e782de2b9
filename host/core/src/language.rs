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

/// Begins of the names of tools that put an interpreter or an engine into a component, and of its libraries, in lower case. One
/// of them tells the language wherever it stands: the interpreter is written in C or Rust itself.
const INTERPRETERS: [(&str, Language); 8] = [
    ("componentize-py", Language::Python),
    ("python", Language::Python),
    ("libcomponentize_py", Language::Python),
    ("componentize-js", Language::JavaScript),
    ("componentizejs", Language::JavaScript),
    ("componentize-qjs", Language::JavaScript),
    ("javascript", Language::JavaScript),
    ("starlingmonkey", Language::JavaScript),
];

/// Begins of the names of languages and compilers that a module carries, in lower case. The first one that is found counts:
/// modules in Rust have parts in C.
const COMPILERS: [(&str, Language); 7] = [
    ("tinygo", Language::Go),
    ("go", Language::Go),
    ("rust", Language::Rust),
    ("c_plus_plus", Language::C),
    ("c99", Language::C),
    ("c11", Language::C),
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

    /// The language by the tools and languages that the modules of a component name, each module for itself. The first module that
    /// tells counts: adapters come after the agent.
    pub fn of_producers(modules: &[Vec<String>]) -> Option<Self> {
        let begins = |name: &String, known: &str| name.to_ascii_lowercase().starts_with(known);
        let among = |names: &[String], table: &[(&str, Self)]| {
            let found = table.iter().find(|(known, _)| names.iter().any(|name| begins(name, known)));
            found.map(|(_, language)| *language)
        };
        let interpreter = modules.iter().find_map(|names| among(names, &INTERPRETERS));
        interpreter.or_else(|| modules.iter().find_map(|names| among(names, &COMPILERS)))
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
        let of = |modules: &[&[&str]]| {
            let owned = |names: &&[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            Language::of_producers(&modules.iter().map(owned).collect::<Vec<Vec<String>>>())
        };
        assert_eq!(of(&[&["C11", "Rust"], &["Rust"], &["ComponentizeJS"]]), Some(Language::JavaScript));
        assert_eq!(of(&[&["libcomponentize_py_runtime"], &["Rust"]]), Some(Language::Python));
        assert_eq!(of(&[&["C11", "clang", "Rust", "componentize-py"]]), Some(Language::Python));
        assert_eq!(of(&[&["Go", "Rust"]]), Some(Language::Go));
        assert_eq!(of(&[&["Rust", "C11", "wit-bindgen-c"]]), Some(Language::Rust));
        assert_eq!(of(&[&["wit-component"], &["C99"], &["Rust"]]), Some(Language::C), "the adapter is in Rust");
        assert_eq!(of(&[&["clang"]]), Some(Language::C));
        assert_eq!(of(&[]), None);
    }
}
