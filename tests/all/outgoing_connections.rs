//! The connections that the program makes: a worker's link, the calls of the command line, and webhooks. The same rules hold for
//! all: proxies, trusted certificates, names with a dead address, and errors that say what to change.

use std::net::SocketAddr;

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{Call, Door, Started, eventually, guest, wasm_worker};
use crate::support::network::{Ca, DeadAddress, Proxy, address_of, answering, named, resolver};

/// `me` and `word`, as a proxy reads them.
const PASSWORD: &str = "Basic bWU6d29yZA==";
const VARIABLES: [&str; 10] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// `wasm-worker` with a server and these variables, and none of the user's own about the network.
fn call(words: &[&str], server: &str, variables: &[(&str, &str)]) -> Call {
    let mut call = wasm_worker(words.iter().copied()).env("LIVEKIT_URL", server);
    for variable in VARIABLES {
        call = call.without(variable);
    }
    call = call.env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret");
    call = call.env("WASM_WORKER_LOAD_THRESHOLD", "none").env("WASM_WORKER_LOG_LEVEL", "error");
    variables.iter().fold(call, |call, (name, value)| call.env(name, value))
}

/// A worker of the guest `minimal`.
fn worker(server: &str, flags: &[&str], variables: &[(&str, &str)]) -> Started {
    let agent = guest("minimal");
    let words: Vec<&str> = ["run", agent.to_str().unwrap()].iter().chain(flags).copied().collect();
    call(&words, server, variables).env("WASM_WORKER_MAX_RETRY", "100").start()
}

/// Wait until the dispatcher has so many workers.
#[track_caller]
fn registered(dispatcher: &Dispatcher, workers: usize) {
    eventually("the workers register", || (dispatcher.workers().len() == workers).then_some(()));
}

fn port_of(address: SocketAddr) -> String {
    address.port().to_string()
}

#[test]
fn worker_behind_a_proxy_with_a_private_ca_reaches_a_name_whose_first_address_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let (library, ca, dispatcher) = (resolver(&dir), Ca::new(), Dispatcher::start(&[]));
    let tls = ca.tls("livekit.test", named("livekit.test", address_of(&dispatcher.url)));
    let authority = format!("livekit.test:{}", port_of(tls));
    let proxy = Proxy::start(&[(authority.clone(), tls)], Some(PASSWORD));
    let _dead = [DeadAddress::beside(tls), DeadAddress::beside(proxy.address)];

    let (server, way) = (format!("wss://{authority}"), format!("http://me:word@proxy.test:{}", port_of(proxy.address)));
    let variables = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("TEST_ADDRESSES", "proxy.test=127.0.0.2,127.0.0.1 livekit.test=127.0.0.2,127.0.0.1"),
        ("SSL_CERT_FILE", ca.file.path().to_str().unwrap()),
        ("HTTPS_PROXY", way.as_str()),
    ];
    let behind_it = worker(&server, &["--http", "off"], &variables);
    registered(&dispatcher, 1);
    assert_eq!(proxy.seen(), [format!("CONNECT {authority} HTTP/1.1")]);
    let done = call(&["dispatch", "minimal", "--wait"], &server, &variables).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    let seen = proxy.seen().len();
    assert!(seen > 1, "the caller went past the proxy");

    // The same without the proxy: the server's own name has the dead address.
    let direct: Vec<_> = variables.iter().copied().chain([("NO_PROXY", ".livekit.test, 10.0.0.0/8")]).collect();
    let without_it = worker(&server, &["--http", "off"], &direct);
    registered(&dispatcher, 2);
    let done = call(&["workers"], &server, &direct).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    assert_eq!(proxy.seen().len(), seen);
    behind_it.kill();
    without_it.kill();
}

