//! Secrets that the host adds to requests, and takes out of answers. The agent never has them.
//!
//! ```text
//! file   the value of a secret: given, or from a file that is read again when it changes
//! forms  the forms in which an answer may repeat a value
//! blank  the search for these forms in a stream
//! ```
//!
//! - A rule adds a header or a query value to requests to the servers of one [`HostRule`]. The scheme counts: a rule without one adds
//!   nothing to a request without TLS, but for this machine.
//! - A header or query value of that name that the agent gives is replaced: client libraries insist on a key, and any will do.
//! - After a redirect the rules of the new server hold, and no others.
//! - Every answer is searched for the values of all rules of the agent, those before a change too, because one server may tell another.
//!   A value is replaced by as many `*`. Searched are heads, decompressed bodies across their cuts, and each message of a WebSocket.
//!
//! What is not found: a value in another form than those of `forms` (hexadecimal, encrypted, compressed once more, reversed, spelled
//! out), a value in two messages of a WebSocket or in pieces with something between them, and anything derived from it, such as a token
//! that the server makes. A server that is allowed and hostile can tell an agent the secret that it is sent; the rules decide which
//! servers are.

mod file;
mod forms;

pub(crate) mod blank;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use blank::Patterns;
use file::Value;
use hyper::header::{HeaderName, HeaderValue};
use url::{Url, form_urlencoded};
use wasm_worker_core::network::event::Failure;
use wasm_worker_core::secret::Secret;

use crate::failure::failure;
use crate::rules::host_rule::HostRule;
use crate::rules::target::Target;

/// Most rules of one agent.
pub const RULES_MAX: usize = 64;

/// Where a secret goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A header of this name. `prefix` comes before the value, such as `Bearer `.
    Header {
        /// The name.
        name: String,
        /// The text before the value.
        prefix: String,
    },
    /// A value of the query of the URL, under this name.
    Query {
        /// The name.
        name: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { name, .. } => write!(out, "the header `{name}`"),
            Self::Query { name } => write!(out, "the query value `{name}`"),
        }
    }
}

/// Where the value of a secret is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file. It is read again when it changes. White space at its ends does not count.
    File(PathBuf),
    /// The value itself, from a variable.
    Value(Secret),
}

/// A secret for one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRule {
    /// The servers that get it.
    pub host: HostRule,
    /// Where it goes.
    pub place: Place,
    /// Where it is from.
    pub source: Source,
}

/// Why secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// Too many.
    #[error("an agent has {0} secrets, and may have {RULES_MAX}")]
    Many(usize),
    /// No header that can be sent.
    #[error(
        "`{name}` is no header for a secret; want one such as `authorization`, and visible characters before the value"
    )]
    Header {
        /// The name.
        name: String,
    },
    /// No name.
    #[error("a query value for a secret has no name")]
    Query,
    /// Only one of two could be sent.
    #[error("there are two secrets for {place} of `{host}`; want one")]
    Twice {
        /// Where both go.
        place: String,
        /// The servers.
        host: String,
    },
    /// The value is not usable.
    #[error("the secret for {place} of `{host}` cannot be used: {why}")]
    Value {
        /// Where it goes.
        place: String,
        /// The servers.
        host: String,
        /// The fault.
        why: String,
    },
}

/// The secrets of one agent.
#[derive(Debug)]
pub struct Secrets {
    rules: Vec<SecretRule>,
    state: Mutex<State>,
}

/// What is known of the values.
#[derive(Debug)]
struct State {
    /// One for each rule.
    values: Vec<Value>,
    patterns: Arc<Patterns>,
}

/// What is added to one request.
#[derive(Debug, Default)]
pub(crate) struct Additions {
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    query: Vec<(String, Secret)>,
    /// What answers are searched for.
    pub(crate) patterns: Arc<Patterns>,
}

impl Secrets {
    /// The secrets by these rules. Files are read once, so that faults are known early.
    ///
    /// # Errors
    /// The first rule that cannot be used.
    pub fn new(rules: Vec<SecretRule>) -> Result<Self, SecretsError> {
        if rules.len() > RULES_MAX {
            return Err(SecretsError::Many(rules.len()));
        }
        let mut values = Vec::with_capacity(rules.len());
        for (number, rule) in rules.iter().enumerate() {
            check_place(&rule.place)?;
            if rules.iter().take(number).any(|other| other.is_for_the_place_of(rule)) {
                return Err(SecretsError::Twice { place: rule.place.to_string(), host: rule.host.to_string() });
            }
            let mut value = Value::default();
            value.refresh(&rule.source).map_err(|why| rule.fault(why))?;
            values.push(value);
        }
        let patterns = Arc::new(Patterns::new(values.iter().flat_map(Value::known)));
        Ok(Self { rules, state: Mutex::new(State { values, patterns }) })
    }

