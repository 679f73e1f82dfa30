//! Configurations of groups and of client metrics subscriptions, by Kafka's names, with Kafka's defaults and bounds.
//!
//! They are kept for the consumer, share and streams group protocols and for client telemetry, none of which this
//! broker serves yet: classic groups take their timeouts from the client.

use std::collections::BTreeMap;

use super::config_def::{Check, ConfigDef, ConfigType, list_items};

use Check::{Any, Between, OneOf};
use ConfigType::{Boolean, Int, List, String as Str};

const INT_MAX: i64 = i32::MAX as i64;
const METRICS_INTERVAL: &str = "interval.ms";
const METRICS_MATCH: &str = "match";

const UNSERVED: &str = "the protocol that it is for is not served.";

const fn def(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    check: Check,
    doc: &'static str,
) -> ConfigDef {
    ConfigDef { name, kind, default: Some(default), check, broker_name: None, doc, idle: Some(UNSERVED) }
}

/// By name.
#[rustfmt::skip]
pub const GROUP_CONFIGS: &[ConfigDef] = &[
    def("consumer.assignment.interval.ms", Int, "1000", Between(0, INT_MAX), "The shortest time between two assignments of a consumer group."),
    def("consumer.heartbeat.interval.ms", Int, "5000", Between(1, INT_MAX), "How often members of a consumer group are to send heartbeats."),
    def("consumer.session.timeout.ms", Int, "45000", Between(1, INT_MAX), "How long a member of a consumer group may be silent."),
    def("share.assignment.interval.ms", Int, "1000", Between(0, INT_MAX), "The shortest time between two assignments of a share group."),
    def("share.auto.offset.reset", Str, "latest", Any, "Where a share group begins a partition: earliest, latest, or by_duration: and an ISO 8601 duration."),
    def("share.delivery.count.limit", Int, "5", Between(2, INT_MAX), "How often a record is delivered to a share group at most."),
    def("share.heartbeat.interval.ms", Int, "5000", Between(1, INT_MAX), "How often members of a share group are to send heartbeats."),
    def("share.isolation.level", Str, "read_uncommitted", OneOf(&["read_committed", "read_uncommitted"]), "Whether a share group sees records of transactions that are open or aborted."),
    def("share.partition.max.record.locks", Int, "2000", Between(100, INT_MAX), "How many records of a partition may be with a share group's members at once."),
    def("share.record.lock.duration.ms", Int, "30000", Between(1000, INT_MAX), "How long a share group's member may keep a record to itself."),
    def("share.renew.acknowledge.enable", Boolean, "true", Any, "Whether a share group's member may keep a record for longer."),
    def("share.session.timeout.ms", Int, "45000", Between(1, INT_MAX), "How long a member of a share group may be silent."),
    def("streams.assignment.interval.ms", Int, "1000", Between(0, INT_MAX), "The shortest time between two assignments of a streams group."),
    def("streams.heartbeat.interval.ms", Int, "5000", Between(1, INT_MAX), "How often members of a streams group are to send heartbeats."),
    def("streams.initial.rebalance.delay.ms", Int, "3000", Between(0, INT_MAX), "How long a new streams group waits for further members."),
    def("streams.num.standby.replicas", Int, "0", Between(0, INT_MAX), "Standby replicas of each task of a streams group."),
    def("streams.session.timeout.ms", Int, "45000", Between(1, INT_MAX), "How long a member of a streams group may be silent."),
];

/// What Kafka's broker configs allow a group by default: (name, least, most, the broker configs' names).
#[rustfmt::skip]
const GROUP_BOUNDS: &[(&str, i64, i64, &str)] = &[
    ("consumer.heartbeat.interval.ms", 5000, 15_000, "group.consumer.*.heartbeat.interval.ms"),
    ("consumer.session.timeout.ms", 45_000, 60_000, "group.consumer.*.session.timeout.ms"),
    ("consumer.assignment.interval.ms", 0, 15_000, "group.consumer.*.assignment.interval.ms"),
    ("share.heartbeat.interval.ms", 5000, 15_000, "group.share.*.heartbeat.interval.ms"),
    ("share.session.timeout.ms", 45_000, 60_000, "group.share.*.session.timeout.ms"),
    ("share.record.lock.duration.ms", 15_000, 60_000, "group.share.*.record.lock.duration.ms"),
    ("share.delivery.count.limit", 2, 10, "group.share.*.delivery.count.limit"),
    ("share.partition.max.record.locks", 100, 4000, "group.share.*.partition.max.record.locks"),
    ("share.assignment.interval.ms", 0, 15_000, "group.share.*.assignment.interval.ms"),
    ("streams.heartbeat.interval.ms", 5000, 15_000, "group.streams.*.heartbeat.interval.ms"),
    ("streams.session.timeout.ms", 45_000, 60_000, "group.streams.*.session.timeout.ms"),
    ("streams.num.standby.replicas", 0, 2, "group.streams.max.standby.replicas"),
    ("streams.assignment.interval.ms", 0, 15_000, "group.streams.*.assignment.interval.ms"),
];

