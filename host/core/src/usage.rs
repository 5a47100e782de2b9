//! The use of one job: time, fuel, memory, host calls, log lines and models.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::network::traffic::NetworkUse;
use crate::room::audio::{AudioStatistics, LATENESS};

/// The cost of a run of `prewarm`, for a job whose instance ran it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct PrewarmCost {
    /// Fuel units.
    pub fuel: u64,
    /// CPU time of the thread, in microseconds.
    pub cpu_us: u64,
}

/// Calls of one interface, and the bytes that they carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Calls {
    /// Calls from the guest.
    pub calls: u64,
    /// Bytes that the calls carried, in both directions.
    pub bytes: u64,
}

impl Calls {
    /// Count one call.
    pub fn add(&mut self, bytes: usize) {
        self.calls += 1;
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

/// Calls from a guest to its host, by interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct HostCalls {
    /// `wasm-worker:agent/job`, `flow` and `trace`
    pub job: Calls,
    /// `wasm-worker:agent/log`
    pub log: Calls,
    /// Steps, and the bytes of the events that they were given
    pub inbox: Calls,
    /// `wasm-worker:agent/room`, `audio`, `http` and `socket`
    pub room: Calls,
    /// `wasm-worker:agent/usage`
    pub usage: Calls,
    /// `wasi:clocks`
    pub clock: Calls,
    /// `wasi:random`
    pub random: Calls,
    /// `wasi:cli`, and the output on its streams
    pub stdio: Calls,
    /// `wasi:io/poll`
    pub poll: Calls,
}

/// The use of one model, as the agent reported it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ModelSums {
    /// `llm`, `stt`, `tts`, or another kind that the agent names.
    pub kind: String,
    /// The provider of the model.
    pub provider: String,
    /// The name of the model.
    pub model: String,
    /// The sums, by the names that the agent gave them.
    pub counters: BTreeMap<String, f64>,
}

impl ModelSums {
    /// Tokens that went in and came out, by the usual names of the counters: `input_tokens` and `output_tokens`.
    pub fn tokens(&self) -> u64 {
        let counter = |name: &str| self.counters.get(name).copied().unwrap_or(0.0).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast saturates")]
        let tokens = (counter("input_tokens") + counter("output_tokens")) as u64;
        tokens
    }
}

/// The use of one job. Times are in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct UsageRecord {
    /// The cost of `prewarm` in this job's own instance; zero for a job from a snapshot.
    pub prewarm: PrewarmCost,
    /// Fuel, about one unit for each WebAssembly instruction. The same work takes the same fuel.
    pub fuel: u64,
    /// The time from the admission to the first step; absent where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_us: Option<u64>,
    /// The time from the admission to the end.
    pub wall_us: u64,
    /// CPU time of the job, by the thread's clock.
    pub cpu_us: u64,
    /// Wall time that the job spent on a thread. During the rest of `wall_us` the job waited or was queued.
    pub run_us: u64,
    /// Time that the job waited between steps.
    pub wait_us: u64,
    /// Peak of memories, tables and host-side buffers together, in bytes.
    pub memory_peak_bytes: usize,
    /// Calls to the host and their bytes, by interface.
    pub hostcalls: HostCalls,
    /// Log lines written.
    pub log_lines: u64,
    /// Log lines dropped because they exceeded the rate limit.
    pub log_dropped: u64,
    /// Events dropped because the inbox was full.
    pub inbox_dropped: u64,
    /// Use of the network.
    #[serde(skip_serializing_if = "NetworkUse::is_empty")]
    pub network: NetworkUse,
    /// Sound that the agent heard and spoke.
    #[serde(skip_serializing_if = "AudioUse::is_empty")]
    pub audio: AudioUse,
    /// Use of models, as the agent reported it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelSums>,
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A duration in whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What the connection to a room was used for, from its opening on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct RoomUse {
    /// The time in the room, in milliseconds.
    pub stayed_ms: u64,
    /// Losses after which the agent kept its place.
    pub resumes: u32,
    /// Losses after which the agent got a new place.
    pub rejoins: u32,
    /// Packets of the data channels.
    pub packets_received: u64,
    /// Packets of the data channels.
    pub packets_sent: u64,
    /// Bytes of all sockets.
    pub bytes_received: u64,
    /// Bytes of all sockets.
    pub bytes_sent: u64,
    /// The sound.
    #[serde(default, skip_serializing_if = "AudioUse::is_empty")]
    pub audio: AudioUse,
}

/// The sound of a job, or of one connection to a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct AudioUse {
    /// Sound that was delivered to the agent, in milliseconds.
    pub heard_ms: u64,
    /// Sound of the agent that was played, in milliseconds.
    pub spoken_ms: u64,
    /// Sound that was made up for packets that did not arrive, in milliseconds.
    pub concealed_ms: u64,
    /// Sound that the agent did not get, in milliseconds: the agent was late or held the track, or the sound came after the host had
    /// delivered silence in its place.
    pub dropped_ms: u64,
    /// Packets of heard tracks.
    pub packets_received: u64,
    /// Packets of heard tracks that did not arrive, or arrived too late to be heard.
    pub packets_lost: u64,
    /// Packets of the agent's tracks.
    pub packets_sent: u64,
    /// Frames of the agent's tracks that went out late, or not at all, because the host was late.
    pub frames_late: u64,
    /// Packets of the agent's tracks, by how late they went out: by at most 1, 2, 5, 10, 20, 50 and 100 ms, and by more.
    pub lateness: [u64; LATENESS.len() + 1],
    /// The times by which those packets were late, added up, in microseconds.
    pub late_us: u64,
    /// The last variation of the times between packets of heard tracks, in microseconds: the highest of all tracks.
    pub jitter_us: u64,
    /// Time that the host took to decode, examine and encode, in microseconds.
    pub cpu_us: u64,
}

