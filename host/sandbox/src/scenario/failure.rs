//! An expectation that did not hold, in words. Pure.

use std::fmt::Display;
use std::time::Duration;

use wasm_worker_core::record::SentText;
use wasm_worker_core::text::clip;
use wasm_worker_core::usage::millis;
use wasm_worker_mock_models::matching::shown;

use super::script::{Want, WantedAnswer, WantedQuestion, WantedText};
use super::trace::{Seen, SeenAnswer, SeenQuestion, SeenRequest, SeenSound};
use crate::sound::duration_of;
use crate::sound::tone::Tone;

/// Most lines of what was got.
const GOT_MAX: usize = 10;
/// Longest texts that are compared line by line, in lines.
const DIFF_LINES_MAX: usize = 300;

/// Parts of sound that are nearer to each other have no gap: their times are rounded.
const SLACK: Duration = Duration::from_millis(1);

/// An expectation that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The line of the step in its file.
    pub line: usize,
    /// What did not hold, in one line.
    pub why: String,
    /// `- ` what was expected, `+ ` what was got, `  ` what is the same in both.
    pub diff: Vec<String>,
}

impl Failure {
    /// A failure with nothing to compare.
    pub(super) fn plain(line: usize, why: impl Into<String>) -> Self {
        Self { line, why: why.into(), diff: Vec::new() }
    }
}

/// What is wanted, in words.
pub(super) fn wanted(want: &Want) -> String {
    match want {
        Want::Text(text) => format!("a text{}", text_in_words(text)),
        Want::NoText(text) => format!("no text{}", text_in_words(text)),
        Want::State(state) => format!("state {state}"),
        Want::Attribute { name, value: Some(value) } => format!("attribute `{name}` {value}"),
        Want::Attribute { name, value: None } => format!("no attribute `{name}`"),
        Want::Call(call) => match call.times {
            Some(times) => format!("{times} calls of {} {}", call.name, call.json).trim_end().to_owned(),
            None => format!("a call of {} {}", call.name, call.json).trim_end().to_owned(),
        },
        Want::Http(request) => {
            let body = if request.body.is_any() { String::new() } else { format!(" with a body {}", request.body) };
            format!("a request {}{body}", request.request)
        }
        Want::Sound(sound) => format!("sound of {} Hz for at least {:?}", sound.hz, sound.least),
        Want::Model(question) => question_in_words(question),
        Want::Answer(answer) => answer_in_words(answer),
        Want::Fuel(range) => format!("fuel {range}"),
        Want::Memory(range) => format!("memory {range} bytes"),
        Want::End(end) => {
            let detail = if end.detail.is_any() { String::new() } else { format!(" with a detail {}", end.detail) };
            format!("end {}{detail}", if end.codes.is_empty() { "of any code".into() } else { end.codes.join(" or ") })
        }
    }
}

fn text_in_words(wanted: &WantedText) -> String {
    let mut words = String::new();
    if let Some(topic) = &wanted.topic {
        words.push_str(&format!(" on topic {topic}"));
    }
    if let Some(to) = &wanted.to {
        words.push_str(&format!(" to {to}"));
    }
    wanted.attributes.iter().for_each(|(name, value)| words.push_str(&format!(" with {name}={value}")));
    if !wanted.text.is_any() {
        words.push_str(&format!(" {}", wanted.text));
    }
    words
}

fn question_in_words(wanted: &WantedQuestion) -> String {
    let mut words = match wanted.times {
        Some(times) => format!("{times} requests to the model"),
        None => "a request to the model".to_owned(),
    };
    words.extend(wanted.model.iter().map(|model| format!(" `{model}`")));
    words.extend(wanted.tool.iter().map(|tool| format!(" with a result of `{tool}`")));
    for (part, wanted) in [("a user's text", &wanted.user), ("a body", &wanted.body)] {
        if !wanted.is_any() {
            words.push_str(&format!(" with {part} {wanted}"));
        }
    }
    words
}

fn answer_in_words(wanted: &WantedAnswer) -> String {
    let to = wanted.method.as_ref().map(|method| format!(" to `{method}`")).unwrap_or_default();
    match &wanted.answer {
        Ok(payload) if payload.is_any() => format!("an answer{to}"),
        Ok(payload) => format!("an answer{to} {payload}"),
        Err(Some(code)) => format!("the error {code} as answer{to}"),
        Err(None) => format!("an error as answer{to}"),
    }
}

/// The lines of a comparison.
pub(super) fn compared(expected: &str, got: &[String], nothing: &str) -> Vec<String> {
    let mut lines = vec![format!("- {expected}")];
    let more = got.len().saturating_sub(GOT_MAX);
    lines.extend(got.iter().take(GOT_MAX).map(|line| format!("+ {line}")));
    if got.is_empty() {
        lines.push(format!("+ {nothing}"));
    }
    if more > 0 {
        lines.push(format!("+ … and {more} more"));
    }
    lines
}

