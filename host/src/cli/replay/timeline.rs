//! The timeline of a recording as text, and as lines of JSON.

use serde::Serialize;

use super::Failure;
use crate::cli::terminal::paragraph;
use crate::cli::{print, print_json, verdict};
use wasm_worker_sandbox::recording::reader::Reader;
use wasm_worker_sandbox::recording::view::{ItemView, StepView, WakeView};

/// Most characters of a content.
const TEXT_CHARS_MAX: usize = 160;

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a, T> {
    record: &'static str,
    #[serde(flatten)]
    fields: &'a T,
}

/// Print each step in some lines.
pub(super) fn print_all(reader: &mut Reader, until: Option<u32>) -> Result<(), Failure> {
    let head = reader.head();
    let left_out = if head.content { "" } else { ", without contents" };
    print(&format!("{} of `{}`, attempt {}, recorded {}{left_out}", head.job, head.agent, head.attempt, head.at))?;
    let mut before = 0;
    while let Some(step) = reader.next_view()? {
        if until.is_some_and(|until| step.step > until) {
            return Ok(());
        }
        if step.step > before + 1 {
            print(&format!("  … steps {} to {} are missing", before + 1, step.step - 1))?;
        }
        before = step.step;
        print(&lines_of(&step))?;
    }
    if let Some(ended) = reader.end().and_then(|end| end.verdict.as_ref()) {
        print(&format!("{} {}", verdict::mark(ended), verdict::headline(ended)))?;
    }
    Ok(())
}

/// Print the head, each step and the end as lines of JSON.
pub(super) fn print_json_lines(reader: &mut Reader, until: Option<u32>) -> Result<(), Failure> {
    print_json(&Line { record: "recording", fields: reader.head() })?;
    while let Some(step) = reader.next_view()? {
        if until.is_some_and(|until| step.step > until) {
            return Ok(());
        }
        print_json(&Line { record: "step", fields: &step })?;
    }
    match reader.end() {
        Some(end) => Ok(print_json(&Line { record: "end", fields: end })?),
        None => Ok(()),
    }
}

fn lines_of(step: &StepView) -> String {
    let mut lines =
        vec![format!("step {:<4} +{:.1} ms  {} µs  {} fuel", step.step, step.at_ms, step.cpu_us, step.fuel)];
    lines.extend(step.events.iter().map(|event| format!("  ← {}", line(event))));
    lines.extend(step.calls.iter().map(|call| format!("  → {}", line(call))));
    lines.extend(step.wake.map(|wake| match wake {
        WakeView::Off => "    no timer".to_owned(),
        WakeView::AfterMs(after) => format!("    timer after {after} ms"),
    }));
    lines.extend(step.finish.as_ref().map(|result| format!("    finish: {result}")));
    if let Some(end) = &step.end {
        lines.push(format!("  ✘ {}: {}", end.how, end.detail));
        lines.extend(end.backtrace.iter().map(|frame| format!("      in {frame}")));
    }
    paragraph(&lines)
}

fn line(item: &ItemView) -> String {
    let id = if item.id == 0 { String::new() } else { format!(" #{}", item.id) };
    let text = match (item.bytes, item.text.char_indices().nth(TEXT_CHARS_MAX)) {
        (Some(bytes), _) => format!("  {bytes} bytes"),
        (None, None) if item.text.is_empty() => String::new(),
        (None, None) => format!("  {}", item.text),
        (None, Some((end, _))) => format!("  {}…", item.text.get(..end).unwrap_or_default()),
    };
    format!("{}{id}{text}", item.name)
}
