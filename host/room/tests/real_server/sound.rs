//! Sound of rooms of a real server: tones that the agent says and hears.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command as Process;
use tokio::time::{Instant, timeout_at};
use wasm_worker_core::room::audio::{
    AudioCommand, AudioEvent, AudioStatistics, LATENESS, Publication, Rule, Subscription,
};
use wasm_worker_core::room::command::Command;
use wasm_worker_core::room::event::RoomEvent;
use wasm_worker_core::room::moderation::Moderation;

use super::python;
use super::support::{RealServer, Seen, run, token};

const RATE: u32 = 16_000;
/// Sound that is judged.
const JUDGED: Duration = Duration::from_secs(2);
/// Time until it is right: a track begins with a ramp, a client of libwebrtc fills its buffer, and the machine is busy.
const HEARD_WITHIN: Duration = Duration::from_secs(15);
/// The same for LiveKit's client, in seconds.
const CLIENT_TRIES: usize = 10;
/// The part of the power that is where it belongs.
const SHARE: f64 = 0.95;
/// The same over a path that loses packets: a frame that is made up, and the two after it, have less than their power.
const SHARE_WITH_LOSS: f64 = 0.6;

/// Samples of a tone at half of full scale.
fn sine(hz: f64, seconds: u32) -> Vec<u8> {
    let sample = |at: u32| (std::f64::consts::TAU * hz * f64::from(at) / f64::from(RATE)).sin() * 16_000.0;
    #[expect(clippy::cast_possible_truncation, reason = "half of full scale")]
    let bytes = (0..seconds * RATE).flat_map(|at| (sample(at) as i16).to_le_bytes());
    bytes.collect()
}

/// The part of the power that is at one frequency, by windows of 200 ms, so that a gap costs no more than its window.
fn share_at(hz: f64, samples: &[i16]) -> f64 {
    let (mut at_hz, mut all) = (0.0, 0.0);
    for window in samples.chunks_exact((RATE / 5) as usize) {
        let (mut sin, mut cos) = (0.0, 0.0);
        for (at, sample) in (0_u32..).zip(window) {
            let (phase, sample) = (std::f64::consts::TAU * hz * f64::from(at) / f64::from(RATE), f64::from(*sample));
            sin += sample * phase.sin();
            cos += sample * phase.cos();
            all += sample * sample;
        }
        at_hz += (sin * sin + cos * cos) * 2.0 / f64::from(RATE / 5);
    }
    if all > 0.0 { at_hz / all } else { 0.0 }
}

impl Seen {
    fn audio(&self, command: AudioCommand) {
        self.perform(Command::Audio(command));
    }

    /// Say a tone on a new track.
    fn say(&mut self, hz: f64, seconds: u32) -> u32 {
        let id = self.new_id();
        let publication = Publication { name: "voice".into(), rate: RATE, ..Publication::default() };
        self.audio(AudioCommand::Publish { id, publication });
        self.audio(AudioCommand::Write { id, pcm: sine(hz, seconds) });
        id
    }

    /// Hear everybody.
    fn listen(&mut self) -> u32 {
        let id = self.new_id();
        let options = Subscription { rate: RATE, frame: Duration::from_millis(20), ..Subscription::default() };
        self.audio(AudioCommand::Follow { id, rule: Rule::default(), options });
        id
    }

    /// The next sound that was heard after this time.
    async fn hear(&mut self, length: Duration, since: Instant) -> Vec<i16> {
        let mut samples = Vec::new();
        let count = usize::try_from(length.as_millis()).unwrap() * (RATE as usize) / 1_000;
        while samples.len() < count {
            if let RoomEvent::Audio(AudioEvent::Frame(frame)) = self.room.next().await.expect("the room goes on")
                && Instant::from_std(frame.at) >= since
            {
                samples.extend(frame.pcm.chunks_exact(2).map(|bytes| i16::from_le_bytes([bytes[0], bytes[1]])));
            }
        }
        samples
    }

    /// The part of the power that is at one frequency, of what is heard from now on: as soon as it is more than this, or at last.
    async fn share_at(&mut self, hz: f64, least: f64) -> f64 {
        let (since, mut share) = (Instant::now(), 0.0);
        while share <= least
            && let Ok(samples) = timeout_at(since + HEARD_WITHIN, self.hear(JUDGED, since)).await
        {
            share = share_at(hz, &samples);
        }
        share
    }

    fn numbers(&self) -> AudioStatistics {
        self.room.statistics().audio
    }
}

