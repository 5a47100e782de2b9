//! The service manager that started this process, such as systemd: readiness, reloads, the stop, a line of status, and the
//! watchdog, by the protocol of `sd_notify(3)`.
//!
//! The protocol is one datagram for each message. The crate `sd-notify` cannot send to an abstract socket, and waits when the
//! manager does not read.
//!
//! Bounds: the state is read every [`LOOK_EVERY`], and one message is sent for each difference. A message never waits: one that
//! the manager's queue has no space for is sent at a later look.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use wasm_worker_core::text::clip;

/// The interval at which the state of the process is read.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pings in the time that the watchdog allows.
const PINGS: u32 = 3;

/// The service manager of this process.
pub(crate) struct ServiceManager {
    socket: Arc<UnixDatagram>,
    /// The time after which the manager ends a process that does not ping.
    watchdog: Option<Duration>,
}

/// The state of a process, as its service manager sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceState {
    pub(crate) phase: Phase,
    pub(crate) reloads: Reloads,
    /// One line for people.
    pub(crate) status: String,
}

/// The phase of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    #[default]
    Starting,
    Serving,
    Stopping,
}

/// The number of reloads since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reloads {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
}

impl ServiceManager {
    /// The manager that the environment names; none where it names none.
    pub(crate) fn find() -> Option<Self> {
        let address = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty())?;
        let number = |name: &str| std::env::var_os(name)?.to_str()?.parse().ok();
        let watchdog = watchdog(number("WATCHDOG_USEC"), number("WATCHDOG_PID"), std::process::id());
        match connect(&address) {
            Ok(socket) => Some(Self { socket: Arc::new(socket), watchdog }),
            Err(error) => {
                let address = address.display();
                tracing::warn!(target: "host", %address, %error, "the service manager cannot be told the state of this process");
                None
            }
        }
    }

    /// Tell the manager every change of `state`, and ping it each time that `alive` completes with true. A future that does not
    /// complete, or completes with false, is no ping.
    pub(crate) fn follow<A: Future<Output = bool> + Send>(
        self,
        control: &Handle,
        state: impl Fn() -> ServiceState + Send + 'static,
        alive: impl Fn() -> A + Send + 'static,
    ) -> Follower {
        let socket = self.socket.clone();
        let mut tasks = vec![control.spawn(async move {
            let mut told = ServiceState::default();
            let mut looks = interval(LOOK_EVERY);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                looks.tick().await;
                tell_changes(&socket, &mut told, state());
            }
        })];
        if let Some(within) = self.watchdog {
            let socket = self.socket.clone();
            tasks.push(control.spawn(async move {
                let mut pings = interval(within / PINGS);
                pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    pings.tick().await;
                    if alive().await {
                        // A ping that is lost is followed by another one in time.
                        socket.send(b"WATCHDOG=1").ok();
                    }
                }
            }));
        }
        Follower { socket: self.socket, tasks }
    }
}

/// Keeps the service manager informed until it is dropped, which announces the stop.
pub(crate) struct Follower {
    socket: Arc<UnixDatagram>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        // The manager sees the end of the process in any case.
        self.socket.send(b"STOPPING=1").ok();
    }
}

/// The watchdog's time, where the watchdog is on and meant for this process.
fn watchdog(usec: Option<u64>, pid: Option<u64>, own: u32) -> Option<Duration> {
    let for_us = pid.is_none_or(|pid| pid == u64::from(own));
    usec.filter(|usec| *usec > 0 && for_us).map(Duration::from_micros)
}

/// A socket that is connected to the address: a path, or after `@` a name without a file.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Send what has changed. A message that cannot be sent now is a change at the next look.
fn tell_changes(socket: &UnixDatagram, told: &mut ServiceState, now: ServiceState) {
    for (message, state) in changes(told, now, monotonic_usec()) {
        if socket.send(message.as_bytes()).is_err() {
            return;
        }
        *told = state;
    }
}

/// The messages about the differences, each with the state that the manager knows after it.
fn changes(told: &ServiceState, now: ServiceState, monotonic_usec: u64) -> Vec<(String, ServiceState)> {
    let mut known = told.clone();
    let mut messages = Vec::new();
    let status = (known.status != now.status).then(|| {
        known.status.clone_from(&now.status);
        format!("STATUS={}", clip(&now.status))
    });
    let phase = match now.phase {
        Phase::Serving if known.phase < Phase::Serving => Some("READY=1"),
        Phase::Stopping if known.phase < Phase::Stopping => Some("STOPPING=1"),
        Phase::Starting | Phase::Serving | Phase::Stopping => None,
    };
    known.phase = known.phase.max(now.phase);
    let lines: Vec<&str> = phase.into_iter().chain(status.as_deref()).collect();
    if !lines.is_empty() {
        messages.push((lines.join("\n"), known.clone()));
    }
    // A reload is over when all that began have ended. A short one is reported whole.
    if known.phase == Phase::Serving && known.reloads.begun < now.reloads.begun {
        known.reloads.begun = now.reloads.begun;
        messages.push((format!("RELOADING=1\nMONOTONIC_USEC={monotonic_usec}"), known.clone()));
    }
    let has_ended = known.reloads.ended < known.reloads.begun && known.reloads.begun <= now.reloads.ended;
    if known.phase == Phase::Serving && has_ended {
        known.reloads.ended = now.reloads.ended;
        messages.push(("READY=1".into(), known));
    }
    messages
}

