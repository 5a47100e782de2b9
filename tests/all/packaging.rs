//! The files of `host/packaging`: their names are those of the program, and the steps of the container run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use wasm_worker::config::SETTINGS;
use wasm_worker_core::duration;
use wasm_worker_core::refusal::Reason;
use wasm_worker_core::verdict::{Blame, Code};

use crate::support::harness::{guest, root, wasm_worker};
use crate::support::{skip, skip_for_the_system};
use container::{Addresses, Container, get, has_namespaces, inspected};

mod container;

/// The user of the image.
const USER: &str = "65532";
/// The worst exposure of the unit, in tenths.
const EXPOSURE_MAX: &str = "15";

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join("host/packaging").join(file)).unwrap()
}

/// Every file, relative to `host/packaging`.
fn files() -> Vec<String> {
    let dir = root().join("host/packaging");
    let (mut dirs, mut files) = (vec![dir.clone()], Vec::new());
    while let Some(path) = dirs.pop() {
        match std::fs::read_dir(&path) {
            Ok(entries) => dirs.extend(entries.map(|entry| entry.unwrap().path())),
            Err(_) => files.push(path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned()),
        }
    }
    files.sort();
    files
}

/// The words of a text that begin with a prefix.
fn words<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !part(c)).filter(|word| word.starts_with(prefix)).collect()
}

#[test]
fn every_file_is_described_and_no_other_file_is_named() {
    let page = std::fs::read_to_string(root().join("host/docs/deploying.md")).unwrap();
    let files = files();
    assert!(files.len() >= 6, "{files:?}");
    for file in &files {
        assert!(page.contains(&format!("(../packaging/{file})")), "host/docs/deploying.md does not describe `{file}`");
    }
    let texts = files.iter().map(|file| read(file)).chain([page]);
    for text in texts {
        for named in text.split("host/packaging/").skip(1) {
            let named = named.split(|c: char| c.is_whitespace() || "`)\"".contains(c)).next().unwrap();
            assert!(files.iter().any(|file| file == named), "there is no `host/packaging/{named}`");
        }
    }
}

#[test]
fn variables_are_settings_and_their_values_are_valid() {
    let known: Vec<String> = SETTINGS.iter().map(|setting| setting.env()).collect();
    for file in files() {
        let text = read(&file);
        for name in words(&text, "WASM_WORKER_").into_iter().chain(words(&text, "LIVEKIT_")) {
            assert!(known.iter().any(|known| known == name), "{file}: `{name}` is no setting");
        }
    }
    let mut check = wasm_worker(["config", "check"]);
    let unit = read("wasm-worker.service");
    let of_unit = unit.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='));
    let image = Image::read();
    let of_image = image.variables.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in
        of_image.chain(of_unit).chain(pod_variables().iter().map(|(name, value)| (name.as_str(), value.as_str())))
    {
        check = check.env(name, value);
    }
    let done = check.done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    assert!(done.stdout.contains("drain-timeout = 1h"), "{}", done.stdout);
}

/// The variables of the pod that have a value: `- name: NAME`, and below it `value: VALUE`.
fn pod_variables() -> BTreeMap<String, String> {
    let text = read("kubernetes/worker.yaml");
    let mut lines = text.lines().map(str::trim);
    let mut variables = BTreeMap::new();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("- name: WASM_WORKER_") {
            let value = lines.next().unwrap().strip_prefix("value: ").unwrap();
            variables.insert(format!("WASM_WORKER_{name}"), value.to_owned());
        }
    }
    assert!(!variables.is_empty());
    variables
}

#[test]
fn drain_has_more_time_than_it_takes() {
    let time = |text: &str| duration::parse(text).unwrap();
    let default = |key: &str| time(SETTINGS.iter().find(|setting| setting.key == key).unwrap().default);
    let needed = default("shutdown-grace") + Duration::from_secs(20);
    let number = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        Duration::from_secs(line.unwrap_or_else(|| panic!("no `{name}`")).trim().parse().unwrap())
    };
    let (unit, pod) = (read("wasm-worker.service"), read("kubernetes/worker.yaml"));
    let drain = unit.lines().find_map(|line| line.strip_prefix("Environment=WASM_WORKER_DRAIN_TIMEOUT=")).unwrap();
    assert!(number(&unit, "TimeoutStopSec=") >= time(drain) + needed);
    let drain = &pod_variables()["WASM_WORKER_DRAIN_TIMEOUT"];
    assert!(number(&pod, "terminationGracePeriodSeconds:") >= time(drain) + needed);
}

