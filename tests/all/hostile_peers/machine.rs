//! Machines that lack something: memory, addresses, descriptors, a home.

use super::Row;

pub(crate) const ROWS: &[Row] = &[];
