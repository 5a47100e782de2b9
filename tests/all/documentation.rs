//! The documentation and the help describe the program as it is: tables, links, commands and agents are checked against it.

mod commands;
pub(crate) mod generated;
mod pages;

use std::path::{Component, Path, PathBuf};

use rustix::process::Signal;
use wasm_worker::config::{Group, SETTINGS};
use wasm_worker_core::network::code::FAILURE_CODES;
use wasm_worker_core::refusal::Reason;
use wasm_worker_core::verdict::Code;

use crate::support::harness::{eventually, root, target_dir, wasm_worker};
use commands::{Shown, run_in_shell, shown};
use generated::check;

const README_LINES_MAX: usize = 250;

#[test]
fn settings_page_is_current() {
    let groups = [
        ("agent", Group::Agent),
        ("worker", Group::Worker),
        ("livekit", Group::LiveKit),
        ("dispatcher", Group::Dispatcher),
        ("output", Group::Output),
    ];
    assert!(SETTINGS.iter().all(|setting| groups.iter().any(|(_, group)| *group == setting.group)));
    for (name, group) in groups {
        check("host/docs/settings.md", &format!("settings {name}"), &generated::settings(group));
    }
}

#[test]
fn ends_page_is_current() {
    check("host/docs/ends.md", "end codes", &generated::end_codes());
    check("host/docs/ends.md", "end code advice", &generated::end_code_advice());
    check("host/docs/ends.md", "refusals", &generated::refusals());
}

#[test]
fn network_page_lists_every_code_of_failures() {
    check("host/docs/network.md", "failure codes", &generated::failure_codes());
}

#[test]
fn operations_page_lists_every_event() {
    let mut events = Vec::new();
    for text in host_sources() {
        let names = text.split("#[serde(rename = \"").skip(1).filter_map(|rest| rest.split('"').next());
        events.extend(names.filter(|name| name.contains('.')).map(str::to_owned));
    }
    events.sort();
    let page = pages::page("host/docs/operations.md");
    let rows = page.prose().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let mut listed: Vec<&str> = rows.map(|(name, _)| name).filter(|name| name.contains('.')).collect();
    listed.sort_unstable();
    assert!(events.len() > 20, "{events:?}");
    assert_eq!(listed, events);
}

#[test]
fn every_code_is_explained() {
    let all = wasm_worker(["explain"]).done();
    for code in Code::ALL {
        let one = wasm_worker(["explain", code.as_str()]).done();
        assert_eq!(one.exit, 0);
        assert!(one.stdout.starts_with(&format!("{code}: ")) && one.stdout.contains("advice: "));
        assert!(one.stdout.trim().split("\n\n").all(|text| all.stdout.contains(text)));
    }
    for reason in Reason::ALL {
        let one = wasm_worker(["explain", reason.as_str()]).done();
        assert!(
            one.stdout.contains(&format!("{reason} (refusal of an offer): {}", reason.meaning())),
            "{}",
            one.stdout
        );
        assert!(one.stdout.trim().split("\n\n").all(|text| all.stdout.contains(text) && text.contains("advice: ")));
    }
    for failure in &FAILURE_CODES {
        let one = wasm_worker(["explain", failure.code]).done();
        assert!(
            one.stdout.contains(&format!("{} (failure of a call): {}", failure.code, failure.meaning)),
            "{}",
            one.stdout
        );
        assert!(one.stdout.trim().split("\n\n").all(|text| all.stdout.contains(text) && text.contains("advice: ")));
    }
}

#[test]
fn help_names_every_setting_and_its_variable() {
    let help = wasm_worker(["run", "--help"]).done();
    assert_eq!(help.exit, 0);
    for setting in SETTINGS {
        assert!(help.stdout.contains(&format!("--{} <{}>", setting.key, setting.value)), "{}", setting.key);
        assert!(help.stdout.contains(&setting.env()), "{}", setting.env());
    }
}

#[test]
fn readme_is_short() {
    let lines = pages::page("README.md").text.lines().count();
    assert!(lines <= README_LINES_MAX, "the README has {lines} lines, at most {README_LINES_MAX} are allowed");
}

#[test]
fn links_point_to_files_and_headings() {
    let pages = pages::all();
    assert!(pages.len() > 15, "{} pages", pages.len());
    let mut links = 0;
    for page in &pages {
        let at = page.path.display();
        for link in page.links() {
            links += 1;
            let (file, fragment) = link.split_once('#').map_or((link, None), |(file, name)| (file, Some(name)));
            let target = match file {
                "" => page.path.clone(),
                file => normal(&page.path.parent().unwrap().join(file)),
            };
            assert!(root().join(&target).exists(), "{at}: the link `{link}` points to no file");
            if let Some(fragment) = fragment {
                let target = pages.iter().find(|page| page.path == target);
                let target = target.unwrap_or_else(|| panic!("{at}: the link `{link}` points to no page"));
                let anchors = target.anchors();
                assert!(anchors.iter().any(|name| name == fragment), "{at}: `{link}` is none of {anchors:?}");
            }
        }
    }
    assert!(links > 50, "{links} links");
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(parts.pop().expect("a link leaves the repository")),
            part => parts.push(part),
        }
    }
    parts.iter().collect()
}

