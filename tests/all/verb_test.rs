//! `wasm-worker test`: scripted conversations under virtual time.

use std::path::Path;

use serde_json::Value;

use crate::support::harness::{Done, guest, path, root, wasm_worker};

/// The scenario of issue and documentation, as it stands.
const AS_IT_STANDS: &str = r#"seed: 1
steps:
  - join: ann
  - say: {from: ann, text: hello}
  - expect: {text: {contains: "hello"}, within: 2s}
  - advance: 10m
  - http: {match: "POST https://api.example/*", status: 200, body: "{}"}
  - leave: ann
  - expect: {end: completed, fuel: {max: 10M}}
"#;

fn test(agent: &str, scenario: &str) -> Done {
    wasm_worker(["test", path(&guest(agent)), "-"]).stdin(scenario).done()
}

/// The steps pass. They are given without their indentation.
#[track_caller]
fn passes(agent: &str, steps: &str) {
    let done = test(agent, &scenario(steps));
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("1 passed, 0 failed"), "{}", done.stdout);
}

/// The steps fail, and the output has these texts.
#[track_caller]
fn fails(agent: &str, steps: &str, told: &[&str]) {
    let done = test(agent, &scenario(steps));
    assert_eq!(done.exit, 17, "{}{}", done.stdout, done.stderr);
    told.iter().for_each(|text| assert!(done.stdout.contains(text), "`{text}`:\n{}", done.stdout));
}