fn monotonic_usec() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(phase: Phase, reloads: (u64, u64), status: &str) -> ServiceState {
        ServiceState { phase, reloads: Reloads { begun: reloads.0, ended: reloads.1 }, status: status.into() }
    }

    fn texts(told: &mut ServiceState, now: ServiceState) -> Vec<String> {
        let messages = changes(told, now, 7);
        if let Some((_, state)) = messages.last() {
            told.clone_from(state);
        }
        messages.into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn each_change_is_told_once() {
        let mut told = ServiceState::default();
        let tell = |told: &mut ServiceState, phase, reloads, status: &str| texts(told, state(phase, reloads, status));
        assert_eq!(tell(&mut told, Phase::Starting, (0, 0), "loading"), ["STATUS=loading"]);
        assert!(tell(&mut told, Phase::Starting, (0, 0), "loading").is_empty());
        assert_eq!(tell(&mut told, Phase::Serving, (0, 0), "serving"), ["READY=1\nSTATUS=serving"]);
        assert_eq!(tell(&mut told, Phase::Serving, (2, 0), "serving"), ["RELOADING=1\nMONOTONIC_USEC=7"]);
        assert!(tell(&mut told, Phase::Serving, (2, 1), "serving").is_empty());
        assert_eq!(tell(&mut told, Phase::Serving, (2, 2), "serving"), ["READY=1"]);
        let short = tell(&mut told, Phase::Serving, (3, 3), "serving");
        assert_eq!(short, ["RELOADING=1\nMONOTONIC_USEC=7", "READY=1"]);
        assert_eq!(tell(&mut told, Phase::Stopping, (3, 3), "serving"), ["STOPPING=1"]);
        // Neither goes back, and nothing is reloaded any more.
        assert!(tell(&mut told, Phase::Serving, (4, 4), "serving").is_empty());
    }

    #[test]
    fn a_status_is_one_line() {
        let told = texts(&mut ServiceState::default(), state(Phase::Starting, (0, 0), "a\nMAINPID=1"));
        assert_eq!(told, ["STATUS=a MAINPID=1"]);
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some(1_000_000), None, 7), second);
        assert_eq!(watchdog(Some(1_000_000), Some(7), 7), second);
        assert_eq!(watchdog(Some(1_000_000), Some(8), 7), None);
        assert_eq!(watchdog(Some(0), None, 7), None);
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[test]
    fn an_address_is_a_path_or_a_name_without_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("wasm-worker-test-{}", std::process::id());
        let of_path = UnixDatagram::bind(&path).unwrap();
        let of_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (manager, address) in [(of_path, path.into_os_string()), (of_name, format!("@{name}").into())] {
            connect(&address).unwrap().send(b"READY=1").unwrap();
            let mut bytes = [0; 16];
            let length = manager.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"READY=1");
        }
        assert!(connect(dir.path().join("nobody").as_os_str()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_is_not_alive_does_not_ping() {
        let (ours, socket) = UnixDatagram::pair().unwrap();
        [&ours, &socket].into_iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        let pings = || {
            let (mut count, mut bytes) = (0, [0; 64]);
            while let Ok(length) = socket.recv(&mut bytes) {
                count += usize::from(&bytes[..length] == b"WATCHDOG=1");
            }
            count
        };
        let manager = ServiceManager { socket: Arc::new(ours), watchdog: Some(Duration::from_secs(3)) };
        let alive = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let asked = alive.clone();
        let is_alive = move || std::future::ready(asked.load(std::sync::atomic::Ordering::Relaxed));
        let follower = manager.follow(&Handle::current(), ServiceState::default, is_alive);
        tokio::time::sleep(Duration::from_millis(9_500)).await;
        assert_eq!(pings(), 10);
        alive.store(false, std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(9)).await;
        assert_eq!(pings(), 0);
        drop(follower);
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"STOPPING=1");
    }

    #[test]
    fn a_manager_that_does_not_read_is_not_waited_for_and_learns_of_the_change_later() {
        let (ours, manager) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        while ours.send(b"STATUS=full").is_ok() {}
        let mut told = ServiceState::default();
        tell_changes(&ours, &mut told, state(Phase::Serving, (0, 0), ""));
        assert_eq!(told.phase, Phase::Starting);
        manager.set_nonblocking(true).unwrap();
        while manager.recv(&mut [0; 64]).is_ok() {}
        tell_changes(&ours, &mut told, state(Phase::Serving, (0, 0), ""));
        assert_eq!(told.phase, Phase::Serving);
    }
}
