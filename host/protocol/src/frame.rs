//! The sizes of frames between a worker and its server, and of the jobs that they carry.

use wasm_worker_core::job::Acceptance;

/// Largest frame that a server reads, in bytes: the default of LiveKit's server for its workers. The dispatcher sends none that is
/// larger.
pub const FRAME_BYTES_MAX: usize = 2 << 20;
/// Largest frame that a worker reads, in bytes. LiveKit's server does not measure what it sends: with its other limits, a job and
/// its token may have a little more than two megabytes.
pub const SERVER_FRAME_BYTES_MAX: usize = 4 << 20;

/// Most bytes that a text takes in a token for each of its own: six in JSON, and then four for three in base64.
const TOKEN_GROWTH: usize = 8;
/// The bytes of a token and of a frame beside the texts that guests and callers choose.
const OVERHEAD_BYTES: usize = 16 << 10;

/// Largest job of the dispatcher, in bytes: metadata, attributes, names and room. The frame of its assignment has space for the
/// token that the longest acceptance leads to.
pub const JOB_BYTES_MAX: usize = FRAME_BYTES_MAX - Acceptance::BYTES_MAX * TOKEN_GROWTH - OVERHEAD_BYTES;
