//! Configs of brokers: what they are called, who may change them, and that what is changed holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use kafka_wire::describe_configs_request::DescribeConfigsResource;
use kafka_wire::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_wire::incremental_alter_configs_request as incremental;
use kafka_wire::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::{
    ApiVersionsRequest, DescribeConfigsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    JoinGroupRequest,
};

use crate::support::batch::encoded;
use crate::support::broker::{external, free_port, metric_total, needs_own_broker, refused, serve};
use crate::support::calls::{Topic, code, create, produce, produce_at};
use crate::support::{Broker, Options, Wire, eventually, msg, shared, unique};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
/// Topic configs that Kafka does not have.
const OURS: [&str; 2] = ["record.validation", "write.caching"];
const SOON: Duration = Duration::from_secs(20);

/// What Kafka answers: resource, name, type, default, whether it is sensitive, who may change it.
const FACTS: &str = include_str!("../data/kafka-4.3.1-configs.tsv");

fn facts(of: &str) -> BTreeMap<&'static str, [&'static str; 4]> {
    let rows = FACTS.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [resource, name, kind, default, sensitive, changes] = columns[..] else { panic!("{line}") };
        (resource, name, [kind, default, sensitive, changes])
    });
    rows.filter(|(resource, ..)| *resource == of).map(|(_, name, rest)| (name, rest)).collect()
}

fn describe(wire: &mut Wire, kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResult {
    let resource = msg!(DescribeConfigsResource {
        resource_type: kind,
        resource_name: name.into(),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| (*key).into()).collect()),
    });
    let request = msg!(DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: true,
    });
    wire.call(4, &request).results.remove(0)
}

/// `source:name=value` of each synonym.
fn synonyms(config: &DescribeConfigsResourceResult) -> Vec<String> {
    let one = config.synonyms.iter();
    one.map(|s| format!("{}:{}={}", s.source, s.name, s.value.as_deref().unwrap_or("-"))).collect()
}

fn one(wire: &mut Wire, kind: i8, name: &str, key: &str) -> DescribeConfigsResourceResult {
    describe(wire, kind, name, Some(&[key])).configs.remove(0)
}

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;

/// The error's code and what it says.
fn alter(wire: &mut Wire, kind: i8, owner: &str, op: i8, key: &str, value: &str, dry: bool) -> (i16, String) {
    let config = msg!(incremental::AlterableConfig {
        name: key.into(),
        config_operation: op,
        value: (op != DELETE).then(|| value.into()),
    });
    let resource = msg!(incremental::AlterConfigsResource {
        resource_type: kind,
        resource_name: owner.into(),
        configs: vec![config],
    });
    let request = msg!(IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: dry });
    let response = wire.call(1, &request).responses.remove(0);
    (response.error_code, response.error_message.map(|m| m.to_string()).unwrap_or_default())
}

pub fn set(wire: &mut Wire, owner: &str, key: &str, value: &str) {
    let answer = alter(wire, BROKER, owner, SET, key, value, false);
    assert_eq!(answer.0, code::NONE, "{key}={value}: {}", answer.1);
}

#[test]
fn every_config_of_kafkas_is_described() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "described", 1, &[]);
    for (kind, owner, of) in [
        (TOPIC, topic.name.as_str(), "topic"),
        (BROKER, "1", "broker"),
        (GROUP, "described", "group"),
        (CLIENT_METRICS, "described", "client_metrics"),
    ] {
        let result = describe(&mut wire, kind, owner, None);
        assert_eq!(result.error_code, code::NONE, "{of}");
        let known = facts(of);
        let names: BTreeSet<&str> = result.configs.iter().map(|config| config.name.as_str()).collect();
        let missing: Vec<_> = known.keys().filter(|name| !names.contains(*name)).collect();
        assert!(missing.is_empty(), "{of}: {missing:?}");
        for config in &result.configs {
            let name = config.name.as_str();
            let Some([kind, default, sensitive, changes]) = known.get(name) else {
                assert!(of == "topic" && OURS.contains(&name), "{of}: {name}");
                continue;
            };
            assert_eq!(type_name(config.config_type), *kind, "{name}");
            assert_eq!(config.is_sensitive, *sensitive == "sensitive", "{name}");
            assert!(config.documentation.as_ref().is_some_and(|doc| !doc.is_empty()), "{name}");
            let stands_fast = external().is_none() && name.starts_with("listener");
            assert_eq!(config.read_only, of == "broker" && (*changes == "no" || stands_fast), "{name}");
            let told = synonyms(config);
            let last = format!("5:{name}={default}");
            let shown = *default != "\\N" && of == "broker" && !name.starts_with("log.dir");
            assert!(!shown || told.last() == Some(&last), "{name}: {told:?}, and not {last}");
            if *sensitive == "sensitive" {
                assert_eq!(config.value, None, "{name}");
            }
        }
    }
}

