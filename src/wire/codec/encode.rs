//! Compressing as a stream.

use std::io::{self, Write};

use super::{CodecError, blocks, lz4, snappy};
use crate::wire::batch::Compression;

/// A codec with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    None,
    /// 1 to 9, or -1 for the library's own.
    Gzip(i32),
    Snappy,
    /// 1 to 17; 9 is the fast compressor, as with Kafka.
    Lz4(i32),
    Zstd(i32),
}

impl Encoding {
    /// As producers write that set no level.
    pub fn default_of(codec: Compression) -> Result<Self, CodecError> {
        Ok(match codec {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip(-1),
            Compression::Snappy => Self::Snappy,
            Compression::Lz4 => Self::Lz4(lz4::FAST),
            Compression::Zstd => Self::Zstd(3),
            Compression::Unknown(codec) => return Err(CodecError::Unknown(codec)),
        })
    }

    pub fn codec(self) -> Compression {
        match self {
            Self::None => Compression::None,
            Self::Gzip(_) => Compression::Gzip,
            Self::Snappy => Compression::Snappy,
            Self::Lz4(_) => Compression::Lz4,
            Self::Zstd(_) => Compression::Zstd,
        }
    }
}

impl Encoding {
    /// Bytes of memory that compressing takes, beside what goes in and comes out: tables, which zstd makes no larger than
    /// its input calls for.
    pub fn memory(self) -> usize {
        match self {
            Self::None => 0,
            Self::Gzip(_) => 512 << 10,
            Self::Snappy | Self::Lz4(_) => 256 << 10,
            Self::Zstd(..=3) => 4 << 20,
            Self::Zstd(4..=9) => 16 << 20,
            Self::Zstd(_) => 64 << 20,
        }
    }
}

/// Appends what is written to a buffer, compressed.
pub struct Writer<'a>(Inner<'a>);

enum Inner<'a> {
    None(Bounded<'a>),
    Gzip(flate2::write::GzEncoder<Bounded<'a>>),
    Snappy(Box<blocks::Writer<snappy::Stream<Bounded<'a>>>>),
    Lz4(blocks::Writer<lz4::Frame<Bounded<'a>>>),
    Zstd(Box<::zstd::stream::write::Encoder<'static, Bounded<'a>>>),
}

impl<'a> Writer<'a> {
    /// `size` is what will be written, in bytes: exactly so.
    pub fn new(encoding: Encoding, out: &'a mut Vec<u8>, size: u64) -> Result<Self, CodecError> {
        Self::bounded(encoding, out, usize::MAX, size)
    }

    /// Fails once `out` would hold more than `most` bytes.
    pub fn bounded(
        encoding: Encoding,
        out: &'a mut Vec<u8>,
        most: usize,
        size: u64,
    ) -> Result<Self, CodecError> {
        let out = Bounded { out, most };
        Ok(Self(match encoding {
            Encoding::None => Inner::None(out),
            Encoding::Gzip(level) => {
                let level =
                    u32::try_from(level).map_or(flate2::Compression::default(), flate2::Compression::new);
                Inner::Gzip(flate2::write::GzEncoder::new(out, level))
            }
            Encoding::Snappy => Inner::Snappy(Box::new(blocks::Writer::new(snappy::Stream::new(out)?))),
            Encoding::Lz4(level) => Inner::Lz4(blocks::Writer::new(lz4::Frame::new(out, level)?)),
            Encoding::Zstd(level) => {
                let mut encoder = ::zstd::stream::write::Encoder::new(out, level)?;
                // Without it the highest levels reserve a window of 128 MiB for a few records.
                encoder.set_pledged_src_size(Some(size))?;
                Inner::Zstd(Box::new(encoder))
            }
        }))
    }

    pub fn finish(self) -> Result<(), CodecError> {
        let finished = match self.0 {
            Inner::None(_) => Ok(()),
            Inner::Gzip(encoder) => encoder.finish().map(|_| ()),
            Inner::Snappy(stream) => stream.finish(),
            Inner::Lz4(frame) => frame.finish(),
            Inner::Zstd(encoder) => encoder.finish().map(|_| ()),
        };
        Ok(finished?)
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::None(out) => out.write(bytes),
            Inner::Gzip(encoder) => encoder.write(bytes),
            Inner::Snappy(stream) => stream.write(bytes),
            Inner::Lz4(frame) => frame.write(bytes),
            Inner::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    most: usize,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.most.saturating_sub(self.out.len()) {
            return Err(CodecError::NoRoom(self.most).into());
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
