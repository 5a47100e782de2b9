//! Recordings of jobs: everything that determined a job, so that it can be run again exactly, and what came of it.
//!
//! A recording is a file of chunks ([`mod@format`]), which hold records ([`record`], [`codec`]). A [`recorder`] observes one job and changes
//! nothing in it. Its records go to the thread of a [`writer`], or stay in a [`ring`] in memory until the job ends.
//!
//! Secrets of the host never reach a guest, so they are in no recording.
//!
//! Bounds: `record-limit` bytes for one file; [`writer::PENDING_MAX`] bytes that wait for the disk; [`ring::RING_BYTES_MAX`] bytes
//! of a job in memory; [`format::RECORD_BYTES_MAX`] bytes of one record, for writers and for readers.

pub(crate) mod format;
pub mod record;
pub(crate) mod codec;
pub(crate) mod writer;
pub(crate) mod ring;
pub(crate) mod recorder;
pub mod reader;
pub mod view;

/// The extension of a recording's file.
pub const EXTENSION: &str = "recording";
