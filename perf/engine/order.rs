//! Whether a partition's records are all there, once, in order: what a consumer checks while it reads.
//!
//! Offsets must follow each other, batches must match their checksums, and every producer's sequence to the
//! partition must go up by one from 0. Anything else is a violation, and one violation fails the run.

use std::collections::HashMap;

use bytes::Bytes;
use weir::client::decode_records;

use crate::Outcome;
use crate::load::batch::{Header, Records};
use crate::load::payload::{Mark, Seen};
use crate::workload::Verify;

/// What a batch was found to hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub records: u64,
    pub bytes: u64,
}

pub struct Partition {
    pub index: i32,
    /// The offset to fetch next.
    pub offset: i64,
    /// By producer, the sequence that comes next.
    next: HashMap<u32, u64>,
}

impl Partition {
    pub fn new(index: i32, offset: i64) -> Partition {
        Partition { index, offset, next: HashMap::new() }
    }

    /// Starts over from an offset, for a reader that goes round.
    pub fn restart(&mut self, offset: i64) {
        self.offset = offset;
        self.next.clear();
    }

    /// Walks over fetched batches, the last of which may be cut; `run` is whose marks are checked, and `each`
    /// gets the intended time of every marked record.
    pub fn read(
        &mut self,
        mut bytes: &[u8],
        verify: Verify,
        run: u32,
        each: &mut dyn FnMut(u64),
    ) -> Outcome<Read> {
        let mut read = Read::default();
        while let Some(header) = Header::read(bytes) {
            let Some((batch, rest)) = bytes.split_at_checked(header.size) else { break };
            if verify >= Verify::Batches {
                self.check_batch(&header, batch)?;
            }
            if verify >= Verify::Records && !header.is_control() {
                self.check_records(&header, batch, run, each)?;
            }
            // A batch may begin before the offset that was asked for.
            let skipped = (self.offset - header.base_offset).clamp(0, i64::from(header.records)) as u64;
            read.records += if header.is_control() { 0 } else { u64::from(header.records) - skipped };
            read.bytes += batch.len() as u64;
            self.offset = header.next_offset();
            bytes = rest;
        }
        Ok(read)
    }

    fn check_batch(&self, header: &Header, batch: &[u8]) -> Outcome<()> {
        let (at, expected) = (header.base_offset, self.offset);
        if at > expected || header.next_offset() <= expected {
            return Err(self.violation(&format!("a batch at offset {at} where {expected} was next")));
        }
        if header.records as i64 != i64::from(header.last_offset_delta) + 1 {
            return Err(self.violation(&format!("the batch at offset {at} has gaps between its records")));
        }
        match header.intact(batch) {
            true => Ok(()),
            false => Err(self.violation(&format!("the batch at offset {at} fails its checksum"))),
        }
    }

    fn check_records(
        &mut self,
        header: &Header,
        batch: &[u8],
        run: u32,
        each: &mut dyn FnMut(u64),
    ) -> Outcome<()> {
        if header.is_compressed() {
            let (records, _) = decode_records(Bytes::copy_from_slice(batch), 0).map_err(|e| e.to_string())?;
            for record in &records {
                self.check_value(record.offset, record.value.as_deref().unwrap_or_default(), run, each)?;
            }
            return Ok(());
        }
        let mut count = 0;
        for record in Records::of(batch) {
            let (delta, value) = record.map_err(|e| self.violation(&e))?;
            self.check_value(header.base_offset + delta, value, run, each)?;
            count += 1;
        }
        match count == header.records {
            true => Ok(()),
            false => Err(self.violation(&format!("{count} records where {} were announced", header.records))),
        }
    }

    fn check_value(&mut self, offset: i64, value: &[u8], run: u32, each: &mut dyn FnMut(u64)) -> Outcome<()> {
        if offset < self.offset {
            return Ok(());
        }
        let mark = match Mark::read(value) {
            Seen::Unmarked => return Ok(()),
            Seen::Damaged => return Err(self.violation(&format!("the value at offset {offset} was changed"))),
            Seen::Marked(mark) if mark.run != run => return Ok(()),
            Seen::Marked(mark) => mark,
        };
        let next = self.next.entry(mark.producer).or_default();
        let (got, expected) = (mark.sequence, *next);
        *next = got + 1;
        each(mark.intended);
        if got == expected {
            return Ok(());
        }
        let what = if got > expected { "a gap" } else { "a repetition or a change of order" };
        let producer = mark.producer;
        Err(self.violation(&format!(
            "{what} at offset {offset}: producer {producer}'s record {got} where {expected} was next"
        )))
    }

    fn violation(&self, what: &str) -> String {
        format!("VIOLATION in partition {}: {what}", self.index)
    }
}
