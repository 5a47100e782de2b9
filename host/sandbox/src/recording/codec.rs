//! How records are written as bytes, and read back. Pure.
//!
//! ```text
//! record  tag (1 byte), length of the body (LEB128), body
//! head    JSON: which job of which agent, on which machine, under which limits
//! start   postcard: what `decide` was given and answered, and the time of the launch
//! step    postcard: time, events, answers of `get-budget`, calls, wishes, fuel, CPU, and how it ended
//! outline the same with the names and sizes of events and calls alone
//! end     JSON: the verdict and the usage; or why the recording ends before its job
//! ```
//!
//! Bounds: a body has [`RECORD_BYTES_MAX`] bytes, a step [`EVENTS_MAX`] events and [`CALLS_MAX`] calls.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::format::RECORD_BYTES_MAX;
use super::record::{End, Head, Inside, Item, Record, Start, Step, StepFacts};
use crate::guest::bindings::wasm_worker::agent::events::Event;
use crate::guest::calls::Call;
use crate::guest::events::{id_of, name_of};

/// Most events of a step that are read. A step is given fewer.
const EVENTS_MAX: usize = 256;
/// Most calls of a step that are read. A step makes fewer.
const CALLS_MAX: usize = 8_192;

const HEAD: u8 = 1;
/// The tag of the start.
pub(crate) const START: u8 = 2;
const STEP: u8 = 3;
const OUTLINE: u8 = 4;
/// The tag of the end.
pub(crate) const END: u8 = 5;

/// A step as it is written: nothing is copied before.
pub(crate) struct StepToWrite<'a> {
    pub(crate) number: u32,
    pub(crate) at: u64,
    pub(crate) events: &'a [Event],
    pub(crate) calls: &'a [Call],
    pub(crate) facts: &'a StepFacts,
}

/// Writes records. It keeps the memory of one body.
#[derive(Default)]
pub(crate) struct Encoder {
    body: Vec<u8>,
}

impl Encoder {
    /// Add the head to `out`.
    pub(crate) fn head(&mut self, out: &mut Vec<u8>, head: &Head) -> bool {
        self.json(out, HEAD, head)
    }

    /// Add the start.
    pub(crate) fn start(&mut self, out: &mut Vec<u8>, start: &Start) -> bool {
        self.body.clear();
        self.put(start) && self.finish(out, START)
    }

    /// Add the end.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>, end: &End) -> bool {
        self.json(out, END, end)
    }

    /// Add a step with its contents. False where it is too large.
    pub(crate) fn step(&mut self, out: &mut Vec<u8>, step: &StepToWrite<'_>) -> bool {
        self.body.clear();
        let events = |encoder: &mut Self| step.events.iter().all(|event| encoder.put(event));
        let calls = |encoder: &mut Self| step.calls.iter().all(|call| encoder.put(call));
        self.put(&(step.number, step.at, step.events.len()))
            && events(self)
            && self.put(&step.calls.len())
            && calls(self)
            && self.put(step.facts)
            && self.finish(out, STEP)
    }

    /// Add a step without contents.
    pub(crate) fn outline(&mut self, out: &mut Vec<u8>, step: &StepToWrite<'_>) -> bool {
        let events: Vec<Item> = step.events.iter().map(|event| self.event_item(event)).collect();
        let calls: Vec<Item> = step.calls.iter().map(|call| self.call_item(call)).collect();
        self.body.clear();
        self.put(&(step.number, step.at, events, calls, step.facts)) && self.finish(out, OUTLINE)
    }

    fn event_item(&mut self, event: &Event) -> Item {
        Item { name: name_of(event).to_owned(), id: id_of(event), bytes: self.size(event) }
    }

    fn call_item(&mut self, call: &Call) -> Item {
        Item { name: call.name().to_owned(), id: call.new_id().unwrap_or(0), bytes: self.size(call) }
    }

    /// Bytes of a value as it would be written.
    fn size(&mut self, value: &impl Serialize) -> u32 {
        self.body.clear();
        self.put(value);
        u32::try_from(self.body.len()).unwrap_or(u32::MAX)
    }

    /// Add a value to the body.
    fn put(&mut self, value: &(impl Serialize + ?Sized)) -> bool {
        // The memory comes back with the bytes. A type of ours that postcard cannot write would fail each test.
        match postcard::to_extend(value, std::mem::take(&mut self.body)) {
            Ok(body) => self.body = body,
            Err(_) => return false,
        }
        self.body.len() <= RECORD_BYTES_MAX
    }

    fn json(&mut self, out: &mut Vec<u8>, tag: u8, value: &impl Serialize) -> bool {
        self.body.clear();
        serde_json::to_writer(&mut self.body, value).is_ok() && self.finish(out, tag)
    }

    fn finish(&mut self, out: &mut Vec<u8>, tag: u8) -> bool {
        if self.body.len() > RECORD_BYTES_MAX {
            return false;
        }
        out.push(tag);
        let mut length = self.body.len();
        while length >= 0x80 {
            let [low, ..] = length.to_le_bytes();
            out.push(low | 0x80);
            length >>= 7;
        }
        let [low, ..] = length.to_le_bytes();
        out.push(low);
        out.extend_from_slice(&self.body);
        true
    }
}

