//! The files of `host/packaging`: their names are those of the program, and the steps of the container run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use wasm_worker::config::SETTINGS;
use wasm_worker_core::duration;
use wasm_worker_core::refusal::Reason;
use wasm_worker_core::verdict::{Blame, Code};

use crate::support::harness::{eventually, guest, root, wasm_worker};
use crate::support::{skip, skip_for_the_system};

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

/// A container: process 1 of its own processes, on a root of its own with the program, its libraries and nothing else.
const CONTAINER: &str = r#"
set -eu
root=$1 program=$2 inside=$3 agents=$4 user=$5
shift 5
mount --make-rprivate /
mount -t tmpfs -o mode=755 root "$root"
mkdir -p "$root/proc" "$root/agents" "$root/var/cache/wasm-worker" "$root/var/lib/wasm-worker" "$root${inside%/*}"
touch "$root$inside"
mount --bind "$program" "$root$inside"
ldd "$program" | grep -o '/[^ )]*' | while read -r library; do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
done
mount --bind "$agents" "$root/agents"
mount -o remount,bind,ro "$root/agents"
mount -o remount,bind,ro "$root$inside"
mount -t proc proc "$root/proc"
for volume in cache lib; do
    mount -t tmpfs -o "mode=700,uid=${user%:*},gid=${user#*:}" volume "$root/var/$volume/wasm-worker"
done
mount -o remount,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" "$root" "$@"
"#;

/// Start the container with this command instead of the image's own, and with more variables.
fn container(image: &Image, root: &Path, agents: &Path, command: &[String], variables: &[(&str, &str)]) -> Child {
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--mount",
        "--pid",
        "--ipc",
        "--uts",
        "--fork",
        "--kill-child=KILL",
        "/bin/sh",
        "-c",
        CONTAINER,
        "sh",
    ]);
    unshare.arg(root).arg(env!("CARGO_BIN_EXE_wasm-worker")).arg(&image.program).arg(agents).arg(&image.user);
    unshare.arg(&image.program).args(command).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    unshare.envs(&image.variables).envs(variables.iter().copied());
    unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Whether this machine allows what a container engine does.
fn has_namespaces() -> bool {
    let mut tried = Command::new("unshare");
    tried.args([
        "--mount",
        "--pid",
        "--ipc",
        "--uts",
        "--fork",
        "/bin/sh",
        "-c",
        "mount --make-rprivate / && setpriv --version",
    ]);
    tried.stdout(Stdio::null()).stderr(Stdio::null());
    rustix::process::geteuid().is_root() && tried.status().is_ok_and(|status| status.success())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn get(url: &str) -> Option<u16> {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    Some(agent.get(url).call().ok()?.status().as_u16())
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

    let (http, listen) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
    let variables =
        [("WASM_WORKER_HTTP", http.as_str()), ("WASM_WORKER_LISTEN", &listen), ("WASM_WORKER_LOAD_THRESHOLD", "none")];
    let doctor = container(&image, &root, &agents, &["doctor".into()], &variables).wait_with_output().unwrap();
    println!("{}", String::from_utf8_lossy(&doctor.stdout));
    assert!(doctor.status.success(), "{}", String::from_utf8_lossy(&doctor.stderr));

    let engine = container(&image, &root, &agents, &image.command, &variables);
    eventually("it is ready", || (get(&format!("http://{http}/ready")) == Some(200)).then_some(()));
    assert_eq!(get(&format!("http://{http}/live")), Some(200));
    let pid = only_child(engine.id());
    println!("{}", inspected(pid));
    let url = format!("ws://{listen}");
    let done = wasm_worker(["dispatch", "agent", "--wait"]).env("LIVEKIT_URL", &url).done();
    println!("{}", done.stdout);
    assert_eq!(done.exit, 0, "{}", done.stderr);
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let output = engine.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{log}");
    let warnings: Vec<&str> =
        log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    assert!(warnings.is_empty(), "{warnings:#?}");
    println!("exit status 0 after SIGTERM");
}

fn only_child(pid: u32) -> i32 {
    let children = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
    std::fs::read_to_string(children).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// Check from outside what the process is and may do, and return the lines that show it.
fn inspected(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(field("NSpid:").last(), Some(&"1"), "{status}");
    assert!(field("Uid:").iter().chain(&field("Gid:")).all(|id| *id == USER), "{status}");
    assert_eq!((field("CapEff:")[0], field("NoNewPrivs:")[0]), ("0000000000000000", "1"), "{status}");
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
    let options = |place: &str| mounts.lines().find(|line| line.split(' ').nth(1) == Some(place)).unwrap().to_owned();
    assert!(options("/").contains(" ro,") && options("/agents").contains(" ro,"), "{mounts}");
    let shown = ["Uid:", "NSpid:", "CapEff:", "NoNewPrivs:"].map(|name| format!("{name} {}", field(name).join(" ")));
    format!("{}\n{mounts}", shown.join("\n"))
}
