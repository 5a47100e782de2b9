//! The tracks that the agent publishes. A track is announced to the server, then gets a line, and its playout begins with the answer to
//! the offer that has the line. What is written before then waits.
//!
//! Each announcement has a name of its own, which no track had before: a server takes a track of a known name for the older one.
//!
//! Bounds: [`OWN_MAX`] tracks; the server has [`PUBLISHED_WITHIN`] for each.

use std::collections::VecDeque;

use livekit_protocol as proto;
use livekit_protocol::signal_request::Message as Request;
use tokio::time::Instant;

use super::own::{Flow, Hearers, Known, Own, PUBLISHED_WITHIN, Stage, source_of};
use super::{Busy, Refusal, fail};
use crate::audio::codec::NewEncoder;
use crate::audio::counts::{PlayoutCounts, count_lateness};
use crate::audio::playout::Playout;
use crate::peer::{LineId, Peer};
use crate::wire;
use wasm_worker_core::room::audio::options::{OWN_MAX, PublishedOptions, WriteError};
use wasm_worker_core::room::audio::{AudioEvent, AudioStatistics, Publication};
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::id::OperationId;

/// All that the agent says.
#[derive(Debug)]
pub(super) struct Speaking {
    own: Vec<Own>,
    /// Begins the names of announcements.
    name: String,
    encoder: NewEncoder,
    /// The number of announcements.
    announced: u64,
    /// Lines of tracks that are over.
    freed: Vec<LineId>,
    /// Numbers of tracks that are over, and how late packets went out.
    over: AudioStatistics,
}

impl Speaking {
    pub(super) fn new(name: String, encoder: NewEncoder) -> Self {
        Self { own: Vec::new(), name, encoder, announced: 0, freed: Vec::new(), over: AudioStatistics::default() }
    }

    /// Publish a track.
    pub(super) fn publish(&mut self, id: OperationId, publication: Publication, now: Instant) -> Result<(), Refusal> {
        if self.own.len() >= OWN_MAX {
            return Err(("limit", format!("the agent has {OWN_MAX} tracks, which is the most")));
        }
        let options = PublishedOptions::new(&publication)?;
        let playout = Playout::new(id, options, self.encoder, now).map_err(|why| ("invalid", why))?;
        let (source, stage, hearers) = (source_of(options.source), Stage::New, Hearers::None);
        self.own.push(Own { id, publication, source, playout, muted: false, stage, hearers });
        Ok(())
    }

    /// Add something to a track. Where it is not taken, the track ends.
    pub(super) fn change(
        &mut self,
        id: OperationId,
        change: impl FnOnce(&mut Playout) -> Result<(), WriteError>,
    ) -> Result<(), Refusal> {
        let Some(at) = self.own.iter().position(|own| own.id == id) else { return Ok(()) };
        let changed = self.own.get_mut(at).map_or(Ok(()), |own| change(&mut own.playout));
        changed.map_err(|error| {
            self.end(at);
            (error.code(), error.to_string())
        })
    }

    /// Do something with the playout of a track.
    pub(super) fn with(&mut self, id: OperationId, act: impl FnOnce(&mut Playout)) {
        if let Some(own) = self.own.iter_mut().find(|own| own.id == id) {
            act(&mut own.playout);
        }
    }

    /// The agent mutes or unmutes a track.
    pub(super) fn mute(&mut self, id: OperationId, muted: bool) {
        if let Some(own) = self.own.iter_mut().find(|own| own.id == id) {
            own.muted = muted;
            own.playout.set_muted(muted);
        }
    }

    /// The agent gives up a track. Nothing is told.
    pub(super) fn cancel(&mut self, id: OperationId) {
        if let Some(at) = self.own.iter().position(|own| own.id == id) {
            self.end(at);
        }
    }

    /// The room has a new peer: every track is announced there.
    pub(super) fn placed(&mut self) {
        self.freed.clear();
        self.own.iter_mut().for_each(Own::announce_again);
    }

    /// The agent is in the room, for the first time or again.
    pub(super) fn connected(&mut self, now: Instant) {
        for own in &mut self.own {
            if let Stage::Asked { until, .. } | Stage::Announced { until, .. } = &mut own.stage {
                *until = now + PUBLISHED_WITHIN;
            }
        }
    }

    /// The room is left.
    pub(super) fn left(&mut self, events: &mut VecDeque<RoomEvent>) {
        while let Some(own) = self.own.last() {
            fail(events, own.id, ("not-joined", "the agent is not in the room any more".into()));
            self.end(self.own.len() - 1);
        }
        self.freed.clear();
    }

