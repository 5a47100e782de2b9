//! What an operator grants an agent: hosts, values of settings, and secrets. By the settings; and for an agent that is built from its
//! sources here, everything that its `agent.toml` asks for.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use wasm_worker_core::manifest::{Manifest, SecretWish};
use wasm_worker_core::secret::{self, Secret};
use wasm_worker_core::text::clip;
use wasm_worker_mock_models::script::Script;
use wasm_worker_mock_models::server::{Options, serve};
use wasm_worker_network::io::{Network, Networks};
use wasm_worker_network::rules::Rules;
use wasm_worker_network::rules::host_rule::{HostRule, HostRuleError};
use wasm_worker_network::secrets::{Place, SecretRule, Secrets, Source};
use wasm_worker_network::settings::{NetworkLimits, NetworkSettings, SystemResolver, Trust};
use wasm_worker_sandbox::agent::Agent;
use wasm_worker_sandbox::job::granted::Granted;
use wasm_worker_sandbox::scenario::MODEL_URL;

use crate::config::{Config, Grants, SecretSource};

/// The value of a setting that stands for the stand-in for models. Under `test` that is the model of the scenario.
const STAND_IN: &str = "mock-models";
/// Threads of all networks: one carries thousands of exchanges.
const THREADS: usize = 1;

/// The agent with the values of its settings, for scenarios. It has neither hosts nor secrets, and no variable of the user changes its
/// settings, so that a scenario has the same result everywhere.
///
/// # Errors
/// When its manifest and the settings do not fit together.
pub(crate) fn grant_settings(agent: Agent, given: &Grants) -> Result<Agent, GrantError> {
    let given = Grants { settings: given.settings.clone(), ..Grants::default() };
    let decision = decide(agent.name(), &agent.facts().manifest, &given, true, |_| None)?;
    let value = |value: String| if value == STAND_IN { MODEL_URL.to_owned() } else { value };
    let settings = decision.settings.into_iter().map(|(name, given)| (name, value(given))).collect();
    Ok(agent.granted(Granted { network: None, settings }))
}

/// What an agent is granted, and what it asked for without success.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decision {
    /// The hosts.
    pub(crate) hosts: Vec<HostRule>,
    /// The settings with their values.
    pub(crate) settings: Vec<(String, String)>,
    /// The names of the secrets.
    pub(crate) secrets: Vec<String>,
    /// What is added to requests.
    pub(crate) rules: Vec<SecretRule>,
    /// What it lacks.
    pub(crate) lacks: Vec<Lack>,
    /// A setting has the stand-in for models, which needs no secret.
    has_stand_in: bool,
}

/// What an agent asked for and is not granted.
#[derive(Debug, PartialEq)]
pub(crate) enum Lack {
    /// A host, and the secret that is for it.
    Host { host: HostRule, secret: Option<String> },
    /// The value of a secret.
    Secret { name: String, host: HostRule },
}

impl fmt::Display for Lack {
    /// One line, with what grants it.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Host { host, secret: None } => write!(f, "the host `{host}`: `--allow-host {host}`"),
            Self::Host { host, secret: Some(name) } => {
                write!(f, "the host `{host}` of the secret `{name}`: `--allow-host {host}`")
            }
            Self::Secret { name, host } => write!(f, "the secret `{name}` for `{host}`: `--secret {name}=@FILE`"),
        }
    }
}

/// The networks of the agents of one process. The first agent with a host starts their runtime.
#[derive(Default)]
pub(crate) struct AgentNetworks {
    networks: Mutex<Option<Networks>>,
    stand_in: StandIn,
}

/// The stand-in for models of this process.
#[derive(Default)]
struct StandIn(Mutex<Option<SocketAddr>>);

impl StandIn {
    /// Start it, unless it runs.
    fn start(&self) -> std::io::Result<SocketAddr> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = *running {
            return Ok(at);
        }
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let at = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        // It lasts as long as the runtime of this task.
        tokio::runtime::Handle::current().spawn(serve(listener, Script::built_in(), Options::default()));
        Ok(*running.insert(at))
    }
}