/// A text of several lines against the one that came.
pub(super) fn compared_lines(expected: &str, got: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), got.lines().collect());
    if old.len().max(new.len()) > DIFF_LINES_MAX {
        return vec![format!("- {}", shown(expected)), format!("+ {}", shown(got))];
    }
    // Lengths of the longest common rest, for each pair of positions.
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    let at = |row: usize, column: usize| row * width + column;
    let get = |common: &[u32], index: usize| common.get(index).copied().unwrap_or(0);
    for (row, left) in old.iter().enumerate().rev() {
        for (column, right) in new.iter().enumerate().rev() {
            let length = if left == right {
                get(&common, at(row + 1, column + 1)) + 1
            } else {
                get(&common, at(row + 1, column)).max(get(&common, at(row, column + 1)))
            };
            if let Some(place) = common.get_mut(at(row, column)) {
                *place = length;
            }
        }
    }
    let (mut row, mut column, mut lines) = (0, 0, Vec::new());
    loop {
        match (old.get(row), new.get(column)) {
            (None, None) => return lines,
            (Some(left), Some(right)) if left == right => {
                lines.push(format!("  {left}"));
                (row, column) = (row + 1, column + 1);
            }
            (Some(left), right)
                if right.is_none() || get(&common, at(row + 1, column)) >= get(&common, at(row, column + 1)) =>
            {
                lines.push(format!("- {left}"));
                row += 1;
            }
            (_, right) => {
                lines.extend(right.map(|right| format!("+ {right}")));
                column += 1;
            }
        }
    }
}

/// A time since the launch.
pub(super) fn clock(at: Duration) -> String {
    format!("{}.{:03}s", at.as_secs(), at.subsec_millis())
}

/// A text that came.
pub(super) fn got_text(seen: &Seen<SentText>) -> String {
    format!("{} {} {}", clock(seen.at), seen.it.topic, shown(&seen.it.text))
}

/// A request that came.
pub(super) fn got_request(seen: &Seen<SeenRequest>) -> String {
    let SeenRequest { method, url, body } = &seen.it;
    let body = if body.is_empty() { String::new() } else { format!(" {}", shown(body)) };
    format!("{} {method} {url}{body}", clock(seen.at))
}

/// A request to the model that came.
pub(super) fn got_question(seen: &Seen<SeenQuestion>) -> String {
    let SeenQuestion { model, user, tools, .. } = &seen.it;
    let tools = tools.iter().map(|tool| format!(" and a result of `{tool}`")).collect::<String>();
    format!("{} `{}` {}{tools}", clock(seen.at), clip(model), shown(user))
}

/// An answer that came.
pub(super) fn got_answer(seen: &Seen<SeenAnswer>) -> String {
    let SeenAnswer { method, answer } = &seen.it;
    match answer {
        Ok(payload) => format!("{} {method} {}", clock(seen.at), shown(payload)),
        Err((code, message)) => format!("{} {method} error {code} {}", clock(seen.at), shown(message)),
    }
}

/// The sound that was played, each part without a gap in a line.
pub(super) fn got_sounds(sounds: &[Seen<SeenSound>], hz: f64) -> Vec<String> {
    let mut parts: Vec<(Duration, Duration, Tone)> = Vec::new();
    for Seen { at, it: SeenSound { rate, samples } } in sounds {
        let end = *at + duration_of(samples.len(), *rate);
        match parts.last_mut() {
            Some((_, last, tone)) if at.abs_diff(*last) < SLACK => {
                *last = end;
                tone.add(samples, *rate, hz);
            }
            _ => parts.push((*at, end, Tone::of(samples, *rate, hz))),
        }
    }
    let line = |(begin, end, tone): (Duration, Duration, Tone)| {
        let (lasted, share) = (Duration::from_millis(millis(end - begin)), 100.0 * tone.share());
        format!("{} sound for {lasted:?}, {share:.0} % of it at {hz} Hz", clock(begin))
    };
    parts.into_iter().map(line).collect()
}

/// Something that came, by its words.
pub(super) fn got(seen: &Seen<impl Display>) -> String {
    format!("{} {}", clock(seen.at), seen.it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_several_lines_are_compared_line_by_line() {
        assert_eq!(compared_lines("a\nb\nc", "a\nx\nc\nd"), ["  a", "- b", "+ x", "  c", "+ d"]);
        assert_eq!(compared_lines("a", ""), ["- a"]);
        assert_eq!(compared_lines("", "a"), ["+ a"]);
        assert!(compared_lines(&"x\n".repeat(1_000), "y").len() == 2);
    }

    #[test]
    fn a_comparison_is_bounded() {
        let got: Vec<String> = (0..12).map(|number| number.to_string()).collect();
        let lines = compared("x", &got, "nothing");
        assert_eq!((lines.len(), lines[0].as_str(), lines[11].as_str()), (12, "- x", "+ … and 2 more"));
        assert_eq!(compared("x", &[], "nothing"), ["- x", "+ nothing"]);
    }
}
