//! The network of agents: which servers an agent reaches, what its `agent.toml` asks for, and what its operator grants.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::harness::{Call, Done, guest_that_asks, path, root, run_guest, target_dir, wasm_worker};
use crate::support::network::{Ca, resolver};
use crate::support::web::{Web, answer, ok, sockets};

/// A job of the guest `fetch` with these orders.
pub(crate) fn fetch(orders: &[String], flags: &[&str]) -> Call {
    let flags = flags.iter().copied();
    direct(run_guest("fetch", ["--spec", "-", "--log-level", "info"]).args(flags)).stdin(&spec(orders))
}

pub(crate) fn spec(orders: &[String]) -> String {
    json!({ "metadata": orders.join("\n") }).to_string()
}

/// Without the proxies of this machine.
fn direct(call: Call) -> Call {
    let proxies = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    proxies.iter().fold(call, |call, name| call.without(name))
}

/// What the guest told of each order.
#[track_caller]
pub(crate) fn outcomes(done: &Done) -> Vec<String> {
    assert_eq!(done.code(), "completed", "{}{}", done.stdout, done.stderr);
    done.texts()["outcome"].clone()
}

fn gets(urls: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    urls.into_iter().map(|url| format!("get {}", url.as_ref())).collect()
}

/// `HOST` stands for a server that nobody may reach, in each form of its address.
#[test]
fn every_form_of_an_own_address_is_refused_and_the_line_to_add_is_told() {
    let inner = Web::start(|_| ok("inner"));
    let port = inner.address.port();
    let table = [
        ("http://169.254.169.254/latest/meta-data", "`--allow-host http://169.254.169.254`"),
        ("http://[fd00:ec2::254]/", "it is the address of a cloud's metadata service; the operator allows it with"),
        ("http://127.0.0.1:PORT/", "`--allow-host 127.0.0.1:PORT`"),
        ("http://localhost:PORT/", "`--allow-host localhost:PORT`"),
        ("http://LOCALHOST.:PORT/", "`--allow-host localhost:PORT`"),
        ("http://a.localhost:PORT/", "`--allow-host a.localhost:PORT`"),
        ("http://[::1]:PORT/", "`--allow-host [::1]:PORT`"),
        ("http://0x7f000001:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://2130706433:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://017700000001:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://0177.0.0.1:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://0x7f.0x0.0x0.0x1:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://127.1:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://127.0.1:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://127.0.0.1.:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://0:PORT/", "`http://0.0.0.0:PORT` is not allowed: it is the unspecified address, which no rule allows"),
        ("http://１２７.０.０.１:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://127。0。0。1:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://%31%32%37.0.0.1:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://[::ffff:127.0.0.1]:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://[0:0:0:0:0:ffff:7f00:1]:PORT/", "`http://127.0.0.1:PORT` is not allowed"),
        ("http://[64:ff9b::7f00:1]:PORT/", "is not allowed"),
        ("http://[2002:7f00:1::]:PORT/", "is not allowed"),
        ("http://10.0.0.1/", "`--allow-host http://10.0.0.1`"),
        ("https://192.168.0.1:8443/", "`--allow-host 192.168.0.1:8443`"),
        ("https://api.example.com@127.0.0.1:PORT/", "a user or a password"),
        ("https://127.0.0.1:PORT\\@api.example.com/", "`https://127.0.0.1:PORT` is not allowed"),
        ("https://127.0.0.1:PORT#api.example.com", "`https://127.0.0.1:PORT` is not allowed"),
        ("https://127.0.0.1%2fapi.example.com/", "the URL is not usable"),
        ("https://api.example.com.evil.test/", "`--allow-host api.example.com.evil.test`"),
        ("https://evil.test/?https://api.example.com", "`allow-host = [\"evil.test\"]` in `[agents.fetch]`"),
        ("https://api.example.com:22/", "(the list has `api.example.com`)"),
        ("http://api.example.com/", "(the list has `api.example.com`)"),
        ("https://example.com/", "`--allow-host example.com`"),
        ("file:///etc/passwd", "want `https` or `http`"),
        ("gopher://127.0.0.1:PORT/", "want `https` or `http`"),
    ];
    let with_port = |text: &str| text.replace("PORT", &port.to_string());
    let done =
        fetch(&gets(table.iter().map(|(url, _)| with_port(url))), &["--allow-host", "api.example.com,*.example.com"]);
    for ((url, says), told) in table.iter().zip(outcomes(&done.done())) {
        assert!(told.starts_with("not-allowed: ") || told.starts_with("invalid: "), "{url}: {told}");
        assert!(told.contains(&with_port(says)), "{url}: {told}");
    }
    assert!(inner.asked().is_empty(), "{:?}", inner.asked());
}

