//! Reading through a batch's records without keeping any: whether each is what the format says, and the little that a
//! broker judges it by.
//!
//! ```text
//! length varint │ attributes i8 │ timestamp delta varlong │ offset delta varint │ key length varint (-1: null) │ key
//!               │ value length varint (-1: null) │ value │ headers varint │ (key length varint │ key │ value length │ value) …
//! ```
//! One grammar over two inputs: records that lie in memory, and records that are decompressed as they are read, of which
//! no more than [`WINDOW`] is in memory, however large one is.

use std::io::Read;

use super::codec::CodecError;

/// Decompressed records that are in memory at once.
pub const WINDOW: usize = 64 << 10;
/// The longest varint.
const MAX_VARINT: usize = 5;

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("its length of {0} is impossible")]
    Length(i32),
    #[error("it ends within a field")]
    Cut,
    #[error("a number has too many bytes")]
    Number,
    #[error("it has {0} headers")]
    Headers(i32),
    #[error("a header has no key")]
    HeaderKey,
    #[error("{0} bytes follow its last field")]
    Rest(usize),
    #[error("it is not there")]
    Missing,
}

/// A record, as far as a broker judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub has_key: bool,
}

/// Where a record's fields are read from.
trait Input {
    fn byte(&mut self) -> Result<u8, Fault>;
    fn skip(&mut self, bytes: usize) -> Result<(), Fault>;
    /// Bytes up to the record's end.
    fn left(&self) -> usize;
}

impl Input for &[u8] {
    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        self.split_off_first().copied().ok_or(Fault::Cut)
    }

    #[inline]
    fn skip(&mut self, bytes: usize) -> Result<(), Fault> {
        *self = self.get(bytes..).ok_or(Fault::Cut)?;
        Ok(())
    }

    #[inline]
    fn left(&self) -> usize {
        self.len()
    }
}

#[inline]
fn varint(input: &mut impl Input) -> Result<i32, Fault> {
    let first = input.byte()?;
    Ok(unzigzag(if first < 0x80 { u32::from(first) } else { long_varint(input, first)? }))
}

/// Kafka drops what does not fit into 32 bits; other clients keep it, or fail. No producer writes such a number.
#[inline]
fn long_varint(input: &mut impl Input, first: u8) -> Result<u32, Fault> {
    let mut raw = u32::from(first & 0x7f);
    for shift in [7, 14, 21] {
        let byte = input.byte()?;
        raw |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(raw);
        }
    }
    match input.byte()? {
        byte @ 0..=0x0f => Ok(raw | u32::from(byte) << 28),
        _ => Err(Fault::Number),
    }
}

#[inline]
fn varlong(input: &mut impl Input) -> Result<i64, Fault> {
    let first = input.byte()?;
    let raw = if first < 0x80 { u64::from(first) } else { long_varlong(input, first)? };
    Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

#[inline]
fn long_varlong(input: &mut impl Input, first: u8) -> Result<u64, Fault> {
    let mut raw = u64::from(first & 0x7f);
    for shift in (7..63).step_by(7) {
        let byte = input.byte()?;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(raw);
        }
    }
    match input.byte()? {
        byte @ 0..=1 => Ok(raw | u64::from(byte) << 63),
        _ => Err(Fault::Number),
    }
}

/// Steps over a field that its length precedes, and says whether there is one: any negative length is null.
fn field(input: &mut impl Input) -> Result<bool, Fault> {
    match usize::try_from(varint(input)?) {
        Ok(length) => input.skip(length).map(|()| true),
        Err(_) => Ok(false),
    }
}

/// All of a record but its length.
fn body(input: &mut impl Input) -> Result<Scanned, Fault> {
    input.skip(1)?;
    let timestamp_delta = varlong(input)?;
    let offset_delta = varint(input)?;
    let has_key = field(input)?;
    field(input)?;
    let count = varint(input)?;
    if count != 0 {
        headers(input, count)?;
    }
    match input.left() {
        0 => Ok(Scanned { timestamp_delta, offset_delta, has_key }),
        rest => Err(Fault::Rest(rest)),
    }
}