#[test]
fn probes_ask_paths_that_a_worker_serves() {
    let routes: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("host/docs/openapi-worker.json")).unwrap()).unwrap();
    let text = read("kubernetes/worker.yaml");
    let lines = text.lines().map(str::trim);
    let asked: BTreeSet<&str> = lines.filter_map(|line| line.split_once("path: ")).map(|(_, path)| path).collect();
    assert_eq!(asked.into_iter().collect::<Vec<_>>(), ["/live", "/metrics", "/ready"]);
    for path in ["/live", "/metrics", "/ready"] {
        assert!(routes["paths"].get(path).is_some(), "no route `{path}`");
    }
}

/// The metrics of `host/docs/metrics.md`, which other tests compare with what is served: the name, the type, the labels.
fn metrics() -> BTreeMap<String, (String, Vec<String>)> {
    let page = std::fs::read_to_string(root().join("host/docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let metrics = rows.map(|(name, rest)| {
        let mut cells = rest.split(" | ");
        let (kind, labels) = (cells.next().unwrap().to_owned(), cells.next().unwrap());
        let labels = labels.split(", ").map(|label| label.trim_matches(['`', ' ']).to_owned());
        (name.to_owned(), (kind, labels.filter(|label| !label.is_empty()).collect()))
    });
    metrics.collect()
}