#[test]
fn commands_parse_and_every_verb_is_shown() {
    let shown = shown();
    let mut helps = wasm_worker(["--help"]).done().stdout;
    let listed = helps.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    let verbs = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for verb in verbs.filter(|verb| !verb.is_empty() && *verb != "help") {
        assert!(shown.iter().any(|command| command.verb() == verb), "no page shows `wasm-worker {verb}`");
    }
    for Shown { line, args, .. } in &shown {
        let examples = Shown::examples(&Shown { line: line.clone(), args: args.clone(), to_type: false });
        let done = wasm_worker(examples.iter().map(String::as_str)).args(["--help"]).done();
        assert_eq!(done.exit, 0, "`{line}` does not parse:\n{}", done.stderr);
        for flag in args.iter().filter(|arg| arg.starts_with("--")) {
            assert!(done.stdout.contains(flag.as_str()), "`{line}`: its help does not name `{flag}`");
        }
        helps.push_str(&done.stdout);
    }
    for page in pages::all() {
        let flags = page.spans().into_iter().filter(|span| span.starts_with("--") && span.len() > 2);
        for flag in flags.map(|span| span.split([' ', '=']).next().unwrap()).filter(|flag| *flag != "--KEY") {
            let known = helps.split(|c: char| c.is_whitespace() || ",]".contains(c)).any(|word| word == flag);
            assert!(known, "{}: no command has the flag `{flag}`", page.path.display());
        }
    }
}

/// Whether running a command takes a moment, and ends.
fn is_cheap(command: &Shown) -> bool {
    match command.verb() {
        "explain" | "token" | "config" | "new" | "build" | "inspect" => true,
        "run" => command.has("--job") && !command.has("--count"),
        _ => false,
    }
}

#[test]
fn cheap_commands_run() {
    let own = tempfile::tempdir_in(target_dir()).unwrap();
    let dir = own.path();
    std::os::unix::fs::symlink(root().join("examples"), dir.join("examples")).unwrap();
    let limits = pages::page("host/docs/limits.md");
    let file = limits.blocks().into_iter().find(|block| block.language == "toml").unwrap().lines.join("\n");
    std::fs::write(dir.join("worker.toml"), file).unwrap();

    let cheap = shown().into_iter().filter(|command| command.to_type && is_cheap(command));
    let mut lines: Vec<String> = cheap.map(|command| command.line).collect();
    // The same command has another comment elsewhere.
    lines.dedup_by_key(|line| line.split('#').next().unwrap().trim().to_owned());
    // The crate that others are about is made first.
    lines.sort_by_key(|line| !line.starts_with("wasm-worker new "));
    assert!(lines.len() > 10, "{lines:#?}");
    for line in lines {
        let output = run_in_shell(&line, dir);
        assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.is_empty() || line.contains(" new "), "`{line}` prints nothing");
    }
}

#[test]
fn shown_agents_complete() {
    /// Nobody comes, and the job is asked to stop.
    const SPEC: &str = r#"{"inbox": [{"after_ms": 50, "event": {"terminate": {"reason": "nobody comes"}}}]}"#;
    let own = tempfile::tempdir_in(target_dir()).unwrap();
    let dir = own.path();
    let made = run_in_shell("wasm-worker new shown-agent", dir);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut agents = 0;
    for page in pages::all() {
        for block in page.blocks().into_iter().filter(|block| block.language == "rust") {
            std::fs::write(dir.join("shown-agent/src/lib.rs"), block.lines.join("\n")).unwrap();
            let output = run_in_shell(&format!("echo '{SPEC}' | wasm-worker run shown-agent --job --spec -"), dir);
            let stderr = String::from_utf8_lossy(&output.stderr);
            let warned = stderr.lines().any(|line| line.starts_with("warning"));
            assert!(output.status.success() && !warned, "{}: {stderr}", page.path.display());
            agents += 1;
        }
    }
    assert!(agents >= 5, "{agents} agents");
}