fn headers(input: &mut impl Input, count: i32) -> Result<(), Fault> {
    if usize::try_from(count).is_ok_and(|count| count <= input.left()) {
        for _ in 0..count {
            if !field(input)? {
                return Err(Fault::HeaderKey);
            }
            field(input)?;
        }
        return Ok(());
    }
    Err(Fault::Headers(count))
}

/// A number of up to three bytes, as it is written, and how many those are.
#[inline(always)]
fn short(word: u32) -> Option<(u32, usize)> {
    let number = word & 0x7f;
    if word & 0x80 == 0 {
        return Some((number, 1));
    }
    let number = number | word >> 1 & 0x3f80;
    if word & 0x8000 == 0 {
        return Some((number, 2));
    }
    (word & 0x80_0000 == 0).then_some((number | word >> 2 & 0x1f_c000, 3))
}

/// Where the field at `at` ends, and whether there is one.
#[inline(always)]
fn short_field(bytes: &[u8], at: usize) -> Option<(bool, usize)> {
    let (length, n) = short(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))?;
    match length {
        1 => Some((false, at + n)),
        _ => (length & 1 == 0).then_some((true, at + n + (length >> 1) as usize)),
    }
}

/// What comes before a record's key: room for each number to begin within the first sixteen bytes.
type Front = [u8; 20];

#[inline(always)]
fn front_number(front: &Front, at: &mut usize) -> Option<u32> {
    let i = *at & 15;
    let (number, n) = short(u32::from_le_bytes([front[i], front[i + 1], front[i + 2], front[i + 3]]))?;
    *at += n;
    Some(number)
}

/// The record that begins `bytes` and where it ends, if it is like most: its numbers are short, and it is not among the
/// last bytes. Nothing is said of others. Fields are read wherever they lead; as each only leads on, a record whose last
/// one ends where the record does has all of them within.
#[inline(always)]
fn quick(bytes: &[u8]) -> Option<(Scanned, usize)> {
    let front: &Front = bytes.first_chunk()?;
    let mut at = 0;
    let length = front_number(front, &mut at)?;
    let start = at;
    at += 1;
    // No more than twelve bytes so far: the four numbers begin within sixteen.
    let timestamp_delta = i64::from(unzigzag(front_number(front, &mut at)?));
    let offset_delta = unzigzag(front_number(front, &mut at)?);
    let key = front_number(front, &mut at)?;
    let has_key = key != 1;
    at += if has_key { (key >> 1) as usize } else { 0 };
    let (_, at) = short_field(bytes, at)?;
    let headers = *bytes.get(at)?;
    let mut end = at + 1;
    for _ in 0..headers >> 1 {
        (_, end) = short_field(bytes, end).filter(|(has_key, _)| *has_key)?;
        (_, end) = short_field(bytes, end)?;
    }
    let odd = length & 1 != 0 || has_key && key & 1 != 0 || headers & 0x81 != 0;
    let whole = end == start + (length >> 1) as usize && end <= bytes.len();
    (whole && !odd).then_some((Scanned { timestamp_delta, offset_delta, has_key }, end))
}

#[inline(always)]
fn unzigzag(raw: u32) -> i32 {
    (raw >> 1) as i32 ^ -((raw & 1) as i32)
}

/// The next of records that lie in memory, and what follows it.
#[inline(always)]
pub fn take(records: &[u8]) -> Result<(Scanned, &[u8]), Fault> {
    match quick(records) {
        Some((scanned, end)) => Ok((scanned, &records[end..])),
        None => take_any(records),
    }
}