fn scenario(steps: &str) -> String {
    let steps = steps.trim().lines().map(|line| format!("  {}\n", line.trim()));
    format!("seed: 7\nsteps:\n{}", steps.collect::<String>())
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

#[test]
fn scenario_is_accepted_as_it_stands_and_ten_minutes_pass_in_no_time() {
    let done = wasm_worker(["test", path(&guest("polite")), "-", "--json"]).stdin(AS_IT_STANDS).done();
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    let line: Value = serde_json::from_str(done.stdout.trim()).unwrap();
    assert_eq!((&line["passed"], &line["end"]), (&true.into(), &"completed".into()), "{line}");
    assert!(line["lasted_ms"].as_u64().unwrap() >= 600_000, "{line}");
    println!("ten virtual minutes take {} ms", line["took_ms"]);
    assert!(line["took_ms"].as_u64().unwrap() < 2_000, "{line}");
}

#[test]
fn people_join_speak_send_call_and_leave() {
    passes(
        "concierge",
        r#"
        - expect: {text: welcome}
        - join: {identity: ann, name: Ann, attributes: {a: b}}
        - expect: {text: "hello ann"}
        - say: {from: ann, text: "good day", topic: lk.chat}
        - expect: {text: {contains: [you, day], pattern: "^you said .*day$", topic: chat}}
        - data: {from: ann, topic: t, payload: beep}
        - expect: {text: beep}
        - file: {from: ann, name: a.txt, content: abc}
        - expect: {text: "got a.txt"}
        - attributes: {of: ann, set: {mood: low}}
        - expect: {text: {contains: low}}
        - call: {from: ann, method: double, payload: "21"}
        - expect: {answer: {method: double, payload: "42"}}
        - call: {from: ann, method: double, payload: x}
        - expect: {answer: {error: 1}}
        - call: {from: ann, method: none, timeout: 2s}
        - expect: {answer: {method: none, error: ~}}
        - leave: ann
        - expect: {text: "bye ann", no-text: {contains: ghost}, within: 1s}
        "#,
    );
}

#[test]
fn servers_and_participants_answer_as_the_script_says() {
    passes(
        "concierge",
        r#"
        - join: ann
        - http: {match: "GET https://a.example/*", status: 201, parts: [one, two], every: 1s, after: 3s}
        - say: {from: ann, text: "get https://a.example/x"}
        - expect: {http: {match: "GET https://a.example/x"}, text: "201 onetwo"}
        - http: {match: "https://b.example/*", fail: not-allowed}
        - say: {from: ann, text: "get https://b.example/"}
        - expect: {text: not-allowed}
        - say: {from: ann, text: "get https://c.example/"}
        - expect: {http: "https://c.example/"}
        - http: {match: "https://c.example/", body: late, times: 1}
        - expect: {text: "200 late"}
        - say: {from: ann, text: "get https://c.example/"}
        - expect: {text: timeout, within: 30s}
        - socket: {match: "wss://s.example/*", send: hi, replies: [{when: ping, send: pong, after: 2s}]}
        - say: {from: ann, text: "socket wss://s.example/1"}
        - expect: {texts: ["socket hi", "socket pong"]}
        - socket-send: {match: "wss://*", text: news}
        - socket-close: {match: "wss://*", code: 1001}
        - expect: {texts: ["socket news", "closed 1001"]}
        - socket: {match: "wss://no.example", refuse: 403}
        - say: {from: ann, text: "socket wss://no.example"}
        - expect: {text: "refused 403"}
        - answer: {from: ann, method: place, payload: here, after: 1s}
        - say: {from: ann, text: "call place"}
        - expect: {text: here}
        - answer: {method: place, error: {code: 7, message: away}}
        - say: {from: ann, text: "call place"}
        - expect: {text: {contains: away}}
        - expect: {call: {name: rpc, contains: place, times: 2}}
        "#,
    );
}

#[test]
fn states_attributes_order_fuel_and_memory_are_checked() {
    passes(
        "concierge",
        r#"
        - join: ann
        - say: {from: ann, text: think}
        - expect: {states: [thinking, listening], attributes: {mood: good, other: ~, lk.agent.state: {pattern: "^list"}}}
        - expect: {fuel: {min: 1k, max: 100M}, memory: {max: 64MiB}}
        - expect: {call: set-attributes}
        - say: {from: ann, text: end}
        - expect: {end: {code: completed, detail: {contains: finished}}, fuel: {min: 1}, memory: {min: 1KiB}}
        "#,
    );
    fails(
        "concierge",
        r#"
        - join: ann
        - expect: {texts: ["hello ann", welcome], within: 1s}
        "#,
        &[
            "-:4: expected a text equal to \"welcome\" within 1s",
            "- a text equal to \"welcome\"",
            "+ 0.000s chat \"hello ann\"",
        ],
    );
}

#[test]
fn faults_happen_where_the_script_says() {
    passes(
        "concierge",
        "- fault: {disconnect: room-deleted}\n- expect: {end: {code: failed, detail: {contains: room-deleted}}}",
    );
    passes(
        "concierge",
        r#"
        - expect: {text: welcome}
        - join: ann
        - fault: {reconnect: 5s}
        - expect: {text: "where are you?"}
        - say: {from: ann, text: back}
        - expect: {text: "you said back"}
        "#,
    );
    passes("concierge", "- advance: 1s\n- fault: kill\n- expect: {end: killed}");
    passes("concierge", "- stop: enough\n- expect: {end: {code: terminated, detail: enough}}");
    passes("concierge", "- drain: ~\n- expect: {end: drained}");
    passes(
        "concierge",
        "- join: ann\n- say: {from: ann, text: trap}\n- expect: {end: {code: trapped, detail: {contains: as you wish}}}",
    );
    let limits = |limits: &str, text: &str, end: &str| {
        let steps = format!("- join: ann\n- say: {{from: ann, text: {text}}}\n- expect: {{end: {end}}}");
        let done = test("concierge", &format!("limits: {limits}\n{}", scenario(&steps)));
        assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    };
    limits("{fuel: 5M}", "burn", "out-of-fuel");
    limits("{max-duration: 30m}", "\"wait 7200\"", "deadline");
    limits("{unresponsive-timeout: 100ms}", "burn", "unresponsive");
    passes("reject", "- expect: {end: rejected}");
}

#[test]
fn a_model_answers_as_the_scenario_says_and_is_expected_to_be_asked() {
    let (agent, dir) = (root().join("examples/llm"), tempfile::tempdir().unwrap());
    let test = |scenario: &str, flags: &[&str]| {
        write(dir.path(), "a.yaml", scenario);
        let file = dir.path().join("a.yaml");
        wasm_worker(["test", path(&agent), path(&file)]).args(flags.iter().copied()).done()
    };
    std::fs::create_dir(dir.path().join("models")).unwrap();
    write(&dir.path().join("models"), "m.yaml", "rules:\n  - when: {model: m-1}\n    answer: of m-1\n");
    let asked = "steps:\n  - join: ann\n  - say: {from: ann, text: hi}\n";
    let model = "  - expect: {model: {model: m-1, user: {pattern: \"hi$\"}}}\n  - expect: {text: of m-1}\n";
    let scenario = format!("model: models/m.yaml\n{asked}{model}");
    let other = ["--setting", "OPENAI_MODEL=m-1", "--setting", "OPENAI_BASE_URL=https://models.example/v1"];
    let done = test(&scenario, &other);
    assert_eq!(done.exit, 0, "{}{}", done.stdout, done.stderr);
    let told = |scenario: &str, texts: &[&str]| {
        let done = test(scenario, &[]);
        assert_eq!(done.exit, 17, "{}{}", done.stdout, done.stderr);
        texts.iter().for_each(|text| assert!(done.stdout.contains(text), "`{text}`:\n{}", done.stdout));
    };
    let wanted = "a.yaml:5: expected a request to the model `m-1` with a user's text that matches /hi$/ within 10s";
    told(&scenario, &[wanted, "+ 0.000s `gpt-5-mini` \"ann: hi\""]);
    let often = format!("{asked}  - expect: {{model: {{times: 3}}, within: 1s}}\n");
    told(&often, &["a.yaml:4: expected exactly 3 requests to the model within 1s", "+ 0.000s `gpt-5-mini`"]);
    test(&scenario, &["--setting", "MODEL=x"]).fails_with(2, &["agent `llm` has no setting `MODEL`"]);
    test(&format!("model: models/none.yaml\n{asked}{model}"), &[])
        .fails_with(2, &["a.yaml:1: the script `models/none.yaml` cannot be read: No such file"]);
    test(&format!("model: {{rules: [{{answr: x}}]}}\n{asked}{model}"), &[])
        .fails_with(2, &["a.yaml:1: `answr` is unknown for a rule; did you mean `answer`?"]);
    test(&format!("model: a.yaml\n{asked}{model}"), &[])
        .fails_with(2, &["a.yaml:1: a.yaml:1: a script needs `rules:`"]);
}

#[test]
fn the_same_seed_gives_the_same_job() {
    let chance = |seed: u32| {
        let steps = "- join: ann\n- say: {from: ann, text: chance}\n- expect: {text: nothing, within: 1s}";
        let text = scenario(steps).replace("seed: 7", &format!("seed: {seed}"));
        let done = wasm_worker(["test", path(&guest("concierge")), "-", "--json"]).stdin(&text).done();
        assert_eq!(done.exit, 17);
        let line: Value = serde_json::from_str(done.stdout.trim()).unwrap();
        (line["details"].to_string(), line["fuel"].clone(), line["lasted_ms"].clone())
    };
    assert_eq!(chance(1), chance(1));
    assert_ne!(chance(1).0, chance(2).0);
}

#[test]
fn a_failure_names_its_line_and_shows_what_was_expected_and_got() {
    fails(
        "concierge",
        r#"
        - join: ann
        - say: {from: ann, text: lines}
        - expect: {text: "one\nTWO\nthree", within: 1s}
        "#,
        &[
            "✘ -\n  -:5: expected a text equal to",
            "      one\n    - TWO\n    + two\n      three\n",
            "0 passed, 1 failed",
        ],
    );
    fails("concierge", "- expect: {no-text: {contains: wel}}", &["-:3: expected no text", "+ 0.000s chat \"welcome\""]);
    fails("concierge", "- expect: {state: speaking, within: 1m}", &["state speaking within 60s", "+ no state"]);
    fails("concierge", "- expect: {attributes: {x: y}}", &["- attribute `x` equal to \"y\"", "+ no attribute `x`"]);
    fails("concierge", "- expect: {fuel: {max: 7}}", &["- fuel at most 7", "+ fuel "]);
    fails(
        "concierge",
        "- expect: {end: completed}",
        &["the job ended as stalled", "task `entrypoint` waits for next_event"],
    );
    fails("concierge", "- expect: {http: \"POST *\"}", &["- a request POST *", "+ no request"]);
    fails("concierge", "- join: ann\n- expect: {answer: x}", &["- an answer equal to \"x\"", "+ no answer"]);
    // An end that nobody expects is a failure, with its place.
    fails(
        "concierge",
        "- join: ann\n- expect: {text: welcome}\n- say: {from: ann, text: trap}\n- advance: 1s\n- expect: {no-text: x, within: 1s}",
        &["the job did not end well, and no step expects that", "+ end trapped: panicked at", "as you wish"],
    );
    fails(
        "sleep",
        "- join: ann\n- say: {from: ann, text: hi}\n- expect: {text: hi}",
        &["-:4: the agent did not join its room"],
    );
}

#[test]
fn a_scenario_that_goes_on_for_ever_is_given_up() {
    let spin = "- join: ann\n- say: {from: ann, text: spin}\n- expect: {end: completed, within: 3650d}";
    let done = wasm_worker(["test", path(&guest("concierge")), "-", "--timeout", "1s"]).stdin(&scenario(spin)).done();
    assert_eq!(done.exit, 17, "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("given up after 1s of real time"), "{}", done.stdout);
    // Time passes for an agent that never waits, so an expectation has an end.
    let done = test("concierge", &scenario(&spin.replace("3650d", "5s")));
    assert!(done.stdout.contains("expected end completed within 5s"), "{}", done.stdout);
}

#[test]
fn results_are_counted_filtered_and_written_as_junit() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "a.yaml",
        "name: <greets>\nsteps:\n  - expect: {text: welcome}\n---\nsteps:\n  - expect: {text: \"a & b\"}\n",
    );
    write(dir.path(), "b.yml", "steps:\n  - expect: {text: welcome}\n");
    write(dir.path(), "c.txt", "no scenario");
    let (agent, junit) = (guest("concierge"), dir.path().join("out.xml"));
    let run = |more: &[&str]| wasm_worker(["test", path(&agent), path(dir.path())]).args(more.iter().copied()).done();
    let done = run(&["--junit", path(&junit)]);
    assert_eq!(done.exit, 17, "{}", done.stdout);
    assert!(done.stdout.contains("with 3 scenarios") && done.stdout.contains("2 passed, 1 failed"), "{}", done.stdout);
    let names: Vec<&str> = done.stdout.lines().filter(|line| line.starts_with(['✔', '✘'])).collect();
    assert!(
        names[0].contains("a.yaml: <greets>") && names[1].contains("a.yaml#2") && names[2].contains("b.yml"),
        "{names:?}"
    );
    let xml = std::fs::read_to_string(&junit).unwrap();
    assert!(xml.contains("<testsuite name=\"concierge\" tests=\"3\" failures=\"1\""), "{xml}");
    assert!(
        xml.contains(": &lt;greets&gt;\"") && xml.contains("<failure message=\"") && xml.contains("a &amp; b"),
        "{xml}"
    );

    let filtered = run(&["--filter", "greets"]);
    assert_eq!(filtered.exit, 0, "{}", filtered.stdout);
    assert!(filtered.stdout.contains("1 passed, 0 failed, 2 filtered out"), "{}", filtered.stdout);
    run(&["--filter", "nothing"]).fails_with(2, &["no name of the 3 scenarios contains `nothing`"]);
}

