//! Servers, proxies and receivers of webhooks that answer oddly.

use super::Row;

pub(crate) const ROWS: &[Row] = &[];
