//! Callers and workers that ask for more than an answer, a frame or a queue may hold.

use super::Row;

pub(crate) const ROWS: &[Row] = &[];
