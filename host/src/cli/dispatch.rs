//! `wasm-worker dispatch`: create a dispatch, and wait for its verdict with `--wait`.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use wasm_worker_core::api::dispatcher::{Dispatch, DispatchState};

use super::client::ClientFlags;
use super::job::{exit_of, show, status};
use super::job_spec::attribute;
use super::{Exit, Failure, print, print_json, say};
use crate::app::client::{Client, DispatchRequest, OnLoss};

/// The longest wait of one request. The reason of a wait changes without a change of the state.
const WAIT_MS: u64 = 5_000;
/// The shortest time between two requests with the same answer.
const POLL_EVERY: Duration = Duration::from_secs(1);

#[expect(clippy::struct_excessive_bools, reason = "flags")]
#[derive(Args)]
pub(crate) struct DispatchArgs {
    /// Name that the agent is registered under; the empty name is for workers without a name
    #[arg(value_name = "AGENT")]
    agent: String,
    /// Room of the job [default: a new one]
    #[arg(long, value_name = "NAME")]
    room: Option<String>,
    /// Metadata of the job, often JSON
    #[arg(long, value_name = "TEXT", default_value = "")]
    metadata: String,
    /// Attribute of the job; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute)]
    attribute: Vec<(String, String)>,
    /// Deployment of the agent
    #[arg(long, value_name = "NAME", default_value = "", env = "LIVEKIT_AGENT_DEPLOYMENT", hide_env_values = true)]
    deployment: String,
    /// Priority in the queue; higher goes first
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Time limit for the wait for a worker [default: the dispatcher's `queue-deadline`]
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// Do not run the job again when its worker dies
    #[arg(long)]
    once: bool,
    /// Wait for the verdict, and exit with the status of the job
    #[arg(long)]
    wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientFlags,
}

pub(crate) fn run(args: DispatchArgs) -> Result<Exit, Failure> {
    let request = DispatchRequest {
        agent: args.agent,
        room: args.room,
        metadata: args.metadata,
        attributes: args.attribute.into_iter().collect(),
        deployment: args.deployment,
        priority: args.priority,
        deadline: args.deadline,
        on_loss: if args.once { OnLoss::End } else { OnLoss::Retry },
    };
    let client = args.client.client()?;
    let made = client.create_dispatch(request)?;
    if args.wait {
        return wait(&client, &made.id, args.json);
    }
    if args.json {
        print_json(&made)?;
    } else {
        print(&format!("{}  agent `{}`  room `{}`", made.id, made.agent_name, made.room))?;
    }
    Ok(Exit::Ok)
}

#[expect(clippy::disallowed_methods, reason = "nobody else waits for this thread")]
fn wait(client: &Client, dispatch: &str, json: bool) -> Result<Exit, Failure> {
    let mut known: Option<DispatchState> = None;
    let mut said = String::new();
    loop {
        let asked = Instant::now();
        let after = known.map(|state| format!("&after={}", state.as_str())).unwrap_or_default();
        let dispatch: Dispatch = client.get(&format!("/jobs/{dispatch}?wait_ms={WAIT_MS}{after}"))?;
        // A dispatcher with too many waiting callers answers at once.
        if known == Some(dispatch.state) {
            std::thread::sleep(POLL_EVERY.saturating_sub(asked.elapsed()));
        }
        if dispatch.state == DispatchState::Ended {
            show(&client.job(&dispatch.dispatch)?, json)?;
            return Ok(exit_of(&dispatch));
        }
        let status = status(&dispatch);
        if status != said {
            say(&status);
            said = status;
        }
        known = Some(dispatch.state);
    }
}
