//! The check of a component against the contract by its names, before anything is compiled. All faults are told at once, each
//! with the option of the tool that mends it.
//!
//! Not here: the types of functions, which the linker checks once the component is compiled.

use wasm_worker_core::language::Language;

use super::contents::Contents;
use crate::hostcalls;

/// Functions that an agent must export.
pub(super) const EXPORTS: &[&str] = &["prewarm", "decide", "resume"];

/// An import of agents that were built for the first contract, in which agents read their events themselves.
const FIRST_IMPORT: &str = "wasm-worker:agent/inbox";
/// Exports of such agents.
const FIRST_EXPORTS: [&str; 2] = ["entrypoint", "shutdown"];

/// Most names of one fault that are listed.
const LISTED_MAX: usize = 20;

/// The reason why a component is no agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It was built for an older contract.
    Old {
        /// What tells: `it imports …`, `it exports …`.
        why: String,
    },
    /// It lacks exports, or imports what agents may not import.
    Faults {
        /// All faults, in one line.
        why: String,
        /// What to change.
        hints: Vec<String>,
    },
}

/// Check the names of a component. `required` are the functions that it must export.
pub(super) fn check(contents: &Contents, required: &[&str]) -> Result<(), Misfit> {
    if let Some(why) = signs_of_the_first_contract(contents, required) {
        return Err(Misfit::Old { why });
    }
    let forbidden: Vec<&str> =
        contents.imports.iter().map(String::as_str).filter(|import| !hostcalls::may_import(import)).collect();
    let missing: Vec<String> = required
        .iter()
        .filter(|export| !contents.exports.iter().any(|name| name == *export))
        .map(|export| format!("`{export}`"))
        .collect();
    let mut faults = Vec::new();
    if !missing.is_empty() {
        faults.push(format!("it exports no {}", missing.join(", no ")));
    }
    if !forbidden.is_empty() {
        faults.push(format!("it imports interfaces that agents may not import: {}", list(&forbidden)));
    }
    if contents.is_async {
        faults.push("it uses the asynchronous functions of WASI 0.3".into());
    }
    if faults.is_empty() {
        return Ok(());
    }
    let hints = hints(contents, &forbidden, !missing.is_empty(), required);
    Err(Misfit::Faults { why: faults.join("; "), hints })
}

/// What shows that a component was built for the first contract.
fn signs_of_the_first_contract(contents: &Contents, required: &[&str]) -> Option<String> {
    let is_old = |export: &&str| FIRST_EXPORTS.contains(export) && !required.contains(export);
    let has_new = contents.exports.iter().any(|export| export == "resume");
    let imports = contents.imports.iter().any(|import| without_version(import) == FIRST_IMPORT);
    let exports: Vec<String> = contents.exports.iter().map(String::as_str).filter(is_old).map(quoted).collect();
    if !imports && (has_new || exports.is_empty()) {
        return None;
    }
    let mut signs = Vec::new();
    if imports {
        signs.push(format!("imports `{FIRST_IMPORT}`"));
    }
    if !exports.is_empty() {
        signs.push(format!("exports {}", exports.join(" and ")));
    }
    Some(format!("it {}", signs.join(" and ")))
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}

fn without_version(import: &str) -> &str {
    import.split_once('@').map_or(import, |(name, _)| name)
}

