//! The sound of a room without a server: people who speak from files, and tracks of the agent that are played in time.
//!
//! ```text
//! voice    where voice begins and ends
//! speaker  a person who speaks
//! heard    a track that the agent hears
//! playout  a track of the agent
//! calls    what the agent asks for
//! ```
//!
//! Bounds: those of a joined room, and those of the parts.

mod playout;
mod speaker;
mod voice;

mod heard;

mod calls;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasm_worker_core::room::audio::Rule;
use wasm_worker_core::room::audio::options::{HEARD_MAX, HeardOptions};
use wasm_worker_core::usage::{AudioUse, millis};

use super::recorded_room::RecordedRoom;
use super::world::{JobAccess, World};
use crate::guest::bindings::wasm_worker::agent::events::{AudioStart, Event, Loss, Track};
use crate::guest::calls::Call;
use crate::guest::kill::Kill;
use crate::sound::Sound;
use heard::Heard;
use playout::Playout;
use speaker::Speaker;

pub(super) use playout::Played;

/// The sound of one room.
#[expect(clippy::struct_excessive_bools, reason = "three facts that have nothing to do with each other")]
#[derive(Default)]
pub(super) struct PlayedAudio {
    /// Those who have spoken, by identity.
    speakers: BTreeMap<String, Speaker>,
    rules: BTreeMap<u32, (Rule, HeardOptions)>,
    heard: Vec<Heard>,
    tracks: BTreeMap<u32, Playout>,
    /// Whether somebody is there to hear the agent.
    has_listener: bool,
    /// Whether the agent has left the room or lost it: it is told no track.
    is_outside: bool,
    /// The number of the last track of the agent.
    published: u32,
    /// Whether what is played is kept, until somebody takes it.
    keeps: bool,
    played: Vec<Played>,
    /// The sound of tracks that are over.
    past: AudioUse,
}

impl PlayedAudio {
    /// Nobody speaks. `keeps`: what is played is kept, until somebody takes it.
    pub(super) fn new(keeps: bool) -> Self {
        Self { keeps, ..Self::default() }
    }

    /// A person says something. A person who has not spoken before has a track from now on.
    pub(super) fn say(
        &mut self,
        (identity, is_person): (&str, bool),
        sound: Arc<Sound>,
        job: &mut JobAccess<'_>,
    ) -> Result<(), Kill> {
        if !self.speakers.contains_key(identity) {
            let speaker = Speaker::new(identity, is_person);
            let track: Track = speaker.track.clone().into();
            self.speakers.insert(identity.to_owned(), speaker);
            if !self.is_outside {
                job.send_sure(Event::TrackPublished(track))?;
            }
            for rule in self.rules.keys().copied().collect::<Vec<_>>() {
                self.follow(rule, identity, job)?;
            }
        }
        let Some(speaker) = self.speakers.get_mut(identity) else { return Ok(()) };
        for heard in self.heard.iter_mut().filter(|heard| heard.hears(speaker)) {
            heard.begin(speaker, job.now);
        }
        speaker.say(sound, job.now);
        Ok(())
    }

