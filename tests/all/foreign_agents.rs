//! Agents in C, Python and JavaScript, each built by the tools of its language and run by the program. `tests/interop/README.md`
//! says what they do.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::harness::{Call, Done, guest, path, wasm_worker};
use crate::support::interpreters::{agent_in, with_interpreters};
use crate::support::toolchains::Language;

/// An answer of a second and more.
fn long_text() -> String {
    (0..200).map(|number| number.to_string()).collect::<Vec<_>>().join(" ")
}

fn text(after_ms: u32, sender: &str, text: &str) -> Value {
    json!({ "after_ms": after_ms, "event": { "text": { "sender": sender, "text": text } } })
}

fn call<'a>(words: impl IntoIterator<Item = &'a str>) -> Call {
    with_interpreters(wasm_worker(words))
}

/// An agent by its name in messages.
struct Talker {
    name: &'static str,
    component: PathBuf,
}

/// The one of a language, built and loaded; none where a tool is missing on this machine.
fn talker(language: Language) -> Option<Talker> {
    let name = match language {
        Language::C => "C",
        Language::Python => "Python",
        Language::JavaScript => "JavaScript",
    };
    let talker = Talker { name, component: agent_in(language)? };
    talker.is_a_snapshot();
    Some(talker)
}

impl Talker {
    /// A job in a room with ann, and these events.
    fn job(&self, metadata: &str, inbox: &[Value]) -> Done {
        let spec = json!({ "metadata": metadata, "participants": [{ "identity": "ann" }], "inbox": inbox });
        call(["run", path(&self.component), "--job", "--spec", "-"]).stdin(&spec.to_string()).done()
    }

    fn holds_a_conversation(&self) {
        let long = long_text();
        let bob = json!({ "after_ms": 100, "event": { "participant-joined": { "identity": "bob", "name": "Bob" } } });
        let inbox = [
            text(200, "ann", "hello big world"),
            text(1_000, "ann", &long),
            text(300, "ann", "stop"),
            bob,
            text(300, "bob", &long),
            text(300, "ann", "short"),
            text(1_000, "ann", "history"),
            text(2_500, "bob", "bye"),
        ];
        let (name, done) = (self.name, self.job("", &inbox));
        assert_eq!(done.code(), "completed", "{name}: {}\n{}", done.stdout, done.stderr);
        let texts = done.texts().remove("lk.chat").unwrap();
        // On a machine that is busy it may ask earlier too.
        let asked = texts.iter().rposition(|text| text == "Anything else?");
        assert_eq!(asked, Some(texts.len() - 2), "{name}: {texts:#?}");
        let said: Vec<&str> = texts.iter().map(String::as_str).filter(|text| *text != "Anything else?").collect();
        let [first, answer, stopped, stop, second, interrupted, short, history, goodbye] = said[..] else {
            panic!("{name}: {texts:#?}")
        };
        assert_eq!((first, second), ("Welcome, ann (e7207273).", "Welcome, Bob (f5cbb140)."), "{name}");
        assert_eq!((answer, stop), ("You said: hello big world.", "Stopped."), "{name}");
        assert_eq!((short, goodbye), ("You said: short.", "Goodbye."), "{name}");
        let whole = format!("You said: {long}.");
        for part in [stopped, interrupted] {
            assert!(whole.starts_with(part) && part.starts_with("You") && part.len() < whole.len(), "{name}: {part}");
        }
        let wanted = format!(
            "ann: hello big world\nagent: {answer}\nann: {long}\nagent: {stopped} (interrupted)\nbob: {long}\n\
             agent: {interrupted} (interrupted)\nann: short\nagent: {short}"
        );
        assert_eq!(history, wanted, "{name}");
        let record = done.record();
        let marked = |text: &&Value| text["attributes"]["interrupted"] == "true";
        let marked: Vec<_> = record["activity"]["texts"].as_array().unwrap().iter().filter(marked).collect();
        assert_eq!(marked.iter().map(|text| &text["text"]).collect::<Vec<_>>(), [stopped, interrupted], "{name}");
        let letters = [answer, stopped, interrupted, short].iter().map(|text| text.len()).sum::<usize>();
        let model = &record["usage"]["models"][0];
        assert_eq!(model["model"], "echo", "{name}: {model}");
        assert_eq!(model["counters"]["letters"].as_f64(), Some(letters as f64), "{name}: {model}");
    }

