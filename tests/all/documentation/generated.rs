//! Tables of the documentation that the program makes. Each stands between `<!-- generated: NAME -->` and `<!-- end -->`;
//! with `WASM_WORKER_UPDATE_DOCS=1` it is written there, otherwise it has to be there already.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use wasm_worker::config::{Group, SETTINGS, Setting};
use wasm_worker_core::network::code::FAILURE_CODES;
use wasm_worker_core::refusal::Reason;
use wasm_worker_core::verdict::Code;

use crate::support::harness::{root, wasm_worker};

/// Tests run side by side, and several tables are in one file.
static WRITING: Mutex<()> = Mutex::new(());

/// Compare a table of a page with what it should be, or write it.
#[track_caller]
pub(crate) fn check(page: &str, name: &str, table: &str) {
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = root().join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let start = format!("<!-- generated: {name} -->\n");
    let (before, rest) = text.split_once(&start).unwrap_or_else(|| panic!("{page} has no `{}`", start.trim()));
    let (old, after) = rest.split_once("<!-- end -->").unwrap_or_else(|| panic!("{page}: `{name}` has no end"));
    if old.trim() == table.trim() {
        return;
    }
    if std::env::var_os("WASM_WORKER_UPDATE_DOCS").is_some_and(|value| value == "1") {
        let new = format!("{before}{start}\n{}\n\n<!-- end -->{after}", table.trim());
        return std::fs::write(&path, new).unwrap();
    }
    panic!("{page}: table `{name}` is not current. Set WASM_WORKER_UPDATE_DOCS=1 to write it, or paste:\n\n{table}\n");
}

fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head = line(&columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>());
    let rule = format!("|{}\n", "---|".repeat(columns.len()));
    let escaped = |cells: Vec<String>| cells.iter().map(|cell| cell.replace('|', "\\|")).collect::<Vec<_>>();
    [head, rule].into_iter().chain(rows.into_iter().map(|cells| line(&escaped(cells)))).collect()
}

/// The settings of one group.
pub(crate) fn settings(group: Group) -> String {
    let rows = SETTINGS.iter().filter(|setting| setting.group == group).map(|setting| {
        // A default that is no value is part of the help text.
        let (help, said) = match setting.help.split_once("[default: ") {
            Some((before, rest)) => {
                let (default, after) = rest.split_once(']').unwrap();
                (format!("{}{after}", before.trim_end()), default)
            }
            None => (setting.help.to_owned(), ""),
        };
        let default = match setting.default {
            "" => said.to_owned(),
            default => format!("`{default}`"),
        };
        let largest = if setting.is_text() { String::new() } else { format!("`{}`", setting.largest) };
        vec![format!("`{}`", setting.key), default, largest, format!("{help}{}", other_names(setting))]
    });
    table(&["setting", "default", "largest", "meaning"], rows)
}

/// Names that do not follow from the key.
fn other_names(setting: &Setting) -> String {
    let variable = setting.env();
    let usual = format!("WASM_WORKER_{}", setting.key.replace('-', "_").to_uppercase());
    let names = [
        (variable != usual).then(|| format!("variable `{variable}`")),
        setting.alias.map(|alias| format!("also `--{alias}`")),
    ];
    let names: Vec<String> = names.into_iter().flatten().collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

pub(crate) fn end_codes() -> String {
    let rows = Code::ALL.into_iter().map(|code| {
        let retry = if code.retry() { "yes" } else { "no" };
        let (code, meaning, blame) = (format!("`{code}`"), code.meaning().to_owned(), code.blame().as_str());
        vec![code.clone(), meaning, format!("`{blame}`"), retry.to_owned(), exit_status(code.trim_matches('`'))]
    });
    table(&["code", "meaning", "blame", "retry", "exit status"], rows)
}

/// The last word of what `explain` says of a code.
fn exit_status(code: &str) -> String {
    let explained = wasm_worker(["explain", code]).done().stdout;
    let first = explained.split("\n\n").next().unwrap();
    let status = first.trim().rsplit(' ').next().unwrap();
    assert!(status.parse::<u8>().is_ok(), "want the exit status at the end of:\n{first}");
    status.to_owned()
}

pub(crate) fn end_code_advice() -> String {
    table(&["code", "what to do"], Code::ALL.map(|code| vec![format!("`{code}`"), code.advice().to_owned()]))
}

pub(crate) fn refusals() -> String {
    let rows =
        Reason::ALL.map(|reason| vec![format!("`{reason}`"), reason.meaning().to_owned(), reason.advice().to_owned()]);
    table(&["reason", "meaning", "what to do"], rows)
}

pub(crate) fn failure_codes() -> String {
    let rows = FAILURE_CODES
        .iter()
        .map(|failure| vec![format!("`{}`", failure.code), failure.meaning.to_owned(), failure.advice.to_owned()]);
    table(&["code", "meaning", "what to do"], rows)
}

/// Compare the metrics that a worker or a dispatcher serves with their table. Each has a value in `scraped`: one with labels is
/// not served before.
#[track_caller]
pub(crate) fn check_metrics(of: &str, scraped: &str) {
    let dispatcher = |name: &str| name.starts_with("wasm_worker_dispatch") || name.starts_with("wasm_worker_store");
    let rows = metrics(scraped).into_iter().filter(|(name, _)| dispatcher(name) == (of == "dispatcher"));
    let rows = rows.map(|(name, Metric { kind, labels, help })| {
        let labels = labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        vec![format!("`{name}`"), kind, labels, help]
    });
    check("host/docs/metrics.md", &format!("metrics {of}"), &table(&["metric", "type", "labels", "meaning"], rows));
}

struct Metric {
    kind: String,
    labels: Vec<String>,
    help: String,
}

/// By name, as a query names them.
fn metrics(scraped: &str) -> BTreeMap<String, Metric> {
    let lines = |what: &str| {
        let prefix = format!("# {what} ");
        let named = scraped.lines().filter_map(|line| line.strip_prefix(prefix.as_str())?.split_once(' '));
        named.map(|(name, text)| (name.to_owned(), text.to_owned())).collect::<BTreeMap<_, _>>()
    };
    let (kinds, mut helps) = (lines("TYPE"), lines("HELP"));
    let metrics = kinds.into_iter().map(|(family, kind)| {
        let name = if kind == "counter" { format!("{family}_total") } else { family.clone() };
        let sample = if kind == "histogram" { format!("{family}_count") } else { name.clone() };
        let help = helps.remove(&family).unwrap().trim_end_matches('.').to_owned();
        let labels = scraped.lines().find_map(|line| labels(line.strip_prefix(&sample)?));
        let labels = labels.unwrap_or_else(|| panic!("`{name}` has no value"));
        (name, Metric { kind, labels, help })
    });
    metrics.collect()
}

/// The labels in the text after the name of a sample: `{a="1",b="2"} 3`.
fn labels(rest: &str) -> Option<Vec<String>> {
    if rest.starts_with(' ') {
        return Some(Vec::new());
    }
    let (pairs, _) = rest.strip_prefix('{')?.split_once('}')?;
    Some(pairs.split(',').filter_map(|pair| Some(pair.split_once('=')?.0.to_owned())).collect())
}
