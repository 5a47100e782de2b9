//! Answers of servers, real and odd, written by hand after their documentation and after public issues.

mod wire;

use serde_json::json;
use wasm_worker_sdk::LlmUsage;

use super::answer::Answer;
use crate::fake::texts;
use crate::{ChatDelta, ChatEnd, ChatError, Finish, ToolCall};

/// The parts of a body.
fn read(body: &str) -> Result<Vec<ChatDelta>, ChatError> {
    let mut answer = Answer::default();
    let mut deltas = answer.feed(body.as_bytes())?;
    let (rest, end) = answer.finish();
    deltas.extend(rest);
    deltas.push(ChatDelta::End(end?));
    Ok(deltas)
}

/// The text of a body, and its end.
fn text_and_end(body: &str) -> (String, ChatEnd) {
    let deltas = read(body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let Some(ChatDelta::End(end)) = deltas.last() else { panic!("no end") };
    (texts(&deltas), end.clone())
}

fn calls(deltas: &[ChatDelta]) -> Vec<ToolCall> {
    let call = |delta: &ChatDelta| if let ChatDelta::ToolCall(call) = delta { Some(call.clone()) } else { None };
    deltas.iter().filter_map(call).collect()
}

/// A stream of one chunk for each of these deltas.
fn stream(deltas: &[serde_json::Value]) -> String {
    let chunk = |delta| format!("data: {}\n\n", json!({ "choices": [{ "index": 0, "delta": delta }] }));
    deltas.iter().map(chunk).collect()
}

const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn hello() -> String {
    stream(&[json!({ "role": "assistant", "content": "" }), json!({ "content": "Hel" }), json!({ "content": "lo ½" })])
}

#[test]
fn stream_means_the_same_wherever_it_is_cut() {
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{"cached_tokens":4}}}"#;
    let body = format!("{}{STOP}{usage}\n\n{DONE}", hello()).replace('\n', "\r\n");
    let usage = LlmUsage { input_tokens: 9, input_cached_tokens: 4, output_tokens: 2 };
    let end = ChatEnd { finish: Finish::Stop, usage: Some(usage) };
    for at in 0..=body.len() {
        let (before, after) = body.as_bytes().split_at(at);
        let mut answer = Answer::default();
        let mut deltas = answer.feed(before).unwrap();
        deltas.extend(answer.feed(after).unwrap());
        assert!(answer.is_done(), "cut at {at}");
        let (rest, told) = answer.finish();
        assert_eq!((texts(&deltas), rest.len(), told.unwrap()), ("Hello ½".into(), 0, end.clone()));
    }
}

#[test]
fn usage_comes_in_many_places_or_not_at_all() {
    assert_eq!(text_and_end(&format!("{}{STOP}{DONE}", hello())).1.usage, None);
    let tokens = Some(LlmUsage { input_tokens: 3, output_tokens: 1, ..LlmUsage::default() });
    let usage = json!({ "prompt_tokens": 3, "completion_tokens": 1 });
    let places = [
        json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }], "usage": usage }),
        json!({ "choices": [], "usage": usage }),
        json!({ "usage": usage }),
        json!({ "choices": [{ "delta": {}, "usage": usage }] }),
        json!({ "choices": [], "x_groq": { "usage": usage } }),
    ];
    for place in places {
        // The usage of a chunk may be null, or grow with each chunk.
        let early = json!({ "choices": [], "usage": { "prompt_tokens": 3, "completion_tokens": 0 } });
        let body = format!("{}data: {early}\n\ndata: {place}\n\ndata: {{\"usage\":null}}\n\n{DONE}", hello());
        assert_eq!(text_and_end(&body).1.usage, tokens, "{place}");
    }
    for odd in [json!({}), json!([]), json!("many"), json!({ "prompt_tokens": null }), json!({ "prompt_tokens": -1 })] {
        let body = format!("{}data: {}\n\n{DONE}", hello(), json!({ "choices": [], "usage": odd }));
        assert_eq!(text_and_end(&body).1.usage, None);
    }
}

