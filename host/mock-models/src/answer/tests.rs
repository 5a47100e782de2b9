//! Bytes of answers.

use serde_json::json;

use super::*;
use crate::script::{Counts, Script};

const USER: &str = "hi";

fn request(protocol: Protocol, stream: bool) -> Request {
    let body = match protocol {
        Protocol::Chat => json!({
            "model": "gpt", "stream": stream, "messages": [{ "role": "user", "content": USER }],
            "stream_options": stream.then(|| json!({ "include_usage": true })),
        }),
        Protocol::Responses => json!({ "model": "gpt", "stream": stream, "input": USER }),
    };
    Request::parse(protocol, body.to_string().as_bytes()).unwrap()
}

fn made(rule: &str, request: &Request) -> Vec<Frame> {
    let script = Script::parse("f", &format!("rules:\n  - {rule}\n")).unwrap();
    let plan = script.plan(&mut Counts::default(), request);
    let crate::plan::Reply::Answer(answer) = plan.reply else { panic!("{plan:?}") };
    frames(answer, Head::new(request, 7, 1_700_000_000)).collect()
}

fn bytes(frames: &[Frame]) -> String {
    let sent = frames.iter().filter_map(|frame| match &frame.act {
        Act::Send(bytes) => Some(bytes.as_slice()),
        Act::Hang | Act::Cut => None,
    });
    String::from_utf8(sent.collect::<Vec<_>>().concat()).unwrap()
}

fn stream(rule: &str) -> String {
    bytes(&made(rule, &request(Protocol::Chat, true)))
}

fn whole(rule: &str) -> Value {
    serde_json::from_str(&bytes(&made(rule, &request(Protocol::Chat, false)))).unwrap()
}

/// The data of events that are JSON.
fn data(stream: &str) -> Vec<Value> {
    stream.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect()
}

#[test]
fn a_stream_is_role_tokens_end_usage_and_done() {
    let frames =
        made("answer: {text: one two, tokens-per-second: 10, first-token: 1s}", &request(Protocol::Chat, true));
    let times: Vec<u128> = frames.iter().map(|frame| frame.at.as_millis()).collect();
    assert_eq!(times, [1_000, 1_000, 1_100, 1_100]);
    let text = bytes(&frames);
    assert!(text.ends_with("\n\ndata: [DONE]\n\n"), "{text}");
    let chunks = data(&text);
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let role = json!({ "role": "assistant", "content": "", "refusal": null });
    assert_eq!(deltas, [&role, &json!({ "content": "one" }), &json!({ "content": " two" }), &json!({}), &Value::Null]);
    assert_eq!((&chunks[3]["choices"][0]["finish_reason"], &chunks[4]["choices"]), (&json!("stop"), &json!([])));
    assert_eq!((&chunks[0]["usage"], &chunks[4]["usage"]["total_tokens"]), (&Value::Null, &json!(3)));
    for chunk in &chunks {
        assert_eq!((&chunk["id"], &chunk["model"]), (&json!("chatcmpl-stand-in-7"), &json!("stand-in/gpt")));
        assert_eq!((&chunk["object"], &chunk["created"]), (&json!("chat.completion.chunk"), &json!(1_700_000_000)));
    }
}

#[test]
fn calls_come_in_pieces_with_their_index() {
    let rule = "answer: {calls: [{name: t, id: a, arguments: {city: Paris}}, {name: u, id: b}]}";
    let chunks = data(&stream(rule));
    assert_eq!(chunks[0]["choices"][0]["delta"]["content"], Value::Null);
    let calls: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]["tool_calls"][0]).collect();
    assert_eq!(
        (&calls[1]["id"], &calls[1]["function"]["name"], &calls[1]["function"]["arguments"]),
        (&json!("a"), &json!("t"), &json!(""))
    );
    let arguments = |index: u64| -> String {
        let of_it = calls.iter().filter(|call| call["index"] == index);
        of_it.filter_map(|call| call["function"]["arguments"].as_str()).collect()
    };
    assert_eq!((arguments(0), arguments(1)), ("{\"city\":\"Paris\"}".into(), "{}".into()));
    let finish = chunks.iter().find_map(|chunk| chunk["choices"][0]["finish_reason"].as_str());
    assert_eq!(finish, Some("tool_calls"));
    let tiny = data(&stream(&format!("{rule}\n    faults: tiny-calls")));
    assert_eq!(tiny.len(), chunks.len() - 3 + 18);
}

#[test]
fn a_whole_answer_is_one_object() {
    let body = whole("answer: one two");
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!("stand-in/gpt")));
    assert_eq!(
        (&body["choices"][0]["message"]["content"], &body["choices"][0]["finish_reason"]),
        (&json!("one two"), &json!("stop"))
    );
    assert_eq!(body["usage"]["completion_tokens"], 2);
    let body = whole("answer: {calls: [{name: t, id: a, arguments: \"{\"}]}");
    let message = &body["choices"][0]["message"];
    let call = json!({ "id": "a", "type": "function", "function": { "name": "t", "arguments": "{" } });
    assert_eq!((&message["content"], &message["tool_calls"]), (&Value::Null, &json!([call])));
}

#[test]
fn a_model_name_says_that_a_stand_in_answers() {
    assert_eq!(
        ["gpt", "stand-in", "stand-in/x", ""].map(model_name),
        ["stand-in/gpt", "stand-in", "stand-in/x", "stand-in/"]
    );
}