    /// What is added to a request to this server. Reads files: call it where a thread may wait.
    ///
    /// # Errors
    /// `unavailable`, without the place of the file, which the log has.
    pub(crate) fn additions(&self, target: &Target) -> Result<Additions, Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { values, patterns } = &mut *state;
        let (mut additions, mut has_changed) = (Additions::default(), false);
        for (rule, value) in self.rules.iter().zip(values.iter_mut()) {
            let fault = match value.refresh(&rule.source) {
                Ok(changed) => {
                    has_changed |= changed;
                    None
                }
                Err(why) => Some(why),
            };
            if !rule.host.allows(target) {
                continue;
            }
            if let Some(why) = fault {
                return Err(rule.unavailable(why));
            }
            additions.add(&rule.place, value).ok_or_else(|| rule.unavailable("it is empty".into()))?;
        }
        if has_changed {
            *patterns = Arc::new(Patterns::new(values.iter().flat_map(Value::known)));
        }
        additions.patterns = patterns.clone();
        Ok(additions)
    }

    /// Whether files may have to be read.
    pub(crate) fn has_files(&self) -> bool {
        self.rules.iter().any(|rule| matches!(rule.source, Source::File(_)))
    }
}

impl SecretRule {
    fn is_for_the_place_of(&self, other: &Self) -> bool {
        let is_same = match (&self.place, &other.place) {
            (Place::Header { name, .. }, Place::Header { name: other, .. }) => name.eq_ignore_ascii_case(other),
            (Place::Query { name }, Place::Query { name: other }) => name == other,
            (Place::Header { .. }, Place::Query { .. }) | (Place::Query { .. }, Place::Header { .. }) => false,
        };
        is_same && self.host == other.host
    }

    fn fault(&self, why: String) -> SecretsError {
        SecretsError::Value { place: self.place.to_string(), host: self.host.to_string(), why }
    }

    /// The failure for the agent. The operator finds the reason in the log.
    fn unavailable(&self, why: String) -> Failure {
        tracing::warn!("{}", self.fault(why));
        let (place, host) = (&self.place, &self.host);
        failure(
            "unavailable",
            format!("the secret for {place} of `{host}` cannot be read; the operator's log has the reason"),
        )
    }
}

impl Additions {
    fn add(&mut self, place: &Place, value: &Value) -> Option<()> {
        let secret = value.current()?;
        match place {
            Place::Header { name, prefix } => {
                let mut header = HeaderValue::from_str(&format!("{prefix}{}", secret.0)).ok()?;
                header.set_sensitive(true);
                self.headers.push((HeaderName::from_bytes(name.as_bytes()).ok()?, header));
            }
            Place::Query { name } => self.query.push((name.clone(), secret.clone())),
        }
        Some(())
    }

    /// The URL with the values for its query, in the place of those of the same names.
    pub(crate) fn url(&self, url: &Url) -> Url {
        let mut with = url.clone();
        for (name, secret) in &self.query {
            let own = with.query().unwrap_or_default();
            let is_other = |pair: &&str| {
                !pair.is_empty() && form_urlencoded::parse(pair.as_bytes()).all(|(other, _)| other != name.as_str())
            };
            let mut query = own.split('&').filter(is_other).collect::<Vec<_>>().join("&");
            if !query.is_empty() {
                query.push('&');
            }
            query.extend(form_urlencoded::byte_serialize(name.as_bytes()));
            query.push('=');
            query.extend(form_urlencoded::byte_serialize(secret.0.as_bytes()));
            with.set_query(Some(&query));
        }
        with
    }
}

