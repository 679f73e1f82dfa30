//! Topics and their configuration.

use std::time::Duration;

use kafka_wire::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_wire::delete_topics_request::DeleteTopicState;
use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use kafka_wire_core::StrBytes;

use super::{Client, ClientError, KafkaError, TopicInfo, message};

const TIMEOUT_MS: i32 = 30_000;
/// Kafka's number for "a topic" where a resource is named.
const RESOURCE_TOPIC: i8 = 2;
/// Kafka's number for a configuration set on the topic itself.
const SOURCE_TOPIC: i8 = 1;

#[derive(Clone, Debug, Default)]
pub struct NewTopic {
    pub name: String,
    /// `None` leaves it to the broker.
    pub partitions: Option<i32>,
    pub replication_factor: Option<i16>,
    pub configs: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub struct CreatedTopic {
    pub name: String,
    /// −1 from a broker too old to say.
    pub partitions: i32,
}

#[derive(Clone, Debug)]
pub struct ConfigEntry {
    pub name: String,
    pub value: Option<String>,
    /// Set on the topic itself rather than inherited.
    pub overridden: bool,
    pub sensitive: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOp {
    Set(String),
    /// Back to the default.
    Delete,
}

impl Client {
    pub fn create_topic(&mut self, topic: &NewTopic) -> Result<CreatedTopic, ClientError> {
        let request = message::<CreateTopicsRequest>(|r| {
            r.timeout_ms = TIMEOUT_MS;
            r.topics = vec![message::<CreatableTopic>(|t| {
                t.name = StrBytes::from(topic.name.as_str());
                t.num_partitions = topic.partitions.unwrap_or(-1);
                t.replication_factor = topic.replication_factor.unwrap_or(-1);
                t.configs = topic.configs.iter().map(creatable_config).collect();
            })];
        });
        let response = self.call_controller(&request)?;
        let what = format!("create topic {}", topic.name);
        let Some(answer) = response.topics.first() else { return Err(silent(what)) };
        KafkaError::check(answer.error_code, answer.error_message.as_deref())
            .map_err(ClientError::kafka(what))?;
        let created = CreatedTopic { name: topic.name.clone(), partitions: answer.num_partitions };
        self.wait_until_seen(&topic.name);
        Ok(created)
    }

    /// A cluster may answer before the broker we ask next has heard of the topic. Not an error if it
    /// takes long: the topic was created.
    fn wait_until_seen(&mut self, name: &str) {
        for _ in 0..100 {
            let led = |info: TopicInfo| info.partitions.iter().all(|p| p.leader >= 0);
            if self.topic(name, false).is_ok_and(led) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        let request = message::<DeleteTopicsRequest>(|r| {
            r.timeout_ms = TIMEOUT_MS;
            // Older versions name topics in one field, newer in the other.
            r.topic_names = vec![StrBytes::from(name)];
            r.topics = vec![message::<DeleteTopicState>(|t| t.name = Some(StrBytes::from(name)))];
        });
        let response = self.call_controller(&request)?;
        let what = format!("delete topic {name}");
        let Some(answer) = response.responses.first() else { return Err(silent(what)) };
        KafkaError::check(answer.error_code, answer.error_message.as_deref())
            .map_err(ClientError::kafka(what))?;
        self.forget(name);
        Ok(())
    }

    /// Grows a topic to `total` partitions.
    pub fn create_partitions(&mut self, name: &str, total: i32) -> Result<(), ClientError> {
        let request = message::<CreatePartitionsRequest>(|r| {
            r.timeout_ms = TIMEOUT_MS;
            r.topics = vec![message::<CreatePartitionsTopic>(|t| {
                t.name = StrBytes::from(name);
                t.count = total;
                t.assignments = None;
            })];
        });
        let response = self.call_controller(&request)?;
        let what = format!("add partitions to topic {name}");
        let Some(answer) = response.results.first() else { return Err(silent(what)) };
        KafkaError::check(answer.error_code, answer.error_message.as_deref())
            .map_err(ClientError::kafka(what))?;
        self.forget(name);
        Ok(())
    }

    /// A topic's configuration, in order of name.
    pub fn topic_configs(&mut self, name: &str) -> Result<Vec<ConfigEntry>, ClientError> {
        let request = message::<DescribeConfigsRequest>(|r| {
            r.resources = vec![message::<DescribeConfigsResource>(|resource| {
                resource.resource_type = RESOURCE_TOPIC;
                resource.resource_name = StrBytes::from(name);
                resource.configuration_keys = None;
            })];
        });
        let response = self.entry()?.call(&request)?;
        let what = format!("configuration of topic {name}");
        let Some(answer) = response.results.first() else { return Err(silent(what)) };
        KafkaError::check(answer.error_code, answer.error_message.as_deref())
            .map_err(ClientError::kafka(what))?;
        let mut entries: Vec<ConfigEntry> = answer
            .configs
            .iter()
            .map(|c| ConfigEntry {
                name: c.name.to_string(),
                value: c.value.as_ref().map(|v| v.to_string()),
                overridden: c.config_source == SOURCE_TOPIC,
                sensitive: c.is_sensitive,
            })
            .collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    pub fn alter_topic_configs(
        &mut self,
        name: &str,
        changes: &[(String, ConfigOp)],
    ) -> Result<(), ClientError> {
        let request = message::<IncrementalAlterConfigsRequest>(|r| {
            r.resources = vec![message::<AlterConfigsResource>(|resource| {
                resource.resource_type = RESOURCE_TOPIC;
                resource.resource_name = StrBytes::from(name);
                resource.configs = changes.iter().map(alterable_config).collect();
            })];
        });
        let response = self.call_controller(&request)?;
        let what = format!("configure topic {name}");
        let Some(answer) = response.responses.first() else { return Err(silent(what)) };
        KafkaError::check(answer.error_code, answer.error_message.as_deref())
            .map_err(ClientError::kafka(what))
    }
}

fn creatable_config((name, value): &(String, String)) -> CreatableTopicConfig {
    message::<CreatableTopicConfig>(|c| {
        c.name = StrBytes::from(name.as_str());
        c.value = Some(StrBytes::from(value.as_str()));
    })
}

fn alterable_config((name, op): &(String, ConfigOp)) -> AlterableConfig {
    message::<AlterableConfig>(|c| {
        c.name = StrBytes::from(name.as_str());
        (c.config_operation, c.value) = match op {
            ConfigOp::Set(value) => (0, Some(StrBytes::from(value.as_str()))),
            ConfigOp::Delete => (1, None),
        };
    })
}

pub(super) fn silent(what: String) -> ClientError {
    let message = Some("the answer does not mention it".to_owned());
    ClientError::Kafka { what, error: KafkaError { code: -1, message } }
}
