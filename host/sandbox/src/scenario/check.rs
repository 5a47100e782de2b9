//! Whether an expectation holds. Pure.
//!
//! Expectations about what the agent sends look at what came after the last one that was expected, so their order is the order of
//! the texts.

use std::collections::BTreeMap;
use std::time::Duration;

use wasm_worker_core::record::SentText;
use wasm_worker_core::verdict::Code;
use wasm_worker_mock_models::matching::{glob, shown};

use super::failure::{
    clock, compared, compared_lines, got, got_answer, got_question, got_request, got_sounds, got_text, wanted,
};
use super::matching::Range;
use super::script::{
    Expect, Want, WantedAnswer, WantedCall, WantedEnd, WantedQuestion, WantedRequest, WantedSound, WantedText,
};
use super::trace::{Seen, SeenAnswer, SeenCall, SeenQuestion, SeenRequest, SeenSound, Trace};
use crate::sound::tone::ToneSearch;

/// Frames of a backtrace that a message shows.
const FRAMES_SHOWN: usize = 5;

/// The facts of the job at a time since its launch.
pub(crate) struct Now<'a> {
    pub(crate) at: Duration,
    /// Whether the agent is in its room.
    pub(crate) joined: bool,
    pub(crate) fuel: u64,
    /// The largest memory so far, in bytes.
    pub(crate) memory: usize,
    /// The agent's attributes.
    pub(crate) attributes: &'a BTreeMap<String, String>,
}

/// The end of the job.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) code: Code,
    pub(super) detail: String,
    pub(super) backtrace: Vec<String>,
    pub(super) at: Duration,
}

impl End {
    /// The code, the detail and the innermost frames.
    pub(super) fn in_words(&self) -> String {
        let frames = self.backtrace.iter().take(FRAMES_SHOWN).map(|frame| format!("; in {frame}"));
        format!("end {}: {}{}", self.code.as_str(), self.detail, frames.collect::<String>())
    }
}

/// Whether an expectation holds; where it does not, the position of the first want that does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    Held,
    NotYet(usize),
    Never(usize),
}

/// What one want has found so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Entries that have been looked at.
    scanned: usize,
    /// The entry that fits.
    found: Option<usize>,
    /// Entries that fit.
    count: u64,
    /// The tone that is looked for.
    tone: ToneSearch,
}

/// Up to which entry of each kind the expectations so far have looked.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursors {
    texts: usize,
    states: usize,
    calls: usize,
    requests: usize,
    questions: usize,
    answers: usize,
    sounds: usize,
}

impl Cursors {
    /// Go behind what an expectation found.
    pub(super) fn follow(&mut self, expect: &Expect, progress: &[Progress]) {
        for (want, progress) in expect.wants.iter().zip(progress) {
            let Some(found) = progress.found else { continue };
            match want {
                Want::Text(_) => self.texts = found + 1,
                Want::State(_) => self.states = found + 1,
                Want::Call(_) => self.calls = found + 1,
                Want::Http(_) => self.requests = found + 1,
                Want::Model(_) => self.questions = found + 1,
                Want::Answer(_) => self.answers = found + 1,
                Want::Sound(_) => self.sounds = found + 1,
                Want::NoText(_) | Want::Attribute { .. } | Want::Fuel(_) | Want::Memory(_) | Want::End(_) => {}
            }
        }
    }
}

