//! What all operations of one agent share.

use std::sync::Arc;

use wasm_worker_core::network::event::Failure;

use crate::dial::Dialer;
use crate::failure::failure;
use crate::pool::{Client, client};
use crate::rules::target::Target;
use crate::secrets::{Additions, Secrets};
use crate::settings::{NetworkLimits, NetworkSettings};

/// The network of one agent.
pub(crate) struct Shared {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) client: Client,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) limits: NetworkLimits,
}

impl Shared {
    pub(crate) fn new(settings: NetworkSettings) -> Self {
        let NetworkSettings { rules, secrets, limits, resolver, trust } = settings;
        let dialer = Arc::new(Dialer::new(rules, resolver, trust, &limits));
        let client = client(dialer.clone(), &limits);
        Self { dialer, client, secrets: Arc::new(secrets), limits }
    }

    /// What is added to a request to a server.
    pub(crate) async fn additions(&self, target: &Target) -> Result<Additions, Failure> {
        if !self.secrets.has_files() {
            return self.secrets.additions(target);
        }
        let (secrets, target) = (self.secrets.clone(), target.clone());
        let reading = tokio::task::spawn_blocking(move || secrets.additions(&target));
        reading.await.unwrap_or_else(|_| Err(failure("fault", "the secrets cannot be read: the worker ends")))
    }
}
