//! Acts of moderation: begun at the server's API, and told when their outcome comes. They need no connection to the room.
//!
//! Bounds: [`OPEN_MAX`] acts of a job are open, each with [`ACT_BYTES_MAX`] bytes of text; the moderator has the time limit of each.

use std::task::{Context, Poll};

use tokio::sync::mpsc;
use wasm_worker_core::room::connection::RoomToJoin;
use wasm_worker_core::room::moderation::{Moderation, ModerationDone, ModerationFailure};

use super::super::deliveries::Deliveries;
use super::super::world::JobAccess;
use crate::guest::bindings::wasm_worker::agent::events::{Completion, Event, Failure};
use crate::guest::calls::Call;
use crate::guest::kill::Kill;

/// Most acts of one job at once.
const OPEN_MAX: usize = 16;
/// Most bytes of the texts of an act. LiveKit's server allows identities and names of 256 bytes.
const ACT_BYTES_MAX: usize = 4 << 10;

const NOT_GRANTED: &str =
    "the operator does not grant moderation to the agent; `moderate = \"on\"` in its table of the settings does";

type Outcome = (u32, Result<(), ModerationFailure>);

/// The acts of one job. Nothing is kept for a job that begins none.
#[derive(Default)]
pub(super) struct Moderations(Option<Box<Begun>>);

struct Begun {
    sender: mpsc::Sender<Outcome>,
    outcomes: mpsc::Receiver<Outcome>,
    /// An outcome that was waited for.
    next: Option<Outcome>,
    /// Acts whose outcome has not been told.
    open: usize,
}

impl Moderations {
    /// Begin an act in the room of this name. An agent without the grant is told so.
    pub(super) fn begin(
        &mut self,
        id: u32,
        act: Moderation,
        (place, room): (&RoomToJoin, &str),
        job: &mut JobAccess<'_>,
    ) -> Result<(), Kill> {
        let Some(moderator) = &place.moderator else { return job.fail(id, "not-allowed", NOT_GRANTED) };
        let begun = self.0.get_or_insert_with(|| {
            let (sender, outcomes) = mpsc::channel(OPEN_MAX);
            Box::new(Begun { sender, outcomes, next: None, open: 0 })
        });
        if begun.open == OPEN_MAX {
            return job.fail(id, "limit", &format!("{OPEN_MAX} acts of moderation are open already"));
        }
        if act.bytes() > ACT_BYTES_MAX {
            return job.fail(
                id,
                "too-large",
                &format!("an act of moderation has at most {ACT_BYTES_MAX} bytes of text"),
            );
        }
        begun.open += 1;
        moderator.begin(room, act, done(id, begun.sender.clone()));
        Ok(())
    }

    /// Tell the agent the outcomes that have come, as long as there are deliveries to it.
    pub(super) fn advance(
        &mut self,
        mut deliveries: Option<&mut Deliveries>,
        job: &mut JobAccess<'_>,
    ) -> Result<(), Kill> {
        let Some(begun) = &mut self.0 else { return Ok(()) };
        while let Some((id, outcome)) = begun.next.take().or_else(|| begun.outcomes.try_recv().ok()) {
            begun.open -= 1;
            if let Some(deliveries) = &mut deliveries {
                deliveries.put(event_of(id, outcome), job)?;
            }
        }
        Ok(())
    }

    /// Ready once an outcome has come.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(begun) = &mut self.0 else { return Poll::Pending };
        if begun.next.is_none()
            && let Poll::Ready(Some(outcome)) = begun.outcomes.poll_recv(context)
        {
            begun.next = Some(outcome);
        }
        if begun.next.is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether an act is open.
    pub(super) fn is_any_open(&self) -> bool {
        self.0.as_ref().is_some_and(|begun| begun.open > 0)
    }
}

/// Sends the outcome of an act; where the act is given up, that.
fn done(id: u32, sender: mpsc::Sender<Outcome>) -> ModerationDone {
    struct Sending {
        id: u32,
        sender: mpsc::Sender<Outcome>,
        outcome: Option<Result<(), ModerationFailure>>,
    }
    impl Drop for Sending {
        fn drop(&mut self) {
            let given_up = || {
                let message = "the act was given up".to_owned();
                Err(ModerationFailure { code: "interrupted", status: 0, message })
            };
            // There is space for every open act. A job that has ended takes none.
            self.sender.try_send((self.id, self.outcome.take().unwrap_or_else(given_up))).ok();
        }
    }
    let sending = Sending { id, sender, outcome: None };
    Box::new(move |outcome| {
        let mut sending = sending;
        sending.outcome = Some(outcome);
    })
}

fn event_of(id: u32, outcome: Result<(), ModerationFailure>) -> Event {
    match outcome {
        Ok(()) => Event::Done(Completion { id, value: String::new() }),
        Err(ModerationFailure { code, status, message }) => {
            Event::Failed(Failure { id, code: code.into(), status, message })
        }
    }
}

/// The act of a call, if it is one of moderation.
pub(super) fn act_of(call: &Call) -> Option<(u32, Moderation)> {
    Some(match call {
        Call::RemoveParticipant { id, identity } => (*id, Moderation::RemoveParticipant { identity: identity.clone() }),
        Call::MoveParticipant { id, identity, destination } => {
            (*id, Moderation::MoveParticipant { identity: identity.clone(), destination: destination.clone() })
        }
        Call::MuteTrack { id, identity, track_sid, muted } => {
            let (identity, track_sid) = (identity.clone(), track_sid.clone());
            (*id, Moderation::MuteTrack { identity, track_sid, muted: *muted })
        }
        Call::DeleteRoom { id } => (*id, Moderation::DeleteRoom),
        _ => return None,
    })
}