impl AgentNetworks {
    /// The agent with what it is granted. `is_own`: it is built from its sources here.
    ///
    /// # Errors
    /// When its manifest and the settings do not fit together, or a secret cannot be read.
    pub(crate) fn grant(&self, agent: Agent, config: &Config, is_own: bool) -> Result<Agent, GrantError> {
        let name = agent.name().to_owned();
        let mut decision = decide(&name, &agent.facts().manifest, &config.grants, is_own, variable)?;
        self.stand_in_for_models(&mut decision).map_err(|source| GrantError::Start { agent: name.clone(), source })?;
        decision.log(&name);
        let Decision { hosts, settings, rules, .. } = decision;
        let secrets = Secrets::new(rules).map_err(|source| GrantError::Secrets { agent: name.clone(), source })?;
        if hosts.is_empty() {
            return Ok(agent.granted(Granted { network: None, settings }));
        }
        let network = NetworkSettings {
            rules: Rules::new(name.clone(), hosts),
            secrets,
            limits: NetworkLimits {
                bytes_per_second: config.quotas.network_bytes_per_second,
                ..NetworkLimits::default()
            },
            resolver: Arc::new(SystemResolver),
            trust: Trust::OfProgram,
        };
        let network = self.network(network).map_err(|source| GrantError::Start { agent: name, source })?;
        Ok(agent.granted(Granted { network: Some(Arc::new(network)), settings }))
    }

    /// Put the URL of the stand-in for models in the place of its name.
    fn stand_in_for_models(&self, decision: &mut Decision) -> std::io::Result<()> {
        for (name, value) in decision.settings.iter_mut().filter(|(_, value)| value == STAND_IN) {
            let at = self.stand_in.start()?;
            *value = format!("http://{at}/v1");
            decision.has_stand_in = true;
            tracing::info!(target: "host", "the setting `{name}` is a stand-in for models, and no model: {value}");
            decision.hosts.extend(format!("http://{at}").parse::<HostRule>().ok());
        }
        Ok(())
    }

    fn network(&self, settings: NetworkSettings) -> std::io::Result<Network> {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        let networks = match &mut *networks {
            Some(networks) => networks,
            none => none.insert(Networks::start(THREADS)?),
        };
        Ok(networks.network(settings))
    }
}

impl Decision {
    fn log(&self, agent: &str) {
        let Self { hosts, settings, secrets, lacks, has_stand_in, .. } = self;
        if !hosts.is_empty() || !settings.is_empty() {
            let hosts = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let settings =
                settings.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ");
            let secrets = secrets.join(", ");
            tracing::info!(target: "host", agent, hosts, settings, secrets, "granted");
        }
        for lack in lacks {
            match lack {
                Lack::Secret { .. } if *has_stand_in => {
                    tracing::info!(target: "host", agent, "not granted, and not needed by a stand-in for models: {lack}");
                }
                Lack::Host { .. } | Lack::Secret { .. } => {
                    tracing::warn!(target: "host", agent, "not granted: {lack}");
                }
            }
        }
    }
}

/// The settings and the manifest do not fit together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    /// The manifest names no host.
    #[error("the `agent.toml` of agent `{agent}` asks for a host that is none")]
    Host { agent: String, source: HostRuleError },
    /// The agent has no such setting or secret.
    #[error("agent `{agent}` has no {what} `{name}`{has}")]
    Unknown {
        agent: String,
        /// `setting` or `secret`.
        what: &'static str,
        name: String,
        /// Those that it has.
        has: String,
    },
    /// The variable of a secret is not set.
    #[error("the secret `{name}` of agent `{agent}` is in the variable `{variable}`, which is not set")]
    Variable { agent: String, name: String, variable: String },
    /// A value cannot be used.
    #[error("the secrets of agent `{agent}` cannot be used")]
    Secrets { agent: String, source: wasm_worker_network::secrets::SecretsError },
    /// The system refuses a thread.
    #[error("the network of agent `{agent}` cannot be started")]
    Start { agent: String, source: std::io::Error },
}

/// A variable of the environment. An author or an operator names it, so it is no setting of the program.
#[expect(clippy::disallowed_methods, reason = "its name is known only now")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Check what an `agent.toml` asks for, as far as it can be checked without an operator.
///
/// # Errors
/// When it asks for a host that is none.
pub(crate) fn check(agent: &str, asked: &Manifest) -> Result<(), GrantError> {
    decide(agent, asked, &Grants::default(), true, |_| None).map(drop)
}

