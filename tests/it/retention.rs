//! What retention leaves of a topic, whatever the times of its records. `WEIR_TEST_BROKER` may be Apache Kafka with
//! `log.retention.check.interval.ms` and `log.initial.task.delay.ms` of half a second.

use std::net::SocketAddr;
use std::time::Duration;

use kafka_wire::IncrementalAlterConfigsRequest;
use kafka_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};

use crate::support::batch::{at_times, bytes_of, encoded, now_ms};
use crate::support::broker::{external, needs_own_broker};
use crate::support::calls::*;
use crate::support::*;

const MINUTE: i64 = 60_000;
const LIMIT: Duration = Duration::from_secs(60);

/// A broker that looks for old segments several times a second.
fn keen() -> (Option<Broker>, SocketAddr) {
    if let Some(addr) = external() {
        return (None, addr);
    }
    let args = vec!["--retention-check-interval", "200ms"];
    let broker = Broker::start_with(Options { args, ..Options::default() });
    let addr = broker.kafka;
    (Some(broker), addr)
}

fn set(wire: &mut Wire, topic: &Topic, configs: &[(&str, &str)]) {
    let config = |&(name, value): &(&str, &str)| {
        msg!(AlterableConfig { name: name.into(), config_operation: 0, value: Some(value.into()) })
    };
    let resource = msg!(AlterConfigsResource {
        resource_type: 2,
        resource_name: topic.name.as_str().into(),
        configs: configs.iter().map(config).collect(),
    });
    let reply = wire.call(1, &msg!(IncrementalAlterConfigsRequest { resources: vec![resource] }));
    let answer = &reply.responses[0];
    assert_eq!(answer.error_code, 0, "{configs:?}: {:?}", answer.error_message);
}

/// Where the log starts and ends.
fn bounds(wire: &mut Wire, topic: &Topic) -> (i64, i64) {
    let mut at = |special| {
        let found = list_offset(wire, 7, &topic.name, 0, special);
        assert_eq!(found.error_code, 0, "{}", topic.name);
        found.offset
    };
    (at(-2), at(-1))
}

#[derive(Clone, Copy)]
enum Batch {
    /// One record of this age, in milliseconds; younger than now if negative.
    Aged(i64),
    /// One record without a time.
    Timeless,
    /// One record of now, this large.
    Large(usize),
}

struct Row {
    what: &'static str,
    created: &'static [(&'static str, &'static str)],
    batches: &'static [Batch],
    then: &'static [(&'static str, &'static str)],
    /// How many of the batches go.
    gone: i64,
}

use Batch::{Aged, Large, Timeless};

const BROKERS_TIME: (&str, &str) = ("message.timestamp.type", "LogAppendTime");
const SMALL: (&str, &str) = ("segment.bytes", "1048576");
const NOW: Batch = Aged(0);

#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row { what: "old", created: &[], batches: &[Aged(MINUTE), Aged(MINUTE)], then: &[("retention.ms", "1000")], gone: 2 },
    Row { what: "old by a little", created: &[], batches: &[NOW], then: &[("retention.ms", "1")], gone: 1 },
    Row { what: "no time to stay", created: &[], batches: &[NOW, NOW, NOW], then: &[("retention.ms", "0")], gone: 3 },
    Row { what: "no room to stay", created: &[], batches: &[NOW, Aged(-50 * MINUTE)], then: &[("retention.bytes", "0")], gone: 2 },
    Row { what: "of 1970", created: &[], batches: &[Aged(i64::MAX)], then: &[("retention.ms", "604800000")], gone: 1 },
    Row { what: "not old", created: &[], batches: &[Aged(MINUTE)], then: &[("retention.ms", "600000")], gone: 0 },
    Row { what: "without limits", created: &[], batches: &[Aged(i64::MAX)], then: &[("retention.ms", "-1"), ("retention.bytes", "-1")], gone: 0 },
    Row { what: "a future record keeps its segment", created: &[], batches: &[Aged(MINUTE), Aged(-50 * MINUTE)], then: &[("retention.ms", "1")], gone: 0 },
    Row { what: "a future record rolls", created: &[("segment.ms", "600000")], batches: &[Aged(MINUTE), Aged(MINUTE), Aged(-50 * MINUTE)], then: &[("retention.ms", "1")], gone: 2 },
    Row { what: "only what is older goes", created: &[("segment.ms", "600000")], batches: &[Aged(60 * MINUTE), Aged(40 * MINUTE), Aged(20 * MINUTE), NOW], then: &[("retention.ms", "1800000")], gone: 2 },
    Row { what: "an old record behind a new one stays with it", created: &[("segment.ms", "600000")], batches: &[NOW, Aged(60 * MINUTE)], then: &[("retention.ms", "1800000")], gone: 0 },
    Row { what: "without a time, by the last write", created: &[], batches: &[Timeless, Timeless], then: &[("retention.ms", "1")], gone: 2 },
    Row { what: "without a time, but just written", created: &[], batches: &[Timeless], then: &[("retention.ms", "600000")], gone: 0 },
    Row { what: "the broker's time, of old records", created: &[BROKERS_TIME], batches: &[Aged(i64::MAX)], then: &[("retention.ms", "600000")], gone: 0 },
    Row { what: "the broker's time, of future records", created: &[BROKERS_TIME], batches: &[Aged(-50 * MINUTE), Timeless], then: &[("retention.ms", "1")], gone: 2 },
    Row { what: "one segment is more than nothing", created: &[], batches: &[Large(1000)], then: &[("retention.bytes", "1")], gone: 0 },
    Row { what: "all but the last segment", created: &[SMALL], batches: &[Large(700_000), Large(700_000), Large(700_000)], then: &[("retention.bytes", "1")], gone: 2 },
    Row { what: "as many segments as fit", created: &[SMALL], batches: &[Large(700_000), Large(700_000), Large(700_000)], then: &[("retention.bytes", "1400000")], gone: 1 },
    Row { what: "by a full index", created: &[("segment.index.bytes", "24"), ("index.interval.bytes", "0")], batches: &[Aged(60 * MINUTE), Aged(50 * MINUTE), Aged(40 * MINUTE), NOW], then: &[("retention.ms", "1800000")], gone: 2 },
    Row { what: "compaction only", created: &[], batches: &[Aged(MINUTE)], then: &[("cleanup.policy", "compact"), ("retention.ms", "0"), ("retention.bytes", "0")], gone: 0 },
];

