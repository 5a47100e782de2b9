//! Secrets: the servers that get them, and every place that must not have them.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use crate::network::{outcomes, spec};
use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{Done, guest_that_asks, path, target_dir, wasm_worker};
use crate::support::rooms::dispatch_with;
use crate::support::web::{Act, Asked, Web, answer, ok, sockets};

const FIRST: &str = "sk-first-3f9d2b7c51aa";
const SECOND: &str = "sk-second/88e01c4d77f2";
/// What the servers tell too, so that a search that finds nothing anywhere is seen to fail.
const PLAIN: &str = "a-plain-word-5511";

/// The forms in which a secret could be somewhere.
fn forms(secret: &str) -> Vec<String> {
    vec![
        secret.to_owned(),
        secret.replace('/', "%2F"),
        secret.replace('/', "\\/"),
        secret.chars().rev().collect(),
        BASE64_STANDARD.encode(secret).trim_end_matches('=').to_owned(),
        BASE64_URL_SAFE_NO_PAD.encode(format!("Bearer {secret}")),
    ]
}

/// An order for the guest to look for this text in its memory. The order itself does not have it.
fn find(text: &str) -> String {
    let hex: String = text.bytes().map(|byte| format!("{:02x}", byte + 1)).collect();
    format!("find {hex}")
}

#[track_caller]
fn has_none(place: &str, bytes: &[u8]) {
    for form in [FIRST, SECOND].iter().flat_map(|secret| forms(secret)) {
        let is_there = bytes.windows(form.len()).any(|part| part == form.as_bytes());
        assert!(!is_there, "`{form}` is in {place}: {}", String::from_utf8_lossy(bytes));
    }
}

/// A server that tells everybody the secret that it is sent. Asked to, it changes the secret's file first.
fn gossip(file: &Path) -> Web {
    let file = file.to_owned();
    Web::start(move |asked: &Asked| {
        let key = asked.header("authorization").to_owned();
        let said = format!("{PLAIN} {key} and {key}");
        match asked.path() {
            "/header" => answer("200 OK", &[("x-echo", &said)], "seen"),
            "/whole" => ok(&said),
            "/pieces" => Act::Answer(in_pieces(&said)),
            "/base64" => ok(&format!("{PLAIN} {}", BASE64_STANDARD.encode(format!("user:{key}")))),
            "/escaped" => ok(&format!("{{\"key\": \"{}\"}}", key.replace('/', "\\/"))),
            "/moved" => answer("302 Found", &[("location", &format!("/landing?key={}", key.replace(' ', "+")))], ""),
            "/refused" => answer("401 Unauthorized", &[("www-authenticate", &key)], &format!("wrong key {key}")),
            "/change" => {
                fs::write(&file, format!("{SECOND}\n")).unwrap();
                ok("changed")
            }
            other => ok(&format!("{PLAIN} at {other}")),
        }
    })
}

