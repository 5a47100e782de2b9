//! A container, made of the kernel's namespaces as an engine makes it.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use super::{Image, USER};
use crate::support::harness::eventually;

/// The times that a container is started with other ports, because another process took one.
const STARTS: usize = 5;

/// A container: process 1 of its own processes, on a root of its own with the program, its libraries and nothing else.
const CONTAINER: &str = r#"
set -eu
root=$1 program=$2 inside=$3 agents=$4 user=$5
shift 5
mount --make-rprivate /
mount -t tmpfs -o mode=755 root "$root"
mkdir -p "$root/proc" "$root/agents" "$root/var/cache/wasm-worker" "$root/var/lib/wasm-worker" "$root${inside%/*}"
touch "$root$inside"
mount --bind "$program" "$root$inside"
ldd "$program" | grep -o '/[^ )]*' | while read -r library; do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
done
mount --bind "$agents" "$root/agents"
mount -o remount,bind,ro "$root/agents"
mount -o remount,bind,ro "$root$inside"
mount -t proc proc "$root/proc"
for volume in cache lib; do
    mount -t tmpfs -o "mode=700,uid=${user%:*},gid=${user#*:}" volume "$root/var/$volume/wasm-worker"
done
mount -o remount,ro "$root"
exec setpriv --no-new-privs chroot --userspec="$user" "$root" "$@"
"#;

/// A container that runs. It is killed with this value.
pub(super) struct Container {
    /// `unshare`, whose only child is the program.
    engine: Option<Child>,
}

/// Where a container answers HTTP, and where its dispatcher listens.
pub(super) struct Addresses {
    pub(super) http: String,
    pub(super) listen: String,
}

impl Container {
    /// Start the image with this command instead of its own, and with free ports.
    pub(super) fn start(image: &Image, root: &Path, agents: &Path, command: &[String]) -> (Self, Addresses) {
        let [http, listen] = [(), ()].map(|()| format!("127.0.0.1:{}", free_port()));
        let mut unshare = Command::new("unshare");
        unshare.args(NAMESPACES).args(["--kill-child=KILL", "/bin/sh", "-c", CONTAINER, "sh"]);
        unshare.arg(root).arg(env!("CARGO_BIN_EXE_wasm-worker")).arg(&image.program).arg(agents).arg(&image.user);
        unshare.arg(&image.program).args(command).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        unshare.envs(&image.variables).env("WASM_WORKER_LOAD_THRESHOLD", "none");
        unshare.env("WASM_WORKER_HTTP", &http).env("WASM_WORKER_LISTEN", &listen);
        let engine = unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        (Self { engine: Some(engine) }, Addresses { http, listen })
    }

    /// Start the image with its own command, and wait until it is ready.
    pub(super) fn ready(image: &Image, root: &Path, agents: &Path) -> (Self, Addresses) {
        for _ in 0..STARTS {
            let (mut container, addresses) = Self::start(image, root, agents, &image.command);
            let url = format!("http://{}/ready", addresses.http);
            let is_ready = || match get(&url) {
                Some(200) => Some(true),
                _ => container.has_ended().then_some(false),
            };
            if eventually("it is ready, or has ended", is_ready) {
                return (container, addresses);
            }
            let log = String::from_utf8_lossy(&container.output().stderr).into_owned();
            assert!(log.contains("Address already in use"), "the container ends: {log}");
        }
        panic!("no port stays free");
    }

    fn has_ended(&mut self) -> bool {
        self.engine.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// The id of process 1 outside of the container.
    pub(super) fn pid(&self) -> i32 {
        let engine = self.engine.as_ref().unwrap().id();
        let children = std::fs::read_to_string(format!("/proc/{engine}/task/{engine}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Wait for its end.
    pub(super) fn output(mut self) -> Output {
        self.engine.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(engine) = &mut self.engine {
            // The kernel kills process 1 with it, and all others with process 1.
            engine.kill().unwrap_or_default();
            drop(engine.wait());
        }
    }
}

/// The namespaces of a container.
const NAMESPACES: [&str; 5] = ["--mount", "--pid", "--ipc", "--uts", "--fork"];

/// Whether this machine allows what a container engine does.
pub(super) fn has_namespaces() -> bool {
    let mut tried = Command::new("unshare");
    tried.args(NAMESPACES).args(["/bin/sh", "-c", "mount --make-rprivate / && setpriv --version"]);
    tried.stdout(Stdio::null()).stderr(Stdio::null());
    rustix::process::geteuid().is_root() && tried.status().is_ok_and(|status| status.success())
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The status of an answer; none where nothing answers.
pub(super) fn get(url: &str) -> Option<u16> {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    Some(agent.get(url).call().ok()?.status().as_u16())
}

/// Check from outside what the process is and may do, and return the lines that show it.
pub(super) fn inspected(pid: i32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(field("NSpid:").last(), Some(&"1"), "{status}");
    assert!(field("Uid:").iter().chain(&field("Gid:")).all(|id| *id == USER), "{status}");
    assert_eq!((field("CapEff:")[0], field("NoNewPrivs:")[0]), ("0000000000000000", "1"), "{status}");
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mounts")).unwrap();
    let options = |place: &str| mounts.lines().find(|line| line.split(' ').nth(1) == Some(place)).unwrap().to_owned();
    assert!(options("/").contains(" ro,") && options("/agents").contains(" ro,"), "{mounts}");
    let shown = ["Uid:", "NSpid:", "CapEff:", "NoNewPrivs:"].map(|name| format!("{name} {}", field(name).join(" ")));
    format!("{}\n{mounts}", shown.join("\n"))
}
