//! From a YAML document to a script. Pure.
//!
//! ```yaml
//! models: [large, small]      # other models do not exist; without this line every model does
//! pace: {first-token: 200ms, tokens-per-second: 40}
//! rules:                      # the first whose `when` holds answers
//!   - when: {user: {contains: weather}, model: "la*", nth: [1, 2]}
//!     answer: {calls: [{name: get_weather, arguments: {city: Paris}}]}
//!   - when: {tool: get_weather}
//!     answer: "{tool} says {result}"
//!   - when: {user: {pattern: "^fail"}}
//!     refuse: {status: 429, retry-after: 2s}
//!   - answer: "You said: {user}"
//!     faults: [crlf, {stop: 3}]
//! ```
//!
//! `when`: everything that is set has to hold.
//!
//! | key | holds |
//! |---|---|
//! | `user` | for the last text of the user: a text is the whole of it; `equals`, `contains` (one or several), `pattern` (a regular expression). It holds only while no results of tools came after that text, unless `tool` is set |
//! | `tool` | when the question ends with a result of such a tool; `*` stands for any characters |
//! | `model` | for such a model; `*` as above |
//! | `nth` | for the first, the second… of the requests for which the rest holds, whichever rule answered them |
//!
//! `answer` is a text, or a mapping:
//!
//! | key | meaning |
//! |---|---|
//! | `text` | the text. `{user}`, `{tool}`, `{result}` and `{model}` stand for facts of the question, of at most 4 KiB each |
//! | `calls` | calls of tools: `name`, `id`, and `arguments`, a mapping (with the same facts in its texts) or any text, also one that is no JSON. Tools that the client does not have are called too |
//! | `first-token`, `tokens-per-second` | the speed; by default that of `pace`, and 40 tokens a second from the begin |
//! | `usage` | `prompt`, `completion`, `cached`; by default words are counted |
//! | `finish` | `stop`, `length`, `tool_calls` or `content_filter`; by default the one that is true |
//!
//! `refuse` is a status from 400 to 599 with the vendor's error for it, or a mapping with `status`, `retry-after`, and either `message`,
//! `type`, `param`, `code` or `body`, `content-type` (text/html).
//!
//! `faults` is one or a list. Numbers count tokens.
//!
//! | fault | effect |
//! |---|---|
//! | `hang`; `hang: 3` | no reply at all; silence after three tokens |
//! | `stop: 3` | the body ends after three tokens, without a reason to finish |
//! | `cut: 3` | the connection breaks |
//! | `error: 3` | an error comes in the stream; a whole answer is an error with status 500 |
//! | `wrong-json: 3` | an event that is no JSON, or a whole answer without its last brace |
//! | `long-line: 1MiB` | the first token has this size, at most 16 MiB |
//! | `slow-loris: 1s` | the bytes of the body come one by one, with this pause |
//! | `empty-choices` | the first event, or the whole answer, has no choices |
//! | `no-usage` | the usage is missing |
//! | `tiny-calls` | arguments come one character at a time |
//! | `no-done` | the stream has no `[DONE]` |
//! | `comments`, `crlf`, `no-space` | lines of the stream as other servers write them |
//!
//! `stop`, `cut` and `hang: 3` of a whole answer come after half of its bytes.

mod answer;
mod faults;

use crate::fields::{Fields, number, text};
use crate::matching::TextMatch;
use crate::plan::Pace;
use crate::script::{PACE, Rule, Script, Then, When};
use crate::tree::{self, Fault, Node, Value};

/// Largest script, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Most rules of a script.
const RULES_MAX: usize = 1_000;
/// Most models of a script.
const MODELS_MAX: usize = 100;
/// Largest number of tokens a second.
const TOKENS_PER_SECOND_MAX: u64 = 1_000_000;

/// The reason why a text is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {why}")]
pub struct ScriptError {
    /// The name of the file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what is wanted.
    pub why: String,
}

impl Script {
    /// Read a script.
    ///
    /// # Errors
    /// At the first fault of the file.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScriptError> {
        let error = |(line, why)| ScriptError { file: file.to_owned(), line, why };
        if text.len() > FILE_BYTES_MAX {
            return Err(error((1, format!("the file has {} bytes, at most {FILE_BYTES_MAX} are allowed", text.len()))));
        }
        document(text).map_err(error)
    }

    /// Read a script that is a part of another document, such as a scenario.
    ///
    /// # Errors
    /// At the first fault.
    pub fn read(node: &Node) -> Result<Self, Fault> {
        script(node)
    }
}

