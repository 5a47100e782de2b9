//! TLS of the dispatcher: workers, callers and browsers by `wss` and `https` on the one port.

use std::path::Path;

use crate::support::dispatcher::Dispatcher;
use crate::support::harness::{eventually, guest, path, wasm_worker};
use crate::support::network::Ca;
use crate::support::rooms::dispatch;
use crate::support::scripted_server::behind;

/// A dispatcher whose certificate is for this machine, and its files.
fn secured(ca: &Ca) -> (Dispatcher, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = ca.write(dir.path(), &["localhost", "127.0.0.1"]);
    let leak = |text: String| -> &'static str { text.leak() };
    (Dispatcher::start(&["--tls-cert", leak(cert), "--tls-key", leak(key)]), dir)
}

#[test]
fn worker_joins_a_room_by_wss_with_a_private_ca() {
    let ca = Ca::new();
    let (dispatcher, _dir) = secured(&ca);
    assert!(dispatcher.url.starts_with("wss://127.0.0.1:"), "{}", dispatcher.url);
    let events = tempfile::NamedTempFile::new().unwrap();
    let worker = behind(&dispatcher.url, &[guest("obedient").to_str().unwrap()])
        .args(["--http", "off", "--events", path(events.path())])
        .env("SSL_CERT_FILE", ca.file.path())
        .start();
    // A program of this machine needs no TLS.
    let plain = dispatcher.url.replace("wss://", "ws://");
    dispatch(&plain, "lobby", "obedient");
    let said = || std::fs::read_to_string(events.path()).unwrap();
    eventually("the agent is in its room", || said().contains("\"room.joined\"").then_some(()));
    assert!(!said().contains("\"room.failed\""), "{}", said());

    // Callers by `https` trust the CA, or say what is missing.
    let rooms =
        || dispatcher.verb(["rooms", "--json"]).env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "secret");
    let done = rooms().env("SSL_CERT_FILE", ca.file.path()).done();
    assert!(done.exit == 0 && done.stdout.contains("lobby"), "{} {}", done.stdout, done.stderr);
    let done = rooms().done();
    assert!(done.exit != 0 && done.stderr.contains("no trusted CA signed the certificate"), "{}", done.stderr);
    worker.kill();
}

#[test]
fn files_for_tls_that_cannot_be_used_are_named() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let (cert, key) = ca.write(dir.path(), &["localhost"]);
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let (_, other_key) = ca.write(&other, &["localhost"]);
    let store = dir.path().join("store.db");
    let serve = |flags: &[&str]| {
        let call = wasm_worker(["serve", "--listen", "127.0.0.1:0", "--store", path(&store)]);
        call.args(flags.iter().copied()).done()
    };
    for (flags, parts) in [
        (&["--tls-cert", &cert][..], &["tls-cert", "want `tls-key` too"][..]),
        (&["--tls-key", &key], &["tls-key", "want `tls-cert` too"]),
        (&["--tls-cert", "/nowhere.pem", "--tls-key", &key], &["`/nowhere.pem` of `tls-cert` cannot be read"]),
        (&["--tls-cert", &cert, "--tls-key", &cert], &["of `tls-key` has no private key in PEM", "hint:"]),
        (&["--tls-cert", &cert, "--tls-key", &other_key], &["is not the key of the certificate", "hint:"]),
        (&["--rtc-address", "0.0.0.0"], &["rtc-address", "want an IP address"]),
    ] {
        let done = serve(flags);
        assert_ne!(done.exit, 0, "{flags:?}");
        parts.iter().for_each(|part| assert!(done.stderr.contains(part), "{flags:?}: {}", done.stderr));
    }
    assert!(!Path::new(&store).exists(), "nothing was begun");
}
