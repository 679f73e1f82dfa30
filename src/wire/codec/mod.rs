//! The four codecs that a batch's records may be compressed with, as Kafka frames them.
//!
//! Snappy comes in two shapes: the xerial stream that Java writes, and a bare block, which librdkafka and others
//! write; Kafka reads both. What is written is always the xerial stream. Reading is a stream: what it holds in memory
//! is bounded by [`window`], whatever the payload claims. Output is bounded by the caller.

mod blocks;
mod encode;
mod lz4;
mod snappy;
mod zstd;

use std::io::{self, Read};

use super::batch::Compression;

pub use encode::{Encoding, Writer};

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("{0} is not a known compression codec")]
    Unknown(i16),
    #[error("the records are larger than {0} bytes when decompressed")]
    TooLarge(usize),
    #[error("the compressed records cannot be read: {0}")]
    Malformed(String),
    #[error("more than {0} bytes when compressed")]
    NoRoom(usize),
}

impl CodecError {
    fn malformed(e: impl std::fmt::Display) -> Self {
        Self::Malformed(e.to_string())
    }
}

/// Codecs are [`Read`] and [`io::Write`], whose error carries ours.
impl From<io::Error> for CodecError {
    fn from(e: io::Error) -> Self {
        e.downcast().unwrap_or_else(Self::malformed)
    }
}

impl From<CodecError> for io::Error {
    fn from(e: CodecError) -> Self {
        io::Error::other(e)
    }
}

/// Records of text shrink to an eighth at best, most of the time.
const USUAL_RATIO: usize = 8;
/// Inflating keeps the last 32 KiB and its tables.
const GZIP_WINDOW: usize = 64 << 10;

/// The largest window that any codec is given: what zstd's highest level asks for.
pub const LARGEST_WINDOW: usize = zstd::LARGEST_WINDOW;

/// Decompresses `payload` as it is read. No block that is larger than `limit` is decompressed, and nothing is that must
/// look back on more than `memory` bytes; what all blocks together come to is the caller's to bound.
pub fn reader<'a>(
    codec: Compression,
    payload: &'a [u8],
    limit: usize,
    memory: usize,
) -> Result<Box<dyn Read + 'a>, CodecError> {
    Ok(match codec {
        Compression::None => Box::new(payload),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(payload)),
        Compression::Snappy => Box::new(blocks::Reader::new(snappy::Blocks::new(payload, limit)?)),
        Compression::Lz4 => Box::new(blocks::Reader::new(lz4::Blocks::new(payload)?)),
        Compression::Zstd => Box::new(zstd::reader(payload, memory)?),
        Compression::Unknown(codec) => return Err(CodecError::Unknown(codec)),
    })
}

/// Bytes that [`reader`] may come to hold for this payload.
pub fn window(codec: Compression, payload: &[u8]) -> usize {
    match codec {
        Compression::None | Compression::Unknown(_) => 0,
        Compression::Gzip => GZIP_WINDOW,
        Compression::Snappy => snappy::window(payload),
        Compression::Lz4 => lz4::window(payload),
        Compression::Zstd => zstd::window(payload),
    }
}

/// What the records of a payload probably take, decompressed: what the payload says, else [`USUAL_RATIO`] times as much.
/// Never more than `limit`, and not to be relied on.
pub fn expected_size(codec: Compression, payload: &[u8], limit: usize) -> usize {
    let said = match codec {
        Compression::None => Some(payload.len()),
        // The last member's, modulo 2^32; batches have one.
        Compression::Gzip => payload.last_chunk::<4>().map(|size| u32::from_le_bytes(*size) as usize),
        _ => None,
    };
    said.unwrap_or_else(|| payload.len().saturating_mul(USUAL_RATIO)).max(payload.len()).min(limit)
}

/// Replaces `out` with the records, at most `limit` bytes of them.
pub fn decompress(
    codec: Compression,
    payload: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    out.clear();
    if codec == Compression::None && payload.len() > limit {
        return Err(CodecError::TooLarge(limit));
    }
    let read = reader(codec, payload, limit, LARGEST_WINDOW)?.take(limit as u64 + 1).read_to_end(out)?;
    if read > limit { Err(CodecError::TooLarge(limit)) } else { Ok(()) }
}

/// Appends the records to `out`, compressed as a producer does that sets no level.
pub fn compress(codec: Compression, records: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let mut writer = Writer::new(Encoding::default_of(codec)?, out, records.len() as u64)?;
    io::Write::write_all(&mut writer, records)?;
    writer.finish()
}

#[cfg(test)]
mod tests;
