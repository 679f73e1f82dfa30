//! Sizes, times and numbers as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes: `100`, `16KiB`, `1MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A length of time: `500us`, `5ms`, `30s`, `4h`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Size {
    pub fn usize(self) -> usize {
        self.0 as usize
    }

    /// As Kafka's protocol counts bytes.
    pub fn i32(self) -> i32 {
        self.0.min(i32::MAX as u64) as i32
    }
}

impl Span {
    pub fn seconds(seconds: u64) -> Span {
        Span(Duration::from_secs(seconds))
    }

    pub fn nanos(self) -> u64 {
        self.0.as_nanos().min(u128::from(u64::MAX)) as u64
    }

    pub fn as_secs(self) -> f64 {
        self.0.as_secs_f64()
    }
}

/// Splits `12.5ms` into its number and its unit.
fn split(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let number: f64 = text[..at].replace('_', "").parse().map_err(|_| format!("`{text}` is not a number"))?;
    Ok((number, text[at..].trim()))
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let (number, unit) = split(text)?;
        let factor = match unit {
            "" | "B" => 1.0,
            "k" | "kB" | "KB" => 1e3,
            "M" | "MB" => 1e6,
            "G" | "GB" => 1e9,
            "KiB" => 1024.0,
            "MiB" => 1024.0 * 1024.0,
            "GiB" => 1024.0 * 1024.0 * 1024.0,
            _ => {
                return Err(format!(
                    "`{unit}` is not a unit of size; there are B, kB, KiB, MB, MiB, GB, GiB"
                ));
            }
        };
        Ok(Size((number * factor) as u64))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let (number, unit) = split(text)?;
        let seconds = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            _ => return Err(format!("`{unit}` is not a unit of time; there are us, ms, s, m, h")),
        };
        Duration::try_from_secs_f64(number * seconds).map(Span).map_err(|e| e.to_string())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0;
        match bytes {
            b if b >= 1 << 20 && b % (1 << 20) == 0 => write!(f, "{}MiB", b >> 20),
            b if b >= 1 << 10 && b % (1 << 10) == 0 => write!(f, "{}KiB", b >> 10),
            b => write!(f, "{b}"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.as_micros();
        match micros {
            m if m % 1_000_000 == 0 => write!(f, "{}s", m / 1_000_000),
            m if m % 1000 == 0 => write!(f, "{}ms", m / 1000),
            m => write!(f, "{m}us"),
        }
    }
}

/// Reads a quantity from TOML: a number or a text with a unit.
struct Quantity<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = String>> Visitor<'_> for Quantity<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a text with a unit")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Size, D::Error> {
        d.deserialize_any(Quantity(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Span, D::Error> {
        d.deserialize_any(Quantity(std::marker::PhantomData))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(self.0)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// `1.23 M`, `45.6 k`, `789`: a count at a glance.
pub fn short(number: f64) -> String {
    match number.abs() {
        n if n >= 1e9 => format!("{:.2} G", number / 1e9),
        n if n >= 1e6 => format!("{:.2} M", number / 1e6),
        n if n >= 1e4 => format!("{:.1} k", number / 1e3),
        n if n >= 100.0 || number.fract() == 0.0 => format!("{number:.0}"),
        _ => format!("{number:.2}"),
    }
}

/// Nanoseconds as `850 ns`, `12.3 µs`, `4.56 ms`, `1.20 s`.
pub fn time(nanos: f64) -> String {
    match nanos {
        n if n >= 1e9 => format!("{:.2} s", n / 1e9),
        n if n >= 1e6 => format!("{:.2} ms", n / 1e6),
        n if n >= 1e3 => format!("{:.1} µs", n / 1e3),
        n => format!("{n:.0} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written_with_units() {
        let size = |text: &str| text.parse::<Size>().map(|s| s.0);
        assert_eq!((size("16KiB"), size("1 MB"), size("1_000")), (Ok(16384), Ok(1_000_000), Ok(1000)));
        let span = |text: &str| text.parse::<Span>().map(|s| s.0.as_micros());
        assert_eq!((span("500us"), span("1.5"), span("2m")), (Ok(500), Ok(1_500_000), Ok(120_000_000)));
        assert!(size("1 furlong").is_err() && span("x").is_err() && span("-1s").is_err());
        assert_eq!((Size(16384).to_string(), Span::seconds(3).to_string()), ("16KiB".into(), "3s".into()));
    }
}
