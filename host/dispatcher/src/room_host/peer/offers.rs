//! The offers of the host, on the second peer connection of a client that has two. The client hears others there.

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use tokio::time::Instant;
use wasm_worker_core::text::with_causes;

use super::{OfferError, Peer, texts};

/// What `str0m` needs to understand the answer to an offer of the host.
pub(in crate::room_host) struct PendingOffer(SdpPendingOffer);

/// An offer of the host.
pub(in crate::room_host) struct Offer {
    pub(in crate::room_host) sdp: String,
    /// The name by which the client's checks find the peer.
    pub(in crate::room_host) name: String,
    pub(in crate::room_host) pending: PendingOffer,
}

impl Peer {
    /// Offer the lines that there are and so many further ones; none where nothing changes. `load` gets the further ones, and returns
    /// all lines, with whether the host sends on them.
    pub(in crate::room_host) fn offer(
        &mut self,
        further: u32,
        restarts: bool,
        now: Instant,
        load: impl FnOnce(Vec<Mid>) -> Vec<(Mid, bool)>,
    ) -> Option<Offer> {
        self.step(now);
        self.with(|rtc| {
            let mut changes = rtc.sdp_api();
            let add = |_| changes.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
            let new: Vec<Mid> = (0..further).map(add).collect();
            for (mid, sends) in load(new) {
                changes.set_direction(mid, if sends { Direction::SendOnly } else { Direction::Inactive });
            }
            let new_name = restarts.then(|| changes.ice_restart(true).ufrag);
            let Some((offer, pending)) = changes.apply() else { return Ok(None) };
            let name = new_name.unwrap_or_else(|| rtc.direct_api().local_ice_credentials().ufrag);
            Ok(Some(Offer { sdp: offer.to_sdp_string(), name, pending: PendingOffer(pending) }))
        })
        .flatten()
    }

    /// The client has answered an offer.
    pub(in crate::room_host) fn accept(
        &mut self,
        PendingOffer(pending): PendingOffer,
        answer: &str,
        now: Instant,
    ) -> Result<(), OfferError> {
        super::check_size(answer)?;
        let text = texts::without_states(answer);
        self.step(now);
        let accepted = self.with(|rtc| {
            let accepted = SdpAnswer::from_sdp_string(&text).map_err(|error| with_causes(&error)).and_then(|answer| {
                rtc.sdp_api().accept_answer(pending, answer).map_err(|error| with_causes(&error))?;
                Ok(rtc.direct_api().local_ice_credentials().ufrag)
            });
            Ok(accepted)
        });
        let name = accepted.ok_or(OfferError::Over)?.map_err(OfferError::Unusable)?;
        self.negotiated(&text, &name);
        Ok(())
    }
}
