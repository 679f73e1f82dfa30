//! The header of a v2 record batch: read, checked and stamped without looking at the records.
//!
//! ```text
//!  0 base offset i64 │  8 length i32 (bytes after itself) │ 12 leader epoch i32 │ 16 magic i8 │ 17 CRC u32
//! 21 attributes i16  │ 23 last offset delta i32 │ 27 base timestamp i64 │ 35 max timestamp i64
//! 43 producer id i64 │ 51 producer epoch i16 │ 53 base sequence i32 │ 57 record count i32 │ 61 records …
//! ```
//! The CRC-32C covers everything from the attributes on: base offset and leader epoch may be rewritten
//! without touching it.

use std::ops::Range;

use crate::model::Producer;

pub const HEADER_SIZE: usize = 61;
/// Base offset and length: what must be read to know a batch's size.
pub const PREFIX_SIZE: usize = 12;

const LEADER_EPOCH: usize = 12;
const MAGIC: usize = 16;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORD_COUNT: usize = 57;

pub const CODEC_MASK: i16 = 0x07;
pub const LOG_APPEND_TIME: i16 = 0x08;
pub const TRANSACTIONAL: i16 = 0x10;
pub const CONTROL: i16 = 0x20;
/// The base timestamp is the time from which the batch's tombstones may go (KIP-534).
pub const DELETE_HORIZON: i16 = 0x40;
/// The least that any batch format has after its prefix.
const MIN_LENGTH: i32 = 14;
/// The smallest record: six one-byte fields and its own length.
const MIN_RECORD: usize = 7;

pub const NO_PRODUCER_ID: i64 = -1;
pub const NO_TIMESTAMP: i64 = -1;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("the batch is cut: {have} bytes of {need}")]
    Truncated { have: usize, need: usize },
    #[error("the batch claims an impossible length of {0}")]
    Length(i32),
    #[error("magic {0} is not the v2 batch format")]
    Magic(i8),
    #[error("the batch of {size} bytes is larger than the {max} allowed")]
    TooLarge { size: usize, max: usize },
    #[error("a produce request must hold exactly one batch for each partition")]
    NotOne,
    #[error("the checksum is {computed:#010x} where the batch says {stored:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("the base offset of a produced batch must be 0, not {0}")]
    BaseOffset(i64),
    #[error("{count} records do not fit a last offset delta of {last_delta} in a batch of {size} bytes")]
    Count { count: i32, last_delta: i32, size: usize },
    #[error("clients cannot write control batches")]
    Control,
    #[error("producer id {id}, epoch {epoch} and sequence {sequence} do not go together")]
    Producer { id: i64, epoch: i16, sequence: i32 },
    #[error("{0} is not a known compression codec")]
    Codec(i16),
}

/// A batch's codec, as its attributes name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
    Unknown(i16),
}

impl Compression {
    /// As attributes name it.
    pub fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
            Self::Unknown(id) => id,
        }
    }
}

/// A copy of the header's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes after the 12-byte prefix.
    pub batch_length: i32,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