#[test]
fn bad_scenarios_are_refused_with_file_line_and_what_is_wanted() {
    let agent = guest("concierge");
    let refused = |text: &str, told: &[&str]| {
        let done = wasm_worker(["test", path(&agent), "-"]).stdin(text).done();
        done.fails_with(2, told);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    };
    refused("seed: x\nsteps: []\n", &["-:1: want a whole number in range, got `x`"]);
    refused("steps:\n  - jion: ann\n", &["-:2: `jion` is no step; known are join, leave, say"]);
    refused("steps:\n  - expect: {txt: a}\n", &["-:2: `txt` is unknown for `expect`"]);
    refused("steps:\n  - expect: {text: a}\nfoo: 1\n", &["-:3: `foo` is unknown for a scenario"]);
    refused("steps:\n  - join: ann\n", &["has no `expect`, so it tests nothing"]);
    refused("steps:\n  - at: 5s\n  - at: 3s\n  - expect: {text: a}\n", &["-:3: time runs back"]);
    refused("steps:\n  - advance: -5s\n  - expect: {text: a}\n", &["-:2: want a time above zero", "got `-5s`"]);
    refused("steps:\n  - say: {from: bob, text: a}\n  - expect: {text: a}\n", &["-:2: `bob` is not in the room"]);
    refused("steps:\n  - join: a\n  - join: a\n  - expect: {text: a}\n", &["-:3: `a` is in the room already"]);
    refused("steps:\n  - expect: {text: {pattern: \"(\"}}\n", &["-:2: `(` is no regular expression"]);
    refused("steps:\n  - expect: {end: compleated}\n", &["`compleated` is no end code; known are completed"]);
    refused("steps:\n  - expect: {fuel: {max: 10X}}\n", &["want an amount of fuel such as 500k, 10M or 2G"]);
    refused("steps:\n  - expect: {call: conect}\n", &["-:2: no call is named `conect`, expected one of `shutdown`"]);
    refused("steps: [\n", &["this is no YAML"]);
    refused("a: &a [x]\nb: [*a, *a]\n", &["anchors (`&`), aliases (`*`)"]);
    refused("", &["the file is empty"]);
    refused(&format!("steps: {}", "[".repeat(40)), &["levels"]);
    refused(&format!("steps: {}", "[".repeat(5_000)), &["this is no YAML"]);
    refused(&"#".repeat(2 << 20), &["at most 1048576 are allowed"]);
    let memory = "limits: {memory: 1TiB}\nsteps:\n  - expect: {text: a}\n";
    refused(memory, &["-:1: the scenario wants", "`--memory-limit` raises that"]);
    wasm_worker(["test", path(&agent)]).done().fails_with(2, &["which scenarios?"]);
    wasm_worker(["test", path(&agent), "/nowhere.yaml"]).done().fails_with(2, &["`/nowhere.yaml` cannot be read"]);
}

