//! Parsers for the values of settings. Each error says what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use bytesize::ByteSize;
use wasm_worker_core::secret::Secret;
use wasm_worker_dispatcher::settings::KeyPairs;
use wasm_worker_protocol::registration::Permission;

/// Parse a value, or `none`.
pub(crate) fn or_none<T>(text: &str, parse: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == "none" { Ok(None) } else { parse(text).map(Some) }
}

pub(crate) fn size(text: &str) -> Result<usize, String> {
    let wanted = || "want a size above zero, such as 512KiB or 128MiB".to_owned();
    let bytes: ByteSize = text.parse().map_err(|_| wanted())?;
    usize::try_from(bytes.as_u64()).ok().filter(|bytes| *bytes > 0).ok_or_else(wanted)
}

pub(crate) fn fuel(text: &str) -> Result<u64, String> {
    u64::try_from(fuel_of_any_size(text)?).map_err(|_| FUEL_WANTED.into())
}

const FUEL_WANTED: &str = "want a whole number above zero, with k, M or G for thousands, millions or thousand millions";

/// An amount of fuel that may be larger than any setting allows, to be compared with the largest value of one.
pub(crate) fn fuel_of_any_size(text: &str) -> Result<u128, String> {
    let units = [("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
    let with_unit = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (digits, unit) = with_unit.unwrap_or((text, 1));
    let number: Option<u64> = digits.parse().ok().filter(|number| *number > 0);
    number.map(|number| u128::from(number) * unit).ok_or_else(|| FUEL_WANTED.into())
}

pub(crate) fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "want a whole number above zero".into())
}

pub(crate) fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "want a number above 0, up to 1".into())
}

pub(crate) fn cores(text: &str) -> Result<f64, String> {
    let cores = text.parse().ok().filter(|cores: &f64| cores.is_finite() && *cores > 0.0);
    cores.ok_or_else(|| "want a number above 0, such as 2 or 0.5".into())
}

pub(crate) fn some_path(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text)).filter(|_| !text.is_empty())
}

/// An address that others can reach; none for an empty text.
pub(crate) fn some_ip(text: &str) -> Result<Option<IpAddr>, String> {
    match text.parse::<IpAddr>() {
        _ if text.is_empty() => Ok(None),
        Ok(address) if !address.is_unspecified() => Ok(Some(address)),
        _ => Err("want an IP address, such as 203.0.113.5".into()),
    }
}

/// Give a setting its value.
pub(crate) fn set<T>(setting: &mut T, value: Result<T, String>) -> Result<(), String> {
    *setting = value?;
    Ok(())
}

pub(crate) fn some_secret(text: &str) -> Option<Secret> {
    Some(Secret(text.to_owned())).filter(|_| !text.is_empty())
}

/// An address to listen on: `IP:PORT`, `localhost:PORT`, or `:PORT` for all addresses of the machine.
pub(crate) fn address(text: &str) -> Option<SocketAddr> {
    let named = |host: &str| match host {
        "" => Some(Ipv4Addr::UNSPECIFIED),
        "localhost" => Some(Ipv4Addr::LOCALHOST),
        _ => None,
    };
    let (host, port) = text.rsplit_once(':')?;
    match named(host) {
        Some(ip) => Some((ip, port.parse().ok()?).into()),
        None => text.parse().ok(),
    }
}

/// The URL of a LiveKit server or of a dispatcher.
pub(crate) fn server_url(text: &str) -> Result<String, String> {
    let url = url(text, &["ws", "wss", "http", "https"])?;
    let (_, rest) = url.split_once("://").unwrap_or_default();
    if let Some(at) = rest.find(['?', '#']) {
        let (_, extra) = rest.split_at(at);
        return Err(format!("want a URL without a query, remove `{extra}`"));
    }
    let path = rest.trim_end_matches('/').split_once('/').map(|(_, path)| path).unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    // Another path may be that of a proxy before the server.
    if ["agent", "rtc", "twirp", "api"].contains(&last) {
        return Err(format!("want the URL of the server, remove the path `/{last}`; the program adds its own"));
    }
    Ok(url)
}

/// A URL with one of these schemes and a host.
pub(crate) fn url(text: &str, schemes: &[&str]) -> Result<String, String> {
    let wanted = || format!("want {}:// and a host", schemes.join("://, "));
    let Some((scheme, rest)) = text.split_once("://") else {
        let first = schemes.first().copied().unwrap_or_default();
        let host = text.split_once(":/").map_or(text, |(_, host)| host).trim_start_matches('/');
        return Err(format!("{}, such as {first}://{host}", wanted()));
    };
    let scheme = scheme.to_ascii_lowercase();
    if !schemes.contains(&scheme.as_str()) {
        return Err(format!("{}, not `{scheme}://`", wanted()));
    }
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(format!("{} without spaces and control characters", wanted()));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(
            "want a URL without a user or password: the API key and its secret are settings of their own".into()
        );
    }
    check_authority(authority).map_err(|why| format!("{}: {why}", wanted()))?;
    Ok(format!("{scheme}://{rest}"))
}