#[test]
fn every_connection_takes_the_proxy_and_none_to_this_machine() {
    let dispatcher = Dispatcher::start(&[]);
    let (address, cache) = (named("livekit.test", address_of(&dispatcher.url)), tempfile::tempdir().unwrap());
    let hook = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let flags = ["--http", "127.0.0.1:0", "--cache-dir", cache.path().to_str().unwrap(), "--http-token", "t"];
    let local = worker(&dispatcher.url, &flags, &[("ALL_PROXY", "http://127.0.0.1:9")]);
    let door = Door::of(cache.path(), local.pid());

    let ways = [
        ("livekit.test:80", address),
        ("hook.test:80", hook),
        ("worker.test:80", named("worker.test", address_of(&door.url))),
    ];
    let proxy = Proxy::start(&ways.map(|(name, way)| (name.to_owned(), way)), Some(PASSWORD));
    let way = format!("me:word@{}", proxy.address);
    let through = [("ALL_PROXY", way.as_str())];

    let webhook = ["--http", "off", "--webhook", "http://hook.test/hook"];
    let remote = worker("ws://livekit.test", &webhook, &through);
    registered(&dispatcher, 2);
    proxy.has_seen("CONNECT livekit.test:80 HTTP/1.1");
    eventually("it posts", || {
        proxy.seen().iter().any(|line| line == "POST http://hook.test/hook HTTP/1.1").then_some(())
    });
    for (words, seen) in [
        (
            &["dispatch", "minimal", "--wait"][..],
            "POST http://livekit.test/twirp/livekit.AgentDispatchService/CreateDispatch",
        ),
        (&["jobs"], "GET http://livekit.test/api/v1/jobs"),
        (&["ps", "--worker", "http://worker.test", "--http-token", "t"], "GET http://worker.test/api/v1/"),
    ] {
        let done = call(words, "http://livekit.test", &through).done();
        assert_eq!(done.exit, 0, "{words:?}: {}", done.stderr);
        proxy.has_seen(seen);
    }

    // To this machine nothing takes the proxy, which knows no way there.
    // The remote worker still posts the events of its jobs through it.
    let asked = || proxy.seen().iter().filter(|line| !line.starts_with("POST http://hook.test/")).count();
    let seen = asked();
    let ps = ["ps", "--cache-dir", cache.path().to_str().unwrap()];
    for words in [&["dispatch", "minimal", "--wait"][..], &["workers"], &ps] {
        let done = call(words, &dispatcher.url, &through).done();
        assert_eq!(done.exit, 0, "{words:?}: {}", done.stderr);
    }
    local.kill();
    remote.kill();
    assert_eq!(asked(), seen);
}

#[test]
fn proxy_that_refuses_and_proxy_that_is_none_are_named() {
    let proxy = Proxy::start(&[], Some(PASSWORD));
    let plain = format!("http://{}", proxy.address);
    let with_password = format!("http://me:word@{}", proxy.address);
    for (server, variable, value, wanted) in [
        ("https://livekit.test", "https_proxy", plain.as_str(), "wants a password"),
        (
            "https://livekit.test",
            "https_proxy",
            &with_password,
            "refuses a connection to `livekit.test:443`: 403 Forbidden",
        ),
        ("http://livekit.test", "ALL_PROXY", "socks5://127.0.0.1:1", "the variable `ALL_PROXY` names no HTTP proxy"),
        ("http://livekit.test", "HTTP_PROXY", "127.0.0.1:9", "the proxy `127.0.0.1:9` refused the connection"),
    ] {
        let done = call(&["jobs"], server, &[(variable, value)]).done();
        done.fails_with(1, &[server, wanted]);
        assert!(!done.stderr.contains("me:word"), "the password is shown: {}", done.stderr);
    }
}

