//! Offers and answers: one offer is open at a time, and what is wanted meanwhile goes into the next one.

use std::collections::HashMap;

use str0m::IceConnectionState;
use str0m::change::SdpAnswer;
use tokio::time::Instant;

use super::output::{AnswerError, PeerOutput};
use super::{ANSWER_BYTES_MAX, Path, Peer};
use crate::wire::Description;

impl Peer {
    /// Look for paths from the beginning, with the next offer. The channels and what is under way in them stay.
    pub(crate) const fn restart(&mut self) {
        self.restarts = true;
    }

    /// The newest offer, where it has no answer.
    pub(crate) fn open_offer(&self) -> Option<&Description> {
        self.pending.as_ref().map(|_| &self.offer)
    }

    /// The next offer, where one is wanted and none is open.
    pub(crate) fn next_offer(&mut self, now: Instant) -> Option<&Description> {
        let is_due = self.pending.is_none() && self.rtc.is_alive() && (self.restarts || self.lines.have_wishes());
        if !is_due {
            return None;
        }
        self.step(now);
        let mut changes = self.rtc.sdp_api();
        self.lines.change(&mut changes);
        let restarts = std::mem::take(&mut self.restarts);
        if restarts {
            changes.ice_restart(true);
        }
        if let Some((offer, pending)) = changes.apply() {
            let sdp = self.lines.edit(&offer.to_sdp_string());
            self.offer = Description { id: self.offer.id.wrapping_add(1), sdp };
            self.pending = Some(pending);
        }
        if restarts {
            self.search_again(now);
        }
        self.drain();
        self.open_offer()
    }

    fn search_again(&mut self, now: Instant) {
        self.remotes.clear();
        if self.path != Path::Found {
            self.carrier = None;
        }
        if self.path != Path::Closed {
            self.path = Path::Searching { since: now };
        }
    }

    /// Take the server's answer to the newest offer. One that came again, or that answers an older offer, changes nothing. `tracks`: what
    /// the server sends, by the section.
    pub(crate) fn take_answer(
        &mut self,
        answer: Description,
        tracks: &HashMap<String, String>,
        now: Instant,
    ) -> Result<(), AnswerError> {
        self.step(now);
        // A server that does not number its answers has one offer at a time, as we do.
        if answer.id > self.offer.id {
            return Err(AnswerError::Number { got: answer.id, want: self.offer.id });
        }
        if self.pending.is_none() || (answer.id != 0 && answer.id < self.offer.id) {
            return Ok(());
        }
        if answer.sdp.len() > ANSWER_BYTES_MAX {
            return Err(AnswerError::TooLong { bytes: answer.sdp.len() });
        }
        let parsed = SdpAnswer::from_sdp_string(&answer.sdp).map_err(|error| AnswerError::Unusable(error.into()))?;
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let accepted = self.rtc.sdp_api().accept_answer(pending, parsed);
        self.drain();
        accepted.map_err(|error| AnswerError::Unusable(error.into()))?;
        self.answer = answer;
        self.lines.answered(&self.rtc, tracks);
        self.outputs.push_back(PeerOutput::Lines);
        // A server that keeps the path at a restart tells no change of it.
        if matches!(self.path, Path::Searching { .. }) && self.rtc.is_connected() {
            self.path_changed(IceConnectionState::Connected);
        }
        Ok(())
    }
}
