//! Parsers for the values of settings. Each error says what is wanted.

use std::collections::{BTreeMap, BTreeSet};
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
    let units = [("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
    let with_unit = units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (digits, unit) = with_unit.unwrap_or((text, 1));
    let number: Option<u64> = digits.parse().ok().filter(|number| *number > 0);
    number.and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
        "want a whole number above zero, with k, M or G for thousands, millions or thousand millions".into()
    })
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

pub(crate) fn some_secret(text: &str) -> Option<Secret> {
    Some(Secret(text.to_owned())).filter(|_| !text.is_empty())
}

pub(crate) fn url(text: &str, schemes: &[&str]) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    let invalid = |byte: u8| byte <= b' ' || byte == 0x7f;
    let usable = schemes.contains(&scheme) && !rest.is_empty() && !rest.starts_with('/') && !rest.bytes().any(invalid);
    let wanted = || format!("want {}:// and a host", schemes.join("://, "));
    if usable { Ok(text.to_owned()) } else { Err(wanted()) }
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
}