fn type_name(code: i8) -> &'static str {
    let names =
        ["UNKNOWN", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"];
    names[code as usize]
}

/// Nothing is changed: each is only tried.
#[test]
fn brokers_refuse_what_kafkas_refuse() {
    let mut wire = Wire::connect(shared());
    for (owner, op, key, value, error) in [
        ("", SET, "log.retention.ms", "-1", code::NONE),
        ("1", SET, "log.retention.ms", "1000", code::NONE),
        ("", SET, "log.retention.ms", "0", code::INVALID_REQUEST),
        ("", SET, "log.retention.ms", "x", code::INVALID_REQUEST),
        ("", SET, "log.retention.hours", "5", code::INVALID_REQUEST),
        ("", SET, "log.segment.bytes", "1000", code::INVALID_REQUEST),
        ("", SET, "log.roll.ms", "0", code::INVALID_REQUEST),
        ("", SET, "log.cleanup.policy", "compact,compact", code::NONE),
        ("", SET, "log.cleanup.policy", "shred", code::INVALID_REQUEST),
        ("", APPEND, "log.cleanup.policy", "compact", code::NONE),
        ("", APPEND, "log.retention.ms", "5", code::INVALID_CONFIG),
        ("", APPEND, "no.such", "5", code::INVALID_CONFIG),
        ("", SET, "group.min.session.timeout.ms", "5", code::INVALID_REQUEST),
        ("", SET, "num.partitions", "5", code::INVALID_REQUEST),
        ("1", SET, "broker.id", "1", code::INVALID_REQUEST),
        ("1", DELETE, "broker.id", "", code::NONE),
        ("1", SET, "ssl.keystore.location", "/x", code::INVALID_REQUEST),
        ("1", SET, "sasl.kerberos.service.name", "kafka", code::NONE),
        ("", SET, "sasl.kerberos.service.name", "kafka", code::INVALID_REQUEST),
        ("", SET, "listeners", "PLAINTEXT://127.0.0.1:1", code::INVALID_REQUEST),
        ("", SET, "num.io.threads", "17", code::INVALID_REQUEST),
        ("", SET, "num.io.threads", "16", code::NONE),
        ("", SET, "num.io.threads", "0", code::INVALID_REQUEST),
        ("", SET, "log.cleaner.threads", "3", code::INVALID_REQUEST),
        ("", SET, "log.cleaner.backoff.ms", "5", code::NONE),
        ("", SET, "log.cleaner.dedupe.buffer.size", "1000", code::INVALID_REQUEST),
        ("", SET, "log.cleaner.io.max.bytes.per.second", "1.5", code::NONE),
        ("", SET, "max.connections", "0", code::INVALID_REQUEST),
        ("", SET, "max.connections.per.ip", "0", code::INVALID_REQUEST),
        ("", SET, "max.connections.per.ip.overrides", "127.0.0.1:5", code::NONE),
        ("", SET, "max.connections.per.ip.overrides", "127.0.0.1", code::INVALID_REQUEST),
        ("", SET, "max.connection.creation.rate", "0", code::INVALID_REQUEST),
        ("", SET, "metric.reporters", "com.example.X", code::INVALID_REQUEST),
        ("", SET, "principal.builder.class", "x", code::INVALID_REQUEST),
        ("1", SET, "cordoned.log.dirs", "/x", code::INVALID_REQUEST),
        ("", SET, "producer.id.expiration.ms", "0", code::INVALID_REQUEST),
        ("", SET, "transaction.partition.verification.enable", "no", code::INVALID_REQUEST),
        ("", SET, "log.local.retention.ms", "604800001", code::INVALID_REQUEST),
        ("", SET, "min.insync.replicas", "0", code::INVALID_REQUEST),
        ("", SET, "group.consumer.assignment.interval.ms", "20000", code::INVALID_REQUEST),
        ("", SET, "compression.type", "none", code::INVALID_REQUEST),
        ("", SET, "compression.gzip.level", "0", code::INVALID_REQUEST),
        ("2", SET, "log.retention.ms", "5", code::INVALID_REQUEST),
        ("x", SET, "log.retention.ms", "5", code::INVALID_REQUEST),
    ] {
        let (got, why) = alter(&mut wire, BROKER, owner, op, key, value, true);
        assert_eq!(got, error, "{owner:?}: {key}={value} ({op}): {why}");
    }
    let unchanged = one(&mut wire, BROKER, "1", "log.retention.ms");
    assert_eq!((unchanged.value, unchanged.config_source), (None, 5), "only tried");
}