/// The first record of these bytes as bytes, and the rest. `None` where the bytes end within it, or its length is none.
pub(crate) fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, body, end) = parts(bytes)?;
    debug_assert!(body <= end);
    bytes.split_at_checked(end)
}

/// Tag of the first record, and the beginning and the end of its body.
fn parts(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let tag = *bytes.first()?;
    let (mut length, mut at) = (0_usize, 1);
    loop {
        let byte = *bytes.get(at)?;
        if at > 5 {
            return None;
        }
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let end = at + length;
    (length <= RECORD_BYTES_MAX && end <= bytes.len()).then_some((tag, at, end))
}

/// Read the first record, and return the rest. The error says what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Record, &[u8]), String> {
    let (tag, begin, end) = parts(bytes).ok_or("a record ends beyond its chunk")?;
    let (body, rest) = (bytes.get(begin..end).unwrap_or_default(), bytes.get(end..).unwrap_or_default());
    let record = match tag {
        HEAD => Record::Head(Box::new(serde_json::from_slice(body).map_err(|error| wrong("head", &error))?)),
        START => Record::Start(Box::new(whole("start", body)?)),
        STEP => Record::Step(Box::new(step(body)?)),
        OUTLINE => {
            let (number, at, events, calls, facts) = whole("step", body)?;
            Record::Step(Box::new(Step { number, at, inside: Inside::Outline { events, calls }, facts }))
        }
        END => Record::End(Box::new(serde_json::from_slice(body).map_err(|error| wrong("end", &error))?)),
        tag => return Err(format!("a record has the unknown tag {tag}")),
    };
    Ok((record, rest))
}

fn step(body: &[u8]) -> Result<Step, String> {
    let mut rest = body;
    let (number, at, count): (u32, u64, usize) = take("step", &mut rest)?;
    let events = many("event", count, EVENTS_MAX, &mut rest)?;
    let count = take("step", &mut rest)?;
    let calls = many("call", count, CALLS_MAX, &mut rest)?;
    Ok(Step { number, at, inside: Inside::Whole { events, calls }, facts: whole("step", rest)? })
}

/// A list of a bounded length. A length alone makes nothing be allocated.
fn many<T: DeserializeOwned>(what: &str, count: usize, max: usize, rest: &mut &[u8]) -> Result<Vec<T>, String> {
    if count > max {
        return Err(format!("a step has {count} {what}s; at most {max} are read"));
    }
    (0..count).map(|_| take(what, rest)).collect()
}

fn take<T: DeserializeOwned>(what: &str, rest: &mut &[u8]) -> Result<T, String> {
    let (value, left) = postcard::take_from_bytes(rest).map_err(|error| wrong(what, &error))?;
    *rest = left;
    Ok(value)
}

fn whole<T: DeserializeOwned>(what: &str, body: &[u8]) -> Result<T, String> {
    let mut rest = body;
    let value = take(what, &mut rest)?;
    if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes follow a record ({what})", rest.len())) }
}

fn wrong(what: &str, error: &impl Display) -> String {
    format!("a record ({what}) cannot be read: {error}")
}