/// Check `HOST` or `HOST:PORT`.
fn check_authority(authority: &str) -> Result<(), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("the address has no `]`")?;
            host.parse::<Ipv6Addr>().map_err(|_| format!("`{host}` is no IPv6 address"))?;
            let port = match after.strip_prefix(':') {
                None if !after.is_empty() => return Err(format!("`{after}` follows the address; want `:` and a port")),
                port => port,
            };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    match port {
        Some(port) if !port.parse::<u16>().is_ok_and(|number| number > 0) => {
            Err(format!("the port `{port}` is not between 1 and 65535"))
        }
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn permissions(text: &str) -> Result<BTreeSet<Permission>, String> {
    let one = |name: &str| match name.trim() {
        "subscribe" => Ok(Permission::Subscribe),
        "publish" => Ok(Permission::Publish),
        "data" => Ok(Permission::Data),
        "metadata" => Ok(Permission::Metadata),
        "hidden" => Ok(Permission::Hidden),
        _ => Err("want `subscribe`, `publish`, `data`, `metadata` or `hidden`, separated by commas".into()),
    };
    text.split(',').filter(|name| !name.trim().is_empty()).map(one).collect()
}

/// `key: secret` pairs, separated by commas or newlines, as LiveKit's server reads `LIVEKIT_KEYS`.
pub(crate) fn key_pairs(text: &str) -> Result<KeyPairs, String> {
    let wanted = "want pairs such as `key: secret`, separated by commas, each key once";
    let mut pairs = BTreeMap::new();
    for pair in text.split([',', '\n']).map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, secret) = pair.split_once(':').ok_or(wanted)?;
        let (key, secret) = (key.trim(), secret.trim());
        if key.is_empty() || secret.is_empty() || pairs.insert(key.to_owned(), Secret(secret.to_owned())).is_some() {
            return Err(wanted.into());
        }
    }
    if pairs.is_empty() { Err(wanted.into()) } else { Ok(pairs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_checked() {
        assert_eq!(fuel("20000000000G"), Err(fuel("x").unwrap_err()));
        assert_eq!(fuel("10M"), Ok(10_000_000));
        assert!(fuel("10kk").is_err());
        assert_eq!(size("1KiB"), Ok(1024));
        assert!(size("0").is_err() && count("0").is_err());
    }

    #[test]
    fn pairs_are_parsed_as_in_livekit() {
        let pairs = key_pairs("a: one\n b:two , c : three").unwrap();
        let shown: Vec<String> = pairs.iter().map(|(key, secret)| format!("{key}={}", secret.0)).collect();
        assert_eq!(shown, ["a=one", "b=two", "c=three"]);
        assert!(!format!("{pairs:?}").contains("three"));
        for bad in ["", "a", "a:", ":b", "a: b, a: c"] {
            assert!(key_pairs(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_may_name_localhost_or_all_addresses() {
        for (text, wanted) in [
            ("127.0.0.1:8081", "127.0.0.1:8081"),
            ("localhost:8081", "127.0.0.1:8081"),
            (":8081", "0.0.0.0:8081"),
            ("[::1]:8081", "[::1]:8081"),
        ] {
            assert_eq!(address(text), wanted.parse().ok(), "{text}");
        }
        for bad in ["", "8081", "localhost", "localhost:", ":99999", "example.com:80", "::1"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_to_change() {
        for good in ["ws://localhost:7880", "wss://a.livekit.cloud/", "http://[::1]:7880", "https://proxy/livekit"] {
            assert_eq!(server_url(good), Ok(good.to_owned()));
        }
        for (bad, part) in [
            ("localhost:7880", "such as ws://localhost:7880"),
            ("ws:/localhost:7880", "such as ws://localhost:7880"),
            ("tcp://localhost", "not `tcp://`"),
            ("ws://", "the host is missing"),
            ("ws://:7880", "the host is missing"),
            ("ws://localhost:99999", "the port `99999` is not between 1 and 65535"),
            ("ws://localhost:0", "the port `0`"),
            ("ws://localhost:", "the port ``"),
            ("ws://localhost:7880?x=1", "remove `?x=1`"),
            ("ws://localhost:7880/?x=1", "remove `?x=1`"),
            ("ws://localhost:7880/agent", "remove the path `/agent`"),
            ("wss://host/prefix/rtc/", "remove the path `/rtc`"),
            ("ws://user:word@host", "without a user or password"),
            ("ws://two words", "without spaces"),
            ("ws://[::1", "no `]`"),
            ("ws://[x]:1", "`x` is no IPv6 address"),
            ("ws://[::1]7880", "`7880` follows the address; want `:` and a port"),
        ] {
            let why = server_url(bad).unwrap_err();
            assert!(why.contains(part), "{bad}: {why}");
        }
        assert_eq!(server_url("WSS://Host:7880").unwrap(), "wss://Host:7880");
        assert!(url("http://hooks/a?b=c", &["http"]).is_ok(), "a webhook may have a path and a query");
    }
}