#[test]
fn topics_take_the_values_that_kafkas_take() {
    let mut wire = Wire::connect(shared());
    let topic = create(&mut wire, "values", 1, &[]).name;
    for (key, value, error) in [
        ("cleanup.policy", "compact,compact", code::NONE),
        ("cleanup.policy", "", code::NONE),
        ("cleanup.policy", "delete,", code::INVALID_CONFIG),
        ("cleanup.policy", "Compact", code::INVALID_CONFIG),
        ("retention.ms", "-2", code::INVALID_CONFIG),
        ("retention.bytes", "-5", code::NONE),
        ("max.message.bytes", "+5", code::NONE),
        ("max.message.bytes", "0x5", code::INVALID_CONFIG),
        ("segment.bytes", "1e6", code::INVALID_CONFIG),
        ("min.cleanable.dirty.ratio", "0.5f", code::NONE),
        ("preallocate", "yes", code::INVALID_CONFIG),
        ("preallocate", "TRUE", code::NONE),
        ("compression.type", "GZIP", code::INVALID_CONFIG),
        ("remote.storage.enable", "true", code::INVALID_CONFIG),
        ("follower.replication.throttled.replicas", "*", code::NONE),
        ("follower.replication.throttled.replicas", "x", code::INVALID_CONFIG),
    ] {
        let (got, why) = alter(&mut wire, TOPIC, &topic, SET, key, value, true);
        assert_eq!(got, error, "{key}={value}: {why}");
    }
}

/// Whether a record of this size may be produced.
fn takes(wire: &mut Wire, topic: &Topic, size: usize) -> bool {
    let reply = produce_at(wire, 9, topic, 0, -1, encoded(["x".repeat(size)]));
    assert!([code::NONE, code::MESSAGE_TOO_LARGE].contains(&reply.error_code), "{}", reply.error_code);
    reply.error_code == code::NONE
}

