//! DescribeConfigs: what applies to a topic or a broker, and where each value comes from.

use std::collections::BTreeSet;

use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_wire::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_wire_core::StrBytes;

use super::authorize::{Rights, refusal};
use super::common::build;
use super::request::Cx;
use crate::metadata::records::Owner;
use crate::metadata::{Image, Topic};
use crate::model::BrokerSettings;
use crate::model::broker_config::{
    BrokerConfig, HIDDEN, Value, broker_config, broker_configs, static_value, synonyms,
};
use crate::model::config_def::{ConfigDef, shorten};
use crate::model::resource_configs::{CLIENT_METRICS_CONFIGS, GROUP_CONFIGS};
use crate::model::topic_config::{TOPIC_CONFIGS, topic_config};
use crate::security::{Operation, Resource};
use crate::wire::ErrorCode;

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;
const KINDS: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
/// Resources of one request that may have been described in it before.
const MOST_REPEATED: usize = 100;

const FROM_TOPIC: i8 = 1;
const FROM_BROKER: i8 = 2;
const FROM_EVERY_BROKER: i8 = 3;
const FROM_STATIC: i8 = 4;
const FROM_DEFAULT: i8 = 5;
const FROM_CLIENT_METRICS: i8 = 7;
const FROM_GROUP: i8 = 8;

/// Types and documentation are told from here on.
const TYPES_FROM: i16 = 3;

pub async fn handle(cx: &Cx, mut request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let (allowed, denied) = cx.sort(std::mem::take(&mut request.resources), |cx, resource| {
        let resource = resource_of(resource.resource_type, &resource.resource_name);
        resource.is_none_or(|resource| cx.may(Operation::DescribeConfigs, resource))
    });
    request.resources = allowed;
    let mut response = answer(&cx.shard.image(), cx.shard.settings(), &request, cx.version);
    response.results.extend(denied.into_iter().map(|resource| {
        build(|r: &mut DescribeConfigsResult| {
            r.error_code = denial(resource.resource_type).code();
            r.resource_type = resource.resource_type;
            r.resource_name = resource.resource_name;
        })
    }));
    for result in &response.results {
        cx.count(ErrorCode::from_code(result.error_code));
    }
    response
}

/// What has to be allowed for a resource's configs: those of brokers and of what they tell clients are the cluster's.
/// `None` for a type that nobody knows.
pub fn resource_of(resource_type: i8, name: &str) -> Option<Resource<'_>> {
    match resource_type {
        TOPIC => Some(Resource::Topic(name)),
        GROUP => Some(Resource::Group(name)),
        BROKER | BROKER_LOGGER | CLIENT_METRICS => Some(Resource::Cluster),
        _ => None,
    }
}

pub fn denial(resource_type: i8) -> ErrorCode {
    resource_of(resource_type, "").map_or(ErrorCode::InvalidRequest, |resource| refusal(resource.kind()))
}

/// One config: its sources from the nearest on, the first of which applies.
pub struct Entry {
    pub def: ConfigDef,
    read_only: bool,
    sources: Vec<Source>,
}

struct Source {
    from: i8,
    name: &'static str,
    value: String,
}

impl Entry {
    /// `None` where nothing says otherwise and the default is not to be set, and for what nobody is shown.
    pub fn value(&self) -> Option<&str> {
        let value = self.sources.first().map(|source| source.value.as_str()).or(self.def.default);
        value.filter(|_| !self.def.is_sensitive())
    }

    pub fn source(&self) -> i8 {
        self.sources.first().map_or(FROM_DEFAULT, |source| source.from)
    }
}

/// Everything that applies to a topic, by name.
pub fn topic_entries(image: &Image, settings: &BrokerSettings, topic: &Topic) -> Vec<Entry> {
    let hidden = topic.overrides.keys().filter_map(|name| topic_config(name));
    let hidden = hidden.filter(|def| !TOPIC_CONFIGS.iter().any(|known| known.name == def.name));
    let entry = |def: &ConfigDef| {
        let own = topic.overrides.get(def.name);
        let own = own.map(|value| Source { from: FROM_TOPIC, name: def.name, value: value.clone() });
        let inherited = def.broker_name.into_iter().flat_map(|name| broker_sources(image, settings, name));
        Entry { def: *def, read_only: false, sources: own.into_iter().chain(inherited).collect() }
    };
    TOPIC_CONFIGS.iter().chain(hidden).map(entry).collect()
}

