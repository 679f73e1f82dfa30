//! What brokers acknowledged, to be held against what they have. Values are `name:number`, and numbers grow by one per producer and
//! partition, so that order and repetition show in the log itself.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::config::ClientConfig;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, producer::NoCustomPartitioner};

/// What was acknowledged: (partition, offset, value).
#[derive(Default)]
pub struct Ledger {
    acked: Mutex<BTreeMap<i32, BTreeMap<i64, String>>>,
    /// Acknowledged without an offset.
    unplaced: Mutex<BTreeMap<i32, HashSet<String>>>,
    refused: Mutex<Vec<String>>,
    /// By partition, when it last acknowledged something, and how long it has been silent at most since it was asked.
    silence: Mutex<BTreeMap<i32, (Instant, Duration)>>,
}

impl Ledger {
    pub fn ack(&self, partition: i32, base: i64, values: &[String]) {
        if base < 0 {
            // librdkafka takes a later batch's acknowledgement for that of one whose answer was lost.
            let mut unplaced = self.unplaced.lock().expect("the ledger");
            return unplaced.entry(partition).or_default().extend(values.iter().cloned());
        }
        let mut acked = self.acked.lock().expect("the ledger");
        let log = acked.entry(partition).or_default();
        for (i, value) in values.iter().enumerate() {
            let before = log.insert(base + i as i64, value.clone());
            assert!(before.is_none_or(|b| b == *value), "two values acknowledged at {partition}/{base}+{i}");
        }
        let now = Instant::now();
        let mut silence = self.silence.lock().expect("silence");
        let (last, longest) = silence.entry(partition).or_insert((now, Duration::ZERO));
        (*last, *longest) = (now, (*longest).max(now - *last));
    }

    pub fn len(&self) -> usize {
        self.acked.lock().expect("the ledger").values().map(BTreeMap::len).sum()
    }

    /// How many records the partition has acknowledged that has acknowledged the fewest.
    pub fn least(&self) -> usize {
        self.acked.lock().expect("the ledger").values().map(BTreeMap::len).min().unwrap_or(0)
    }

    /// What clients gave up.
    pub fn refused(&self) -> Vec<String> {
        self.refused.lock().expect("refused").clone()
    }

    /// The longest that a partition went without acknowledging anything, since this was asked last.
    pub fn silence(&self) -> Duration {
        let mut silence = self.silence.lock().expect("silence");
        let longest = silence.values().map(|(at, longest)| at.elapsed().max(*longest)).max();
        silence.values_mut().for_each(|(_, longest)| *longest = Duration::ZERO);
        longest.unwrap_or_default()
    }

    /// Has every partition read, and holds what is there against what had been acknowledged before the reading began.
    pub fn check(&self, read: impl FnMut(i32) -> Vec<(i64, Bytes)>) {
        self.check_explained(read, |_, offset| offset.to_string());
    }

    /// The same. `explain` says of a partition's offset whose it is, where a value stands there again.
    pub fn check_explained(
        &self,
        mut read: impl FnMut(i32) -> Vec<(i64, Bytes)>,
        explain: impl Fn(i32, i64) -> String,
    ) {
        let acked = self.acked.lock().expect("the ledger").clone();
        let unplaced = self.unplaced.lock().expect("the ledger").clone();
        for (partition, acked) in acked {
            let rows = read(partition);
            let log: HashMap<i64, &Bytes> = rows.iter().map(|(offset, value)| (*offset, value)).collect();
            let values: HashSet<&[u8]> = rows.iter().map(|(_, value)| &value[..]).collect();
            let lost =
                unplaced.get(&partition).into_iter().flatten().find(|v| !values.contains(v.as_bytes()));
            assert_eq!(lost, None, "acknowledged at {partition}, log has {}", rows.len());
            for (offset, value) in &acked {
                let found = log.get(offset).map(|found| String::from_utf8_lossy(found).into_owned());
                assert_eq!(
                    found.as_ref(),
                    Some(value),
                    "acknowledged at {partition}/{offset}, log has {}",
                    rows.len()
                );
            }
            check_log(partition, &rows, |offset| explain(partition, offset));
        }
    }
}

/// Offsets follow each other, no value is there twice, and each producer's numbers grow.
fn check_log(partition: i32, rows: &[(i64, Bytes)], explain: impl Fn(i64) -> String) {
    let (mut seen, mut last) = (HashMap::new(), HashMap::new());
    for (i, (offset, value)) in rows.iter().enumerate() {
        assert_eq!(*offset, i as i64, "partition {partition}: offsets are contiguous");
        if let Some(first) = seen.insert(value, *offset) {
            panic!("partition {partition}: {value:?} twice: {}; {}", explain(first), explain(*offset));
        }
        let text = std::str::from_utf8(value).expect("a value of ours");
        let (name, rest) = text.split_once(':').expect("name:number");
        let number: u64 = rest.split(' ').next().and_then(|n| n.parse().ok()).expect("a number");
        let before = last.insert(name.to_string(), number);
        assert!(
            before.is_none_or(|before| before < number),
            "partition {partition}: {text:.40} after {before:?}"
        );
    }
}

/// librdkafka's delivery reports, into the ledger.
struct Reports(Arc<Ledger>);

impl ClientContext for Reports {}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _: ()) {
        match result {
            Ok(message) => {
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                self.0.ack(message.partition(), message.offset(), &[value]);
            }
            Err((error, _)) => self.0.refused.lock().expect("refused").push(error.to_string()),
        }
    }
}

/// An idempotent producer of librdkafka's, until told to stop and all is acknowledged. `at`: bootstrap servers, topic, partitions.
pub fn produce_until(stop: &AtomicBool, name: &str, at: &(String, String, i32), ledger: &Arc<Ledger>) {
    let (servers, topic, partitions) = at;
    let mut config = ClientConfig::new();
    for (key, value) in [
        ("bootstrap.servers", servers.as_str()),
        ("broker.address.family", "v4"),
        ("enable.idempotence", "true"),
        ("message.timeout.ms", "300000"),
        ("linger.ms", "2"),
        ("reconnect.backoff.ms", "20"),
        ("reconnect.backoff.max.ms", "100"),
        ("retry.backoff.ms", "20"),
    ] {
        config.set(key, value);
    }
    let producer: ThreadedProducer<Reports> =
        config.create_with_context(Reports(Arc::clone(ledger))).expect("a producer");
    let mut sent = 0u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..20 {
            let value = format!("{name}:{sent} {}", "r".repeat((sent % 300) as usize));
            let partition = (sent % *partitions as u64) as i32;
            let record = BaseRecord::<(), _>::to(topic.as_str()).partition(partition).payload(&value);
            if producer.send(record).is_ok() {
                sent += 1;
            }
        }
        std::thread::sleep(Duration::from_millis(4));
    }
    producer.flush(Duration::from_secs(60)).expect("every message is acknowledged in the end");
}