#[test]
fn names_and_redirects_lead_to_no_own_address() {
    let inner = Web::start(|_| ok("inner"));
    let port = inner.address.port();
    let front = Web::start(move |asked| {
        let location = match asked.path() {
            "/loopback" => format!("http://127.0.0.1:{port}/"),
            "/octal" => format!("//0177.0.0.1:{port}/"),
            "/name" => format!("http://localhost:{port}/"),
            "/metadata" => "http://169.254.169.254/latest".to_owned(),
            "/file" => "file:///etc/passwd".to_owned(),
            "/here" => "/there".to_owned(),
            "/loop" => "/loop".to_owned(),
            other => return ok(&format!("you are at {other}")),
        };
        answer("302 Found", &[("location", &location)], "")
    });
    let dir = tempfile::tempdir().unwrap();
    let library = resolver(&dir);
    let rules = format!(
        "*.example.com,http://*.example.com:{port},http://inner.internal:{port},127.0.0.1:{}",
        front.address.port()
    );
    let addresses = "own.example.com=127.0.0.1 mixed.example.com=93.184.216.34,127.0.0.1 meta.example.com=169.254.169.254 \
                     private.example.com=10.0.0.5 zero.example.com=0.0.0.0 inner.internal=127.0.0.1";
    let here = |place: &str| front.url(place);
    let named = |name: &str| format!("http://{name}:{port}/");
    let table = [
        (named("own.example.com"), "leads to 127.0.0.1, an address of this machine; the operator allows it with"),
        (named("mixed.example.com"), "leads to 127.0.0.1, an address of this machine"),
        (named("inner.internal"), "leads to 127.0.0.1, an address of this machine"),
        ("https://own.example.com/".into(), "`--allow-host 127.0.0.1`"),
        ("https://meta.example.com/".into(), "the address of a cloud's metadata service"),
        ("https://private.example.com/".into(), "`--allow-host 10.0.0.5`"),
        ("https://zero.example.com/".into(), "the unspecified address, which no rule allows"),
        (here("loopback"), "is not allowed"),
        (here("octal"), "is not allowed"),
        (here("name"), "`--allow-host localhost:"),
        (here("metadata"), "`--allow-host http://169.254.169.254`"),
        (here("file"), "file"),
        (here("loop"), "redirect: "),
        (here("here"), "200 you are at /there"),
    ];
    let orders = gets(table.iter().map(|(url, _)| url));
    let call = fetch(&orders, &["--allow-host", &rules]).env("LD_PRELOAD", &library).env("TEST_ADDRESSES", addresses);
    for ((url, says), told) in table.iter().zip(outcomes(&call.done())) {
        assert!(told.contains(says), "{url}: {told}");
        assert!(["200", "redirect"].iter().any(|start| says.starts_with(start)) || !told.starts_with("200"), "{told}");
    }
    assert!(inner.asked().is_empty(), "{:?}", inner.asked());
}

#[test]
fn allowed_servers_are_reached_by_http_and_sockets_with_tls_and_without() {
    let web = Web::start(|asked| ok(&format!("{} at {}", asked.path(), asked.header("host"))));
    let talk = sockets(|_, text| vec![format!("you said {text}").into()]);
    let ca = Ca::new();
    let tls = ca.tls("localhost", web.address);
    let dir = tempfile::tempdir().unwrap();
    let library = resolver(&dir);
    let (port, talk, tls) = (web.address.port(), talk.port(), tls.port());
    let table = [
        (format!("get http://127.0.0.1:{port}/a"), format!("200 /a at 127.0.0.1:{port}")),
        (format!("get http://0x7f.1:{port}/b#c"), format!("200 /b at 127.0.0.1:{port}")),
        (format!("get http://[::ffff:127.0.0.1]:{port}/d"), "200 /d at ".to_owned()),
        (format!("get http://below.web.test:{port}/e?f"), format!("200 /e?f at below.web.test:{port}")),
        (format!("get https://localhost:{tls}/g"), format!("200 /g at localhost:{tls}")),
        (
            format!("header http://127.0.0.1:{port}/ content-length"),
            format!("200 {}", format!("/ at 127.0.0.1:{port}").len()),
        ),
        (format!("socket ws://127.0.0.1:{talk}/ hello"), "1 messages, the last one: you said hello".to_owned()),
    ];
    let orders: Vec<String> = table.iter().map(|(order, _)| order.clone()).collect();
    let hosts = format!("127.0.0.1:{port},127.0.0.1:{talk},http://*.web.test:{port},localhost:{tls}");
    let call = fetch(&orders, &["--allow-host", &hosts]).env("SSL_CERT_FILE", ca.file.path());
    let call = call.env("LD_PRELOAD", &library).env("TEST_ADDRESSES", "below.web.test=127.0.0.1");
    let done = call.done();
    for ((order, says), told) in table.iter().zip(outcomes(&done)) {
        assert!(told.starts_with(says), "{order}: {told}");
    }
    let record = done.record();
    let network = &record["usage"]["network"];
    assert_eq!(network["all"]["requests"], 6, "{record}");
    assert_eq!(network["all"]["sockets"], 1, "{record}");
}

