//! Scripts and requests, and the plans that they make.

use serde_json::json;

use super::*;
use crate::request::{Protocol, ToolResult};

fn request(user: &str) -> Request {
    Request {
        protocol: Protocol::Chat,
        model: "m".into(),
        delivery: Delivery::Stream,
        user: user.into(),
        results: Vec::new(),
        prompt_tokens: 2,
        tools: Vec::new(),
        calls: CallsAllowed::Parallel,
        tokens_max: None,
        stops: Vec::new(),
        format: Format::Text,
    }
}

fn with_result(user: &str, tool: &str, text: &str) -> Request {
    let result = ToolResult { name: tool.into(), text: text.into() };
    Request { results: vec![result], ..request(user) }
}

fn script(rules: &str) -> Script {
    Script::parse("f", &format!("rules:\n{rules}")).unwrap()
}

fn answer(script: &Script, request: &Request) -> Answer {
    match script.plan(&mut Counts::default(), request).reply {
        Reply::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn text(answer: &Answer) -> String {
    let tokens = answer.pieces.iter().map(|timed| match &timed.piece {
        Piece::Text(text) | Piece::Arguments(text) => text.clone(),
        Piece::Call { name, .. } => format!("<{name}>"),
        other => format!("<{other:?}>"),
    });
    tokens.collect()
}

/// The lines of the rules that answer these requests, in order.
fn lines(script: &Script, requests: &[Request]) -> Vec<Option<usize>> {
    let mut counts = Counts::default();
    requests.iter().map(|request| script.plan(&mut counts, request).line).collect()
}

#[test]
fn the_first_rule_that_fits_answers() {
    let script = script(
        "  - {when: {tool: \"get_*\", user: {contains: b}}, answer: x}\n  - {when: {tool: get_a}, answer: x}\n  \
         - {when: {user: hello}, answer: x}\n  - {when: {model: other}, answer: x}\n",
    );
    let requests = [
        with_result("abc", "get_a", ""),
        with_result("hello", "get_a", ""),
        request("hello"),
        Request { model: "other".into(), ..request("x") },
        request("x"),
        // A text that is answered already does not ask again.
        with_result("hello", "other", ""),
    ];
    assert_eq!(lines(&script, &requests), [Some(2), Some(3), Some(4), Some(5), None, None]);
    let plan = script.plan(&mut Counts::default(), &request("x"));
    let Reply::Refusal(error) = plan.reply else { panic!("{plan:?}") };
    assert_eq!((error.status, error.code()), (400, "no_rule_fits".into()));
}

#[test]
fn requests_are_counted_for_each_rule_that_fits() {
    let script = script(
        "  - {when: {user: a, nth: 1}, answer: x}\n  - {when: {nth: [2, 3]}, answer: x}\n  - {when: {user: a}, answer: x}\n  \
         - {answer: x}\n",
    );
    let requests = ["a", "b", "a", "a", "b"].map(request);
    assert_eq!(lines(&script, &requests), [Some(2), Some(3), Some(3), Some(4), Some(5)]);
}

#[test]
fn models_that_the_script_does_not_list_do_not_exist() {
    let script = Script::parse("f", "models: [a, b]\nrules: [{answer: x}]\n").unwrap();
    assert_eq!((script.models(), Script::built_in().models()), (vec!["a", "b"], vec![MODEL]));
    let Reply::Refusal(error) = script.plan(&mut Counts::default(), &request("x")).reply else { panic!("it answers") };
    assert_eq!((error.status, error.code()), (404, "model_not_found".into()));
    assert_eq!(text(&answer(&script, &Request { model: "b".into(), ..request("x") })), "x");
}

#[test]
fn facts_are_filled_in_once() {
    let script = script("  - answer: \"{user}|{tool}|{result}|{model}|{other}|{\"\n");
    assert_eq!(text(&answer(&script, &with_result("{result}", "t", "é"))), "{result}|t|é|m|{other}|{");
    let long = answer(&script, &request(&"é".repeat(10_000)));
    assert_eq!(text(&long).matches('é').count(), 2_048);
}

#[test]
fn text_and_calls_have_their_times() {
    let script = script(
        "  - answer:\n      text: one two\n      calls: [{name: t, arguments: {a: \"{user}\"}}, {name: u, id: c}]\n      \
         first-token: 1s\n      tokens-per-second: 10\n",
    );
    let answer = answer(&script, &request("\"x"));
    let call = |id: &str, name: &str| Piece::Call { id: id.into(), name: name.into() };
    let wanted = [
        (1_000, Piece::Text("one".into())),
        (1_100, Piece::Text(" two".into())),
        (1_200, call("call_1_0", "t")),
        (1_200, Piece::Arguments("{\"a\":\"\\\"".into())),
        (1_300, Piece::Arguments("x\"}".into())),
        (1_400, call("c", "u")),
        (1_400, Piece::Arguments("{}".into())),
    ];
    let timed: Vec<_> = answer.pieces.iter().map(|timed| (timed.at.as_millis(), timed.piece.clone())).collect();
    assert_eq!(timed, wanted);
    assert_eq!(answer.finish, Finish::ToolCalls);
    assert_eq!(answer.usage, Some(Usage { prompt: 2, cached: 0, completion: 5 }));
}

#[test]
fn the_client_bounds_the_answer() {
    let script = script("  - answer: {text: a b c d, calls: [{name: t}, {name: u}]}\n");
    let with = |change: fn(&mut Request)| {
        let mut request = request("x");
        change(&mut request);
        let answer = answer(&script, &request);
        (text(&answer), answer.finish, answer.usage.unwrap().completion)
    };
    assert_eq!(with(|_| {}), ("a b c d<t>{}<u>{}".into(), Finish::ToolCalls, 6));
    assert_eq!(with(|it| it.tokens_max = Some(3)), ("a b c".into(), Finish::Length, 3));
    assert_eq!(with(|it| it.tokens_max = Some(4)), ("a b c d".into(), Finish::Length, 4));
    assert_eq!(with(|it| it.tokens_max = Some(6)), ("a b c d<t>{}<u>{}".into(), Finish::ToolCalls, 6));
    assert_eq!(with(|it| it.calls = CallsAllowed::One), ("a b c d<t>{}".into(), Finish::ToolCalls, 5));
    assert_eq!(with(|it| it.calls = CallsAllowed::None), ("a b c d".into(), Finish::Stop, 4));
    let stops = |it: &mut Request| it.stops = vec!["d".into(), " c".into(), String::new()];
    assert_eq!(with(|it| it.stops = vec!["z".into()]).0, "a b c d<t>{}<u>{}");
    let mut stopped = request("x");
    stops(&mut stopped);
    stopped.calls = CallsAllowed::None;
    let stopped = answer(&script, &stopped);
    assert_eq!((text(&stopped), stopped.finish), ("a b".into(), Finish::Stop));
    let long = Script::parse("f", &format!("rules: [{{answer: \"{}\"}}]", "w ".repeat(TOKENS_MAX + 10))).unwrap();
    let long = answer(&long, &request("x"));
    assert_eq!((long.pieces.len(), long.finish), (TOKENS_MAX, Finish::Length));
}

#[test]
fn faults_stand_at_their_token() {
    let planned = |faults: &str| {
        let script = script(&format!("  - answer: {{text: a b c, tokens-per-second: 10}}\n    faults: {faults}\n"));
        answer(&script, &request("x"))
    };
    assert_eq!(text(&planned("{cut: 2}")), "a b<Interrupted(Cut)>");
    assert_eq!(text(&planned("{hang: 0}")), "<Interrupted(Hang)>");
    let late = planned("{stop: 9}");
    assert_eq!(text(&late), "a b c<Interrupted(Stop)>");
    assert_eq!(late.pieces.last().unwrap().at, Duration::from_millis(300));
    assert_eq!(text(&planned("{wrong-json: 1}")), "a<WrongJson> b c");
    assert_eq!(text(&planned("[{wrong-json: 5}, {error: 1}]")), "a<WrongJson><Interrupted(Error)>");
    assert_eq!(text(&planned("{long-line: 9B}")), "<LongLine(9)>a b c");
    assert_eq!(planned("no-usage").usage, None);
    assert_eq!(planned("{slow-loris: 1s}").byte_every, Some(Duration::from_secs(1)));
    let silent = script("  - faults: hang\n").plan(&mut Counts::default(), &request("x"));
    assert_eq!(silent.reply, Reply::Silence);
    let whole = Request { delivery: Delivery::Whole, ..request("x") };
    let failed = script("  - {answer: a b, faults: {error: 1}}\n").plan(&mut Counts::default(), &whole);
    assert_eq!(failed.reply, Reply::Refusal(ApiError::of_status(500)));
}

#[test]
fn the_script_without_a_file_repeats_and_adapts() {
    let built_in = Script::built_in();
    assert_eq!(text(&answer(&built_in, &request("hi there"))), "I am a stand-in for a model, and you said: hi there");
    assert!(text(&answer(&built_in, &request(""))).starts_with("Hello. I am a stand-in"));
    assert!(text(&answer(&built_in, &with_result("x", "now", "noon"))).ends_with("The tool now tells me: noon"));
    let schema = json!({ "properties": { "said": { "type": "string" }, "count": { "type": "integer" } } });
    let structured = Request { format: Format::JsonSchema(schema), ..request("hi") };
    let value: serde_json::Value = serde_json::from_str(&text(&answer(&built_in, &structured))).unwrap();
    assert_eq!((value["said"].as_str().unwrap().ends_with("hi"), &value["count"]), (true, &json!(0)));
    let object = Request { format: Format::JsonObject, ..request("hi") };
    let value: serde_json::Value = serde_json::from_str(&text(&answer(&built_in, &object))).unwrap();
    assert!(value["answer"].as_str().unwrap().ends_with("hi"));
}

#[test]
fn a_refusal_is_the_vendors_or_any() {
    let refusal = |refuse: &str| {
        let plan = script(&format!("  - refuse: {refuse}\n")).plan(&mut Counts::default(), &request("x"));
        let Reply::Refusal(error) = plan.reply else { panic!("{plan:?}") };
        error
    };
    assert_eq!(refusal("500"), ApiError::of_status(500));
    let limited = refusal("{status: 429, retry-after: 2s, code: insufficient_quota, message: No more.}");
    let ErrorBody::Object { message, kind, code, .. } = &limited.body else { panic!("{limited:?}") };
    assert_eq!(
        (message.as_str(), kind.as_str(), code.as_deref()),
        ("No more.", "requests", Some("insufficient_quota"))
    );
    assert_eq!(limited.retry_after, Some(Duration::from_secs(2)));
    let html = refusal("{status: 502, body: <h1>Bad gateway</h1>}");
    assert_eq!(html.encoded(), ("text/html".into(), "<h1>Bad gateway</h1>".into()));
}