#[test]
fn oddities_change_lines_and_events() {
    let plain = stream("answer: a b");
    assert!(!plain.contains('\r') && plain.starts_with("data: {"));
    assert_eq!(stream("{answer: a b, faults: crlf}"), plain.replace('\n', "\r\n"));
    assert_eq!(stream("{answer: a b, faults: no-space}"), plain.replace("data: ", "data:"));
    assert_eq!(stream("{answer: a b, faults: no-done}"), plain.replace("data: [DONE]\n\n", ""));
    assert_eq!(stream("{answer: a b, faults: comments}"), plain.replace("data: ", ": keep-alive\n\ndata: "));
    let empty = stream("{answer: a b, faults: empty-choices}");
    assert!(empty.ends_with(&plain), "{empty}");
    assert_eq!(data(&empty)[0]["choices"], json!([]));
    let without = data(&stream("{answer: a b, faults: no-usage}"));
    assert_eq!(without.len(), data(&plain).len() - 1);
    assert_eq!(whole("{answer: a b, faults: empty-choices}")["choices"], json!([]));
    assert_eq!(whole("{answer: a b, faults: no-usage}").get("usage"), None);
}

#[test]
fn faults_end_or_break_a_stream() {
    let chat = request(Protocol::Chat, true);
    let cut = made("{answer: a b c, faults: {cut: 1}}", &chat);
    assert_eq!((cut.len(), &cut[2].act), (3, &Act::Cut));
    let hang = made("{answer: a b c, faults: {hang: 2}}", &chat);
    assert_eq!((hang.len(), &hang[3].act), (4, &Act::Hang));
    let stop = bytes(&made("{answer: a b c, faults: {stop: 1}}", &chat));
    assert!(stop.contains("\"a\"") && !stop.contains("DONE") && !stop.contains("\"stop\""), "{stop}");
    let error = stream("{answer: a b c, faults: {error: 1}}");
    assert_eq!(data(&error).last().unwrap()["error"]["type"], "server_error");
    let wrong = stream("{answer: a b c, faults: {wrong-json: 1}}");
    let bad = wrong.lines().filter(|line| line.starts_with("data: {")).filter(|line| !line.ends_with('}'));
    assert_eq!((bad.count(), wrong.contains(" c"), wrong.contains("DONE")), (1, true, true));
    let long = stream("{answer: a, faults: {long-line: 100KiB}}");
    assert!(long.lines().any(|line| line.len() > 100 << 10));
}

#[test]
fn faults_of_a_whole_answer_stand_in_its_middle() {
    let chat = request(Protocol::Chat, false);
    let all = bytes(&made("answer: a b c", &chat));
    let cut = made("{answer: a b c, faults: {cut: 3}}", &chat);
    assert_eq!((bytes(&cut).as_str(), &cut[1].act), (&all[..all.len() / 2], &Act::Cut));
    assert_eq!(made("{answer: a b c, faults: {stop: 3}}", &chat).len(), 1);
    let wrong = bytes(&made("{answer: a b c, faults: {wrong-json: 1}}", &chat));
    assert_eq!(wrong, all[..all.len() - 1]);
}

#[test]
fn bytes_come_one_by_one() {
    let frames = made(
        "{answer: {text: a b, tokens-per-second: 1}, faults: {slow-loris: 100ms}}",
        &request(Protocol::Chat, true),
    );
    assert!(frames.iter().all(|frame| matches!(&frame.act, Act::Send(bytes) if bytes.len() == 1)));
    assert_eq!(bytes(&frames), stream("answer: a b"));
    assert!(frames.windows(2).all(|pair| pair[1].at >= pair[0].at + Duration::from_millis(100)));
}

#[test]
fn a_response_has_numbered_events() {
    let rule = "answer: {text: one two, calls: [{name: t, id: a, arguments: {x: 1}}]}";
    let text = bytes(&made(rule, &request(Protocol::Responses, true)));
    let events = data(&text);
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    let wanted = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds, wanted);
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names, kinds);
    assert!(events.iter().enumerate().all(|(at, event)| event["sequence_number"] == at));
    let response = &events[13]["response"];
    assert_eq!(
        (&response["status"], &response["output"][0]["content"][0]["text"]),
        (&json!("completed"), &json!("one two"))
    );
    let call = &response["output"][1];
    assert_eq!(
        (&call["call_id"], &call["arguments"], &call["id"]),
        (&json!("a"), &json!("{\"x\":1}"), &json!("fc_7_1"))
    );
    let whole: Value = serde_json::from_str(&bytes(&made(rule, &request(Protocol::Responses, false)))).unwrap();
    assert_eq!(&whole, response);
    assert!(!text.contains("[DONE]"));
}

#[test]
fn a_response_may_be_incomplete_or_fail() {
    let request = request(Protocol::Responses, true);
    let cut = data(&bytes(&made("answer: {text: a, finish: length}", &request)));
    let last = cut.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["incomplete_details"]["reason"]),
        (&json!("response.incomplete"), &json!("max_output_tokens"))
    );
    let failed = data(&bytes(&made("{answer: a b, faults: {error: 1}}", &request)));
    assert_eq!(failed.last().unwrap()["type"], "error");
}