#[test]
fn end_is_told_in_many_ways_or_not_at_all() {
    let finish = |body: &str| text_and_end(body).1.finish;
    let hello = hello();
    assert_eq!(finish(&format!("{hello}{STOP}{DONE}")), Finish::Stop);
    // No mark of the end.
    assert_eq!(finish(&format!("{hello}{STOP}")), Finish::Stop);
    // No reason.
    assert_eq!(finish(&format!("{hello}{DONE}")), Finish::Stop);
    // Neither: the answer is cut, and says so after its text.
    let mut cut = Answer::default();
    let mut deltas = cut.feed(hello.trim_end().as_bytes()).unwrap();
    let (rest, end) = cut.finish();
    deltas.extend(rest);
    assert_eq!(texts(&deltas), "Hello ½");
    assert!(matches!(end, Err(ChatError::Cut)));
    // An empty reason, or none, in each chunk before the last.
    let chunks = r#"data: {"choices":[{"delta":{"content":"a"},"finish_reason":""}]}

data: {"choices":[{"delta":{"content":"b"},"finish_reason":null}]}

data: {"choices":[{"delta":{"content":"c"},"finish_reason":"length"}]}

"#;
    assert_eq!(text_and_end(chunks), ("abc".into(), ChatEnd { finish: Finish::Length, usage: None }));
    let odd = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"eos\"}]}\n\n";
    assert_eq!(finish(odd), Finish::Other("eos".into()));
    // The last line has no newline, and data has no space before it.
    let last = r#"data:{"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}"#;
    assert_eq!(text_and_end(last).0, "x");
    assert_eq!(finish(&format!("{hello}data:[DONE]")), Finish::Stop);
}

#[test]
fn noise_between_the_chunks_means_nothing() {
    let noise = [
        ": OPENROUTER PROCESSING\n\n",
        "data:\n\n",
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[{}]}\n\n",
        "data: {\"choices\":null}\n\n",
        "data: {\"choices\":[{\"delta\":null}]}\n\n",
        "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"another choice\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n",
        "data: {\"error\":null,\"choices\":[{\"delta\":{\"content\":\"\",\"tool_calls\":null}}]}\n\n",
        "data: {\"detail\":\"of no error\",\"choices\":[]}\n\n",
        "data: 7\n\n",
        "retry: 3000\n\n",
        "\n\n",
    ];
    let body: String = hello().split_inclusive("\n\n").map(|chunk| noise.concat() + chunk).collect();
    assert_eq!(text_and_end(&format!("{body}{STOP}{DONE}{}", hello())).0, "Hello ½");
    // Chunks without empty lines between them.
    assert_eq!(text_and_end(&format!("{}{DONE}", hello()).replace("\n\n", "\n")).0, "Hello ½");
}

#[test]
fn reasoning_has_three_forms() {
    let forms = [
        stream(&[json!({ "reasoning_content": "hm", "content": null }), json!({ "content": "yes" })]),
        stream(&[json!({ "reasoning": "hm" }), json!({ "reasoning": "", "content": "yes" })]),
        stream(&[json!({ "reasoning": "hm", "reasoning_content": "hm" }), json!({ "content": "yes" })]),
        stream(&[
            json!({ "content": [{ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }] }] }),
            json!({ "content": [{ "type": "text", "text": "yes" }] }),
        ]),
    ];
    for body in forms {
        let deltas = read(&(body.clone() + DONE)).unwrap();
        assert_eq!(deltas[..2], [ChatDelta::Reasoning("hm".into()), ChatDelta::Text("yes".into())], "{body}");
    }
}

