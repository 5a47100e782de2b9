//! All recordings of a directory against one build of the agent, as a table: for the CI of an author.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::agents::Agents;
use super::result::headline;
use super::{Done, Exit, Failure, replay};
use crate::cli::table::{Column, table};
use crate::cli::{print, print_json};
use wasm_worker_core::text::{plural, with_causes};
use wasm_worker_sandbox::recording::EXTENSION;
use wasm_worker_sandbox::runtimes::Runtimes;

/// Most recordings of a directory.
const FILES_MAX: usize = 100_000;

/// What became of one recording.
#[derive(Serialize)]
struct Row {
    record: &'static str,
    file: String,
    steps: u32,
    /// `same`, `differs` or `fails`.
    result: &'static str,
    /// The difference in one line, the warning, or the error.
    detail: String,
}

/// Replay each recording, and print a row for it.
pub(super) fn run(
    dir: &Path,
    until: Option<u32>,
    json: bool,
    agents: &mut Agents<'_>,
    runtimes: &Runtimes,
) -> Result<Exit, Failure> {
    let mut rows = Vec::new();
    for path in recordings(dir)? {
        let row = row(&path, runtimes.block_on(replay(&path, until, agents)));
        if json {
            print_json(&row)?;
        }
        rows.push(row);
    }
    let count = |result: &str| rows.iter().filter(|row| row.result == result).count();
    let (same, differ, fail) = (count("same"), count("differs"), count("fails"));
    if !json {
        let cells: Vec<[String; 4]> = rows
            .iter()
            .map(|Row { file, steps, result, detail, .. }| {
                let result = if detail.is_empty() { (*result).to_owned() } else { format!("{result}: {detail}") };
                let mark = if result.starts_with("same") { "✔" } else { "✘" };
                [mark.to_owned(), file.clone(), steps.to_string(), result]
            })
            .collect();
        let columns = [Column::Left(""), Column::Left("RECORDING"), Column::Right("STEPS"), Column::Left("RESULT")];
        print(&table(columns, &cells))?;
        print(&format!("{}: {same} same, {differ} different, {fail} failed", plural(rows.len(), "recording")))?;
    }
    Ok(if differ + fail == 0 { Exit::Ok } else { Exit::Differs })
}

fn row(path: &Path, done: Result<Done, Failure>) -> Row {
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let row = |steps, result, detail| Row { record: "replay", file: file.clone(), steps, result, detail };
    match done {
        Err(failure) => row(0, "fails", with_causes(&*failure.error)),
        Ok(Done { replayed, warning, .. }) => match &replayed.difference {
            None => row(replayed.steps, "same", warning.unwrap_or_default()),
            Some(difference) => {
                let change = match (difference.recorded.as_slice(), difference.replayed.as_slice()) {
                    ([recorded], [replayed]) => format!("; {recorded} → {replayed}"),
                    _ => first_change(&difference.recorded, &difference.replayed),
                };
                let line = headline(difference);
                let line = line.strip_prefix("differs ").unwrap_or(&line);
                row(replayed.steps, "differs", format!("{line}{change}"))
            }
        },
    }
}

/// The first line that is not the same, in both.
fn first_change(recorded: &[String], replayed: &[String]) -> String {
    let at = recorded.iter().zip(replayed).take_while(|(one, other)| one == other).count();
    let line = |lines: &[String]| lines.get(at).map_or("nothing", String::as_str).to_owned();
    format!("; {} → {}", line(recorded), line(replayed))
}

/// The recordings of a directory, by name.
fn recordings(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
        if paths.len() > FILES_MAX {
            return Err(Failure::usage(format!("`{}` has more than {FILES_MAX} recordings", dir.display())));
        }
    }
    if paths.is_empty() {
        let failure = Failure::usage(format!("`{}` has no file that ends in `.{EXTENSION}`", dir.display()));
        return Err(failure.with_hint("`--record DIR` of `run` writes one for each job"));
    }
    paths.sort();
    Ok(paths)
}
