//! The API of the embedded dispatcher: tokens and grants, request ids, rooms, bounds, and the errors of each.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use livekit_token::VideoGrants;
use serde_json::{Value, json};

use crate::support::dispatcher::{Dispatcher, everything, token};
use crate::support::harness::eventually;

const CREATE: &str = "AgentDispatchService/CreateDispatch";
const LIST: &str = "AgentDispatchService/ListDispatch";

#[test]
fn repeated_request_is_the_same_dispatch() {
    let dispatcher = Dispatcher::start(&[]);
    let create = |id: &str| {
        let headers = [("X-Livekit-Request-Id", id)];
        let request = json!({ "agent_name": "nobody", "room": "r" });
        dispatcher.twirp_as(&everything("r"), CREATE, &headers, &request).body["id"].clone()
    };
    let first = create("5f0c");
    assert_eq!(create("5f0c"), first);
    assert_ne!(create("5f0d"), first);
    assert_eq!(dispatcher.verb(["cancel", first.as_str().unwrap()]).done().exit, 0);
    assert_eq!(create("5f0c"), first, "also when it is over");
    assert_eq!(dispatcher.ended(first.as_str().unwrap())["code"], "cancelled");
}

#[test]
fn errors_of_the_api_have_livekit_s_codes_and_messages() {
    let dispatcher = Dispatcher::start(&["--metadata-limit", "1KiB"]);
    let request = json!({ "agent_name": "nobody", "room": "r" });
    let refused = |token: &str, method: &str, request: &Value| {
        let answer = dispatcher.twirp_as(token, method, &[], request);
        let part = |name: &str| answer.body[name].as_str().unwrap_or_default().to_owned();
        (answer.status, part("code"), part("msg"))
    };
    let admin = everything("r");
    let of = |grants: VideoGrants| token("secret", grants);
    // A bad token is refused before anything else, and not in Twirp's form.
    assert_eq!(dispatcher.twirp_as(&token("other", VideoGrants::default()), CREATE, &[], &request).status, 401);
    let denied = |grant: &str| {
        (401, "unauthenticated".to_owned(), format!("permissions denied: the token has no grant {grant}"))
    };
    let for_no_room = of(VideoGrants { room_admin: true, ..Default::default() });
    assert_eq!(refused(&everything("other"), CREATE, &request), denied("`roomAdmin` for this room"));
    assert_eq!(refused(&for_no_room, CREATE, &request), denied("`roomAdmin` for this room"));
    let nothing = of(VideoGrants::default());
    assert_eq!(refused(&nothing, "RoomService/ListRooms", &json!({})), denied("`roomList`"));
    assert_eq!(refused(&nothing, "RoomService/CreateRoom", &json!({ "name": "r" })), denied("`roomCreate`"));
    let no_room = (400, "invalid_argument".to_owned(), "the name of the room is missing".to_owned());
    assert_eq!(refused(&everything(""), CREATE, &json!({ "agent_name": "x" })), no_room);
    let invalid = |request: Value, part: &str| {
        let (status, code, message) = refused(&admin, CREATE, &request);
        assert_eq!((status, code.as_str()), (400, "invalid_argument"), "{message}");
        assert!(message.contains(part), "{message}");
    };
    invalid(
        json!({ "room": "r", "metadata": "x".repeat(1_025) }),
        "the metadata has 1025 bytes, at most 1024 are allowed",
    );
    invalid(json!({ "room": "r", "deployment": "a_b" }), "no `_`");
    invalid(json!({ "room": "r", "attributes": { "x": "y".repeat(65_536) } }), "at most 65536 are allowed");
    invalid(json!({ "room": "r", "attributes": { "wasm-worker.priority": "high" } }), "want a whole number");
    invalid(json!({ "room": "r", "attributes": { "wasm-worker.deadline": "soon" } }), "want a time above zero");
    invalid(json!({ "room": "r", "agent_name": "a\nb" }), "control characters");
    let raw = |content: &str, body: &str| {
        let answer = dispatcher.ask("POST", &format!("/twirp/livekit.{CREATE}"), content, &admin, &[], body);
        (answer.status, answer.body["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(raw("application/json", "{"), (400, "malformed".into()));
    assert_eq!(raw("application/protobuf", "\u{1}"), (400, "malformed".into()));
    assert_eq!(raw("text/plain", "{}"), (404, "bad_route".into()));
    assert_eq!(raw("application/json; charset=UTF-8", r#"{"room":"r","unknown":1}"#).0, 200);
    assert_eq!(raw("Application/JSON", r#"{"room":"r","agentName":null,"restartPolicy":1.0}"#).0, 200);
    let get = dispatcher.ask("GET", &format!("/twirp/livekit.{CREATE}"), "", &admin, &[], "");
    assert_eq!((get.status, &get.body["code"]), (404, &"bad_route".into()), "as LiveKit's server answers");
    let wrong = dispatcher.ask("POST", "/api/v1/workers", "", &admin, &[], "");
    assert_eq!((wrong.status, wrong.body["error"].is_string()), (405, true), "{}", wrong.body);
    assert_eq!(refused(&admin, "AgentDispatchService/Nothing", &json!({})).1, "bad_route");
    assert_eq!(refused(&admin, "RoomService/MoveParticipant", &json!({})).1, "unimplemented");
    assert_eq!(refused(&everything("x"), LIST, &json!({ "room": "x" })).1, "not_found");
    let twice = dispatcher.ask("POST", "//twirp/livekit.RoomService/ListRooms", "application/json", &admin, &[], "{}");
    assert_eq!(twice.status, 200, "a doubled slash does not matter");
    assert_eq!(dispatcher.ask("GET", "/agent", "", &admin, &[], "").status, 404);
}

#[test]
fn queue_and_rate_are_bounded_and_callers_learn_when_to_retry() {
    let dispatcher = Dispatcher::start(&["--queue-limit", "3"]);
    let request = json!({ "agent_name": "nobody", "room": "r" });
    for _ in 0..3 {
        assert_eq!(dispatcher.twirp(CREATE, "r", &request).status, 200);
    }
    let full = dispatcher.twirp(CREATE, "r", &request);
    assert_eq!((full.status, &full.body["code"]), (429, &"resource_exhausted".into()));
    assert_eq!((full.retry_after.as_deref(), &full.body["meta"]["retry_after_seconds"]), (Some("1"), &"1".into()));
    assert_eq!(full.body["msg"], "the queue is full: 3 dispatches of this API key wait");
    dispatcher.verb(["dispatch", "nobody"]).done().fails_with(2, &["the queue is full", "hint: try again"]);
    // Of many calls two come within one second.
    let dispatcher = Dispatcher::start(&["--dispatch-rate", "1"]);
    let mut fast = (0..1_000).map(|_| dispatcher.twirp(CREATE, "r", &request).body["msg"].to_string());
    assert!(fast.any(|message| message.contains("`dispatch-rate`")), "the rate is not limited");
}

#[test]
fn tokens_are_minted_for_clients_and_workers() {
    let dispatcher = Dispatcher::start(&[]);
    let minted = dispatcher.verb(["token", "--admin", "--room", "r"]).done().stdout;
    assert_eq!(dispatcher.twirp_as(minted.trim(), CREATE, &[], &json!({ "room": "r", "agent_name": "x" })).status, 200);
    dispatcher.verb(["token"]).done().fails_with(2, &["the token would allow nothing"]);
    dispatcher.verb(["token", "--room", "r"]).done().fails_with(2, &["needs `--identity`"]);
    let wrong = dispatcher.verb(["jobs"]).env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "wrong").done();
    let hint = "hint: check LIVEKIT_API_KEY and LIVEKIT_API_SECRET, and that the clocks agree\n";
    let why = "invalid token: it is not signed with the server's secret of the API key `devkey`";
    wrong.fails_with(2, &[why, hint]);
    let unknown = dispatcher.verb(["jobs"]).env("LIVEKIT_API_KEY", "nobody").env("LIVEKIT_API_SECRET", "secret").done();
    unknown.fails_with(2, &["the server has no API key `nobody`", hint]);
    dispatcher.verb(["dispatch", "x", "--room", ""]).done().fails_with(2, &["the name of the room is missing"]);
}

#[test]
fn request_id_of_another_room_shows_nothing_of_its_dispatch() {
    let dispatcher = Dispatcher::start(&[]);
    let create = |room: &str, agent: &str| {
        let request = json!({ "agent_name": agent, "room": room, "metadata": format!("of {room}") });
        dispatcher.twirp_as(&everything(room), CREATE, &[("X-Livekit-Request-Id", "5f0c")], &request)
    };
    let first = create("room-1", "nobody").body["id"].as_str().unwrap().to_owned();
    for (room, agent) in [("room-2", "nobody"), ("room-1", "other")] {
        let refused = create(room, agent);
        assert_eq!((refused.status, &refused.body["code"]), (400, &"invalid_argument".into()), "{}", refused.body);
        assert!(!refused.body.to_string().contains("of room-1"), "{}", refused.body);
    }
    assert_eq!(dispatcher.verb(["cancel", &first]).done().exit, 0);
    assert_eq!(create("room-2", "nobody").status, 400, "also when it is over");
    assert_eq!(create("room-1", "nobody").body["id"], first);
}

#[test]
fn grants_have_the_scope_that_livekit_s_server_gives_them() {
    let dispatcher = Dispatcher::start(&[]);
    let id = dispatcher.dispatch("room-1", "nobody", "private");
    let as_caller = |method: &str, path: &str, grants: VideoGrants| {
        dispatcher.ask(method, &format!("/api/v1/jobs{path}"), "", &token("secret", grants), &[], "")
    };
    let admin = |room: &str| VideoGrants { room_admin: true, room: room.into(), ..Default::default() };
    let list = VideoGrants { room_list: true, ..Default::default() };
    let create = VideoGrants { room_create: true, ..Default::default() };
    let one = format!("/{id}");
    let whole = as_caller("GET", &one, admin("room-1"));
    assert_eq!((whole.status, &whole.body["metadata"]), (200, &"private".into()));
    let brief = as_caller("GET", &one, list.clone());
    assert_eq!((brief.status, &brief.body["room"], &brief.body["metadata"]), (200, &"room-1".into(), &Value::Null));
    assert_eq!(as_caller("GET", &one, admin("room-2")).status, 404, "of another room");
    assert_eq!(as_caller("GET", &one, create.clone()).status, 401);
    assert_eq!(as_caller("GET", "?room=room-1", admin("room-1")).status, 200);
    assert_eq!(as_caller("GET", "", admin("room-1")).status, 401);
    let cancel = format!("/{id}/cancel");
    for grants in [list, create, admin("")] {
        let refused = as_caller("POST", &cancel, grants);
        assert!([401, 404].contains(&refused.status), "{}", refused.body);
    }
    assert_eq!(as_caller("POST", &cancel, admin("room-2")).status, 404);
    assert_eq!(as_caller("POST", &cancel, admin("room-1")).status, 202);
}

#[test]
fn second_request_for_a_room_changes_it_and_dispatches_its_new_agents() {
    let dispatcher = Dispatcher::start(&[]);
    let create = |request: Value| {
        let answer = dispatcher.twirp("RoomService/CreateRoom", "r", &request);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    };
    let agents = || {
        let listed = dispatcher.twirp(LIST, "r", &json!({ "room": "r" })).body;
        let dispatches = listed["agentDispatches"].as_array().cloned().unwrap_or_default();
        dispatches.iter().map(|dispatch| dispatch["agentName"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let first = create(json!({ "name": "r", "metadata": "old", "agents": [{ "agentName": "a" }] }));
    let second =
        create(json!({ "name": "r", "emptyTimeout": 77, "agents": [{ "agentName": "a" }, { "agentName": "b" }] }));
    assert_eq!(second["sid"], first["sid"]);
    assert_eq!((&second["metadata"], &second["emptyTimeout"]), (&"old".into(), &77.into()));
    assert_eq!(create(json!({ "name": "r", "metadata": "new" }))["metadata"], "new");
    assert_eq!(agents(), ["a", "b"], "none is dispatched twice");
    let listed = dispatcher.twirp("RoomService/ListRooms", "r", &json!({ "names": ["r", "r"] })).body;
    assert_eq!(listed["rooms"].as_array().unwrap().len(), 1);
    assert_eq!((&listed["rooms"][0]["metadata"], &listed["rooms"][0]["emptyTimeout"]), (&"new".into(), &77.into()));
}

#[test]
fn waiting_callers_beyond_the_bound_are_answered_at_once() {
    let dispatcher = Dispatcher::start(&[]);
    let id = dispatcher.dispatch("r", "brief", "");
    let head = format!(
        "GET /jobs/{id}?after=pending&wait_ms=60000 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        everything("")
    );
    // Eight more than may wait.
    let connect = |_| {
        let mut stream = TcpStream::connect(dispatcher.url.trim_start_matches("ws://")).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    };
    let callers: Vec<TcpStream> = (0..520).map(connect).collect();
    let answered = |stream: &TcpStream| stream.peek(&mut [0]).is_ok();
    eventually("eight are told at once", || (callers.iter().filter(|call| answered(call)).count() == 8).then_some(()));
    let (told, waiting): (Vec<_>, Vec<_>) = callers.into_iter().partition(answered);
    for mut stream in told {
        let mut text = String::new();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.to_lowercase().contains("connection: close"), "{text}");
        assert!(text.contains(r#""state":"pending""#), "{text}");
    }
    let worker = dispatcher.worker(&["brief"], &[]);
    dispatcher.ended(&id);
    for mut stream in waiting {
        let mut some = [0; 12];
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.read_exact(&mut some).unwrap();
        assert_eq!(&some, b"HTTP/1.1 200");
    }
    worker.kill();
}
