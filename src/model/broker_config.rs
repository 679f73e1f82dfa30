//! Broker configuration as Kafka's tools see it: the broker-wide defaults of topic configs, which can be
//! changed while the broker runs, and what it was started with, which cannot.

use std::sync::OnceLock;

use super::config_def::{Check, ConfigDef, ConfigType};
use super::settings::BrokerSettings;
use super::topic_config::TOPIC_CONFIGS;

#[derive(Clone, Copy, Debug)]
pub struct BrokerConfig {
    pub def: ConfigDef,
    /// The topic config that this is the default of; only such are dynamic.
    pub topic_name: Option<&'static str>,
}

impl BrokerConfig {
    pub fn is_dynamic(&self) -> bool {
        self.topic_name.is_some()
    }
}

const fn fixed(name: &'static str, kind: ConfigType, default: &'static str, doc: &'static str) -> ConfigDef {
    ConfigDef { name, kind, default, check: Check::Any, broker_name: None, doc }
}

#[rustfmt::skip]
const FIXED: &[ConfigDef] = &[
    fixed("advertised.listeners", ConfigType::String, "", "Where clients are told to connect."),
    fixed("auto.create.topics.enable", ConfigType::Boolean, "true", "Whether a topic is created when a client asks for it."),
    fixed("broker.id", ConfigType::Int, "1", "This broker's id."),
    fixed("broker.rack", ConfigType::String, "", "The rack that this broker stands in."),
    fixed("connections.max.idle.ms", ConfigType::Long, "600000", "Connections that are idle for longer are closed."),
    fixed("default.replication.factor", ConfigType::Int, "1", "Replicas of a topic created without a count."),
    fixed("delete.topic.enable", ConfigType::Boolean, "true", "Whether topics may be deleted."),
    fixed("fetch.max.bytes", ConfigType::Int, "57671680", "The largest answer to one fetch."),
    fixed("group.initial.rebalance.delay.ms", ConfigType::Int, "3000", "How long an empty group waits for more members."),
    fixed("group.max.session.timeout.ms", ConfigType::Int, "1800000", "The longest session of a group's member."),
    fixed("group.max.size", ConfigType::Int, "2147483647", "Members that a group may have."),
    fixed("group.min.session.timeout.ms", ConfigType::Int, "6000", "The shortest session of a group's member."),
    fixed("max.connections", ConfigType::Int, "20000", "Connections that may be open at once."),
    fixed("max.incremental.fetch.session.cache.slots", ConfigType::Int, "1000", "Fetch sessions that are kept."),
    fixed("node.id", ConfigType::Int, "1", "This broker's id."),
    fixed("num.partitions", ConfigType::Int, "1", "Partitions of a topic created without a count."),
    fixed("offset.metadata.max.bytes", ConfigType::Int, "4096", "The longest metadata of a committed offset."),
    fixed("offsets.retention.minutes", ConfigType::Int, "10080", "How long an empty group's offsets are kept."),
    fixed("offsets.topic.num.partitions", ConfigType::Int, "50", "Partitions of the topic that holds groups."),
    fixed("producer.id.expiration.ms", ConfigType::Int, "86400000", "How long an idle producer's sequence numbers are remembered."),
    fixed("socket.request.max.bytes", ConfigType::Int, "104857600", "The largest request."),
];

/// Every broker config, by name.
pub fn broker_configs() -> &'static [BrokerConfig] {
    static ALL: OnceLock<Vec<BrokerConfig>> = OnceLock::new();
    ALL.get_or_init(|| {
        let dynamic = TOPIC_CONFIGS.iter().filter_map(|def| {
            let name = def.broker_name?;
            Some(BrokerConfig { def: ConfigDef { name, ..*def }, topic_name: Some(def.name) })
        });
        let fixed = FIXED.iter().map(|def| BrokerConfig { def: *def, topic_name: None });
        let mut all: Vec<_> = dynamic.chain(fixed).collect();
        all.sort_by_key(|config| config.def.name);
        all
    })
}

pub fn broker_config(name: &str) -> Option<&'static BrokerConfig> {
    let all = broker_configs();
    all.binary_search_by(|config| config.def.name.cmp(name)).ok().map(|at| &all[at])
}

/// What the broker was started with, where that says anything about this name.
pub fn static_value(settings: &BrokerSettings, config: &BrokerConfig) -> Option<String> {
    if let Some(topic_name) = config.topic_name {
        return settings.topic_defaults.get(topic_name).cloned();
    }
    Some(match config.def.name {
        "advertised.listeners" => {
            format!("PLAINTEXT://{}:{}", settings.advertised_host, settings.advertised_port)
        }
        "auto.create.topics.enable" => settings.auto_create_topics.to_string(),
        "broker.id" | "node.id" => settings.broker_id.to_string(),
        "broker.rack" => settings.rack.clone()?,
        "connections.max.idle.ms" => settings.idle_connection_ms.to_string(),
        "delete.topic.enable" => settings.delete_topics.to_string(),
        "fetch.max.bytes" => settings.fetch_max_bytes.to_string(),
        "group.initial.rebalance.delay.ms" => settings.groups.initial_rebalance_delay_ms.to_string(),
        "group.max.session.timeout.ms" => settings.groups.max_session_timeout_ms.to_string(),
        "group.max.size" => settings.groups.max_size.to_string(),
        "group.min.session.timeout.ms" => settings.groups.min_session_timeout_ms.to_string(),
        "offset.metadata.max.bytes" => settings.groups.offset_metadata_max.to_string(),
        "offsets.retention.minutes" => (settings.groups.offsets_retention_ms / 60_000).to_string(),
        "offsets.topic.num.partitions" => settings.groups.topic_partitions.to_string(),
        "max.connections" => settings.max_connections.to_string(),
        "max.incremental.fetch.session.cache.slots" => settings.fetch_session_slots.to_string(),
        "num.partitions" => settings.num_partitions.to_string(),
        "producer.id.expiration.ms" => settings.producer_id_expiration_ms.to_string(),
        "socket.request.max.bytes" => settings.max_frame_bytes.to_string(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_without_repeats() {
        assert!(broker_configs().is_sorted_by(|a, b| a.def.name < b.def.name));
    }

    #[test]
    fn fixed_defaults_are_the_settings() {
        let settings = BrokerSettings::default();
        for config in broker_configs().iter().filter(|config| !config.is_dynamic()) {
            let name = config.def.name;
            if let Some(value) = static_value(&settings, config)
                && name != "advertised.listeners"
            {
                assert_eq!(value, config.def.default, "{name}");
            }
        }
    }
}