/// What both say and hear is where it belongs.
async fn both_are_heard(agent: &mut Seen, ann: &mut Seen, when: &str) {
    let (at_ann, at_agent) = tokio::join!(ann.share_at(660.0, SHARE), agent.share_at(440.0, SHARE));
    say(&format!("{when}: {at_ann:.4} of the power at 660 Hz, {at_agent:.4} at 440 Hz"));
    assert!(at_ann > SHARE && at_agent > SHARE, "{when}: {at_ann} and {at_agent} of the power");
}

#[expect(clippy::print_stdout, reason = "figures for who runs the test")]
fn say(figures: &str) {
    println!("{figures}");
}

fn is_published(event: &RoomEvent) -> bool {
    matches!(event, RoomEvent::Audio(AudioEvent::Published { .. }))
}

#[test]
fn tones_go_both_ways_and_go_on_after_a_resumption_and_a_new_join() {
    run(async |mut server: RealServer| {
        let (mut agent, _) = server.joined("agent").await;
        let (mut ann, _) = server.joined("ann").await;
        agent.listen();
        ann.listen();
        agent.say(660.0, 55);
        ann.say(440.0, 55);
        agent.until(is_published).await;
        ann.until(is_published).await;
        let (began, began_at) = (cpu(), Instant::now());
        both_are_heard(&mut agent, &mut ann, "at first").await;
        let (busy, took) = (cpu() - began, began_at.elapsed().as_secs_f64());
        say(&format!(
            "two rooms, each with sound both ways, take {:.1} % of a core",
            busy.as_secs_f64() / took * 100.0
        ));
        server.network.cut();
        agent.until(|event| matches!(event, RoomEvent::Connected { .. })).await;
        ann.until(|event| matches!(event, RoomEvent::Connected { .. })).await;
        both_are_heard(&mut agent, &mut ann, "after a resumption").await;
        for room in [&agent, &ann] {
            let statistics = room.room.statistics();
            assert_eq!((statistics.resumes, statistics.rejoins), (1, 0));
            say(&lateness(&statistics.audio));
        }
        server.kill().await;
        server.start_again();
        tokio::join!(agent.until(is_published), ann.until(is_published));
        both_are_heard(&mut agent, &mut ann, "after a new join").await;
        assert_eq!((agent.room.statistics().rejoins, ann.room.statistics().rejoins), (1, 1));
    });
}

#[test]
fn tones_are_heard_over_a_path_that_loses_every_tenth_packet() {
    run(async |server: RealServer| {
        server.network.lose(10).await;
        let (mut agent, _) = server.joined("agent").await;
        let (mut ann, _) = server.joined("ann").await;
        agent.listen();
        ann.listen();
        agent.say(660.0, 30);
        ann.say(440.0, 30);
        let (at_ann, at_agent) =
            tokio::join!(ann.share_at(660.0, SHARE_WITH_LOSS), agent.share_at(440.0, SHARE_WITH_LOSS));
        let numbers = agent.numbers();
        say(&format!("every tenth packet lost: {at_ann:.4} at 660 Hz, {at_agent:.4} at 440 Hz; {numbers:?}"));
        assert!(at_ann > SHARE_WITH_LOSS && at_agent > SHARE_WITH_LOSS);
        assert!(numbers.packets_lost > 0 && numbers.concealed > Duration::ZERO);
    });
}

#[test]
fn tracks_come_and_go_over_the_same_lines() {
    run(async |server: RealServer| {
        let (mut agent, _) = server.joined("agent").await;
        let (mut ann, _) = server.joined("ann").await;
        ann.listen();
        for hz in [440.0, 660.0, 880.0, 550.0] {
            let began = Instant::now();
            let id = agent.say(hz, 3);
            agent.audio(AudioCommand::Close { id });
            let share = share_at(hz, &ann.hear(JUDGED, began).await[8_000..]);
            assert!(share > SHARE, "{hz} Hz: {share}");
            ann.until(|event| matches!(event, RoomEvent::Audio(AudioEvent::Ended { .. }))).await;
            agent.until(|event| *event == RoomEvent::Done(id)).await;
        }
    });
}

#[test]
fn tracks_that_come_and_go_across_cuts_end_once_and_the_next_one_is_heard() {
    run(async |server: RealServer| {
        let (mut agent, _) = server.joined("agent").await;
        let (mut ann, _) = server.joined("ann").await;
        ann.listen();
        let mut open = BTreeSet::new();
        for round in 0..12 {
            let id = agent.say(440.0, 1);
            agent.audio(AudioCommand::Close { id });
            open.insert(id);
            if round % 2 == 0 {
                server.network.cut();
            }
            tokio::time::sleep(Duration::from_millis(37 * (round % 5))).await;
            // No more than four at once.
            while open.len() > 3 {
                agent.until(|event| ends(&mut open, event)).await;
            }
        }
        while !open.is_empty() {
            agent.until(|event| ends(&mut open, event)).await;
        }
        // What was heard until now is not judged.
        while tokio::time::timeout(Duration::from_secs(1), ann.room.next()).await.is_ok() {}
        agent.say(660.0, 30);
        let share = ann.share_at(660.0, SHARE).await;
        assert!(share > SHARE, "{share}");
        for room in [&agent, &ann] {
            let statistics = room.room.statistics();
            assert!(statistics.resumes > 0 && statistics.rejoins == 0, "{statistics:?}");
        }
    });
}

