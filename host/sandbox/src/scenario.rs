//! Scenarios: scripted conversations with an agent, under virtual time and a seed.
//!
//! A scenario is a YAML document. Its steps are carried out in order: people join, speak and leave, servers answer, time passes,
//! faults happen, and each `expect` waits until it holds or its time is over.
//!
//! ```text
//! matching  URLs and amounts as a scenario wants them
//! script    the steps of a scenario as data
//! parse     tree → script, with every check that needs no agent
//! trace     what the agent did so far
//! failure   an expectation that did not hold, in words
//! check     whether an expectation holds
//! play      the position in a script
//! from_recording  a recorded job as a scenario
//! ```
//!
//! Not here: the room and the servers of a scenario, which are a world of the job; YAML and the texts that are wanted, which the
//! scripts of the stand-in for models have too (`wasm_worker_mock_models`).
//!
//! Bounds: [`FILE_BYTES_MAX`] for a file, and the bounds of `wasm_worker_mock_models::tree` and of `play`.

pub(crate) mod matching;

pub(crate) mod script;
mod parse;

pub(crate) mod trace;
mod failure;
pub(crate) mod check;
pub(crate) mod play;

mod from_recording;

use std::sync::Arc;
use std::time::Duration;

pub use failure::Failure;
pub use from_recording::{FromRecordingError, from_recording};
use play::{Play, SharedPlay};
use wasm_worker_core::job::{JobInfo, JobKind, RoomInfo};
use wasm_worker_core::record::JobRecord;
use wasm_worker_core::refusal::Refusal;
use wasm_worker_core::room::people::Participant;
use wasm_worker_mock_models::script::Script as ModelScript;
use wasm_worker_mock_models::tree;

use crate::settings::Limits;
use script::Script;

/// Largest file of scenarios, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;

/// The base URL of the model of a scenario. Under `run` the same setting is the URL of the stand-in that runs.
pub const MODEL_URL: &str = "http://mock-models.internal/v1";
/// The host of [`MODEL_URL`].
pub(crate) const MODEL_HOST: &str = "mock-models.internal";

/// Reads a file by its name as a scenario has it, up to so many bytes and one more, or tells why it cannot be read.
pub type ReadFile<'a> = &'a mut dyn FnMut(&str, usize) -> Result<Vec<u8>, String>;

/// The reason why a text is no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {why}")]
pub struct ScenarioError {
    /// The name of the file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what is wanted.
    pub why: String,
}

/// One scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name: that of the file, and of the scenario where it has one.
    pub name: String,
    /// The file.
    pub file: String,
    script: Arc<Script>,
}

impl Scenario {
    /// Read the scenarios of a file: one for each document. `read` reads the files that they name.
    ///
    /// # Errors
    /// At the first fault of the file, and of those.
    pub fn parse(file: &str, text: &str, read: ReadFile<'_>) -> Result<Vec<Self>, ScenarioError> {
        let error = |(line, why): (usize, String)| ScenarioError { file: file.to_owned(), line, why };
        if text.len() > FILE_BYTES_MAX {
            return Err(error((1, format!("the file has {} bytes, at most {FILE_BYTES_MAX} are allowed", text.len()))));
        }
        let documents = tree::read(text).map_err(error)?;
        if documents.is_empty() {
            return Err(error((1, "the file is empty; want `seed:` and `steps:`".into())));
        }
        let several = documents.len() > 1;
        let scripts = documents.iter().map(|document| parse::script(document, &mut *read));
        let scripts = scripts.collect::<Result<Vec<_>, _>>().map_err(error)?;
        let named = scripts.into_iter().enumerate().map(|(at, script)| {
            let name = match (&script.name, several) {
                (Some(name), _) => format!("{file}: {name}"),
                (None, true) => format!("{file}#{}", at + 1),
                (None, false) => file.to_owned(),
            };
            Self { name, file: file.to_owned(), script: Arc::new(script) }
        });
        Ok(named.collect())
    }