/// What was set for this broker goes before what was set for all, that before what it was started with.
#[test]
fn a_change_holds_at_once_and_after_a_restart() {
    if needs_own_broker() {
        return;
    }
    let args = vec!["--message-max-bytes", "4KiB"];
    let mut broker = Broker::start_with(Options { args, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topics: Vec<Topic> = (0..4).map(|_| create(&mut wire, "holds", 1, &[])).collect();
    // Topics are on different shards.
    let all = |wire: &mut Wire, size| {
        let taken: Vec<bool> = topics.iter().map(|topic| takes(wire, topic, size)).collect();
        assert!(taken.iter().all(|t| *t == taken[0]), "on every shard alike: {taken:?}");
        taken[0]
    };
    assert!(all(&mut wire, 3_000) && !all(&mut wire, 5_000));
    set(&mut wire, "", "message.max.bytes", "2000");
    assert!(!all(&mut wire, 3_000));
    set(&mut wire, "1", "message.max.bytes", "10000");
    assert!(all(&mut wire, 5_000));
    let name = "message.max.bytes";
    let told = one(&mut wire, TOPIC, &topics[0].name, "max.message.bytes");
    let sources = ["2", "3", "4", "5"].into_iter().zip(["10000", "2000", "4096", "1048588"]);
    let expected: Vec<_> = sources.map(|(source, value)| format!("{source}:{name}={value}")).collect();
    assert_eq!((told.value.as_deref(), synonyms(&told)), (Some("10000"), expected));

    broker.kill();
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    assert!(all(&mut wire, 5_000), "it was kept");
    assert_eq!(alter(&mut wire, BROKER, "1", DELETE, name, "", false).0, code::NONE);
    assert!(!all(&mut wire, 3_000));
    assert_eq!(alter(&mut wire, BROKER, "", DELETE, name, "", false).0, code::NONE);
    assert!(all(&mut wire, 3_000) && !all(&mut wire, 5_000));
    broker.assert_healthy();
}

fn answers(addr: SocketAddr) -> Option<Wire> {
    let mut wire = Wire::try_connect(addr).ok()?;
    wire.send(0, &ApiVersionsRequest::default());
    wire.receive_frame().map(|_| wire)
}

#[test]
fn limits_of_connections_are_changed_while_the_broker_runs() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    set(&mut wire, "", "max.connections.per.ip", "3");
    let two = [answers(broker.kafka), answers(broker.kafka)];
    assert!(two.iter().all(Option::is_some), "three connections with that of this test");
    assert!(answers(broker.kafka).is_none(), "a fourth is closed");
    set(&mut wire, "", "max.connections.per.ip.overrides", "127.0.0.1:4");
    let fourth = answers(broker.kafka);
    assert!(fourth.is_some() && answers(broker.kafka).is_none());
    drop((two, fourth));
    eventually("the places are given back", SOON, || answers(broker.kafka).is_some());
    assert_eq!(alter(&mut wire, BROKER, "", DELETE, "max.connections.per.ip.overrides", "", false).0, 0);
    set(&mut wire, "", "max.connections", "1");
    eventually("the broker's own limit", SOON, || answers(broker.kafka).is_none());
    set(&mut wire, "1", "max.connections", "100");
    assert!(answers(broker.kafka).is_some(), "what is set for the one broker goes before");
    broker.assert_healthy();
}

#[test]
fn a_rest_between_compactions_ends_when_it_is_made_shorter() {
    if needs_own_broker() {
        return;
    }
    let broker =
        Broker::start_with(Options { args: vec!["--compaction-interval", "24h"], ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let eager = [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.01")];
    let topic = create(&mut wire, "rest", 1, &eager);
    // A segment is rolled by its records' time.
    let keyed = || {
        let mut keyed = crate::support::batch::batch(["a", "b"]);
        keyed.records.iter_mut().for_each(|record| record.key = Some("k".into()));
        crate::support::batch::bytes_of(&keyed)
    };
    produce(&mut wire, &topic, keyed());
    let passes = || metric_total(broker.admin, "weir_compaction_passes_total").unwrap_or(0.0);
    assert_eq!(passes(), 0.0);
    set(&mut wire, "", "log.cleaner.backoff.ms", "100");
    eventually("a pass", SOON, || {
        produce(&mut wire, &topic, keyed());
        passes() > 0.0
    });
}

#[test]
fn configs_without_effect_are_kept_shown_and_told() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    set(&mut wire, "", "num.replica.fetchers", "2");
    let shown = one(&mut wire, BROKER, "1", "num.replica.fetchers");
    assert_eq!((shown.value.as_deref(), shown.config_source), (Some("2"), 3));
    assert!(shown.documentation.is_some_and(|doc| doc.contains("Without effect here")));
    eventually("the log says so", SOON, || broker.log().contains("num.replica.fetchers is kept and shown"));
    broker.kill();
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(one(&mut wire, BROKER, "1", "num.replica.fetchers").value.as_deref(), Some("2"));
}

/// A member that asks for this session timeout.
fn join(wire: &mut Wire, session_timeout_ms: i32) -> i16 {
    let group = unique("sessions");
    if wire.call(1, &msg!(FindCoordinatorRequest { key: group.as_str().into() })).error_code != code::NONE {
        return -1;
    }
    let protocol = msg!(JoinGroupRequestProtocol { name: "range".into() });
    let request = msg!(JoinGroupRequest {
        group_id: group.as_str().into(),
        session_timeout_ms: session_timeout_ms,
        rebalance_timeout_ms: 1000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
    });
    wire.call(3, &request).error_code
}

#[test]
fn a_session_is_as_short_as_the_broker_lets_it_be() {
    const INVALID_SESSION_TIMEOUT: i16 = 26;
    let mut wire = Wire::connect(shared());
    eventually("a coordinator", SOON, || join(&mut wire, 10_000) == code::NONE);
    assert_eq!(join(&mut wire, 5_000), INVALID_SESSION_TIMEOUT, "Kafka's least is six seconds");
    if needs_own_broker() {
        return;
    }
    let args = vec!["--group-min-session-timeout", "1s", "--group-initial-rebalance-delay", "0ms"];
    let broker = Broker::start_with(Options { args, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    eventually("a coordinator", SOON, || join(&mut wire, 5_000) == code::NONE);
    assert_eq!(join(&mut wire, 999), INVALID_SESSION_TIMEOUT);
    let shown = one(&mut wire, BROKER, "1", "group.min.session.timeout.ms");
    let told = ["4:group.min.session.timeout.ms=1000", "5:group.min.session.timeout.ms=6000"];
    assert_eq!((shown.read_only, synonyms(&shown)), (true, told.map(String::from).to_vec()));
}

#[test]
fn facts_are_this_brokers() {
    if needs_own_broker() {
        return;
    }
    let broker = Broker::start_with(Options { args: vec!["--rack", "r1"], ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let address = format!("PLAINTEXT://{}", broker.kafka);
    let dir = broker.data_dir().join("topics").display().to_string();
    for (name, value) in [
        ("advertised.listeners", address.as_str()),
        ("listeners", &address),
        ("log.dirs", &dir),
        ("node.id", "1"),
        ("process.roles", "broker,controller"),
        ("broker.rack", "r1"),
        ("group.coordinator.rebalance.protocols", "classic"),
        // As many as there are brokers, up to this.
        ("default.replication.factor", "3"),
    ] {
        assert_eq!(one(&mut wire, BROKER, "1", name).value.as_deref(), Some(value), "{name}");
    }
}

#[test]
fn addresses_that_nobody_can_connect_to_are_not_advertised() {
    let dir = tempfile::tempdir().expect("a directory");
    for address in ["0.0.0.0:9092", "[::]:9092", "0:9092"] {
        let mut command = serve(&dir.path().join("data"), free_port(), free_port(), 1);
        refused(command.args(["--advertised", address]), 2, &["--advertised", "is every address"]);
    }
}