/// What says anything about a broker config: itself or one that means the same, at each level.
fn broker_sources(image: &Image, settings: &BrokerSettings, name: &'static str) -> Vec<Source> {
    let alike = [synonyms(name), &[name][..]];
    let names = if alike[0].is_empty() { alike[1] } else { alike[0] };
    let dynamic = |owner: Owner, from| {
        let overrides = image.overrides.get(&owner);
        let of =
            move |name: &&'static str| Some(Source { from, name, value: overrides?.get(*name)?.clone() });
        names.iter().filter_map(of)
    };
    let configs = || names.iter().filter_map(|name| broker_config(name));
    let fixed = configs().filter_map(|config| {
        let value = static_value(settings, config)?;
        // What was not configured says so, even where the settings hold the default's own value.
        let said = matches!(config.value, Value::Topic(_)) || Some(value.as_str()) != config.def.default;
        said.then_some(Source { from: FROM_STATIC, name: config.def.name, value })
    });
    let default = configs().filter_map(|config| {
        let value = config.def.default?.to_owned();
        Some(Source { from: FROM_DEFAULT, name: config.def.name, value })
    });
    let all = dynamic(Owner::Broker(settings.broker_id), FROM_BROKER)
        .chain(dynamic(Owner::EveryBroker, FROM_EVERY_BROKER))
        .chain(fixed)
        .chain(default);
    // As Kafka has it: where only one that means the same is set, nothing is said.
    all.skip_while(|source| source.name != name).collect()
}

fn broker_entries(image: &Image, settings: &BrokerSettings) -> Vec<Entry> {
    let entry = |config: &BrokerConfig| Entry {
        def: config.def,
        read_only: !config.is_dynamic(),
        sources: broker_sources(image, settings, config.def.name),
    };
    let all = broker_configs().iter().map(entry);
    let is_set = |entry: &Entry| entry.source() != FROM_DEFAULT;
    all.chain(HIDDEN.iter().map(entry).filter(is_set)).collect()
}

/// What was set on a group, over what the broker says of groups.
fn group_entries(image: &Image, settings: &BrokerSettings, group: &str) -> Vec<Entry> {
    let overrides = image.overrides.get(&Owner::Group(group.to_owned()));
    let entry = |def: &ConfigDef| {
        let own = overrides.and_then(|overrides| overrides.get(def.name));
        let own = own.map(|value| Source { from: FROM_GROUP, name: def.name, value: value.clone() });
        let inherited = match broker_config(&format!("group.{}", def.name)) {
            Some(config) => broker_sources(image, settings, config.def.name),
            None => {
                let default = def.default.unwrap_or_default().to_owned();
                vec![Source { from: FROM_DEFAULT, name: def.name, value: default }]
            }
        };
        Entry { def: *def, read_only: false, sources: own.into_iter().chain(inherited).collect() }
    };
    GROUP_CONFIGS.iter().map(entry).collect()
}

fn subscription_entries(image: &Image, name: &str) -> Vec<Entry> {
    let overrides = image.overrides.get(&Owner::ClientMetrics(name.to_owned()));
    let entry = |def: &ConfigDef| {
        let own = overrides.and_then(|overrides| overrides.get(def.name));
        let own = own.map(|value| Source { from: FROM_CLIENT_METRICS, name: def.name, value: value.clone() });
        Entry { def: *def, read_only: false, sources: own.into_iter().collect() }
    };
    CLIENT_METRICS_CONFIGS.iter().map(entry).collect()
}

/// Only what was set for all brokers.
fn every_broker_entries(image: &Image) -> Vec<Entry> {
    let Some(overrides) = image.overrides.get(&Owner::EveryBroker) else { return Vec::new() };
    let entry = |(name, value): (&String, &String)| {
        let def = broker_config(name)?.def;
        let source = Source { from: FROM_EVERY_BROKER, name: def.name, value: value.clone() };
        Some(Entry { def, read_only: false, sources: vec![source] })
    };
    overrides.iter().filter_map(entry).collect()
}

