//! Agents that hear and speak, and a person by PyPI's `livekit`, in rooms of a LiveKit server and in our own.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use wasm_worker_sandbox::sound::{Sound, wav};

use crate::support::dispatcher::Dispatcher;
use crate::support::livekit_server::LiveKitServer;
use crate::support::people::{Client, Person, saw};
use crate::support::rooms::{RoomServer, RoomWorker, delete_room};
use crate::support::skip;

const RATE: u32 = 48_000;
const ESPEAK_RATE: usize = 22_050;
/// Samples that become one where two sounds are compared.
const COARSE: usize = 24;
/// As many of these are compared at once: 200 ms.
const PIECE: usize = 400;
/// How much of a sentence comes back: it is encoded twice, and its highest parts are left out.
const LIKENESS: f64 = 0.65;
/// The sentence is said so often. The first time the agent may not hear its beginning, because it is told of the track only when it is
/// published; and a machine with much to do may break any of them.
const TRIES: usize = 6;

/// A sentence by espeak-ng. None where the machine has none.
fn speech(dir: &Path) -> Option<Sound> {
    let file = dir.join("espeak.wav");
    let call =
        Command::new("espeak-ng").arg("-w").arg(&file).arg("The quick brown fox jumps over the lazy dog").status();
    let Ok(status) = call else {
        skip("an agent that repeats what it hears", "there is no espeak-ng on this machine");
        return None;
    };
    assert!(status.success(), "{status}");
    let bytes = std::fs::read(file).unwrap();
    // A header of 44 bytes, whose sizes espeak-ng leaves open, and samples at 22,050 Hz.
    let (pairs, _) = bytes[44..].as_chunks::<2>();
    let spoken: Vec<i32> = pairs.iter().map(|pair| i16::from_le_bytes(*pair).into()).collect();
    let at = |number: usize| {
        let place = number * ESPEAK_RATE;
        let (before, part) = (place / RATE as usize, i32::try_from(place % RATE as usize).unwrap());
        let (one, next) = (spoken[before], spoken[(before + 1).min(spoken.len() - 1)]);
        i16::try_from(one + (next - one) * part / RATE.cast_signed()).unwrap()
    };
    Some(Sound { rate: RATE, samples: (0..spoken.len() * RATE as usize / ESPEAK_RATE).map(at).collect() })
}

/// How much of a sound is found in another one: the mean of the highest correlations of its parts. The parts are short, because a client
/// that evens out the times of packets stretches and shortens what it plays.
fn likeness(said: &[i16], heard: &[i16]) -> f64 {
    let coarse = |sound: &[i16]| -> Vec<f64> {
        sound.chunks_exact(COARSE).map(|part| part.iter().map(|sample| f64::from(*sample)).sum()).collect()
    };
    let (said, heard) = (coarse(said), coarse(heard));
    let power = |sound: &[f64]| sound.iter().map(|value| value * value).sum::<f64>();
    let best = |piece: &[f64]| {
        let of = |part: &[f64]| {
            let product: f64 = piece.iter().zip(part).map(|(one, other)| one * other).sum();
            product / (power(piece) * power(part)).sqrt().max(1.0)
        };
        heard.windows(piece.len()).map(of).fold(0.0, f64::max)
    };
    let pieces: Vec<f64> = said.chunks_exact(PIECE).map(best).collect();
    pieces.iter().sum::<f64>() / pieces.len() as f64
}

/// The agent's identity, once it is there.
fn meets(person: &mut Person) -> String {
    let joined = person.sees("agent", |line| saw(line, "joined") && line["kind"] == "agent");
    joined["who"].as_str().unwrap().to_owned()
}

/// The bill of the one job, which ends with its room.
fn bill(server: &RoomServer, worker: &RoomWorker) -> Value {
    delete_room(&server.url(), "echo");
    let [closed] = &worker.publishes("job.closed", 1)[..] else { panic!("one job") };
    closed["usage"]["audio"].clone()
}

/// A sentence comes back once the person pauses.
fn echo(server: &RoomServer, dir: &Path) {
    let Some(said) = speech(dir) else { return };
    let Some(mut person) = server.person(Client::Python, "echo") else { return };
    let worker = server.worker("echo");
    server.dispatch("echo", "echo");
    let agent = meets(&mut person);
    let [file, heard] = ["said.wav", "heard.wav"].map(|name| dir.join(name));
    std::fs::write(&file, wav::write(&said)).unwrap();
    let mut tries = Vec::new();
    let comes_back = (0..TRIES).any(|_| {
        person.order(&json!({ "do": "hear", "who": agent, "ms": 15_000, "wav": heard }));
        person.order(&json!({ "do": "speak", "wav": file }));
        let sound = person.sees("sound", |line| saw(line, "sound") || saw(line, "failed"));
        assert!(saw(&sound, "sound"), "{sound}");
        let heard = wav::read(&std::fs::read(&heard).unwrap()).unwrap();
        let forwards = likeness(&said.samples, &heard.samples);
        let backwards = likeness(&said.samples.iter().rev().copied().collect::<Vec<_>>(), &heard.samples);
        tries.push(format!("{forwards}, and backwards {backwards}: {sound}"));
        sound["loud_ms"].as_f64() > Some(1_000.0) && forwards > LIKENESS && backwards < LIKENESS
    });
    assert!(comes_back, "the sentence does not come back: {tries:#?}");
    let bill = bill(server, &worker);
    let of = |key: &str| bill[key].as_u64().unwrap_or_else(|| panic!("{key}: {bill}"));
    assert!(of("heard_ms") > 1_500 && of("spoken_ms") > 1_500, "{bill}");
    assert!(of("packets_received") > 50 && of("packets_sent") > 50 && of("cpu_us") > 0, "{bill}");
}

/// A tone is named by a text.
fn tone(server: &RoomServer) {
    let Some(mut person) = server.person(Client::Python, "tone") else { return };
    let _worker = server.worker("tone");
    server.dispatch("tone", "tone");
    meets(&mut person);
    person.order(&json!({ "do": "speak", "hz": 440, "ms": 600_000 }));
    let text = person.sees("text", |line| saw(line, "text") && line["text"].as_str().unwrap().starts_with("440 Hz"));
    assert_eq!(text["text"], "440 Hz, A4");
    person.leaves();
}

#[test]
fn agent_repeats_a_sentence_on_a_livekit_server() {
    let Some(server) = LiveKitServer::start("an agent that repeats what it hears") else { return };
    echo(&RoomServer::LiveKit(server), tempfile::tempdir().unwrap().path());
}

#[test]
fn agent_repeats_a_sentence_in_our_own_room() {
    echo(&RoomServer::Own(Dispatcher::start(&[])), tempfile::tempdir().unwrap().path());
}

#[test]
fn agent_names_a_tone_on_a_livekit_server() {
    let Some(server) = LiveKitServer::start("an agent that names tones") else { return };
    tone(&RoomServer::LiveKit(server));
}

#[test]
fn agent_names_a_tone_in_our_own_room() {
    tone(&RoomServer::Own(Dispatcher::start(&[])));
}
