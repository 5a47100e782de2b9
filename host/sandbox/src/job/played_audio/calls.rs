//! What the agent asks of the sound of its room.

use wasm_worker_core::room::audio::options::{HEARD_MAX, HeardOptions, OWN_MAX, PublishedOptions, RULES_MAX};
use wasm_worker_core::room::audio::{Publication, Rule, Subscription};

use super::PlayedAudio;
use super::heard::Heard;
use super::playout::Playout;
use crate::guest::bindings::wasm_worker::agent::events::{AudioPublication, AudioStart, Event};
use crate::guest::calls::Call;
use crate::guest::kill::Kill;
use crate::job::world::JobAccess;

impl PlayedAudio {
    /// Begin a call. One that is none of sound is given back.
    pub(in crate::job) fn perform(
        &mut self,
        call: Call,
        joined: bool,
        job: &mut JobAccess<'_>,
    ) -> Result<Option<Call>, Kill> {
        let id = match &call {
            Call::SubscribeAudio { id, .. } | Call::FollowAudio { id, .. } | Call::PublishAudio { id, .. } => *id,
            _ => return self.change(call, job),
        };
        if !joined {
            return job.fail(id, "not-joined", "the agent is not in a room").map(|()| None);
        }
        match call {
            Call::SubscribeAudio { track_sid, options, .. } => self.subscribe(id, track_sid, options.into(), job)?,
            Call::FollowAudio { rule, options, .. } => self.add_rule(id, rule.into(), options.into(), job)?,
            Call::PublishAudio { options, .. } => self.publish(id, &options.into(), job)?,
            _ => {}
        }
        Ok(None)
    }

    fn subscribe(&mut self, id: u32, sid: String, asked: Subscription, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if self.heard.len() >= HEARD_MAX {
            return job.fail(id, "limit", &format!("the agent hears {HEARD_MAX} tracks, which is the most"));
        }
        let options = match HeardOptions::new(&asked) {
            Ok(options) => options,
            Err(why) => return job.fail(id, "invalid", &why),
        };
        let Some(speaker) = self.speakers.values().find(|speaker| speaker.track.sid == sid) else {
            return job.fail(id, "invalid", "the room has no such track");
        };
        job.send_sure(Event::AudioStarted(AudioStart { id, rule: 0, track: speaker.track.clone().into() }))?;
        self.heard.push(Heard::new(sid, Some(id), options, job.now));
        Ok(())
    }

    fn add_rule(&mut self, id: u32, rule: Rule, asked: Subscription, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if self.rules.len() >= RULES_MAX {
            return job.fail(id, "limit", &format!("the agent has {RULES_MAX} rules, which is the most"));
        }
        let options = match HeardOptions::new(&asked) {
            Ok(options) => options,
            Err(why) => return job.fail(id, "invalid", &why),
        };
        self.rules.insert(id, (rule, options));
        let identities: Vec<String> = self.speakers.keys().cloned().collect();
        identities.iter().try_for_each(|identity| self.follow(id, identity, job))
    }

    fn publish(&mut self, id: u32, publication: &Publication, job: &mut JobAccess<'_>) -> Result<(), Kill> {
        if self.tracks.len() >= OWN_MAX {
            return job.fail(id, "limit", &format!("the agent has {OWN_MAX} tracks, which is the most"));
        }
        match PublishedOptions::new(publication) {
            Err((code, why)) => job.fail(id, code, &why),
            Ok(options) => {
                self.tracks.insert(id, Playout::new(id, options));
                self.published += 1;
                let track_sid = format!("TR_agent-{}", self.published);
                job.send_sure(Event::AudioPublished(AudioPublication { id, track_sid }))?;
                if self.has_listener { job.send_sure(Event::AudioSubscribed(id)) } else { Ok(()) }
            }
        }
    }

    /// A call on something that the agent has begun. One on an id that is none of sound is given back.
    fn change(&mut self, call: Call, job: &mut JobAccess<'_>) -> Result<Option<Call>, Kill> {
        let now = job.now;
        let id = match &call {
            Call::Cancel { id } | Call::Hold { id, .. } if self.knows(*id) => *id,
            Call::WriteAudio { id, .. }
            | Call::MarkAudio { id, .. }
            | Call::MuteAudio { id, .. }
            | Call::ClearAudio { id }
            | Call::CloseAudio { id } => *id,
            _ => return Ok(Some(call)),
        };
        if let (Call::Hold { held, .. }, Some(heard)) =
            (&call, self.heard.iter_mut().find(|heard| heard.id == Some(id)))
        {
            heard.hold(*held);
        }
        if let Some(track) = self.tracks.get_mut(&id) {
            match call {
                Call::WriteAudio { .. } | Call::MarkAudio { .. } => {
                    let added = match call {
                        Call::WriteAudio { pcm, .. } => track.write(&pcm, now),
                        Call::MarkAudio { mark, .. } => track.mark(mark, now),
                        _ => Ok(()),
                    };
                    if let Err(refused) = added {
                        self.end_track(id);
                        return job.fail(id, refused.code(), &refused.to_string()).map(|()| None);
                    }
                }
                Call::MuteAudio { muted, .. } => track.mute(muted, now),
                Call::ClearAudio { .. } => track.clear(now),
                Call::CloseAudio { .. } => track.close(now),
                Call::Hold { held, .. } => track.hold(held, now),
                Call::Cancel { .. } => self.end_track(id),
                _ => {}
            }
        } else if let Call::Cancel { .. } = call {
            self.rules.remove(&id);
            self.end_heard(|heard| heard.id == Some(id));
        }
        self.deliver(job).map(|()| None)
    }

    fn knows(&self, id: u32) -> bool {
        self.rules.contains_key(&id)
            || self.tracks.contains_key(&id)
            || self.heard.iter().any(|heard| heard.id == Some(id))
    }
}
