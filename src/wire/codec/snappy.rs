//! Snappy: the xerial stream of blocks, or one bare block.

use std::io::{self, Write};

use super::CodecError;
use super::blocks::{Sink, Source};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic, the stream's version, and the least version that reads it.
const HEADER: usize = 16;
const VERSION: u32 = 1;
/// The most that a byte of a block can expand to: a copy of 64 bytes takes three.
const RATIO: usize = 22;

/// The blocks of a payload.
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    bare: bool,
    limit: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(payload: &'a [u8], limit: usize) -> Result<Self, CodecError> {
        let stream = |rest, bare| Self { rest, bare, limit };
        if !payload.starts_with(&MAGIC) || payload.len() < HEADER {
            return Ok(stream(payload, true));
        }
        let (header, rest) = payload.split_at(HEADER);
        match header[8..12] {
            [a, b, c, d] if u32::from_be_bytes([a, b, c, d]) >= VERSION => Ok(stream(rest, false)),
            _ => Err(CodecError::malformed("a snappy stream of an old version")),
        }
    }

    /// The next compressed block.
    fn packed(&mut self) -> Result<Option<&'a [u8]>, CodecError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if self.bare {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        let block = self
            .rest
            .split_first_chunk::<4>()
            .and_then(|(length, behind)| behind.split_at_checked(u32::from_be_bytes(*length) as usize));
        let (block, behind) =
            block.ok_or_else(|| CodecError::malformed("a snappy block longer than the batch"))?;
        self.rest = behind;
        Ok(Some(block))
    }
}

/// What a block says that it expands to, and can.
fn claimed(block: &[u8]) -> Result<usize, CodecError> {
    let length = snap::raw::decompress_len(block).map_err(CodecError::malformed)?;
    if length > block.len().saturating_mul(RATIO) {
        return Err(CodecError::malformed("a snappy block that claims more than it can hold"));
    }
    Ok(length)
}

/// The largest block.
pub(super) fn window(payload: &[u8]) -> usize {
    let Ok(mut blocks) = Blocks::new(payload, 0) else { return 0 };
    let mut largest = 0;
    while let Ok(Some(block)) = blocks.packed() {
        largest = largest.max(claimed(block).unwrap_or(0));
    }
    largest
}

impl Source for Blocks<'_> {
    fn next(&mut self, block: &mut Vec<u8>) -> Result<bool, CodecError> {
        let Some(packed) = self.packed()? else { return Ok(false) };
        let length = claimed(packed)?;
        if length > self.limit {
            return Err(CodecError::TooLarge(self.limit));
        }
        block.resize(length, 0);
        snap::raw::Decoder::new().decompress(packed, block).map_err(CodecError::malformed)?;
        Ok(true)
    }
}

/// The xerial stream.
pub(super) struct Stream<W> {
    out: W,
    packed: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl<W: Write> Stream<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_be_bytes())?;
        out.write_all(&VERSION.to_be_bytes())?;
        let packed = vec![0; snap::raw::max_compress_len(Self::BLOCK)];
        Ok(Self { out, packed, encoder: snap::raw::Encoder::new() })
    }
}

impl<W: Write> Sink for Stream<W> {
    const BLOCK: usize = 32 << 10;

    fn put(&mut self, block: &[u8]) -> io::Result<()> {
        let length = self.encoder.compress(block, &mut self.packed).map_err(CodecError::malformed)?;
        self.out.write_all(&(length as u32).to_be_bytes())?;
        self.out.write_all(&self.packed[..length])
    }

    fn end(self) -> io::Result<()> {
        Ok(())
    }
}
