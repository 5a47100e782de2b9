//! Tables of lines and URLs: what is allowed, what is refused, and what the message says.

use super::*;

fn rules(lines: &[&str]) -> Rules {
    Rules::new("helper".into(), lines.iter().map(|line| line.parse().unwrap()).collect())
}

fn fetch(rules: &Rules, url: &str) -> Result<Target, Failure> {
    let kind = if url.starts_with("ws") { Kind::Socket } else { Kind::Http };
    let target = rules.check_url(url, kind)?;
    if let Some(address) = target.address() {
        rules.check_addresses(&target, &[address])?;
    }
    Ok(target)
}

#[test]
fn lines_allow_a_host_by_its_scheme_and_port() {
    for (line, allowed, refused) in [
        (
            "api.example.com",
            &["https://api.example.com", "wss://API.example.com./x", "https://api.example.com:443"][..],
            &[
                "http://api.example.com",
                "https://api.example.com:8443",
                "https://example.com",
                "https://a.api.example.com",
            ][..],
        ),
        ("API.Example.com.", &["https://api.example.com"], &["ws://api.example.com"]),
        ("https://api.example.com", &["https://api.example.com", "wss://api.example.com"], &["http://api.example.com"]),
        ("ws://api.example.com", &["ws://api.example.com", "http://api.example.com"], &["wss://api.example.com"]),
        (
            "api.example.com:8443",
            &["https://api.example.com:8443"],
            &["http://api.example.com:8443", "https://api.example.com"],
        ),
        (
            "*.example.com:8443",
            &["https://a.example.com:8443", "https://a.b.example.com:8443"],
            &[
                "https://example.com:8443",
                "https://badexample.com:8443",
                "https://a.example.com",
                "https://.example.com:8443",
            ],
        ),
        (
            "localhost:11434",
            &["http://localhost:11434", "https://localhost:11434", "ws://LOCALHOST:11434"],
            &["http://localhost", "http://127.0.0.1:11434", "http://a.localhost:11434"],
        ),
        (
            "[::1]:9000",
            &["http://[::1]:9000", "https://[0:0:0:0:0:0:0:1]:9000"],
            &["http://[::1]", "http://127.0.0.1:9000"],
        ),
        (
            "10.0.0.7",
            &["https://10.0.0.7", "https://[::ffff:10.0.0.7]", "https://0xa000007", "https://10.7"],
            &["http://10.0.0.7", "https://10.0.0.8", "https://10.0.0.7:8443"],
        ),
        ("http://10.0.0.7:8000", &["http://10.0.0.7:8000"], &["https://10.0.0.7:8000"]),
        ("bücher.example", &["https://xn--bcher-kva.example", "https://BÜCHER.example"], &["https://bucher.example"]),
    ] {
        let rules = rules(&[line]);
        for url in allowed {
            assert!(fetch(&rules, url).is_ok(), "{line} allows {url}: {:?}", fetch(&rules, url));
        }
        for url in refused {
            assert!(fetch(&rules, url).is_err(), "{line} refuses {url}");
        }
    }
}

#[test]
fn lines_that_mean_nothing_or_too_much_are_errors_that_say_what_is_wanted() {
    for (line, says) in [
        ("", "1 to 300"),
        ("*", "would allow every server"),
        ("https://*", "would allow every server"),
        ("*:443", "would allow every server"),
        ("**.example.com", "`*` in a place"),
        ("api.*.com", "`*` in a place"),
        ("*example.com", "`*` in a place"),
        ("*.10.0.0.7", "`*` in a place"),
        ("*.com", "at least two parts"),
        ("ftp://a.example", "want `https`, `wss`, `http` or `ws`"),
        ("https://a.example/v1", "no path"),
        ("me:word@a.example", "no user"),
        ("a.example:0", "1 to 65535"),
        ("a.example:99999", "1 to 65535"),
        ("a.example:+80", "1 to 65535"),
        ("a.example:", "1 to 65535"),
        ("::1", "needs brackets"),
        ("a..example", "between dots"),
        ("0x7f.1", "is the address 127.0.0.1; write it so"),
        ("127.1", "is the address 127.0.0.1; write it so"),
        ("224.0.0.1", "a multicast address; no server"),
        ("0.0.0.0", "the unspecified address"),
        ("[::]:80", "the unspecified address"),
        ("255.255.255.255", "a reserved address"),
        ("a b.example", "no path"),
    ] {
        let error = line.parse::<HostRule>().unwrap_err().to_string();
        assert!(error.contains(says), "{line}: {error}");
    }
}