#[test]
fn job_makes_more_requests_than_it_may_have_open_at_once() {
    let web = Web::start(|_| ok("fine"));
    let talk = sockets(|_, text| vec![text.into()]);
    let allowed = format!("http://{},http://{talk}", web.address);
    let (get, converse) = (format!("get http://{}/", web.address), format!("socket ws://{talk}/ hello"));
    // Each kind of last event: of an answer, of a socket, and a failure.
    let orders: Vec<String> =
        std::iter::repeat_n([get, converse, "get http://10.0.0.1/".into()], 70).flatten().collect();
    let told = outcomes(&fetch(&orders, &["--allow-host", &allowed]).done());
    for (says, place) in ["200 fine", "1 messages", "not-allowed"].iter().zip(0..) {
        let all: Vec<&String> = told.iter().skip(place).step_by(3).collect();
        assert!(all.len() == 70 && all.iter().all(|told| told.starts_with(says)), "{says}: {all:?}");
    }
}

/// A crate outside of the repository with the source of `fetch` and this `agent.toml`.
fn own_crate(dir: &Path, manifest: &str) -> PathBuf {
    let made = wasm_worker(["new", "fetcher"]).dir(dir).done();
    assert_eq!(made.exit, 0, "{}", made.stderr);
    let own = dir.join("fetcher");
    std::fs::copy(root().join("tests/guests/fetch.rs"), own.join("src/lib.rs")).unwrap();
    std::fs::write(own.join("agent.toml"), manifest).unwrap();
    own
}

