//! Whether a broker's config may be changed while it runs, and to this: Kafka's rules (KIP-226), in its words where its
//! tools show them.
//!
//! Two things are refused that Kafka keeps without looking at them: names that nothing here knows, which Kafka keeps for
//! plug-ins, and settings of single listeners, of which there is one.

use crate::metadata::image::Overrides;
use crate::model::broker_config::{BrokerConfig, Change, Value, broker_config};
use crate::model::config_def::{Check, ConfigType, parse_double, shorten};

/// Checks what is to be changed, each by itself and together with all that the owner sets. `every`: it is for all brokers.
/// `current` is what holds now. The error is a sentence for the user.
pub fn check(
    changed: &Overrides,
    next: &Overrides,
    every: bool,
    log_dir: &str,
    current: impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let mut known = Vec::with_capacity(changed.len());
    for (name, value) in changed {
        known.push((find(name)?, value));
    }
    let list = |wanted: &dyn Fn(&BrokerConfig) -> bool| {
        let names = known.iter().filter(|(config, _)| wanted(config)).map(|(config, _)| config.def.name);
        Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
    };
    if let Some(names) = list(&|config| config.change == Change::Restart) {
        return Err(format!("Cannot update these configs dynamically: [{names}]"));
    }
    if let Some(names) = list(&|config| config.change == Change::Listener) {
        return Err(format!(
            "These security configs can be dynamically updated only per-listener using the listener prefix: [{names}]"
        ));
    }
    known.iter().try_for_each(|(config, value)| config.def.validate(value))?;
    if let Some(names) = list(&|config| every && config.change == Change::OneBroker) {
        return Err(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: [{names}]"
        ));
    }
    for (config, value) in &known {
        check_one(config, value.trim(), log_dir, &current)?;
    }
    check_together(changed, next, &current)
}

fn find(name: &str) -> Result<&'static BrokerConfig, String> {
    if let Some(config) = broker_config(name) {
        return Ok(config);
    }
    match name.starts_with("listener.name.") {
        true => Err(format!(
            "{}: a single listener cannot be configured, and there is one, which speaks plain text",
            shorten(name)
        )),
        false => Err(format!("Unknown broker config name: {}", shorten(name))),
    }
}

fn check_one(
    config: &BrokerConfig,
    value: &str,
    log_dir: &str,
    current: &impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let name = config.def.name;
    let number = value.parse::<i64>().ok();
    match (name, number) {
        ("max.connections" | "max.connection.creation.rate", Some(0)) => {
            return Err(format!("Invalid {name} {value}"));
        }
        ("cordoned.log.dirs", _) if !value.is_empty() && value != log_dir => {
            return Err(format!(
                "All entries in {name} must be present in log.dirs or log.dir. Missing entries : {}",
                shorten(value)
            ));
        }
        _ => {}
    }
    // No class of Java's can be loaded: its own, which are the defaults, stand for what is there.
    let default = config.def.default.unwrap_or_default();
    let names_a_class = config.def.kind == ConfigType::Class || name == "metric.reporters";
    if names_a_class && !value.is_empty() && value != default {
        return Err(format!(
            "Invalid value {} for configuration {name}: Class could not be found.",
            shorten(value)
        ));
    }
    if matches!(config.def.check, Check::Threads)
        && let Some(new) = number
        && let Some(old) = current(name).and_then(|old| old.trim().parse::<i64>().ok())
    {
        return check_threads(name, new, old);
    }
    Ok(())
}

/// A pool of threads is changed in steps.
fn check_threads(name: &str, new: i64, old: i64) -> Result<(), String> {
    let why = format!("Dynamic thread count update validation failed for {name}={new}");
    if new < old / 2 {
        return Err(format!("{why}, value should be at least half the current value {old}"));
    }
    if new > old * 2 {
        return Err(format!("{why}, value should not be greater than double the current value {old}"));
    }
    Ok(())
}

fn check_together(
    changed: &Overrides,
    next: &Overrides,
    current: &impl Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let text = |name: &str| next.get(name).cloned().or_else(|| current(name));
    let number = |name: &str, otherwise: i64| {
        text(name).and_then(|value| parse_double(value.trim())).map_or(otherwise, |value| value as i64)
    };
    let touched = |names: &[&str]| names.iter().any(|name| changed.contains_key(*name));
    let (buffer, threads) = ("log.cleaner.dedupe.buffer.size", "log.cleaner.threads");
    if touched(&[buffer, threads]) && number(buffer, 0) / number(threads, 1).max(1) <= 1 << 20 {
        return Err(format!("{buffer} must be at least 1MB per cleaner thread."));
    }
    if touched(&["max.connections.per.ip"])
        && number("max.connections.per.ip", 1) == 0
        && text("max.connections.per.ip.overrides").is_none_or(|overrides| overrides.trim().is_empty())
    {
        let name = "max.connections.per.ip";
        return Err(format!("{name} can be set to zero only if {name}.overrides property is set."));
    }
    for kind in ["consumer", "share", "streams"] {
        let name = format!("group.{kind}.assignment.interval.ms");
        let (least, most) = bounds_of(kind);
        if touched(&[&name]) && number(&name, least) < number(&least_name(kind), least) {
            return Err(format!("{name} must be greater than or equal to {}", least_name(kind)));
        }
        if touched(&[&name]) && number(&name, most) > most {
            return Err(format!(
                "{name} must be less than or equal to group.{kind}.max.assignment.interval.ms"
            ));
        }
    }
    check_local(changed, &number, ("log.retention.ms", "log.local.retention.ms"), 604_800_000)?;
    check_local(changed, &number, ("log.retention.bytes", "log.local.retention.bytes"), -1)
}

