//! Durations as people write them.

use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};

/// Longest time that is accepted anywhere: ten years. A clock can add it to any moment.
pub const LONGEST: Duration = Duration::from_secs(3_650 * 24 * 60 * 60);

/// Parse a duration with its unit, such as `500ms`, `10s`, `2m` or `1d`. A day has 24 hours.
///
/// # Errors
/// When the text is no duration, zero, or longer than [`LONGEST`]. The text says what is wanted.
pub fn parse(text: &str) -> Result<Duration, String> {
    let duration = parse_any_length(text)?;
    if duration > LONGEST { Err("want at most 3650d".into()) } else { Ok(duration) }
}

/// The same without a bound, to be compared with one.
///
/// # Errors
/// When the text is no duration, or zero. The text says what is wanted.
pub fn parse_any_length(text: &str) -> Result<Duration, String> {
    let wanted = || "want a time above zero with its unit, such as 500ms, 10s, 2m or 1d".to_owned();
    let signed = text.parse::<SignedDuration>().or_else(|_| {
        // Only a span knows days and weeks.
        text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
    });
    let signed = signed.map_err(|_| wanted())?;
    Duration::try_from(signed).ok().filter(|duration| !duration.is_zero()).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_is_above_zero() {
        assert!(parse("0s").is_err() && parse("-1s").is_err() && parse("fast").is_err() && parse("10").is_err());
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse("1d"), Ok(Duration::from_secs(24 * 60 * 60)));
        assert_eq!(parse("1d12h"), Ok(Duration::from_secs(36 * 60 * 60)));
        assert_eq!(parse("2 weeks"), Ok(Duration::from_secs(14 * 24 * 60 * 60)));
        assert!(parse("1 month").is_err() && parse("-1d").is_err());
    }

    #[test]
    fn a_duration_that_no_clock_can_add_is_refused() {
        assert_eq!(parse("3650d"), Ok(LONGEST));
        for long in ["3651d", "87601h", "9223372036854775807s", "5000000000000h", "99999999999999999999s"] {
            assert!(parse(long).is_err(), "{long}");
        }
    }
}
