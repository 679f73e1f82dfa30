//! Changing the configuration of topics and brokers.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::brokers;
use crate::controller::request::{
    ConfigChange, ConfigOp, ConfigResource, ControlError, ControlErrorKind as Kind,
};
use crate::metadata::MIN_INSYNC;
use crate::metadata::image::{Image, Overrides, Topic};
use crate::metadata::records::{Owner, Record};
use crate::model::BrokerSettings;
use crate::model::broker_config::{broker_config, static_value};
use crate::model::config_def::{ConfigDef, ConfigType, list_items, shorten};
use crate::model::resource_configs::{
    CLIENT_METRICS_CONFIGS, GROUP_CONFIGS, Refusal, check_client_metrics, check_group, find as find_config,
};
use crate::model::topic_config::{WRITE_CACHING, check_together, topic_config, validate};

/// Groups and subscriptions that may have a configuration.
const MAX_OWNERS: usize = 10_000;
/// Kafka's longest value.
const MAX_VALUE: usize = i16::MAX as usize;

type Results = Vec<Result<(), ControlError>>;

fn refuse<T>(kind: Kind, message: impl Into<String>) -> Result<T, ControlError> {
    Err(ControlError::new(kind, message))
}

/// Checks a topic's overrides, each by itself and then together.
pub fn check_topic_configs<'a>(
    values: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Result<(), ControlError> {
    for (name, value) in values.clone() {
        if let Err(message) = validate(name, value) {
            return refuse(Kind::InvalidConfig, message);
        }
    }
    check_together(values).or_else(|why| refuse(Kind::InvalidConfig, why))
}

/// Replaces the overrides of each resource by those given.
pub fn replace(
    image: &Image,
    settings: &BrokerSettings,
    resources: &[(ConfigResource, Vec<(String, String)>)],
) -> (Vec<Record>, Results) {
    each(image, settings, resources, |_, _, values| Ok(values.iter().cloned().collect()))
}

/// Changes single overrides of each resource.
pub fn change(
    image: &Image,
    settings: &BrokerSettings,
    resources: &[(ConfigResource, Vec<ConfigChange>)],
) -> (Vec<Record>, Results) {
    each(image, settings, resources, |target, now, changes| {
        let mut next = now.clone();
        for change in changes {
            apply(target, &mut next, change)?;
        }
        Ok(next)
    })
}

/// Where one resource's overrides live.
struct Target<'a> {
    image: &'a Image,
    settings: &'a BrokerSettings,
    owner: Owner,
}

fn each<T>(
    image: &Image,
    settings: &BrokerSettings,
    resources: &[(ConfigResource, T)],
    next: impl Fn(&Target<'_>, &Overrides, &T) -> Result<Overrides, ControlError>,
) -> (Vec<Record>, Results)
where
    T: AsNames,
{
    let mut seen = BTreeSet::new();
    let repeated: BTreeSet<_> =
        resources.iter().map(|(resource, _)| resource).filter(|resource| !seen.insert(*resource)).collect();
    let mut records = Vec::new();
    let results = resources.iter().map(|(resource, wanted)| {
        if repeated.contains(resource) {
            return refuse(Kind::InvalidRequest, "Each resource must appear at most once.");
        }
        let mut names = BTreeSet::new();
        if !wanted.names().all(|name| names.insert(name)) {
            return refuse(Kind::InvalidRequest, "Error due to duplicate config keys");
        }
        let (owner, now) = find(image, settings, resource)?;
        let target = Target { image, settings, owner };
        let next = next(&target, &now, wanted)?;
        target.check(&now, &next)?;
        records.extend(difference(&target.owner, &now, &next));
        records.extend(uncertain(image, &target.owner, &now, &next));
        Ok(())
    });
    let results = results.collect();
    (records, results)
}

trait AsNames {
    fn names(&self) -> impl Iterator<Item = &str>;
}

impl AsNames for Vec<(String, String)> {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name.as_str())
    }
}

impl AsNames for Vec<ConfigChange> {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|change| change.name.as_str())
    }
}

