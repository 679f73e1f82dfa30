//! Snappy: the xerial stream of blocks, or one bare block.

use std::io::{self, Read, Write};

use super::CodecError;

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic, the stream's version, and the least version that reads it.
const HEADER: usize = 16;
const VERSION: u32 = 1;
const BLOCK: usize = 32 << 10;
/// The most that a byte of a block can expand to: a copy of 64 bytes takes three.
const RATIO: usize = 22;

/// The decompressed blocks of a payload, one after the other.
pub(super) struct Blocks<'a> {
    rest: &'a [u8],
    bare: bool,
    limit: usize,
    block: Vec<u8>,
    at: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(payload: &'a [u8], limit: usize) -> Result<Self, CodecError> {
        let stream = |rest, bare| Self { rest, bare, limit, block: Vec::new(), at: 0 };
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
    fn next(&mut self) -> Result<Option<&'a [u8]>, CodecError> {
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

    fn open(&mut self, block: &[u8]) -> Result<(), CodecError> {
        let length = claimed(block)?;
        if length > self.limit {
            return Err(CodecError::TooLarge(self.limit));
        }
        self.block.resize(length, 0);
        self.at = 0;
        let opened = snap::raw::Decoder::new().decompress(block, &mut self.block);
        opened.map(drop).map_err(CodecError::malformed)
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
    while let Ok(Some(block)) = blocks.next() {
        largest = largest.max(claimed(block).unwrap_or(0));
    }
    largest
}

impl Read for Blocks<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            let Some(block) = self.next()? else { return Ok(0) };
            self.open(block)?;
        }
        let n = out.len().min(self.block.len() - self.at);
        out[..n].copy_from_slice(&self.block[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Writes the xerial stream.
pub(super) struct Stream<W: Write> {
    out: W,
    plain: Vec<u8>,
    packed: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl<W: Write> Stream<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_be_bytes())?;
        out.write_all(&VERSION.to_be_bytes())?;
        let packed = vec![0; snap::raw::max_compress_len(BLOCK)];
        Ok(Self { out, plain: Vec::with_capacity(BLOCK), packed, encoder: snap::raw::Encoder::new() })
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.plain.is_empty() {
            return Ok(());
        }
        let length = self.encoder.compress(&self.plain, &mut self.packed).map_err(CodecError::malformed)?;
        self.plain.clear();
        self.out.write_all(&(length as u32).to_be_bytes())?;
        self.out.write_all(&self.packed[..length])
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.end_block()
    }
}

impl<W: Write> Write for Stream<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(BLOCK - self.plain.len());
        self.plain.extend_from_slice(&bytes[..n]);
        if self.plain.len() == BLOCK {
            self.end_block()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