    /// Its `prewarm` runs once, and each job starts from the table that it made.
    fn is_a_snapshot(&self) {
        let done = call(["inspect", path(&self.component), "--json"]).done();
        assert_eq!(done.exit, 0, "{}: {}", self.name, done.stderr);
        let report: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!(report["prewarm"], "snapshot", "{}: {report}", self.name);
        assert_eq!(report["language"], self.name.to_lowercase(), "{report}");
    }

    /// Asked to stop, it says goodbye; and no two jobs roll the same dice.
    fn rolls_dice_and_ends_when_asked(&self) {
        let roll = || {
            let stop = json!({ "after_ms": 200, "event": { "terminate": { "reason": "enough" } } });
            let done = self.job("", &[text(200, "ann", "dice"), stop]);
            assert_eq!(done.code(), "terminated", "{}: {}\n{}", self.name, done.stdout, done.stderr);
            let texts = done.texts().remove("lk.chat").unwrap();
            let [_, number, goodbye] = &texts[..] else { panic!("{}: {texts:?}", self.name) };
            assert_eq!(goodbye, "Goodbye.", "{}", self.name);
            number.clone()
        };
        assert_ne!(roll(), roll(), "{} has the same random numbers in each job", self.name);
    }

    /// The end of a job with a bug, and the words of the language in its detail.
    fn fails(&self, code: &str, words: &[&str]) {
        let done = self.job("", &[text(200, "ann", "fail")]);
        let record = done.record();
        assert_eq!(record["verdict"]["code"], code, "{}: {record}\n{}", self.name, done.stderr);
        let detail = record["verdict"]["detail"].as_str().unwrap();
        for word in words {
            assert!(detail.contains(word), "{}: `{word}` is missing in {detail}", self.name);
        }
    }

    /// The same where nothing catches it: the words arrive by standard error.
    fn fails_to_decide(&self, words: &str) {
        let done = self.job("fail", &[]);
        let record = done.record();
        assert_eq!(record["verdict"]["code"], "init-failed", "{}: {record}\n{}", self.name, done.stderr);
        assert!(record.to_string().contains(words), "{}: `{words}` is missing in {record}\n{}", self.name, done.stderr);
    }
}

fn talks(talker: &Talker) {
    talker.holds_a_conversation();
    talker.rolls_dice_and_ends_when_asked();
}

#[test]
fn agent_in_c_holds_a_conversation() {
    talker(Language::C).iter().for_each(talks);
}

#[test]
fn agent_in_python_holds_a_conversation() {
    talker(Language::Python).iter().for_each(talks);
}

#[test]
fn agent_in_javascript_holds_a_conversation() {
    talker(Language::JavaScript).iter().for_each(talks);
}

#[test]
fn agent_in_rust_holds_the_same_conversation() {
    let talker = Talker { name: "Rust", component: guest("talker") };
    talker.is_a_snapshot();
    talks(&talker);
}

#[test]
fn fault_of_an_agent_in_c_is_told_in_the_words_of_c() {
    let Some(talker) = talker(Language::C) else { return };
    talker.fails("trapped", &["Assertion failed", "a bug in the agent", "talker.c"]);
    talker.fails_to_decide("a bug in decide");
}

#[test]
fn fault_of_an_agent_in_python_is_told_in_the_words_of_python() {
    let Some(talker) = talker(Language::Python) else { return };
    talker.fails("failed", &["RuntimeError: a bug in the agent", "app.py:"]);
    talker.fails_to_decide("RuntimeError: a bug in decide");
}

#[test]
fn fault_of_an_agent_in_javascript_is_told_in_the_words_of_javascript() {
    let Some(talker) = talker(Language::JavaScript) else { return };
    talker.fails("failed", &["Error: a bug in the agent", "app.js:"]);
    talker.fails_to_decide("a bug in decide");
}
