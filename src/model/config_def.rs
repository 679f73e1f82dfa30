//! What a named configuration value may be. Definitions are constant tables; values are strings, as on the
//! wire and in the metadata log, checked here once before they are stored.

use std::net::IpAddr;

/// The wire's type codes of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigType {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
    Password = 9,
}

#[derive(Clone, Copy, Debug)]
pub enum Check {
    Any,
    /// An integer within both bounds.
    Between(i64, i64),
    /// A fraction from 0 to 1.
    Ratio,
    OneOf(&'static [&'static str]),
    /// A list, possibly empty; an item may be given twice.
    ListOf(&'static [&'static str]),
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
    /// -1 or 1 to 9.
    GzipLevel,
    /// Milliseconds that are not 0: below it there is no limit.
    NotZero,
    /// A count of threads of which a change may at most halve or double.
    Threads,
    /// `address:count` pairs.
    AddressCounts,
}

/// One configuration name.
#[derive(Clone, Copy, Debug)]
pub struct ConfigDef {
    pub name: &'static str,
    pub kind: ConfigType,
    /// `None` where nothing stands for "not set".
    pub default: Option<&'static str>,
    pub check: Check,
    /// For a topic config: the broker config that gives its default.
    pub broker_name: Option<&'static str>,
    pub doc: &'static str,
    /// Why the value is kept and shown, and nothing follows from it here.
    pub idle: Option<&'static str>,
}

impl ConfigDef {
    /// What the config is, and whether it does anything here.
    pub fn documentation(&self) -> String {
        let idle = self.idle.map(|why| format!("Without effect here: {why}"));
        let doc = Some(self.doc.to_owned()).filter(|doc| !doc.is_empty());
        doc.into_iter().chain(idle).collect::<Vec<_>>().join(" ")
    }

    /// Values that nobody is shown.
    pub fn is_sensitive(&self) -> bool {
        self.kind == ConfigType::Password
    }

    /// Checks a value; the error is a sentence for the user.
    pub fn validate(&self, value: &str) -> Result<(), String> {
        let fail = |why: String| {
            Err(format!("Invalid value {} for configuration {}: {why}", shorten(value), self.name))
        };
        let value = value.trim();
        let number = match self.kind {
            ConfigType::Boolean if parse_bool(value).is_none() => {
                return fail("Expected value to be either true or false".into());
            }
            ConfigType::Int => value.parse::<i32>().map(i64::from).map(Some),
            ConfigType::Short => value.parse::<i16>().map(i64::from).map(Some),
            ConfigType::Long => value.parse::<i64>().map(Some),
            ConfigType::Double if parse_double(value).is_none() => {
                return fail("Not a number of type DOUBLE".into());
            }
            _ => Ok(None),
        };
        let Ok(number) = number else {
            return fail(format!("Not a number of type {}", self.type_name()));
        };
        match self.check {
            Check::Any => Ok(()),
            Check::Between(low, high) => match number {
                Some(n) if n < low => fail(format!("Value must be at least {low}")),
                Some(n) if n > high => fail(format!("Value must be no more than {high}")),
                _ => Ok(()),
            },
            Check::GzipLevel => match number {
                Some(-1 | 1..=9) => Ok(()),
                _ => fail("Value must be between 1 and 9 or equal to -1".into()),
            },
            // Kafka's bounds let "not a number" pass; what is to be compared with a ratio must be one.
            Check::Ratio => match parse_double(value) {
                Some(x) if x < 0.0 => fail("Value must be at least 0".into()),
                Some(x) if x <= 1.0 => Ok(()),
                _ => fail("Value must be no more than 1".into()),
            },
            Check::NotZero if number == Some(0) => {
                Err(format!("{} must be unlimited (-1) or, greater than or equal to 1", self.name))
            }
            Check::NotZero => Ok(()),
            Check::Threads if number.is_some_and(|n| n < 1) => fail("Value must be at least 1".into()),
            Check::Threads => Ok(()),
            Check::AddressCounts => parse_address_counts(value).map(drop).or_else(fail),
            Check::OneOf(allowed) if allowed.contains(&value) => Ok(()),
            Check::OneOf(allowed) => fail(format!("String must be one of: {}", allowed.join(", "))),
            Check::ListOf(allowed) => check_list(value, allowed).or_else(fail),
            Check::ThrottledReplicas => check_throttled(value).or_else(fail),
        }
    }

    pub fn type_name(&self) -> &'static str {
        match self.kind {
            ConfigType::Boolean => "BOOLEAN",
            ConfigType::String => "STRING",
            ConfigType::Int => "INT",
            ConfigType::Short => "SHORT",
            ConfigType::Long => "LONG",
            ConfigType::Double => "DOUBLE",
            ConfigType::List => "LIST",
            ConfigType::Class => "CLASS",
            ConfigType::Password => "PASSWORD",
        }
    }
}

