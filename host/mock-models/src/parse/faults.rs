//! `faults:` of a rule.

use crate::fields::{items, number, text, time, unknown};
use crate::plan::{Interruption, Oddity, TOKENS_MAX};
use crate::script::{Faults, Silence};
use crate::tree::{Fault, Node, Value};

/// Longest line, in bytes.
const LONG_LINE_BYTES_MAX: u64 = 16 << 20;
const ODDITIES: [(&str, Oddity); 7] = [
    ("crlf", Oddity::Crlf),
    ("comments", Oddity::Comments),
    ("no-space", Oddity::NoSpace),
    ("no-done", Oddity::NoDone),
    ("empty-choices", Oddity::EmptyChoices),
    ("tiny-calls", Oddity::TinyCalls),
    ("no-usage", Oddity::NoUsage),
];
const INTERRUPTIONS: [(&str, Interruption); 4] = [
    ("hang", Interruption::Hang),
    ("stop", Interruption::Stop),
    ("cut", Interruption::Cut),
    ("error", Interruption::Error),
];
/// Those with a value that are no interruptions, with an example.
const OTHERS: [(&str, &str); 3] = [
    ("wrong-json", "a number, such as `wrong-json: 3`"),
    ("long-line", "a size, such as `long-line: 1MiB`"),
    ("slow-loris", "a time, such as `slow-loris: 1s`"),
];

pub(super) fn read(node: &Node) -> Result<Faults, Fault> {
    let mut faults = Faults::default();
    for item in items(node) {
        match &item.value {
            Value::Map(pairs) => {
                pairs.iter().try_for_each(|(name, line, value)| valued(name, *line, value, &mut faults))?
            }
            _ => alone(text(item)?, item.line, &mut faults)?,
        }
    }
    Ok(faults)
}

/// A fault without a value.
fn alone(name: &str, line: usize, faults: &mut Faults) -> Result<(), Fault> {
    if let Some(oddity) = find(&ODDITIES, name) {
        faults.oddities.push(oddity);
        return Ok(());
    }
    match find(&INTERRUPTIONS, name) {
        Some(Interruption::Hang) if faults.interruption.is_some() => Err(twice(line)),
        Some(Interruption::Hang) => {
            faults.silence = Some(Silence);
            Ok(())
        }
        Some(_) => Err((line, format!("`{name}` needs a number, such as `{name}: 3`"))),
        None => match find(&OTHERS, name) {
            Some(wanted) => Err((line, format!("`{name}` needs {wanted}"))),
            None => Err((line, no_fault(name))),
        },
    }
}

/// A fault with a value.
fn valued(name: &str, line: usize, value: &Node, faults: &mut Faults) -> Result<(), Fault> {
    if let Some(interruption) = find(&INTERRUPTIONS, name) {
        if faults.interruption.is_some() || faults.silence.is_some() {
            return Err(twice(line));
        }
        faults.interruption = Some((interruption, number(value, 0..=TOKENS_MAX)?));
        return Ok(());
    }
    match name {
        "wrong-json" => faults.wrong_json = Some(number(value, 0..=TOKENS_MAX)?),
        "long-line" => faults.long_line = Some(size(value)?),
        "slow-loris" => faults.byte_every = Some(time(value)?),
        _ if find(&ODDITIES, name).is_some() => return Err((line, format!("`{name}` has no value"))),
        _ => return Err((line, no_fault(name))),
    }
    Ok(())
}

fn find<T: Copy>(known: &[(&str, T)], name: &str) -> Option<T> {
    known.iter().find(|(known, _)| *known == name).map(|(_, found)| *found)
}

fn twice(line: usize) -> Fault {
    (line, "an answer is interrupted once".into())
}

fn no_fault(name: &str) -> String {
    let oddities = ODDITIES.iter().map(|(name, _)| *name);
    let interruptions = INTERRUPTIONS.iter().map(|(name, _)| *name);
    let known: Vec<&str> = oddities.chain(interruptions).chain(OTHERS.iter().map(|(name, _)| *name)).collect();
    unknown(name, "`faults`", &known)
}

/// A number of bytes, such as `64KiB`.
fn size(node: &Node) -> Result<usize, Fault> {
    let text = text(node)?;
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let unit = match unit.trim() {
        "" | "B" => Some(1),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let bytes = digits.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit));
    let bytes = bytes.ok_or_else(|| (node.line, format!("want a size such as 64KiB, got `{text}`")))?;
    if bytes > LONG_LINE_BYTES_MAX {
        return Err((node.line, format!("a line has at most 16 MiB, got `{text}`")));
    }
    usize::try_from(bytes).map_err(|error| (node.line, error.to_string()))
}