    /// The server knows the track that was announced under this name.
    pub(super) fn announced(
        &mut self,
        name: &str,
        info: proto::TrackInfo,
        peer: Option<&mut Peer>,
        events: &mut VecDeque<RoomEvent>,
    ) {
        let Some((at, until)) = self.asked(name) else { return };
        let line = peer.and_then(|peer| peer.add_own(name.to_owned()));
        let Some(own) = self.own.get_mut(at) else { return };
        match line {
            Some(line) => {
                let known = Known { name: name.to_owned(), line, info, asked_at: None };
                own.stage = Stage::Announced { known, until };
            }
            None => self.fail(at, ("limit", "the connection has no line for another track".into()), events),
        }
    }

    /// The server refuses the track that was announced under this name.
    pub(super) fn refused(&mut self, name: &str, refusal: Refusal, events: &mut VecDeque<RoomEvent>) {
        if let Some((at, _)) = self.asked(name) {
            self.fail(at, refusal, events);
        }
    }

    fn asked(&self, name: &str) -> Option<(usize, Instant)> {
        let until = |own: &Own| match &own.stage {
            Stage::Asked { name: asked, until } if asked == name => Some(*until),
            _ => None,
        };
        self.own.iter().enumerate().find_map(|(at, own)| Some((at, until(own)?)))
    }

    /// The server ended a track.
    pub(super) fn unpublished(&mut self, track_sid: &str, events: &mut VecDeque<RoomEvent>) {
        if let Some(at) = self.place_of(track_sid) {
            self.fail(at, ("refused", "the server ended the track".into()), events);
        }
    }

    /// The server muted or unmuted a track, as a moderator asked it to.
    pub(super) fn muted(&mut self, track_sid: &str, muted: bool, identity: &str, events: &mut VecDeque<RoomEvent>) {
        let own = self.place_of(track_sid).and_then(|at| self.own.get_mut(at));
        let Some(own) = own else { return };
        own.muted = muted;
        own.playout.set_muted(muted);
        let has_changed = |known: &mut Known| std::mem::replace(&mut known.info.muted, muted) != muted;
        if let Some(known) = own.stage.known_mut() {
            known.asked_at = None;
        }
        match &mut own.stage {
            Stage::Published { known, .. } => {
                if has_changed(known) {
                    events.push_back(RoomEvent::TrackChanged(wire::track(&known.info, identity)));
                }
            }
            // The agent does not know it yet.
            Stage::Announced { known, .. } => known.info.muted = muted,
            Stage::New | Stage::Asked { .. } => {}
        }
    }

    /// The server has the track like this after a resumption. A moderator may have muted it meanwhile; and what the agent asked for may not
    /// have arrived, and is asked for again.
    pub(super) fn resumed(&mut self, track_sid: &str, muted: bool, identity: &str, events: &mut VecDeque<RoomEvent>) {
        let own = self.place_of(track_sid).and_then(|at| self.own.get_mut(at));
        let Some(known) = own.and_then(|own| own.stage.known_mut()) else { return };
        if known.asked_at.take().is_some() {
            // The request may have been lost with its link: the wish of the agent stands.
            known.info.muted = muted;
            return;
        }
        match (known.info.muted, muted) {
            (false, true) => self.muted(track_sid, true, identity, events),
            (_, false) => known.info.muted = false,
            // As it was before: the wish of the agent stands.
            (true, true) => {}
        }
    }

    /// The server has got all requests that were made before this time.
    pub(super) fn heeded(&mut self, before: Instant) {
        for known in self.own.iter_mut().filter_map(|own| own.stage.known_mut()) {
            known.asked_at = known.asked_at.filter(|at| *at >= before);
        }
    }

    /// Somebody hears a track.
    pub(super) fn subscribed(&mut self, track_sid: &str, events: &mut VecDeque<RoomEvent>) {
        let own = self.place_of(track_sid).and_then(|at| self.own.get_mut(at));
        if let Some(own) = own.filter(|own| own.hearers == Hearers::None) {
            own.hearers = Hearers::Untold;
            own.tell_hearers(events);
        }
    }

    /// The server answered an offer.
    pub(super) fn take_lines(&mut self, peer: &Peer, events: &mut VecDeque<RoomEvent>) {
        for at in (0..self.own.len()).rev() {
            let Some(own) = self.own.get_mut(at) else { continue };
            own.stage = match std::mem::replace(&mut own.stage, Stage::New) {
                Stage::Announced { known, .. } if peer.accepts(known.line) => {
                    let (id, track_sid) = (own.id, known.info.sid.clone());
                    events.push_back(RoomEvent::Audio(AudioEvent::Published { id, track_sid }));
                    Stage::Published { known, flow: Flow::Stands }
                }
                Stage::Announced { known, until } => Stage::Announced { known, until },
                stage @ (Stage::New | Stage::Asked { .. } | Stage::Published { .. }) => stage,
            };
            own.tell_hearers(events);
            if own.stage.line().is_some_and(|line| peer.is_refused(line)) {
                self.fail(at, ("refused", "the server refused the line of the track".into()), events);
            }
        }
    }

