//! Users of the machine who read, replace or fill the files of the program.

use super::Row;

pub(crate) const ROWS: &[Row] = &[];
