//! Which certificates are trusted: those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, or else those of the system.
//!
//! They are read for each connection with TLS, so that a renewed file needs no restart.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use crate::fault::ConnectionError;

/// The settings of a client that trusts them.
pub(crate) async fn client_config() -> Result<Arc<ClientConfig>, ConnectionError> {
    let reading = tokio::task::spawn_blocking(read);
    reading.await.unwrap_or_else(|error| Err(ConnectionError::NoTrust { why: error.to_string() }))
}

fn read() -> Result<Arc<ClientConfig>, ConnectionError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system has certificates that are too old to be read; the others count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let faults: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let why = if faults.is_empty() { "none was found".into() } else { faults.join("; ") };
        return Err(ConnectionError::NoTrust { why });
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConnectionError::NoTrust { why: error.to_string() })?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