    /// The limits of the job, where the scenario changes those of the settings.
    ///
    /// # Errors
    /// When the scenario wants more memory than the settings allow, for which the engine has no room.
    pub fn limits(&self, settings: &Limits) -> Result<Option<Limits>, ScenarioError> {
        let changes = &self.script.limits;
        if changes.is_empty() {
            return Ok(None);
        }
        let limits = changes.apply(settings.clone());
        if limits.memory_bytes > settings.memory_bytes {
            let why = format!(
                "the scenario wants {} bytes of memory, and the settings allow {}; `--memory-limit` raises that",
                limits.memory_bytes, settings.memory_bytes
            );
            return Err(ScenarioError { file: self.file.clone(), line: changes.line, why });
        }
        Ok(Some(limits))
    }

    /// The facts of the job. Its id is the same in every run.
    pub(crate) fn job_info(&self, agent: &str) -> JobInfo {
        let facts = &self.script.job;
        JobInfo {
            id: "AJ_scenario".into(),
            dispatch_id: String::new(),
            kind: JobKind::Room,
            room: RoomInfo { sid: String::new(), name: facts.room.clone(), metadata: facts.room_metadata.clone() },
            participant: None,
            metadata: facts.metadata.clone(),
            attributes: facts.attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            agent_name: agent.into(),
            attempt: 1,
        }
    }

    /// Those who are in the room before the agent.
    pub(crate) fn participants(&self) -> Vec<Participant> {
        self.script.job.participants.clone()
    }
}

/// How a scenario went.
#[derive(Debug)]
pub struct Outcome {
    /// The first expectation that did not hold; none where the scenario passed.
    pub failure: Option<Failure>,
    /// The record of the job; none where the agent refused it, or the host lost it.
    pub record: Option<Box<JobRecord>>,
    /// Virtual time from the launch to the end of the job.
    pub lasted: Duration,
}

impl Outcome {
    /// The outcome of a job that closed.
    pub(crate) fn closed(play: &SharedPlay, record: JobRecord) -> Self {
        let mut play = play.lock();
        play.job_ended(&record);
        let lasted = Duration::from_micros(record.usage.wall_us);
        Self { failure: play.failure().cloned(), record: Some(Box::new(record)), lasted }
    }

    /// The outcome of an offer that was refused.
    pub(crate) fn refused(play: &SharedPlay, refusal: &Refusal) -> Self {
        let mut play = play.lock();
        play.job_refused(refusal);
        Self { failure: play.failure().cloned(), record: None, lasted: Duration::ZERO }
    }

    /// The outcome of a job whose record is lost.
    pub(crate) fn lost(play: &SharedPlay) -> Self {
        let mut play = play.lock();
        play.job_lost();
        Self { failure: play.failure().cloned(), record: None, lasted: Duration::ZERO }
    }
}

