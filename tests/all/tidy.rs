//! Rules of the sources that cargo and clippy cannot check: the order of modules, the length of files, and the words of docs.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::support::harness::root;

/// The crates of the host, and the models of the SDK. Cargo holds their order; this file holds the order of modules inside each.
const CRATES: &[&str] = &[
    "host/core",
    "host/protocol",
    "host/mock-models",
    "host/sandbox",
    "host/room",
    "host/network",
    "host/dispatcher",
    "host",
    "host/test",
    "guest-sdk/models",
];

/// Longest file, in lines without its tests, that needs no reason.
const LINES_MAX: usize = 350;

/// Longer files: the path, its own bound, and why the file is one thing.
const LONG_FILES: &[(&str, usize, &str)] = &[
    (
        "host/core/src/verdict.rs",
        380,
        "the tables of the end codes: name, blame, retry, class, meaning and advice of each",
    ),
    ("host/src/config/settings.rs", 520, "one row for each setting"),
];

/// One source file of a crate.
struct Source {
    /// Relative to the crate's `src`, without `.rs`: `worker/status`.
    module: String,
    path: PathBuf,
    text: String,
}

#[test]
fn imports_follow_the_declared_order_of_modules() {
    let mut faults = Vec::new();
    for dir in CRATES {
        let sources = sources_of(dir);
        let ranks = ranks_of(&sources);
        for source in &sources {
            faults
                .extend(climbs(source, &ranks).into_iter().map(|climb| format!("{}: {climb}", source.path.display())));
        }
    }
    assert!(faults.is_empty(), "imports of modules that are declared later:\n{}", faults.join("\n"));
}

#[test]
fn climbing_import_is_found() {
    let source = |module: &str, text: &str| Source { module: module.into(), path: module.into(), text: text.into() };
    let sources = [
        source("lib", "pub mod low;\n\npub(crate) mod high;\n"),
        source("low", "mod first;\nmod second;\nuse crate::high::Thing;\n"),
        source("low/first", "use super::{Parent, second::Thing};\n// use crate::high::Comment;\n"),
        source("low/second", "use super::first;\nuse crate::low::first::Thing;\n"),
        source("high", "use crate::low;\n#[cfg(test)]\nmod tests {\n    use crate::low;\n}\n"),
    ];
    let ranks = ranks_of(&sources);
    let climbs: Vec<Vec<String>> = sources.iter().map(|source| climbs(source, &ranks)).collect();
    assert_eq!(climbs[1], ["`low` uses `high`"]);
    assert_eq!(climbs[2], ["`low/first` uses `low/second`"]);
    assert!(climbs[0].is_empty() && climbs[3].is_empty() && climbs[4].is_empty(), "{climbs:?}");
}

#[test]
fn files_are_short_or_have_a_reason() {
    let mut faults = Vec::new();
    let mut excused = 0;
    for source in CRATES.iter().flat_map(|dir| sources_of(dir)) {
        let lines = without_tests(&source.text).lines().count();
        let path = source.path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        match LONG_FILES.iter().find(|(long, ..)| *long == path) {
            Some((_, max, _)) if lines > *max => faults.push(format!("{path}: {lines} lines, at most {max}")),
            Some(_) if lines <= LINES_MAX => faults.push(format!("{path}: {lines} lines need no exception")),
            Some(_) => excused += 1,
            None if lines > LINES_MAX => faults.push(format!("{path}: {lines} lines, at most {LINES_MAX}")),
            None => {}
        }
    }
    assert!(faults.is_empty(), "split these, or give a reason in tests/all/tidy.rs:\n{}", faults.join("\n"));
    assert_eq!(excused, LONG_FILES.len(), "an exception names a file that is gone");
}

#[test]
fn no_doc_comment_begins_with_of() {
    let mut faults = Vec::new();
    let others = ["guest-sdk/src", "tests/all", "tests/bench", "tests/fuzz/src", "tests/guests", "examples"];
    let files = CRATES.iter().map(|dir| format!("{dir}/src")).chain(others.map(String::from));
    for path in files.flat_map(|dir| rust_files(&root().join(dir))) {
        let text = std::fs::read_to_string(&path).unwrap();
        let docs = text.lines().enumerate().filter(|(_, line)| begins_with_of(line));
        faults.extend(docs.map(|(number, line)| format!("{}:{}: {}", path.display(), number + 1, line.trim())));
    }
    assert!(faults.is_empty(), "a doc comment makes sense alone:\n{}", faults.join("\n"));
}

