//! The settings that may be changed while the broker runs, by Kafka's names for them (KIP-226). They hold on every
//! shard from the metadata image that carries them.

use std::net::IpAddr;

use super::config_def::{parse_address_counts, parse_bool, parse_double};

/// Kafka's way to say that compaction is not slowed down.
const NO_RATE: &str = "1.7976931348623157E308";

#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// `max.connections`
    pub max_connections: usize,
    /// `max.connections.per.ip`
    pub max_connections_per_ip: usize,
    /// `max.connections.per.ip.overrides`
    pub max_connections_of: Vec<(IpAddr, usize)>,
    /// `max.connection.creation.rate`: connections a second.
    pub max_connection_rate: usize,
    /// `producer.id.expiration.ms`
    pub producer_id_expiration_ms: i64,
    /// `transaction.partition.verification.enable`
    pub verify_transactions: bool,
    /// `log.cleaner.backoff.ms`
    pub compaction_check_ms: u64,
    /// `log.cleaner.dedupe.buffer.size`: memory for keys, all shards.
    pub compaction_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`: read and written, all shards; `u64::MAX` for no limit.
    pub compaction_rate: u64,
    /// `follower.replication.throttled.rate` and `leader.replication.throttled.rate`: bytes a second of replicas that are
    /// throttled, all shards; `u64::MAX` for no limit.
    pub follower_rate: u64,
    pub leader_rate: u64,
}

impl Live {
    const NAMES: [&str; 11] = [
        "follower.replication.throttled.rate",
        "leader.replication.throttled.rate",
        "log.cleaner.backoff.ms",
        "log.cleaner.dedupe.buffer.size",
        "log.cleaner.io.max.bytes.per.second",
        "max.connection.creation.rate",
        "max.connections",
        "max.connections.per.ip",
        "max.connections.per.ip.overrides",
        "producer.id.expiration.ms",
        "transaction.partition.verification.enable",
    ];

    pub fn has(name: &str) -> bool {
        Self::NAMES.contains(&name)
    }

    /// What holds when these are laid over it. `value` gives the text for a name, which was checked before it was
    /// stored; one that does not parse all the same changes nothing.
    pub fn with<'a>(&self, value: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        let mut live = self.clone();
        for name in Self::NAMES {
            if let Some(text) = value(name) {
                live.set(name, text.trim());
            }
        }
        live
    }

    fn set(&mut self, name: &str, text: &str) -> Option<()> {
        match name {
            "follower.replication.throttled.rate" => self.follower_rate = replication_rate(text)?,
            "leader.replication.throttled.rate" => self.leader_rate = replication_rate(text)?,
            "log.cleaner.backoff.ms" => self.compaction_check_ms = text.parse().ok()?,
            "log.cleaner.dedupe.buffer.size" => self.compaction_bytes = text.parse().ok()?,
            "log.cleaner.io.max.bytes.per.second" => self.compaction_rate = rate(parse_double(text)?),
            "max.connection.creation.rate" => self.max_connection_rate = text.parse().ok()?,
            "max.connections" => self.max_connections = text.parse().ok()?,
            "max.connections.per.ip" => self.max_connections_per_ip = text.parse().ok()?,
            "max.connections.per.ip.overrides" => {
                self.max_connections_of = parse_address_counts(text).ok()?
            }
            "producer.id.expiration.ms" => self.producer_id_expiration_ms = text.parse().ok()?,
            "transaction.partition.verification.enable" => self.verify_transactions = parse_bool(text)?,
            _ => {}
        }
        Some(())
    }

    /// How many connections an address may have open.
    pub fn connections_of(&self, address: IpAddr) -> usize {
        let address = address.to_canonical();
        let own = self.max_connections_of.iter().find(|(of, _)| of.to_canonical() == address);
        own.map_or(self.max_connections_per_ip, |(_, most)| *most)
    }

    /// As Kafka writes it.
    pub fn overrides_text(&self) -> String {
        let pair = |(address, most): &(IpAddr, usize)| format!("{address}:{most}");
        self.max_connections_of.iter().map(pair).collect::<Vec<_>>().join(",")
    }

    /// As Kafka writes it.
    pub fn compaction_rate_text(&self) -> String {
        match self.compaction_rate {
            u64::MAX => NO_RATE.to_owned(),
            rate => rate.to_string(),
        }
    }
}

/// Bytes a second; Kafka takes what is not above zero for no limit.
fn rate(rate: f64) -> u64 {
    match rate > 0.0 {
        true => (rate as u64).max(1),
        false => u64::MAX,
    }
}

/// Bytes a second, of which there may be none; Kafka's largest number is for no limit.
fn replication_rate(text: &str) -> Option<u64> {
    let rate: i64 = text.parse().ok()?;
    Some(if rate == i64::MAX { u64::MAX } else { rate.max(0) as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BrokerSettings;

    #[test]
    fn overrides_are_laid_over_what_the_broker_started_with() {
        let base = BrokerSettings::default().live;
        assert_eq!(base.with(|_| None), base);
        let live = base.with(|name| match name {
            "max.connections" => Some(" 7 "),
            "max.connections.per.ip" => Some("3"),
            "max.connections.per.ip.overrides" => Some("127.0.0.1:9,::1:8"),
            "log.cleaner.io.max.bytes.per.second" => Some("1.5e6"),
            "producer.id.expiration.ms" => Some("rubbish"),
            "transaction.partition.verification.enable" => Some("FALSE"),
            "leader.replication.throttled.rate" => Some("1000"),
            _ => None,
        });
        assert_eq!(
            (live.max_connections, live.compaction_rate, live.verify_transactions),
            (7, 1_500_000, false)
        );
        assert_eq!((live.leader_rate, live.follower_rate), (1000, u64::MAX));
        assert_eq!(live.producer_id_expiration_ms, base.producer_id_expiration_ms);
        let of = |address: &str| live.connections_of(address.parse().unwrap());
        assert_eq!([of("127.0.0.1"), of("::ffff:127.0.0.1"), of("::1"), of("10.0.0.1")], [9, 9, 8, 3]);
        assert_eq!(live.overrides_text(), "127.0.0.1:9,::1:8");
    }

    #[test]
    fn no_rate_is_written_as_kafka_writes_it() {
        let base = BrokerSettings::default().live;
        for text in [NO_RATE, "-1", "0"] {
            let live = base.with(|name| (name == "log.cleaner.io.max.bytes.per.second").then_some(text));
            assert_eq!(live.compaction_rate_text(), NO_RATE);
        }
    }
}
