//! The defaults of topic configs as settings: Kafka's broker config `log.retention.ms` is `log_retention_ms` here. Names,
//! defaults and bounds are the topic configs'; times and sizes may have units.

use super::setting::Setting;
use super::values::{parse_duration, parse_size};
use crate::model::config_def::{Check, ConfigDef, ConfigType};
use crate::model::topic_config::TOPIC_CONFIGS;

/// One for each topic config that a broker has a default for.
pub(super) fn settings() -> impl Iterator<Item = Setting> {
    TOPIC_CONFIGS.iter().filter_map(|def| {
        let kafka = def.broker_name?;
        let help = format!("Default of the topic config {}", def.name);
        let idle = if def.idle.is_some() { "; without effect" } else { "" };
        Some(Setting {
            name: kafka.replace('.', "_").leak(),
            default: def.default?,
            allowed: allowed(def).leak(),
            help: format!("{help}{idle}").leak(),
            kafka: Some(kafka),
        })
    })
}

/// The value as topic configs have it; the error says what is allowed.
pub(super) fn parse(def: &ConfigDef, text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_number = text.parse::<i64>().is_ok();
    let in_units = match def.name.rsplit('.').next() {
        _ if is_number => None,
        Some("ms") => parse_duration(text).map(|duration| duration.as_millis().to_string()),
        Some("bytes") => parse_size(text, 0).map(|size| size.to_string()),
        _ => None,
    };
    let value = in_units.unwrap_or_else(|| text.to_owned());
    match def.validate(&value) {
        Ok(()) => Ok(value),
        Err(_) => Err(format!("{text:?} must be {}", allowed(def))),
    }
}

fn allowed(def: &ConfigDef) -> String {
    let unit = match def.name.rsplit('.').next() {
        Some("ms") => " of milliseconds, or a duration such as 36h or 7d",
        Some("bytes") => ", or a size such as 512MiB",
        _ => "",
    };
    match def.check {
        Check::Between(i64::MIN, _) => format!("a number{unit}"),
        Check::Between(least, most) if most == i64::MAX => format!("a number from {least}{unit}"),
        Check::Between(least, most) => format!("a number from {least} to {most}{unit}"),
        Check::OneOf(words) => words.join(", "),
        Check::ListOf(words) => format!("{}, or both with a comma between", words.join(" or ")),
        Check::GzipLevel => "-1 or a number from 1 to 9".to_owned(),
        Check::Ratio => "a number from 0 to 1".to_owned(),
        _ if def.kind == ConfigType::Boolean => "true or false".to_owned(),
        _ => "text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::topic_config::topic_config;

    #[test]
    fn values_may_have_units() {
        for (name, text, value) in [
            ("retention.ms", "7d", Some("604800000")),
            ("retention.ms", "-1", Some("-1")),
            ("retention.ms", "1500", Some("1500")),
            ("retention.ms", "-2", None),
            ("segment.bytes", "2MiB", Some("2097152")),
            ("segment.bytes", "1KiB", None),
            ("segment.bytes", "2GiB", None),
            ("cleanup.policy", "compact,delete", Some("compact,delete")),
            ("cleanup.policy", "shred", None),
            ("min.cleanable.dirty.ratio", "0.2", Some("0.2")),
            ("preallocate", "yes", None),
        ] {
            let parsed = parse(topic_config(name).unwrap(), text);
            assert_eq!(parsed.as_deref().ok(), value, "{name}={text}: {parsed:?}");
        }
    }

    #[test]
    fn every_default_parses() {
        for (setting, def) in crate::config::table::of_topics() {
            assert_eq!(parse(def, setting.default).as_deref(), Ok(setting.default), "{}", setting.name);
        }
    }
}
