//! What a workload is where its file says nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Acks, Arrivals, Consumer, Figure, From, Mode, Producer, Record, Sizes, Topic, Verify, Workload};
use crate::units::{Size, Span};
use weir::client::Codec;

impl Default for Workload {
    fn default() -> Self {
        Workload {
            name: "custom".to_owned(),
            about: String::new(),
            mode: Mode::Open,
            rate: 10_000.0,
            schedule: Arrivals::Fixed,
            warm_up: Span::seconds(2),
            duration: Span::seconds(10),
            max_lag: Span(Duration::from_millis(2)),
            figure: Figure::Records,
            topic: Topic::default(),
            record: Record::default(),
            producer: Producer::default(),
            consumer: Vec::new(),
        }
    }
}

impl Default for Topic {
    fn default() -> Self {
        Topic { partitions: 4, replication: 1, configs: BTreeMap::new() }
    }
}

impl Default for Record {
    fn default() -> Self {
        Record { size: Sizes::Fixed(Size(100)), compressibility: 0.0, key: None }
    }
}

impl Default for Producer {
    fn default() -> Self {
        Producer {
            count: 4,
            threads: 1,
            in_flight: 5,
            acks: Acks::All,
            codec: Codec::None,
            linger: Span(Duration::from_millis(5)),
            batch_size: Size(16 << 10),
            batch_records: 0,
            max_request_size: Size(1 << 20),
            idempotent: false,
            prebuilt: true,
        }
    }
}

impl Default for Consumer {
    fn default() -> Self {
        Consumer {
            name: "consumers".to_owned(),
            fan_out: 1,
            count: 1,
            threads: 1,
            group: false,
            from: From::Tail,
            max_bytes: Size(1 << 20),
            min_bytes: Size(1),
            max_wait: Span(Duration::from_millis(500)),
            verify: Verify::Records,
            fill: Size(0),
        }
    }
}