/// Read a file, which is one document.
fn document(text: &str) -> Result<Script, Fault> {
    match tree::read(text)?.as_slice() {
        [] => Err((1, "the file is empty; want `rules:`".into())),
        [document] => script(document),
        [_, second, ..] => Err((second.line, "want one document, and here a second begins".into())),
    }
}

fn script(node: &Node) -> Result<Script, Fault> {
    let mut fields = Fields::new(node, "a script")?;
    let (models, pace) = (fields.items("models"), fields.take("pace").map(pace).transpose()?.unwrap_or(PACE));
    let list = fields.need("rules")?;
    fields.end()?;
    if models.len() > MODELS_MAX {
        return Err((node.line, format!("{} models, at most {MODELS_MAX} are allowed", models.len())));
    }
    let models = models.iter().map(|model| text(model).map(str::to_owned)).collect::<Result<_, _>>()?;
    let Value::List(rules) = &list.value else {
        return Err((list.line, format!("want a list of rules, got {}", list.value.kind())));
    };
    if rules.is_empty() || rules.len() > RULES_MAX {
        return Err((list.line, format!("want 1 to {RULES_MAX} rules, got {}", rules.len())));
    }
    let rules = rules.iter().map(|node| rule(node, pace)).collect::<Result<Vec<_>, _>>()?;
    check_reach(&rules)?;
    Ok(Script { models, rules })
}

/// Every rule can be used.
fn check_reach(rules: &[Rule]) -> Result<(), Fault> {
    let last = rules.iter().position(|rule| rule.when.is_any());
    match last.and_then(|last| Some((rules.get(last)?, rules.get(last + 1)?))) {
        Some((any, next)) => {
            Err((next.line, format!("no request gets here, because the rule in line {} fits every request", any.line)))
        }
        None => Ok(()),
    }
}

impl When {
    const fn is_any(&self) -> bool {
        self.user.is_none() && self.tool.is_none() && self.model.is_none() && self.nth.is_empty()
    }
}

fn rule(node: &Node, pace: Pace) -> Result<Rule, Fault> {
    let mut fields = Fields::new(node, "a rule")?;
    let when = fields.take("when").map(when).transpose()?.unwrap_or_default();
    let (answer, refuse, faults) = (fields.take("answer"), fields.take("refuse"), fields.take("faults"));
    fields.end()?;
    let read = faults.map(faults::read).transpose()?.unwrap_or_default();
    let then = match (answer, refuse) {
        (Some(_), Some(refuse)) => return Err((refuse.line, "a rule has `answer:` or `refuse:`".into())),
        (Some(answer), None) => Then::Answer(answer::read(answer, pace)?),
        (None, Some(refuse)) => Then::Refuse(answer::refusal(refuse)?),
        (None, None) if faults.is_some() => Then::Answer(answer::without_text(pace)),
        (None, None) => return Err((node.line, "a rule needs `answer:`, `refuse:` or `faults:`".into())),
    };
    if let (Then::Refuse(_), Some(faults)) = (&then, faults) {
        return Err((faults.line, "a rule with `refuse:` has no `faults:`".into()));
    }
    Ok(Rule { line: node.line, when, then, faults: read })
}

fn when(node: &Node) -> Result<When, Fault> {
    let mut fields = Fields::new(node, "`when`")?;
    let when = When {
        user: fields.take("user").map(TextMatch::read).transpose()?,
        tool: fields.text("tool")?,
        model: fields.text("model")?,
        nth: fields.items("nth").iter().map(|item| number(item, 1..=u64::MAX)).collect::<Result<_, _>>()?,
    };
    fields.end()?;
    Ok(when)
}

fn pace(node: &Node) -> Result<Pace, Fault> {
    let mut fields = Fields::new(node, "`pace`")?;
    let pace = take_pace(&mut fields, PACE)?;
    fields.end()?;
    Ok(pace)
}