fn begins_with_of(line: &str) -> bool {
    let line = line.trim_start();
    ["/// Of ", "//! Of "].iter().any(|start| line.starts_with(start))
}

fn sources_of(dir: &str) -> Vec<Source> {
    let src = root().join(dir).join("src");
    let files = rust_files(&src);
    assert!(!files.is_empty(), "no sources in {dir}");
    let source = |path: PathBuf| Source {
        module: path.strip_prefix(&src).unwrap().with_extension("").to_string_lossy().into_owned(),
        text: std::fs::read_to_string(&path).unwrap(),
        path,
    };
    files.into_iter().map(source).collect()
}

/// Every `.rs` file below a directory, but for what cargo built.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The text before the file's own tests, without comments.
fn code_of(text: &str) -> String {
    without_tests(text).lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
}

/// The place of each module among its siblings: the order of the `mod` lines of its parent.
fn ranks_of(sources: &[Source]) -> HashMap<String, usize> {
    let mut ranks = HashMap::new();
    for source in sources {
        let code = code_of(&source.text);
        let children = code.lines().filter_map(|line| {
            let line = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            line.strip_prefix("mod ")?.strip_suffix(';')
        });
        for (rank, child) in children.enumerate() {
            let name = if source.module == "lib" { child.to_owned() } else { format!("{}/{child}", source.module) };
            ranks.insert(name, rank);
        }
    }
    ranks
}

/// Imports of a sibling, or of a sibling of a parent, that is declared later.
fn climbs(source: &Source, ranks: &HashMap<String, usize>) -> Vec<String> {
    let mut climbs = Vec::new();
    for used in paths_in(&source.module, &code_of(&source.text)) {
        // The modules above both are the same; the first that differs decides.
        let own: Vec<&str> = source.module.split('/').collect();
        let other: Vec<&str> = used.split('/').collect();
        let same = own.iter().zip(&other).take_while(|(one, other)| one == other).count();
        let at = |parts: &[&str]| parts.get(..=same).and_then(|parts| ranks.get(&parts.join("/")).copied());
        if let (Some(here), Some(there)) = (at(&own), at(&other))
            && there > here
        {
            let (from, to) = (own[..=same].join("/"), other[..=same].join("/"));
            climbs.push(format!("`{from}` uses `{to}`"));
        }
    }
    climbs
}

/// What `crate::…` and `super::…` name, as paths such as `worker/status/Thing`; braces are spread.
fn paths_in(module: &str, code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let own: Vec<&str> = if module == "lib" { Vec::new() } else { module.split('/').collect() };
    let starts = code.match_indices("crate::").map(|(at, found)| (at + found.len(), Vec::new()));
    let parent = own.get(..own.len().saturating_sub(1)).unwrap_or_default().to_vec();
    let supers = code.match_indices("super::").filter(|(at, _)| !code[..*at].ends_with("super::"));
    let supers = supers.map(|(at, found)| (at + found.len(), parent.clone()));
    for (at, mut base) in starts.chain(supers) {
        // A name that only ends in `crate`, such as `$crate`, is not a path of this crate.
        let mut rest = &code[at..];
        while let Some(further) = rest.strip_prefix("super::") {
            base.pop();
            rest = further;
        }
        let prefix: Vec<String> = base.iter().map(|part| (*part).to_owned()).collect();
        spread(&prefix, rest, &mut paths);
    }
    paths
}

/// One path, or each of those in braces.
fn spread(prefix: &[String], rest: &str, paths: &mut Vec<String>) {
    let rest = rest.trim_start();
    if let Some(inside) = rest.strip_prefix('{') {
        let mut depth = 0_usize;
        let mut start = 0;
        for (at, character) in inside.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    spread(prefix, &inside[start..at], paths);
                    start = at + 1;
                    if character == '}' {
                        return;
                    }
                }
                _ => {}
            }
        }
        return;
    }
    let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(rest.len());
    if end == 0 {
        return;
    }
    let mut longer = prefix.to_vec();
    longer.push(rest[..end].to_owned());
    match rest[end..].strip_prefix("::") {
        Some(further) => spread(&longer, further, paths),
        None => paths.push(longer.join("/")),
    }
}