fn field<const N: usize>(header: &[u8; HEADER_SIZE], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

impl BatchHeader {
    /// Reads the header of the batch at the start of `bytes`, which need not hold all of the batch.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(h) = bytes.first_chunk::<HEADER_SIZE>() else {
            return Err(BatchError::Truncated { have: bytes.len(), need: HEADER_SIZE });
        };
        let header = Self {
            base_offset: i64::from_be_bytes(field(h, 0)),
            batch_length: i32::from_be_bytes(field(h, 8)),
            leader_epoch: i32::from_be_bytes(field(h, LEADER_EPOCH)),
            magic: h[MAGIC] as i8,
            crc: u32::from_be_bytes(field(h, CRC)),
            attributes: i16::from_be_bytes(field(h, ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(field(h, LAST_OFFSET_DELTA)),
            base_timestamp: i64::from_be_bytes(field(h, BASE_TIMESTAMP)),
            max_timestamp: i64::from_be_bytes(field(h, MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(field(h, PRODUCER_ID)),
            producer_epoch: i16::from_be_bytes(field(h, PRODUCER_EPOCH)),
            base_sequence: i32::from_be_bytes(field(h, BASE_SEQUENCE)),
            record_count: i32::from_be_bytes(field(h, RECORD_COUNT)),
        };
        if header.magic != 2 {
            return Err(BatchError::Magic(header.magic));
        }
        if header.batch_length < (HEADER_SIZE - PREFIX_SIZE) as i32 {
            return Err(BatchError::Length(header.batch_length));
        }
        Ok(header)
    }

    /// The whole batch, prefix included.
    pub fn size(&self) -> usize {
        PREFIX_SIZE + self.batch_length as usize
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// The sequence of the last record; sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        ((i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) & i64::from(i32::MAX)) as i32
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// Who wrote it, if that is an idempotent producer.
    pub fn producer(&self) -> Option<Producer> {
        self.has_producer_id().then(|| Producer::new(self.producer_id, self.producer_epoch))
    }

    pub fn compression(&self) -> Compression {
        match self.attributes & CODEC_MASK {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            other => Compression::Unknown(other),
        }
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// The time from which compaction may drop the batch's tombstones or markers, once it has set one.
    pub fn delete_horizon(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }
}

/// The checksum of a whole batch's covered part.
pub fn checksum(batch: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(&batch[ATTRIBUTES..])
}

/// Checks one batch that is wholly in `batch`, as it lies in a log: length, magic, CRC.
pub fn check_stored(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    if header.size() != batch.len() {
        return Err(BatchError::Truncated { have: batch.len(), need: header.size() });
    }
    let computed = checksum(batch);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    Ok(header)
}

/// Reads the header of what a producer sent for one partition: exactly one whole batch.
pub fn parse_produced(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    if batch.len() < HEADER_SIZE {
        // Length and magic lie at the same place in every batch format, so an old one can be told from a cut one.
        let length = batch.get(8..PREFIX_SIZE).and_then(|b| b.first_chunk()).map(|b| i32::from_be_bytes(*b));
        if let Some(length) = length.filter(|length| *length < MIN_LENGTH) {
            return Err(BatchError::Length(length));
        }
        return match batch.get(MAGIC) {
            Some(&magic) if magic != 2 => Err(BatchError::Magic(magic as i8)),
            _ => Err(BatchError::Truncated { have: batch.len(), need: HEADER_SIZE }),
        };
    }
    let header = BatchHeader::parse(batch)?;
    match header.size() {
        size if size > batch.len() => Err(BatchError::Truncated { have: batch.len(), need: size }),
        size if size < batch.len() => Err(BatchError::NotOne),
        _ => Ok(header),
    }
}

/// Checks a produced batch but for its records: its size, its checksum, and its header's fields against each other.
pub fn check_parsed(batch: &[u8], header: &BatchHeader, max_bytes: usize) -> Result<(), BatchError> {
    let size = batch.len();
    if size > max_bytes {
        return Err(BatchError::TooLarge { size, max: max_bytes });
    }
    let computed = checksum(batch);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    check_fields(header)
}

fn check_fields(header: &BatchHeader) -> Result<(), BatchError> {
    let compression = header.compression();
    if let Compression::Unknown(codec) = compression {
        return Err(BatchError::Codec(codec));
    }
    let (count, last_delta, size) = (header.record_count, header.last_offset_delta, header.size());
    let fits = compression != Compression::None
        || usize::try_from(count).is_ok_and(|n| n <= (size - HEADER_SIZE) / MIN_RECORD);
    if count <= 0 || last_delta != count - 1 || !fits {
        return Err(BatchError::Count { count, last_delta, size });
    }
    if header.is_control() {
        return Err(BatchError::Control);
    }
    if header.base_offset != 0 {
        return Err(BatchError::BaseOffset(header.base_offset));
    }
    let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
    let sane = if header.has_producer_id() {
        epoch >= 0 && sequence >= 0
    } else {
        id == NO_PRODUCER_ID && !header.is_transactional()
    };
    if sane { Ok(()) } else { Err(BatchError::Producer { id, epoch, sequence }) }
}

/// Rewrites where the batch lies. The caller has parsed the batch: shorter slices are a bug.
pub fn stamp(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[LEADER_EPOCH..LEADER_EPOCH + 4].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Makes the broker's clock the batch's time, for every record in it, and renews the checksum.
pub fn stamp_log_append_time(batch: &mut [u8], ms: i64) -> u32 {
    batch[ATTRIBUTES + 1] |= LOG_APPEND_TIME as u8;
    batch[MAX_TIMESTAMP..MAX_TIMESTAMP + 8].copy_from_slice(&ms.to_be_bytes());
    seal(batch)
}

/// Makes the records' own times the batch's, and renews the checksum.
pub fn stamp_create_time(batch: &mut [u8], max_ms: i64) -> u32 {
    batch[ATTRIBUTES + 1] &= !(LOG_APPEND_TIME as u8);
    batch[MAX_TIMESTAMP..MAX_TIMESTAMP + 8].copy_from_slice(&max_ms.to_be_bytes());
    seal(batch)
}

/// Writes the checksum of a batch that is otherwise whole, and returns it.
pub fn seal(batch: &mut [u8]) -> u32 {
    let crc = checksum(batch);
    batch[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    crc
}

/// The fields in which a batch that lost records differs from what it was.
pub struct Rewrite {
    pub attributes: i16,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub record_count: i32,
}

/// Completes a batch whose header was copied from another and whose records are other ones. Offsets, epoch and
/// producer stay.
pub fn finish_rewritten(batch: &mut [u8], fields: &Rewrite) {
    let length = (batch.len() - PREFIX_SIZE) as i32;
    batch[8..PREFIX_SIZE].copy_from_slice(&length.to_be_bytes());
    batch[ATTRIBUTES..ATTRIBUTES + 2].copy_from_slice(&fields.attributes.to_be_bytes());
    batch[BASE_TIMESTAMP..BASE_TIMESTAMP + 8].copy_from_slice(&fields.base_timestamp.to_be_bytes());
    batch[MAX_TIMESTAMP..MAX_TIMESTAMP + 8].copy_from_slice(&fields.max_timestamp.to_be_bytes());
    batch[RECORD_COUNT..RECORD_COUNT + 4].copy_from_slice(&fields.record_count.to_be_bytes());
    seal(batch);
}

/// Walks batches that lie back to back. Ends after the last whole batch; a cut or malformed one is an
/// error, after which it ends.
pub struct BatchIter<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BatchIter<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next batch starts: after an error, where the sound part ends.
    pub fn position(&self) -> usize {
        self.at
    }
}

impl Iterator for BatchIter<'_> {
    type Item = Result<(BatchHeader, Range<usize>), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return None;
        }
        let parsed = BatchHeader::parse(rest).and_then(|header| match header.size() {
            need if need > rest.len() => Err(BatchError::Truncated { have: rest.len(), need }),
            _ => Ok(header),
        });
        Some(match parsed {
            Ok(header) => {
                let range = self.at..self.at + header.size();
                self.at = range.end;
                Ok((header, range))
            }
            Err(error) => {
                self.bytes = &self.bytes[..self.at];
                Err(error)
            }
        })
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
