//! Sound in agents in Python and JavaScript, by the packages of `guest-sdk`. `tests/interop/README.md` says what the agents do.

use serde_json::json;
use wasm_worker_sandbox::sound::{Sound, wav};

use crate::foreign_models::{answers, javascript_passes, python_passes, text};
use crate::support::harness::{path, wasm_worker};
use crate::support::interpreters::{agent_in, with_interpreters};
use crate::support::toolchains::Language;

/// The frequency that is said, and the rate of the agents' tracks.
const HZ: u32 = 500;
const RATE: u32 = 8_000;

/// A person says a tone for three seconds, and the agent repeats 300 ms of it.
fn repeats(language: Language) {
    let Some(agent) = agent_in(language) else { return };
    let dir = tempfile::tempdir().unwrap();
    let [said, heard] = ["said.wav", "heard.wav"].map(|name| dir.path().join(name));
    let sine = |place: u32| (f64::from(place * HZ) * std::f64::consts::TAU / f64::from(RATE)).sin();
    #[expect(clippy::cast_possible_truncation, reason = "within 16 bits")]
    let samples = (0..3 * RATE).map(|place| (sine(place) * 8_192.0) as i16).collect();
    std::fs::write(&said, wav::write(&Sound { rate: RATE, samples })).unwrap();
    let flags = ["--audio-in", path(&said), "--audio-out", path(&heard)];
    let call = wasm_worker(["run", path(&agent), "--job", "--spec", "-"]).args(flags);
    let inbox = [text(50, "repeat"), text(6_000, "bye")];
    let spec = json!({ "participants": [{ "identity": "ann" }], "inbox": inbox });
    let done = with_interpreters(call).stdin(&spec.to_string()).done();
    assert_eq!(answers(&done), ["mark 7: 300 ms of ann"], "{language:?}: {}", done.stderr);
    let sound = wav::read(&std::fs::read(&heard).unwrap()).unwrap();
    assert_eq!(sound.rate, RATE, "{language:?}");
    let first = sound.samples.iter().position(|sample| sample.unsigned_abs() > 1_000).unwrap();
    let periods = sound.samples[first..].windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
    // 150 in 300 ms; the first and the last one may be cut.
    assert!((148..=150).contains(&periods), "{language:?}: {periods}");
    let used = &done.record()["usage"]["audio"];
    assert_eq!(used["spoken_ms"], 300, "{language:?}: {used}");
}

#[test]
fn sound_is_heard_and_said_by_an_agent_in_python() {
    repeats(Language::Python);
}

#[test]
fn sound_is_heard_and_said_by_an_agent_in_javascript() {
    repeats(Language::JavaScript);
}

#[test]
fn sound_of_python_keeps_the_rules_of_the_contract() {
    python_passes("audio_test.py");
}

#[test]
fn sound_of_javascript_keeps_the_rules_of_the_contract() {
    javascript_passes("audio_test.mjs");
}