/// The keys that say the speed of an answer.
fn take_pace(fields: &mut Fields<'_>, default: Pace) -> Result<Pace, Fault> {
    Ok(Pace {
        first_token: fields.duration("first-token")?.unwrap_or(default.first_token),
        tokens_per_second: fields
            .number("tokens-per-second", 1..=TOKENS_PER_SECOND_MAX)?
            .unwrap_or(default.tokens_per_second),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = r#"models: [large, small]
pace: {first-token: 200ms, tokens-per-second: 20}
rules:
  - when: {user: {contains: [a, b], pattern: "^a"}, tool: x, model: "la*", nth: [1, 3]}
    answer:
      text: hello
      calls: [{name: t, id: c1, arguments: {a: 1, b: [true]}}, {name: u, arguments: "{"}, {name: v}]
      usage: {prompt: 3, completion: 4, cached: 1}
      finish: length
  - when: {user: x}
    refuse: {status: 502, body: <html>, content-type: text/html, retry-after: 1500ms}
  - when: {nth: 2}
    refuse: 429
  - faults: [crlf, comments, no-space, no-done, empty-choices, tiny-calls, no-usage, {cut: 3}, {wrong-json: 2}, {long-line: 10KiB}, {slow-loris: 10ms}]
"#;

    fn fault(text: &str) -> (usize, String) {
        document(text).unwrap_err()
    }

    #[test]
    fn a_whole_script_is_read() {
        let script = document(GOOD).unwrap();
        assert_eq!((script.models.len(), script.rules.len()), (2, 4));
        let lines: Vec<usize> = script.rules.iter().map(|rule| rule.line).collect();
        assert_eq!(lines, [4, 10, 12, 14]);
        let faults = &script.rules[3].faults;
        assert_eq!((faults.oddities.len(), faults.wrong_json, faults.long_line), (7, Some(2), Some(10 << 10)));
    }

    #[test]
    fn faults_of_a_script_name_line_and_advice() {
        assert_eq!(fault(""), (1, "the file is empty; want `rules:`".into()));
        assert_eq!(fault("rules: []").1, "want 1 to 1000 rules, got 0");
        assert_eq!(fault("rules: x").1, "want a list of rules, got a text");
        assert_eq!(fault("model: x").1, "a script needs `rules:`");
        assert_eq!(fault("rules:\n - answer: a\n---\nrules:\n").0, 4);
        let rules = |rules: &str| fault(&format!("rules:\n{rules}"));
        assert_eq!(rules("  - when: {user: a}\n"), (2, "a rule needs `answer:`, `refuse:` or `faults:`".into()));
        assert_eq!(
            rules("  - answr: x\n").1,
            "`answr` is unknown for a rule; did you mean `answer`?; known are when, answer, refuse, faults"
        );
        assert!(rules("  - when: {usr: x}\n    answer: a\n").1.contains("did you mean `user`?"));
        let unreached = "no request gets here, because the rule in line 2 fits every request";
        assert_eq!(rules("  - answer: a\n  - answer: b\n"), (3, unreached.into()));
        assert_eq!(rules("  - answer: a\n    refuse: 500\n"), (3, "a rule has `answer:` or `refuse:`".into()));
        assert_eq!(rules("  - refuse: 500\n    faults: crlf\n").1, "a rule with `refuse:` has no `faults:`");
        assert_eq!(rules("  - refuse: 200\n").1, "want a whole number from 400 to 599, got `200`");
        assert_eq!(rules("  - refuse: {status: 500, body: x, message: y}\n").1, "a refusal has `body:` or a message");
        assert_eq!(rules("  - answer: {}\n").1, "an answer needs `text:` or `calls:`");
        assert!(rules("  - answer: {text: a, finish: stopp}\n").1.contains("did you mean `stop`?"));
        assert!(rules("  - answer: {calls: [{arguments: {}}]}\n").1.contains("a call needs `name:`"));
        assert!(rules("  - answer: {text: a, tokens-per-second: 0}\n").1.contains("from 1 to 1000000"));
        assert!(rules("  - answer: {text: a, first-token: 5}\n").1.contains("want a time above zero with its unit"));
        assert!(rules("  - faults: hung\n").1.contains("did you mean `hang`?"));
        assert_eq!(rules("  - faults: [{cut: 1}, {stop: 1}]\n").1, "an answer is interrupted once");
        assert_eq!(rules("  - faults: [{cut: 1}, hang]\n").1, "an answer is interrupted once");
        assert_eq!(rules("  - faults: cut\n").1, "`cut` needs a number, such as `cut: 3`");
        assert_eq!(rules("  - faults: {crlf: 3}\n").1, "`crlf` has no value");
        assert!(rules("  - faults: {long-line: 1GiB}\n").1.contains("at most 16 MiB"));
        assert!(rules("  - when: {user: {pattern: \"(\"}}\n    answer: a\n").1.contains("is no regular expression"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_script_or_a_fault(any in ".{0,200}", at in 0..900_usize, with in any::<char>()) {
            drop(document(&any));
            // One character of a good script is another.
            let changed: String = GOOD.chars().enumerate().map(|(n, old)| if n == at { with } else { old }).collect();
            if let Err((line, why)) = document(&changed) {
                prop_assert!(line > 0 && !why.is_empty(), "{line}: {why}");
            }
        }
    }
}
