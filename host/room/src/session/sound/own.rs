//! One track of the agent.

use std::collections::VecDeque;
use std::time::Duration;

use livekit_protocol as proto;
use tokio::time::Instant;

use crate::audio::playout::Playout;
use crate::peer::{LineId, Peer};
use wasm_worker_core::room::audio::options::PublishedSource;
use wasm_worker_core::room::audio::{AudioEvent, Publication};
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::id::OperationId;

/// Time for the server to take a track.
pub(crate) const PUBLISHED_WITHIN: Duration = Duration::from_secs(10);

/// A track of the agent.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) id: OperationId,
    pub(super) publication: Publication,
    pub(super) source: proto::TrackSource,
    pub(super) playout: Playout,
    /// What the agent or the server wants.
    pub(super) muted: bool,
    pub(super) stage: Stage,
    pub(super) hearers: Hearers,
}

/// How far the server is with a track.
#[derive(Debug)]
pub(super) enum Stage {
    /// The server was not told.
    New,
    /// The server was told of a track of this name.
    Asked { name: String, until: Instant },
    /// The server knows it, and its line is on the way.
    Announced { known: Known, until: Instant },
    /// The server takes its sound.
    Published { known: Known, flow: Flow },
}

/// Whether sound goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// No path leads to the server: the playout stands still.
    Stands,
    Runs,
}

/// A track that the server knows.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) line: LineId,
    /// Its facts, as the server knows them.
    pub(super) info: proto::TrackInfo,
    /// When the server was asked to mute or unmute it, until it is known to have got that.
    pub(super) asked_at: Option<Instant>,
}

/// Whether somebody hears the track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearers {
    None,
    /// The agent is told once the track is published.
    Untold,
    Told,
}

impl Own {
    pub(super) fn announcement(&self, cid: String) -> proto::AddTrackRequest {
        proto::AddTrackRequest {
            cid,
            name: self.publication.name.clone(),
            r#type: proto::TrackType::Audio as i32,
            source: self.source as i32,
            muted: self.muted,
            disable_red: true,
            ..Default::default()
        }
    }

    /// The server has to be told of the track, for the first time or again under another name. Who hears it there is not known yet.
    pub(super) fn announce_again(&mut self) {
        self.stage = Stage::New;
        if self.hearers == Hearers::Untold {
            self.hearers = Hearers::None;
        }
    }

    pub(super) fn tell_hearers(&mut self, events: &mut VecDeque<RoomEvent>) {
        if self.hearers == Hearers::Untold && matches!(self.stage, Stage::Published { .. }) {
            self.hearers = Hearers::Told;
            events.push_back(RoomEvent::Audio(AudioEvent::Subscribed { id: self.id }));
        }
    }

    /// Have the playout run where there is a line, which is returned, and stand where there is none.
    pub(super) fn flow(&mut self, line: Option<LineId>, now: Instant) -> Option<LineId> {
        if let Stage::Published { flow, .. } = &mut self.stage {
            if line.is_some() && *flow == Flow::Stands {
                self.playout.begin(now);
            }
            *flow = if line.is_some() { Flow::Runs } else { Flow::Stands };
        }
        line
    }

    /// The line on which sound goes out.
    pub(super) fn live_line(&self, peer: &Peer) -> Option<LineId> {
        match &self.stage {
            Stage::Published { known, .. } if peer.is_live(known.line) => Some(known.line),
            Stage::New | Stage::Asked { .. } | Stage::Announced { .. } | Stage::Published { .. } => None,
        }
    }
}

impl Stage {
    pub(super) const fn known(&self) -> Option<&Known> {
        match self {
            Self::Announced { known, .. } | Self::Published { known, .. } => Some(known),
            Self::New | Self::Asked { .. } => None,
        }
    }

    pub(super) const fn known_mut(&mut self) -> Option<&mut Known> {
        match self {
            Self::Announced { known, .. } | Self::Published { known, .. } => Some(known),
            Self::New | Self::Asked { .. } => None,
        }
    }

    pub(super) fn line(&self) -> Option<LineId> {
        self.known().map(|known| known.line)
    }

    pub(super) const fn until(&self) -> Option<Instant> {
        match self {
            Self::Asked { until, .. } | Self::Announced { until, .. } => Some(*until),
            Self::New | Self::Published { .. } => None,
        }
    }
}

/// The source in the words of the server.
pub(super) const fn source_of(source: PublishedSource) -> proto::TrackSource {
    match source {
        PublishedSource::Microphone => proto::TrackSource::Microphone,
        PublishedSource::ScreenShareAudio => proto::TrackSource::ScreenShareAudio,
    }
}
