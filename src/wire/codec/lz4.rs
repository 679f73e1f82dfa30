//! LZ4 frames, those that Kafka's consumers read: one frame of independent blocks.
//!
//! ```text
//! magic u32 │ flags u8 │ largest block u8 │ [content size u64] │ header checksum u8
//! blocks: size u32 (highest bit: not compressed) │ bytes │ [checksum u32] …  │ 0 u32 │ [content checksum u32]
//! ```

use std::io::{self, Write};

use ::lz4::block::{CompressionMode, compress_bound, compress_to_buffer, decompress_to_buffer};
use twox_hash::XxHash32;

use super::CodecError;
use super::blocks::{Sink, Source};

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const VERSION_MASK: u8 = 0xc0;
const VERSION: u8 = 0x40;
const INDEPENDENT: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
const CONTENT_CHECKSUM: u8 = 0x04;
/// A bit without a meaning, and a dictionary's, which nobody has.
const RESERVED: u8 = 0x03;
const PLAIN: u32 = 1 << 31;
/// The level of Kafka's producers: the fast compressor, not a ninth step of the thorough one.
pub(super) const FAST: i32 = 9;
const OUR_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, VERSION | INDEPENDENT, 0x40, 0x82];

struct Header {
    flags: u8,
    largest_block: usize,
    content_size: Option<u64>,
}

fn malformed(why: &str) -> CodecError {
    CodecError::malformed(format_args!("{why} in an lz4 frame"))
}

impl Header {
    fn take(rest: &mut &[u8]) -> Result<Self, CodecError> {
        let cut = || malformed("a cut header");
        if take(rest, 4).ok_or_else(cut)? != MAGIC {
            return Err(CodecError::malformed("no lz4 frame"));
        }
        let described = *rest;
        let &[flags, block] = take(rest, 2).ok_or_else(cut)? else { return Err(cut()) };
        if flags & VERSION_MASK != VERSION || flags & RESERVED != 0 || block & 0x8f != 0 {
            return Err(malformed("unknown flags"));
        }
        if flags & INDEPENDENT == 0 {
            return Err(malformed("blocks that need each other, which Kafka's consumers do not read,"));
        }
        let largest_block = match block >> 4 {
            n @ 4..=7 => 1 << (8 + 2 * n),
            _ => return Err(malformed("an unknown block size")),
        };
        let mut content_size = None;
        if flags & CONTENT_SIZE != 0 {
            let size = take(rest, 8).and_then(<[u8]>::first_chunk).ok_or_else(cut)?;
            content_size = Some(u64::from_le_bytes(*size));
        }
        let described = &described[..described.len() - rest.len()];
        let checksum = *take(rest, 1).and_then(<[u8]>::first).ok_or_else(cut)?;
        if checksum != (XxHash32::oneshot(0, described) >> 8) as u8 {
            return Err(malformed("a wrong header checksum"));
        }
        Ok(Self { flags, largest_block, content_size })
    }
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(n)?;
    *rest = behind;
    Some(taken)
}

fn take_u32(rest: &mut &[u8]) -> Result<u32, CodecError> {
    let bytes = take(rest, 4).and_then(<[u8]>::first_chunk).ok_or_else(|| malformed("a cut block"))?;
    Ok(u32::from_le_bytes(*bytes))
}

/// The blocks of a frame.
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    header: Header,
    ended: bool,
    content: u64,
    hash: XxHash32,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(payload: &'a [u8]) -> Result<Self, CodecError> {
        let mut rest = payload;
        let header = Header::take(&mut rest)?;
        Ok(Self { rest, header, ended: false, content: 0, hash: XxHash32::with_seed(0) })
    }

    fn has(&self, flag: u8) -> bool {
        self.header.flags & flag != 0
    }

    fn end(&mut self) -> Result<(), CodecError> {
        self.ended = true;
        if self.has(CONTENT_CHECKSUM) && take_u32(&mut self.rest)? != self.hash.finish_32() {
            return Err(malformed("a wrong content checksum"));
        }
        if self.header.content_size.is_some_and(|size| size != self.content) {
            return Err(malformed("another content size than it says"));
        }
        if self.rest.is_empty() { Ok(()) } else { Err(malformed("bytes behind the end mark")) }
    }
}

pub(super) fn window(payload: &[u8]) -> usize {
    Header::take(&mut &payload[..]).map_or(0, |header| header.largest_block)
}

impl Source for Blocks<'_> {
    fn next(&mut self, block: &mut Vec<u8>) -> Result<bool, CodecError> {
        if self.ended {
            return Ok(false);
        }
        let size = take_u32(&mut self.rest)?;
        if size == 0 {
            return self.end().map(|()| false);
        }
        let (plain, size) = (size & PLAIN != 0, (size & !PLAIN) as usize);
        if size > self.header.largest_block {
            return Err(malformed("a block larger than the largest"));
        }
        let bytes = take(&mut self.rest, size).ok_or_else(|| malformed("a cut block"))?;
        if self.has(BLOCK_CHECKSUMS) && take_u32(&mut self.rest)? != XxHash32::oneshot(0, bytes) {
            return Err(malformed("a wrong block checksum"));
        }
        if plain {
            block.extend_from_slice(bytes);
        } else {
            let largest = self.header.largest_block;
            block.resize(largest, 0);
            let length = decompress_to_buffer(bytes, Some(largest as i32), block)
                .map_err(|_| malformed("a damaged block"))?;
            block.truncate(length);
        }
        self.content += block.len() as u64;
        if self.has(CONTENT_CHECKSUM) {
            std::hash::Hasher::write(&mut self.hash, block);
        }
        Ok(true)
    }
}

/// One frame.
pub(super) struct Frame<W> {
    out: W,
    mode: CompressionMode,
    packed: Vec<u8>,
}

impl<W: Write> Frame<W> {
    pub(super) fn new(mut out: W, level: i32) -> io::Result<Self> {
        out.write_all(&OUR_HEADER)?;
        let mode = match level {
            FAST => CompressionMode::DEFAULT,
            level => CompressionMode::HIGHCOMPRESSION(level),
        };
        Ok(Self { out, mode, packed: vec![0; compress_bound(Self::BLOCK)?] })
    }
}

impl<W: Write> Sink for Frame<W> {
    /// As Kafka writes them, without checksums.
    const BLOCK: usize = 64 << 10;

    fn put(&mut self, block: &[u8]) -> io::Result<()> {
        let packed = compress_to_buffer(block, Some(self.mode), false, &mut self.packed)?;
        let (size, bytes) = match packed < block.len() {
            true => (packed as u32, &self.packed[..packed]),
            false => (block.len() as u32 | PLAIN, block),
        };
        self.out.write_all(&size.to_le_bytes())?;
        self.out.write_all(bytes)
    }

    fn end(mut self) -> io::Result<()> {
        self.out.write_all(&0_u32.to_le_bytes())
    }
}