#[test]
fn every_connection_trusts_the_same_certificates() {
    let (ca, dispatcher, cache) = (Ca::new(), Dispatcher::start(&[]), tempfile::tempdir().unwrap());
    let tls = ca.tls("localhost", address_of(&dispatcher.url));
    let (server, port) = (format!("wss://localhost:{}", port_of(tls)), port_of(tls));
    let hook = ca.tls("localhost", answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
    let hook = format!("https://localhost:{}/hook", port_of(hook));
    let flags = ["--http", "127.0.0.1:0", "--cache-dir", cache.path().to_str().unwrap(), "--http-token", "t"];
    let flags: Vec<&str> = flags.into_iter().chain(["--webhook", &hook]).collect();

    let trusting = [("SSL_CERT_FILE", ca.file.path().to_str().unwrap())];
    let trusted = worker(&server, &flags, &trusting);
    registered(&dispatcher, 1);
    let door = ca.tls("localhost", address_of(&Door::of(cache.path(), trusted.pid()).url));
    let door = format!("https://localhost:{}", port_of(door));
    for words in [&["dispatch", "minimal", "--wait"][..], &["jobs"], &["ps", "--worker", &door, "--http-token", "t"]] {
        let done = call(words, &server, &trusting).done();
        assert_eq!(done.exit, 0, "{words:?}: {}", done.stderr);
        let done = call(words, &server, &[]).done();
        done.fails_with(1, &["no trusted CA signed the certificate of the server `localhost:", "SSL_CERT_FILE"]);
    }
    trusted.signal(rustix::process::Signal::TERM);
    let done = trusted.done();
    assert!(!done.stderr.contains("events"), "a post failed: {}", done.stderr);

    let agent = guest("minimal");
    let words = ["run", agent.to_str().unwrap(), "--http", "off", "--max-retry", "1"];
    let done = call(&words, &server, &[]).done();
    done.fails_with(1, &[&format!("wss://localhost:{port}/agent"), "no trusted CA signed the certificate"]);
    let done = call(&words, &format!("wss://127.0.0.1:{port}"), &trusting).done();
    done.fails_with(1, &["the certificate of the server", "is for another name"]);
    let done = call(&words, &server, &[("SSL_CERT_FILE", "/nowhere.pem")]).done();
    done.fails_with(1, &["there is no certificate of a CA to trust", "/nowhere.pem"]);
}

#[test]
fn wrong_url_is_named_with_what_to_change() {
    let (ca, dispatcher) = (Ca::new(), Dispatcher::start(&[]));
    let plain = address_of(&dispatcher.url);
    let tls = ca.tls("localhost", plain);
    let moved = answering("HTTP/1.1 301 Moved\r\nlocation: https://other.test/\r\ncontent-length: 0\r\n\r\n");
    let page = answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
    let missing = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    let mute = answering("");
    let strange = answering("SSH-2.0-OpenSSH_9.9\r\n");
    let agent = guest("minimal");
    let run = ["run", agent.to_str().unwrap(), "--http", "off", "--max-retry", "1"];
    for server in ["ws://localhost:99999", "ws://localhost/?x=1", "ws://localhost/#x"] {
        for words in [&run[..], &["jobs"]] {
            let done = call(words, server, &[]).done();
            assert!([1, 2].contains(&done.exit), "{server}: {}", done.stdout);
            let shown = server.trim_start_matches("ws:");
            assert!(done.stderr.contains(shown) && done.stderr.contains("not usable"), "{server}: {}", done.stderr);
        }
    }
    for (scheme, authority, link, jobs) in [
        ("wss", plain.to_string(), "does not speak TLS on this port; use a URL with `ws://`", "does not speak TLS"),
        ("ws", tls.to_string(), "use a URL with `wss://`", "use a URL with `wss://` or `https://`"),
        ("ws", mute.to_string(), "use a URL with `wss://`", "ended the connection without an answer"),
        ("ws", strange.to_string(), "does not answer with HTTP", "sends no HTTP"),
        ("ws", moved.to_string(), "redirects to `https://other.test/`", "redirects to `https://other.test/`"),
        ("ws", page.to_string(), "want the URL of a LiveKit server", "is not wasm-worker's dispatcher"),
        (
            "ws",
            missing.to_string(),
            "404 Not Found: nothing is at this path; want the URL",
            "is not wasm-worker's dispatcher",
        ),
        ("ws", "127.0.0.1:9".into(), "refused the connection: nothing listens there", "refused the connection"),
        ("ws", "no-such-host.invalid".into(), "cannot be reached", "check the host and the port"),
    ] {
        let server = format!("{scheme}://{authority}");
        let done = call(&run, &server, &[]).done();
        done.fails_with(1, &[&format!("{server}/agent: "), link]);
        let done = call(&["jobs"], &server, &[]).done();
        assert_ne!(done.exit, 0, "{server}: {}", done.stdout);
        assert!(done.stderr.contains(jobs) && done.stderr.contains(&authority), "{server}: {}", done.stderr);
    }
}
