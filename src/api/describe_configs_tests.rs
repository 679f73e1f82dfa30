use super::super::common::testing::{controller, round_trip};
use super::*;
use crate::controller::{ConfigChange, ConfigOp, ConfigResource, ControlRequest, Desk};

fn set(controller: &mut Desk, resource: ConfigResource, name: &str, value: &str) {
    let change = ConfigChange { name: name.into(), op: ConfigOp::Set(value.into()) };
    let resources = vec![(resource, vec![change])];
    controller.handle(&ControlRequest::IncrementalAlterConfigs { resources, validate_only: false });
}

fn request(resource_type: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsRequest {
    build(|r: &mut DescribeConfigsRequest| {
        r.include_synonyms = true;
        r.resources = vec![build(|resource: &mut DescribeConfigsResource| {
            resource.resource_type = resource_type;
            resource.resource_name = name.into();
            resource.configuration_keys = keys.map(|keys| keys.iter().map(|k| (*k).into()).collect());
        })];
    })
}

fn ask(controller: &Desk, request: &DescribeConfigsRequest) -> DescribeConfigsResult {
    let response = answer(&controller.image(), &BrokerSettings::default(), request, 4);
    round_trip(&response, 4).results.remove(0)
}

/// `source:name=value` of each synonym.
fn synonyms(config: &DescribeConfigsResourceResult) -> Vec<String> {
    let shown =
        |s: &DescribeConfigsSynonym| format!("{}:{}={}", s.source, s.name, s.value.as_deref().unwrap());
    config.synonyms.iter().map(shown).collect()
}

#[test]
fn every_version_can_carry_everything() {
    let controller = controller(&[("a", 1)]);
    for version in 1..=4 {
        for (resource_type, name) in [(TOPIC, "a"), (BROKER, "1"), (BROKER, "")] {
            let mut request = request(resource_type, name, None);
            request.include_documentation = version >= 3;
            let response = answer(&controller.image(), &BrokerSettings::default(), &request, version);
            let result = round_trip(&response, version).results.remove(0);
            assert_eq!(result.error_code, 0);
            assert_eq!(result.configs.is_empty(), name.is_empty());
            if version >= 3 {
                assert!(result.configs.iter().all(|c| c.config_type > 0 && c.documentation.is_some()));
            }
        }
    }
}

#[test]
fn a_topics_values_come_from_the_nearest_source() {
    let mut controller = controller(&[("a", 1)]);
    let topic = || ConfigResource::Topic("a".into());
    set(&mut controller, ConfigResource::Broker(None), "log.retention.ms", "3");
    set(&mut controller, ConfigResource::Broker(Some(1)), "log.retention.ms", "2");
    set(&mut controller, topic(), "retention.ms", "1");
    set(&mut controller, topic(), "write.caching", "true");
    let keys = ["retention.ms", "segment.ms", "write.caching", "remote.storage.enable"];
    let result = ask(&controller, &request(TOPIC, "a", Some(&keys)));
    let found: Vec<_> = result
        .configs
        .iter()
        .map(|c| (&*c.name, c.value.as_deref().unwrap(), c.config_source, c.config_type))
        .collect();
    assert_eq!(
        found,
        [
            ("remote.storage.enable", "false", FROM_DEFAULT, 1),
            ("retention.ms", "1", FROM_TOPIC, 5),
            ("segment.ms", "604800000", FROM_DEFAULT, 5),
            ("write.caching", "true", FROM_TOPIC, 1),
        ]
    );
    assert_eq!(
        synonyms(&result.configs[1]),
        ["1:retention.ms=1", "2:log.retention.ms=2", "3:log.retention.ms=3", "5:log.retention.hours=168"]
    );
    assert!(synonyms(&result.configs[2]).is_empty(), "as Kafka: only the hours say it");
    assert!(result.configs[0].synonyms.is_empty());
}

#[test]
fn a_broker_shows_what_it_runs_with() {
    let mut controller = controller(&[]);
    set(&mut controller, ConfigResource::Broker(None), "log.segment.bytes", "2000000");
    let result = ask(&controller, &request(BROKER, "1", Some(&["num.partitions", "log.segment.bytes"])));
    let found: Vec<_> = result
        .configs
        .iter()
        .map(|c| (&*c.name, c.value.as_deref().unwrap(), c.config_source, c.read_only))
        .collect();
    assert_eq!(
        found,
        [
            ("log.segment.bytes", "2000000", FROM_EVERY_BROKER, false),
            ("num.partitions", "1", FROM_DEFAULT, true)
        ]
    );
    let result = ask(&controller, &request(BROKER, "", None));
    assert_eq!(result.configs.len(), 1);
    let settings = BrokerSettings { num_partitions: 6, ..BrokerSettings::default() };
    let response =
        answer(&controller.image(), &settings, &request(BROKER, "1", Some(&["num.partitions"])), 4);
    assert_eq!(synonyms(&response.results[0].configs[0]), ["4:num.partitions=6", "5:num.partitions=1"]);
}

#[test]
fn what_cannot_be_described_says_why() {
    let controller = controller(&[]);
    let cases = [
        (TOPIC, "nope", 3),
        (TOPIC, "not valid", 17),
        (BROKER, "7", 42),
        (BROKER, "x", 42),
        (BROKER_LOGGER, "1", 42),
        (CLIENT_METRICS, "", 42),
        (GROUP, "", 42),
        (99, "group", 42),
        (0, "", 42),
    ];
    for (resource_type, name, code) in cases {
        let result = ask(&controller, &request(resource_type, name, None));
        assert_eq!(result.error_code, code, "{resource_type} {name}");
        assert!(result.error_message.is_some());
    }
    assert_eq!(ask(&controller, &request(CLIENT_METRICS, "x", None)).error_code, 0);
    let mut twice = request(BROKER, "1", None);
    twice.resources.push(twice.resources[0].clone());
    let response = answer(&controller.image(), &BrokerSettings::default(), &twice, 4);
    assert_eq!(response.results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [0, 0]);
    twice.resources.extend(vec![twice.resources[0].clone(); 200]);
    let many = answer(&controller.image(), &BrokerSettings::default(), &twice, 4);
    assert_eq!(many.results.iter().filter(|r| r.error_code == 0).count(), 101, "a bounded answer");
    twice.resources.truncate(1);
    twice.resources.push(request(99, "x", None).resources.remove(0));
    let unknown = answer(&controller.image(), &BrokerSettings::default(), &twice, 4);
    assert!(unknown.results.iter().all(|r| r.error_code == 42), "nothing is told beside what makes no sense");
}