fn least_name(kind: &str) -> String {
    format!("group.{kind}.min.assignment.interval.ms")
}

/// The defaults of the bounds, which cannot be set while the broker runs nor have settings.
fn bounds_of(kind: &str) -> (i64, i64) {
    let bound = |which: &str| {
        let config = broker_config(&format!("group.{kind}.{which}.assignment.interval.ms"));
        config
            .filter(|config| matches!(config.value, Value::Idle(_)))
            .and_then(|c| c.def.default?.parse().ok())
    };
    (bound("min").unwrap_or(0), bound("max").unwrap_or(i64::MAX))
}

/// What is kept locally is at most what is kept.
fn check_local(
    changed: &Overrides,
    number: &impl Fn(&str, i64) -> i64,
    (all, local): (&str, &str),
    otherwise: i64,
) -> Result<(), String> {
    let (kept, here) = (number(all, otherwise), number(local, -2));
    if !(changed.contains_key(all) || changed.contains_key(local)) || kept < 0 || here == -2 {
        return Ok(());
    }
    let wrong = format!("Invalid value {here} for configuration {local}: Value must not be");
    match here {
        -1 => Err(format!("{wrong} -1 as {all} value is set as {kept}.")),
        here if here > kept => Err(format!("{wrong} more than {all} property value: {kept}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(pairs: &[(&str, &str)], every: bool) -> Result<(), String> {
        let changed: Overrides =
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let current = |name: &str| broker_config(name)?.def.default.map(str::to_owned);
        check(&changed, &changed, every, "/data", current)
    }

    #[test]
    fn what_kafka_changes_while_it_runs_is_changed() {
        for (name, value) in [
            ("log.retention.ms", "-1"),
            ("log.retention.ms", "-2"),
            ("log.retention.ms", " 1000 "),
            ("log.cleanup.policy", "compact,compact"),
            ("log.cleanup.policy", ""),
            ("num.io.threads", "16"),
            ("num.io.threads", "4"),
            ("log.cleaner.threads", "2"),
            ("log.cleaner.dedupe.buffer.size", "1048577"),
            ("log.cleaner.io.max.bytes.per.second", "-1"),
            ("max.connections.per.ip.overrides", "127.0.0.1:5"),
            ("metric.reporters", ""),
            ("producer.id.expiration.ms", "1"),
            ("unclean.leader.election.enable", "TRUE"),
            ("log.flush.interval.ms", "-1"),
            ("group.consumer.assignment.interval.ms", "5"),
            ("log.local.retention.ms", "604800000"),
            ("leader.replication.throttled.rate", "5"),
        ] {
            assert_eq!(verdict(&[(name, value)], true), Ok(()), "{name}={value}");
            assert_eq!(verdict(&[(name, value)], false), Ok(()), "{name}={value}");
        }
        for name in ["sasl.kerberos.service.name", "ssl.cipher.suites", "cordoned.log.dirs"] {
            let value = if name == "cordoned.log.dirs" { "/data" } else { "x" };
            assert_eq!(verdict(&[(name, value)], false), Ok(()), "{name}");
            let refused = verdict(&[(name, value)], true).unwrap_err();
            assert!(refused.starts_with("Cannot update these configs at default cluster level"), "{refused}");
        }
    }

    #[test]
    fn what_kafka_refuses_is_refused_in_its_words() {
        for (name, value, why) in [
            (
                "log.retention.ms",
                "0",
                "log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
            ),
            ("log.retention.hours", "5", "Cannot update these configs dynamically: [log.retention.hours]"),
            ("broker.id", "1", "Cannot update these configs dynamically: [broker.id]"),
            ("group.min.session.timeout.ms", "5", "Cannot update these configs dynamically"),
            ("log.segment.bytes", "1000", "Value must be at least 1048576"),
            ("ssl.keystore.location", "/x", "only per-listener using the listener prefix"),
            ("num.io.threads", "17", "value should not be greater than double the current value 8"),
            ("num.io.threads", "3", "value should be at least half the current value 8"),
            ("num.io.threads", "0", "Value must be at least 1"),
            ("log.cleaner.dedupe.buffer.size", "1000", "must be at least 1MB per cleaner thread."),
            ("max.connections", "0", "Invalid max.connections 0"),
            ("max.connections.per.ip", "0", "can be set to zero only if"),
            ("max.connections.per.ip.overrides", "127.0.0.1", "is not an IP address and a count"),
            ("metric.reporters", "com.example.X", "Class could not be found"),
            (
                "log.local.retention.ms",
                "-1",
                "Value must not be -1 as log.retention.ms value is set as 604800000.",
            ),
            ("log.local.retention.ms", "604800001", "Value must not be more than log.retention.ms"),
            ("group.consumer.assignment.interval.ms", "20000", "group.consumer.max.assignment.interval.ms"),
            ("transaction.partition.verification.enable", "no", "Expected value to be either true or false"),
            ("no.such", "5", "Unknown broker config name: no.such"),
            ("listener.name.plaintext.max.connections", "5", "a single listener cannot be configured"),
        ] {
            let refused = verdict(&[(name, value)], true).unwrap_err();
            assert!(refused.contains(why), "{name}={value}: {refused}");
        }
        let refused = verdict(&[("cordoned.log.dirs", "/x")], false).unwrap_err();
        assert!(refused.contains("Missing entries : /x"), "{refused}");
    }
}
