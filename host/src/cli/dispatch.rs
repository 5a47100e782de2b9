//! `wasm-worker dispatch`: create a dispatch, and wait for its verdict with `--wait`.

use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use tokio::time::Instant;
use wasm_worker_core::api::dispatcher::{Dispatch, DispatchState};
use wasm_worker_core::text::one_line;

use super::client::ClientFlags;
use super::job::{exit_of, show, status};
use super::job_spec::{attribute, read_text};
use super::{Exit, Failure, print, print_json, say};
use crate::app::client::{Client, ClientError, DispatchRequest, OnLoss};

/// The longest wait of one request. The reason of a wait changes without a change of the state.
const WAIT_MS: u64 = 5_000;
/// Longest time without an answer. A restart of a dispatcher takes seconds.
const SILENCE_MAX: Duration = Duration::from_secs(300);
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
    /// Metadata of the job, often JSON: a text, `@FILE`, or `-` for standard input; `@@` begins a text with `@`
    #[arg(long, value_name = "TEXT", default_value = "")]
    metadata: String,
    /// Attribute of the job; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = attribute)]
    attribute: Vec<(String, String)>,
    /// Deployment of the agent
    #[arg(long, value_name = "NAME", default_value = "", env = "LIVEKIT_AGENT_DEPLOYMENT", hide_env_values = true, value_parser = utf8())]
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
    /// Print the id on standard error, wait for the verdict, and exit with the status of the job
    #[arg(long)]
    wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientFlags,
}

/// A text, which clap then names with its flag where it is not UTF-8.
fn utf8() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().try_map(|text| text.into_string().map_err(|_| "the value is not UTF-8"))
}

pub(crate) fn run(args: DispatchArgs) -> Result<Exit, Failure> {
    let request = DispatchRequest {
        agent: args.agent,
        room: args.room,
        metadata: read_text(&args.metadata)?,
        attributes: args.attribute.into_iter().collect(),
        deployment: args.deployment,
        priority: args.priority,
        deadline: args.deadline,
        on_loss: if args.once { OnLoss::End } else { OnLoss::Retry },
    };
    let client = args.client.client()?;
    let made = client.create_dispatch(request)?;
    let made_line = one_line(&format!("{}  agent `{}`  room `{}`", made.id, made.agent_name, made.room)).into_owned();
    if args.wait {
        // The id is known before the wait, whatever becomes of it.
        say(&made_line);
        return wait(&client, &made.id, args.json);
    }
    if args.json {
        print_json(&made)?;
    } else {
        print(&made_line)?;
    }
    Ok(Exit::Ok)
}

/// Wait for the verdict. A dispatcher that restarts has the dispatch in its store, so an answer that fails is waited for.
fn wait(client: &Client, dispatch: &str, json: bool) -> Result<Exit, Failure> {
    let mut known: Option<DispatchState> = None;
    let mut said = String::new();
    let mut say_once = |text: String| {
        if text != said {
            say(&one_line(&text));
            said = text;
        }
    };
    let mut answered = Instant::now();
    loop {
        let asked = Instant::now();
        let after = known.map(|state| format!("&after={}", state.as_str())).unwrap_or_default();
        let answer = client.get(&format!("/jobs/{dispatch}?wait_ms={WAIT_MS}{after}"));
        // The answer to a caller who waits leaves metadata and attributes out.
        let answer = answer.and_then(|dispatch: Dispatch| match dispatch.state {
            DispatchState::Ended => client.job(&dispatch.dispatch),
            _ => Ok(dispatch),
        });
        match answer {
            Ok(dispatch) if dispatch.state == DispatchState::Ended => {
                show(&dispatch, json)?;
                return Ok(exit_of(&dispatch));
            }
            Ok(dispatch) => {
                say_once(status(&dispatch));
                // A dispatcher with too many waiting callers answers at once.
                if known == Some(dispatch.state) {
                    pause(asked);
                }
                known = Some(dispatch.state);
                answered = Instant::now();
            }
            Err(error) if may_restart(&error) && answered.elapsed() < SILENCE_MAX => {
                say_once(format!("waiting for the dispatcher: {error}"));
                pause(asked);
            }
            Err(error) => {
                let hint = format!("`wasm-worker job {dispatch}` shows the dispatch once the dispatcher answers");
                let failure = Failure::from(error);
                return Err(if failure.exit == Exit::Host { failure.with_hint(hint) } else { failure });
            }
        }
    }
}

/// Whether a dispatcher that ends or starts gives such an answer.
fn may_restart(error: &ClientError) -> bool {
    matches!(error, ClientError::Unreachable { .. } | ClientError::Refused { status: 500.., .. })
}

#[expect(clippy::disallowed_methods, reason = "nobody else waits for this thread")]
fn pause(since: Instant) {
    std::thread::sleep(POLL_EVERY.saturating_sub(since.elapsed()));
}