/// The table of issue 23: each form leads to a place that the list does not have, or to an address that is refused.
#[test]
fn every_form_of_an_own_address_is_refused() {
    let rules = rules(&["api.example.com", "*.example.com", "http://plain.example.com", "a.internal"]);
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/",
        "http://0x7f000001/",
        "http://2130706433/",
        "http://017700000001/",
        "http://0177.0.0.1/",
        "http://0x7f.0x0.0x0.0x1/",
        "http://127.1/",
        "http://127.0.1/",
        "http://127.0.0.1./",
        "http://0/",
        "http://0.0.0.0/",
        "http://１２７.０.０.１/",
        "http://①②⑦.⓪.⓪.①/",
        "http://127。0。0。1/",
        "http://%31%32%37.0.0.1/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[2001:0:808:808::80ff:fffe]/",
        "http://[0:0:0:0:0:ffff:a9fe:a9fe]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[ff02::1]/",
        "http://10.0.0.1/",
        "http://100.64.0.1/",
        "http://192.168.0.1/",
        "http://198.51.100.1/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://a.localhost/",
        "https://api.example.com@127.0.0.1/",
        "https://127.0.0.1\\@api.example.com/",
        "https://127.0.0.1#api.example.com",
        "https://127.0.0.1%2fapi.example.com/",
        "https://api.example.com.evil.test/",
        "https://evil.test/?https://api.example.com",
        "https://xn--pi-fka.example.org/",
        "https://api.example.com:22/",
        "https://[fe80::1%25eth0]/",
    ] {
        let failure = fetch(&rules, url).expect_err(url);
        assert!(matches!(failure.code, "not-allowed" | "invalid"), "{url}: {failure:?}");
        // A name that is allowed may not lead there either.
        let named = fetch(&rules, "https://api.example.com").unwrap();
        if let Some(address) = Target::parse(url, Kind::Http).ok().and_then(|target| target.address()) {
            assert!(rules.check_addresses(&named, &[address]).is_err(), "{url}: {address}");
        }
    }
}

#[test]
fn a_name_may_not_lead_to_an_own_address() {
    let rules = rules(&[
        "api.example.com",
        "*.example.com",
        "localhost:1",
        "http://ollama:11434",
        "db.internal",
        "169.254.1.1",
        "a.test",
    ]);
    for (url, addresses, says) in [
        ("https://api.example.com", &["93.184.216.34", "2606:4700::1111"][..], ""),
        (
            "https://api.example.com",
            &["93.184.216.34", "10.0.0.5"],
            "`api.example.com` leads to 10.0.0.5, a private address; the operator allows it with `--allow-host 10.0.0.5`",
        ),
        ("https://x.example.com", &["127.0.0.1"], "an address of this machine"),
        ("https://x.example.com", &["::ffff:169.254.169.254"], "metadata"),
        ("https://x.example.com", &["0.0.0.0"], "the unspecified address, which no rule allows"),
        ("https://x.example.com", &["169.254.1.1"], ""),
        ("http://localhost:1", &["127.0.0.1", "::1"], ""),
        ("http://localhost:1", &["10.0.0.1"], "a private address"),
        ("http://ollama:11434", &["172.18.0.2"], ""),
        ("http://ollama:11434", &["fd00::2"], ""),
        ("http://ollama:11434", &["127.0.0.1"], "`--allow-host 127.0.0.1:11434`"),
        ("https://db.internal", &["100.64.3.4"], ""),
        ("https://db.internal", &["169.254.169.254"], "metadata"),
        ("https://a.test", &["192.168.0.9"], "private"),
    ] {
        let target = fetch(&rules, url).unwrap();
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        match rules.check_addresses(&target, &addresses) {
            Ok(()) => assert_eq!(says, "", "{url} at {addresses:?} is allowed"),
            Err(failure) => assert!(!says.is_empty() && failure.message.contains(says), "{url}: {failure:?}"),
        }
    }
}

#[test]
fn a_refusal_names_the_line_to_add() {
    let rules = rules(&["api.example.com"]);
    for (url, line) in [
        ("https://other.test/x?y=z", "other.test"),
        ("https://other.test:8443", "other.test:8443"),
        ("http://other.test", "http://other.test"),
        ("ws://other.test:81", "http://other.test:81"),
        ("http://localhost:11434", "localhost:11434"),
        ("http://10.0.0.7:80", "http://10.0.0.7"),
        ("http://[::1]:9000", "[::1]:9000"),
    ] {
        let failure = fetch(&rules, url).unwrap_err();
        let wanted = format!("`--allow-host {line}`, or with `allow-host = [\"{line}\"]` in `[agents.helper]`");
        assert!(failure.code == "not-allowed" && failure.message.ends_with(&wanted), "{failure:?}");
        // The line is one, and it allows the URL.
        let better = Rules::new(String::new(), vec![line.parse().unwrap()]);
        assert!(fetch(&better, url).is_ok(), "{line} allows {url}");
    }
    for (url, says) in [
        ("http://169.254.169.254", "is not allowed: it is the address of a cloud's metadata service; the operator"),
        ("http://0:80", "`http://0.0.0.0` is not allowed: it is the unspecified address, which no rule allows"),
        ("https://224.0.0.1", "a multicast address, which no rule allows"),
    ] {
        let failure = fetch(&rules, url).unwrap_err();
        assert!(failure.message.contains(says), "{failure:?}");
    }
    let failure = fetch(&rules, "https://api.example.com:8443").unwrap_err();
    assert!(failure.message.contains("(the list has `api.example.com`)"), "{failure:?}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in ".{0,60}") {
        let rules = rules(&["*.example.com", "localhost:1"]);
        drop(fetch(&rules, &text));
        drop(fetch(&rules, &format!("http://{text}/")));
        drop(text.parse::<HostRule>());
    }
}
