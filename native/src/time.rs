//! Times as nearly all events write them; `pipeline/rules/timestamp.py` reads all others.

/// `MIN_MS`, `MAX_MS` and `EARLIEST_MS` in `timestamp.py`.
pub const MIN_MS: i64 = -62_135_596_800_000;
pub const MAX_MS: i64 = 253_402_300_799_999;
pub const EARLIEST_MS: i64 = 315_532_800_000;

/// Returns the epoch milliseconds of `2024-05-01T12:00:00.123456789Z`, with three to nine
/// fractional digits; None if it is written differently, or there is no such day.
pub fn usual(text: &str) -> Option<i64> {
    let text = text.as_bytes();
    let fraction = text.get(20..)?.strip_suffix(b"Z")?;
    let is_separated = text[4] == b'-'
        && text[7] == b'-'
        && matches!(text[10], b'T' | b't' | b' ')
        && text[13] == b':'
        && text[16] == b':'
        && text[19] == b'.';
    if !is_separated || !(3..=9).contains(&fraction.len()) || !is_number(fraction) {
        return None;
    }
    let (year, month, day) = (number(&text[..4])?, number(&text[5..7])?, number(&text[8..10])?);
    let (hour, minute) = (number(&text[11..13])?, number(&text[14..16])?);
    let (second, millisecond) = (number(&text[17..19])?, number(&fraction[..3])?);
    if year == 0 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let minutes = (days(year, month, day)? * 24 + hour) * 60 + minute;
    Some((minutes * 60 + second) * 1000 + millisecond)
}

fn is_number(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit)
}

fn number(text: &[u8]) -> Option<i64> {
    is_number(text).then(|| text.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

/// Returns the days since 1970 of a day in the Gregorian calendar; None if there is no such day.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, 28 + i64::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = usize::try_from(month - 1).ok()?;
    if !(1..=*lengths.get(before)?).contains(&day) {
        return None;
    }
    let past = year - 1;
    let since_year_1 = past * 365 + past / 4 - past / 100 + past / 400;
    Some(since_year_1 + lengths[..before].iter().sum::<i64>() + day - 1 - DAYS_BEFORE_1970)
}

/// From 0001-01-01 to 1970-01-01.
const DAYS_BEFORE_1970: i64 = 719_162;

#[cfg(test)]
mod tests {
    use super::usual;

    #[test]
    fn what_is_spelled_as_usual_is_read() {
        for (text, time_ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2026-03-02T08:00:00.0009Z", 1_772_438_400_000),
            ("2024-02-29 23:59:59.999999999Z", 1_709_251_199_999),
            ("2000-03-01t00:00:00.5000Z", 951_868_800_500),
            ("0001-01-01T00:00:00.000Z", -62_135_596_800_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ] {
            assert_eq!(usual(text), Some(time_ms), "{text}");
        }
    }

    #[test]
    fn whatever_else_is_left_to_others() {
        for text in [
            "",
            "Z",
            "2026-03-02T08:00:00Z",
            "2026-03-02T08:00:00.00Z",
            "2026-03-02T08:00:00.0000000000Z",
            "2026-03-02T08:00:00.000+00:00",
            "2026-03-02T08:00:00.000z",
            "2026-03-02T08:00:60.000Z",
            "2026-03-02T08:60:00.000Z",
            "2026-03-02T24:00:00.000Z",
            "2026-02-29T08:00:00.000Z",
            "2100-02-29T08:00:00.000Z",
            "2026-00-01T08:00:00.000Z",
            "2026-13-01T08:00:00.000Z",
            "2026-01-00T08:00:00.000Z",
            "0000-01-01T08:00:00.000Z",
            "2026/03/02T08:00:00.000Z",
            "2026-03-02T08:00:0\u{661}.00Z",
            "+026-03-02T08:00:00.000Z",
        ] {
            assert_eq!(usual(text), None, "{text}");
        }
    }
}
