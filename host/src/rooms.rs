//! The rooms of jobs: the crate `wasm-worker-room`, with the program's own way to servers.

use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use tokio::time::timeout;
use wasm_worker_core::text::with_causes;
use wasm_worker_room::io::{Connect, Connecting, Io, Rooms, RoomsSettings};

use wasm_worker_network::connect::connect;

/// Time for a connection to a server. A room has less for all of its join.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Time for the farewells of the last rooms of a process. Without them, people see its agents for some 20 s more.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);

/// Start the runtime of the rooms.
///
/// # Errors
/// When the system refuses a thread.
pub(crate) fn start(rooms_max: usize) -> std::io::Result<Arc<Rooms>> {
    Rooms::start(RoomsSettings { threads: threads(), rooms_max }, Arc::new(Network)).map(Arc::new)
}

/// Threads of the rooms: one carries some thousand idle ones, or a hundred with sound both ways. Half of the cores, because guests use
/// them too.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// Wait until the servers know that the agents have left.
pub(crate) async fn leave(rooms: &Rooms) {
    timeout(LEAVE_WITHIN, rooms.left()).await.ok();
}

/// By names, proxies and trusted certificates, as all connections of the program.
struct Network;

impl Connect for Network {
    fn connect(&self, url: &Uri) -> Connecting {
        let url = url.clone();
        Box::pin(async move {
            let stream = connect(&url, CONNECT_WITHIN).await.map_err(|error| with_causes(&error))?;
            Ok(Box::new(stream) as Box<dyn Io>)
        })
    }
}
