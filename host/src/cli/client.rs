//! The flags and settings by which `dispatch`, `jobs`, `job`, `workers`, `usage` and `cancel` find their server: LiveKit's, or the
//! dispatcher of this machine.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use clap::Args;
use wasm_worker_dispatcher::DEVELOPMENT_PAIR;

use super::settings::{Choice, SettingFlags};
use super::{Exit, Failure};
use crate::app::client::{Client, ClientError};
use crate::app::proof::{self, Listener};
use crate::config::Config;

/// The address of a dispatcher of this machine.
const LOCAL: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7880));

/// The settings that name the server.
pub(crate) struct ServerSettings;

impl Choice for ServerSettings {
    fn has(key: &str) -> bool {
        matches!(key, "url" | "api-key" | "api-secret")
    }
}

#[derive(Args)]
pub(crate) struct ClientFlags {
    #[command(flatten)]
    settings: SettingFlags<ServerSettings>,
}

impl ClientFlags {
    pub(crate) fn client(self) -> Result<Client, Failure> {
        client_of(&self.settings.load()?)
    }
}

/// The client of the server that the settings name.
pub(super) fn client_of(config: &Config) -> Result<Client, Failure> {
    config.check_server()?;
    let (key, secret) = pair(config)?;
    match &config.livekit.url {
        Some(url) => Ok(Client::new(url, key, secret)),
        None => local(key, secret),
    }
}

/// The dispatcher of this machine. The secret of the development pair is public, so its tokens are shown to anybody.
fn local(key: String, secret: String) -> Result<Client, Failure> {
    let url = format!("http://{LOCAL}");
    if (key.as_str(), secret.as_str()) != DEVELOPMENT_PAIR && proof::ask(LOCAL, &key, &secret) == Listener::Stranger {
        let why = format!("the program at `{url}` does not prove that it has the secret of the API key `{key}`");
        let hint = "if it is the server that you mean, name it: --url ws://127.0.0.1:7880 (LIVEKIT_URL)";
        return Err(Failure::usage(why).with_hint(hint));
    }
    Ok(Client::new(&url, key, secret))
}

/// The API key and its secret; the development pair where neither is set.
pub(crate) fn pair(config: &Config) -> Result<(String, String), Failure> {
    match (&config.livekit.api_key, &config.livekit.api_secret) {
        (Some(key), Some(secret)) => Ok((key.0.clone(), secret.0.clone())),
        (None, None) => Ok((DEVELOPMENT_PAIR.0.into(), DEVELOPMENT_PAIR.1.into())),
        _ => Err(Failure::usage("set both `api-key` and `api-secret`, or neither for the development pair")),
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Unreachable { .. } | ClientError::OtherVersion { .. } => Exit::Host,
            ClientError::Refused { status, .. } if *status >= 500 => Exit::Host,
            ClientError::Refused { .. } | ClientError::OtherServer { .. } | ClientError::Token { .. } => Exit::Usage,
        };
        let hint = error.hint().map(str::to_owned);
        Self { exit, error: error.into(), hint }
    }
}
