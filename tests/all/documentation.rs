//! What the README and the help say is what the program does.

use wasm_worker::config::SETTINGS;
use wasm_worker::job::verdict::Code;

use crate::harness::{root, wasm_worker};

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
        assert!(all.stdout.contains(one.stdout.trim()));
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
    for verb in ["run", "build", "new", "inspect", "explain"] {
        assert!(help.contains(&format!("  {verb} ")), "{verb}");
        assert!(
            readme().contains(&format!("wasm-worker {verb} ")) || readme().contains(&format!("-- {verb} ")),
            "{verb}"
        );
    }
}
