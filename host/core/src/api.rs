//! The JSON of `/api/v1`, shared by those who answer and those who ask.
//!
//! [`dispatcher`] and [`usage`] have the types of a dispatcher's API, [`worker`] those of a worker's. Both answer an error as
//! [`Problem`]. A reader ignores fields that it does not know, so that a newer server can be asked.

pub mod dispatcher;
pub mod usage;
pub mod worker;

use serde::{Deserialize, Serialize};

/// The body of an answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Problem {
    /// What went wrong, in one line.
    pub error: String,
}
