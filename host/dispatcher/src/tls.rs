//! TLS of a listener: its certificate and its key, and the handshakes.
//!
//! Both are files, which are read again when they change, so that a renewed certificate needs no restart. Files that cannot be used
//! any more leave the certificate that is there in place, and are logged.
//!
//! A program of this machine may speak without TLS on the same port: its own workers and the command line do, whose connections
//! leave no machine. A forwarder on this machine makes its clients programs of this machine.
//!
//! Bounds: [`FILE_BYTES_MAX`] of a file, which is looked at every [`LOOK_EVERY`]; [`HANDSHAKE_WITHIN`] for a handshake, and
//! [`REFUSED_BYTES_MAX`] of a client that speaks no TLS.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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
/// Most bytes that are read of a client that speaks no TLS.
const REFUSED_BYTES_MAX: u64 = 64 << 10;
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
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    /// The address that the listener is bound to.
    bound: IpAddr,
    /// The log says once that somebody speaks without TLS.
    plain: Arc<Once>,
}

impl Tls {
    /// Read the files, and look at them from now on. The listener is bound to this address.
    pub(crate) fn start(files: &TlsFiles, bound: IpAddr, control: &tokio::runtime::Handle) -> Result<Self, TlsError> {
        // A file that changes while it is read is read again.
        let known = versions(files);
        let certificate = Arc::new(Certificate::read(files)?);
        let unusable = |error: rustls::Error| TlsError::Unusable { cert: files.cert.clone(), why: error.to_string() };
        let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.map_err(unusable)?.with_no_client_auth().with_cert_resolver(certificate.clone());
        control.spawn(look(Arc::downgrade(&certificate), known));
        Ok(Self::new(config, bound))
    }

    fn new(config: ServerConfig, bound: IpAddr) -> Self {
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), bound, plain: Arc::new(Once::new()) }
    }

    /// The handshake with a client. `None`: it failed, or the client speaks no TLS.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Option<Accepted> {
        let is_local = match (stream.peer_addr(), stream.local_addr()) {
            (Ok(peer), Ok(local)) => is_local(peer.ip(), local.ip(), self.bound),
            _ => false,
        };
        self.accept_from(stream, is_local).await
    }

    /// The same, for a client that is a program of this machine or is not.
    async fn accept_from(&self, mut stream: TcpStream, is_local: bool) -> Option<Accepted> {
        let accepting = async {
            let mut first = [0];
            if stream.peek(&mut first).await.ok()? == 0 {
                return None;
            }
            if first != [HANDSHAKE] {
                if is_local {
                    self.plain.call_once(|| {
                        tracing::info!(target: "dispatcher", "a program of this machine speaks without TLS, as it may");
                    });
                    return Some(Accepted::Plain(stream));
                }
                drop(refuse(&mut stream).await);
                return None;
            }
            match self.acceptor.accept(stream).await {
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

/// Tell a client without TLS what it lacks. Its request is read, because a connection that ends before is reset, and the answer lost.
async fn refuse(stream: &mut TcpStream) -> io::Result<u64> {
    stream.write_all(PLAIN_ANSWER).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(REFUSED_BYTES_MAX), &mut tokio::io::sink()).await
}

/// Whether the client of a connection is a program of this machine. A listener of all addresses trusts those of loopback alone.
fn is_local(peer: IpAddr, local: IpAddr, bound: IpAddr) -> bool {
    peer.to_canonical().is_loopback() || !bound.to_canonical().is_unspecified() && peer == local
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// What tells one version of a file from another.
type Version = Option<(SystemTime, u64)>;
/// Those of the certificate and of the key.
type Versions = (Version, Version);

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

    /// Read the files again.
    fn renew(&self) -> Result<(), TlsError> {
        let new = read(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        tracing::info!(target: "dispatcher", cert = %self.files.cert.display(), "the certificate was read again");
        Ok(())
    }

    /// Read the files again where they have changed, or could not be used.
    fn look(&self, former: Look) -> Look {
        let versions = versions(&self.files);
        let is_new = versions != former.versions;
        if !is_new && former.is_used {
            return former;
        }
        let renewed = self.renew();
        if let Err(error) = &renewed
            && is_new
        {
            let why = wasm_worker_core::text::with_causes(error);
            tracing::error!(target: "dispatcher", why, "the new certificate cannot be used; the former one stays");
        }
        Look { versions, is_used: renewed.is_ok() }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The files as they were looked at last.
#[derive(Clone, Copy, Debug)]
struct Look {
    versions: Versions,
    /// Whether their certificate is the one that is there.
    is_used: bool,
}

/// Look at the files of a certificate until nobody uses it. These versions were there before it was read.
async fn look(certificate: Weak<Certificate>, versions: Versions) {
    let mut last = Look { versions, is_used: true };
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(certificate) = certificate.upgrade() else { return };
        let former = last;
        let looked = tokio::task::spawn_blocking(move || certificate.look(former)).await;
        last = looked.unwrap_or(former);
    }
}

fn versions(files: &TlsFiles) -> Versions {
    let version = |path: &Path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    (version(&files.cert), version(&files.key))
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