/// A body whose every byte is a part of its own.
fn in_pieces(text: &str) -> Vec<u8> {
    let parts: String = text.chars().map(|part| format!("1\r\n{part}\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{parts}0\r\n\r\n").into_bytes()
}

#[test]
fn secret_reaches_its_server_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    fs::write(&key, format!("{FIRST}\n")).unwrap();
    let web = gossip(&key);
    let socket = sockets(|key, text| vec![format!("{text} {key}").into(), key.as_bytes().to_vec().into()]);
    let (port, socket) = (web.address.port(), socket.port());
    let manifest = format!(
        "hosts = [\"127.0.0.1:{port}\", \"127.0.0.1:{socket}\"]\n[secrets]\nKEY = {{ host = \"127.0.0.1:{port}\", header = \
         \"authorization\", prefix = \"Bearer \" }}\nTALK = {{ host = \"127.0.0.1:{socket}\", header = \"authorization\" }}\n"
    );
    let agent = guest_that_asks("fetch", &manifest);
    let paths = ["whole", "pieces", "base64", "escaped", "moved", "refused"];
    let asks = || paths.map(|place| format!("get {}", web.url(place)));
    let header = || format!("header {} x-echo", web.url("header"));
    let talk = || format!("socket ws://127.0.0.1:{socket}/ hello");
    let mut orders = vec![header(), talk()];
    orders.extend(asks());
    orders.push(format!("get {}", web.url("change")));
    orders.push(header());
    orders.extend(asks());
    orders.extend([find(FIRST), find(SECOND), find(PLAIN)]);

    let (events, recordings) = (dir.path().join("events.jsonl"), dir.path().join("recordings"));
    let secrets = [format!("KEY=@{}", key.display()), format!("TALK=@{}", key.display())];
    let hosts = format!("127.0.0.1:{port},127.0.0.1:{socket}");
    let flags = ["--allow-host", &hosts, "--secret", &secrets[0], "--secret", &secrets[1], "--log-level", "trace"];
    let cache = target_dir().join("test-network-cache");
    let with_cache = |call: crate::support::harness::Call| call.env("WASM_WORKER_CACHE_DIR", &cache);
    let call = wasm_worker(["run", path(&agent), "--job", "--spec", "-"]).args(flags);
    let call = call.args(["--events", path(&events), "--record", path(&recordings)]).stdin(&spec(&orders));
    let done = with_cache(call).done();

    // The server got the value of each time.
    let asked = web.asked();
    let (first, second): (Vec<&Asked>, Vec<&Asked>) =
        asked.iter().partition(|asked| asked.header("authorization") == format!("Bearer {FIRST}"));
    assert_eq!((first.len(), second.len()), (9, 8), "{asked:#?}");
    assert!(second.iter().all(|asked| asked.header("authorization") == format!("Bearer {SECOND}")), "{second:#?}");

    // The agent got stars, of the same length.
    let told = outcomes(&done);
    let (stars, more) = ("*".repeat(FIRST.len()), "*".repeat(SECOND.len()));
    assert_eq!(told[0], format!("200 {PLAIN} Bearer {stars} and Bearer {stars}"));
    assert_eq!(told[1], format!("2 messages, the last one: {} bytes", FIRST.len()));
    assert_eq!((&told[2], &told[3]), (&told[0], &told[0]), "{told:#?}");
    assert_eq!(told[6], format!("200 {PLAIN} at /landing?key=Bearer+{stars}"));
    assert_eq!(told[7], format!("401 wrong key Bearer {stars}"));
    assert_eq!(told[9], format!("200 {PLAIN} Bearer {more} and Bearer {more}"));
    let [one, two, plain] = &told[told.len() - 3..] else { panic!("{told:#?}") };
    assert_eq!((one.as_str(), two.as_str()), ("0", "0"), "the memory of the agent has a secret");
    assert!(plain.parse::<u32>().unwrap() > 0, "the search finds nothing at all");

    searched(&done, &events, &recordings, &with_cache);
}

/// Look for the secrets in all that the program wrote.
fn searched(
    done: &Done,
    events: &Path,
    recordings: &Path,
    with_cache: &impl Fn(crate::support::harness::Call) -> crate::support::harness::Call,
) {
    has_none("the log", done.stderr.as_bytes());
    has_none("the record", done.stdout.as_bytes());
    assert!(done.stdout.contains(PLAIN));
    let events = fs::read(events).unwrap();
    assert!(!events.is_empty());
    has_none("the events", &events);
    let file = fs::read_dir(recordings).unwrap().next().unwrap().unwrap().path();
    has_none("the recording", &fs::read(&file).unwrap());
    let page = file.with_extension("html");
    for flags in [&["--json"][..], &["--timeline"], &["--html", path(&page)]] {
        let shown = with_cache(wasm_worker(["replay", path(&file)])).args(flags.iter().copied()).done();
        assert_eq!(shown.exit, 0, "{}{}", shown.stdout, shown.stderr);
        has_none("the replay", shown.stdout.as_bytes());
        has_none("the log of the replay", shown.stderr.as_bytes());
    }
    let page = fs::read(page).unwrap();
    assert!(String::from_utf8_lossy(&page).contains(PLAIN));
    has_none("the page", &page);
}