/// Check an expectation. `is_last` where its time is over, or the job has ended.
pub(super) fn check(
    expect: &Expect,
    trace: &Trace,
    cursors: &Cursors,
    progress: &mut [Progress],
    now: &Now<'_>,
    end: Option<&End>,
    is_last: bool,
) -> Checked {
    let (mut from, mut first_open) = (*cursors, None);
    for (at, (want, progress)) in expect.wants.iter().zip(progress).enumerate() {
        let holds = match want {
            Want::Text(wanted) => find(&trace.texts, &mut from.texts, progress, |it| text_fits(wanted, it)),
            Want::State(state) => {
                find(&trace.states, &mut from.states, progress, |it| it == state) || {
                    // The state in which the agent is has been seen already.
                    from.states == trace.states.len() && trace.states.last().is_some_and(|last| last.it == *state)
                }
            }
            Want::Http(wanted) => find(&trace.requests, &mut from.requests, progress, |it| request_fits(wanted, it)),
            Want::Answer(wanted) => find(&trace.answers, &mut from.answers, progress, |it| answer_fits(wanted, it)),
            Want::Sound(wanted) => hear(&trace.sounds, &mut from.sounds, progress, wanted),
            Want::Call(wanted @ WantedCall { times: Some(times), .. }) => {
                match count(&trace.calls, *times, progress, |it| call_fits(wanted, it)) {
                    Counted::TooMany => return Checked::Never(at),
                    counted => counted == Counted::Fits,
                }
            }
            Want::Model(wanted @ WantedQuestion { times: Some(times), .. }) => {
                match count(&trace.questions, *times, progress, |it| question_fits(wanted, it)) {
                    Counted::TooMany => return Checked::Never(at),
                    counted => counted == Counted::Fits,
                }
            }
            Want::Model(wanted) => {
                find(&trace.questions, &mut from.questions, progress, |it| question_fits(wanted, it))
            }
            Want::Call(wanted) => find(&trace.calls, &mut from.calls, progress, |it| call_fits(wanted, it)),
            Want::NoText(wanted) => {
                let mut start = from.texts;
                if find(&trace.texts, &mut start, progress, |it| text_fits(wanted, it)) {
                    return Checked::Never(at);
                }
                is_last
            }
            Want::Attribute { name, value } => match (now.attributes.get(name), value) {
                (Some(value), Some(wanted)) => wanted.fits(value),
                (None, None) => true,
                _ => false,
            },
            Want::Fuel(range) if range.max.is_some_and(|max| now.fuel > max) => return Checked::Never(at),
            Want::Fuel(range) => range.fits(now.fuel),
            Want::Memory(range) if range.max.is_some_and(|max| now.memory as u64 > max) => return Checked::Never(at),
            Want::Memory(range) => range.fits(now.memory as u64),
            Want::End(wanted) => match end {
                None => false,
                Some(end) if end_fits(wanted, end) => true,
                Some(_) => return Checked::Never(at),
            },
        };
        if !holds && first_open.is_none() {
            first_open = Some(at);
        }
    }
    first_open.map_or(Checked::Held, Checked::NotYet)
}

/// Find the first entry that fits, from `from` on, and move `from` behind it. Entries that were looked at are not looked at again.
fn find<T>(entries: &[Seen<T>], from: &mut usize, progress: &mut Progress, fits: impl Fn(&T) -> bool) -> bool {
    if progress.found.is_none() {
        let start = progress.scanned.max(*from);
        let unseen = entries.iter().enumerate().skip(start);
        progress.found = unseen.into_iter().find(|(_, entry)| fits(&entry.it)).map(|(at, _)| at);
        progress.scanned = entries.len();
    }
    match progress.found {
        Some(at) => {
            *from = at + 1;
            true
        }
        None => {
            // What follows in the same expectation comes later than this.
            *from = entries.len();
            false
        }
    }
}

/// Look for the tone in the sound that came since the last look, from `from` on, and move `from` behind it.
fn hear(sounds: &[Seen<SeenSound>], from: &mut usize, progress: &mut Progress, wanted: &WantedSound) -> bool {
    let WantedSound { hz, least } = *wanted;
    let start = progress.scanned.max(*from);
    for (at, Seen { it: SeenSound { rate, samples }, .. }) in sounds.iter().enumerate().skip(start) {
        if progress.found.is_none() && progress.tone.finds((samples, *rate), hz, WantedSound::SHARE, least) {
            progress.found = Some(at);
        }
    }
    progress.scanned = sounds.len();
    *from = progress.found.map_or(sounds.len(), |at| at + 1);
    progress.found.is_some()
}

/// A count against the range that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counted {
    TooFew,
    Fits,
    TooMany,
}

/// Count the entries that fit.
fn count<T>(entries: &[Seen<T>], times: Range, progress: &mut Progress, fits: impl Fn(&T) -> bool) -> Counted {
    let unseen = entries.iter().skip(progress.scanned);
    progress.count += unseen.filter(|entry| fits(&entry.it)).count() as u64;
    progress.scanned = entries.len();
    match times.max {
        Some(max) if progress.count > max => Counted::TooMany,
        _ if times.fits(progress.count) => Counted::Fits,
        _ => Counted::TooFew,
    }
}

fn text_fits(wanted: &WantedText, text: &SentText) -> bool {
    wanted.topic.as_ref().is_none_or(|topic| *topic == text.topic)
        && wanted.to.as_ref().is_none_or(|to| text.destinations.contains(to))
        && wanted.attributes.iter().all(|(name, value)| text.attributes.get(name) == Some(value))
        && wanted.text.fits(&text.text)
}

fn request_fits(wanted: &WantedRequest, request: &SeenRequest) -> bool {
    wanted.request.fits(&request.method, &request.url) && wanted.body.fits(&request.body)
}

