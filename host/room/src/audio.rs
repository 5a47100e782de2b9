//! Sound: one track that the agent hears (`heard`), one that it publishes (`playout`). Pure: `now` is an argument.
//!
//! Not here: RTP, reordering and the connection (`peer`), tracks that come and go (`session`). Sound is mono, 16 bits a sample. The
//! codec works at the rate of the agent, so that only the detector of voice needs another rate.
//!
//! Bounds: a heard track keeps [`heard::PENDING_BYTES_MAX`] of events that are not taken, and the sound before voice that its options
//! ask for; a published track takes no more once [`playout::WAITING_MAX`] of sound waits.

pub(crate) mod counts;

pub(crate) mod heard;

pub(crate) mod playout;