#[test]
fn secret_goes_to_no_other_server() {
    let other = Web::start(|asked| ok(&format!("got {}", asked.header("x-key"))));
    let there = other.url("");
    let own = Web::start(move |asked| match asked.path() {
        "/away" => answer("307 Temporary Redirect", &[("location", &there)], ""),
        _ => ok("own"),
    });
    let (port, away) = (own.address.port(), other.address.port());
    let manifest = format!("[secrets]\nKEY = {{ host = \"127.0.0.1:{port}\", header = \"x-key\" }}\n");
    let agent = guest_that_asks("fetch", &manifest);
    let orders = [own.url("away"), other.url("")].map(|url| format!("get {url}"));
    let hosts = format!("127.0.0.1:{port},127.0.0.1:{away}");
    let call = wasm_worker(["run", path(&agent), "--job", "--spec", "-", "--allow-host", &hosts]);
    let done = call.args(["--secret", "KEY=env:A_KEY"]).env("A_KEY", FIRST).stdin(&spec(&orders)).done();
    assert_eq!(outcomes(&done), ["200 got ", "200 got "]);
    assert_eq!(own.asked()[0].header("x-key"), FIRST);
    assert!(other.asked().iter().all(|asked| !asked.head.contains(FIRST)), "{:#?}", other.asked());
    has_none("the log", done.stderr.as_bytes());
}

#[test]
fn secret_is_in_nothing_that_a_worker_and_a_dispatcher_keep() {
    let dir = tempfile::tempdir().unwrap();
    let (key, events) = (dir.path().join("key"), dir.path().join("events.jsonl"));
    fs::write(&key, SECOND).unwrap();
    let web = gossip(&key);
    let port = web.address.port();
    let manifest = format!("[secrets]\nKEY = {{ host = \"127.0.0.1:{port}\", header = \"authorization\" }}\n");
    let agent = guest_that_asks("fetch", &manifest);
    let file = dir.path().join("worker.toml");
    let table =
        format!("[agents.fetch]\nallow-host = [\"127.0.0.1:{port}\"]\nsecret = {{ KEY = \"@{}\" }}\n", key.display());
    fs::write(&file, table).unwrap();
    let dispatcher = Dispatcher::start(&[]);
    let call = dispatcher.verb(["run", path(&agent), "--config", path(&file), "--events", path(&events)]);
    let call = call.args(["--log-level", "trace", "--load-threshold", "none", "--http", "off"]);
    let worker = call.env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret").start();
    worker.says("worker.registered");
    let orders = ["whole", "header", "refused"].map(|place| format!("get {}", web.url(place)));
    dispatch_with(&dispatcher.url, "lobby", "fetch", &orders.join("\n"));
    worker.says("job.closed");
    assert_eq!(web.asked().len(), 3, "{}", worker.said());
    assert_eq!(web.asked()[0].header("authorization"), SECOND);
    let jobs = dispatcher.verb(["jobs", "--json"]).env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret");
    let jobs = jobs.done();
    assert!(jobs.stdout.contains("completed"), "{}{}", jobs.stdout, jobs.stderr);
    has_none("the list of jobs", jobs.stdout.as_bytes());
    worker.signal(rustix::process::Signal::TERM);
    has_none("the log of the worker", worker.done().stderr.as_bytes());
    has_none("the log of the dispatcher", dispatcher.said().as_bytes());
    has_none("the events", &fs::read(&events).unwrap());
    for entry in fs::read_dir(dispatcher.store().parent().unwrap()).unwrap() {
        has_none("the store", &fs::read(entry.unwrap().path()).unwrap());
    }
}
