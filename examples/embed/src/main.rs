//! A program that embeds the worker: it serves one agent with an embedded dispatcher, dispatches one job to itself, prints how
//! the job ended, and ends.
//!
//! ```text
//! cargo run -p embed -- examples/hello
//! ```

use std::error::Error;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Mutex;

use tokio::sync::oneshot;
use wasm_worker::app::Worker;
use wasm_worker::app::client::DispatchRequest;
use wasm_worker::config::{Config, HttpBind};
use wasm_worker_core::event::Event;
use wasm_worker_core::observer::Observer;

fn main() -> Result<(), Box<dyn Error>> {
    let agent = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: embed AGENT")?;
    let dir = tempfile::tempdir()?;

    // The worker's own dispatcher, on a free port, with a store that nobody else uses.
    let mut config = Config::default();
    config.dispatcher.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config.dispatcher.store = dir.path().join("dispatcher.db");
    config.http = HttpBind::Off;
    config.livekit.agent_name = Some("embedded".into());

    let (ended, end) = oneshot::channel();
    let verdicts = Verdicts { ended: Mutex::new(Some(ended)) };
    let worker = Worker::builder(config).agent(agent).observer(Box::new(verdicts)).start()?;

    // The agent is not loaded yet, so the dispatch waits in the queue.
    let request = DispatchRequest { agent: "embedded".into(), room: Some("lobby".into()), ..Default::default() };
    let dispatch = worker.client().dispatch(request)?;
    writeln!(io::stdout(), "dispatched {dispatch} at {}", worker.server_url())?;

    let served = worker.run_until(async {
        // The sender is dropped only after the end of the job.
        end.await.ok();
    })?;
    writeln!(io::stdout(), "the worker has ended, with {} jobs cut short", served.cut_short)?;
    Ok(())
}

/// Prints the verdict of each job, and tells when the first job has ended.
struct Verdicts {
    ended: Mutex<Option<oneshot::Sender<()>>>,
}

impl Observer for Verdicts {
    fn observe(&self, event: &Event) {
        let Event::JobClosed { job, verdict, .. } = event else { return };
        // Nothing can be done where standard output is closed.
        drop(writeln!(io::stdout(), "{job} {}: {}", verdict.code, verdict.detail));
        if let Some(ended) = self.ended.lock().ok().and_then(|mut ended| ended.take()) {
            ended.send(()).ok();
        }
    }
}