fn entries(
    image: &Image,
    settings: &BrokerSettings,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Entry>, (ErrorCode, String)> {
    let refuse = |why: String| Err((ErrorCode::InvalidRequest, why));
    let name = &*resource.resource_name;
    match resource.resource_type {
        TOPIC => match image.topic(name) {
            Some(topic) => Ok(topic_entries(image, settings, topic)),
            None => match crate::metadata::names::check_topic_name(name) {
                Ok(()) => Err((
                    ErrorCode::UnknownTopicOrPartition,
                    "This server does not host this topic-partition.".into(),
                )),
                Err(why) => Err((ErrorCode::InvalidTopicException, why)),
            },
        },
        BROKER if name.is_empty() => Ok(every_broker_entries(image)),
        BROKER => match name.parse::<i32>() {
            Ok(id) if id == settings.broker_id => Ok(broker_entries(image, settings)),
            Ok(id) => refuse(format!(
                "Unexpected broker id, expected {} or empty string, but received {id}",
                settings.broker_id
            )),
            Err(_) => refuse(format!("Broker id must be an integer, but it is: {}", shorten(name))),
        },
        BROKER_LOGGER => refuse("This broker has no loggers that a client could read or set.".into()),
        CLIENT_METRICS if name.is_empty() => {
            refuse("Client metrics subscription name must not be empty".into())
        }
        CLIENT_METRICS => Ok(subscription_entries(image, name)),
        GROUP if name.is_empty() => refuse("Group name must not be empty".into()),
        GROUP => Ok(group_entries(image, settings, name)),
        other => refuse(format!("Unsupported resource type: {other}")),
    }
}

fn answer(
    image: &Image,
    settings: &BrokerSettings,
    request: &DescribeConfigsRequest,
    version: i16,
) -> DescribeConfigsResponse {
    let unknown = request.resources.iter().find(|resource| !KINDS.contains(&resource.resource_type));
    // A small request that names one resource many times must not have a huge answer.
    let (mut seen, mut repeated) = (BTreeSet::new(), 0);
    let mut found = |resource: &DescribeConfigsResource| {
        if let Some(unknown) = unknown {
            let why = format!("Unsupported resource type: {}", unknown.resource_type);
            return Err((ErrorCode::InvalidRequest, why));
        }
        repeated += usize::from(!seen.insert((resource.resource_type, resource.resource_name.clone())));
        if repeated > MOST_REPEATED {
            return Err((ErrorCode::InvalidRequest, "Too many resources appear more than once.".into()));
        }
        entries(image, settings, resource)
    };
    let one = |resource: &DescribeConfigsResource| {
        build(|r: &mut DescribeConfigsResult| {
            r.resource_type = resource.resource_type;
            r.resource_name = resource.resource_name.clone();
            match found(resource) {
                Ok(entries) => {
                    let wanted = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
                    let asked =
                        |entry: &Entry| wanted.is_none_or(|k| k.iter().any(|k| **k == *entry.def.name));
                    let shown = entries.into_iter().filter(asked);
                    r.configs = shown.map(|entry| described(entry, request, version)).collect();
                }
                Err((code, why)) => {
                    r.error_code = code.code();
                    r.error_message = Some(why.into());
                }
            }
        })
    };
    build(|r: &mut DescribeConfigsResponse| r.results = request.resources.iter().map(one).collect())
}

fn described(entry: Entry, request: &DescribeConfigsRequest, version: i16) -> DescribeConfigsResourceResult {
    build(|c: &mut DescribeConfigsResourceResult| {
        c.name = StrBytes::from(entry.def.name);
        c.value = entry.value().map(StrBytes::from);
        c.is_sensitive = entry.def.is_sensitive();
        c.read_only = entry.read_only;
        c.config_source = entry.source();
        if request.include_synonyms {
            c.synonyms = entry.sources.iter().map(|source| synonym(&entry.def, source)).collect();
        }
        if version >= TYPES_FROM {
            c.config_type = entry.def.kind as i8;
            if request.include_documentation {
                c.documentation = Some(StrBytes::from(entry.def.documentation().as_str()));
            }
        }
    })
}

fn synonym(def: &ConfigDef, source: &Source) -> DescribeConfigsSynonym {
    build(|s: &mut DescribeConfigsSynonym| {
        s.name = StrBytes::from(source.name);
        s.value = (!def.is_sensitive()).then(|| StrBytes::from(source.value.as_str()));
        s.source = source.from;
    })
}

#[cfg(test)]
#[path = "describe_configs_tests.rs"]
mod tests;