#[test]
fn first_commands_print_what_the_readme_shows() {
    let readme = pages::page("README.md");
    let block = |head: &str| {
        let found = readme.blocks().into_iter().find(|block| block.lines[0].starts_with(head));
        found.unwrap().lines.iter().map(|line| skeleton(line)).collect::<Vec<_>>()
    };
    let (dispatched, logged) = (block("$ cargo run -- dispatch hello --wait"), block("INFO dispatcher: "));

    let (dir, example) = (tempfile::tempdir().unwrap(), root().join("examples/hello"));
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let store = dir.path().join("store.db");
    // Compiling it takes as long as it takes.
    assert_eq!(wasm_worker(["build", example.to_str().unwrap()]).done().exit, 0);
    let call = wasm_worker(["run", example.to_str().unwrap(), "--listen", &listen, "--http", "off"]);
    let call = call.args(["--store", store.to_str().unwrap(), "--load-threshold", "none"]);
    let worker = call.start();
    let verb = |words: &[&str]| wasm_worker(words.iter().copied()).env("LIVEKIT_URL", format!("ws://{listen}")).done();
    eventually("it serves", || verb(&["workers"]).stdout.contains(" available ").then_some(()));
    let done = verb(&["dispatch", "hello", "--wait"]);
    worker.signal(Signal::TERM);
    let log = worker.done().stderr;

    assert_eq!(done.exit, 0, "{}", done.stderr);
    for line in done.stdout.lines().map(skeleton) {
        assert!(dispatched.contains(&line), "the README does not show this line of `dispatch`: {line}");
    }
    let mut lines = log.lines().map(skeleton);
    for shown in logged {
        assert!(
            lines.any(|line| line.ends_with(&shown)),
            "the README shows `{shown}`, which is not in order in:\n{log}"
        );
    }
}

/// A line without what differs each time: numbers, times, ids and the names of rooms.
fn skeleton(line: &str) -> String {
    let part = |c: char| c.is_alphanumeric() || "_.:-".contains(c);
    let mut skeleton = String::new();
    let mut rest = line.trim_end();
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| part(c) != part(first)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let id = ["AD_", "AJ_", "AW_", "room-"].iter().any(|prefix| word.starts_with(prefix));
        let differs = id || word.contains(|c: char| c.is_ascii_digit());
        skeleton.push_str(if part(first) && differs { "#" } else { word });
        rest = after;
    }
    skeleton
}

#[test]
fn named_tests_exist() {
    let (tests, sources) = (tests(root().join("tests/all")), host_sources());
    let mut filters = 0;
    for page in pages::all() {
        let at = page.path.display();
        for line in page.blocks().iter().flat_map(|block| &block.lines) {
            // `cargo test [FLAGS] FILTER [-- FLAGS FILTERS]`
            let Some((_, rest)) = line.split_once("cargo test ") else { continue };
            let words: Vec<&str> = rest.split('#').next().unwrap().split_whitespace().collect();
            let of_package = |at: usize| at > 0 && words[at - 1] == "-p";
            let filters_of = words.iter().enumerate().filter(|(at, word)| !word.starts_with('-') && !of_package(*at));
            for filter in filters_of.map(|(_, word)| *word).filter(|word| *word != "all") {
                filters += 1;
                let names = [format!("fn {filter}"), format!("mod {filter};")];
                let unit_test = || sources.iter().any(|text| names.iter().any(|name| text.contains(name)));
                let found = tests.iter().any(|test| test.name.contains(filter)) || unit_test();
                assert!(found, "{at}: no test has `{filter}` in its name");
            }
        }
        let spans = page.spans().into_iter().filter_map(|span| span.split_once("::").map(|(file, _)| (file, span)));
        for (_, span) in spans.filter(|(file, _)| root().join(format!("tests/all/{file}.rs")).is_file()) {
            assert!(tests.iter().any(|test| test.name == span), "{at}: `{span}` is no test");
        }
    }
    assert!(filters > 4, "{filters} filters");
}

#[test]
fn every_promise_names_a_test_and_every_test_has_a_promise() {
    let spec = std::fs::read_to_string(root().join("tests/SPEC.md")).unwrap();
    let rows = spec.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |"));
    let named: Vec<&str> = rows.map(|row| row.trim_end_matches("` |").rsplit('`').next().unwrap()).collect();
    assert!(named.len() > 30, "{named:?}");

    let tests = tests(root().join("tests/all"));
    let tests: Vec<&str> = tests.iter().filter(|test| !test.ignored).map(|test| test.name.as_str()).collect();
    for name in &named {
        assert!(tests.contains(name), "tests/SPEC.md names `{name}`, which is no test");
    }
    let missing: Vec<&&str> = tests.iter().filter(|test| !named.contains(test)).collect();
    assert!(missing.is_empty(), "tests/SPEC.md has no promise for {missing:#?}");
}

/// The Rust files of the program and its crates.
fn host_sources() -> Vec<String> {
    let (mut paths, mut sources) = (vec![root().join("host")], Vec::new());
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(std::fs::read_to_string(path).unwrap());
        }
    }
    sources
}

/// A test of a file.
struct Test {
    /// `file::function`
    name: String,
    /// Whether it runs only when it is asked for, or when another test runs it.
    ignored: bool,
}

/// The tests of the files in a directory. A test is the function after the attribute.
fn tests(dir: PathBuf) -> Vec<Test> {
    let mut tests = Vec::new();
    for path in std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).filter(|path| path.is_file()) {
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for test in text.split("#[test]\n").skip(1) {
            let function = test.lines().find_map(|line| line.strip_prefix("fn ")).unwrap();
            let name = format!("{file}::{}", function.split('(').next().unwrap());
            tests.push(Test { name, ignored: test.starts_with("#[ignore") });
        }
    }
    tests
}
