//! The handles: all networks of a process, the network of one agent, and the network of one job.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::{Builder, Handle, Runtime};
use wasm_worker_core::network::command::{Command, HttpRequest, OperationId};
use wasm_worker_core::network::connection::{NetworkConnection, NetworkNumbers, NetworkOpener};
use wasm_worker_core::network::event::NetworkEvent;

use crate::failure::{failure, invalid};
use crate::http::exchange::Exchange;
use crate::job::{Job, Teller, Voice};
use crate::ledger::Refused;
use crate::network::Shared;
use crate::outbox::{End, Full, Outbox, Part};
use crate::settings::NetworkSettings;
use crate::socket::run::Socket;

/// Threads that look up names and read files of secrets. A dead name server holds one for some seconds.
const BLOCKING_THREADS_MAX: usize = 32;

/// The runtime of all networks of a process, so that they do not delay other timers of the program. Dropped, every operation fails.
pub struct Networks {
    runtime: Option<Runtime>,
    handle: Handle,
}

impl Networks {
    /// Start the runtime.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads.max(1)).max_blocking_threads(BLOCKING_THREADS_MAX);
        let runtime = builder.thread_name("network").enable_all().build()?;
        let handle = runtime.handle().clone();
        Ok(Self { runtime: Some(runtime), handle })
    }

    /// The network of one agent.
    pub fn network(&self, settings: NetworkSettings) -> Network {
        Network { shared: Arc::new(Shared::new(settings)), handle: self.handle.clone() }
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The network of one agent: its rules, secrets and warm connections.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
    handle: Handle,
}

impl NetworkOpener for Network {
    fn open(&self) -> Box<dyn NetworkConnection> {
        let job = Job::new(self.shared.limits.operations_max);
        Box::new(JobNetwork { shared: self.shared.clone(), handle: self.handle.clone(), job })
    }
}

/// The network of one job. Dropped, every operation is given up.
struct JobNetwork {
    shared: Arc<Shared>,
    handle: Handle,
    job: Arc<Job>,
}

impl NetworkConnection for JobNetwork {
    fn perform(&mut self, command: Command) {
        match command {
            Command::Send { id, request } => self.exchange(id, request, false),
            Command::Open { id, request } => self.exchange(id, request, true),
            Command::Connect { id, request } => {
                if let Some((teller, outbox)) = self.begin(id) {
                    let socket = Socket { shared: self.shared.clone(), teller, outbox };
                    self.spawn(id, socket.run(request));
                }
            }
            Command::Write { id, bytes } => self.put(id, Part::Body(bytes)),
            Command::SendText { id, text } => self.put(id, Part::Text(text)),
            Command::SendBytes { id, bytes } => self.put(id, Part::Binary(bytes)),
            Command::End { id } => self.end(id, End::Body),
            Command::Close { id, code, reason } => self.close(id, code, reason),
            Command::Cancel { id } => self.job.ledger().cancel(id),
            Command::Taken { id, charge } => self.job.ledger().taken(id, charge),
        }
    }

    fn try_next(&mut self) -> Option<NetworkEvent> {
        self.job.ledger().next()
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.job.ledger().poll_ready(context)
    }

    fn numbers(&self) -> Arc<dyn NetworkNumbers> {
        self.job.clone()
    }
}

impl JobNetwork {
    fn exchange(&self, id: OperationId, mut request: HttpRequest, is_in_parts: bool) {
        let Some((teller, outbox)) = self.begin(id) else { return };
        if is_in_parts {
            self.put(id, Part::Body(std::mem::take(&mut request.body)));
        }
        let exchange = Exchange { shared: self.shared.clone(), teller, outbox, is_in_parts };
        self.spawn(id, exchange.run(request));
    }

    fn begin(&self, id: OperationId) -> Option<(Teller, Arc<Outbox>)> {
        let outbox = self.job.outbox();
        let mut ledger = self.job.ledger();
        match ledger.begin(id, outbox.clone()) {
            Ok(serial) => Some((Teller { voice: Voice { job: self.job.clone(), id, serial } }, outbox)),
            Err(Refused::Known) => None,
            Err(Refused::Many) => {
                let most = self.shared.limits.operations_max;
                let message =
                    format!("{most} requests and sockets are open, which is the most; wait until one is over");
                ledger.refuse(id, failure("limit", message));
                None
            }
        }
    }

    fn spawn(&self, id: OperationId, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.handle.spawn(task).abort_handle();
        self.job.ledger().set_task(id, task);
    }

    fn put(&self, id: OperationId, part: Part) {
        let Some(outbox) = self.job.ledger().outbox(id) else { return };
        let place = match outbox.put(part) {
            Ok(()) => return,
            Err(Full::Operation) => "more than 1 MiB waits to be sent",
            Err(Full::Job) => "more than 8 MiB wait to be sent on all requests and sockets",
        };
        let message = format!("{place}; wait for `writable` before the next write");
        self.job.ledger().fail(id, failure("too-large", message));
    }

    fn end(&self, id: OperationId, end: End) {
        let outbox = self.job.ledger().outbox(id);
        if let Some(outbox) = outbox {
            outbox.end(end);
        }
    }

    /// The codes are those of applications and of section 7.4.1 of RFC 6455 that may be sent. 0 stands for a normal close.
    fn close(&self, id: OperationId, code: u16, reason: String) {
        match code {
            0 => self.end(id, End::Close { code: 1000, reason }),
            1000..=1003 | 1007..=1011 | 3000..=4999 => self.end(id, End::Close { code, reason }),
            _ => {
                let message =
                    format!("a socket cannot be closed with the code {code}; want 1000, or one from 3000 to 4999");
                self.job.ledger().fail(id, invalid(message));
            }
        }
    }
}

impl Drop for JobNetwork {
    fn drop(&mut self) {
        self.job.ledger().cancel_all();
    }
}

#[cfg(test)]
mod tests;
