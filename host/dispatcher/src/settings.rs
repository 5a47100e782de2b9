//! The settings of a dispatcher.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use wasm_worker_core::secret::Secret;

/// API keys and their secrets.
pub type KeyPairs = BTreeMap<String, Secret>;

/// When the store is flushed to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreSync {
    /// With each transaction.
    Commit,
    /// At checkpoints, and whenever the system flushes.
    Checkpoint,
}

/// The files for TLS, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// The certificate, followed by those of its CA.
    pub(crate) cert: PathBuf,
    /// The private key.
    pub(crate) key: PathBuf,
}

/// The settings of a dispatcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatcherSettings {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The port for the datagrams of participants in rooms (UDP), on the same address; 0 for any that is free.
    pub rtc_port: u16,
    /// A second address at which participants reach the port for datagrams, for those outside of a NAT.
    pub rtc_address: Option<IpAddr>,
    /// The file of the certificate for TLS; none for no TLS.
    pub tls_cert: Option<PathBuf>,
    /// The file of its key.
    pub tls_key: Option<PathBuf>,
    /// The API keys whose tokens are accepted; `None` for those of the server's API key.
    pub keys: Option<KeyPairs>,
    /// The file of the store.
    pub store: PathBuf,
    /// When the store is flushed to the disk.
    pub store_sync: StoreSync,
    /// The largest size of the store, in bytes.
    pub store_bytes_max: usize,
    /// How long a finished dispatch is kept.
    pub retention: Duration,
    /// Whether a dispatch may wait for a worker.
    pub queue: bool,
    /// Most dispatches of one API key that wait.
    pub queue_limit: usize,
    /// Memory of all open dispatches, in bytes.
    pub queue_memory_bytes: usize,
    /// How long a dispatch waits for a worker.
    pub queue_deadline: Duration,
    /// Most attempts of a dispatch whose workers die.
    pub attempts_max: u32,
    /// How long a job waits for its lost worker to return.
    pub lost_after: Duration,
    /// Dispatches a second of one API key; `None` is no limit.
    pub rate: Option<NonZeroU32>,
    /// Metadata of a dispatch or of a room, in bytes.
    pub metadata_bytes_max: usize,
}

impl DispatcherSettings {
    /// The files for TLS; none for no TLS.
    pub(crate) fn tls(&self) -> Option<TlsFiles> {
        Some(TlsFiles { cert: self.tls_cert.clone()?, key: self.tls_key.clone()? })
    }
}