impl AudioUse {
    /// Whether there was no sound.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The use between two readings of a connection.
    pub fn between(before: &AudioStatistics, now: &AudioStatistics) -> Self {
        let time = |of: fn(&AudioStatistics) -> Duration| of(now).saturating_sub(of(before));
        let count = |of: fn(&AudioStatistics) -> u64| of(now).saturating_sub(of(before));
        Self {
            heard_ms: millis(time(|of| of.heard)),
            spoken_ms: millis(time(|of| of.spoken)),
            concealed_ms: millis(time(|of| of.concealed)),
            dropped_ms: millis(time(|of| of.dropped)),
            packets_received: count(|of| of.packets_received),
            packets_lost: count(|of| of.packets_lost),
            packets_sent: count(|of| of.packets_sent),
            frames_late: count(|of| of.frames_late),
            lateness: std::array::from_fn(|at| {
                let of = |all: &AudioStatistics| all.lateness.get(at).copied().unwrap_or_default();
                of(now).saturating_sub(of(before))
            }),
            late_us: micros(time(|of| of.late_by)),
            jitter_us: micros(now.jitter),
            cpu_us: micros(time(|of| of.busy)),
        }
    }

    /// Add the use of a later connection. The variation is its own.
    pub fn add(&mut self, later: &Self) {
        self.sum(later);
        self.jitter_us = later.jitter_us;
    }

    /// Add the use of another job, as its worker reported it. The variation is the highest.
    pub fn sum(&mut self, other: &Self) {
        let Self {
            heard_ms,
            spoken_ms,
            concealed_ms,
            dropped_ms,
            packets_received,
            packets_lost,
            packets_sent,
            frames_late,
            lateness,
            late_us,
            jitter_us,
            cpu_us,
        } = self;
        for (sum, other) in [
            (heard_ms, other.heard_ms),
            (spoken_ms, other.spoken_ms),
            (concealed_ms, other.concealed_ms),
            (dropped_ms, other.dropped_ms),
            (packets_received, other.packets_received),
            (packets_lost, other.packets_lost),
            (packets_sent, other.packets_sent),
            (frames_late, other.frames_late),
            (late_us, other.late_us),
            (cpu_us, other.cpu_us),
        ]
        .into_iter()
        .chain(lateness.iter_mut().zip(other.lateness))
        {
            *sum = sum.saturating_add(other);
        }
        *jitter_us = (*jitter_us).max(other.jitter_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_of_sound_is_what_came_between_two_readings() {
        let reading = |seconds: u64, packets_lost| AudioStatistics {
            heard: Duration::from_secs(seconds),
            spoken: Duration::from_millis(1_500),
            jitter: Duration::from_micros(seconds),
            packets_lost,
            ..AudioStatistics::default()
        };
        let mut used = AudioUse::between(&reading(1, 5), &reading(4, 7));
        assert_eq!((used.heard_ms, used.spoken_ms, used.packets_lost, used.jitter_us), (3_000, 0, 2, 4));
        assert!(!used.is_empty() && AudioUse::between(&reading(9, 9), &reading(0, 0)).is_empty());
        let late = |packets, millis| AudioStatistics {
            lateness: [packets, 0, 0, 0, 0, 0, 0, packets + 1],
            late_by: Duration::from_millis(millis),
            ..AudioStatistics::default()
        };
        let lateness = AudioUse::between(&late(1, 3), &late(5, 9));
        assert_eq!((lateness.lateness, lateness.late_us), ([4, 0, 0, 0, 0, 0, 0, 4], 6_000));
        used.add(&lateness);
        used.add(&lateness);
        assert_eq!((used.lateness, used.late_us), ([8, 0, 0, 0, 0, 0, 0, 8], 12_000));
        used.add(&AudioUse { heard_ms: 5, jitter_us: 1, ..AudioUse::default() });
        assert_eq!((used.heard_ms, used.packets_lost, used.jitter_us), (3_005, 2, 1));
    }

    #[test]
    fn tokens_are_those_in_and_out_whatever_an_agent_reports() {
        let tokens = |counters: &[(&str, f64)]| {
            let counters = counters.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect();
            ModelSums { kind: String::new(), provider: String::new(), model: String::new(), counters }.tokens()
        };
        assert_eq!(tokens(&[("input_tokens", 9.0), ("output_tokens", 4.5), ("input_cached_tokens", 7.0)]), 13);
        assert_eq!(tokens(&[("input_tokens", -9.0), ("output_tokens", 4.0)]), 4);
        assert_eq!((tokens(&[("input_tokens", f64::MAX)]), tokens(&[("input_tokens", f64::NAN)])), (u64::MAX, 0));
    }
}
