//! Quotas: who is over one is told how long to wait, and not listened to meanwhile.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::alter_client_quotas_request as alter;
use kafka_wire::describe_client_quotas_request::ComponentData;
use kafka_wire::{AlterClientQuotasRequest, DescribeClientQuotasRequest, MetadataRequest};

use crate::support::batch::encoded;
use crate::support::broker::{external, http_get, needs_own_broker};
use crate::support::calls::{Fetch, Topic, create, produce_request};
use crate::support::{Broker, Wire, eventually, msg, shared, unique};

const PRODUCE: &str = "producer_byte_rate";
const FETCH: &str = "consumer_byte_rate";
const TIME: &str = "request_percentage";

/// Sets the limits of a client id, or with `None` removes them, and waits until the broker says so.
fn limit(wire: &mut Wire, client: &str, limits: &[(&str, Option<f64>)]) {
    let entity =
        msg!(alter::EntityData { entity_type: "client-id".into(), entity_name: Some(client.into()) });
    let op = |(key, value): &(&str, Option<f64>)| {
        msg!(alter::OpData { key: (*key).into(), value: value.unwrap_or_default(), remove: value.is_none() })
    };
    let entry = msg!(alter::EntryData { entity: vec![entity], ops: limits.iter().map(op).collect() });
    let reply = wire.call(1, &msg!(AlterClientQuotasRequest { entries: vec![entry] }));
    assert_eq!(reply.entries[0].error_code, 0, "{:?}", reply.entries[0].error_message);
    let component =
        msg!(ComponentData { entity_type: "client-id".into(), match_type: 0, match_: Some(client.into()) });
    let request = msg!(DescribeClientQuotasRequest { components: vec![component], strict: true });
    eventually("the quotas are told", Duration::from_secs(10), || {
        let reply = wire.call(1, &request);
        let entries = reply.entries.unwrap_or_default();
        let told: Vec<(String, f64)> =
            entries.iter().flat_map(|e| &e.values).map(|v| (v.key.to_string(), v.value)).collect();
        limits
            .iter()
            .all(|(key, value)| told.iter().find(|(told, _)| told == key).map(|(_, value)| *value) == *value)
    });
    // Kafka's broker applies a change a moment after its controller made it.
    if external().is_some() {
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn of_client(client: &str) -> Wire {
    let mut wire = Wire::connect(shared());
    wire.client = client.into();
    wire
}

fn batch() -> Bytes {
    encoded(["x".repeat(10_000)])
}

/// Produces one batch; the wait that the answer tells.
fn produce(wire: &mut Wire, topic: &Topic) -> i32 {
    let reply = wire.call(9, &produce_request(9, topic, 0, -1, batch()));
    assert_eq!(reply.responses[0].partition_responses[0].error_code, 0);
    reply.throttle_time_ms
}

#[test]
fn a_producer_over_its_quota_waits_on_every_connection() {
    let mut admin = Wire::connect(shared());
    let topic = create(&mut admin, "limited", 1, &[]);
    let client = unique("limited");
    limit(&mut admin, &client, &[(PRODUCE, Some(10_000.0))]);
    let mut wire = of_client(&client);
    // Ten seconds' worth is free.
    let waits: Vec<i32> = (0..12).map(|_| produce(&mut wire, &topic)).take_while(|wait| *wait == 0).collect();
    assert!((8..12).contains(&waits.len()), "{} batches without a wait", waits.len());
    // Being told once more starts a wait whose length is known.
    let wait = Duration::from_millis(produce(&mut wire, &topic) as u64);
    assert!((Duration::from_millis(500)..Duration::from_secs(8)).contains(&wait), "{wait:?}");
    let (told, other_told) = (Instant::now(), unique("unlimited"));
    let mut other = of_client(&other_told);
    assert_eq!(produce(&mut other, &topic), 0, "another client's quota is its own");
    assert!(told.elapsed() < Duration::from_millis(400), "and does not wait");
    std::thread::sleep(Duration::from_millis(300));
    let waits: Vec<i32> = (0..4).map(|_| produce(&mut of_client(&client), &topic)).collect();
    assert!(waits.iter().all(|wait| *wait > 0), "connections on other shards: {waits:?}");
    let left = wait.saturating_sub(told.elapsed());
    let asked = Instant::now();
    produce(&mut wire, &topic);
    assert!(asked.elapsed() + Duration::from_millis(150) >= left, "answered {left:?} too early");
    limit(&mut admin, &client, &[(PRODUCE, None)]);
    assert_eq!(produce(&mut of_client(&client), &topic), 0, "without a quota nobody waits");
}

#[test]
fn a_consumer_over_its_quota_gets_nothing_until_it_has_waited() {
    let mut admin = Wire::connect(shared());
    let topic = create(&mut admin, "limited-reads", 1, &[]);
    let client = unique("reader");
    for _ in 0..6 {
        produce(&mut admin, &topic);
    }
    limit(&mut admin, &client, &[(FETCH, Some(20_000.0))]);
    let mut wire = of_client(&client);
    let (mut given, mut wait, mut began) = (0, 0, Instant::now());
    for _ in 0..10 {
        began = Instant::now();
        let reply = wire.call(12, &Fetch::default().request(&topic));
        let bytes: usize = reply
            .responses
            .iter()
            .flat_map(|t| &t.partitions)
            .map(|p| p.records.as_ref().map_or(0, Bytes::len))
            .sum();
        given += bytes;
        wait = reply.throttle_time_ms;
        if wait > 0 {
            assert_eq!((bytes, reply.error_code), (0, 0), "nothing is given with a wait");
            break;
        }
    }
    assert!(wait > 0, "{given} bytes without a wait");
    assert!((120_000..220_000).contains(&given), "{given} bytes before the wait");
    assert!(began.elapsed() < Duration::from_millis(500), "the answer itself does not wait");
    // After the wait the same is given.
    let reply = wire.call(12, &Fetch { partition_max_bytes: 1, ..Fetch::default() }.request(&topic));
    assert!(began.elapsed() + Duration::from_millis(100) >= Duration::from_millis(wait as u64));
    assert!(reply.throttle_time_ms > 0 || !reply.responses.is_empty());
    limit(&mut admin, &client, &[(FETCH, None)]);
}

#[test]
fn a_client_that_takes_too_much_time_waits() {
    let mut admin = Wire::connect(shared());
    let client = unique("busy");
    // A quota that the first few requests use up: Kafka counts ten seconds before it makes anybody wait.
    limit(&mut admin, &client, &[(TIME, Some(0.001))]);
    let mut wire = of_client(&client);
    let request = msg!(MetadataRequest { topics: None });
    let mut waited = Duration::ZERO;
    for _ in 0..300 {
        let reply = wire.call(12, &request);
        if reply.throttle_time_ms > 0 {
            waited = Duration::from_millis(reply.throttle_time_ms as u64);
            break;
        }
    }
    assert!(waited > Duration::ZERO, "nobody waited");
    assert!(waited <= Duration::from_millis(1000), "{waited:?}");
    let told = Instant::now();
    wire.call(12, &request);
    assert!(told.elapsed() + Duration::from_millis(20) >= waited, "answered too early");
    limit(&mut admin, &client, &[(TIME, None)]);
}

#[test]
fn quotas_survive_a_restart_and_are_counted() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start();
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "kept", 1, &[]);
    limit(&mut wire, "weir-kept", &[(PRODUCE, Some(500.0))]);
    broker.kill();
    broker.restart();
    let mut wire = Wire::connect(broker.kafka);
    wire.client = "weir-kept".into();
    let produced = produce(&mut wire, &topic) + produce(&mut Wire::connect(broker.kafka), &topic);
    assert!(produced > 0, "10 kB at 0.5 kB/s");
    let (_, metrics) = http_get(broker.admin, "/metrics").expect("metrics");
    let sample = |line: &str| {
        let told = metrics.lines().filter(|l| l.starts_with(line) && l.contains(PRODUCE));
        told.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    assert_eq!(sample("weir_throttled_responses_total"), 1.0, "{metrics}");
    assert!(sample("weir_throttle_seconds_total") > 0.0);
    broker.assert_healthy();
}
