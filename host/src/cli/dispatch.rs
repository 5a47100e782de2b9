//! `wasm-worker dispatch`: have an agent run a job, and wait for its verdict if wanted.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use livekit_protocol as proto;
use livekit_token::VideoGrants;
use tokio::time::Instant;

use super::client::{Client, ClientFlags};
use super::job::{Job, exit_of, text};
use super::job_spec::attribute;
use super::{Exit, Failure, print, say};
use crate::discovery::make_token;
use wasm_worker_dispatcher::{DEADLINE, PRIORITY};

/// Of one request: why a dispatch waits changes without a change of its state.
const WAIT_MS: u64 = 5_000;
/// Between two requests that told nothing new.
const AGAIN: Duration = Duration::from_secs(1);
const ROOM_CHARS: usize = 8;

#[expect(clippy::struct_excessive_bools, reason = "flags")]
#[derive(Args)]
pub(crate) struct DispatchArgs {
    /// Name that the agent is registered under; an empty one is for workers without a name
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
    /// Before others that wait, or after them where it is negative
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// How long it may wait for a worker [default: the dispatcher's `queue-deadline`]
    #[arg(long, value_name = "TIME")]
    deadline: Option<String>,
    /// Not again when its worker dies
    #[arg(long)]
    once: bool,
    /// Wait for the verdict; the exit status is then that of the job
    #[arg(long)]
    wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientFlags,
}

pub(crate) fn run(args: DispatchArgs) -> Result<Exit, Failure> {
    let mut attributes: HashMap<String, String> = args.attribute.into_iter().collect();
    if args.priority != 0 {
        attributes.insert(PRIORITY.into(), args.priority.to_string());
    }
    attributes.extend(args.deadline.map(|deadline| (DEADLINE.to_owned(), deadline)));
    let restart = if args.once { proto::JobRestartPolicy::JrpNever } else { proto::JobRestartPolicy::JrpOnFailure };
    let new_room = || format!("room-{}", make_token().get(..ROOM_CHARS).unwrap_or_default());
    let request = proto::CreateAgentDispatchRequest {
        agent_name: args.agent,
        room: args.room.unwrap_or_else(new_room),
        metadata: args.metadata,
        restart_policy: restart as i32,
        deployment: args.deployment,
        attributes,
    };
    let client = args.client.client()?;
    let grants = VideoGrants { room_admin: true, room: request.room.clone(), ..Default::default() };
    let made: proto::AgentDispatch = client.twirp("AgentDispatchService/CreateDispatch", grants, &request)?;
    if args.wait {
        return wait(&client, &made.id, args.json);
    }
    if args.json {
        let made = serde_json::to_string(&made).map_err(std::io::Error::from)?;
        print(&made)?;
    } else {
        print(&format!("{}  agent `{}`  room `{}`", made.id, made.agent_name, made.room))?;
    }
    Ok(Exit::Ok)
}

#[expect(clippy::disallowed_methods, reason = "nobody else waits for this thread")]
fn wait(client: &Client, dispatch: &str, json: bool) -> Result<Exit, Failure> {
    let mut state = String::new();
    let mut said = String::new();
    loop {
        let asked = Instant::now();
        let page = client.page(&format!("/jobs/{dispatch}?after={state}&wait_ms={WAIT_MS}"))?;
        let job = Job::read(&page)?;
        // A dispatcher with too many that wait answers at once.
        if job.state == state {
            std::thread::sleep(AGAIN.saturating_sub(asked.elapsed()));
        }
        if job.state == "ended" {
            let exit = exit_of(&job);
            print(&if json { page.to_string() } else { text(&job) })?;
            return Ok(exit);
        }
        let news = job.news();
        if news != said {
            say(&news);
            said = news;
        }
        state = job.state;
    }
}
