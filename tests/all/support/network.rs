//! What stands between the program and its server: names with a dead address, a proxy, and TLS with a private CA.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::support::harness::root;

/// A connection on loopback takes less, unless nobody accepts it.
const ACCEPTED_WITHIN: Duration = Duration::from_millis(300);

/// Runs what stands in between, beside tests that wait.
pub(crate) static BACKGROUND: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// The address of a URL on loopback.
pub(crate) fn address_of(url: &str) -> SocketAddr {
    url.split_once("://").unwrap().1.trim_end_matches('/').parse().unwrap()
}

/// A library that resolves the names of `TEST_ADDRESSES`. It is in this directory.
pub(crate) fn resolver(dir: &tempfile::TempDir) -> PathBuf {
    let (library, source) = (dir.path().join("two_addresses.so"), root().join("tests/interop/two_addresses.c"));
    let mut compiler = std::process::Command::new("cc");
    let compiled = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl").status();
    assert!(compiled.unwrap().success());
    library
}

/// An address that answers nothing, with the port of a live one: the queue of its listener is full.
pub(crate) struct DeadAddress {
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl DeadAddress {
    /// `127.0.0.2` with this port.
    pub(crate) fn beside(live: SocketAddr) -> Self {
        BACKGROUND.block_on(async {
            let address = SocketAddr::new([127, 0, 0, 2].into(), live.port());
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(address).unwrap();
            let (listener, mut queued) = (socket.listen(1).unwrap(), Vec::new());
            while let Ok(connected) = timeout(ACCEPTED_WITHIN, TcpStream::connect(address)).await {
                queued.push(connected.unwrap());
                assert!(queued.len() < 64, "the queue has no bound");
            }
            Self { _listener: listener, _queued: queued }
        })
    }
}

/// A CA that no system knows.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    /// The certificate, for `SSL_CERT_FILE`.
    pub(crate) file: tempfile::NamedTempFile,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let (mut params, key) = (CertificateParams::new(Vec::new()).unwrap(), KeyPair::generate().unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem("CERTIFICATE", params.self_signed(&key).unwrap().der())).unwrap();
        Self { issuer: Issuer::new(params, key), file }
    }

    /// Write a certificate for these names and its key. Returns the paths.
    pub(crate) fn write(&self, dir: &Path, names: &[&str]) -> (String, String) {
        let (key, names) = (KeyPair::generate().unwrap(), names.iter().map(|name| (*name).to_owned()));
        let certificate = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
        let certificate = certificate.signed_by(&key, &self.issuer).unwrap();
        let files = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&files.0, pem("CERTIFICATE", certificate.der())).unwrap();
        std::fs::write(&files.1, pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        (files.0.to_str().unwrap().to_owned(), files.1.to_str().unwrap().to_owned())
    }

    /// The same server with TLS and a certificate for this name.
    pub(crate) fn tls(&self, name: &str, server: SocketAddr) -> SocketAddr {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        listen(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let Ok(mut server) = TcpStream::connect(server).await else { return };
                copy_bidirectional(&mut stream, &mut server).await.ok();
            }
        })
    }
}

