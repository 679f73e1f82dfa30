//! `weir-perf consume`, and the fetch half of `compare`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use weir::client::{Codec, OffsetAt};

use crate::Outcome;
use crate::driver::{Answer, Work, drive};
use crate::frames;
use crate::produce::Timing;
use crate::report::{Observer, Report};
use crate::topics::{Broker, fresh_name};

/// How to fetch.
#[derive(Args, Clone, Debug)]
pub struct FetchSpec {
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Most bytes of an answer
    #[arg(long, default_value_t = 1 << 20)]
    pub max_bytes: i32,
    #[arg(long, default_value_t = 4)]
    pub partitions: i32,
    /// Produce this many MiB to each partition first
    #[arg(long, default_value_t = 0)]
    pub fill_mib: usize,
    /// Check every batch: checksum, offsets without gaps, record count
    #[arg(long)]
    pub verify: bool,
}

#[derive(Args, Debug)]
pub struct ConsumeArgs {
    /// Broker, host:port
    #[arg(short, long, env = "WEIR_BROKER", default_value = "127.0.0.1:9092")]
    broker: String,
    #[command(flatten)]
    spec: FetchSpec,
    #[command(flatten)]
    timing: Timing,
    /// Topic; a fresh one, filled with 64 MiB a partition and deleted afterwards, if not given
    #[arg(long)]
    topic: Option<String>,
    /// Pid of the broker, to report its CPU
    #[arg(long)]
    pid: Option<u32>,
    #[arg(long)]
    json: bool,
}

pub fn run(args: &ConsumeArgs) -> Outcome<()> {
    let mut broker = Broker::connect(&args.broker)?;
    let mut spec = args.spec.clone();
    let topic = args.topic.clone().unwrap_or_else(|| fresh_name("consume"));
    if args.topic.is_none() && spec.fill_mib == 0 {
        spec.fill_mib = 64;
    }
    broker.ensure(&topic, spec.partitions)?;
    fill(&mut broker, &topic, &spec)?;
    let report = measure(&mut broker, &topic, &spec, &args.timing, args.pid)?;
    if args.topic.is_none() {
        broker.delete(&topic)?;
    }
    report.print(args.json);
    report.check()
}

/// Produces `fill_mib` to each partition, in batches of 900 records of 1 KiB.
pub fn fill(broker: &mut Broker, topic: &str, spec: &FetchSpec) -> Outcome<()> {
    if spec.fill_mib == 0 {
        return Ok(());
    }
    let batch = frames::batch(900, 1024, Codec::None, 2)?;
    let batches = (spec.fill_mib << 20).div_ceil(batch.len());
    let info = broker.client().topic(topic, false).map_err(|e| e.to_string())?;
    for partition in 0..spec.partitions {
        for _ in 0..batches {
            broker.client().produce(&info, partition, batch.clone(), -1).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// Fetches the topic from its beginning, again and again, and reports. Each connection reads one
/// partition with one request in flight.
pub fn measure(
    broker: &mut Broker,
    topic: &str,
    spec: &FetchSpec,
    timing: &Timing,
    pid: Option<u32>,
) -> Outcome<Report> {
    let info = broker.client().topic(topic, false).map_err(|e| e.to_string())?;
    let mut streams = Vec::new();
    for connection in 0..spec.connections {
        let partition = (connection % spec.partitions.max(1) as usize) as i32;
        let end = broker.client().offset(&info, partition, OffsetAt::End, Default::default());
        let end = end.map_err(|e| e.to_string())?;
        if end == 0 {
            return Err(format!("partition {partition} of {topic} is empty; --fill-mib fills it"));
        }
        let (frame, offset_at) = frames::fetch(topic, partition, spec.max_bytes)?;
        let work = Consumer { frame, offset_at, offset: 0, end, verify: spec.verify };
        streams.push((broker.stream()?, work));
    }
    let start = Instant::now() + Duration::from_secs_f64(timing.warm_up);
    let observer = Observer::watch(pid, start, Duration::from_secs_f64(timing.duration));
    let tally = drive(streams, 1, observer.window())?;
    Ok(observer.report(tally))
}

struct Consumer {
    frame: Vec<u8>,
    offset_at: usize,
    offset: i64,
    end: i64,
    verify: bool,
}

impl Work for Consumer {
    fn next(&mut self) -> Option<Bytes> {
        let mut frame = self.frame.clone();
        frame[self.offset_at..self.offset_at + 8].copy_from_slice(&self.offset.to_be_bytes());
        Some(Bytes::from(frame))
    }

    fn answer(&mut self, frame: &[u8]) -> Outcome<Answer> {
        let answer = frames::fetch_answer(frame)?;
        if answer.error != 0 {
            return Ok(Answer { error: answer.error, ..Answer::default() });
        }
        let mut rest = answer.records;
        let mut records = 0;
        while let Some(header) = Header::read(rest) {
            let Some((batch, after)) = rest.split_at_checked(header.size) else { break };
            if self.verify {
                header.verify(batch, self.offset)?;
            }
            records += u64::from(header.records);
            self.offset = header.next_offset();
            rest = after;
        }
        if self.verify && records == 0 {
            return Err(format!("nothing at offset {} below the end {}", self.offset, self.end));
        }
        if self.offset >= self.end {
            self.offset = answer.log_start_offset.max(0);
        }
        Ok(Answer { records, bytes: (answer.records.len() - rest.len()) as u64, error: 0 })
    }
}

/// What walking over batches needs.
struct Header {
    base_offset: i64,
    size: usize,
    last_offset_delta: i32,
    records: u32,
    crc: u32,
}

const HEADER_BYTES: usize = 61;

impl Header {
    fn read(bytes: &[u8]) -> Option<Header> {
        let h = bytes.first_chunk::<HEADER_BYTES>()?;
        let u32_at = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        Some(Header {
            base_offset: i64::from_be_bytes(*h.first_chunk()?),
            size: 12 + u32_at(8).min(i32::MAX as u32) as usize,
            last_offset_delta: u32_at(23) as i32,
            records: u32_at(57),
            crc: u32_at(17),
        })
    }

    fn next_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta)).saturating_add(1)
    }

    fn verify(&self, batch: &[u8], expected_offset: i64) -> Outcome<()> {
        let at = self.base_offset;
        // The first batch of an answer may begin before the offset that was asked for.
        if at > expected_offset || self.next_offset() <= expected_offset {
            return Err(format!("a batch at offset {at} where {expected_offset} was next"));
        }
        let covered = batch.get(21..).ok_or("a batch shorter than its header")?;
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, covered) as u32;
        if crc != self.crc {
            return Err(format!("the batch at offset {at} fails its checksum"));
        }
        Ok(())
    }
}
