//! The offers of the host, on the second peer connection of a client that has two. The client gets texts and sound there.

use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::channel::{ChannelConfig, Reliability};
use str0m::media::{Direction, MediaKind, Mid};
use tokio::time::Instant;
use wasm_worker_core::text::with_causes;

use super::{Channel, OfferError, Peer, texts};

/// What `str0m` needs to understand the answer to an offer of the host.
pub(in crate::room_host) struct PendingOffer(SdpPendingOffer);

/// An offer of the host.
pub(in crate::room_host) struct Offer {
    pub(in crate::room_host) sdp: String,
    /// The name by which the client's checks find the peer.
    pub(in crate::room_host) name: String,
    pub(in crate::room_host) pending: PendingOffer,
}

/// What an offer of the host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::room_host) enum Wish {
    /// The two channels, besides lines: the first offer.
    Channels,
    /// Lines for sound.
    Lines,
    /// A new path, besides lines.
    Path,
}

impl Peer {
    /// Offer the lines that there are and so many further ones; none where nothing changes. `load` gets the further ones, and returns
    /// all lines, with whether the host sends on them.
    pub(in crate::room_host) fn offer(
        &mut self,
        wish: Wish,
        further: u32,
        now: Instant,
        load: impl FnOnce(Vec<Mid>) -> Vec<(Mid, bool)>,
    ) -> Option<Offer> {
        self.step(now);
        self.with(|rtc| {
            let mut changes = rtc.sdp_api();
            if wish == Wish::Channels {
                changes.add_channel_with_config(config(Channel::Reliable));
                changes.add_channel_with_config(config(Channel::Lossy));
            }
            let add = |_| changes.add_media(MediaKind::Audio, Direction::SendOnly, None, None, None);
            let new: Vec<Mid> = (0..further).map(add).collect();
            for (mid, sends) in load(new) {
                changes.set_direction(mid, if sends { Direction::SendOnly } else { Direction::Inactive });
            }
            let new_name = (wish == Wish::Path).then(|| changes.ice_restart(true).ufrag);
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
        texts::check_size(answer)?;
        let text = texts::without_sources(answer);
        self.step(now);
        let accepted = self.with(|rtc| {
            let accepted = SdpAnswer::from_sdp_string(&text).map_err(|error| with_causes(&error)).and_then(|answer| {
                rtc.sdp_api().accept_answer(pending, answer).map_err(|error| with_causes(&error))?;
                Ok(rtc.direct_api().local_ice_credentials().ufrag)
            });
            Ok(accepted)
        });
        let name = accepted.ok_or(OfferError::Over)?.map_err(OfferError::Unusable)?;
        self.negotiated(&text, &name, now);
        Ok(())
    }
}

/// A channel that the host opens.
fn config(channel: Channel) -> ChannelConfig {
    let (ordered, reliability) = match channel {
        Channel::Reliable => (true, Reliability::Reliable),
        Channel::Lossy => (false, Reliability::MaxRetransmits { retransmits: 0 }),
    };
    ChannelConfig { label: channel.label().into(), ordered, reliability, ..ChannelConfig::default() }
}
