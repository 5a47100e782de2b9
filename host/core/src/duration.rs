//! Durations as people write them.

use std::time::Duration;

use jiff::SignedDuration;

/// Parse a duration with its unit, such as `500ms`, `10s` or `2m`.
///
/// # Errors
/// When the text is no duration, or zero. The text says what is wanted.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wanted = || "want a time above zero with its unit, such as 500ms, 10s or 2m".to_owned();
    let parsed: SignedDuration = text.parse().map_err(|_| wanted())?;
    Duration::try_from(parsed).ok().filter(|duration| !duration.is_zero()).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_is_above_zero() {
        assert!(parse("0s").is_err() && parse("-1s").is_err() && parse("fast").is_err() && parse("10").is_err());
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
    }
}