#[test]
fn recording_becomes_a_scenario() {
    let dir = tempfile::tempdir().unwrap();
    let spec = r#"{"metadata": "m", "participants": [{"identity": "ann"}], "inbox": [
        {"after_ms": 30, "event": {"text": {"sender": "ann", "text": "good \"day\""}}},
        {"after_ms": 30, "event": {"text": {"sender": "ann", "text": "think"}}},
        {"after_ms": 30, "event": {"rpc": {"sender": "ann", "method": "double", "payload": "4"}}},
        {"after_ms": 30, "event": {"text": {"sender": "ann", "text": "wait 1"}}},
        {"after_ms": 1200, "event": {"participant-left": {"identity": "ann"}}},
        {"after_ms": 30, "event": {"terminate": {"reason": "enough"}}}]}"#;
    let agent = guest("concierge");
    let args = ["run", path(&agent), "--job", "--spec", "-", "--record", path(dir.path())];
    let ran = wasm_worker(args).stdin(spec).done();
    assert_eq!(ran.code(), "terminated", "{}", ran.stderr);
    let recording = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();

    let done = wasm_worker(["test", "--from", path(&recording)]).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let scenario = done.stdout;
    for text in [
        "seed: ",
        "participants: [{identity: \"ann\"}]",
        r#"say: {from: "ann", topic: "lk.chat", text: "good \"day\""}"#,
        "stop: \"enough\"",
    ] {
        assert!(scenario.contains(text), "`{text}`:\n{scenario}");
    }
    let played = test("concierge", &scenario);
    assert_eq!(played.exit, 0, "{scenario}{}", played.stdout);
    // Another agent does something else.
    let other = test("polite", &scenario);
    assert_eq!(other.exit, 17, "{}", other.stdout);
    assert!(other.stdout.contains("- a text on topic chat equal to \"welcome\""), "{}", other.stdout);

    let no_recording = dir.path().join("none");
    write(dir.path(), "none", "seed: 1");
    wasm_worker(["test", "--from", path(&no_recording)]).done().fails_with(2, &["it is not a recording"]);
    let outline = dir.path().join("outline");
    let args = ["run", path(&agent), "--job", "--spec", "-", "--record", path(&outline), "--record-content", "off"];
    wasm_worker(args).stdin(spec).done();
    let recording = std::fs::read_dir(&outline).unwrap().next().unwrap().unwrap().path();
    wasm_worker(["test", "--from", path(&recording)]).done().fails_with(2, &["the recording has no contents"]);
}