/// Names, of which the first [`LISTED_MAX`] are listed.
fn list(names: &[&str]) -> String {
    let listed = names.iter().take(LISTED_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(LISTED_MAX) {
        0 => listed,
        more => format!("{listed}, and {more} more"),
    }
}

/// What to change, one for each kind of fault.
fn hints(contents: &Contents, forbidden: &[&str], lacks_exports: bool, required: &[&str]) -> Vec<String> {
    let mut hints = Vec::new();
    let is_async = contents.is_async || forbidden.iter().any(|import| is_wasi(import, "0.3."));
    if is_async {
        hints.push(match contents.language {
            Some(Language::JavaScript) => "agents use WASI 0.2: pass `--sync` to componentize-qjs".into(),
            Some(Language::Rust) => "agents use WASI 0.2: build for the target `wasm32-wasip2`".into(),
            _ => "agents use WASI 0.2: pass `--sync` to componentize-qjs; other tools have a target or an adapter for WASI 0.2".into(),
        });
    }
    if forbidden.iter().any(|import| import.starts_with("wasi:http/")) {
        hints.push(match contents.language {
            None | Some(Language::JavaScript) => {
                "agents have no `wasi:http`: pass `-d http fetch-event` to componentize-js".into()
            }
            Some(_) => "agents have no `wasi:http`: leave out what imports it".into(),
        });
    }
    let is_other = |import: &&&str| !(import.starts_with("wasi:http/") || is_async && is_wasi(import, "0.3."));
    if forbidden.iter().any(|import| is_other(&import)) {
        hints.push(
            "agents import what guest-sdk/wit lists, and `wasi:cli`, `wasi:clocks`, `wasi:filesystem`, `wasi:io`, `wasi:random` and `wasi:sockets` of WASI 0.2"
                .into(),
        );
    }
    if lacks_exports {
        hints.push(exports_hint(contents, required));
    }
    hints
}

fn is_wasi(import: &str, version: &str) -> bool {
    import.starts_with("wasi:") && import.split_once('@').is_some_and(|(_, of)| of.starts_with(version))
}

fn exports_hint(contents: &Contents, required: &[&str]) -> String {
    let names: Vec<String> = required.iter().map(|name| quoted(name)).collect();
    let (last, first) =
        names.split_last().map_or((String::new(), String::new()), |(last, rest)| (last.clone(), rest.join(", ")));
    let wanted = format!("an agent exports {first} and {last}");
    let exports = |interface: &str| contents.exports.iter().any(|export| without_version(export) == interface);
    if exports("wasi:cli/run") {
        return format!("{wanted}; this is a command: build a library for the world `agent` of guest-sdk/wit");
    }
    match contents.language {
        Some(Language::Python) => format!("{wanted}: `componentize-py -d WIT -w agent componentize APP -o agent.wasm`"),
        Some(Language::JavaScript) => {
            format!("{wanted}: `componentize-js AGENT.js -w WIT -n agent -d http fetch-event -o agent.wasm`")
        }
        Some(Language::Go | Language::C) => {
            format!("{wanted}: `wasm-tools component embed WIT -w agent MODULE`, and then `wasm-tools component new`")
        }
        None | Some(Language::Rust) => format!("{wanted}; the SDK's `agent!` macro does that"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &[&str] = &["prewarm", "decide", "resume"];

    fn contents(imports: &[&str], exports: &[&str]) -> Contents {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Contents { imports: owned(imports), exports: owned(exports), is_whole: true, ..Contents::default() }
    }

    fn faults(contents: &Contents) -> (String, String) {
        match check(contents, EXPORTS) {
            Err(Misfit::Faults { why, hints }) => (why, hints.join("\n")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_faults_are_told_at_once_each_with_its_option() {
        let of = contents(
            &["wasi:http/types@0.2.3", "wasi:filesystem/types@0.2.3", "golem:api/host@1.1.0"],
            &["prewarm", "decide"],
        );
        let (why, hints) = faults(&of);
        let exported: Vec<String> = EXPORTS[2..].iter().map(|name| format!("no `{name}`")).collect();
        assert_eq!(
            why,
            format!(
                "it exports {}; it imports interfaces that agents may not import: wasi:http/types@0.2.3, golem:api/host@1.1.0",
                exported.join(", ")
            )
        );
        assert!(
            hints.contains("`-d http fetch-event`") && hints.contains("guest-sdk/wit") && hints.contains("`agent!`")
        );
        assert_eq!(check(&contents(&["wasi:sockets/tcp@0.2.3"], EXPORTS), EXPORTS), Ok(()));
    }

    #[test]
    fn wasi_0_3_is_told_from_an_interface_that_agents_do_not_have() {
        let (_, hints) = faults(&contents(&["wasi:cli/stdout@0.3.0"], EXPORTS));
        assert!(hints.contains("`--sync`") && !hints.contains("guest-sdk/wit"), "{hints}");
        let of = Contents { is_async: true, language: Some(Language::JavaScript), ..contents(&[], EXPORTS) };
        let (why, hints) = faults(&of);
        assert_eq!(why, "it uses the asynchronous functions of WASI 0.3");
        assert_eq!(hints, "agents use WASI 0.2: pass `--sync` to componentize-qjs");
    }

    #[test]
    fn hints_name_the_tool_of_the_language() {
        let of = |language| Contents { language: Some(language), ..contents(&["wasi:http/types@0.2.0"], &[]) };
        assert!(faults(&of(Language::Python)).1.contains("componentize-py -d WIT"));
        assert!(faults(&of(Language::JavaScript)).1.contains("componentize-js AGENT.js"));
        assert!(faults(&of(Language::Go)).1.contains("wasm-tools component new"));
        assert!(faults(&contents(&[], &["wasi:cli/run@0.2.0"])).1.contains("this is a command"));
    }

    #[test]
    fn a_component_of_the_first_contract_is_known_by_its_imports_and_exports() {
        let first = contents(
            &["wasm-worker:agent/types@0.1.0", "wasm-worker:agent/inbox@0.1.0"],
            &["prewarm", "decide", "entrypoint", "shutdown"],
        );
        let why = "it imports `wasm-worker:agent/inbox` and exports `entrypoint` and `shutdown`";
        assert_eq!(check(&first, NEW), Err(Misfit::Old { why: why.into() }));
        let small = contents(&[], &["prewarm", "decide", "entrypoint", "shutdown"]);
        assert!(matches!(check(&small, NEW), Err(Misfit::Old { .. })));
        // A function of that name does no harm beside the new one.
        assert_eq!(check(&contents(&[], &["prewarm", "decide", "resume", "shutdown"]), NEW), Ok(()));
        assert!(matches!(check(&contents(&[], &[]), NEW), Err(Misfit::Faults { .. })));
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..30).map(|n| format!("a:b/c{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(list(&names).ends_with("a:b/c19, and 10 more"));
    }
}
