//! The plain data that all crates of wasm-worker share, and the small pure functions on it.
//!
//! Nothing here waits, reads a clock, opens a file or names an engine. The modules, lowest first:
//!
//! ```text
//! text      bounded one-line texts that a terminal only shows, and the memory that texts take
//! secret    texts that no output shows
//! duration  durations as people write them
//! backoff   pauses that double up to a bound
//! language  the language of an agent, by its component or its backtrace
//! room      a LiveKit room: its settings, its commands and events, and the way to it
//! network   the outgoing network of an agent: its commands and events, and the way to it
//! usage     what one job used
//! job       the facts of a job: id, room, participants, acceptance
//! manifest  what an agent asks of its operator
//! verdict   how a job ended, who is responsible, and whether a retry may help
//! refusal   why an offer did not become a job
//! load      one measurement of a worker's load
//! record    the record of a finished job
//! event     every event that is published, as one enum
//! observer  the receivers of events
//! api       the JSON of `/api/v1`
//! ```
//!
//! Invariant: imports point up this list.

pub mod duration;
pub mod secret;
pub mod text;

pub mod backoff;
pub mod language;
pub mod manifest;
pub mod room;

pub mod network;

pub mod usage;

pub mod job;
pub mod verdict;

pub mod refusal;

pub mod load;
pub mod record;

pub mod event;
pub mod observer;

pub mod api;