/// Decide what an agent is granted. `is_own`: it is built from its sources here, and gets what it asks for; the values of its settings and
/// secrets are then in the variables of their names, where the settings of the worker say nothing else.
pub(crate) fn decide(
    agent: &str,
    asked: &Manifest,
    given: &Grants,
    is_own: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Decision, GrantError> {
    let mut decision = Decision { hosts: given.hosts.clone(), ..Decision::default() };
    let host = |text: &str| -> Result<HostRule, GrantError> {
        text.parse().map_err(|source| GrantError::Host { agent: agent.into(), source })
    };
    for text in &asked.hosts {
        let rule = host(text)?;
        if decision.hosts.contains(&rule) {
            continue;
        }
        if is_own {
            decision.hosts.push(rule);
        } else {
            decision.lacks.push(Lack::Host { host: rule, secret: None });
        }
    }
    known(agent, "setting", given.settings.keys(), asked.settings.keys())?;
    // What the author names is no variable of this program, such as the secret of its server.
    let of_author = |name: &str| if is_own && !secret::is_own(name) { variable(name) } else { None };
    for (name, default) in &asked.settings {
        let of_variable = of_author(name);
        let value = given.settings.get(name).cloned().or(of_variable).unwrap_or_else(|| default.clone());
        decision.settings.push((name.clone(), value));
    }
    known(agent, "secret", given.secrets.keys(), asked.secrets.keys())?;
    for (name, wish) in &asked.secrets {
        let host = host(&wish.host)?;
        let source = match given.secrets.get(name) {
            Some(SecretSource::File(path)) => Some(Source::File(path.clone())),
            Some(SecretSource::Variable(from)) => {
                let unset = || GrantError::Variable { agent: agent.into(), name: name.clone(), variable: from.clone() };
                Some(Source::Value(Secret(variable(from).ok_or_else(unset)?)))
            }
            None => of_author(name).map(|value| Source::Value(Secret(value))),
        };
        let Some(source) = source else {
            decision.lacks.push(Lack::Secret { name: name.clone(), host });
            continue;
        };
        if !decision.hosts.contains(&host) {
            decision.lacks.push(Lack::Host { host: host.clone(), secret: Some(name.clone()) });
        }
        decision.secrets.push(name.clone());
        decision.rules.push(SecretRule { host, place: place_of(wish), source });
    }
    Ok(decision)
}

fn place_of(wish: &SecretWish) -> Place {
    match (&wish.header, &wish.query) {
        (Some(name), _) => Place::Header { name: name.clone(), prefix: wish.prefix.clone() },
        (None, query) => Place::Query { name: query.clone().unwrap_or_default() },
    }
}

/// The settings name nothing that the agent does not have.
fn known<'a>(
    agent: &str,
    what: &'static str,
    given: impl Iterator<Item = &'a String>,
    has: impl Iterator<Item = &'a String>,
) -> Result<(), GrantError> {
    let has: BTreeSet<&String> = has.collect();
    let Some(name) = given.into_iter().find(|name| !has.contains(name)) else { return Ok(()) };
    let has = match has.len() {
        0 => "; it asks for none".into(),
        _ => format!("; it has {}", has.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    };
    Err(GrantError::Unknown { agent: agent.into(), what, name: clip(name), has })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const ASKED: &str = "api.example.com";

    fn asked() -> Manifest {
        let secret = SecretWish {
            host: ASKED.into(),
            header: Some("authorization".into()),
            prefix: "Bearer ".into(),
            query: None,
        };
        Manifest {
            hosts: vec![ASKED.into(), "*.files.example.com".into()],
            settings: BTreeMap::from([("model".into(), "small".into())]),
            secrets: BTreeMap::from([("KEY".into(), secret)]),
        }
    }

    fn variables(name: &str) -> Option<String> {
        (name == "KEY").then(|| "of-the-variable".into())
    }

    fn hosts(decision: &Decision) -> Vec<String> {
        decision.hosts.iter().map(ToString::to_string).collect()
    }

    fn lacks(decision: &Decision) -> Vec<String> {
        decision.lacks.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn agent_of_own_sources_gets_what_it_asks_for() {
        let decision = decide("a", &asked(), &Grants::default(), true, variables).unwrap();
        assert_eq!(hosts(&decision), [ASKED, "*.files.example.com"]);
        assert_eq!(decision.settings, [("model".into(), "small".into())]);
        assert_eq!((decision.secrets.as_slice(), decision.lacks.len()), (&["KEY".to_owned()][..], 0));
        assert_eq!(decision.rules[0].source, Source::Value(Secret("of-the-variable".into())));
        let without = decide("a", &asked(), &Grants::default(), true, |_| None).unwrap();
        assert_eq!(lacks(&without), ["the secret `KEY` for `api.example.com`: `--secret KEY=@FILE`"]);
    }

    #[test]
    fn variables_of_the_program_are_none_of_an_author() {
        let mut asked = asked();
        asked.settings = BTreeMap::from([("LIVEKIT_API_SECRET".into(), "none".into())]);
        asked.secrets = asked.secrets.into_values().map(|wish| ("WASM_WORKER_HTTP_TOKEN".into(), wish)).collect();
        let decision = decide("a", &asked, &Grants::default(), true, |_| Some("of-the-operator".into())).unwrap();
        assert_eq!(decision.settings, [("LIVEKIT_API_SECRET".into(), "none".into())]);
        assert!(decision.rules.is_empty(), "{decision:?}");
    }

    #[test]
    fn agent_of_others_gets_what_the_settings_say() {
        let nothing = decide("a", &asked(), &Grants::default(), false, variables).unwrap();
        assert!(nothing.hosts.is_empty() && nothing.rules.is_empty() && nothing.lacks.len() == 3, "{nothing:?}");
        let given = Grants {
            hosts: vec![ASKED.parse().unwrap(), "other.example.com".parse().unwrap()],
            settings: BTreeMap::from([("model".into(), "large".into())]),
            secrets: BTreeMap::from([("KEY".into(), SecretSource::File("/run/key".into()))]),
        };
        let decision = decide("a", &asked(), &given, false, |_| None).unwrap();
        assert_eq!(hosts(&decision), [ASKED, "other.example.com"]);
        assert_eq!(decision.settings, [("model".into(), "large".into())]);
        assert_eq!(decision.rules[0].source, Source::File("/run/key".into()));
        assert_eq!(lacks(&decision), ["the host `*.files.example.com`: `--allow-host *.files.example.com`"]);
    }

    #[test]
    fn secret_without_its_host_is_told() {
        let secrets = BTreeMap::from([("KEY".into(), SecretSource::Variable("KEY".into()))]);
        let given = Grants { secrets, ..Grants::default() };
        let decision = decide("a", &asked(), &given, false, variables).unwrap();
        let last = lacks(&decision).pop().unwrap();
        assert_eq!(last, "the host `api.example.com` of the secret `KEY`: `--allow-host api.example.com`");
    }

    #[test]
    fn what_the_agent_does_not_have_is_an_error() {
        let settings = |name: &str| BTreeMap::from([(name.to_owned(), "x".to_owned())]);
        let given = Grants { settings: settings("modell"), ..Grants::default() };
        let error = decide("a", &asked(), &given, true, variables).unwrap_err().to_string();
        assert_eq!(error, "agent `a` has no setting `modell`; it has `model`");
        let secrets = BTreeMap::from([("KEY".into(), SecretSource::Variable("ABSENT".into()))]);
        let error = decide("a", &asked(), &Grants { secrets: secrets.clone(), ..Grants::default() }, true, variables);
        assert!(error.unwrap_err().to_string().contains("`ABSENT`, which is not set"));
        let error = decide("a", &Manifest::default(), &Grants { secrets, ..Grants::default() }, true, variables);
        assert_eq!(error.unwrap_err().to_string(), "agent `a` has no secret `KEY`; it asks for none");
        let everything = Manifest { hosts: vec!["*".into()], ..Manifest::default() };
        let error = decide("a", &everything, &Grants::default(), true, variables).unwrap_err();
        assert!(error.to_string().contains("is none"), "{error}");
    }
}
