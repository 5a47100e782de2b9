//! Servers that do harm: the agent is told by a code, and the worker and its other jobs go on.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::network::{fetch, outcomes};
use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{guest, path, run_guest};
use crate::support::network::Ca;
use crate::support::web::{Act, Web, answer, ok, sockets};

const MIB: usize = 1 << 20;

/// Many zeros in few bytes.
fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        encoder.write_all(&vec![0; MIB]).unwrap();
    }
    let body = encoder.finish().unwrap();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.into_bytes(), body].concat()
}

fn raw(text: &str) -> Act {
    Act::Answer(text.into())
}

fn hostile() -> Web {
    Web::start(|asked| match asked.path() {
        "/silent" => Act::Hang(Vec::new()),
        "/half-a-head" => Act::Hang(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
        "/half-a-body" => Act::Hang(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec()),
        "/broken-body" => raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
        "/broken-chunk" => raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"),
        "/nothing" => raw(""),
        "/ssh" => raw("SSH-2.0-OpenSSH_9.9\r\n"),
        "/two-lengths" => raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        "/long" => raw("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"),
        "/no-gzip" => answer("200 OK", &[("content-encoding", "gzip")], "none"),
        "/brotli" => answer("200 OK", &[("content-encoding", "br")], "none"),
        "/bomb" => Act::Answer(bomb()),
        "/headers" => Act::Pour(b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(100)),
        "/header" => Act::Pour(b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'y'; 10_000]),
        "/flood" => Act::Pour(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 64 << 10]),
        _ => ok("well"),
    })
}

#[test]
fn hostile_server_is_told_by_its_code_and_the_job_goes_on() {
    let (web, ca) = (hostile(), Ca::new());
    let other_name = ca.tls("other.test", web.address).port();
    let strange = Ca::new().tls("localhost", web.address).port();
    let frame = sockets(|_, _| vec![vec![0; MIB].into(), vec![0; MIB + 1].into(), "after it".into()]).port();
    let flood = sockets(|_, _| (0..20_000).map(|number| format!("{number}").into()).collect()).port();
    let port = web.address.port();
    let table = [
        (format!("brief {}", web.url("silent")), "timeout: "),
        (format!("brief {}", web.url("half-a-head")), "timeout: "),
        (format!("brief {}", web.url("half-a-body")), "timeout: "),
        (format!("get {}", web.url("broken-body")), "unavailable: "),
        (format!("get {}", web.url("broken-chunk")), "malformed: "),
        (format!("get {}", web.url("nothing")), "unavailable: "),
        (format!("get {}", web.url("ssh")), "malformed: "),
        (format!("get {}", web.url("two-lengths")), "malformed: "),
        (format!("get {}", web.url("long")), "too-large: "),
        (format!("get {}", web.url("no-gzip")), "malformed: "),
        (format!("get {}", web.url("brotli")), "not-supported: "),
        (format!("get {}", web.url("bomb")), "too-large: "),
        (format!("get {}", web.url("headers")), "too-large: "),
        (format!("get {}", web.url("header")), "too-large: "),
        (format!("get {}", web.url("flood")), "too-large: the answer has more than 16777216 bytes"),
        (format!("get https://localhost:{other_name}/"), "tls: "),
        (format!("get https://localhost:{strange}/"), "tls: "),
        (format!("get https://127.0.0.1:{port}/"), "tls: "),
        ("get http://127.0.0.1:9/".to_owned(), "refused: "),
        (
            format!("socket ws://127.0.0.1:{frame}/ hello"),
            "closed: closed with 1009: the server sent a message of more than",
        ),
        (format!("socket ws://127.0.0.1:{flood}/ hello"), "20000 messages, the last one: 19999"),
        (format!("socket ws://127.0.0.1:{port}/ hello"), "refused: "),
        (format!("get {}", web.url("good")), "200 well"),
    ];
    let orders: Vec<String> = table.iter().map(|(order, _)| order.clone()).collect();
    let ports = [port, other_name, strange, frame, flood, 9].map(|port| format!("127.0.0.1:{port},localhost:{port}"));
    let call = fetch(&orders, &["--allow-host", &ports.join(",")]).env("SSL_CERT_FILE", ca.file.path());
    let done = call.done();
    for ((order, says), told) in table.iter().zip(outcomes(&done)) {
        assert!(told.starts_with(says), "{order}: {}", &told[..told.len().min(300)]);
    }
    assert!(!done.stderr.contains("panicked at"), "{}", done.stderr);
}

