//! `wasm-worker token`: a token for a client of the server, signed with the API key.

use std::time::Duration;

use clap::Args;
use livekit_token::{AccessToken, VideoGrants};

use super::client::{ServerSettings, pair};
use super::settings::SettingFlags;
use super::{Exit, Failure, print};
use wasm_worker_core::duration::parse as duration;

#[expect(clippy::struct_excessive_bools, reason = "flags")]
#[derive(Args)]
pub(crate) struct TokenArgs {
    /// Allow joining this room; with `--admin`, administering it
    #[arg(long, value_name = "NAME")]
    room: Option<String>,
    /// Identity of the participant
    #[arg(long, value_name = "NAME", default_value = "")]
    identity: String,
    /// Allow creating, listing and deleting rooms, and dispatching to the room of `--room`
    #[arg(long)]
    admin: bool,
    /// Allow registering as a worker
    #[arg(long)]
    worker: bool,
    /// Validity of the token
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    ttl: Duration,
    #[command(flatten)]
    settings: SettingFlags<ServerSettings>,
}

pub(crate) fn run(args: TokenArgs) -> Result<Exit, Failure> {
    if args.room.is_none() && !args.admin && !args.worker {
        return Err(Failure::usage("the token would allow nothing; set `--room`, `--admin` or `--worker`"));
    }
    let (key, secret) = pair(&args.settings.load()?)?;
    let grants = VideoGrants {
        room_join: args.room.is_some() && !args.admin,
        room: args.room.unwrap_or_default(),
        room_admin: args.admin,
        room_create: args.admin,
        room_list: args.admin,
        agent: args.worker,
        ..Default::default()
    };
    if grants.room_join && args.identity.is_empty() {
        return Err(Failure::usage("a token to join a room needs `--identity`"));
    }
    let token = AccessToken::with_api_key(&key, &secret).with_ttl(args.ttl).with_identity(&args.identity);
    let token = token.with_grants(grants).to_jwt();
    print(&token.map_err(|error| Failure::usage(format!("the token cannot be signed: {error}")))?)?;
    Ok(Exit::Ok)
}
