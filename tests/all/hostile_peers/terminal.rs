//! Text of strangers on a terminal, and terminals and pipes that go away.

use super::Row;

pub(crate) const ROWS: &[Row] = &[];
