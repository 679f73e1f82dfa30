//! v2 batches: built record by record into a request's buffer, and walked over in an answer.

use bytes::Bytes;
use weir::client::{BatchOptions, Codec, OwnedRecord, encode_batch};

use super::draw::{Draft, NO_KEY};
use super::keys::Keys;
use super::payload::{Filler, MARK, Mark, checksum};
use crate::Outcome;

pub const HEADER: usize = 61;
/// The checksum covers what follows it.
const COVERED_FROM: usize = 21;

/// What a record costs besides its key and value, at most, for sizing batches.
pub const RECORD_OVERHEAD: usize = 16;

/// What a producer has sent to a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub records: u64,
    /// Those of them that are long enough to carry a mark.
    pub marks: u64,
}

impl Position {
    fn pass(&mut self, draft: Draft) {
        self.records += 1;
        self.marks += u64::from(draft.size as usize >= MARK);
    }
}

/// Who a batch is from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    pub run: u32,
    pub producer: u32,
    /// Where it begins.
    pub position: Position,
    /// Kafka's producer id and epoch; −1 without idempotence.
    pub producer_id: i64,
    pub epoch: i16,
}

/// Makes batches. The clock of the wall at the run's zero turns intended times into timestamps.
pub struct Builder {
    pub filler: Filler,
    pub wall_ms: i64,
    pub codec: Codec,
    /// A record's bytes while its length is not known.
    scratch: Vec<u8>,
}

impl Builder {
    pub fn new(filler: Filler, wall_ms: i64, codec: Codec) -> Builder {
        Builder { filler, wall_ms, codec, scratch: Vec::new() }
    }

    /// Appends one batch of these records, of which there is at least one. Returns where the next one begins.
    pub fn append(
        &mut self,
        out: &mut Vec<u8>,
        keys: Option<&Keys>,
        origin: Origin,
        drafts: impl Iterator<Item = Draft> + Clone,
    ) -> Outcome<Position> {
        match self.codec {
            Codec::None => Ok(self.plain(out, keys, origin, drafts)),
            _ => self.compressed(out, keys, origin, drafts),
        }
    }

    fn timestamp(&self, draft: Draft) -> i64 {
        self.wall_ms + (draft.intended / 1_000_000) as i64
    }

    fn plain(
        &mut self,
        out: &mut Vec<u8>,
        keys: Option<&Keys>,
        origin: Origin,
        drafts: impl Iterator<Item = Draft>,
    ) -> Position {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let mut position = origin.position;
        let (mut count, mut first, mut last) = (0u32, 0, i64::MIN);
        for draft in drafts {
            let at = self.timestamp(draft);
            if count == 0 {
                first = at;
            }
            last = last.max(at);
            let mark = origin.mark(position, draft);
            position.pass(draft);
            let size = draft.size as usize;
            let key = keys.filter(|_| draft.key != NO_KEY).map(|keys| keys.bytes(draft.key));
            let (delta, key_bytes) = (at - first, key.map_or(0, <[u8]>::len));
            let key_length = key.map_or(-1, |k| k.len() as i64);
            let body = 1
                + varint_size(delta)
                + varint_size(i64::from(count))
                + varint_size(key_length)
                + key_bytes
                + varint_size(size as i64)
                + size
                + 1;
            varint(out, body as i64);
            out.push(0);
            varint(out, delta);
            varint(out, i64::from(count));
            varint(out, key_length);
            out.extend_from_slice(key.unwrap_or_default());
            varint(out, size as i64);
            self.filler.value(out, size, mark);
            out.push(0);
            count += 1;
        }
        seal(&mut out[start..], origin, count, first, last);
        position
    }

