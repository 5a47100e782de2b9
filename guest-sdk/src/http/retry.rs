//! Whether and when a request is sent again.

use std::time::{Duration, UNIX_EPOCH};

use crate::time;

const BACKOFF_MIN_MS: u64 = 500;
const BACKOFF_MAX_MS: u64 = 8_000;
/// A server that asks for a longer pause is not asked again.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Answers that may be others the next time.
const STATUSES: [u16; 7] = [408, 425, 429, 500, 502, 503, 504];

/// Whether a request is sent again after an answer, and the pause that the server asks for.
pub(super) fn after_answer(status: u16, asked: Option<Duration>) -> Option<Option<Duration>> {
    let again = STATUSES.contains(&status) && asked.is_none_or(|pause| pause <= RETRY_AFTER_MAX);
    again.then_some(asked)
}

/// The pause of `http::backoff`, for this random number.
pub(super) fn backoff(retry: u32, random: u64) -> Duration {
    let whole = BACKOFF_MIN_MS.saturating_mul(1 << retry.min(16)).min(BACKOFF_MAX_MS);
    Duration::from_millis(whole - random % (whole / 2 + 1))
}

/// The pause that a server asks for: by `retry-after-ms`, as OpenAI's servers do, or by `retry-after` in seconds or as a
/// date.
pub(super) fn asked(milliseconds: Option<&str>, retry_after: Option<&str>) -> Option<Duration> {
    if let Some(wait) = milliseconds.and_then(|text| number(text, 1000.0)) {
        return Some(wait);
    }
    let text = retry_after?.trim();
    number(text, 1.0).or_else(|| {
        let now = time::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(date(text)?.saturating_sub(now))
    })
}

/// A number that is not negative, in parts of a second.
fn number(text: &str, parts: f64) -> Option<Duration> {
    let number: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(number / parts).ok()
}

/// The time since 1970 of a date in one of the three forms of RFC 9110, section 5.6.7.
fn date(text: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (mut day, mut month, mut year, mut time) = (None, None, None, None);
    for word in text.split([' ', ',', '-']).filter(|word| !word.is_empty()) {
        if let Some(at) = MONTHS.iter().position(|name| *name == word) {
            month = u64::try_from(at).ok();
        } else if word.contains(':') {
            time = clock(word);
        } else if let Ok(number) = word.parse::<u64>() {
            // In each form the day comes before the year.
            if day.is_none() { day = Some(number) } else { year = Some(number) }
        }
    }
    let year = match year? {
        short @ 0..70 => 2000 + short,
        short @ 70..100 => 1900 + short,
        year @ 1970..10_000 => year,
        _ => return None,
    };
    let days = days_since_1970(year, month?, day.filter(|day| (1..=31).contains(day))?);
    Some(Duration::from_secs(days * 86_400 + time?))
}

/// Seconds of the day.
fn clock(text: &str) -> Option<u64> {
    let mut parts = text.split(':').map(|part| part.parse::<u64>().ok().filter(|part| *part <= 60));
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    (hours < 24 && parts.next().is_none()).then_some(hours * 3600 + minutes * 60 + seconds)
}

/// `month` counts from 0, `day` from 1.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let leap_days = |years: u64| years / 4 - years / 100 + years / 400;
    let before = usize::try_from(month).ok().and_then(|month| BEFORE.get(month)).copied().unwrap_or_default();
    let whole_years = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969);
    whole_years + before + u64::from(is_leap && month > 1) + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn date_has_three_forms() {
        let wanted = Some(Duration::from_secs(784_111_777));
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(date(text), wanted, "{text}");
        }
        assert_eq!(date("Tue, 29 Feb 2028 00:00:00 GMT"), Some(Duration::from_secs(1_835_395_200)));
        for text in ["", "soon", "Sun, 06 Nov 1994", "Sun, 06 Nov 99999999999 08:49:37", "06 Nov 1994 08:49", "1:2:3"] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn pause_doubles_up_to_its_bound() {
        let most = |retry| backoff(retry, 0).as_millis();
        assert_eq!([most(0), most(1), most(2), most(9), most(u32::MAX)], [500, 1000, 2000, 8000, 8000]);
        for random in [1, 77, u64::MAX] {
            assert!((250..=500).contains(&backoff(0, random).as_millis()));
        }
    }

    #[test]
    fn seconds_that_are_none_ask_for_nothing() {
        assert_eq!(asked(None, Some(" 2 ")), Some(Duration::from_secs(2)));
        assert_eq!(asked(Some("250"), Some("2")), Some(Duration::from_millis(250)));
        for text in ["-1", "NaN", "inf", "1e300", "later"] {
            assert_eq!(asked(None, Some(text)), None, "{text}");
        }
    }
}
