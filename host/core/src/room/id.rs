//! The numbers by which an agent and a room name what lasts.

/// What the caller began. The caller gives the number; the room takes it as it is.
pub type OperationId = u32;

/// What began outside. The room counts them from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IncomingId(pub u32);