fn check_place(place: &Place) -> Result<(), SecretsError> {
    match place {
        Place::Header { name, prefix } => {
            let fault = || SecretsError::Header { name: name.clone() };
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| fault())?;
            HeaderValue::from_str(prefix).map_err(|_| fault())?;
            if crate::headers::is_of_connection(&header) { Err(fault()) } else { Ok(()) }
        }
        Place::Query { name } if name.is_empty() => Err(SecretsError::Query),
        Place::Query { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::rules::target::Kind;

    fn rule(host: &str, place: Place, source: Source) -> SecretRule {
        SecretRule { host: host.parse().unwrap(), place, source }
    }

    fn header() -> Place {
        Place::Header { name: "Authorization".into(), prefix: "Bearer ".into() }
    }

    fn target(url: &str) -> Target {
        Target::parse(url, Kind::Http).unwrap()
    }

    #[test]
    fn a_secret_goes_to_its_host_alone_and_into_no_output() {
        let value = Source::Value(Secret("sk-hidden-1".into()));
        let query =
            rule("*.maps.test", Place::Query { name: "key".into() }, Source::Value(Secret("q&hidden 2".into())));
        let secrets = Secrets::new(vec![rule("api.test", header(), value), query]).unwrap();
        let additions = secrets.additions(&target("https://api.test/x")).unwrap();
        assert_eq!(additions.headers[0].1.as_bytes(), b"Bearer sk-hidden-1");
        assert_eq!(additions.url(&target("https://api.test/x?key=1").url).as_str(), "https://api.test/x?key=1");
        for other in ["http://api.test", "https://api.test:8443", "https://api.test.evil"] {
            assert!(secrets.additions(&target(other)).unwrap().headers.is_empty(), "{other}");
        }
        let maps = target("https://a.maps.test/p?a=1&%6bey=guest&b=%20&key");
        let with = secrets.additions(&maps).unwrap().url(&maps.url);
        assert_eq!(with.as_str(), "https://a.maps.test/p?a=1&b=%20&key=q%26hidden+2");
        let shown = format!("{secrets:?} {additions:?}");
        assert!(shown.contains("api.test") && !shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_the_old_value_stays_blanked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "  first-value\n").unwrap();
        let secrets = Secrets::new(vec![rule("api.test", header(), Source::File(path.clone()))]).unwrap();
        let value = || secrets.additions(&target("https://api.test")).map(|added| added.headers[0].1.clone());
        assert_eq!(value().unwrap().as_bytes(), b"Bearer first-value");
        // Another length tells a change also where the clock of files is coarse.
        std::fs::File::create(&path).unwrap().write_all(b"second-value!").unwrap();
        assert_eq!(value().unwrap().as_bytes(), b"Bearer second-value!");
        let patterns = secrets.additions(&target("https://other.test")).unwrap().patterns;
        let answer = blank::blank(&patterns, b"first-value, second-value!");
        assert_eq!(answer, b"***********, *************");
        std::fs::remove_file(&path).unwrap();
        let failure = value().unwrap_err();
        assert!(failure.code == "unavailable" && failure.message.contains("`api.test`"), "{failure:?}");
        assert!(!failure.message.contains(directory.path().to_str().unwrap()), "{failure:?}");
        // Other servers are reached without it.
        assert!(secrets.additions(&target("https://other.test")).is_ok());
    }

    #[test]
    fn rules_that_cannot_work_are_errors_without_the_value() {
        let directory = tempfile::tempdir().unwrap();
        let value = |value: &str| Source::Value(Secret(value.into()));
        let host = Place::Header { name: "Host".into(), prefix: String::new() };
        for (place, source, says) in [
            (header(), value("short"), "at least 8"),
            (header(), value("with\nline-feed"), "visible"),
            (header(), value("ключ-от-всего"), "visible"),
            (header(), value(""), "at least 8"),
            (header(), Source::File(directory.path().join("none")), "none"),
            (header(), Source::File(directory.path().to_owned()), "no regular file"),
            (host, value("long-enough"), "no header for a secret"),
            (Place::Header { name: "a b".into(), prefix: String::new() }, value("long-enough"), "no header"),
            (Place::Query { name: String::new() }, value("long-enough"), "no name"),
        ] {
            let error = Secrets::new(vec![rule("api.test", place, source)]).unwrap_err().to_string();
            assert!(error.contains(says) && !error.contains("long-enough"), "{error}");
        }
        let named = |name: &str| Place::Header { name: name.into(), prefix: String::new() };
        let two = ["x-key", "X-Key"].map(|name| rule("api.test", named(name), value("long-enough")));
        let error = Secrets::new(two.into()).unwrap_err().to_string();
        assert_eq!(error, "there are two secrets for the header `X-Key` of `api.test`; want one");
    }
}