/// `true` and `false` in any case, as Kafka reads them.
pub fn parse_bool(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The items of a LIST value, without blanks around them; an empty value has none.
pub fn list_items(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// A double as Java reads it: a type suffix may follow.
pub fn parse_double(value: &str) -> Option<f64> {
    value.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(value).parse().ok()
}

/// Addresses with a count for each: `127.0.0.1:5,[::1]:7`. Names are not looked up: the answer could change, and
/// asking may take long.
pub fn parse_address_counts(value: &str) -> Result<Vec<(IpAddr, usize)>, String> {
    let pair = |item: &str| {
        let (host, count) = item.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Some((host.trim().parse().ok()?, count.trim().parse::<u32>().ok()? as usize))
    };
    let wrong = |item| format!("{item:?} is not an IP address and a count such as 127.0.0.1:5");
    list_items(value).map(|item| pair(item).ok_or_else(|| wrong(shorten(item)))).collect()
}

fn check_list(value: &str, allowed: &[&str]) -> Result<(), String> {
    if value.is_empty() {
        return Ok(());
    }
    for item in value.split(',').map(str::trim) {
        if item.is_empty() {
            return Err("values must not be empty".into());
        }
        if !allowed.contains(&item) {
            return Err(format!("String must be one of: {}", allowed.join(", ")));
        }
    }
    Ok(())
}

fn check_throttled(value: &str) -> Result<(), String> {
    if value == "*" {
        return Ok(());
    }
    for item in list_items(value) {
        let pair = item.split_once(':').map(|(p, b)| (p.parse::<u32>(), b.parse::<u32>()));
        if !matches!(pair, Some((Ok(_), Ok(_)))) {
            return Err("Expected * or [partition]:[broker],[partition]:[broker],…".into());
        }
    }
    Ok(())
}

/// Error messages quote what the client sent, but not a megabyte of it.
pub fn shorten(value: &str) -> &str {
    let mut end = value.len().min(100);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn def(kind: ConfigType, check: Check) -> ConfigDef {
        ConfigDef { name: "x", kind, default: None, check, broker_name: None, doc: "", idle: None }
    }

    #[test]
    fn values_are_checked() {
        let cases: &[(ConfigType, Check, &str, bool)] = &[
            (ConfigType::Boolean, Check::Any, "TRUE", true),
            (ConfigType::Boolean, Check::Any, "yes", false),
            (ConfigType::Int, Check::Between(1, 5), "5", true),
            (ConfigType::Int, Check::Between(1, 5), " 5 ", true),
            (ConfigType::Int, Check::Between(1, 5), "6", false),
            (ConfigType::Int, Check::Between(1, 5), "0", false),
            (ConfigType::Int, Check::Any, "3000000000", false),
            (ConfigType::Long, Check::Any, "3000000000", true),
            (ConfigType::Long, Check::Any, "", false),
            (ConfigType::Double, Check::Ratio, "0.5", true),
            (ConfigType::Double, Check::Ratio, "NaN", false),
            (ConfigType::Double, Check::Ratio, "1.5", false),
            (ConfigType::String, Check::OneOf(&["a", "b"]), "b", true),
            (ConfigType::String, Check::OneOf(&["a", "b"]), "c", false),
            (ConfigType::List, Check::ListOf(&["a", "b"]), "b, a", true),
            (ConfigType::List, Check::ListOf(&["a", "b"]), "", true),
            (ConfigType::List, Check::ListOf(&["a", "b"]), "a,a", true),
            (ConfigType::List, Check::ListOf(&["a", "b"]), "a,", false),
            (ConfigType::List, Check::ListOf(&["a", "b"]), "A", false),
            (ConfigType::Long, Check::NotZero, "0", false),
            (ConfigType::Long, Check::NotZero, "-1", true),
            (ConfigType::Int, Check::Threads, "0", false),
            (ConfigType::Int, Check::Any, "+5", true),
            (ConfigType::Double, Check::Any, "1.5", true),
            (ConfigType::Double, Check::Any, "1.7976931348623157E308", true),
            (ConfigType::Double, Check::Any, "much", false),
            (ConfigType::Double, Check::Ratio, "0.5f", true),
            (ConfigType::String, Check::AddressCounts, "127.0.0.1:5, ::1:7,[::2]:1", true),
            (ConfigType::String, Check::AddressCounts, "", true),
            (ConfigType::String, Check::AddressCounts, "127.0.0.1", false),
            (ConfigType::String, Check::AddressCounts, "host.example:5", false),
            (ConfigType::List, Check::ThrottledReplicas, "0:1,1:2", true),
            (ConfigType::List, Check::ThrottledReplicas, "0-1", false),
            (ConfigType::Int, Check::GzipLevel, "0", false),
            (ConfigType::Int, Check::GzipLevel, "-1", true),
        ];
        for (kind, check, value, good) in cases {
            let got = def(*kind, *check).validate(value);
            assert_eq!(got.is_ok(), *good, "{kind:?} {check:?} {value:?}: {got:?}");
        }
    }
}
