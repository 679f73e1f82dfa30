//! Streams of blocks that are compressed one by one: the block between a reader or a writer and the codec.

use std::io::{self, Read, Write};

use super::CodecError;

/// Where compressed blocks come from.
pub(super) trait Source {
    /// Puts the next block, decompressed, in the place of the last one; false at the end.
    fn next(&mut self, block: &mut Vec<u8>) -> Result<bool, CodecError>;
}

/// The decompressed blocks of a source, one after the other.
pub(super) struct Reader<S> {
    source: S,
    block: Vec<u8>,
    at: usize,
}

impl<S: Source> Reader<S> {
    pub(super) fn new(source: S) -> Self {
        Self { source, block: Vec::new(), at: 0 }
    }
}

impl<S: Source> Read for Reader<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            self.block.clear();
            self.at = 0;
            if !self.source.next(&mut self.block)? {
                return Ok(0);
            }
        }
        let n = out.len().min(self.block.len() - self.at);
        out[..n].copy_from_slice(&self.block[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Where blocks go to be compressed.
pub(super) trait Sink: Sized {
    /// Bytes of each block but the last.
    const BLOCK: usize;

    /// Takes a block of at least one byte.
    fn put(&mut self, block: &[u8]) -> io::Result<()>;

    /// Ends the stream.
    fn end(self) -> io::Result<()>;
}

/// Cuts what is written into blocks.
pub(super) struct Writer<S> {
    sink: S,
    block: Vec<u8>,
}

impl<S: Sink> Writer<S> {
    pub(super) fn new(sink: S) -> Self {
        Self { sink, block: Vec::with_capacity(S::BLOCK) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.sink.put(&self.block)?;
            self.block.clear();
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.end_block()?;
        self.sink.end()
    }
}

impl<S: Sink> Write for Writer<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(S::BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..n]);
        if self.block.len() == S::BLOCK {
            self.end_block()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