    /// Whether nobody speaks, and neither the agent nor a listener has something to hear.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.wake_at().is_none() && !self.speakers.values().any(|speaker| speaker.is_speaking(now))
    }

    /// The end of all that is said.
    pub(super) fn end_of_speech(&self) -> Option<Instant> {
        self.speakers.values().filter_map(Speaker::end).max()
    }

    /// A person leaves.
    pub(super) fn leave(&mut self, identity: &str, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let Some(speaker) = self.speakers.remove(identity) else { return Ok(()) };
        for heard in self.heard.iter_mut().filter(|heard| heard.hears(&speaker)) {
            heard.advance(&speaker, job.now);
            heard.end(job.now);
        }
        self.deliver(job)?;
        if self.is_outside { Ok(()) } else { job.send_sure(Event::TrackUnpublished(speaker.track.into())) }
    }

    /// The agent is in the room: it is told the tracks that are there. `has_listener`: somebody is there.
    pub(super) fn joined(&mut self, has_listener: bool, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.has_listener |= has_listener;
        self.is_outside = false;
        let tracks = self.speakers.values().map(|speaker| speaker.track.clone().into());
        tracks.collect::<Vec<Track>>().into_iter().try_for_each(|track| job.send_sure(Event::TrackPublished(track)))
    }

    /// Somebody comes.
    pub(super) fn has_listener(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if std::mem::replace(&mut self.has_listener, true) {
            return Ok(());
        }
        let ids: Vec<u32> = self.tracks.keys().copied().collect();
        ids.into_iter().try_for_each(|id| job.send_sure(Event::AudioSubscribed(id)))
    }

    /// The room is left or lost: heard tracks end, a followed one that the agent is yet to be told once it has an id. What else the
    /// agent has begun fails.
    pub(super) fn fail(&mut self, why: &str, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        self.is_outside = true;
        for heard in &mut self.heard {
            if let Some(speaker) = speaker_of(&self.speakers, heard) {
                heard.advance(speaker, job.now);
                heard.end(job.now);
            }
            heard.hold(false);
        }
        self.deliver(job)?;
        let rules = std::mem::take(&mut self.rules).into_keys();
        let tracks: Vec<u32> = self.tracks.keys().copied().collect();
        tracks.iter().for_each(|id| self.end_track(*id));
        rules.chain(tracks).try_for_each(|id| job.fail(id, "not-joined", why))
    }

    /// Hear the track of a person, where it fits a rule. Its id is given at the delivery of the event.
    fn follow(&mut self, rule: u32, identity: &str, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let (Some((wanted, options)), Some(speaker)) = (self.rules.get(&rule), self.speakers.get(identity)) else {
            return Ok(());
        };
        let fits = (wanted.participant.is_empty() || wanted.participant == identity)
            && (wanted.source.is_empty() || wanted.source == speaker.track.source)
            && (!wanted.people || speaker.is_person);
        if !fits {
            return Ok(());
        }
        if self.heard.len() >= HEARD_MAX {
            return job.send_sure(Event::Lost(Loss { what: "audio-started".into(), id: 0, count: 1 }));
        }
        self.heard.push(Heard::new(speaker.track.sid.clone(), None, *options, job.now));
        job.send_sure(Event::AudioStarted(AudioStart { id: 0, rule, track: speaker.track.clone().into() }))
    }

    fn end_track(&mut self, id: u32) {
        if let Some(mut track) = self.tracks.remove(&id) {
            self.past.spoken_ms += millis(track.played());
            self.keep(track.take_played());
        }
    }

    fn end_heard(&mut self, is_over: impl Fn(&Heard) -> bool) {
        for heard in self.heard.extract_if(.., |heard| is_over(heard)) {
            self.past.heard_ms += millis(heard.given);
            self.past.dropped_ms += millis(heard.lost);
        }
    }

    /// Keep what was played in pieces, however it was written: an expectation goes on behind the piece in which it is met.
    fn keep(&mut self, played: Vec<Played>) {
        if self.keeps {
            self.played.extend(played.into_iter().flat_map(Played::pieces));
        }
    }

    /// Have the room perform a call that is none of sound. What the agent has begun fails before it leaves; it is told the tracks that
    /// are there once it is in the room.
    pub(super) fn pass_on(&mut self, call: Call, room: &mut RecordedRoom, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let was_joined = room.is_joined();
        if call == Call::Disconnect && was_joined {
            self.fail("the agent left the room", job)?;
        }
        room.perform(call, job)?;
        if !was_joined && room.is_joined() { self.joined(room.has_others(), job) } else { Ok(()) }
    }

    /// The next step is given this event. A followed track has its id by now.
    pub(super) fn is_given(&mut self, event: &Event) {
        if let Event::AudioStarted(start) = event
            && start.rule != 0
            && let Some(heard) = self.heard.iter_mut().find(|heard| heard.id.is_none() && heard.sid == start.track.sid)
        {
            heard.id = Some(start.id);
        }
    }

    /// The next time at which something happens here.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let heard = |heard: &Heard| heard.over_since().or_else(|| heard.wake_at(speaker_of(&self.speakers, heard)?));
        // What is kept is seen piece by piece.
        let piece = |track: &Playout| track.piece_at().filter(|_| self.keeps);
        let tracks = self.tracks.values().flat_map(|track| [track.wake_at(), piece(track)]).flatten();
        self.heard.iter().filter_map(heard).chain(tracks).min()
    }

    /// Have everything happen that is due.
    pub(super) fn advance(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        for heard in &mut self.heard {
            if let Some(speaker) = speaker_of(&self.speakers, heard) {
                heard.advance(speaker, job.now);
            }
        }
        self.tracks.values_mut().for_each(|track| track.advance(job.now));
        self.deliver(job)
    }

    /// Tell what has happened.
    fn deliver(&mut self, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        let at_ms = |at: Instant, job: &JobAccess<'_>| job.moment_of(at).as_ms();
        let mut over = Vec::new();
        for heard in &mut self.heard {
            while let Some((at, mut event)) = heard.next_event() {
                let at_ms = at_ms(at, job);
                match &mut event {
                    Event::Audio(frame) => frame.at_ms = at_ms,
                    Event::AudioLevel(level) => level.at_ms = at_ms,
                    Event::VoiceStarted(voice) | Event::VoiceEnded(voice) => voice.at_ms = at_ms,
                    Event::AudioEnded(id) => over.push(*id),
                    _ => {}
                }
                match event {
                    Event::Audio(frame) if !job.control.inbox.has_room_for(&Event::Audio(frame.clone())) => {
                        heard.take_back(&frame);
                    }
                    Event::Audio(_) | Event::AudioLevel(_) => job.send(event),
                    event => job.send_sure(event)?,
                }
            }
        }
        self.end_heard(|heard| heard.id.is_some_and(|id| over.contains(&id)));
        let (mut done, mut played) = (Vec::new(), Vec::new());
        for (id, track) in &mut self.tracks {
            while let Some((at, mut event)) = track.next_event() {
                match &mut event {
                    Event::AudioPlayout(position) => position.at_ms = at_ms(at, job),
                    Event::AudioMarked(mark) => mark.at_ms = at_ms(at, job),
                    _ => {}
                }
                job.send_sure(event)?;
            }
            played.extend(track.take_played());
            if track.is_over() {
                done.push(*id);
            }
        }
        self.keep(played);
        for id in done {
            self.end_track(id);
            job.done(id)?;
        }
        // Each track has heard all that is over.
        let before = job.now.checked_sub(Duration::from_secs(2)).unwrap_or(job.now);
        self.speakers.values_mut().for_each(|speaker| speaker.forget(before));
        Ok(())
    }

    /// What was played since the last call, if that is kept.
    pub(super) fn take_played(&mut self) -> Vec<Played> {
        std::mem::take(&mut self.played)
    }

    /// The sound of the job so far.
    pub(super) fn used(&self) -> AudioUse {
        let mut used = self.past;
        used.heard_ms += self.heard.iter().map(|heard| millis(heard.given)).sum::<u64>();
        used.dropped_ms += self.heard.iter().map(|heard| millis(heard.lost)).sum::<u64>();
        used.spoken_ms += self.tracks.values().map(|track| millis(track.played())).sum::<u64>();
        used
    }

    /// Bytes of sound that wait in both directions.
    pub(super) fn bytes_waiting(&self) -> usize {
        let heard = self.heard.iter().map(Heard::bytes_waiting).sum::<usize>();
        heard + self.tracks.values().map(Playout::bytes_waiting).sum::<usize>()
    }
}

/// The person whose track is heard.
fn speaker_of<'a>(speakers: &'a BTreeMap<String, Speaker>, heard: &Heard) -> Option<&'a Speaker> {
    speakers.values().find(|speaker| heard.hears(speaker))
}
