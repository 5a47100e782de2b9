//! The timeline of a recording as one HTML page: data, style and script together. The page loads nothing.
//!
//! Bounds: [`STEPS_MAX`] steps and [`BYTES_MAX`] bytes of them; the page says what it leaves out.

use std::io;

use serde::Serialize;

use super::Failure;
use wasm_worker_core::text::escaped_json;
use wasm_worker_sandbox::recording::reader::{Ending, Reader};

/// Most steps of a page.
const STEPS_MAX: usize = 20_000;
/// Most bytes of the steps.
const BYTES_MAX: usize = 24 << 20;

/// The page, with a place for the data.
const TEMPLATE: &str = include_str!("page.html");
const PLACE: &str = "\"@DATA@\"";
const TITLE: &str = "@TITLE@";

/// What else the page shows.
#[derive(Serialize)]
struct Facts<'a> {
    head: &'a wasm_worker_sandbox::recording::record::Head,
    end: Option<&'a wasm_worker_sandbox::recording::record::End>,
    /// Why not everything is shown, in sentences.
    notes: Vec<String>,
}

/// The page of a recording.
pub(super) fn page(reader: &mut Reader, until: Option<u32>) -> Result<String, Failure> {
    let (mut steps, mut bytes, mut left_out, mut notes) = (Vec::new(), 0, 0_u64, Vec::new());
    while let Some(step) = reader.next_view()? {
        if until.is_some_and(|until| step.step > until) {
            notes.push(format!("The page ends at step {}, as it was asked to.", step.step - 1));
            break;
        }
        if steps.len() == STEPS_MAX || bytes > BYTES_MAX {
            left_out += 1;
            continue;
        }
        let json = serde_json::to_string(&step).map_err(io::Error::from)?;
        bytes += json.len();
        steps.push(json);
    }
    if left_out > 0 {
        notes.push(format!("{left_out} later steps are left out; `--timeline` and `--json` have them."));
    }
    if let Some(gap) = reader.gap() {
        notes.push(format!("Steps after step {gap} are missing: only the newest part of the job was kept."));
    }
    match reader.ending() {
        Some(Ending::Early(why)) => notes.push(format!("The recording ends before its job: {why}.")),
        Some(Ending::Cut(at)) => notes.push(format!("The file is cut short at byte {at}.")),
        Some(Ending::Whole) | None => {}
    }
    if !reader.head().content {
        notes.push("The contents were left out of this recording.".into());
    }
    let facts =
        serde_json::to_string(&Facts { head: reader.head(), end: reader.end(), notes }).map_err(io::Error::from)?;
    let data = format!("{{\"facts\":{facts},\"steps\":[{}]}}", steps.join(","));
    let title = format!("{} of {}", reader.head().job, reader.head().agent);
    Ok(TEMPLATE.replace(TITLE, &html(&title)).replace(PLACE, &in_script(data)))
}

/// JSON that no parser of HTML takes for the end of its script.
fn in_script(json: String) -> String {
    escaped_json(json).replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_leaves_the_script_and_the_template_loads_nothing() {
        assert_eq!(in_script("\"</script>\u{202e}&\"".into()), "\"\\u003c/script\\u003e\\u202e\\u0026\"");
        assert_eq!(TEMPLATE.matches(PLACE).count(), 1);
        for loads in ["src=", "href=", "http:", "https:", "import(", "fetch(", "url("] {
            assert!(!TEMPLATE.contains(loads), "{loads}");
        }
    }
}
