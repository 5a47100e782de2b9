//! Sound: one track that the agent hears (`heard`), one that it publishes (`playout`). Pure: `now` is an argument.
//!
//! ```text
//! counts      numbers of single tracks, which the room adds up
//! toc         the length of an Opus packet
//! codec       Opus
//! resample    change of the rate, for the detector of voice
//! voice       where somebody speaks
//! level       the level of a sound
//! block       a piece of a heard track
//! clock       when sound was heard
//! arrival     loss, gap or silence before a packet
//! gate        what is delivered where only voice is wanted
//! frames      pieces made into frames
//! pending     events that wait for the agent
//! heard       one heard track: all of these in turn
//! pacer       the clock of a published track
//! sender      packets while there is sound
//! waiting     sound that waits to be played, and marks
//! playout     one published track: these three
//! ```
//!
//! Not here: RTP, reordering and the connection (`peer`), tracks that come and go (`session`). Sound is mono, 16 bits a sample. The
//! codec works at the rate of the agent: Opus has all of these rates itself, and takes less time at the lower ones.
//!
//! Options and bounds are those of [`options`](wasm_worker_core::room::audio::options): a heard track keeps `PENDING_BYTES_MAX` of events
//! that are not taken, and the sound before voice that its options ask for; a published track takes no more once `WAITING_MAX` of sound
//! waits.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "sound in tests is short"
    )
)]

#[cfg(test)]
mod signals;

pub(crate) mod counts;

mod toc;

pub(crate) mod codec;

mod resample;

mod voice;

mod level;

mod block;

mod clock;

mod arrival;

mod gate;

mod frames;

mod pending;

pub(crate) mod heard;

mod pacer;

mod sender;

pub(crate) mod waiting;

pub(crate) mod playout;
