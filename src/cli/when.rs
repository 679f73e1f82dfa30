//! Where to start consuming: `beginning`, `end`, an offset, or a time.

use std::str::FromStr;

use crate::client::OffsetAt;
use crate::config::did_you_mean;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    At(OffsetAt),
    Offset(i64),
    /// This many records before the end.
    Last(i64),
}

const ALLOWED: &str = "must be beginning, end, an offset, -N for the last N records, \
                       @MILLISECONDS since 1970, or a UTC time such as 2026-01-31T12:00:00Z";

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "beginning" | "earliest" | "start" => return Ok(Start::At(OffsetAt::Beginning)),
            "end" | "latest" => return Ok(Start::At(OffsetAt::End)),
            _ => {}
        }
        if let Ok(offset) = text.parse::<i64>() {
            return Ok(if offset < 0 { Start::Last(-offset.max(-i64::MAX)) } else { Start::Offset(offset) });
        }
        let ms = match text.strip_prefix('@') {
            Some(ms) => ms.parse().ok().filter(|ms: &i64| *ms >= 0),
            None => utc_ms(text),
        };
        match ms {
            Some(ms) => Ok(Start::At(OffsetAt::Timestamp(ms))),
            None => {
                Err(format!("{ALLOWED}{}", did_you_mean(text, ["beginning", "end", "earliest", "latest"])))
            }
        }
    }
}

/// `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM:SS[.mmm]Z` to milliseconds since 1970.
fn utc_ms(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00:00Z"));
    let number = |text: &str, digits: usize, range: std::ops::RangeInclusive<i64>| {
        let valid = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|n| valid && range.contains(n))
    };
    let mut date = date.split('-');
    let year = number(date.next()?, 4, 1970..=9999)?;
    let month = number(date.next()?, 2, 1..=12)?;
    let day = number(date.next()?, 2, 1..=days_in(year, month))?;
    let (clock, fraction) =
        time.strip_suffix('Z')?.split_once('.').unwrap_or((time.strip_suffix('Z')?, "000"));
    let mut clock = clock.split(':');
    let hour = number(clock.next()?, 2, 0..=23)?;
    let minute = number(clock.next()?, 2, 0..=59)?;
    let second = number(clock.next()?, 2, 0..=59)?;
    let ms = number(fraction, 3, 0..=999)?;
    if date.next().is_some() || clock.next().is_some() {
        return None;
    }
    let days = days_before(year) + (1..month).map(|m| days_in(year, m)).sum::<i64>() + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + ms)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to the year's first day.
fn days_before(year: i64) -> i64 {
    let leaps = |y: i64| y / 4 - y / 100 + y / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts() {
        let at = |ms| Some(Start::At(OffsetAt::Timestamp(ms)));
        for (text, expected) in [
            ("beginning", Some(Start::At(OffsetAt::Beginning))),
            ("end", Some(Start::At(OffsetAt::End))),
            ("0", Some(Start::Offset(0))),
            ("-10", Some(Start::Last(10))),
            ("@1700000000000", at(1_700_000_000_000)),
            ("1970-01-02", at(86_400_000)),
            ("2000-02-29T23:59:59.999Z", at(951_868_799_999)),
            ("2026-11-22T19:26:00Z", at(1_795_375_560_000)),
            ("2001-02-29", None),
            ("2026-11-22T19:26:00", None),
            ("2026-11-22T25:00:00Z", None),
            ("@-1", None),
            ("@", None),
            ("", None),
            ("yesterday", None),
        ] {
            assert_eq!(text.parse::<Start>().ok(), expected, "{text:?}");
        }
        assert!("begining".parse::<Start>().unwrap_err().contains("did you mean beginning"));
    }
}
