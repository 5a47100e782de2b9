//! Mutes the track that its metadata name by participant and id, moves the participant, and tells how both went.

use wasm_worker_sdk::{Agent, JobContext, Result};

#[derive(Default)]
struct Silencer;

impl Agent for Silencer {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let metadata = &ctx.job().metadata;
        let (who, track) = metadata.split_once(' ').ok_or("no track is named")?;
        let muted = match ctx.mute_track(who, track, true).await {
            Ok(()) => "muted".to_owned(),
            Err(error) => error.to_string(),
        };
        let moved = match ctx.move_participant(who, "elsewhere").await {
            Ok(()) => "moved".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(format!("{muted}; {moved}").into())
    }
}

wasm_worker_sdk::agent!(Silencer);