/// Whether two calls are the same, bit by bit: a number that is none is the same as itself.
pub(crate) fn is_same(one: &Call, other: &Call) -> bool {
    one == other || postcard::to_allocvec(one).ok() == postcard::to_allocvec(other).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::record::StepEnd;
    use super::*;
    use crate::guest::bindings::wasm_worker::agent::events::{Completion, LimitWarning};
    use crate::guest::bindings::wasm_worker::agent::job::Budget;

    /// A step with an event, a call, and an answer.
    pub(crate) fn example(number: u32) -> Step {
        let gauge = crate::guest::bindings::wasm_worker::agent::job::Gauge { used: 1.0, limit: None };
        Step {
            number,
            at: u64::from(number) * 1_024,
            inside: Inside::Whole {
                events: vec![Event::Done(Completion { id: number, value: "é".into() }), Event::TasksWanted],
                calls: vec![Call::WriteText { id: number, text: "hello".into() }],
            },
            facts: StepFacts {
                budgets: vec![Budget { fuel: gauge, memory_bytes: gauge, time_ms: gauge, cpu_ms: 0.5 }],
                wake: Some(Some(5)),
                finish: None,
                fuel: 1_000 + u64::from(number),
                cpu_us: 3,
                end: StepEnd::Returned,
            },
        }
    }

    /// The bytes of a step.
    pub(crate) fn written(step: &Step) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::default(), Vec::new());
        let Inside::Whole { events, calls } = &step.inside else { panic!("{step:?}") };
        let step = StepToWrite { number: step.number, at: step.at, events, calls, facts: &step.facts };
        assert!(encoder.step(&mut out, &step));
        out
    }

    #[test]
    fn a_step_is_read_back_and_its_outline_has_no_content() {
        let bytes = [written(&example(1)), written(&example(2))].concat();
        let (first, rest) = decode(&bytes).unwrap();
        assert_eq!(first, Record::Step(Box::new(example(1))));
        assert_eq!(split_first(&bytes).unwrap().1, rest);
        assert_eq!(decode(rest).unwrap(), (Record::Step(Box::new(example(2))), [].as_slice()));

        let step = example(7);
        let Inside::Whole { events, calls } = &step.inside else { panic!() };
        let mut out = Vec::new();
        let step = StepToWrite { number: 7, at: step.at, events, calls, facts: &step.facts };
        assert!(Encoder::default().outline(&mut out, &step));
        let (Record::Step(read), _) = decode(&out).unwrap() else { panic!() };
        let Inside::Outline { events, calls } = read.inside else { panic!() };
        let names: Vec<_> = events.iter().chain(&calls).map(|item| (&*item.name, item.id, item.bytes)).collect();
        assert_eq!(names, [("done", 7, 5), ("tasks-wanted", 0, 1), ("write-text", 0, 8)]);
        assert!(!String::from_utf8_lossy(&out).contains("hello"));
    }

    #[test]
    fn lengths_and_counts_that_nobody_writes_are_refused() {
        for (bytes, why) in [
            (vec![], "ends beyond its chunk"),
            (vec![STEP, 0x85], "ends beyond its chunk"),
            (vec![STEP, 200, 1, 0], "ends beyond its chunk"),
            (vec![STEP, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "ends beyond its chunk"),
            (vec![9, 0], "unknown tag 9"),
            (vec![STEP, 1, 0], "a record (step) cannot be read"),
            (vec![STEP, 4, 0, 0, 0xff, 3], "a step has 511 events; at most 256 are read"),
            (vec![END, 2, b'{', b'!'], "a record (end) cannot be read"),
        ] {
            let error = decode(&bytes).unwrap_err();
            assert!(error.contains(why), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn a_warning_and_nan_are_the_same_as_themselves() {
        let event = Event::LimitWarning(LimitWarning { budget: "fuel".into(), used: f64::NAN, limit: 1.0 });
        let mut encoder = Encoder::default();
        assert_eq!(encoder.event_item(&event).name, "limit-warning");
        let call = Call::EndSpan { id: 1, at_ms: f64::NAN, error: None };
        assert!(call != call.clone() && is_same(&call, &call.clone()));
        assert!(!is_same(&call, &Call::EndSpan { id: 1, at_ms: 1.0, error: None }));
    }
}