#[test]
fn directory_gets_what_it_asks_for_and_a_file_what_its_operator_grants() {
    let web = Web::start(|asked| ok(asked.header("x-key")));
    let port = web.address.port();
    let dir = tempfile::tempdir_in(target_dir()).unwrap();
    let manifest = format!(
        "hosts = [\"127.0.0.1:{port}\"]\n[settings]\ncolour = \"blue\"\n[secrets]\nKEY = {{ host = \"127.0.0.1:{port}\", \
         header = \"x-key\" }}\n"
    );
    let own = own_crate(dir.path(), &manifest);
    let spec = spec(&[format!("get {}", web.url("")), "setting colour".to_owned()]);
    let run = |agent: &Path, flags: &[&str]| {
        let call = wasm_worker(["run", path(agent), "--job", "--spec", "-"]).args(flags.iter().copied());
        direct(call).without("KEY").without("colour").stdin(&spec)
    };
    // A directory: everything, with the values of variables, and it is printed.
    let done = run(&own, &[]).env("KEY", "of-the-variable").env("colour", "green").done();
    assert_eq!(outcomes(&done), ["200 ***************", "green"]);
    assert_eq!(web.asked().last().unwrap().header("x-key"), "of-the-variable");
    let granted =
        format!("granted agent=\"fetcher\" hosts=\"127.0.0.1:{port}\" settings=\"colour=green\" secrets=\"KEY\"");
    assert!(done.stderr.contains(&granted) && !done.stderr.contains("not granted"), "{}", done.stderr);
    let done = run(&own, &[]).done();
    assert_eq!(outcomes(&done), ["200 ", "blue"]);
    assert!(done.stderr.contains("the secret `KEY` for `127.0.0.1:"), "{}", done.stderr);

    // The component: nothing, and what to add.
    let component = wasm_worker(["build", path(&own)]).done().stdout;
    let component = Path::new(component.trim());
    let done = run(component, &[]).env("KEY", "of-the-variable").done();
    let [told, _] = &outcomes(&done)[..] else { panic!("{}", done.stdout) };
    assert!(told.starts_with("not-allowed: ") && told.contains("--allow-host"), "{told}");
    let lines = [
        format!("not granted: the host `127.0.0.1:{port}`: `--allow-host 127.0.0.1:{port}`"),
        format!("not granted: the secret `KEY` for `127.0.0.1:{port}`: `--secret KEY=@FILE`"),
    ];
    assert!(lines.iter().all(|line| done.stderr.contains(line)), "{}", done.stderr);

    // Those flags, and the same in a table of the settings.
    let key = dir.path().join("key");
    std::fs::write(&key, "of-the-file\n").unwrap();
    let (host, secret) = (format!("127.0.0.1:{port}"), format!("KEY=@{}", key.display()));
    let done = run(component, &["--allow-host", &host, "--secret", &secret, "--setting", "colour=red"]).done();
    assert_eq!(outcomes(&done), ["200 ***********", "red"], "{}", done.stderr);
    assert_eq!(web.asked().last().unwrap().header("x-key"), "of-the-file");
    assert!(!done.stderr.contains("not granted"), "{}", done.stderr);
    let table = format!(
        "[agents.fetcher]\nallow-host = [\"{host}\"]\nsecret = {{ KEY = \"@{}\" }}\nsetting = {{ colour = \"white\" }}\n",
        key.display()
    );
    let file = dir.path().join("worker.toml");
    std::fs::write(&file, table).unwrap();
    let done = run(component, &["--config", path(&file)]).done();
    assert_eq!(outcomes(&done), ["200 ***********", "white"], "{}", done.stderr);
    assert!(done.stderr.contains("settings=\"colour=white\""), "{}", done.stderr);

    // What is asked for, and what is granted, without a run.
    let inspect = |flags: &[&str]| {
        let done = wasm_worker(["inspect", path(component)]).args(flags.iter().copied()).done();
        assert_eq!(done.exit, 0, "{}", done.stderr);
        done.stdout
    };
    let asked = [format!("asked      host `{host}`"), "setting `colour`, default `blue`".into(), "secret `KEY`".into()];
    let nothing = inspect(&[]);
    assert!(asked.iter().chain(&lines).all(|line| nothing.contains(line)), "{nothing}");
    let granted = inspect(&["--config", path(&file)]);
    let lines = [format!("granted    host `{host}`"), "setting `colour` = `white`".into(), "secret `KEY`".into()];
    assert!(lines.iter().all(|line| granted.contains(line)) && !granted.contains("not granted"), "{granted}");
    let json: serde_json::Value = serde_json::from_str(&inspect(&["--config", path(&file), "--json"])).unwrap();
    assert_eq!((&json["manifest"]["hosts"][0], &json["granted"]["hosts"][0]), (&json!(host), &json!(host)), "{json}");
}

#[test]
fn grants_that_mean_nothing_or_too_much_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, short) = (dir.path().join("empty"), dir.path().join("short"));
    std::fs::write(&empty, "\n").unwrap();
    std::fs::write(&short, "abc").unwrap();
    let example = root().join("examples/llm");
    let run = |flags: &[&str]| direct(wasm_worker(["run", path(&example), "--job"]).args(flags.iter().copied())).done();
    let file = |name: &Path| format!("OPENAI_API_KEY=@{}", name.display());
    for (flags, says) in [
        (["--allow-host", "*"], "`*` would allow every server; list the hosts by name"),
        (["--allow-host", "*.com"], "would allow every name below `.com`"),
        (["--allow-host", "https://api.example.com/v1"], "no path"),
        (["--allow-host", "127.1"], "is the address 127.0.0.1; write it so"),
        (["--setting", "OPENAI_MODEL"], "want NAME=VALUE"),
        (["--setting", "OPENAI_MODELL=x"], "has no setting `OPENAI_MODELL`; it has `OPENAI_BASE_URL`, `OPENAI_MODEL`"),
        (["--secret", "OPENAI_KEY=env:HOME"], "has no secret `OPENAI_KEY`; it has `OPENAI_API_KEY`"),
        (["--secret", "OPENAI_API_KEY=sk-of-mine"], "not the secret itself"),
        (["--secret", "OPENAI_API_KEY=env:NO_SUCH_VARIABLE"], "the variable `NO_SUCH_VARIABLE`, which is not set"),
        (["--secret", "OPENAI_API_KEY=@/nowhere/key"], "No such file"),
        (["--secret", &file(dir.path())], "no regular file"),
        (["--secret", &file(&empty)], "it has 0 characters; want at least"),
        (["--secret", &file(&short)], "it has 3 characters; want at least"),
    ] {
        let done = run(&flags);
        done.fails_with(2, &[says]);
        assert!(done.stdout.is_empty() && !done.stderr.contains("sk-of-mine"), "{}", done.stderr);
    }
    run(&["--setting", "OPENAI_MODEL=a", "--setting", "OPENAI_MODEL=b"])
        .fails_with(2, &["`OPENAI_MODEL` is there twice"]);
    let nothing = run_guest("fetch", ["--setting", "a=b"]).done();
    nothing.fails_with(2, &["agent `fetch` has no setting `a`; it asks for none"]);
}

