//! Topics for a run: created, waited for, deleted.

use std::net::TcpStream;
use std::time::Duration;

use weir::client::{Client, Connection, NewTopic, OffsetAt, Options};

use crate::Outcome;

pub struct Broker {
    pub address: String,
    client: Client,
}

impl Broker {
    pub fn connect(address: &str) -> Outcome<Broker> {
        let client = Client::connect(address, options()).map_err(|e| e.to_string())?;
        Ok(Broker { address: address.to_owned(), client })
    }

    /// Makes sure that the topic has at least this many partitions, each with a leader.
    pub fn ensure(&mut self, topic: &str, partitions: i32) -> Outcome<()> {
        match self.client.topic(topic, false) {
            Ok(info) if info.partitions.len() as i32 >= partitions => return Ok(()),
            Ok(info) => {
                let has = info.partitions.len();
                return Err(format!("topic {topic} has {has} partitions and {partitions} are wanted"));
            }
            Err(_) => {}
        }
        let new = NewTopic {
            name: topic.to_owned(),
            partitions: Some(partitions),
            replication_factor: Some(1),
            // What is deleted after a run should free the disk before the next.
            configs: vec![("file.delete.delay.ms".to_owned(), "1000".to_owned())],
        };
        self.client.create_topic(&new).map_err(|e| e.to_string())?;
        for _ in 0..300 {
            let led = |info: weir::client::TopicInfo| {
                info.partitions.len() as i32 == partitions && info.partitions.iter().all(|p| p.leader >= 0)
            };
            if self.client.topic(topic, false).is_ok_and(led) && self.answers(topic, partitions) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("the partitions of topic {topic} found no leaders within 30 s"))
    }

    /// A broker may name itself as leader before it acts as one.
    fn answers(&mut self, topic: &str, partitions: i32) -> bool {
        let Ok(info) = self.client.known_topic(topic, false) else { return false };
        (0..partitions).all(|p| self.client.offset(&info, p, OffsetAt::End, Default::default()).is_ok())
    }

    pub fn delete(&mut self, topic: &str) -> Outcome<()> {
        self.client.delete_topic(topic).map_err(|e| e.to_string())
    }

    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// A fresh socket on which versions were negotiated.
    pub fn stream(&self) -> Outcome<TcpStream> {
        let connection = Connection::connect(&self.address, &options()).map_err(|e| e.to_string())?;
        Ok(connection.into_stream())
    }
}

fn options() -> Options {
    Options { client_id: "weir-perf".to_owned(), ..Options::default() }
}

/// A topic name that no earlier run used.
pub fn fresh_name(stem: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("perf-{stem}-{:x}", now.as_micros())
}