impl From<&Scenario> for SharedPlay {
    fn from(scenario: &Scenario) -> Self {
        Self::new(Play::new(scenario.script.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use wasm_worker_core::record::SentText;

    use super::check::Now;
    use super::play::Next;
    use super::trace::SeenQuestion;
    use super::*;
    use crate::sound::{Sound, sine, wav};

    /// Read scenarios that name no file but `good.yaml`.
    fn read(text: &str) -> Result<Vec<Scenario>, ScenarioError> {
        Scenario::parse("f", text, &mut |name, _| match name {
            "good.yaml" => Ok("rules:\n  - answer: hi\n".into()),
            "bad.yaml" => Ok("rules:\n  - answr: hi\n".into()),
            "good.wav" => Ok(wav::write(&Sound { rate: 8_000, samples: vec![1; 80] })),
            "bad.wav" => Ok(b"ID3".into()),
            _ => Err("there is none".into()),
        })
    }

    const GOOD: &str = r#"name: n
seed: 7
limits: {fuel: 1M, memory: 1MiB}
model: {rules: [{when: {user: a}, answer: b}, {refuse: 429}]}
steps:
  - join: {identity: ann, attributes: {a: b}}
  - say: {from: ann, text: hello}
  - expect: {text: {contains: "a", pattern: "^b*"}, within: 2s}
  - http: {match: "POST https://x/*", status: 200, parts: [a, b], every: 1s}
  - expect: {model: {user: {contains: a}, tool: t, model: "g*", body: {contains: b}, times: {max: 2}}}
  - at: 10m
  - expect: {end: {code: completed}, fuel: {max: 10M}}
"#;

    fn play_of(steps: &str) -> Play {
        let scenarios = read(&format!("steps:\n{steps}")).unwrap();
        Play::new(scenarios[0].script.clone())
    }

    fn text(text: &str) -> SentText {
        SentText { topic: "t".into(), text: text.into(), destinations: Vec::new(), attributes: BTreeMap::new() }
    }

    fn now(seconds: u64, attributes: &BTreeMap<String, String>) -> Now<'_> {
        Now { at: Duration::from_secs(seconds), joined: true, fuel: 0, memory: 0, attributes }
    }

    #[test]
    fn steps_follow_each_other_and_expectations_wait() {
        let none = BTreeMap::new();
        let mut play =
            play_of("  - join: ann\n  - expect: {text: b, within: 5s}\n  - expect: {text: a}\n  - advance: 3s\n");
        assert_eq!(play.next(&now(0, &none)), Next::Act(0));
        assert_eq!(play.next(&now(0, &none)), Next::Wait(Duration::from_secs(5)));
        ["a", "b"].into_iter().for_each(|word| play.trace.text(Duration::ZERO, text(word)));
        assert_eq!(play.next(&now(1, &none)), Next::Act(1));
        // The text `a` came before the one that was expected first.
        assert_eq!(play.next(&now(1, &none)), Next::Wait(Duration::from_secs(11)));
        play.trace.text(Duration::ZERO, text("a"));
        assert_eq!(play.next(&now(2, &none)), Next::Act(2));
        assert_eq!(play.next(&now(2, &none)), Next::Wait(Duration::from_secs(5)));
        assert_eq!((play.next(&now(5, &none)), play.next(&now(5, &none))), (Next::Act(3), Next::Over));
        assert!(play.failure().is_none());
    }

    #[test]
    fn an_expectation_whose_time_is_over_fails_with_its_line() {
        let none = BTreeMap::new();
        let mut play = play_of("  - expect: {text: a, within: 5s}\n");
        play.trace.text(Duration::from_millis(1_500), text("b"));
        assert_eq!(play.next(&now(0, &none)), Next::Wait(Duration::from_secs(5)));
        assert_eq!(play.next(&now(5, &none)), Next::Failed);
        let failure = play.failure().unwrap();
        assert_eq!((failure.line, failure.why.as_str()), (2, "expected a text equal to \"a\" within 5s"));
        assert_eq!(failure.diff, ["- a text equal to \"a\"", "+ 1.500s t \"b\""]);
    }

    #[test]
    fn the_seed_of_a_recording_is_written_in_hexadecimal() {
        let seed = |text: &str| read(&format!("seed: {text}\n{}", GOOD.replace("seed: 7\n", "")));
        let exact = "ab".repeat(32);
        assert_eq!(seed(&exact).unwrap()[0].script.seed, [0xab; 32]);
        assert_ne!(seed("1").unwrap()[0].script.seed, seed("2").unwrap()[0].script.seed);
        assert_eq!(seed("-1").unwrap_err().to_string(), "f:1: want a whole number in range, got `-1`");
    }

    #[test]
    fn the_script_of_a_model_is_in_the_scenario_or_in_a_file() {
        let script = |model: &str| read(&format!("model: {model}\nsteps:\n  - expect: {{model: hi}}\n"));
        assert!(script("{rules: [{answer: hi}]}").unwrap()[0].script.model.is_some());
        assert!(script("good.yaml").unwrap()[0].script.model.is_some());
        let why = |model: &str| script(model).unwrap_err().to_string();
        assert_eq!(why("none.yaml"), "f:1: the script `none.yaml` cannot be read: there is none");
        assert!(why("bad.yaml").starts_with("f:1: bad.yaml:2: `answr` is unknown for a rule; did you mean `answer`?"));
        assert_eq!(why("{rules: []}"), "f:1: want 1 to 1000 rules, got 0");
    }

    #[test]
    fn requests_to_the_model_are_found_in_order_and_counted() {
        let none = BTreeMap::new();
        const STEPS: &str =
            "  - expect: {model: {user: {contains: a}, model: \"g*\"}}\n  - expect: {model: {tool: t, times: 1}}\n";
        let mut play = play_of(STEPS);
        let question = |user: &str, tools: &[&str]| SeenQuestion {
            model: "gpt".into(),
            user: user.into(),
            tools: tools.iter().map(|name| (*name).to_owned()).collect(),
            body: "{}".into(),
        };
        play.trace.question(Duration::ZERO, question("b", &[]));
        assert_eq!(play.next(&now(0, &none)), Next::Wait(Duration::from_secs(10)));
        play.trace.question(Duration::ZERO, question("ab", &["t"]));
        assert_eq!((play.next(&now(0, &none)), play.next(&now(0, &none))), (Next::Act(0), Next::Act(1)));
        let mut too_many = play_of(STEPS);
        for _ in 0..2 {
            too_many.trace.question(Duration::ZERO, question("a", &["t"]));
        }
        assert_eq!((too_many.next(&now(0, &none)), too_many.next(&now(0, &none))), (Next::Act(0), Next::Failed));
        let failure = too_many.failure().unwrap();
        assert_eq!(failure.diff[0], "- exactly 1 requests to the model with a result of `t`");
        assert_eq!(failure.diff[1..], ["+ 0.000s `gpt` \"a\" and a result of `t`"; 2]);
    }

    #[test]
    fn a_file_that_is_spoken_is_read_before() {
        let say = |what: &str| {
            read(&format!("steps:\n  - join: ann\n  - say: {{from: ann, {what}}}\n  - expect: {{text: hi}}\n"))
        };
        assert!(say("wav: good.wav").is_ok());
        let why = |what: &str| say(what).unwrap_err().to_string();
        assert_eq!(why("wav: none.wav"), "f:3: `none.wav` cannot be read: there is none");
        assert_eq!(
            why("wav: bad.wav"),
            "f:3: `bad.wav` cannot be spoken: the file is no WAV: it does not begin with `RIFF` and `WAVE`"
        );
        assert_eq!(why("wav: good.wav, text: hi"), "f:3: want one of `text` and `wav` in `say`");
        assert_eq!(why("topic: t"), "f:3: want one of `text` and `wav` in `say`");
        assert_eq!(why("wav: good.wav, topic: t"), "f:3: `topic` and `attributes` are of a text");
    }

    #[test]
    fn sound_is_expected_by_its_frequency() {
        let none = BTreeMap::new();
        let mut play = play_of("  - expect: {sound: {hz: 440, for: 300ms}}\n  - expect: {sound: {hz: 660}}\n");
        let second = Duration::from_secs(1);
        play.trace.sound(Duration::ZERO, 8_000, sine(440.0, 8_000, second / 5));
        assert_eq!(play.next(&now(0, &none)), Next::Wait(Duration::from_secs(10)));
        play.trace.sound(second, 8_000, sine(440.0, 8_000, second / 5));
        assert_eq!(
            (play.next(&now(1, &none)), play.next(&now(1, &none))),
            (Next::Act(0), Next::Wait(Duration::from_secs(11)))
        );
        play.trace.sound(2 * second, 8_000, sine(440.0, 8_000, second));
        assert_eq!(play.next(&now(11, &none)), Next::Failed);
        let failure = play.failure().unwrap();
        assert_eq!(failure.why, "expected sound of 660 Hz for at least 200ms within 10s");
        assert_eq!(
            failure.diff,
            ["- sound of 660 Hz for at least 200ms", "+ 2.000s sound for 1s, 0 % of it at 660 Hz"]
        );
        let fault = |want: &str| read(&format!("steps:\n  - expect: {{sound: {want}}}\n")).unwrap_err().to_string();
        assert_eq!(fault("{hz: 30000}"), "f:2: want a whole number from 20 to 20000, got `30000`");
        assert_eq!(fault("{for: 1s}"), "f:2: `sound` needs `hz:`");
    }

    proptest! {
        #[test]
        fn any_text_is_a_scenario_or_an_error(any in ".{0,200}", at in 0..700_usize, with in any::<char>()) {
            drop(read(&any));
            prop_assert!(read(GOOD).is_ok());
            // One character of a good scenario is another.
            let changed: String = GOOD.chars().enumerate().map(|(n, old)| if n == at { with } else { old }).collect();
            if let Err(error) = read(&changed) {
                prop_assert!(error.line > 0 && !error.why.is_empty(), "{error}");
            }
        }
    }
}
