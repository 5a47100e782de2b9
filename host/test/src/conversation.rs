//! A conversation, step by step.

use std::fmt::Write;
use std::time::Duration;

use crate::agent::{Agent, Played};

/// A text that is wanted.
#[derive(Clone, Debug)]
pub struct Text {
    /// The keys of the text in a scenario.
    keys: Vec<(&'static str, String)>,
}

/// A text that is equal to this one.
#[must_use]
pub fn equals(text: &str) -> Text {
    Text { keys: vec![("equals", quoted(text))] }
}

/// A text that contains this one.
#[must_use]
pub fn contains(text: &str) -> Text {
    Text { keys: vec![("contains", quoted(text))] }
}

/// A text that matches this regular expression.
#[must_use]
pub fn matches(pattern: &str) -> Text {
    Text { keys: vec![("pattern", quoted(pattern))] }
}

impl Text {
    /// The same on this topic.
    #[must_use]
    pub fn on(mut self, topic: &str) -> Self {
        self.keys.push(("topic", quoted(topic)));
        self
    }

    fn mapping(&self) -> String {
        let keys = self.keys.iter().map(|(key, value)| format!("{key}: {value}"));
        format!("{{{}}}", keys.collect::<Vec<_>>().join(", "))
    }
}

/// A conversation with an agent.
///
/// ```
/// use std::time::Duration;
/// use wasm_worker_test::{Conversation, equals};
///
/// let conversation = Conversation::new()
///     .join("ann")
///     .advance(Duration::from_secs(600))
///     .expect_text(equals("are you still there?").on("lk.chat"))
///     .expect_fuel_at_most(10_000_000);
/// println!("{}", conversation.scenario());
/// ```
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Keys of the scenario besides its steps.
    head: Vec<String>,
    steps: Vec<String>,
}

impl Default for Conversation {
    fn default() -> Self {
        Self::new()
    }
}

impl Conversation {
    /// A conversation in which nothing happens yet, with seed 1.
    #[must_use]
    pub fn new() -> Self {
        Self { head: vec!["seed: 1".into()], steps: Vec::new() }
    }

