//! `wasm-worker completions` and `wasm-worker man`.

use std::process::{Command, Stdio};

use crate::support::harness::{path, wasm_worker};
use crate::support::skip;

/// The verbs that the help lists.
fn verbs() -> Vec<String> {
    let help = wasm_worker(["--help"]).done().stdout;
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

#[test]
fn completions_of_each_shell_name_every_verb() {
    let verbs = verbs();
    assert!(verbs.len() > 20, "{verbs:?}");
    // Each script has names with its own delimiters.
    for (shell, verb_as, flag) in [
        ("bash", "wasm__worker,NAME)", " --fuel-limit "),
        ("zsh", "\n'NAME:", "\n'--fuel-limit=["),
        ("fish", "_needs_command\" -f -a \"NAME\" -d ", " -l fuel-limit -d "),
        ("elvish", "cand NAME '", "cand --fuel-limit '"),
        ("powershell", "new('NAME', 'NAME', ", "new('--fuel-limit', '--fuel-limit', "),
    ] {
        let done = wasm_worker(["completions", shell]).done();
        assert_eq!(done.exit, 0, "{}", done.stderr);
        for verb in &verbs {
            assert!(done.stdout.contains(&verb_as.replace("NAME", verb)), "{shell} does not complete `{verb}`");
        }
        assert!(done.stdout.contains(flag), "{shell} does not complete `--fuel-limit`");
    }
    wasm_worker(["completions", "cmd"]).done().fails_with(2, &["invalid value 'cmd'"]);
}

#[test]
fn bash_completes_verbs_and_flags() {
    let Ok(version) = Command::new("bash").arg("--version").stdout(Stdio::null()).status() else {
        return skip("bash_completes_verbs_and_flags", "there is no bash");
    };
    assert!(version.success());
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("completions");
    std::fs::write(&script, wasm_worker(["completions", "bash"]).done().stdout).unwrap();
    let complete = |words: &[&str]| {
        let line = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let (last, previous) = (words[words.len() - 1], words[words.len() - 2]);
        let at = words.len() - 1;
        let ask = format!(
            "source {}; COMP_WORDS=({line}); COMP_CWORD={at}; _wasm__worker wasm-worker '{last}' '{previous}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complete(&["wasm-worker", "dis"]), ["dispatch"]);
    assert_eq!(complete(&["wasm-worker", "run", "--fuel"]), ["--fuel-limit"]);
    assert_eq!(complete(&["wasm-worker", "com"]), ["completions"], "a hidden verb is offered");
    assert!(complete(&["wasm-worker", "run", "--superv"]).iter().all(String::is_empty), "a hidden flag is offered");
}

#[test]
fn each_verb_has_a_manual_page_with_every_flag() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("share/man1");
    let call = wasm_worker(["man", path(&pages)]).env("LIVEKIT_API_SECRET", "hunter2");
    let done = call.done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let read = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let program = read("wasm-worker.1");
    assert_eq!(wasm_worker(["man"]).done().stdout, program);
    assert!(program.contains("Exit status:"), "{program}");
    for verb in verbs() {
        let listed = verb.replace('-', "\\-");
        assert!(program.contains(&format!("wasm\\-worker\\-{listed}(1)")), "`{verb}` is not listed");
        let page = read(&format!("wasm-worker-{verb}.1"));
        assert!(!page.contains("hunter2"), "the page of `{verb}` shows a secret");
        let help = wasm_worker([verb.as_str(), "--help"]).done().stdout;
        for flag in help.lines().filter_map(|line| line.trim_start().strip_prefix("--")) {
            let flag = flag.split([' ', '=', ',']).next().unwrap().replace('-', "\\-");
            assert!(page.contains(&format!("\\-\\-{flag}")), "the page of `{verb}` has no `--{flag}`");
        }
    }
    assert!(!pages.join("wasm-worker-compile.1").exists(), "a hidden verb has a page");
    assert!(read("wasm-worker-run.1").contains("WASM_WORKER_FUEL_LIMIT"));
}

#[test]
fn manual_pages_are_valid_for_groff() {
    if Command::new("groff").arg("--version").output().is_err() {
        return skip("manual_pages_are_valid_for_groff", "there is no groff");
    }
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(wasm_worker(["man", path(dir.path())]).done().exit, 0);
    for page in std::fs::read_dir(dir.path()).unwrap().map(|page| page.unwrap().path()) {
        let output = Command::new("groff").args(["-man", "-ww", "-Tutf8", "-z"]).arg(&page).output().unwrap();
        let warnings = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && warnings.is_empty(), "{}: {warnings}", page.display());
    }
}

#[test]
fn manual_pages_that_cannot_be_written_are_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let dir = file.path().join("man1");
    wasm_worker(["man", path(&dir)]).done().fails_with(1, &["the pages cannot be written to", path(&dir)]);
}
