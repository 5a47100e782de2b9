//! Moderation: what the agent may do to others in its room, where the operator grants it (`moderate = "on"`).

use crate::bindings::wasm_worker::agent::room;
use crate::{JobContext, Operation, Result};

impl JobContext {
    /// Puts a participant out of the room. Like the other acts of moderation, it goes through the server's API, and without
    /// the operator's grant it fails as `not-allowed`. The error is a [`Failure`](crate::types::Failure).
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext) -> wasm_worker_sdk::Result {
    /// ctx.remove_participant("troll").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_participant(&self, identity: &str) -> Result {
        Operation::new(room::remove_participant(identity), "room.remove-participant").done().await?;
        Ok(())
    }

    /// Moves a participant to the room of another name.
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext) -> wasm_worker_sdk::Result {
    /// ctx.move_participant("ann", "room-of-the-supervisor").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn move_participant(&self, identity: &str, destination: &str) -> Result {
        Operation::new(room::move_participant(identity, destination), "room.move-participant").done().await?;
        Ok(())
    }

    /// Mutes a track of a participant, or unmutes it, which not every server allows.
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext, track_sid: &str) -> wasm_worker_sdk::Result {
    /// ctx.mute_track("ann", track_sid, true).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn mute_track(&self, identity: &str, track_sid: &str, muted: bool) -> Result {
        Operation::new(room::mute_track(identity, track_sid, muted), "room.mute-track").done().await?;
        Ok(())
    }

    /// Deletes the room, and puts everybody out of it, the agent too. The job is asked to stop then.
    ///
    /// ```no_run
    /// # async fn example(ctx: &wasm_worker_sdk::JobContext) -> wasm_worker_sdk::Result {
    /// ctx.delete_room().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn delete_room(&self) -> Result {
        Operation::new(room::delete_room(), "room.delete-room").done().await?;
        Ok(())
    }
}