#[test]
fn agent_without_grants_is_told_so_and_repeatable_requests_are_sent_again() {
    let done = fetch(&["get https://api.example.com/".into(), "socket wss://api.example.com/ x".into()], &[]).done();
    for told in outcomes(&done) {
        assert!(
            told.starts_with("not-allowed: the agent may use no host") && told.contains("`--allow-host HOST`"),
            "{told}"
        );
    }
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let web = Web::start(move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 => answer("429 Too Many Requests", &[("retry-after", "0")], "later"),
        1 => answer("503 Service Unavailable", &[("retry-after", "0")], "later"),
        _ => ok("now"),
    });
    let done = fetch(&[format!("retry {}", web.url(""))], &["--allow-host", &web.address.to_string()]).done();
    assert_eq!((outcomes(&done), web.asked().len()), (vec!["200 now".to_owned()], 3));
}

#[test]
fn what_the_last_step_sent_is_delivered_and_a_server_that_hangs_delays_the_end_up_to_its_grace() {
    let web = hostile();
    let host = web.address.to_string();
    let run = |place: &str, flags: &[&str]| {
        fetch(&[format!("last {}", web.url(place))], &["--allow-host", &host]).args(flags.iter().copied()).done()
    };
    assert_eq!(outcomes(&run("good", &[])), ["sent"]);
    let last = web.asked().pop().unwrap();
    assert_eq!((last.path(), last.body.as_str()), ("/good", "last words"));
    let done = run("silent", &["--shutdown-grace", "1s"]);
    assert_eq!(outcomes(&done), ["sent"]);
    assert_eq!(web.asked().pop().unwrap().path(), "/silent");
    // A long answer to it is not waited for.
    assert_eq!(outcomes(&run("flood", &[])), ["sent"]);
}

#[test]
fn job_that_is_killed_gives_its_requests_up() {
    let web = hostile();
    let spec = json!({ "metadata": format!("get {}", web.url("silent")), "inbox": [{"after_ms": 500, "event": {"kill": {}}}] });
    let host = web.address.to_string();
    let done = run_guest("fetch", ["--spec", "-", "--allow-host", &host]).stdin(&spec.to_string()).done();
    assert_eq!(done.code(), "killed", "{}", done.stderr);
}

#[test]
fn worker_and_its_other_jobs_go_on_beside_hostile_servers() {
    let (web, dispatcher) = (hostile(), Dispatcher::start(&[]));
    let host = web.address.to_string();
    let agent = guest("fetch");
    let call = dispatcher.verb(["run", path(&agent), "--allow-host", &host, "--http", "off", "--log-level", "info"]);
    let call = call.args(["--load-threshold", "none", "--shutdown-grace", "1s"]);
    let worker = call.env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret").start();
    worker.says("worker.registered");
    let dispatch = |room: &str, places: &[&str]| {
        let orders: Vec<String> = places.iter().map(|place| format!("get {}", web.url(place))).collect();
        dispatcher.dispatch(room, "fetch", &orders.join("\n"))
    };
    let hanging: Vec<String> = (0..4).map(|number| dispatch(&format!("silent-{number}"), &["silent"])).collect();
    hanging.iter().for_each(|id| drop(dispatcher.in_state(id, "running")));
    let harmed = ["flood", "bomb", "headers"].map(|place| dispatch(place, &[place, "good"]));
    for id in harmed.iter().chain(&[dispatch("good", &["good"])]) {
        assert_eq!(dispatcher.ended(id)["code"], "completed", "{}", worker.said());
    }
    assert_eq!(web.asked().iter().filter(|asked| asked.path() == "/good").count(), 4);
    for id in &hanging {
        assert_eq!(dispatcher.job(id)["state"], "running", "{}", worker.said());
        dispatcher.verb(["cancel", id]).env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret").done();
        assert_eq!(dispatcher.ended(id)["code"], "terminated", "{}", worker.said());
    }
    assert_eq!(dispatcher.ended(&dispatch("last", &["good"]))["code"], "completed");
    worker.signal(rustix::process::Signal::TERM);
    let done = worker.done();
    assert!(done.exit == 0 && !done.stderr.contains("panicked at"), "{}", done.stderr);
}
