//! Texts to values: sizes, durations, addresses. Each parser says no more than yes or no; what is allowed
//! is said once, in the table.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// A host name or address and a port, as clients are told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl HostPort {
    /// Whether it stands for every address, to which nobody can connect: also as C libraries read shorter forms.
    pub fn is_wildcard(&self) -> bool {
        let zeros = |c: char| c == '0' || c == '.';
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.to_canonical().is_unspecified(),
            Err(_) => self.host.chars().all(zeros),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            return write!(f, "[{}]:{}", self.host, self.port);
        }
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let port: u16 = port.parse().map_err(|_| ())?;
        let (bare, bracketed) = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(inner) => (inner, true),
            None => (host, false),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-' || c == '_';
        let valid = match bracketed {
            true => bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()),
            false => !bare.is_empty() && bare.len() <= 253 && bare.chars().all(is_name),
        };
        // Kafka clients cannot connect to port 0.
        if !valid || port == 0 {
            return Err(());
        }
        Ok(HostPort { host: bare.to_owned(), port })
    }
}

/// An address to bind; `localhost` stands for the loopback address.
pub fn parse_address(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        None => text.parse().ok(),
    }
}

/// Bytes from `1024`, `64KiB`, `1.5g`, `10MB` (decimal) or `25%` of `whole`.
pub fn parse_size(text: &str, whole: u64) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit = unit.trim().to_ascii_lowercase();
    if unit == "%" {
        let percent: f64 = number.parse().ok()?;
        return (0.0..=100.0).contains(&percent).then(|| (whole as f64 * percent / 100.0) as u64);
    }
    let scale: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    if let Ok(whole_number) = number.parse::<u64>() {
        return whole_number.checked_mul(scale);
    }
    let bytes = number.parse::<f64>().ok()? * scale as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// `500ms`, `30s`, `10m`, `2h`, `7d`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().ok()?;
    let ms = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(ms).filter(|ms| *ms <= i64::MAX as u64).map(Duration::from_millis)
}

pub fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("64KiB", Some(65536)),
            ("1.5g", Some(3 << 29)),
            ("10 MB", Some(10_000_000)),
            ("25%", Some(250)),
            ("100%", Some(1000)),
            ("101%", None),
            ("", None),
            ("-1", None),
            ("1e9", None),
            ("12 parsecs", None),
            ("99999999999999999999", None),
            ("18446744073709551615k", None),
        ] {
            assert_eq!(parse_size(text, 1000), expected, "{text:?}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("10m", Some(600_000)),
            ("2 h", Some(7_200_000)),
            ("30", None),
            ("s", None),
            ("1d", Some(86_400_000)),
            ("1w", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn wildcards() {
        for (host, wildcard) in [
            ("0.0.0.0", true),
            ("0", true),
            ("::", true),
            ("::ffff:0.0.0.0", true),
            ("::1", false),
            ("10.0.0.0", false),
            ("a0.example", false),
        ] {
            assert_eq!(HostPort { host: host.into(), port: 1 }.is_wildcard(), wildcard, "{host}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        for (text, printed) in [
            ("localhost:9092", Some("localhost:9092")),
            ("10.0.0.1:1", Some("10.0.0.1:1")),
            ("[::1]:9092", Some("[::1]:9092")),
            ("broker-1.example:65535", Some("broker-1.example:65535")),
            ("::1:9092", None),
            ("broker", None),
            (":9092", None),
            ("broker:0", None),
            ("broker:65536", None),
            ("two words:1", None),
        ] {
            let parsed = text.parse::<HostPort>().ok().map(|h| h.to_string());
            assert_eq!(parsed.as_deref(), printed, "{text:?}");
        }
    }
}
