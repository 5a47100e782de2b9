//! A dispatcher that serves on loopback, and what must hold for it, whatever its callers send.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use livekit_token::{AccessToken, VideoGrants};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use wasm_worker_core::observer::Events;
use wasm_worker_core::secret::Secret;
use wasm_worker_dispatcher::settings::{DispatcherSettings, KeyPairs, StoreSync};
use wasm_worker_dispatcher::{Dispatcher, MetricsText};

const KEY: &str = "fuzz";
/// No answer contains it.
pub(crate) const SECRET: &str = "e8a1f0b2c3d4e5f60718293a4b5c6d7e";
/// The room of the tokens.
pub(crate) const ROOM: &str = "r";
/// The threads of the dispatcher. A panic on one of them is a finding.
const THREADS: [&str; 2] = ["fuzz-dispatcher", "store"];
/// Inputs of one dispatcher. Then comes another, with an empty store.
const INPUTS_MAX: usize = 100;
/// A dispatcher that takes longer hangs, on the slowest machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The panics of the dispatcher's threads.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// A dispatcher, and its store.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    /// A token with every grant for [`ROOM`].
    pub(crate) caller_token: String,
    /// A token that registers workers.
    pub(crate) worker_token: String,
    dispatcher: Dispatcher,
    runtime: Runtime,
    inputs: usize,
    _store: TempDir,
}

/// Play an input to the dispatcher of this process.
pub(crate) fn with_dispatcher(play: impl FnOnce(&Served)) {
    static SERVED: Mutex<Option<Served>> = Mutex::new(None);
    let mut served = SERVED.lock().unwrap_or_else(PoisonError::into_inner);
    if served.as_ref().is_some_and(|served| served.inputs == INPUTS_MAX)
        && let Some(Served { runtime, dispatcher, .. }) = served.take()
    {
        runtime.block_on(dispatcher.stop());
    }
    let served = served.get_or_insert_with(Served::start);
    served.inputs += 1;
    let panics = PANICS.load(Ordering::Relaxed);
    play(served);
    let pulse = served.dispatcher.pulse();
    let beats = served.runtime.block_on(async { tokio::time::timeout(PATIENCE, pulse.beats()).await });
    assert_eq!(beats, Ok(true), "the dispatcher answers no more");
    assert_eq!(PANICS.load(Ordering::Relaxed), panics, "a thread of the dispatcher panicked");
}

impl Served {
    fn start() -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                if std::thread::current().name().is_some_and(|name| THREADS.contains(&name)) {
                    PANICS.fetch_add(1, Ordering::Relaxed);
                }
                hook(panic);
            }));
        });
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name(THREADS[0]).enable_all().build().unwrap();
        let store = TempDir::new().unwrap();
        let keys = KeyPairs::from([(KEY.into(), Secret(SECRET.into()))]);
        let settings = settings(&store);
        let metrics: MetricsText = Arc::new(|waiting, running| format!("waiting {waiting} running {running}"));
        let start = Dispatcher::start(&settings, &keys, Arc::new(Events::default()), metrics, runtime.handle());
        let dispatcher = runtime.block_on(start).unwrap();
        let address = dispatcher.url().trim_start_matches("ws://").parse().unwrap();
        let grants = VideoGrants {
            room_list: true,
            room_create: true,
            room_admin: true,
            room: ROOM.into(),
            ..Default::default()
        };
        let (caller_token, worker_token) = (token(grants), token(VideoGrants { agent: true, ..Default::default() }));
        Self { address, caller_token, worker_token, dispatcher, runtime, inputs: 0, _store: store }
    }

    /// A connection to the dispatcher.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn token(grants: VideoGrants) -> String {
    AccessToken::with_api_key(KEY, SECRET).with_grants(grants).to_jwt().unwrap()
}

fn settings(store: &TempDir) -> DispatcherSettings {
    DispatcherSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        rtc_port: 0,
        rtc_address: None,
        tls_cert: None,
        tls_key: None,
        keys: None,
        store: store.path().join("store.db"),
        store_sync: StoreSync::Checkpoint,
        store_bytes_max: 64 << 20,
        retention: Duration::from_secs(60),
        queue: true,
        queue_limit: 1_000,
        queue_memory_bytes: 16 << 20,
        queue_deadline: Duration::from_secs(60),
        attempts_max: 3,
        lost_after: Duration::from_millis(20),
        rate: None,
        metadata_bytes_max: 64 << 10,
    }
}

/// Write as much as the dispatcher takes: it may close the connection before it has read everything.
pub(crate) fn write(stream: &mut TcpStream, bytes: &[u8]) {
    if let Err(error) = stream.write_all(bytes) {
        assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "the dispatcher reads nothing");
    }
}

/// What arrives until the dispatcher closes the connection, or is silent for so long, or `enough` has arrived. Returns whether
/// the connection is open.
pub(crate) fn read(
    stream: &mut TcpStream,
    to: &mut Vec<u8>,
    silence: Duration,
    enough: impl Fn(&[u8]) -> bool,
) -> bool {
    let (mut buffer, from) = ([0; 16 << 10], to.len());
    stream.set_read_timeout(Some(silence)).unwrap();
    while !enough(&to[from..]) {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => to.extend_from_slice(&buffer[..count]),
            // libFuzzer has a timer.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return true,
            Err(_) => return false,
        }
    }
    true
}

/// Send no more, and read the rest. The dispatcher closes a connection that its caller has closed.
pub(crate) fn finish(stream: &mut TcpStream, to: &mut Vec<u8>) {
    let began = Instant::now();
    // It may have been closed already.
    drop(stream.shutdown(Shutdown::Write));
    let open = read(stream, to, PATIENCE, |_| began.elapsed() > PATIENCE);
    assert!(!open, "the dispatcher does not close the connection");
}
