//! Reading a batch's records, and judging each by what its topic asks.

use super::{Effort, LIGHT_DECODED, MAX_DECODED, NotTaken, RecordErrors, Refusal, Rules};
use crate::wire::batch::{BatchHeader, Compression, NO_TIMESTAMP};
use crate::wire::codec;
use crate::wire::produced::ProducedBatch;
use crate::wire::scan::{self, Scanned, Stream};

/// What reading the records told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survey {
    pub max_timestamp: i64,
    /// Offset deltas are not what they should be.
    pub renumber: bool,
    /// Bytes of the records, decompressed.
    pub decoded: usize,
}

struct Judge<'r> {
    rules: &'r Rules,
    base_timestamp: i64,
    /// The producer claims that the times are the broker's.
    stamped: bool,
    earliest: i64,
    latest: i64,
    max_timestamp: i64,
    renumber: bool,
    errors: RecordErrors,
}

impl<'r> Judge<'r> {
    fn new(header: &BatchHeader, rules: &'r Rules) -> Self {
        let stamped = header.is_log_append_time();
        let (earliest, latest) = match (rules.broker_time, stamped) {
            (false, _) => (rules.earliest, rules.latest),
            (true, false) => (i64::MIN, i64::MAX),
            // No time is right.
            (true, true) => (i64::MAX, i64::MIN),
        };
        Self {
            rules,
            base_timestamp: header.base_timestamp,
            stamped,
            earliest,
            latest,
            max_timestamp: NO_TIMESTAMP,
            renumber: false,
            errors: RecordErrors::default(),
        }
    }

    #[inline]
    fn look_at(&mut self, index: i32, record: Scanned) {
        let timestamp = self.base_timestamp.wrapping_add(record.timestamp_delta);
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.renumber |= record.offset_delta != index;
        let keyless = self.rules.keys && !record.has_key;
        if keyless || timestamp < self.earliest || timestamp > self.latest {
            self.object(index, keyless, timestamp);
        }
    }

    #[cold]
    fn object(&mut self, index: i32, keyless: bool, timestamp: i64) {
        let (earliest, latest) = (self.earliest, self.latest);
        match (keyless, self.rules.broker_time && self.stamped) {
            (true, _) => self.errors.add(index, NotTaken::NoKey),
            (false, true) => self.errors.add(index, NotTaken::BrokerTime),
            (false, false) if timestamp == NO_TIMESTAMP => {}
            (false, false) => self.errors.add(index, NotTaken::Timestamp { timestamp, earliest, latest }),
        }
    }

    /// The survey of records that lie in memory, if nothing is wrong with any. All that it needs stays in registers: most
    /// batches are seen this way only.
    fn glance(&self, payload: &[u8], count: i32) -> Option<Survey> {
        let (base, earliest, latest, keys) =
            (self.base_timestamp, self.earliest, self.latest, self.rules.keys);
        let (mut rest, mut max_timestamp, mut doubts) = (payload, NO_TIMESTAMP, false);
        for index in 0..count {
            let (record, next) = scan::take(rest).ok()?;
            let timestamp = base.wrapping_add(record.timestamp_delta);
            max_timestamp = max_timestamp.max(timestamp);
            doubts |= (timestamp < earliest) | (timestamp > latest);
            doubts |= (record.offset_delta != index) | (keys & !record.has_key);
            rest = next;
        }
        let sound = rest.is_empty() && !doubts;
        sound.then_some(Survey { max_timestamp, renumber: false, decoded: payload.len() })
    }

    fn verdict(self, decoded: usize) -> Result<Survey, Refusal> {
        if self.errors.total > 0 {
            return Err(Refusal::Records(Box::new(self.errors)));
        }
        Ok(Survey { max_timestamp: self.max_timestamp, renumber: self.renumber, decoded })
    }
}

pub(super) fn survey(
    batch: &ProducedBatch,
    rules: &Rules,
    effort: Effort,
    scratch: &mut Vec<u8>,
) -> Result<Survey, Refusal> {
    let (header, payload) = (&batch.header, batch.records());
    let mut judge = Judge::new(header, rules);
    if header.compression() != Compression::None {
        return survey_packed(header, payload, judge, effort, scratch);
    }
    if let Some(survey) = judge.glance(payload, header.record_count) {
        return Ok(survey);
    }
    let mut rest = payload;
    for index in 0..header.record_count {
        let (record, next) = scan::take(rest).map_err(|why| Refusal::Unreadable { index, why })?;
        judge.look_at(index, record);
        rest = next;
    }
    if !rest.is_empty() {
        return Err(Refusal::Rest(header.record_count));
    }
    judge.verdict(payload.len())
}

fn survey_packed(
    header: &BatchHeader,
    payload: &[u8],
    mut judge: Judge<'_>,
    effort: Effort,
    scratch: &mut Vec<u8>,
) -> Result<Survey, Refusal> {
    let codec = header.compression();
    let (limit, memory) = match effort {
        Effort::Light => (LIGHT_DECODED, codec::LARGEST_WINDOW),
        // A window that there is no memory for is not filled.
        Effort::Full { memory } if codec::window(codec, payload) > memory => {
            (memory.min(MAX_DECODED), codec::LARGEST_WINDOW)
        }
        Effort::Full { memory } => (MAX_DECODED, memory),
    };
    scratch.resize(scan::WINDOW, 0);
    let mut stream = Stream::new(codec::reader(codec, payload, limit, memory)?, scratch, limit);
    for index in 0..header.record_count {
        match stream.take() {
            Ok(record) => judge.look_at(index, record),
            Err(why) => {
                return Err(stream.failed().map_or(Refusal::Unreadable { index, why }, Refusal::Codec));
            }
        }
    }
    let is_over = stream.is_over();
    if let Some(why) = stream.failed() {
        return Err(why.into());
    }
    if !is_over {
        return Err(Refusal::Rest(header.record_count));
    }
    judge.verdict(stream.read())
}
