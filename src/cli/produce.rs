//! `weir produce TOPIC`: each line of standard input is a record.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde_json::json;

use super::Remote;
use super::clock::unix_ms;
use super::failure::Failure;
use super::output::{complain, print_json};
use super::partitioner::partition_of_key;
use crate::client::{BatchOptions, Client, ClientError, Codec, OwnedRecord, TopicInfo, encode_batch};

/// Lines are gathered up to this before they are sent.
const BATCH_BYTES: usize = 512 << 10;
const BATCH_RECORDS: usize = 10_000;
/// A longer line could not be one record anyway.
const LONGEST_LINE: usize = 100 << 20;
/// How often a batch is sent again while a partition's leader is being found.
const ATTEMPTS: u32 = 20;

#[derive(Args, Debug)]
pub struct ProduceArgs {
    topic: String,
    /// Split each line at the first of these into key and value
    #[arg(short, long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// Partition to produce to; by key, or all in turn, if not given
    #[arg(short, long)]
    partition: Option<i32>,
    /// When a batch counts as produced: all (in-sync replicas have it), 1 (the leader has it) or 0 (sent)
    #[arg(long, default_value = "all", value_parser = parse_acks)]
    acks: i16,
    /// Compression: none, gzip, snappy, lz4 or zstd
    #[arg(short, long, default_value = "none")]
    codec: Codec,
    #[command(flatten)]
    remote: Remote,
}

fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        "0" => Ok(0),
        _ => Err("must be all, 1 or 0".to_owned()),
    }
}

pub fn run(args: ProduceArgs) -> Result<(), Failure> {
    if args.key_separator.as_deref() == Some("") {
        return Err(Failure::Usage("--key-separator must not be empty".to_owned()));
    }
    let mut client = args.remote.connect()?;
    let topic = client.topic(&args.topic, true).map_err(|e| Failure::about_topic(&mut client, e))?;
    let mut producer = Producer { client, topic, args: &args, batches: BTreeMap::new(), turn: 0, sent: 0 };
    producer.pump(io::stdin().lock())?;
    let sent = producer.sent;
    if args.remote.json {
        return print_json(&json!({"topic": args.topic, "records": sent})).map_err(Failure::stdout);
    }
    let plural = if sent == 1 { "" } else { "s" };
    complain(&format!("Produced {sent} record{plural} to {}.", args.topic));
    Ok(())
}

struct Producer<'a> {
    client: Client,
    topic: TopicInfo,
    args: &'a ProduceArgs,
    batches: BTreeMap<i32, Vec<OwnedRecord>>,
    /// Counts flushes: where the next records without a key go.
    turn: usize,
    sent: u64,
}

impl Producer<'_> {
    fn pump(&mut self, input: impl Read) -> Result<(), Failure> {
        let mut input = BufReader::with_capacity(BATCH_BYTES / 2, input);
        let mut line = Vec::new();
        let (mut bytes, mut records) = (0, 0);
        loop {
            line.clear();
            let stdin = |error| Failure::Io { what: "cannot read standard input", error };
            let read = (&mut input).take(LONGEST_LINE as u64).read_until(b'\n', &mut line).map_err(stdin)?;
            if read == LONGEST_LINE && line.last() != Some(&b'\n') {
                return Err(Failure::Usage(
                    "a line is longer than 100 MiB, more than one record can hold".into(),
                ));
            }
            if read == 0 {
                return self.flush();
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            self.add(&line);
            bytes += read;
            records += 1;
            // Nothing more has arrived: what a person typed should not wait for a full batch.
            if bytes >= BATCH_BYTES || records >= BATCH_RECORDS || input.buffer().is_empty() {
                self.flush()?;
                (bytes, records) = (0, 0);
            }
        }
    }

    fn add(&mut self, line: &[u8]) {
        let (key, value) = match &self.args.key_separator {
            Some(separator) => split_once(line, separator.as_bytes()),
            None => (None, line),
        };
        let partition = match (self.args.partition, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_of_key(key, self.topic.partitions.len().max(1)),
            (None, None) => (self.turn % self.topic.partitions.len().max(1)) as i32,
        };
        self.batches.entry(partition).or_default().push(OwnedRecord {
            key: key.map(Bytes::copy_from_slice),
            value: Some(Bytes::copy_from_slice(value)),
            headers: Vec::new(),
            timestamp_ms: unix_ms(),
        });
    }

    fn flush(&mut self) -> Result<(), Failure> {
        for (partition, records) in std::mem::take(&mut self.batches) {
            let options = BatchOptions { codec: self.args.codec, ..BatchOptions::default() };
            let batch = encode_batch(&records, options).map_err(ClientError::from)?;
            self.send(partition, batch)?;
            self.sent += records.len() as u64;
        }
        self.turn += 1;
        Ok(())
    }

    /// Sends again only after an answer that says nothing was appended.
    fn send(&mut self, partition: i32, batch: Bytes) -> Result<(), Failure> {
        for attempt in 1.. {
            match self.client.produce(&self.topic, partition, batch.clone(), self.args.acks) {
                Ok(_) => break,
                Err(error) if attempt < ATTEMPTS && error.is_stale_metadata() => {
                    std::thread::sleep(Duration::from_millis(100));
                    self.topic = self.client.topic(&self.args.topic, false)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Splits at the first separator; a line without one is all value.
fn split_once<'a>(line: &'a [u8], separator: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    match line.windows(separator.len()).position(|w| w == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_at_the_first_separator() {
        assert_eq!(split_once(b"k:v:w", b":"), (Some(&b"k"[..]), &b"v:w"[..]));
        assert_eq!(split_once(b"=>v", b"=>"), (Some(&b""[..]), &b"v"[..]));
        assert_eq!(split_once(b"plain", b":"), (None, &b"plain"[..]));
        assert_eq!(split_once(b"", b":"), (None, &b""[..]));
    }
}
