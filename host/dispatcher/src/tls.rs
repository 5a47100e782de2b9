//! TLS of a listener: its certificate and its key, and the handshakes.
//!
//! Both are files, which are read again when they change, so that a renewed certificate needs no restart. Files that cannot be used
//! any more leave the certificate that is there in place, and are logged.
//!
//! A program of this machine may speak without TLS on the same port: its own workers and the command line do, whose connections
//! leave no machine.
//!
//! Bounds: [`FILE_BYTES_MAX`] of a file, which is looked at every [`LOOK_EVERY`]; [`HANDSHAKE_WITHIN`] for a handshake.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::settings::TlsFiles;

/// Largest file with certificates or with a key, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Time limit for a handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
/// The first byte of TLS: the type of the record of a handshake.
const HANDSHAKE: u8 = 22;
/// The answer to a request without TLS.
const PLAIN_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 60\r\nconnection: close\r\n\r\n\
    this port speaks TLS: use a URL with `https://` or `wss://`\n";

/// The certificate and the key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("the file `{}` of `{setting}` cannot be read", path.display())]
    Read {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file has something else.
    #[error("the file `{}` of `{setting}` has no {wanted}", path.display())]
    Content {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What it has to have.
        wanted: &'static str,
    },
    /// The key is another one's.
    #[error("the key `{}` is not the key of the certificate `{}`", key.display(), cert.display())]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The library does not take them.
    #[error("the certificate `{}` or its key cannot be used: {why}", cert.display())]
    Unusable {
        /// The file of the certificate.
        cert: PathBuf,
        /// The cause.
        why: String,
    },
}

impl TlsError {
    /// Advice for the operator.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "give the user of this process the right to read the file, or name another one",
            Self::Content { .. } => "name PEM files: the certificate with those of its CA, and its private key",
            Self::Mismatch { .. } => "name the certificate and the key that belong together",
            Self::Unusable { .. } => "name a key for ECDSA, Ed25519 or RSA, without a password",
        }
    }
}

/// The TLS of a listener.
#[derive(Clone)]
pub(crate) struct Tls(TlsAcceptor);

impl Tls {
    /// Read the files, and look at them from now on.
    pub(crate) fn start(files: &TlsFiles, control: &tokio::runtime::Handle) -> Result<Self, TlsError> {
        let certificate = Arc::new(Certificate::read(files)?);
        let unusable = |error: rustls::Error| TlsError::Unusable { cert: files.cert.clone(), why: error.to_string() };
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.map_err(unusable)?.with_no_client_auth().with_cert_resolver(certificate.clone());
        control.spawn(look(Arc::downgrade(&certificate)));
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// The handshake with a client. `None`: it failed, or the client speaks no TLS.
    pub(crate) async fn accept(&self, mut stream: TcpStream) -> Option<Accepted> {
        let is_local = is_local(&stream);
        let accepting = async {
            let mut first = [0];
            if stream.peek(&mut first).await.ok()? == 0 {
                return None;
            }
            if first != [HANDSHAKE] {
                if is_local {
                    return Some(Accepted::Plain(stream));
                }
                drop(stream.write_all(PLAIN_ANSWER).await);
                return None;
            }
            match self.0.accept(stream).await {
                Ok(stream) => Some(Accepted::Tls(Box::new(stream))),
                Err(error) => {
                    tracing::debug!(target: "host", %error, "a handshake of TLS failed");
                    None
                }
            }
        };
        timeout(HANDSHAKE_WITHIN, accepting).await.ok().flatten()
    }
}

/// A connection that may be served.
pub(crate) enum Accepted {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Whether the client of a connection is a program of this machine.
fn is_local(stream: &TcpStream) -> bool {
    match (stream.peer_addr(), stream.local_addr()) {
        (Ok(peer), Ok(local)) => peer.ip().to_canonical().is_loopback() || peer.ip() == local.ip(),
        _ => false,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What tells one version of a file from another.
type Version = Option<(SystemTime, u64)>;

/// The certificate that is there, and where it comes from.
#[derive(Debug)]
struct Certificate {
    files: TlsFiles,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { files: files.clone(), current: RwLock::new(Arc::new(read(files)?)) })
    }

    fn versions(&self) -> (Version, Version) {
        let version = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        (version(&self.files.cert), version(&self.files.key))
    }

    /// Read the files again.
    fn renew(&self) {
        match read(&self.files) {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!(target: "dispatcher", cert = %self.files.cert.display(), "the certificate was read again");
            }
            Err(error) => {
                let why = wasm_worker_core::text::with_causes(&error);
                tracing::error!(target: "dispatcher", why, "the new certificate cannot be used; the former one stays");
            }
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Look at the files of a certificate until nobody uses it.
async fn look(certificate: std::sync::Weak<Certificate>) {
    let mut known = certificate.upgrade().map(|certificate| certificate.versions());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(certificate) = certificate.upgrade() else { return };
        let versions = Some(certificate.versions());
        if known != versions {
            known = versions;
            certificate.renew();
        }
    }
}

fn read(files: &TlsFiles) -> Result<CertifiedKey, TlsError> {
    let (cert, key) = (("tls-cert", &files.cert), ("tls-key", &files.key));
    let bytes = text(cert)?;
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| content(cert, "certificate in PEM"))?;
    let private = PrivateKeyDer::from_pem_slice(&text(key)?).map_err(|_| content(key, "private key in PEM"))?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { cert: files.cert.clone(), key: files.key.clone() }
        }
        error => TlsError::Unusable { cert: files.cert.clone(), why: error.to_string() },
    })
}

fn content((setting, path): (&'static str, &PathBuf), wanted: &'static str) -> TlsError {
    TlsError::Content { setting, path: path.clone(), wanted }
}

fn text((setting, path): (&'static str, &PathBuf)) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { setting, path: path.clone(), source };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        let why = format!("want a file of at most {FILE_BYTES_MAX} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests;