#[test]
fn tool_calls_end_an_answer_whatever_its_reason() {
    let pieces = [
        json!({ "role": "assistant", "content": null, "tool_calls": [
            { "index": 0, "id": "a", "type": "function", "function": { "name": "f", "arguments": "" } },
            { "index": 1, "id": "b", "type": "function", "function": { "name": "g", "arguments": "{}" } },
        ] }),
        json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "{\"x\":1}" } }] }),
    ];
    // The next call may be missing.
    assert!(matches!(read(&stream(&pieces)), Err(ChatError::Cut)));
    for ending in [STOP, DONE, &STOP.replace("stop", "tool_calls")] {
        let deltas = read(&format!("{}{ending}", stream(&pieces))).unwrap();
        let names: Vec<String> = calls(&deltas).into_iter().map(|call| call.name + &call.arguments).collect();
        assert_eq!(names, [r#"f{"x":1}"#, "g{}"]);
        assert!(matches!(deltas.last(), Some(ChatDelta::End(end)) if end.finish == Finish::ToolCalls));
    }
}

#[test]
fn whole_answer_instead_of_a_stream_is_read() {
    let body = json!({
        "object": "chat.completion",
        "choices": [{ "index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "so",
            "tool_calls": [{ "id": "a", "type": "function", "function": { "name": "f", "arguments": "{}" } }],
        } }],
        "usage": { "prompt_tokens": 3, "completion_tokens": 1 },
    });
    let deltas = read(&format!("\n \n{body:#}\n")).unwrap();
    assert_eq!((texts(&deltas), calls(&deltas).len()), ("so".into(), 1));
    let refusal = json!({ "choices": [{ "message": { "content": null, "refusal": "no" }, "finish_reason": "stop" }] });
    assert_eq!(text_and_end(&refusal.to_string()).0, "no");
    // A message that repeats the stream at its end adds nothing.
    let message = json!({ "choices": [{ "message": { "content": "Hello" }, "finish_reason": "stop" }] });
    let repeated = format!("{}data: {message}\n\n", hello());
    assert_eq!(text_and_end(&repeated).0, "Hello ½");
}

#[test]
fn errors_with_status_200_are_errors() {
    let bodies = [
        format!("{}data: {}\n\n", hello(), json!({ "error": { "message": "overloaded", "code": 503 } })),
        format!("data: {}\n\n", json!({ "error": "overloaded" })),
        format!("event: error\ndata: {}\n\n", json!({ "error": { "message": "overloaded" } })),
        "event: error\ndata: overloaded\n\n".into(),
        json!({ "object": "error", "message": "overloaded", "code": 503 }).to_string(),
        json!({ "detail": "overloaded" }).to_string(),
        json!([{ "error": { "message": "overloaded" } }]).to_string(),
    ];
    for body in bodies {
        let error = read(&body).unwrap_err();
        assert!(matches!(&error, ChatError::Told { message, .. } if message == "overloaded"), "{error}: {body}");
        assert!(error.may_pass());
    }
    let refused = json!({ "error": { "message": "bad", "type": "invalid_request_error" } }).to_string();
    assert!(!read(&refused).unwrap_err().may_pass());
}

#[test]
fn what_is_no_answer_is_an_error() {
    let page = "<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>";
    assert!(read(page).unwrap_err().to_string().contains("Just a moment..."));
    for body in ["", "\n\n", ": nothing\n\n", "Internal Server Error", "{", "{}", "[]", "data: {\"choices\":[]}\n\n"] {
        assert!(matches!(read(body), Err(ChatError::Invalid(_))), "{body}");
    }
    assert!(matches!(read("data: {\"choices\":[{\"delta\n\n"), Err(ChatError::Invalid(_))));
    assert!(matches!(read(&format!("data: {}\n\n", "[".repeat(100_000))), Err(ChatError::Invalid(_))));
}

#[test]
fn answers_are_bounded() {
    let mut answer = Answer::default();
    let endless = vec![b'x'; 600 << 10];
    answer.feed(&endless).unwrap();
    assert!(matches!(answer.feed(&endless), Err(ChatError::TooLarge(_))));

    let mut answer = Answer::default();
    let chunk = stream(&[json!({ "content": "x".repeat(512 << 10) })]);
    let fed = (0..20).take_while(|_| answer.feed(chunk.as_bytes()).is_ok()).count();
    assert_eq!(fed, 8);

    let mut answer = Answer::default();
    let whole = format!("{{{}", " ".repeat(1 << 20));
    let fed = (0..20).take_while(|_| answer.feed(whole.as_bytes()).is_ok()).count();
    assert_eq!(fed, 3);

    let mut answer = Answer::default();
    let comments = ": ping\n".repeat(150_000);
    let fed = (0..100).take_while(|_| answer.feed(comments.as_bytes()).is_ok()).count();
    assert_eq!(fed, (64 << 20) / comments.len());
}