/// The queries of the dashboard, of the alerts and of the adapter.
fn queries() -> Vec<String> {
    let board: Value = serde_json::from_str(&read("grafana/wasm-worker.json")).unwrap();
    let mut queries = Vec::new();
    for panel in board["panels"].as_array().unwrap() {
        let targets = panel["targets"].as_array().into_iter().flatten();
        queries.extend(targets.map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    let variables = board["templating"]["list"].as_array().unwrap().iter();
    queries.extend(variables.filter_map(|variable| Some(variable["definition"].as_str()?.to_owned())));
    assert!(queries.len() > 30, "{queries:#?}");
    let alerts = read("prometheus/alerts.yaml");
    // An expression is on the line of its key, or folded on the lines below it.
    let alerts = alerts.split(" expr: ").skip(1).map(|rest| {
        let lines = rest
            .lines()
            .take_while(|line| !line.trim_start().starts_with("for:") && !line.trim_start().starts_with("labels:"));
        lines.collect::<Vec<_>>().join(" ")
    });
    let before = queries.len();
    queries.extend(alerts);
    assert!(queries.len() - before > 10);
    let adapter = read("kubernetes/autoscaling.yaml");
    queries.extend(adapter.lines().filter(|line| line.contains("Query:")).map(str::to_owned));
    queries.extend(adapter.lines().filter(|line| line.contains("name: wasm_worker_")).map(str::to_owned));
    queries
}

#[test]
fn every_queried_metric_is_served_with_its_labels() {
    let metrics = metrics();
    let mut queried = BTreeSet::new();
    for query in queries() {
        let mut labels: BTreeSet<String> = ["le", "instance", "namespace", "pod"].map(str::to_owned).into();
        for word in words(&query, "wasm_worker_") {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
            let known = metrics.get(word).or_else(|| metrics.get(base).filter(|(kind, _)| kind == "histogram"));
            let (kind, own) = known.unwrap_or_else(|| panic!("no metric `{word}` is served: {query}"));
            assert!(kind != "histogram" || word != base, "`{word}` is a histogram: {query}");
            labels.extend(own.iter().cloned());
            queried.insert(base.to_owned());
        }
        for (label, values) in conditions(&query) {
            assert!(labels.contains(label), "no metric of this query has the label `{label}`: {query}");
            values.split('|').for_each(|value| check_value(label, value, &query));
        }
        for by in query.split(" by (").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let by = by.split(", ").filter(|label| !label.contains("<<"));
            by.for_each(|label| {
                assert!(labels.contains(label), "no metric of this query has the label `{label}`: {query}")
            });
        }
    }
    let unseen: Vec<&String> = metrics.keys().filter(|name| !queried.contains(*name)).collect();
    // How often a worker became full, its fuel rate and its worst lateness follow from other metrics.
    let known =
        ["wasm_worker_epoch_lateness_worst_seconds", "wasm_worker_fuel_per_second", "wasm_worker_full_times_total"];
    assert_eq!(unseen, known);
}

/// The conditions of a query: `label="value"`, `label=~"one|two"` and their negations.
fn conditions(query: &str) -> Vec<(&str, &str)> {
    let mut conditions = Vec::new();
    for (at, _) in query.match_indices("=\"").chain(query.match_indices("=~\"")).chain(query.match_indices("!~\"")) {
        let before = query[..at].trim_end_matches('!');
        let start = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let value = query[at..].split('"').nth(1).unwrap();
        conditions.push((&before[start..], value));
    }
    conditions
}

fn check_value(label: &str, value: &str, query: &str) {
    let known: Vec<&str> = match label {
        "code" => Code::ALL.map(Code::as_str).into(),
        "reason" => Reason::ALL.map(Reason::as_str).into(),
        "blame" => Code::ALL.map(|code| Blame::as_str(code.blame())).into(),
        _ => return,
    };
    assert!(known.contains(&value), "`{value}` is no value of `{label}`: {query}");
}

#[test]
fn unit_is_hardened_and_allows_machine_code() {
    let unit = read("wasm-worker.service");
    let has = |line: &str| unit.lines().any(|found| found == line);
    for line in [
        "Type=notify",
        "WatchdogSec=60",
        "KillMode=mixed",
        "SuccessExitStatus=130",
        "RestartPreventExitStatus=2 3",
        "MemoryDenyWriteExecute=no",
        "ProcSubset=all",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
    ] {
        assert!(has(line), "the unit has no `{line}`");
    }
    let file = root().join("host/packaging/wasm-worker.service");
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--threshold", EXPOSURE_MAX]).arg(&file);
    match analyze.output() {
        Err(_) => skip("unit_is_hardened_and_allows_machine_code", "there is no systemd-analyze"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
            assert!(text.contains("Overall exposure level"), "{text}");
        }
    }
}

/// What the last stage of the container file says.
struct Image {
    program: String,
    command: Vec<String>,
    variables: BTreeMap<String, String>,
    user: String,
}

impl Image {
    fn read() -> Self {
        let text = read("Containerfile");
        let last = text.rsplit("\nFROM ").next().unwrap();
        let lines = |word: &str| {
            last.lines()
                .filter_map(|line| Some(line.strip_prefix(word)?.strip_prefix(' ')?.to_owned()))
                .collect::<Vec<_>>()
        };
        let words = |word: &str| serde_json::from_str::<Vec<String>>(&lines(word)[0]).unwrap();
        let variables = lines("ENV").into_iter().map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        let copied = lines("COPY").pop().unwrap();
        let program = copied.rsplit(' ').next().unwrap().to_owned();
        assert_eq!(words("ENTRYPOINT"), [program.as_str()]);
        Self { program, command: words("CMD"), variables: variables.collect(), user: lines("USER").remove(0) }
    }
}

#[test]
fn container_runs_as_process_one_without_root_on_a_read_only_root() {
    let test = "container_runs_as_process_one_without_root_on_a_read_only_root";
    if !has_namespaces() {
        return skip_for_the_system(
            test,
            "only root can make the namespaces of a container, where the kernel allows them",
        );
    }
    let image = Image::read();
    assert_eq!(image.user, format!("{USER}:{USER}"));
    let dir = tempfile::tempdir().unwrap();
    let (root, agents) = (dir.path().join("root"), dir.path().join("agents"));
    [&root, &agents].into_iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
    let named = image.command.last().unwrap();
    std::fs::copy(guest("echo"), agents.join(named.rsplit('/').next().unwrap())).unwrap();

    let (doctor, _) = Container::start(&image, &root, &agents, &["doctor".into()]);
    let doctor = doctor.output();
    println!("{}", String::from_utf8_lossy(&doctor.stdout));
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stderr));

    let (container, Addresses { http, listen }) = Container::ready(&image, &root, &agents);
    assert_eq!(get(&format!("http://{http}/live")), Some(200));
    let pid = container.pid();
    println!("{}", inspected(pid));
    let done = wasm_worker(["dispatch", "agent", "--wait"]).env("LIVEKIT_URL", format!("ws://{listen}")).done();
    println!("{}", done.stdout);
    assert_eq!(done.exit, 0, "{}", done.stderr);
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let output = container.output();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{log}");
    let levels: BTreeSet<String> = log.lines().map(level).collect();
    assert!(levels.contains("INFO") && !levels.contains("WARN") && !levels.contains("ERROR"), "{log}");
    println!("exit status 0 after SIGTERM");
}

/// The level of a line of the log, which is JSON.
fn level(line: &str) -> String {
    let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    line["level"].as_str().unwrap_or_else(|| panic!("no level in {line}")).to_owned()
}