    /// Use another seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        if let Some(first) = self.head.first_mut() {
            *first = format!("seed: {seed}");
        }
        self
    }

    /// The metadata of the job.
    #[must_use]
    pub fn metadata(mut self, metadata: &str) -> Self {
        self.head.push(format!("metadata: {}", quoted(metadata)));
        self
    }

    /// The script of the model: the name of its file, or the script as YAML on one line: `{rules: [{answer: hi}]}`.
    #[must_use]
    pub fn model(mut self, script: &str) -> Self {
        self.head.push(format!("model: {script}"));
        self
    }

    /// A participant joins the room.
    #[must_use]
    pub fn join(self, identity: &str) -> Self {
        self.step(&format!("join: {}", quoted(identity)))
    }

    /// A participant writes a text.
    #[must_use]
    pub fn say(self, from: &str, text: &str) -> Self {
        self.step(&format!("say: {{from: {}, text: {}}}", quoted(from), quoted(text)))
    }

    /// A participant calls a method of the agent.
    #[must_use]
    pub fn call(self, from: &str, method: &str, payload: &str) -> Self {
        let [from, method, payload] = [from, method, payload].map(quoted);
        self.step(&format!("call: {{from: {from}, method: {method}, payload: {payload}}}"))
    }

    /// A participant leaves the room.
    #[must_use]
    pub fn leave(self, identity: &str) -> Self {
        self.step(&format!("leave: {}", quoted(identity)))
    }

    /// Requests that match, such as `POST https://api.example/*`, are answered from now on.
    #[must_use]
    pub fn http(self, request: &str, status: u16, body: &str) -> Self {
        self.step(&format!("http: {{match: {}, status: {status}, body: {}}}", quoted(request), quoted(body)))
    }

    /// Virtual time passes.
    #[must_use]
    pub fn advance(self, time: Duration) -> Self {
        self.step(&format!("advance: {}", millis(time)))
    }

    /// The dispatcher asks the job to stop.
    #[must_use]
    pub fn stop(self, reason: &str) -> Self {
        self.step(&format!("stop: {}", quoted(reason)))
    }

    /// Any step of a scenario, as YAML on one line: `fault: kill`.
    #[must_use]
    pub fn step(mut self, yaml: &str) -> Self {
        self.steps.push(yaml.to_owned());
        self
    }

    /// The agent sends a text, after those that were expected before, within 10 s.
    #[must_use]
    pub fn expect_text(self, text: Text) -> Self {
        self.step(&format!("expect: {{text: {}}}", text.mapping()))
    }

    /// The same within another time.
    #[must_use]
    pub fn expect_text_within(self, text: Text, time: Duration) -> Self {
        self.step(&format!("expect: {{text: {}, within: {}}}", text.mapping(), millis(time)))
    }

    /// The agent sends no such text for this time.
    #[must_use]
    pub fn expect_no_text(self, text: Text, time: Duration) -> Self {
        self.step(&format!("expect: {{no-text: {}, within: {}}}", text.mapping(), millis(time)))
    }

    /// The agent shows this state: `listening`, `thinking`, `speaking`, `idle` or `initializing`.
    #[must_use]
    pub fn expect_state(self, state: &str) -> Self {
        self.step(&format!("expect: {{state: {}}}", quoted(state)))
    }

    /// An attribute of the agent has this value.
    #[must_use]
    pub fn expect_attribute(self, name: &str, value: &str) -> Self {
        self.step(&format!("expect: {{attributes: {{{}: {}}}}}", quoted(name), quoted(value)))
    }

    /// The agent answers a call.
    #[must_use]
    pub fn expect_answer(self, method: &str, payload: Text) -> Self {
        self.step(&format!("expect: {{answer: {{method: {}, payload: {}}}}}", quoted(method), payload.mapping()))
    }

    /// The job has used at most this fuel so far.
    #[must_use]
    pub fn expect_fuel_at_most(self, fuel: u64) -> Self {
        self.step(&format!("expect: {{fuel: {{max: {fuel}}}}}"))
    }

    /// The job ends with this code, such as `completed`.
    #[must_use]
    pub fn expect_end(self, code: &str) -> Self {
        self.step(&format!("expect: {{end: {}}}", quoted(code)))
    }

    /// The conversation as a scenario, for a file.
    #[must_use]
    pub fn scenario(&self) -> String {
        let mut text = self.head.iter().map(|line| format!("{line}\n")).collect::<String>();
        text.push_str("steps:\n");
        for step in &self.steps {
            // A write to a text cannot fail.
            writeln!(text, "  - {step}").ok();
        }
        text
    }

    /// Play the conversation.
    #[must_use]
    pub fn play(&self, agent: &Agent) -> Played {
        agent.play(vec!["-".into()], &self.scenario())
    }

    /// Play the conversation, which has to pass.
    ///
    /// # Panics
    /// Where an expectation does not hold, with what was expected and what was got.
    #[track_caller]
    pub fn passes(&self, agent: &Agent) {
        let mut played = self.play(agent);
        if !played.passed {
            // The lines of the output are those of this text.
            let numbered = self.scenario();
            let lines = numbered.lines().enumerate().map(|(at, line)| format!("{:>4} {line}\n", at + 1));
            played.output.push_str(&format!("\n{}", lines.collect::<String>()));
        }
        played.or_panic();
    }
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis().max(1))
}

/// A text as YAML writes it in double quotes, on one line.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                // A write to a text cannot fail.
                write!(quoted, "\\u{:04x}", u32::from(c)).ok();
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_a_scenario() {
        let conversation = Conversation::new()
            .seed(7)
            .metadata("{\"a\": 1}")
            .model("{rules: [{answer: hi}]}")
            .join("ann")
            .say("ann", "two\nlines\u{1b}")
            .expect_text(contains("x").on("t"))
            .advance(Duration::from_secs(60))
            .step("fault: kill");
        let expected = "seed: 7\nmetadata: \"{\\\"a\\\": 1}\"\nmodel: {rules: [{answer: hi}]}\nsteps:\n  - join: \"ann\"\n  \
            - say: {from: \"ann\", text: \"two\\nlines\\u001b\"}\n  - expect: {text: {contains: \"x\", topic: \"t\"}}\n  \
            - advance: 60000ms\n  - fault: kill\n";
        assert_eq!(conversation.scenario(), expected);
    }
}
