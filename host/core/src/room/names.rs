//! Names by which front ends find what agents say: topics of texts, and attributes.

/// The attribute of an agent's state.
pub const AGENT_STATE: &str = "lk.agent.state";
/// The topic of transcriptions.
pub const TRANSCRIPTION: &str = "lk.transcription";
/// The attribute that is the same for all texts of one segment of a transcription.
pub const SEGMENT_ID: &str = "lk.segment_id";
/// The attribute of the track that a transcription is of.
pub const TRACK_ID: &str = "lk.transcribed_track_id";
/// The attribute that tells whether the text of a segment will not change any more.
pub const IS_FINAL: &str = "lk.transcription_final";