#[test]
fn agent_toml_with_a_fault_is_an_error_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let own = own_crate(dir.path(), "");
    for (manifest, exit, says) in [
        ("hosts = [\n", 3, "line 1: unclosed array"),
        ("hosts = []\nhost = 1\n", 3, "line 2: unknown field `host`"),
        ("[settings]\nmodel = 5\n", 3, "line 2: invalid type: integer `5`, expected a string"),
        ("[settings]\n\"a b\" = \"c\"\n", 3, "`a b` is no name"),
        ("[secrets]\nA = { host = \"h\" }\n", 3, "want `header` or `query`"),
        ("[secrets]\nA = { host = \"h\", header = \"a\", value = \"sk\" }\n", 3, "line 2: unknown field `value`"),
    ] {
        std::fs::write(own.join("agent.toml"), manifest).unwrap();
        for verb in [&["run", path(&own), "--job"][..], &["build", path(&own)], &["inspect", path(&own)]] {
            let done = wasm_worker(verb.iter().copied()).done();
            done.fails_with(exit, &["agent.toml` is not usable: ", says, "hint: guest-sdk/docs/network.md"]);
            // Nothing was compiled before.
            assert!(!done.stderr.contains("Compiling"), "{}", done.stderr);
        }
    }
    std::fs::write(own.join("agent.toml"), "hosts = [\"*\"]\n").unwrap();
    let done = wasm_worker(["build", path(&own)]).done();
    done.fails_with(2, &["asks for a host that is none", "`*` would allow every server"]);
    assert!(!done.stderr.contains("Compiling"), "{}", done.stderr);
}

#[test]
fn agent_that_asks_for_everything_is_refused() {
    let two = "[secrets]\nA = { host = \"a.test\", header = \"x\" }\nB = { host = \"a.test\", header = \"X\" }\n";
    let (a, b) = (["--secret", "A=env:A"], ["--secret", "B=env:B"]);
    for (manifest, flags, says) in [
        ("hosts = [\"*\"]\n", &[][..], "asks for a host that is none\n  caused by: `*` would allow every server"),
        ("hosts = [\"*.com\"]\n", &[], "would allow every name below `.com`"),
        ("[secrets]\nA = { host = \"*\", header = \"x\" }\n", &[], "would allow every server"),
        ("[secrets]\nA = { host = \"a.test\", header = \"host\" }\n", &[a], "`host` is no header for a secret"),
        (two, &[a, b], "two secrets for the header `X` of `a.test`; want one"),
    ] {
        let agent = guest_that_asks("wait", manifest);
        let call = wasm_worker(["run", path(&agent), "--job"]).args(flags.iter().flatten().copied());
        let done = call.env("A", "a-secret-of-a").env("B", "a-secret-of-b").done();
        done.fails_with(2, &["agent `wait`", says]);
        assert!(done.stdout.is_empty() && !done.stderr.contains("a-secret-of"), "{}", done.stderr);
    }
}

#[test]
fn codes_of_failures_are_explained() {
    let done = wasm_worker(["explain", "not-allowed"]).done();
    assert_eq!(done.exit, 0, "{}", done.stderr);
    for part in ["not-allowed (failure of a call): ", "`--allow-host HOST`", "`[agents.NAME]`"] {
        assert!(done.stdout.contains(part), "{}", done.stdout);
    }
}
