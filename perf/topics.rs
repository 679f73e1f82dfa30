//! The topic of a run: created, waited for, filled, deleted; and where its partitions are.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::InitProducerIdRequest;
use weir::client::{Client, Connection, KafkaError, NewTopic, OffsetAt, Options, TopicInfo, message};

use crate::Outcome;
use crate::engine::plan::Target;
use crate::workload::Topic;

pub struct Broker {
    pub address: String,
    client: Client,
}

fn words(e: impl std::fmt::Display) -> String {
    e.to_string()
}

impl Broker {
    pub fn connect(address: &str) -> Outcome<Broker> {
        let client = Client::connect(address, options()).map_err(words)?;
        Ok(Broker { address: address.to_owned(), client })
    }

    /// Makes sure that the topic has as many partitions as the workload wants, each with a leader.
    pub fn ensure(&mut self, name: &str, spec: &Topic) -> Outcome<()> {
        let partitions = spec.partitions;
        match self.client.topic(name, false) {
            Ok(info) if info.partitions.len() as i32 == partitions => return Ok(()),
            Ok(info) => {
                let has = info.partitions.len();
                return Err(format!("topic {name} has {has} partitions and {partitions} are wanted"));
            }
            Err(_) => {}
        }
        // What is deleted after a run should free the disk before the next.
        let mut configs = vec![("file.delete.delay.ms".to_owned(), "1000".to_owned())];
        configs.extend(spec.configs.iter().map(|(k, v)| (k.clone(), v.clone())));
        let new = NewTopic {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication_factor: Some(spec.replication),
            configs,
        };
        self.client.create_topic(&new).map_err(words)?;
        for _ in 0..300 {
            let led = |info: TopicInfo| {
                info.partitions.len() as i32 == partitions && info.partitions.iter().all(|p| p.leader >= 0)
            };
            if self.client.topic(name, false).is_ok_and(led) && self.offsets(name, OffsetAt::End).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("the partitions of topic {name} found no leaders within 30 s"))
    }

    /// How many partitions a topic has that exists.
    pub fn partitions(&mut self, name: &str) -> Outcome<i32> {
        Ok(self.client.topic(name, false).map_err(words)?.partitions.len() as i32)
    }

    /// An offset of every partition. A broker may name itself as leader before it acts as one; this fails then.
    pub fn offsets(&mut self, name: &str, at: OffsetAt) -> Outcome<Vec<i64>> {
        let info = self.client.known_topic(name, false).map_err(words)?;
        let one = |p: i32| self.client.offset(&info, p, at, Default::default()).map_err(words);
        (0..info.partitions.len() as i32).map(one).collect()
    }

    pub fn target(&mut self, name: &str) -> Outcome<Target> {
        let info = self.client.topic(name, false).map_err(words)?;
        let (mut leaders, mut leader_of) = (Vec::new(), Vec::new());
        for partition in 0..info.partitions.len() as i32 {
            let address = self.client.leader(&info, partition).map_err(words)?.address().to_owned();
            let known = leaders.iter().position(|l| *l == address);
            leader_of.push(known.unwrap_or(leaders.len()) as u16);
            if known.is_none() {
                leaders.push(address);
            }
        }
        Ok(Target { topic: name.to_owned(), leaders, leader_of })
    }

    /// Produces `bytes` to each partition, the same batch again and again.
    pub fn fill(&mut self, name: &str, batch: &Bytes, bytes: u64) -> Outcome<()> {
        let info = self.client.topic(name, false).map_err(words)?;
        let rounds = bytes.div_ceil(batch.len().max(1) as u64);
        for partition in 0..info.partitions.len() as i32 {
            for _ in 0..rounds {
                self.client.produce(&info, partition, batch.clone(), -1).map_err(words)?;
            }
        }
        Ok(())
    }

    /// A producer id with its epoch.
    pub fn producer_id(&mut self) -> Outcome<(i64, i16)> {
        let mut connection = Connection::connect(&self.address, &options()).map_err(words)?;
        let request = message::<InitProducerIdRequest>(|r| {
            r.transactional_id = None;
            r.transaction_timeout_ms = 60_000;
        });
        let answer = connection.call(&request).map_err(words)?;
        KafkaError::check(answer.error_code, None).map_err(|e| format!("InitProducerId: {e}"))?;
        Ok((answer.producer_id, answer.producer_epoch))
    }

    pub fn delete(&mut self, topic: &str) -> Outcome<()> {
        self.client.delete_topic(topic).map_err(words)
    }
}

pub fn options() -> Options {
    Options { client_id: "weir-perf".to_owned(), ..Options::default() }
}

/// A topic name that no earlier run used.
pub fn fresh_name(stem: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("perf-{stem}-{:x}", now.as_micros())
}
