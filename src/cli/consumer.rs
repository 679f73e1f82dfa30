//! Reads partitions and prints their records.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;

use super::Remote;
use super::failure::Failure;
use super::format::{self, Format};
use super::output;
use super::when::Start;
use crate::client::{Client, ClientError, FetchQuery, Isolation, OffsetAt, TopicInfo, decode_records};

/// One fetch's bytes, of all partitions together.
const FETCH_BYTES: i32 = 8 << 20;
/// How long the broker holds a fetch that finds nothing.
const WAIT: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub struct ConsumeArgs {
    pub(super) topic: String,
    /// Partition to read; may be repeated; all if not given
    #[arg(short, long = "partition", value_name = "PARTITION")]
    pub(super) partitions: Vec<i32>,
    /// Share the topic with the other members of this group, and commit what was printed
    #[arg(short, long)]
    pub(super) group: Option<String>,
    /// Where to start, with --group where the group has not been yet: beginning, end, an offset, -N for the last N, @MILLISECONDS, or a UTC time
    #[arg(short, long, default_value = "beginning", allow_hyphen_values = true)]
    offset: Start,
    /// Stop at what was the end when the command started, instead of waiting for more
    #[arg(short, long)]
    pub(super) exit_at_end: bool,
    /// Stop after this many records
    #[arg(short, long, value_name = "COUNT")]
    max: Option<u64>,
    #[arg(short, long, default_value = "%s\\n", help = format::HELP)]
    format: Format,
    /// Leave out records of transactions that are open or were aborted
    #[arg(long)]
    read_committed: bool,
    #[command(flatten)]
    remote: Remote,
}

/// Where one partition is being read.
pub(super) struct Cursor {
    pub(super) partition: i32,
    pub(super) next: i64,
    /// What was the end at the start, if that is where to stop.
    end: Option<i64>,
}

impl Cursor {
    fn open(
        client: &mut Client,
        topic: &TopicInfo,
        partition: i32,
        args: &ConsumeArgs,
        isolation: Isolation,
    ) -> Result<Cursor, Failure> {
        let mut at = |at| client.offset(topic, partition, at, isolation);
        let next = match args.offset {
            Start::At(place) => at(place)?,
            Start::Offset(offset) => offset,
            Start::Last(n) => (at(OffsetAt::End)?.saturating_sub(n)).max(at(OffsetAt::Beginning)?),
        };
        let end = if args.exit_at_end { Some(at(OffsetAt::End)?) } else { None };
        if let (Start::Offset(offset), Some(end)) = (args.offset, end)
            && offset > end
        {
            let first = at(OffsetAt::Beginning)?;
            return Err(Failure::Usage(out_of_range(partition, offset, first, end)));
        }
        Ok(Cursor { partition, next, end })
    }

    pub(super) fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

pub(super) struct Consumer<'a> {
    pub(super) client: Client,
    topic: TopicInfo,
    isolation: Isolation,
    args: &'a ConsumeArgs,
    printed: u64,
    out: Vec<u8>,
}

impl<'a> Consumer<'a> {
    pub(super) fn connect(args: &'a ConsumeArgs) -> Result<Self, Failure> {
        let mut client = args.remote.connect()?;
        let topic = client.topic(&args.topic, false).map_err(|e| Failure::about_topic(&mut client, e))?;
        let isolation = match args.read_committed {
            true => Isolation::ReadCommitted,
            false => Isolation::ReadUncommitted,
        };
        Ok(Self { client, topic, isolation, args, printed: 0, out: Vec::new() })
    }

    /// The topic's partitions.
    pub(super) fn partitions(&self) -> Vec<i32> {
        self.topic.partitions.iter().map(|p| p.index).collect()
    }

    pub(super) fn run(&mut self, mut cursors: Vec<Cursor>) -> Result<(), Failure> {
        loop {
            cursors.retain(|c| !c.is_done());
            if cursors.is_empty() || self.is_full() {
                return Ok(());
            }
            self.round(&mut cursors)?;
            self.flush()?;
        }
    }

    pub(super) fn open(&mut self, partition: i32, args: &ConsumeArgs) -> Result<Cursor, Failure> {
        Cursor::open(&mut self.client, &self.topic, partition, args, self.isolation)
    }

    /// Nothing more is to be printed.
    pub(super) fn is_over(&self, cursors: &[Cursor], stops_at_end: bool) -> bool {
        self.is_full() || (stops_at_end && cursors.iter().all(Cursor::is_done))
    }

    /// Shows what was read.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(&self.out).and_then(|()| out.flush()).map_err(Failure::stdout)?;
        self.out.clear();
        Ok(())
    }

    /// One fetch of every partition.
    pub(super) fn round(&mut self, cursors: &mut [Cursor]) -> Result<(), Failure> {
        let query =
            FetchQuery { max_bytes: FETCH_BYTES, min_bytes: 1, max_wait: WAIT, isolation: self.isolation };
        let positions: Vec<(i32, i64)> = cursors.iter().map(|c| (c.partition, c.next)).collect();
        let answers = self.client.fetch_many(&self.topic, &positions, query)?;
        for (partition, answer) in answers {
            let Some(cursor) = cursors.iter_mut().find(|c| c.partition == partition) else { continue };
            match answer {
                Ok(fetched) => self.take(cursor, fetched.batches)?,
                Err(error) if error.is_stale_metadata() => {
                    std::thread::sleep(Duration::from_millis(100));
                    self.topic = self.client.topic(&self.args.topic, false)?;
                }
                Err(error) => return Err(self.explain(cursor, error)),
            }
        }
        // The first partitions of a request fill its budget first: let each be first in turn.
        cursors.rotate_left(1);
        Ok(())
    }

    fn take(&mut self, cursor: &mut Cursor, batches: bytes::Bytes) -> Result<(), Failure> {
        let (records, mut next) = decode_records(batches, cursor.next).map_err(ClientError::from)?;
        for record in &records {
            if self.is_full() || cursor.end.is_some_and(|end| record.offset >= end) {
                // What was not printed is not passed over.
                next = record.offset;
                break;
            }
            let (topic, partition) = (&self.topic.name, cursor.partition);
            match self.args.remote.json {
                true => {
                    let line = format!("{}\n", format::to_json(topic, partition, record));
                    self.out.extend_from_slice(output::quiet_json(&line).as_bytes());
                }
                false => self.args.format.render(topic, partition, record, &mut self.out),
            }
            self.printed += 1;
        }
        cursor.next = next;
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.args.max.is_some_and(|max| self.printed >= max)
    }

    fn explain(&mut self, cursor: &Cursor, error: ClientError) -> Failure {
        if !error.is_out_of_range() {
            return error.into();
        }
        let mut at = |at| self.client.offset(&self.topic, cursor.partition, at, self.isolation).unwrap_or(-1);
        let (first, next) = (at(OffsetAt::Beginning), at(OffsetAt::End));
        Failure::Advised { error, advice: out_of_range(cursor.partition, cursor.next, first, next) }
    }
}

fn out_of_range(partition: i32, offset: i64, first: i64, next: i64) -> String {
    format!(
        "offset {offset} is not in partition {partition}, which holds {first} up to {next}; choose one with --offset"
    )
}