#[cold]
#[inline(never)]
fn take_any(mut records: &[u8]) -> Result<(Scanned, &[u8]), Fault> {
    if records.is_empty() {
        return Err(Fault::Missing);
    }
    let length = varint(&mut records)?;
    match usize::try_from(length).ok().and_then(|n| records.split_at_checked(n)) {
        Some((mut record, behind)) => Ok((body(&mut record)?, behind)),
        None => Err(Fault::Length(length)),
    }
}

/// Records that are decompressed as they are read.
pub struct Stream<'a> {
    source: Box<dyn Read + 'a>,
    buffer: &'a mut [u8],
    at: usize,
    end: usize,
    ended: bool,
    failed: Option<CodecError>,
    /// Bytes that may still come, and how many that was at first.
    budget: usize,
    limit: usize,
}

impl<'a> Stream<'a> {
    /// Fails once more than `limit` bytes have come. `buffer` holds [`WINDOW`] bytes.
    pub fn new(source: Box<dyn Read + 'a>, buffer: &'a mut [u8], limit: usize) -> Self {
        assert!(buffer.len() >= WINDOW, "room for a window");
        Self { source, buffer, at: 0, end: 0, ended: false, failed: None, budget: limit, limit }
    }

    /// Decompressed bytes so far.
    pub fn read(&self) -> usize {
        self.limit - self.budget
    }

    /// Why the stream ended, if not because it was over. A fault that was found is then its consequence.
    pub fn failed(&mut self) -> Option<CodecError> {
        self.failed.take()
    }

    /// Reads until `bytes` are buffered or the stream has ended; whether they are.
    fn fill(&mut self, bytes: usize) -> bool {
        if self.end - self.at >= bytes {
            return true;
        }
        self.buffer.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        while self.end < bytes && !self.ended {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(n) if n > self.budget => self.fail(CodecError::TooLarge(self.limit)),
                Ok(n) => {
                    self.budget -= n;
                    self.end += n;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => self.fail(e.into()),
            }
        }
        self.end >= bytes
    }

    fn fail(&mut self, why: CodecError) {
        self.failed = Some(why);
        self.ended = true;
    }

    /// The next record.
    pub fn take(&mut self) -> Result<Scanned, Fault> {
        if let Some((scanned, end)) = quick(&self.buffer[self.at..self.end]) {
            self.at += end;
            return Ok(scanned);
        }
        self.take_any()
    }

    fn take_any(&mut self) -> Result<Scanned, Fault> {
        if !self.fill(1) {
            return Err(Fault::Missing);
        }
        self.fill(MAX_VARINT);
        let mut start = &self.buffer[self.at..self.end];
        let length = varint(&mut start)?;
        self.at = self.end - start.len();
        let bytes = usize::try_from(length).map_err(|_| Fault::Length(length))?;
        if bytes > WINDOW {
            return body(&mut Part { stream: self, left: bytes });
        }
        if !self.fill(bytes) {
            return Err(Fault::Length(length));
        }
        let mut record = &self.buffer[self.at..self.at + bytes];
        self.at += bytes;
        body(&mut record)
    }

    /// Whether anything follows.
    pub fn is_over(&mut self) -> bool {
        !self.fill(1)
    }
}

/// A record that is larger than the window.
struct Part<'s, 'a> {
    stream: &'s mut Stream<'a>,
    left: usize,
}

impl Input for Part<'_, '_> {
    fn byte(&mut self) -> Result<u8, Fault> {
        if self.left == 0 || !self.stream.fill(1) {
            return Err(Fault::Cut);
        }
        let byte = self.stream.buffer[self.stream.at];
        self.stream.at += 1;
        self.left -= 1;
        Ok(byte)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Fault> {
        self.left = self.left.checked_sub(bytes).ok_or(Fault::Cut)?;
        let mut bytes = bytes;
        while bytes > 0 {
            if !self.stream.fill(1) {
                return Err(Fault::Cut);
            }
            let step = bytes.min(self.stream.end - self.stream.at);
            self.stream.at += step;
            bytes -= step;
        }
        Ok(())
    }

    fn left(&self) -> usize {
        self.left
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
