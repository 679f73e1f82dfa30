//! rskafka against BROKER: every codec (it has no idempotent producer and no groups), partitions read from any offset,
//! a consumer that waits, admin.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{TimeZone, Utc};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    async fn check(&mut self, what: &str, body: impl Future<Output = Outcome>) {
        let outcome = tokio::time::timeout(Duration::from_secs(60), body).await;
        match outcome.map_err(|_| "took over a minute".into()).and_then(|outcome| outcome) {
            Ok(()) => {
                self.passed += 1;
                println!("  ok: {what}");
            }
            Err(error) => {
                self.failed += 1;
                println!("  FAILED: {what}\n      {error}");
            }
        }
    }
}

async fn create(client: &Client, name: &str, partitions: i32) -> Outcome<String> {
    let topic = format!("rskafka-{}-{name}", std::process::id());
    client.controller_client()?.create_topic(&topic, partitions, 1, 10_000).await?;
    Ok(topic)
}

async fn partition(client: &Client, topic: &str, index: i32) -> Outcome<Arc<PartitionClient>> {
    Ok(Arc::new(client.partition_client(topic, index, UnknownTopicHandling::Retry).await?))
}

fn record(n: usize) -> Record {
    Record {
        key: Some(format!("k{n}").into_bytes()),
        value: Some(n.to_string().into_bytes()),
        headers: BTreeMap::from([("h".to_owned(), b"v".to_vec())]),
        timestamp: Utc.timestamp_millis_opt(1_700_000_000_000 + n as i64).unwrap(),
    }
}

async fn round_trip(client: &Client, name: &str, compression: Compression) -> Outcome {
    let topic = create(client, name, 2).await?;
    for index in 0..2 {
        let partition = partition(client, &topic, index).await?;
        for batch in 0..10 {
            let records = (batch * 50..(batch + 1) * 50).map(record).collect();
            let offsets = partition.produce(records, compression).await?;
            let expected: Vec<i64> = (batch as i64 * 50..(batch as i64 + 1) * 50).collect();
            if offsets != expected {
                return Err(format!("offsets {offsets:?}").into());
            }
        }
        let mut next = 0;
        while next < 500 {
            let (found, high_watermark) = partition.fetch_records(next, 1..100_000, 1000).await?;
            for got in found {
                let wanted = record(next as usize);
                if got.offset != next || got.record != wanted {
                    return Err(format!("offset {} holds {:?}", got.offset, got.record).into());
                }
                next += 1;
            }
            if high_watermark != 500 {
                return Err(format!("high watermark {high_watermark}").into());
            }
        }
    }
    Ok(())
}

/// A connection is answered in order, so who waits and who writes have one each.
async fn waits(client: &Client) -> Outcome {
    let topic = create(client, "waits", 1).await?;
    let consumer = partition(client, &topic, 0).await?;
    let producer = partition(&connect().await?, &topic, 0).await?;
    let later = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        producer.produce(vec![record(0)], Compression::NoCompression).await
    };
    let (found, produced) = tokio::join!(consumer.fetch_records(0, 1..100_000, 10_000), later);
    produced?;
    if found?.0.len() != 1 {
        return Err("not one record".into());
    }
    Ok(())
}

async fn offsets(client: &Client) -> Outcome {
    let topic = create(client, "offsets", 1).await?;
    let partition = partition(client, &topic, 0).await?;
    partition.produce((0..100).map(record).collect(), Compression::Lz4).await?;
    partition.delete_records(40, 10_000).await?;
    let found = [
        partition.get_offset(OffsetAt::Earliest).await?,
        partition.get_offset(OffsetAt::Latest).await?,
        partition.get_offset(OffsetAt::Timestamp(record(70).timestamp)).await?,
    ];
    if found != [40, 100, 70] {
        return Err(format!("offsets {found:?}").into());
    }
    Ok(())
}

async fn topics(client: &Client) -> Outcome {
    let topic = create(client, "admin", 3).await?;
    let listed = client.list_topics().await?;
    let found = listed.iter().find(|t| t.name == topic).ok_or("the topic is not listed")?;
    if found.partitions.len() != 3 {
        return Err(format!("partitions {:?}", found.partitions).into());
    }
    client.controller_client()?.delete_topic(&topic, 10_000).await?;
    for _ in 0..50 {
        if client.list_topics().await?.iter().all(|t| t.name != topic) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the topic stays".into())
}

async fn connect() -> Outcome<Client> {
    let broker = std::env::var("BROKER")?;
    Ok(ClientBuilder::new(vec![broker]).client_id("rskafka-suite").build().await?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let client = connect().await.expect("BROKER is host:port");
    let mut count = Count::default();
    for (name, compression) in [
        ("none", Compression::NoCompression),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ] {
        count.check(&format!("codec {name}"), round_trip(&client, name, compression)).await;
    }
    count.check("a waiting consumer gets a record as it comes", waits(&client)).await;
    count.check("offsets by time, records deleted", offsets(&client)).await;
    count.check("admin: topics", topics(&client)).await;
    println!("{} passed, {} failed", count.passed, count.failed);
    std::process::exit(i32::from(count.failed > 0));
}