fn produce_row(wire: &mut Wire, topic: &Topic, batches: &[Batch]) {
    let now = now_ms();
    for batch in batches {
        let records = match batch {
            Aged(age) => bytes_of(&at_times(&[now.saturating_sub(*age).max(0)])),
            Timeless => bytes_of(&at_times(&[-1])),
            Large(bytes) => encoded(["x".repeat(*bytes)]),
        };
        produce(wire, topic, records);
    }
}

#[test]
fn what_is_old_or_too_much_goes() {
    let (_broker, addr) = keen();
    let mut wire = Wire::connect(addr);
    let topics: Vec<_> = ROWS
        .iter()
        .map(|row| {
            let kept = [row.created, &[("retention.ms", "-1"), ("file.delete.delay.ms", "100")]].concat();
            let topic = create(&mut wire, "retained", 1, &kept);
            produce_row(&mut wire, &topic, row.batches);
            topic
        })
        .collect();
    let rows: Vec<_> = ROWS.iter().zip(&topics).collect();
    rows.iter().for_each(|(row, topic)| set(&mut wire, topic, row.then));
    // After a whole round more over all topics, nothing else goes.
    for (row, topic) in rows.iter().rev().filter(|(row, _)| row.gone > 0) {
        eventually(row.what, LIMIT, || bounds(&mut wire, topic).0 >= row.gone);
    }
    for _ in 0..2 {
        let mark = create(&mut wire, "mark", 1, &[("retention.ms", "1")]);
        produce(&mut wire, &mark, encoded(["m"]));
        eventually("a round of retention", LIMIT, || bounds(&mut wire, &mark).0 == 1);
    }
    for (row, topic) in rows {
        let count = row.batches.len() as i64;
        assert_eq!(bounds(&mut wire, topic), (row.gone, count), "{}", row.what);
        let gone = Fetch { offset: 0, ..Fetch::default() }.run(&mut wire, topic);
        if row.gone > 0 {
            assert_eq!(gone.error_code, code::OFFSET_OUT_OF_RANGE, "{}", row.what);
        }
        assert_eq!(read_from(&mut wire, topic, 0, row.gone).len() as i64, count - row.gone, "{}", row.what);
        set(
            &mut wire,
            topic,
            &[("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")],
        );
        assert_eq!(produce(&mut wire, topic, encoded(["next"])), count, "{}", row.what);
        assert_eq!(read_from(&mut wire, topic, 0, count).len(), 1, "{}", row.what);
    }
}

#[test]
fn a_busy_topic_is_purged_up_to_its_high_watermark() {
    let (_broker, addr) = keen();
    let mut wire = Wire::connect(addr);
    let topic = create(&mut wire, "busy", 1, &[("retention.bytes", "0"), ("file.delete.delay.ms", "100")]);
    let mut purges = 0;
    let mut start = 0;
    for i in 0..4000 {
        assert_eq!(
            produce(&mut wire, &topic, encoded([vec![b'b'; 2000]])),
            i,
            "no offset twice, none left out"
        );
        let read = Fetch { offset: i, ..Fetch::default() }.run(&mut wire, &topic);
        assert!(matches!(read.error_code, 0 | code::OFFSET_OUT_OF_RANGE), "{}", read.error_code);
        if read.error_code == 0 {
            assert!(read.log_start_offset <= read.high_watermark, "{read:?}");
            assert!(read.log_start_offset >= start, "the log start never falls: {read:?}");
            purges += i32::from(read.log_start_offset > start);
            start = read.log_start_offset;
        }
        if purges >= 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(purges >= 3, "the log start stays at {start}");
    eventually("what came last goes too", LIMIT, || {
        let (start, end) = bounds(&mut wire, &topic);
        start == end
    });
}

#[test]
fn a_purge_outlives_kill_9() {
    if needs_own_broker() {
        return;
    }
    let args = vec!["--retention-check-interval", "50ms"];
    let mut broker = Broker::start_with(Options { args, ..Options::default() });
    let mut wire = Wire::connect(broker.kafka);
    let topic = create(&mut wire, "purged", 1, &[("file.delete.delay.ms", "10")]);
    let mut end = 0;
    for round in 0..8u64 {
        for _ in 0..20 {
            assert_eq!(produce(&mut wire, &topic, encoded([vec![b'p'; 3000]])), end, "round {round}");
            end += 1;
        }
        set(&mut wire, &topic, &[("retention.bytes", "0")]);
        // Some of the kills come before, some amid, some after what retention does.
        std::thread::sleep(Duration::from_millis(round * 25));
        broker.kill();
        broker.restart();
        wire = Wire::connect(broker.kafka);
        let (start, found) = bounds(&mut wire, &topic);
        assert!(start <= found && found == end, "round {round}: {start} to {found}, not {end}");
        assert_eq!(read_from(&mut wire, &topic, 0, found), []);
        eventually("the purge goes on", LIMIT, || bounds(&mut wire, &topic) == (end, end));
        set(&mut wire, &topic, &[("retention.bytes", "-1")]);
    }
    broker.assert_healthy();
}