    /// The slow way, with the client's own encoder: compression costs more than building the records.
    fn compressed(
        &mut self,
        out: &mut Vec<u8>,
        keys: Option<&Keys>,
        origin: Origin,
        drafts: impl Iterator<Item = Draft>,
    ) -> Outcome<Position> {
        let (mut records, mut position) = (Vec::new(), origin.position);
        for draft in drafts {
            self.scratch.clear();
            self.filler.value(&mut self.scratch, draft.size as usize, origin.mark(position, draft));
            position.pass(draft);
            let key = keys
                .filter(|_| draft.key != NO_KEY)
                .map(|keys| Bytes::copy_from_slice(keys.bytes(draft.key)));
            let value = Some(Bytes::copy_from_slice(&self.scratch));
            records.push(OwnedRecord {
                key,
                value,
                timestamp_ms: self.timestamp(draft),
                ..OwnedRecord::default()
            });
        }
        let options = BatchOptions {
            codec: self.codec,
            producer_id: origin.producer_id,
            producer_epoch: origin.epoch,
            base_sequence: origin.base_sequence(),
        };
        out.extend_from_slice(&encode_batch(&records, options).map_err(|e| e.to_string())?);
        Ok(position)
    }
}

impl Origin {
    fn mark(&self, at: Position, draft: Draft) -> Mark {
        Mark { run: self.run, producer: self.producer, sequence: at.marks, intended: draft.intended }
    }

    fn base_sequence(&self) -> i32 {
        // Kafka's sequences wrap at 2^31.
        if self.producer_id < 0 { -1 } else { (self.position.records & 0x7fff_ffff) as i32 }
    }
}

/// Writes the header of a batch whose records are in place.
fn seal(batch: &mut [u8], origin: Origin, count: u32, first_ms: i64, last_ms: i64) {
    let length = (batch.len() - 12) as u32;
    let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
    put(8, &length.to_be_bytes());
    put(12, &(-1i32).to_be_bytes());
    put(16, &[2]);
    put(23, &count.saturating_sub(1).to_be_bytes());
    put(27, &first_ms.to_be_bytes());
    put(35, &last_ms.to_be_bytes());
    put(43, &origin.producer_id.to_be_bytes());
    put(51, &origin.epoch.to_be_bytes());
    put(53, &origin.base_sequence().to_be_bytes());
    put(57, &count.to_be_bytes());
    let sum = checksum(&batch[COVERED_FROM..]);
    batch[17..21].copy_from_slice(&sum.to_be_bytes());
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varint_size(value: i64) -> usize {
    let bits = 64 - (zigzag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The header of a fetched batch.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub base_offset: i64,
    pub size: usize,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub records: u32,
    crc: u32,
}

impl Header {
    pub fn read(bytes: &[u8]) -> Option<Header> {
        let h = bytes.first_chunk::<HEADER>()?;
        let u32_at = |at: usize| u32::from_be_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        Some(Header {
            base_offset: i64::from_be_bytes(*h.first_chunk()?),
            size: 12 + u32_at(8).min(i32::MAX as u32) as usize,
            attributes: i16::from_be_bytes([h[21], h[22]]),
            last_offset_delta: u32_at(23) as i32,
            records: u32_at(57),
            crc: u32_at(17),
        })
    }

    pub fn next_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta)).saturating_add(1)
    }

    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }

    pub fn is_compressed(&self) -> bool {
        self.attributes & 7 != 0
    }

    /// Whether the batch's bytes are those that its checksum was made of.
    pub fn intact(&self, batch: &[u8]) -> bool {
        batch.get(COVERED_FROM..).is_some_and(|covered| checksum(covered) == self.crc)
    }
}

/// The offset delta and value of each record of an uncompressed batch's payload.
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub fn of(batch: &'a [u8]) -> Records<'a> {
        Records { rest: batch.get(HEADER..).unwrap_or_default() }
    }

    fn varint(from: &mut &'a [u8]) -> Option<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = from.split_first()?;
            *from = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }

    fn bytes(from: &mut &'a [u8]) -> Option<&'a [u8]> {
        let length = Self::varint(from)?.max(0) as usize;
        let (bytes, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(bytes)
    }

    /// `None` in the middle of the bytes is a record that does not parse.
    fn one(&mut self) -> Option<(i64, &'a [u8])> {
        let mut record = Self::bytes(&mut self.rest)?;
        record = record.get(1..)?;
        Self::varint(&mut record)?;
        let delta = Self::varint(&mut record)?;
        Self::bytes(&mut record)?;
        Some((delta, Self::bytes(&mut record)?))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Outcome<(i64, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.one();
        if record.is_none() {
            self.rest = &[];
        }
        Some(record.ok_or_else(|| "a record that does not parse".to_owned()))
    }
}
