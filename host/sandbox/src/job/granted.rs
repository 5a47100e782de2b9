//! What the operator grants the jobs of one agent.

use std::fmt;
use std::sync::Arc;

use wasm_worker_core::network::connection::NetworkOpener;

/// The prefix of attributes of a job that are the agent's settings.
const SETTING: &str = "@setting.";

/// What the jobs of one agent have beside their room.
#[derive(Clone, Default)]
pub struct Granted {
    /// The network. Without one their requests fail as `not-allowed`.
    pub network: Option<Arc<dyn NetworkOpener>>,
    /// The values of the agent's settings.
    pub settings: Vec<(String, String)>,
}

impl Granted {
    /// The settings as attributes of a job.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (String, String)> {
        self.settings.iter().map(|(name, value)| (format!("{SETTING}{name}"), value.clone()))
    }
}

impl fmt::Debug for Granted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Granted").field("network", &self.network.is_some()).field("settings", &self.settings).finish()
    }
}
