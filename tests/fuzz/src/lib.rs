//! What reads bytes of others, each as a function of bytes that panics at a finding.
//!
//! `cargo test` replays `corpus/` and changed copies of it; `tests/fuzz/run TARGET SECONDS` looks for more under libFuzzer,
//! led by coverage. An input that found something belongs into `corpus/TARGET`, whatever it was.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a finding is a panic"
)]

pub mod api_requests;
pub mod artifact;
pub mod cache;
pub mod components;
pub mod config;
pub mod core_guest;
pub mod imports;
pub mod job_spec;
mod parts;
pub mod scenario;
pub mod recording;
pub mod room_answers;
mod room_story;
pub mod room_packets;
pub mod room_headers;
pub mod room_heard;
pub mod room_host;
pub mod room_playout;
pub mod room_signals;
mod served;
pub mod server_frames;
pub mod worker;
pub mod worker_frames;
pub mod worker_sockets;

/// A name, which is also that of the corpus, and what to do with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("api_requests", api_requests::run),
    ("artifact", artifact::run),
    ("cache", cache::run),
    ("components", components::run),
    ("config", config::run),
    ("imports", imports::run),
    ("job_spec", job_spec::run),
    ("recording", recording::run),
    ("room_answers", room_answers::run),
    ("room_headers", room_headers::run),
    ("room_heard", room_heard::run),
    ("room_host", room_host::run),
    ("room_packets", room_packets::run),
    ("room_playout", room_playout::run),
    ("room_signals", room_signals::run),
    ("scenario", scenario::run),
    ("server_frames", server_frames::run),
    ("worker_frames", worker_frames::run),
    ("worker_sockets", worker_sockets::run),
];