    /// The next request that the server needs to know what the agent says.
    /// `mutes_too`: the server has told which of the tracks are muted.
    pub(super) fn next_request(&mut self, peer: &mut Peer, mutes_too: bool, now: Instant) -> Option<Request> {
        self.freed.drain(..).for_each(|line| peer.end_own(line));
        for own in &mut self.own {
            match &mut own.stage {
                Stage::New => {
                    self.announced += 1;
                    let name = format!("{}-{}", self.name, self.announced);
                    own.stage = Stage::Asked { name: name.clone(), until: now + PUBLISHED_WITHIN };
                    return Some(Request::AddTrack(own.announcement(name)));
                }
                Stage::Announced { known, .. } | Stage::Published { known, .. }
                    if mutes_too && known.info.muted != own.muted =>
                {
                    (known.info.muted, known.asked_at) = (own.muted, Some(now));
                    let (sid, muted) = (known.info.sid.clone(), own.muted);
                    return Some(Request::Mute(proto::MuteTrackRequest { sid, muted }));
                }
                Stage::Asked { .. } | Stage::Announced { .. } | Stage::Published { .. } => {}
            }
        }
        None
    }

    /// The tracks that the server is told at a resumption. Those that it was told of without an answer are announced again.
    pub(super) fn resume(&mut self) -> Vec<proto::TrackPublishedResponse> {
        let known = self.own.iter_mut().filter_map(|own| {
            if matches!(own.stage, Stage::Asked { .. }) {
                own.announce_again();
            }
            let Known { name, info, .. } = own.stage.known_mut()?;
            Some(proto::TrackPublishedResponse { cid: name.clone(), track: Some(info.clone()) })
        });
        known.collect()
    }

    /// When the server's time for a track is over.
    pub(super) fn wait_until(&self) -> Option<Instant> {
        self.own.iter().filter_map(|own| own.stage.until()).min()
    }

    /// Give up the tracks whose time is over.
    pub(super) fn give_up(&mut self, events: &mut VecDeque<RoomEvent>, now: Instant) {
        let is_late = |own: &Own| own.stage.until().is_some_and(|until| until <= now);
        while let Some(at) = self.own.iter().position(is_late) {
            let message = format!("the server did not take the track within {PUBLISHED_WITHIN:?}");
            self.fail(at, ("timeout", message), events);
        }
    }

    /// When a packet is due.
    pub(super) fn wake_at(&self, peer: Option<&Peer>) -> Option<Instant> {
        let peer = peer?;
        let due = |own: &Own| own.live_line(peer).and_then(|_| own.playout.wake_at());
        self.own.iter().filter_map(due).min()
    }

    /// Have packets go out, and tell what happened to the tracks.
    pub(super) fn advance(
        &mut self,
        mut peer: Option<&mut Peer>,
        events: &mut VecDeque<RoomEvent>,
        busy: &mut Busy,
        now: Instant,
    ) {
        for at in (0..self.own.len()).rev() {
            let Some(own) = self.own.get_mut(at) else { continue };
            let line = peer.as_deref().and_then(|peer| own.live_line(peer));
            if let (Some(line), Some(peer)) = (own.flow(line, now), peer.as_deref_mut()) {
                while let Some(outgoing) = busy.count(|| own.playout.advance(now)) {
                    count_lateness(&mut self.over, outgoing.late_by);
                    peer.write_sound(line, outgoing, now);
                }
            }
            events.extend(std::iter::from_fn(|| own.playout.next_event()).map(RoomEvent::Audio));
            if own.playout.take_writable() {
                events.push_back(RoomEvent::Writable(own.id));
            }
            if own.playout.is_over() {
                events.push_back(RoomEvent::Done(own.id));
                self.end(at);
            }
        }
    }

    /// Add the numbers.
    pub(super) fn count(&self, all: &mut AudioStatistics) {
        all.packets_sent += self.over.packets_sent;
        all.frames_late += self.over.frames_late;
        all.spoken += self.over.spoken;
        (all.lateness, all.late_by) = (self.over.lateness, self.over.late_by);
        self.own.iter().for_each(|own| own.playout.counts().add_to(all));
        all.own_tracks = u32::try_from(self.own.len()).unwrap_or(u32::MAX);
    }

    fn place_of(&self, track_sid: &str) -> Option<usize> {
        self.own.iter().position(|own| own.stage.known().is_some_and(|known| known.info.sid == track_sid))
    }

    fn fail(&mut self, at: usize, refusal: Refusal, events: &mut VecDeque<RoomEvent>) {
        if let Some(own) = self.own.get(at) {
            fail(events, own.id, refusal);
            self.end(at);
        }
    }

    fn end(&mut self, at: usize) {
        let own = self.own.remove(at);
        PlayoutCounts { bytes_waiting: 0, ..own.playout.counts() }.add_to(&mut self.over);
        self.freed.extend(own.stage.line());
    }
}