/// A file of this kind.
fn pem(label: &str, bytes: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(bytes);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The same server under a name: a server on loopback may answer to `localhost` only, so requests for the name are sent to it as
/// requests for `localhost`.
pub(crate) fn named(name: &'static str, server: SocketAddr) -> SocketAddr {
    listen(move |stream| async move {
        let Ok(server) = TcpStream::connect(server).await else { return };
        let ((mut caller, mut back), (mut answers, mut requests)) = (stream.into_split(), server.into_split());
        let forwards = async {
            let mut bytes = vec![0; 64 << 10];
            while let Ok(count @ 1..) = caller.read(&mut bytes).await {
                if requests.write_all(&renamed(&bytes[..count], name)).await.is_err() {
                    break;
                }
            }
            requests.shutdown().await.ok();
        };
        let backwards = async {
            copy(&mut answers, &mut back).await.ok();
            back.shutdown().await.ok();
        };
        tokio::join!(forwards, backwards);
    })
}

fn renamed(mut bytes: &[u8], name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    while let Some(at) = bytes.windows(name.len()).position(|part| part == name.as_bytes()) {
        out.extend_from_slice(&bytes[..at]);
        out.extend_from_slice(b"localhost");
        bytes = &bytes[at + name.len()..];
    }
    out.extend_from_slice(bytes);
    out
}

/// A server on loopback that answers every connection with this.
pub(crate) fn answering(answer: &'static str) -> SocketAddr {
    replying(answer, None).address
}

/// A server on loopback that answers every connection with this start, and then with this part again and again.
pub(crate) fn pouring(start: &'static str, part: &'static str) -> SocketAddr {
    replying(start, Some(part)).address
}

/// A server that counts its requests.
pub(crate) struct Replying {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Replying {
    /// The number of heads that have arrived whole.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }
}

/// A server on loopback that answers every connection with this start. Then it closes, or sends this part again and again.
pub(crate) fn replying(start: &'static str, again: Option<&'static str>) -> Replying {
    let requests = Arc::<AtomicUsize>::default();
    let counted = requests.clone();
    let address = listen(move |stream| {
        let counted = counted.clone();
        async move {
            let mut stream = BufReader::new(stream);
            if read_head(&mut stream).await.ends_with("\r\n\r\n") {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            stream.get_mut().write_all(start.as_bytes()).await.ok();
            match again {
                Some(part) => while stream.get_mut().write_all(part.as_bytes()).await.is_ok() {},
                None => drop(stream.get_mut().shutdown().await),
            }
        }
    });
    Replying { address, requests }
}

/// An HTTP proxy that knows the way to a few servers.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// The way to each server by host and port, and the password in the form of HTTP.
    pub(crate) fn start(ways: &[(String, SocketAddr)], password: Option<&'static str>) -> Self {
        let ways: Arc<BTreeMap<String, SocketAddr>> = Arc::new(ways.iter().cloned().collect());
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let heads = seen.clone();
        let address = listen(move |stream| pass_on(stream, ways.clone(), password, heads.clone()));
        Self { address, seen }
    }

    /// The first lines of all requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn has_seen(&self, start: &str) {
        let seen = self.seen();
        assert!(seen.iter().any(|line| line.starts_with(start)), "`{start}` is missing in {seen:?}");
    }
}

async fn pass_on(
    stream: TcpStream,
    ways: Arc<BTreeMap<String, SocketAddr>>,
    password: Option<&'static str>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    let mut stream = BufReader::new(stream);
    let head = read_head(&mut stream).await;
    let Some(first) = head.lines().next() else { return };
    let target = first.split(' ').nth(1).unwrap();
    let server = target.trim_start_matches("http://").split('/').next().unwrap();
    let server = if server.contains(':') { server.to_owned() } else { format!("{server}:80") };
    let wanted = password.map(|password| format!("proxy-authorization: {password}").to_lowercase());
    let answer = match ways.get(&server) {
        _ if wanted.is_some_and(|wanted| !head.to_lowercase().contains(&wanted)) => {
            "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"
        }
        None => "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
        Some(way) => {
            seen.lock().unwrap().push(first.to_owned());
            let Ok(mut server) = TcpStream::connect(way).await else { return };
            if first.starts_with("CONNECT ") {
                stream.get_mut().write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok();
            } else {
                server.write_all(head.as_bytes()).await.ok();
            }
            copy_bidirectional(&mut stream, &mut server).await.ok();
            return;
        }
    };
    stream.get_mut().write_all(answer.as_bytes()).await.ok();
}

/// The lines of a request before its body, the empty one included.
pub(crate) async fn read_head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.is_ok_and(|bytes| bytes > 0) {
            continue;
        }
        break;
    }
    head
}

/// Serve connections on loopback.
pub(crate) fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = BACKGROUND.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    BACKGROUND.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            BACKGROUND.spawn(serve(stream));
        }
    });
    address
}
