//! `wasm-worker doctor`: what this machine has of what a worker needs, with the line to change where something is missing.

use clap::Args;
use wasm_worker_core::text::{clip, plural};

use super::settings::SettingFlags;
use super::{Exit, Failure, print, print_json, say};
use crate::doctor::{Finding, Level, examine};

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object a line, for each check
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

pub(crate) fn run(args: DoctorArgs) -> Result<Exit, Failure> {
    let config = args.settings.load()?;
    config.check_server()?;
    let findings = examine(&config);
    if args.json {
        findings.iter().try_for_each(print_json)?;
    } else {
        print(&text(&findings))?;
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    say(&format!("{}, {}", plural(count(Level::Fail), "failure"), plural(count(Level::Warn), "warning")));
    Ok(if count(Level::Fail) > 0 { Exit::Host } else { Exit::Ok })
}

/// A line for each check, and below it the line to change.
fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Finding { check, level, detail, fix } in findings {
        lines.push(format!("{:<4}  {check:<width$}  {}", level.as_str(), clip(detail)));
        lines.extend(fix.as_ref().map(|fix| format!("{:<4}  {:<width$}  change: {}", "", "", clip(fix))));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_change_is_below_its_check() {
        let finding = |check, level, fix: Option<&str>| Finding {
            check,
            level,
            detail: "detail\u{1b}[31m".into(),
            fix: fix.map(str::to_owned),
        };
        let findings = [finding("kernel", Level::Ok, None), finding("threads", Level::Fail, Some("TasksMax=9"))];
        let expected = "ok    kernel   detail [31m\nfail  threads  detail [31m\n               change: TasksMax=9";
        assert_eq!(text(&findings), expected);
    }
}
