//! What an agent asks of its operator: the hosts that it reaches, its settings, and its secrets by name. An author writes it as
//! `agent.toml`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an agent asks for. It is granted nothing by this alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Manifest {
    /// The hosts: `api.example.com`, `*.example.com`, `http://localhost:8080`.
    pub hosts: Vec<String>,
    /// The settings, each with its default.
    pub settings: BTreeMap<String, String>,
    /// The secrets. The host adds them to requests, and the agent never has them.
    pub secrets: BTreeMap<String, SecretWish>,
}

/// Where a secret goes: into a header or a query value of requests to one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SecretWish {
    /// The host, as in [`Manifest::hosts`].
    pub host: String,
    /// The name of the header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The text before the value in the header, such as `Bearer `.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The name of the query value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

impl Manifest {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