/// By name.
#[rustfmt::skip]
pub const CLIENT_METRICS_CONFIGS: &[ConfigDef] = &[
    def(METRICS_INTERVAL, Int, "300000", Any, "How often clients are to push their metrics."),
    def(METRICS_MATCH, List, "", Any, "Which clients are meant: parameter=pattern pairs."),
    def("metrics", List, "", Any, "Prefixes of the names of the metrics wanted."),
];

const MATCH_PARAMETERS: &[&str] = &[
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Why overrides are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A value that does not do.
    Config(String),
    /// Something that cannot be asked for.
    Request(String),
}

pub fn find(defs: &'static [ConfigDef], name: &str) -> Option<&'static ConfigDef> {
    defs.binary_search_by(|def| def.name.cmp(name)).ok().map(|at| &defs[at])
}

/// Checks all overrides of a group, each by itself and then together.
pub fn check_group(overrides: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (name, value) in overrides {
        let def = find(GROUP_CONFIGS, name)
            .ok_or_else(|| Refusal::Config(format!("Unknown group config name: {name}")))?;
        def.validate(value).map_err(Refusal::Config)?;
        if name == "share.auto.offset.reset" && !is_reset_strategy(value) {
            let why = format!(
                "Invalid value {value} for configuration {name}: expected earliest, latest or by_duration:PnDTnHnMn.nS"
            );
            return Err(Refusal::Config(why));
        }
    }
    let number = |name: &str| -> i64 {
        let default = find(GROUP_CONFIGS, name).and_then(|def| def.default).unwrap_or_default();
        overrides.get(name).map_or(default, |value| value.trim()).parse().unwrap_or_default()
    };
    for (name, least, most, broker_names) in GROUP_BOUNDS {
        let value = number(name);
        if value < *least {
            let bound = broker_names.replace('*', "min");
            return Err(Refusal::Config(format!("{name} must be greater than or equal to {bound}")));
        }
        if value > *most {
            let bound = broker_names.replace('*', "max");
            return Err(Refusal::Config(format!("{name} must be less than or equal to {bound}")));
        }
    }
    for kind in ["consumer", "share", "streams"] {
        let (session, heartbeat) =
            (format!("{kind}.session.timeout.ms"), format!("{kind}.heartbeat.interval.ms"));
        if number(&session) <= number(&heartbeat) {
            return Err(Refusal::Config(format!("{session} must be greater than {heartbeat}")));
        }
    }
    Ok(())
}

fn is_reset_strategy(value: &str) -> bool {
    matches!(value, "earliest" | "latest") || value.strip_prefix("by_duration:").is_some_and(is_duration)
}

/// An ISO 8601 duration that is not negative, as `java.time.Duration` reads it: `PnDTnHnMn.nS`.
fn is_duration(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(['P', 'p']) else { return false };
    let (days, time) = match rest.split_once(['T', 't']) {
        Some((days, time)) => (days, Some(time)),
        None => (rest, None),
    };
    let fields = |mut text: &str, units: &[char]| {
        let mut from = 0;
        while let Some(at) = text.find(|c: char| c.is_ascii_alphabetic()) {
            let (number, unit) = (&text[..at], text.as_bytes()[at].to_ascii_uppercase() as char);
            let Some(place) = units[from..].iter().position(|u| *u == unit) else { return false };
            let whole = unit != 'S' || number.matches('.').count() <= 1;
            let digits = number.bytes().all(|b| b.is_ascii_digit() || (unit == 'S' && b == b'.'));
            if number.is_empty() || !digits || !whole {
                return false;
            }
            from += place + 1;
            text = &text[at + 1..];
        }
        text.is_empty()
    };
    let some = !days.is_empty() || time.is_some_and(|time| !time.is_empty());
    some && fields(days, &['D']) && time.is_none_or(|time| !time.is_empty() && fields(time, &['H', 'M', 'S']))
}

/// Likewise of a client metrics subscription.
pub fn check_client_metrics(overrides: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (name, value) in overrides {
        let def = find(CLIENT_METRICS_CONFIGS, name)
            .ok_or_else(|| Refusal::Request(format!("Unknown client metrics configuration: {name}")))?;
        def.validate(value).map_err(Refusal::Config)?;
    }
    if let Some(value) = overrides.get(METRICS_INTERVAL)
        && !value.trim().parse::<i64>().is_ok_and(|ms| (100..=3_600_000).contains(&ms))
    {
        let why = format!(
            "Invalid value {value} for {METRICS_INTERVAL}, interval must be between 100 and 3600000 (1 hour)"
        );
        return Err(Refusal::Request(why));
    }
    for pattern in overrides.get(METRICS_MATCH).map_or("", String::as_str).split(',').map(str::trim) {
        let named = pattern.split_once('=').filter(|(name, value)| {
            MATCH_PARAMETERS.contains(&name.trim()) && !value.is_empty() && !value.contains('=')
        });
        if !pattern.is_empty() && named.is_none() {
            return Err(Refusal::Config(format!("Illegal client matching pattern: {pattern}")));
        }
    }
    let metrics = overrides.get("metrics").map_or("", String::as_str);
    let mut seen = Vec::new();
    for name in list_items(metrics) {
        if seen.contains(&name) {
            let why = "Configuration 'metrics' values must not be duplicated.";
            return Err(Refusal::Config(why.into()));
        }
        seen.push(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn the_tables_are_sorted_and_their_defaults_pass() {
        for defs in [GROUP_CONFIGS, CLIENT_METRICS_CONFIGS] {
            assert!(defs.is_sorted_by(|a, b| a.name < b.name));
        }
        let all = |defs: &[ConfigDef]| {
            defs.iter()
                .map(|def| (def.name.to_string(), def.default.unwrap_or_default().to_string()))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(check_group(&all(GROUP_CONFIGS)), Ok(()));
        assert_eq!(check_client_metrics(&all(CLIENT_METRICS_CONFIGS)), Ok(()));
    }

    #[test]
    fn groups_are_bounded() {
        let good: &[&[(&str, &str)]] = &[
            &[("consumer.session.timeout.ms", "50000")],
            &[("share.auto.offset.reset", "by_duration:P2DT3H4M5.5S")],
            &[("share.auto.offset.reset", "by_duration:PT1H")],
        ];
        for pairs in good {
            assert_eq!(check_group(&of(pairs)), Ok(()), "{pairs:?}");
        }
        let bad: &[(&str, &str, &str)] = &[
            ("consumer.session.timeout.ms", "44999", "group.consumer.min.session.timeout.ms"),
            ("consumer.session.timeout.ms", "60001", "group.consumer.max.session.timeout.ms"),
            ("consumer.session.timeout.ms", "x", "Not a number"),
            ("streams.num.standby.replicas", "3", "group.streams.max.standby.replicas"),
            ("share.auto.offset.reset", "by_duration:1h", "by_duration"),
            ("share.auto.offset.reset", "by_duration:PT", "by_duration"),
            ("share.isolation.level", "none", "String must be one of"),
            ("consumer.session", "1", "Unknown group config name: consumer.session"),
        ];
        for (name, value, says) in bad {
            let Err(Refusal::Config(why)) = check_group(&of(&[(name, value)])) else {
                panic!("{name}={value}")
            };
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn subscriptions_are_checked() {
        let good = of(&[
            ("interval.ms", "100"),
            ("match", "client_id=a.*,client_software_name=b"),
            ("metrics", "a,b"),
        ]);
        assert_eq!(check_client_metrics(&good), Ok(()));
        for (name, value) in [("interval.ms", "99"), ("interval", "1000")] {
            let refused = check_client_metrics(&of(&[(name, value)]));
            assert!(matches!(refused, Err(Refusal::Request(_))), "{name}={value}");
        }
        for (name, value) in [("match", "who=a"), ("match", "client_id"), ("metrics", "a,a")] {
            let refused = check_client_metrics(&of(&[(name, value)]));
            assert!(matches!(refused, Err(Refusal::Config(_))), "{name}={value}");
        }
    }
}
