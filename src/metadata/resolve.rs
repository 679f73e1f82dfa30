//! What one broker makes of the shared image: its own settings, and overrides of itself, laid under what topics say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::image::{Image, Overrides};
use super::records::Owner;
use crate::model::topic_config::TOPIC_CONFIGS;
use crate::model::{BrokerId, BrokerSettings, Live, TopicConfig};

/// Configurations that are kept to be shared; with more, all are made again.
const MAX_KNOWN: usize = 1000;

/// Configurations of topics as they are on one broker. Topics with the same overrides share theirs.
pub struct Resolver {
    broker: BrokerId,
    /// What the broker started with.
    defaults: Overrides,
    live: Live,
    known: RefCell<Known>,
}

/// What was resolved, for these overrides of brokers.
#[derive(Default)]
struct Known {
    of: [Option<Arc<Overrides>>; 2],
    configs: BTreeMap<Arc<Overrides>, Arc<TopicConfig>>,
}

impl Resolver {
    pub fn new(settings: &BrokerSettings) -> Self {
        Self {
            broker: settings.broker_id,
            defaults: settings.topic_defaults.clone(),
            live: settings.live.clone(),
            known: RefCell::default(),
        }
    }

    /// What a topic with these overrides runs with here.
    pub fn topic(&self, image: &Image, overrides: &Arc<Overrides>) -> Arc<TopicConfig> {
        let mut known = self.known.borrow_mut();
        let of = [Owner::Broker(self.broker), Owner::EveryBroker]
            .map(|owner| image.overrides.get(&owner).cloned());
        if known.of != of || known.configs.len() >= MAX_KNOWN {
            *known = Known { of, configs: BTreeMap::new() };
        }
        if let Some(config) = known.configs.get(overrides) {
            return config.clone();
        }
        let config = Arc::new(self.resolve(image, overrides));
        known.configs.insert(overrides.clone(), config.clone());
        config
    }

    fn resolve(&self, image: &Image, overrides: &Overrides) -> TopicConfig {
        let pair = |(name, value): (&'_ String, &'_ String)| (name.clone(), value.clone());
        let fixed = self.defaults.iter().map(pair);
        let dynamic = TOPIC_CONFIGS.iter().filter_map(|def| {
            let (_, value) = image.broker_override(self.broker, def.broker_name?)?;
            Some((def.name.to_string(), value.to_string()))
        });
        let all: Vec<_> = fixed.chain(dynamic).chain(overrides.iter().map(pair)).collect();
        TopicConfig::resolve(all.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The settings that can be changed while the broker runs, as they are now.
    pub fn live(&self, image: &Image) -> Live {
        self.live.with(|name| {
            let of = [Owner::Broker(self.broker), Owner::EveryBroker];
            of.iter().find_map(|owner| image.overrides.get(owner)?.get(name)).map(String::as_str)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::Record;
    use super::*;
    use crate::model::TopicId;

    #[test]
    fn configs_resolve_from_the_nearest_owner() {
        let mut settings = BrokerSettings::default();
        settings.topic_defaults.insert("retention.ms".into(), "10".into());
        let (one, two) =
            (Resolver::new(&settings), Resolver::new(&BrokerSettings { broker_id: 2, ..settings.clone() }));
        let id = TopicId([1; 16]);
        let (mut image, _) = Image::empty().with(&[Record::Topic { id, name: "a".into() }]).unwrap();
        let retention = |resolver: &Resolver, image: &Image| {
            resolver.topic(image, &image.topic("a").unwrap().overrides).retention_ms
        };
        assert_eq!(retention(&one, &image), 10);
        let topic = Owner::Topic(id);
        for (owner, name, value, expected) in [
            (Owner::EveryBroker, "log.retention.ms", Some("20"), [20, 20]),
            (Owner::Broker(1), "log.retention.ms", Some("30"), [30, 20]),
            (topic.clone(), "retention.ms", Some("40"), [40, 40]),
            (Owner::Broker(1), "log.retention.ms", None, [40, 40]),
            (topic, "retention.ms", None, [20, 20]),
        ] {
            let record = Record::Config { owner, name: name.into(), value: value.map(Into::into) };
            image = image.with(&[record]).unwrap().0;
            assert_eq!([retention(&one, &image), retention(&two, &image)], expected, "{name} {value:?}");
        }
    }

    #[test]
    fn topics_with_the_same_overrides_share_a_configuration() {
        let resolver = Resolver::new(&BrokerSettings::default());
        let image = Image::empty();
        let own = |value: &str| Arc::new(Overrides::from([("retention.ms".to_string(), value.to_string())]));
        let first = resolver.topic(&image, &own("5"));
        assert!(Arc::ptr_eq(&first, &resolver.topic(&image, &own("5"))));
        assert!(!Arc::ptr_eq(&first, &resolver.topic(&image, &own("6"))));
        (0..3000).for_each(|n| drop(resolver.topic(&image, &own(&n.to_string()))));
        assert!(resolver.known.borrow().configs.len() <= MAX_KNOWN);
    }

    #[test]
    fn live_settings_follow_the_overrides_of_this_broker() {
        let resolver = Resolver::new(&BrokerSettings::default());
        let set = |owner, value: &str| Record::Config {
            owner,
            name: "max.connections".into(),
            value: Some(value.into()),
        };
        let records = [set(Owner::EveryBroker, "7"), set(Owner::Broker(2), "8")];
        let (image, _) = Image::empty().with(&records).unwrap();
        assert_eq!(resolver.live(&image).max_connections, 7);
        let (image, _) = image.with(&[set(Owner::Broker(1), "9")]).unwrap();
        assert_eq!(resolver.live(&image).max_connections, 9);
    }
}
