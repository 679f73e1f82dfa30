//! The four codecs that a batch's records may be compressed with, as Kafka frames them.
//!
//! Snappy comes in two shapes: the xerial stream that Java writes, and a bare block, which librdkafka and others
//! write; Kafka reads both. What is written is always the xerial stream. Output is bounded by the caller.

use std::io::{self, Read, Write};

use super::batch::Compression;

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic and two versions.
const XERIAL_HEADER: usize = 16;
const XERIAL_BLOCK: usize = 32 << 10;
const ZSTD_LEVEL: i32 = 3;
/// A frame may ask for a window of up to 128 MiB, what its highest level uses, not for gigabytes.
const ZSTD_WINDOW_LOG: u32 = 27;

#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("{0} is not a known compression codec")]
    Unknown(i16),
    #[error("the records are larger than {0} bytes when decompressed")]
    TooLarge(usize),
    #[error("the compressed records cannot be read: {0}")]
    Malformed(String),
}

impl CodecError {
    fn malformed(e: impl std::fmt::Display) -> Self {
        Self::Malformed(e.to_string())
    }
}

/// Replaces `out` with the records, at most `limit` bytes of them.
pub fn decompress(
    codec: Compression,
    payload: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    out.clear();
    match codec {
        Compression::None if payload.len() > limit => return Err(CodecError::TooLarge(limit)),
        Compression::None => out.extend_from_slice(payload),
        Compression::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(payload), limit, out)?,
        Compression::Snappy => decompress_snappy(payload, limit, out)?,
        Compression::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(payload), limit, out)?,
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(payload).map_err(CodecError::malformed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(CodecError::malformed)?;
            read_bounded(decoder, limit, out)?;
        }
        Compression::Unknown(codec) => return Err(CodecError::Unknown(codec)),
    }
    Ok(())
}

/// Appends the compressed records to `out`.
pub fn compress(codec: Compression, records: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    match codec {
        Compression::None => out.extend_from_slice(records),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            write_all(&mut encoder, records)?;
            encoder.finish().map_err(CodecError::malformed)?;
        }
        Compression::Snappy => compress_snappy(records, out)?,
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
            write_all(&mut encoder, records)?;
            encoder.finish().map_err(CodecError::malformed)?;
        }
        Compression::Zstd => {
            let mut encoder =
                zstd::stream::write::Encoder::new(out, ZSTD_LEVEL).map_err(CodecError::malformed)?;
            write_all(&mut encoder, records)?;
            encoder.finish().map_err(CodecError::malformed)?;
        }
        Compression::Unknown(codec) => return Err(CodecError::Unknown(codec)),
    }
    Ok(())
}

fn write_all(encoder: &mut impl Write, records: &[u8]) -> Result<(), CodecError> {
    encoder.write_all(records).map_err(CodecError::malformed)
}

fn read_bounded(reader: impl Read, limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let read: io::Result<usize> = reader.take(limit as u64 + 1).read_to_end(out);
    match read {
        Ok(n) if n > limit => Err(CodecError::TooLarge(limit)),
        Ok(_) => Ok(()),
        Err(e) => Err(CodecError::malformed(e)),
    }
}

fn decompress_snappy(payload: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    if !payload.starts_with(&XERIAL_MAGIC) {
        return snappy_block(payload, limit, out);
    }
    let mut rest =
        payload.get(XERIAL_HEADER..).ok_or_else(|| CodecError::malformed("a cut snappy header"))?;
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (block, behind) = behind
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .ok_or_else(|| CodecError::malformed("a snappy block longer than the batch"))?;
        snappy_block(block, limit, out)?;
        rest = behind;
    }
    match rest.is_empty() {
        true => Ok(()),
        false => Err(CodecError::malformed("bytes behind the last snappy block")),
    }
}

fn snappy_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let length = snap::raw::decompress_len(block).map_err(CodecError::malformed)?;
    let start = out.len();
    if length > limit.saturating_sub(start) {
        return Err(CodecError::TooLarge(limit));
    }
    out.resize(start + length, 0);
    let mut decoder = snap::raw::Decoder::new();
    decoder.decompress(block, &mut out[start..]).map(drop).map_err(CodecError::malformed)
}

fn compress_snappy(records: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1_i32.to_be_bytes());
    out.extend_from_slice(&1_i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for plain in records.chunks(XERIAL_BLOCK) {
        let at = out.len();
        out.resize(at + 4 + snap::raw::max_compress_len(plain.len()), 0);
        let length = encoder.compress(plain, &mut out[at + 4..]).map_err(CodecError::malformed)?;
        out[at..at + 4].copy_from_slice(&(length as u32).to_be_bytes());
        out.truncate(at + 4 + length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn records(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * i / 300 % 251) as u8).collect()
    }

    #[test]
    fn what_goes_in_comes_out_within_its_bound() {
        for codec in CODECS {
            for len in [0, 1, 100, XERIAL_BLOCK, 200_001] {
                let (plain, mut packed, mut out) = (records(len), Vec::new(), vec![9; 7]);
                compress(codec, &plain, &mut packed).unwrap();
                decompress(codec, &packed, len, &mut out).unwrap();
                assert_eq!(out, plain, "{codec:?} {len}");
                if len > 1 {
                    let bounded = decompress(codec, &packed, len - 1, &mut out);
                    assert!(matches!(bounded, Err(CodecError::TooLarge(_))), "{codec:?} {len}: {bounded:?}");
                }
            }
        }
    }

    #[test]
    fn damaged_input_is_an_error_or_other_bytes_never_a_panic() {
        for codec in CODECS {
            let (plain, mut packed, mut out) = (records(5000), Vec::new(), Vec::new());
            compress(codec, &plain, &mut packed).unwrap();
            for at in 0..packed.len() {
                let mut bad = packed.clone();
                bad[at] ^= 0x41;
                let _ = decompress(codec, &bad, 1 << 20, &mut out);
                let _ = decompress(codec, &packed[..at], 1 << 20, &mut out);
                assert!(out.len() <= (1 << 20) + 1);
            }
        }
    }

    #[test]
    fn a_bare_snappy_block_is_read_as_kafka_reads_it() {
        let plain = records(3000);
        let block = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
        let mut out = Vec::new();
        decompress(Compression::Snappy, &block, 3000, &mut out).unwrap();
        assert_eq!(out, plain);
    }
}
