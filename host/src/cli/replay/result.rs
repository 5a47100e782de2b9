//! The result of a replay as text.

use super::super::terminal::paragraph;
use super::super::verdict;
use super::Replayed;
use wasm_worker_core::text::plural;
use wasm_worker_sandbox::job::compared::Difference;
use wasm_worker_sandbox::recording::reader::Reader;
use wasm_worker_sandbox::recording::view::EndView;

/// Lines that are the same, before and after the first that is not.
const CONTEXT: usize = 2;
/// Most lines of each side of a difference.
const LINES_MAX: usize = 12;

/// The result in several lines.
pub(super) fn text(replayed: &Replayed, reader: &Reader, until: Option<u32>, other_build: bool) -> String {
    let Replayed { steps, recorded_fuel, fuel, difference, end } = replayed;
    let head = reader.head();
    let mut lines = vec![match difference {
        None => format!("✔ same: {}, {}", plural(*steps as usize, "step"), fuels(*recorded_fuel, *fuel, other_build)),
        Some(difference) => format!("✘ {}", headline(difference)),
    }];
    lines.extend(difference.iter().flat_map(diff));
    lines.push(format!("  job      {} of `{}`, recorded {}", head.job, head.agent, head.at));
    if until.is_some() {
        return paragraph(&lines);
    }
    if let Some(EndView { how, detail, backtrace }) = end.as_ref().filter(|_| difference.is_none()) {
        lines.push(format!("  step {steps}   {how}: {detail}"));
        lines.extend(
            backtrace
                .iter()
                .enumerate()
                .map(|(at, frame)| format!("{}{frame}", if at == 0 { "  in       " } else { "           " })),
        );
    }
    if let Some(ended) = reader.end().and_then(|end| end.verdict.as_ref()) {
        lines.push(format!("  verdict  {} {}", verdict::mark(ended), verdict::headline(ended)));
    }
    paragraph(&lines)
}

/// `differs at step 7: calls`.
pub(super) fn headline(difference: &Difference) -> String {
    match difference.step {
        0 => format!("differs in `decide`: {}", difference.what),
        step => format!("differs at step {step}: {}", difference.what),
    }
}

fn fuels(recorded: u64, fuel: u64, other_build: bool) -> String {
    if !other_build {
        return format!("{fuel} fuel, as recorded");
    }
    format!("{fuel} fuel with this build, {recorded} with the recorded one")
}

/// The lines of a difference, with a few that are the same around it.
fn diff(difference: &Difference) -> Vec<String> {
    let (recorded, replayed) = (&difference.recorded, &difference.replayed);
    let same = recorded.iter().zip(replayed).take_while(|(one, other)| one == other).count();
    let (old, new) = (recorded.get(same..).unwrap_or_default(), replayed.get(same..).unwrap_or_default());
    let after = old.iter().rev().zip(new.iter().rev()).take_while(|(one, other)| one == other).count();
    let side = |mark: char, lines: &[String]| {
        let lines = lines.get(..lines.len() - after).unwrap_or_default();
        let mut shown: Vec<String> = lines.iter().take(LINES_MAX).map(|line| format!("  {mark} {line}")).collect();
        if lines.len() > LINES_MAX {
            shown.push(format!("  {mark} … {} more", lines.len() - LINES_MAX));
        }
        shown
    };
    let before = recorded.get(same.saturating_sub(CONTEXT)..same).unwrap_or_default();
    let behind = old.get(old.len() - after..).unwrap_or_default().iter().take(CONTEXT);
    let mut lines = vec!["  - recorded".to_owned(), "  + replayed".to_owned()];
    lines.extend(before.iter().map(|line| format!("    {line}")));
    lines.extend(side('-', old));
    lines.extend(side('+', new));
    lines.extend(behind.map(|line| format!("    {line}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_with_what_is_around_it() {
        let lines = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let difference = Difference {
            step: 7,
            what: "calls",
            recorded: lines(&["a", "b", "c", "old", "d"]),
            replayed: lines(&["a", "b", "c", "new", "newer", "d"]),
        };
        assert_eq!(headline(&difference), "differs at step 7: calls");
        let shown = ["  - recorded", "  + replayed", "    b", "    c", "  - old", "  + new", "  + newer", "    d"];
        assert_eq!(diff(&difference), shown);
        let shorter = Difference { replayed: lines(&["a"]), ..difference };
        assert_eq!(diff(&shorter)[2..], ["    a", "  - b", "  - c", "  - old", "  - d"]);
    }
}