fn question_fits(wanted: &WantedQuestion, question: &SeenQuestion) -> bool {
    wanted.model.as_ref().is_none_or(|model| glob(model, &question.model))
        && wanted.tool.as_ref().is_none_or(|tool| question.tools.iter().any(|name| glob(tool, name)))
        && wanted.user.fits(&question.user)
        && wanted.body.fits(&question.body)
}

fn answer_fits(wanted: &WantedAnswer, answer: &SeenAnswer) -> bool {
    let method_fits = wanted.method.as_ref().is_none_or(|method| *method == answer.method);
    let answer_fits = match (&wanted.answer, &answer.answer) {
        (Ok(wanted), Ok(payload)) => wanted.fits(payload),
        (Err(wanted), Err((code, _))) => wanted.is_none_or(|wanted| wanted == *code),
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    };
    method_fits && answer_fits
}

fn call_fits(wanted: &WantedCall, call: &SeenCall) -> bool {
    call.name == wanted.name && wanted.json.fits(&call.json)
}

fn end_fits(wanted: &WantedEnd, end: &End) -> bool {
    let code_fits = wanted.codes.is_empty() || wanted.codes.iter().any(|code| code == end.code.as_str());
    code_fits && wanted.detail.fits(&end.detail)
}

/// What was expected against what came since the last expectation.
pub(super) fn difference(
    want: &Want,
    trace: &Trace,
    cursors: &Cursors,
    now: &Now<'_>,
    end: Option<&End>,
) -> Vec<String> {
    let expected = wanted(want);
    match want {
        Want::Text(WantedText { text, .. }) => {
            let texts = trace.texts.get(cursors.texts..).unwrap_or_default();
            match (&text.equals, texts.last()) {
                (Some(equals), Some(last)) if equals.contains('\n') || last.it.text.contains('\n') => {
                    compared_lines(equals, &last.it.text)
                }
                _ => compared(&expected, &texts.iter().map(got_text).collect::<Vec<_>>(), "no text"),
            }
        }
        Want::NoText(wanted) => {
            let texts = trace.texts.get(cursors.texts..).unwrap_or_default().iter();
            let unwanted: Vec<_> = texts.filter(|text| text_fits(wanted, &text.it)).map(got_text).collect();
            compared(&expected, &unwanted, "no text")
        }
        Want::State(_) => {
            let states: Vec<_> = trace.states.get(cursors.states..).unwrap_or_default().iter().map(got).collect();
            let last =
                trace.states.last().map_or_else(|| "no state".to_owned(), |state| format!("still {}", got(state)));
            compared(&expected, &states, &last)
        }
        Want::Attribute { name, .. } => {
            let value = now.attributes.get(name).map(|value| format!("attribute `{name}` {}", shown(value)));
            compared(&expected, &value.into_iter().collect::<Vec<_>>(), &format!("no attribute `{name}`"))
        }
        Want::Call(_) => {
            let calls = trace.calls.get(cursors.calls..).unwrap_or_default().iter().rev();
            let calls = calls.map(|Seen { at, it }| format!("{} {} {}", clock(*at), it.name, shown(&it.json)));
            compared(&expected, &calls.collect::<Vec<_>>(), "no call")
        }
        Want::Http(_) => {
            let requests: Vec<_> =
                trace.requests.get(cursors.requests..).unwrap_or_default().iter().map(got_request).collect();
            compared(&expected, &requests, "no request")
        }
        Want::Sound(WantedSound { hz, .. }) => {
            compared(&expected, &got_sounds(trace.sounds.get(cursors.sounds..).unwrap_or_default(), *hz), "no sound")
        }
        Want::Model(wanted) => {
            // A count is of all.
            let from = if wanted.times.is_some() { 0 } else { cursors.questions };
            let questions: Vec<_> = trace.questions.get(from..).unwrap_or_default().iter().map(got_question).collect();
            compared(&expected, &questions, "no request to the model")
        }
        Want::Answer(_) => {
            let answers: Vec<_> =
                trace.answers.get(cursors.answers..).unwrap_or_default().iter().map(got_answer).collect();
            compared(&expected, &answers, "no answer")
        }
        Want::Fuel(_) => compared(&expected, &[format!("fuel {}", now.fuel)], ""),
        Want::Memory(_) => compared(&expected, &[format!("memory {} bytes", now.memory)], ""),
        Want::End(_) => {
            let ended: Vec<_> = end.map(End::in_words).into_iter().collect();
            compared(&expected, &ended, "the job goes on")
        }
    }
}
