//! Requests written and answers read by hand, without copies of payloads.
//!
//! Fixed versions without tagged fields keep both simple, and every broker speaks them: Produce 7, Fetch 11.

use crate::Outcome;
use crate::net::lane::HEAD;

const PRODUCE: (i16, i16) = (0, 7);
const FETCH: (i16, i16) = (1, 11);
const TIMEOUT_MS: i32 = 30_000;
const CLIENT: &str = "weir-perf";

/// What comes before the partitions of a Produce request, length and correlation id to be filled in.
pub fn produce_start(out: &mut Vec<u8>, topic: &str, acks: i16) {
    start(out, PRODUCE);
    out.extend_from_slice(&(-1i16).to_be_bytes());
    out.extend_from_slice(&acks.to_be_bytes());
    out.extend_from_slice(&TIMEOUT_MS.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    string(out, topic);
    out.extend_from_slice(&0i32.to_be_bytes());
}

/// Where the number of partitions stands in a Produce request.
pub fn produce_count_at(topic: &str) -> usize {
    HEAD + 2 + CLIENT.len() + 2 + 2 + 4 + 4 + 2 + topic.len()
}

/// The head and what follows up to the records, for one batch that is sent as a piece of its own.
pub fn produce_one(topic: &str, acks: i16, partition: i32, batch: usize) -> ([u8; HEAD], Vec<u8>) {
    let mut out = Vec::new();
    produce_start(&mut out, topic, acks);
    let at = produce_count_at(topic);
    out[at..at + 4].copy_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&partition.to_be_bytes());
    out.extend_from_slice(&(batch as i32).to_be_bytes());
    let length = (out.len() - 4 + batch) as i32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    let head = *out.first_chunk().expect("longer than a head");
    out.drain(..HEAD);
    (head, out)
}

/// Calls `each` with every partition of a Produce answer, its error, and its base offset.
pub fn produce_answer(body: &[u8], mut each: impl FnMut(i32, i16, i64)) -> Outcome<()> {
    let mut cursor = Cursor(body);
    for _ in 0..cursor.i32()? {
        cursor.string()?;
        for _ in 0..cursor.i32()? {
            let (partition, error, base_offset) = (cursor.i32()?, cursor.i16()?, cursor.i64()?);
            // Append time and log start offset.
            cursor.take(16)?;
            each(partition, error, base_offset);
        }
    }
    Ok(())
}

/// How to fetch, the same for every request of a consumer.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
}

/// A Fetch request in a session (KIP-227): the partitions are those whose offset the broker does not know.
pub fn fetch(
    out: &mut Vec<u8>,
    topic: &str,
    limits: FetchLimits,
    session: (i32, i32),
    partitions: impl ExactSizeIterator<Item = (i32, i64)>,
) {
    start(out, FETCH);
    let put = |out: &mut Vec<u8>, value: i32| out.extend_from_slice(&value.to_be_bytes());
    put(out, -1);
    put(out, limits.max_wait_ms);
    put(out, limits.min_bytes);
    put(out, limits.max_bytes);
    out.push(0);
    put(out, session.0);
    put(out, session.1);
    if partitions.len() == 0 {
        put(out, 0);
    } else {
        put(out, 1);
        string(out, topic);
        put(out, partitions.len() as i32);
        for (partition, offset) in partitions {
            put(out, partition);
            put(out, -1);
            out.extend_from_slice(&offset.to_be_bytes());
            out.extend_from_slice(&(-1i64).to_be_bytes());
            put(out, limits.max_bytes);
        }
    }
    put(out, 0);
    string(out, "");
    finish(out);
}

/// One partition of a Fetch answer.
pub struct Fetched<'a> {
    pub partition: i32,
    pub error: i16,
    pub log_start_offset: i64,
    pub records: &'a [u8],
}

/// The error and session of a Fetch answer, and its partitions through `each`.
pub fn fetch_answer(body: &[u8], mut each: impl FnMut(Fetched<'_>) -> Outcome<()>) -> Outcome<(i16, i32)> {
    let mut cursor = Cursor(body);
    cursor.take(4)?;
    let (error, session) = (cursor.i16()?, cursor.i32()?);
    for _ in 0..cursor.i32()? {
        cursor.string()?;
        for _ in 0..cursor.i32()? {
            let (partition, error) = (cursor.i32()?, cursor.i16()?);
            // High watermark and last stable offset.
            cursor.take(16)?;
            let log_start_offset = cursor.i64()?;
            let aborted = cursor.i32()?.max(0) as usize;
            cursor.take(aborted.saturating_mul(16))?;
            cursor.take(4)?;
            let length = cursor.i32()?.max(0) as usize;
            let records = cursor.take(length)?;
            each(Fetched { partition, error, log_start_offset, records })?;
        }
    }
    Ok((error, session))
}

fn start(out: &mut Vec<u8>, (key, version): (i16, i16)) {
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&key.to_be_bytes());
    out.extend_from_slice(&version.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    string(out, CLIENT);
}

/// Fills in the length of a frame that is complete.
pub fn finish(out: &mut [u8]) {
    let length = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&length.to_be_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as i16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Outcome<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or("an answer is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Outcome<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("took N bytes"))
    }

    fn i16(&mut self) -> Outcome<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Outcome<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Outcome<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn string(&mut self) -> Outcome<()> {
        let length = self.i16()?.max(0) as usize;
        self.take(length).map(|_| ())
    }
}
