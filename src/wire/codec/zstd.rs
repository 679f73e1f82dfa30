//! Zstd, whose frames say how far back they reach.

use std::io::Read;

use super::CodecError;

/// A frame may ask for a window of up to 128 MiB, what its highest level uses, not for gigabytes.
pub(super) const LARGEST_WINDOW: usize = 128 << 20;
/// The smallest that the library can be told.
const SMALLEST_WINDOW: usize = 1 << 10;
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// In the frame header's descriptor: the window is the content, whose size takes the place of the window's.
const SINGLE_SEGMENT: u8 = 0x20;

/// Any frame of several whose window is larger than `memory` is an error.
pub(super) fn reader(payload: &[u8], memory: usize) -> Result<impl Read + '_, CodecError> {
    let mut decoder = ::zstd::stream::read::Decoder::with_buffer(payload).map_err(CodecError::malformed)?;
    let largest = memory.clamp(SMALLEST_WINDOW, LARGEST_WINDOW).ilog2();
    decoder.window_log_max(largest).map_err(CodecError::malformed)?;
    Ok(decoder)
}

/// What the first frame asks for, bounded by what it would get. What cannot be read as a frame asks for the most.
pub(super) fn window(payload: &[u8]) -> usize {
    let claimed = match payload {
        [a, b, c, d, descriptor, rest @ ..] if [*a, *b, *c, *d] == MAGIC => window_of(*descriptor, rest),
        _ => None,
    };
    claimed.map_or(LARGEST_WINDOW, |bytes| bytes.min(LARGEST_WINDOW as u64) as usize)
}

fn window_of(descriptor: u8, rest: &[u8]) -> Option<u64> {
    if descriptor & SINGLE_SEGMENT == 0 {
        let window = *rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    let dictionary_id = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size = rest.get(dictionary_id..)?;
    Some(match descriptor >> 6 {
        0 => u64::from(*size.first()?),
        1 => u64::from(u16::from_le_bytes(*size.first_chunk()?)) + 256,
        2 => u64::from(u32::from_le_bytes(*size.first_chunk()?)),
        _ => u64::from_le_bytes(*size.first_chunk()?),
    })
}
