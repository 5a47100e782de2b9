//! Logs each event as one line, and does what texts on the topic `order` ask for. tests/all/rooms_events.rs compares the lines.
//!
//! A line has the event, its subject, the sid of the subject, and the facts. Left out is what no agent can rely on:
//! - the number of participants, the quality of connections and the stage of a stay: a LiveKit server tells them by clocks of its own;
//! - the type of a track's content: rooms of our own have no redundancy of sound;
//! - the playout of a track, which the worker alone decides.

use std::cell::Cell;
use std::f64::consts::TAU;
use std::rc::Rc;
use std::time::Duration;

use log::info;
use wasm_worker_sdk::audio::{Publication, Rule, Subscription};
use wasm_worker_sdk::types::{Participant, ParticipantChange, ParticipantChanges, Permissions, SendOptions, Track};
use wasm_worker_sdk::{Agent, Event, JobContext, Operation, Result, contract, spawn, time::sleep};

const RATE: u32 = 24_000;
const TONE_HZ: f64 = 660.0;
/// Samples that are quieter are silence.
const LOUD: u16 = 1_000;
const CALL_WITHIN: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Witness {
    voice: Option<u32>,
    room_metadata: String,
    /// The number of times that a track was unmuted, after each of which the first sound is told.
    unmuted: Rc<Cell<u32>>,
}

impl Agent for Witness {
    async fn entrypoint(&mut self, ctx: &JobContext) -> Result {
        let options = Subscription { rate: RATE, ..Subscription::default() };
        ctx.connect().await?;
        spawn("follow", follow(contract::audio::follow(&Rule::people(), options), self.unmuted.clone()));
        let mut ends = 0;
        // The room is over and the job is to end, in any order.
        while ends < 2 {
            let event = ctx.next_event().await;
            self.tell(&event);
            match event {
                Event::Text(message) if message.info.topic == "order" => self.obey(ctx, &message.text),
                Event::RpcRequest(request) => ctx.answer(request.id, Ok(format!("{} too", request.payload))),
                Event::TrackChanged(track) if !track.muted => self.unmuted.set(self.unmuted.get() + 1),
                Event::Disconnected(_) | Event::ShutdownRequested(_) => ends += 1,
                _ => {}
            }
        }
        Ok(())
    }
}

impl Witness {
    fn tell(&mut self, event: &Event) {
        let name = event.name();
        match event {
            Event::Connected(joined) => {
                info!("{name} {} metadata={} {}", joined.room.name, joined.room.metadata, participant(&joined.local));
            }
            Event::Disconnected(reason) => info!("{name} {reason}"),
            Event::ParticipantJoined(who) => info!("{name} {}", participant(who)),
            Event::ParticipantLeft(left) => info!("{name} {} {}", named(&left.participant), left.reason),
            Event::ParticipantChanged(change) if change.changes == ParticipantChanges::STATE => {}
            Event::ParticipantChanged(change) => info!("{name} {}", changes(change)),
            Event::RoomChanged(room) if room.metadata == self.room_metadata => {}
            Event::RoomChanged(room) => {
                info!("{name} {} metadata={}", room.name, room.metadata);
                self.room_metadata.clone_from(&room.metadata);
            }
            Event::SpeakersChanged(speakers) => {
                let mut who: Vec<_> = speakers.iter().map(|speaker| speaker.identity.as_str()).collect();
                who.sort_unstable();
                info!("speakers {}", who.join(" "));
            }
            Event::Text(message) => {
                info!("{name} {} {} {}", sender(&message.info.sender), message.info.topic, message.text);
            }
            Event::Data(data) => {
                let payload = String::from_utf8_lossy(&data.payload);
                info!("{name} {} {} {payload} reliable={}", sender(&data.sender), data.topic, data.reliable);
            }
            Event::RpcRequest(request) => {
                info!("{name} {} {} {}", sender(&request.caller), request.method, request.payload);
            }
            Event::TrackPublished(of) | Event::TrackUnpublished(of) | Event::TrackChanged(of) => {
                info!("{name} {}", track(of));
            }
            Event::ShutdownRequested(_) => info!("{name}"),
            Event::QualityChanged(_) => {}
            _ => info!("{name}"),
        }
    }

    fn obey(&mut self, ctx: &JobContext, order: &str) {
        let (verb, value) = order.split_once(' ').unwrap_or((order, ""));
        let done = |what, id| drop(spawn(what, ends(what, Operation::new(id, what))));
        match (verb, self.voice) {
            ("say", _) => done("said", contract::room::send_text("lk.chat", value, &SendOptions::default())),
            ("send", _) => done("sent", contract::room::send_data("facts", value.as_bytes(), &[], true)),
            ("name", _) => done("named", contract::room::set_name(value)),
            ("metadata", _) => done("described", contract::room::set_metadata(value)),
            ("attribute", _) => done("changed", contract::room::set_attributes(&[("mood".into(), value.into())])),
            ("call", _) => drop(spawn("call", call(ctx.clone(), value.to_owned()))),
            ("publish", None) => {
                let voice = Publication { name: "speech".into(), rate: RATE, ..Publication::default() };
                let id = contract::audio::publish(&voice);
                self.voice = Some(id);
                drop(spawn("voice", voice_ends(Operation::new(id, "voice"))));
            }
            ("speak", Some(voice)) => drop(spawn("speak", speak(voice))),
            ("mute", Some(voice)) => contract::audio::mute(voice, true),
            ("unmute", Some(voice)) => contract::audio::mute(voice, false),
            ("unpublish", Some(voice)) => {
                contract::audio::close(voice);
                self.voice = None;
            }
            _ => info!("no such order: {order}"),
        }
    }
}