fn find(
    image: &Image,
    settings: &BrokerSettings,
    resource: &ConfigResource,
) -> Result<(Owner, Overrides), ControlError> {
    let owner = match resource {
        ConfigResource::Topic(name) => {
            let Some(topic) = image.topic(name) else {
                return refuse(Kind::UnknownTopic, format!("The topic '{}' does not exist.", shorten(name)));
            };
            return Ok((Owner::Topic(topic.id), Overrides::clone(&topic.overrides)));
        }
        ConfigResource::Group(name) => Owner::Group(name.clone()),
        ConfigResource::ClientMetrics(name) => Owner::ClientMetrics(name.clone()),
        ConfigResource::Broker(None) => Owner::EveryBroker,
        ConfigResource::Broker(Some(id)) if image.broker(*id).is_some() => Owner::Broker(*id),
        ConfigResource::Broker(Some(id)) => {
            let own = settings.broker_id;
            let why = format!("Unexpected broker id, expected {own}, but received {id}");
            return refuse(Kind::InvalidRequest, why);
        }
    };
    let overrides = image.overrides.get(&owner).map(|own| Overrides::clone(own)).unwrap_or_default();
    Ok((owner, overrides))
}

impl Target<'_> {
    fn def(&self, name: &str) -> Option<ConfigDef> {
        match self.owner {
            Owner::Topic(_) => topic_config(name).copied(),
            Owner::Group(_) => find_config(GROUP_CONFIGS, name).copied(),
            Owner::ClientMetrics(_) => find_config(CLIENT_METRICS_CONFIGS, name).copied(),
            Owner::Broker(_) | Owner::EveryBroker => broker_config(name).map(|config| config.def),
        }
    }

    /// What applies to this name before any override of this resource.
    fn inherited(&self, name: &str) -> String {
        // What only another broker knows of itself is taken to be as here.
        let broker = match self.owner {
            Owner::Broker(id) => id,
            _ => self.settings.broker_id,
        };
        let broker_name = match self.owner {
            Owner::Topic(_) => topic_config(name).and_then(|def| def.broker_name),
            Owner::Group(_) | Owner::ClientMetrics(_) => None,
            Owner::Broker(_) | Owner::EveryBroker => Some(name),
        };
        let fallback = || self.def(name).and_then(|def| def.default).unwrap_or_default().to_string();
        let Some(config) = broker_name.and_then(broker_config) else { return fallback() };
        match self.image.broker_override(broker, config.def.name) {
            Some((owner, value)) if owner != self.owner => value.to_string(),
            _ => static_value(self.settings, config).unwrap_or_else(fallback),
        }
    }

    fn check(&self, now: &Overrides, next: &Overrides) -> Result<(), ControlError> {
        if next.values().any(|value| value.len() > MAX_VALUE) {
            let why = format!(
                "The configuration value cannot be added because it exceeds the maximum value size of {MAX_VALUE} \
                 bytes."
            );
            return refuse(Kind::InvalidConfig, why);
        }
        let refused = |refusal| match refusal {
            Refusal::Config(why) => refuse(Kind::InvalidConfig, why),
            Refusal::Request(why) => refuse(Kind::InvalidRequest, why),
        };
        let checked = match self.owner {
            Owner::Topic(_) => {
                check_topic_configs(next.iter().map(|(name, value)| (name.as_str(), value.as_str())))
            }
            Owner::Group(_) => check_group(next).or_else(refused),
            Owner::ClientMetrics(_) => check_client_metrics(next).or_else(refused),
            Owner::Broker(_) | Owner::EveryBroker => self.check_broker(now, next),
        };
        checked?;
        let is_new = now.is_empty() && !next.is_empty() && !matches!(self.owner, Owner::Topic(_));
        if is_new && self.image.overrides.len() >= MAX_OWNERS {
            let why = format!("There are {MAX_OWNERS} configured groups and subscriptions already");
            return refuse(Kind::TooMany, why);
        }
        Ok(())
    }

    fn check_broker(&self, now: &Overrides, next: &Overrides) -> Result<(), ControlError> {
        let changed: Overrides = next
            .iter()
            .filter(|(name, value)| now.get(*name) != Some(value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let every = self.owner == Owner::EveryBroker;
        let current = |name: &str| self.inherited_from_all(name);
        brokers::check(&changed, next, every, &self.settings.log_dir, current)
            .or_else(|message| refuse(Kind::InvalidRequest, message))
    }

    /// What holds now, of this owner or of those below it.
    fn inherited_from_all(&self, name: &str) -> Option<String> {
        let own = self.image.overrides.get(&self.owner).and_then(|overrides| overrides.get(name));
        Some(own.cloned().unwrap_or_else(|| self.inherited(name))).filter(|value| !value.is_empty())
    }
}

fn apply(target: &Target<'_>, next: &mut Overrides, change: &ConfigChange) -> Result<(), ControlError> {
    let name = change.name.clone();
    let (verb, items) = match &change.op {
        ConfigOp::Set(value) => {
            next.insert(name, value.clone());
            return Ok(());
        }
        ConfigOp::Delete => {
            next.remove(&name);
            return Ok(());
        }
        ConfigOp::Append(items) => ("APPEND", items),
        ConfigOp::Subtract(items) => ("SUBTRACT", items),
    };
    let of_broker = matches!(target.owner, Owner::Broker(_) | Owner::EveryBroker);
    let Some(def) = target.def(&name) else {
        return refuse(Kind::InvalidConfig, format!("Unknown config name: {}", shorten(&name)));
    };
    if def.kind != ConfigType::List && of_broker {
        let verb = verb.to_lowercase();
        let why = format!("Config value {verb} is not allowed for config key: {}", shorten(&name));
        return refuse(Kind::InvalidConfig, why);
    }
    if def.kind != ConfigType::List {
        let why = format!("Can't {verb} to key {} because its type is not LIST.", shorten(&name));
        return refuse(Kind::InvalidConfig, why);
    }
    let current = next.get(&name).cloned().unwrap_or_else(|| target.inherited(&name));
    let mut list: Vec<&str> = list_items(&current).collect();
    for item in list_items(items) {
        let at = list.iter().position(|have| *have == item);
        match (verb, at) {
            ("APPEND", None) => list.push(item),
            ("SUBTRACT", Some(at)) => {
                list.remove(at);
            }
            _ => {}
        }
    }
    next.insert(name, list.join(","));
    Ok(())
}

/// Who was eligible to lead by the configuration that was, and may not be by the one that is.
fn uncertain(image: &Image, owner: &Owner, now: &Overrides, next: &Overrides) -> Option<Record> {
    let topic = match owner {
        Owner::Topic(id) => Some(*id),
        Owner::EveryBroker => None,
        _ => return None,
    };
    let differs = |name: &str| now.get(name) != next.get(name);
    // Without a leader nothing was committed since, but what does not wait for the disk may be lost all the same.
    let cached = topic.is_some() && differs(WRITE_CACHING);
    if !cached && !differs(MIN_INSYNC) {
        return None;
    }
    let any = |topic: &Arc<Topic>| topic.partitions.iter().any(|partition| partition.elr().next().is_some());
    let concerned = match topic {
        Some(id) => image.topic_by_id(id).is_some_and(any),
        None => image.topics().any(any),
    };
    concerned.then_some(Record::ClearElr { topic, led: !cached })
}

fn difference(owner: &Owner, now: &Overrides, next: &Overrides) -> Vec<Record> {
    let record = |name: &String, value: Option<&String>| Record::Config {
        owner: owner.clone(),
        name: name.clone(),
        value: value.cloned(),
    };
    let set = next.iter().filter(|(name, value)| now.get(*name) != Some(value));
    let gone = now.keys().filter(|name| !next.contains_key(*name));
    set.map(|(name, value)| record(name, Some(value))).chain(gone.map(|name| record(name, None))).collect()
}
