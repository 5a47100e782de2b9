//! Recordings of an agent that hears and speaks.

use serde_json::json;

use super::{is_same, path, recorded_agent, replay};
use crate::support::harness::root;

/// An agent repeats what it hears. Its recording has the sound, and replays exactly.
pub(super) fn of_an_echo() {
    let agent = root().join("examples/echo");
    let file = agent.join("tests/low.wav");
    let (_dir, recording, done) = recorded_agent(&agent, &json!({}), &["--audio-in", path(&file)]);
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let result = is_same(&recording);
    assert_eq!(result["fuel"], done.record()["usage"]["fuel"], "{result}");
    let shown = replay(&recording, &["--timeline"]).stdout;
    for part in [
        "→ follow-audio #",
        "→ publish-audio #",
        "→ write-audio",
        "← audio-started #",
        "← audio #",
        "← voice-ended #",
        "← audio-playout #",
    ] {
        assert!(shown.contains(part), "`{part}` is missing in {shown}");
    }
}