fn named(who: &Participant) -> String {
    format!("{} {}", who.identity, who.sid)
}

fn participant(who: &Participant) -> String {
    let Participant { name, metadata, kind, .. } = who;
    format!("{} {kind:?} name={name} metadata={metadata} {} {}", named(who), attributes(who), allowed(who.permissions))
}

fn attributes(who: &Participant) -> String {
    // What a worker adds to its agents is of no interest.
    let mut all: Vec<_> = who.attributes.iter().filter(|(key, _)| key == "mood").collect();
    all.sort_unstable();
    format!("attributes={all:?}").replace(' ', "")
}

fn allowed(may: Permissions) -> String {
    format!("{may:?}").to_lowercase().replace(' ', "")
}

fn changes(change: &ParticipantChange) -> String {
    let (who, is) = (&change.participant, change.changes);
    let facts = [
        (ParticipantChanges::NAME, format!("name={}", who.name)),
        (ParticipantChanges::METADATA, format!("metadata={}", who.metadata)),
        (ParticipantChanges::ATTRIBUTES, format!("changed={:?}", change.attributes).replace(' ', "")),
        (ParticipantChanges::PERMISSIONS, allowed(who.permissions)),
    ];
    let facts = facts.into_iter().filter(|(flag, _)| is.contains(*flag)).map(|(_, fact)| fact);
    [named(who)].into_iter().chain(facts).collect::<Vec<_>>().join(" ")
}

fn track(of: &Track) -> String {
    format!("{}/{} {} {} muted={}", of.participant, of.name, of.sid, of.source, of.muted)
}

fn sender(who: &Option<String>) -> &str {
    who.as_deref().unwrap_or("server")
}

async fn ends(what: &str, mut operation: Operation) {
    while let Some(event) = operation.next().await {
        match event {
            Event::Failed(failure) => info!("{what} fails {} {}", failure.code, failure.message),
            Event::Done(_) => info!("{what}"),
            _ => {}
        }
    }
}

async fn call(ctx: JobContext, whom: String) {
    match ctx.perform_rpc(&whom, "greet", "hello", CALL_WITHIN).await {
        Ok(answer) => info!("answer {answer}"),
        Err(error) => info!("refusal {} {}", error.code, error.message),
    }
}

/// Hears people.
async fn follow(rule: u32, unmuted: Rc<Cell<u32>>) {
    let mut rule = Operation::new(rule, "follow");
    while let Some(event) = rule.next().await {
        if let Event::AudioStarted(start) = event {
            let name = format!("{}/{} {}", start.track.participant, start.track.name, start.track.sid);
            info!("audio-started {name}");
            drop(spawn("hear", hear(name, Operation::new(start.id, "hear"), unmuted.clone())));
        }
    }
}

async fn hear(name: String, mut track: Operation, unmuted: Rc<Cell<u32>>) {
    let mut heard_at = None;
    while let Some(event) = track.next().await {
        match event {
            Event::Audio(frame) => {
                let is_loud = frame.samples().into_iter().any(|sample| sample.unsigned_abs() > LOUD);
                if is_loud && heard_at.replace(unmuted.get()) != Some(unmuted.get()) {
                    info!("heard {name}");
                }
            }
            event => info!("{} {name}", event.name()),
        }
    }
}

async fn voice_ends(mut voice: Operation) {
    while let Some(event) = voice.next().await {
        match event {
            Event::AudioPublished(publication) => info!("audio-published own/speech {}", publication.track_sid),
            Event::AudioPlayout(_) | Event::Writable(_) => {}
            event => info!("{} own/speech", event.name()),
        }
    }
}

/// Says a tone for ever. After the end of the track nothing takes it.
async fn speak(voice: u32) {
    loop {
        let pcm = (0..RATE / 10).flat_map(|at| {
            let angle = TAU * TONE_HZ * f64::from(at) / f64::from(RATE);
            #[allow(clippy::cast_possible_truncation, reason = "a quarter of the range")]
            let sample = (angle.sin() * 8_192.0) as i16;
            sample.to_le_bytes()
        });
        contract::audio::write(voice, &pcm.collect::<Vec<_>>());
        sleep(Duration::from_millis(100)).await;
    }
}

wasm_worker_sdk::agent!(Witness);
