use std::net::{Ipv4Addr, SocketAddr};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;

use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A CA, the certificates that it has signed, and a client that trusts it.
struct Pki {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    client: Arc<ClientConfig>,
}

/// A PEM file.
fn pem(label: &str, bytes: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::prelude::BASE64_STANDARD.encode(bytes);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

impl Pki {
    fn new() -> Self {
        let (mut params, key) = (CertificateParams::new(Vec::new()).unwrap(), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&key).unwrap().der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        Self { dir: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), client }
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { cert: self.dir.path().join("cert.pem"), key: self.dir.path().join("key.pem") }
    }

    /// Write a certificate for this name, and its key.
    fn write(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let files = self.files();
        std::fs::write(files.cert, pem("CERTIFICATE", certificate.der())).unwrap();
        std::fs::write(files.key, pem("PRIVATE KEY", &key.serialize_der())).unwrap();
    }

    /// Whether a handshake with a server of this name succeeds.
    async fn trusts(&self, address: SocketAddr, name: &'static str) -> bool {
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(self.client.clone());
        connector.connect(ServerName::try_from(name).unwrap(), stream).await.is_ok()
    }
}

/// A listener that makes handshakes.
async fn serving(tls: Tls) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Handle::current().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            Handle::current().spawn(async move {
                if let Some(Accepted::Tls(mut stream)) = tls.accept(stream).await {
                    drop(stream.read(&mut [0]).await);
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn certificate_is_read_again_when_it_changes_and_stays_when_the_new_one_is_no_good() {
    let pki = Pki::new();
    pki.write("one.test");
    let certificate = Arc::new(Certificate::read(&pki.files()).unwrap());
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_cert_resolver(certificate.clone());
    let address = serving(Tls::new(config, LOOPBACK)).await;
    assert!(pki.trusts(address, "one.test").await && !pki.trusts(address, "two.test").await);
    let before = versions(&pki.files());
    pki.write("a-longer-name.test");
    assert_ne!(versions(&pki.files()), before);
    certificate.renew().unwrap();
    assert!(pki.trusts(address, "a-longer-name.test").await && !pki.trusts(address, "one.test").await);
    std::fs::write(pki.files().cert, "half a fi").unwrap();
    certificate.renew().unwrap_err();
    std::fs::remove_file(pki.files().key).unwrap();
    certificate.renew().unwrap_err();
    assert!(pki.trusts(address, "a-longer-name.test").await);
}

#[tokio::test(start_paused = true)]
async fn change_of_the_files_is_noticed() {
    let pki = Pki::new();
    pki.write("one.test");
    let certificate = Arc::new(Certificate::read(&pki.files()).unwrap());
    let first = certificate.current.read().unwrap().clone();
    let looking = Handle::current().spawn(look(Arc::downgrade(&certificate), versions(&pki.files())));
    tokio::time::sleep(LOOK_EVERY * 2).await;
    assert!(Arc::ptr_eq(&first, &certificate.current.read().unwrap()), "nothing has changed");
    pki.write("a-longer-name.test");
    tokio::time::sleep(LOOK_EVERY * 2).await;
    assert!(!Arc::ptr_eq(&first, &certificate.current.read().unwrap()));
    drop(certificate);
    looking.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn certificate_that_cannot_be_read_once_is_read_later() {
    let pki = Pki::new();
    pki.write("one.test");
    let before = versions(&pki.files());
    // It changes while it is read for the first time.
    pki.write("a-longer-name.test");
    let certificate = Arc::new(Certificate::read(&pki.files()).unwrap());
    let current = || certificate.current.read().unwrap().clone();
    let first = current();
    Handle::current().spawn(look(Arc::downgrade(&certificate), before));
    tokio::time::sleep(LOOK_EVERY * 2).await;
    let second = current();
    assert!(!Arc::ptr_eq(&first, &second));
    // Its files are there, and cannot be read: their versions stay the same when they can.
    let last = Look { versions: versions(&pki.files()), is_used: false };
    let looked = certificate.look(last);
    assert!(looked.is_used && !Arc::ptr_eq(&second, &current()));
    let third = current();
    assert!(certificate.look(looked).is_used && Arc::ptr_eq(&third, &current()), "nothing has changed");
    std::fs::write(pki.files().cert, "half a fi").unwrap();
    assert!(!certificate.look(looked).is_used);
}

#[tokio::test]
async fn client_of_another_machine_hears_that_it_needs_tls() {
    let pki = Pki::new();
    pki.write("one.test");
    let tls = Tls::start(&pki.files(), LOOPBACK, &Handle::current()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let writer = Handle::current().spawn(async move {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(&vec![b'x'; usize::try_from(REFUSED_BYTES_MAX).unwrap()]).await.unwrap();
        client
    });
    let (stream, _) = listener.accept().await.unwrap();
    assert!(tls.accept_from(stream, false).await.is_none());
    // A client that reads late still has the answer.
    let (mut client, mut answer) = (writer.await.unwrap(), String::new());
    client.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 ") && head.contains(&format!("content-length: {}", body.len())), "{answer}");
    assert!(body.contains("https://"), "{answer}");
}

#[test]
fn listener_of_all_addresses_trusts_those_of_loopback_alone() {
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let (own, other) = (ip("192.0.2.1"), ip("192.0.2.2"));
    assert!(is_local(own, own, own) && !is_local(other, own, own));
    for all in [ip("0.0.0.0"), ip("::"), ip("::ffff:0.0.0.0")] {
        assert!(is_local(ip("127.0.0.1"), ip("127.0.0.1"), all) && is_local(ip("::ffff:127.0.0.1"), own, all));
        assert!(!is_local(own, own, all) && !is_local(other, own, all));
    }
}

#[test]
fn unusable_files_are_named() {
    let pki = Pki::new();
    let files = pki.files();
    let error = |files: &TlsFiles| wasm_worker_core::text::with_causes(&read(files).unwrap_err());
    let missing = error(&files);
    assert!(missing.contains("cert.pem` of `tls-cert` cannot be read: No such file"), "{missing}");
    pki.write("one.test");
    assert!(read(&files).is_ok());
    let swapped = TlsFiles { cert: files.key.clone(), key: files.cert.clone() };
    assert!(error(&swapped).contains("key.pem` of `tls-cert` has no certificate in PEM"));
    let no_key = TlsFiles { key: files.cert.clone(), ..files.clone() };
    assert!(error(&no_key).contains("cert.pem` of `tls-key` has no private key in PEM"));
    let other = KeyPair::generate().unwrap();
    std::fs::write(&files.key, pem("PRIVATE KEY", &other.serialize_der())).unwrap();
    assert!(error(&files).contains("is not the key of the certificate"), "{}", error(&files));
    let directory = TlsFiles { cert: pki.dir.path().into(), ..files.clone() };
    assert!(error(&directory).contains("want a file of at most"), "{}", error(&directory));
    std::fs::write(&files.key, pem("PRIVATE KEY", b"no key")).unwrap();
    assert!(error(&files).contains("cannot be used"), "{}", error(&files));
}

#[tokio::test]
async fn program_of_this_machine_may_speak_without_tls() {
    let pki = Pki::new();
    pki.write("one.test");
    let tls = Tls::start(&pki.files(), LOOPBACK, &Handle::current()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    assert!(matches!(tls.accept(stream).await, Some(Accepted::Plain(_))));
    // A client that says nothing does not hold the place.
    let _silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let began = tokio::time::Instant::now();
    assert!(tls.accept(stream).await.is_none() && began.elapsed() < 2 * HANDSHAKE_WITHIN);
}
