//! What the settings grant an agent: hosts, values of its settings, and its secrets.
//!
//! A list has one entry a line; hosts may have commas between them too.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wasm_worker_network::rules::host_rule::HostRule;

/// What the settings grant one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// The hosts that it may reach.
    pub hosts: Vec<HostRule>,
    /// The values of its settings.
    pub settings: BTreeMap<String, String>,
    /// Where the values of its secrets are.
    pub secrets: BTreeMap<String, SecretSource>,
}

/// Where the value of a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// In an environment variable.
    Variable(String),
}

/// Hosts.
pub(super) fn hosts(text: &str) -> Result<Vec<HostRule>, String> {
    let lines = text.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            line.parse().map_err(|error: wasm_worker_network::rules::host_rule::HostRuleError| error.to_string())
        })
        .collect()
}

/// Values of settings: `NAME=VALUE`.
pub(super) fn settings(text: &str) -> Result<BTreeMap<String, String>, String> {
    pairs(text, "NAME=VALUE", |value| Ok(value.to_owned()))
}

/// Places of secrets: `NAME=@FILE` or `NAME=env:VARIABLE`. The value itself would be seen by everybody who lists processes.
pub(super) fn secrets(text: &str) -> Result<BTreeMap<String, SecretSource>, String> {
    pairs(text, SECRET_FORM, |value| {
        let file = value.strip_prefix('@').filter(|file| !file.is_empty());
        let variable = value.strip_prefix("env:").filter(|variable| !variable.is_empty());
        match (file, variable) {
            (Some(file), _) => Ok(SecretSource::File(file.into())),
            (None, Some(variable)) => Ok(SecretSource::Variable(variable.into())),
            (None, None) => Err(format!("want {SECRET_FORM}, not the secret itself")),
        }
    })
}

const SECRET_FORM: &str = "`NAME=@FILE` or `NAME=env:VARIABLE`";

fn pairs<T>(text: &str, form: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<BTreeMap<String, T>, String> {
    let mut all = BTreeMap::new();
    for line in text.split('\n').filter(|line| !line.trim().is_empty()) {
        let pair = line.split_once('=').map(|(name, value)| (name.trim(), value));
        let (name, value) = pair.filter(|(name, _)| !name.is_empty()).ok_or_else(|| format!("want {form}"))?;
        if all.insert(name.to_owned(), parse(value)?).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_listed_by_commas_and_lines() {
        let found = hosts("a.example.com, *.b.example.com\nhttp://localhost:8080").unwrap();
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["a.example.com", "*.b.example.com", "http://localhost:8080"]
        );
        assert!(hosts("").unwrap().is_empty());
        assert!(hosts("*").unwrap_err().contains("every server"));
    }

    #[test]
    fn values_may_hold_anything_but_an_end_of_a_line() {
        let found = settings("greeting=Hello, you = friend\nmodel=").unwrap();
        assert_eq!((&*found["greeting"], &*found["model"]), ("Hello, you = friend", ""));
        assert!(settings("model").unwrap_err().contains("NAME=VALUE"));
        assert!(settings("a=1\na=2").unwrap_err().contains("twice"));
    }

    #[test]
    fn secrets_are_places_and_never_values() {
        let found = secrets("A=@/run/a\nB=env:B_KEY").unwrap();
        assert_eq!(found["A"], SecretSource::File("/run/a".into()));
        assert_eq!(found["B"], SecretSource::Variable("B_KEY".into()));
        for bad in ["A=sk-1234", "A=@", "A=env:", "A="] {
            let why = secrets(bad).unwrap_err();
            assert!(why.contains("not the secret itself") && !why.contains("1234"), "{why}");
        }
    }
}