/// Whether an event is the end of an operation that is open.
fn ends(open: &mut BTreeSet<u32>, event: &RoomEvent) -> bool {
    match event {
        RoomEvent::Done(id) => assert!(open.remove(id), "{id} ends twice"),
        RoomEvent::Failed(failure) => panic!("{failure:?}"),
        _ => return false,
    }
    true
}

#[test]
fn a_moderator_mutes_the_agent_and_the_first_hearer_is_told() {
    run(async |server: RealServer| {
        let (mut agent, _) = server.joined("agent").await;
        let (mut ann, _) = server.joined("ann").await;
        let id = agent.say(440.0, 30);
        let events = agent.until(is_published).await;
        let Some(RoomEvent::Audio(AudioEvent::Published { track_sid, .. })) = events.last() else { panic!() };
        ann.listen();
        agent.until(|event| *event == RoomEvent::Audio(AudioEvent::Subscribed { id })).await;
        ann.hear(Duration::from_secs(1), Instant::now()).await;
        let mute = Moderation::MuteTrack { identity: "agent".into(), track_sid: track_sid.clone(), muted: true };
        server.moderate(&mute).await.unwrap();
        let events = agent.until(|event| matches!(event, RoomEvent::TrackChanged(track) if track.muted)).await;
        let Some(RoomEvent::TrackChanged(track)) = events.last() else { panic!() };
        assert_eq!((&track.sid, track.participant.as_str()), (track_sid, "agent"));
        ann.until(|event| matches!(event, RoomEvent::TrackChanged(track) if track.muted)).await;
        agent.audio(AudioCommand::Mute { id, muted: false });
        ann.until(|event| matches!(event, RoomEvent::TrackChanged(track) if !track.muted)).await;
        let share = ann.share_at(440.0, SHARE).await;
        assert!(share > SHARE, "{share}");
    });
}

#[test]
fn livekits_own_client_hears_the_agent_and_is_heard() {
    run(async |server: RealServer| {
        let Some(python) = python() else { return };
        let (mut agent, _) = server.joined("agent").await;
        agent.listen();
        agent.say(660.0, 55);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/interop/clients/person.py");
        let mut person = Process::new(python)
            .args([script, &server.url(), &token("ann")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut orders, lines) = (person.stdin.take().unwrap(), person.stdout.take().unwrap());
        let mut lines = BufReader::new(lines).lines();
        orders.write_all(b"{\"do\": \"speak\", \"hz\": 440, \"ms\": 600000}\n").await.unwrap();
        for cut in [false, true] {
            if cut {
                server.network.cut();
                agent.until(|event| matches!(event, RoomEvent::Connected { .. })).await;
            }
            let share = agent.share_at(440.0, SHARE).await;
            let mut heard = 0.0;
            for _ in 0..CLIENT_TRIES {
                orders.write_all(b"{\"do\": \"hear\", \"who\": \"agent\", \"hz\": 660, \"ms\": 1000}\n").await.unwrap();
                heard = loop {
                    let line = lines.next_line().await.unwrap().expect("the client goes on");
                    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                    assert_ne!(line["saw"], "failed", "{line}");
                    if line["saw"] == "sound" {
                        break line["share"].as_f64().unwrap();
                    }
                };
                if heard > SHARE {
                    break;
                }
            }
            say(&format!(
                "PyPI livekit, after a cut: {cut}: it heard {heard:.4} at 660 Hz, the agent {share:.4} at 440 Hz"
            ));
            assert!(heard > SHARE && share > SHARE, "{heard} and {share}");
        }
        assert_eq!(agent.room.statistics().resumes, 1);
        say(&lateness(&agent.numbers()));
    });
}

/// How late packets went out, in words.
fn lateness(numbers: &AudioStatistics) -> String {
    let bounds = LATENESS.iter().map(|bound| format!("<= {bound:?}")).chain(["later".into()]);
    let groups: Vec<String> = bounds.zip(numbers.lateness).map(|(bound, count)| format!("{bound}: {count}")).collect();
    format!(
        "{} packets sent, {} frames late; {}; codec busy for {:?}",
        numbers.packets_sent,
        numbers.frames_late,
        groups.join(", "),
        numbers.busy
    )
}

/// The time that this process has had of the processors.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
