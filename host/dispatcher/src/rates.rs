//! The rate limit of each API key (`dispatch-rate`).

use std::collections::HashMap;
use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::keys::Keys;

/// The rate limits by API key; none without a limit.
pub(crate) struct Rates(HashMap<String, DefaultDirectRateLimiter>);

impl Rates {
    pub(crate) fn new(keys: &Keys, rate: Option<NonZeroU32>) -> Self {
        let limiter = |rate| RateLimiter::direct(Quota::per_second(rate));
        Self(rate.into_iter().flat_map(|rate| keys.names().map(move |key| (key.clone(), limiter(rate)))).collect())
    }

    /// Count a new dispatch. Returns whether it is within the rate.
    pub(crate) fn allows(&self, api_key: &str) -> bool {
        self.0.get(api_key).is_none_or(|limiter| limiter.check().is_ok())
    }
}
