//! What the README and the help say is what the program does.

use wasm_worker::config::SETTINGS;
use wasm_worker_core::refusal::Reason;
use wasm_worker_core::verdict::Code;

use crate::support::harness::{root, wasm_worker};

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

#[test]
fn the_readme_lists_every_setting_with_its_default() {
    let readme = readme();
    for setting in SETTINGS {
        let row = match setting.default {
            "" => format!("| `{}` | ", setting.key),
            default => format!("| `{}` | `{default}` | ", setting.key),
        };
        assert!(readme.contains(&row), "the README has no row `{row}`");
    }
}

#[test]
fn the_readme_lists_every_end_code() {
    let readme = readme();
    for code in Code::ALL {
        assert!(readme.contains(&format!("| `{code}` | {} |", code.meaning())), "{code} is missing or differs");
    }
}

#[test]
fn every_code_is_explained() {
    let all = wasm_worker(["explain"]).done();
    for code in Code::ALL {
        let one = wasm_worker(["explain", code.as_str()]).done();
        assert_eq!(one.exit, 0);
        assert!(one.stdout.starts_with(&format!("{code}: ")) && one.stdout.contains("what to do: "));
        assert!(one.stdout.trim().split("\n\n").all(|text| all.stdout.contains(text)));
    }
    for reason in Reason::ALL {
        let one = wasm_worker(["explain", reason.as_str()]).done();
        assert!(one.stdout.contains(&format!("{reason}, of an offer: {}", reason.meaning())), "{}", one.stdout);
        assert!(one.stdout.trim().split("\n\n").all(|text| all.stdout.contains(text) && text.contains("what to do: ")));
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
fn the_readme_s_commands_are_those_of_the_program() {
    let help = wasm_worker(["--help"]).done().stdout;
    for verb in [
        "run", "dispatch", "jobs", "job", "workers", "cancel", "serve", "token", "bench", "build", "new", "inspect",
        "explain", "capacity", "ps", "kill", "drain", "events", "config",
    ] {
        assert!(help.contains(&format!("  {verb} ")), "{verb}");
        assert!(
            readme().contains(&format!("wasm-worker {verb} ")) || readme().contains(&format!("-- {verb} ")),
            "{verb}"
        );
    }
}

#[test]
fn each_promise_has_its_test_and_each_such_test_its_promise() {
    let spec = std::fs::read_to_string(root().join("tests/SPEC.md")).unwrap();
    let rows = spec.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |"));
    let named: Vec<&str> = rows.map(|row| row.trim_end_matches("` |").rsplit('`').next().unwrap()).collect();
    assert!(named.len() > 30, "{named:?}");

    let mut tests = Vec::new();
    for file in std::fs::read_dir(root().join("tests/all")).unwrap() {
        let path = file.unwrap().path();
        let module = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        // What a test is: the function right after the attribute, unless another test runs it.
        let mut after = text.split("#[test]\n");
        after.next();
        for test in after.filter(|test| !test.starts_with("#[ignore")) {
            let function = test.lines().find_map(|line| line.strip_prefix("fn ")).unwrap();
            let name = function.split('(').next().unwrap();
            tests.push(format!("{module}::{name}"));
        }
    }
    for name in &named {
        assert!(tests.iter().any(|test| test == name), "tests/SPEC.md names `{name}`, which is no test");
    }
    let covered = [
        "hostile_guests::",
        "hostile_components::",
        "limits::",
        "isolation::",
        "faults_inside_the_host::",
        "isolation_beside_hostile_guests::",
        "livekit_worker::",
        "faults_around_the_host::",
        "drain::",
        "processes::",
        "http_api::",
        "event_sinks::",
        "fuzz::",
    ];
    for test in tests.iter().filter(|test| covered.iter().any(|module| test.starts_with(module))) {
        assert!(named.contains(&test.as_str()), "tests/SPEC.md has no promise for `{test}`");
    }
}
