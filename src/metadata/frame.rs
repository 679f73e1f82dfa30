//! The bytes of the metadata log: its header, and one frame a commit. See `metadata_log` for what they look like.

use super::log::MetadataError;
use super::records::Record;

pub const FORMAT: u32 = 1;
pub(super) const MAGIC: &[u8; 8] = b"WEIRMETA";
pub(super) const FRAME_HEADER: usize = 16;
pub(super) const MAX_PAYLOAD: usize = 256 << 20;

pub(super) fn encode_header(first: u64) -> [u8; 24] {
    let mut header = [0; 24];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..20].copy_from_slice(&first.to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(super) fn encode_frame(commit: u64, records: &[Record]) -> Result<Vec<u8>, MetadataError> {
    let mut frame = vec![0; FRAME_HEADER];
    let size = bincode::serde::encode_into_std_write(records, &mut frame, bincode::config::standard())
        .unwrap_or(usize::MAX);
    if size > MAX_PAYLOAD {
        return Err(MetadataError::TooLarge(size));
    }
    frame[..4].copy_from_slice(&(size as u32).to_le_bytes());
    frame[8..16].copy_from_slice(&commit.to_le_bytes());
    let crc = frame_crc(&frame);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    Ok(frame)
}

pub(super) fn frame_crc(frame: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&frame[..4]);
    crc.update(&frame[8..]);
    crc.finalize()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The claimed size of the frame that starts here, where that many bytes are there.
pub(super) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let payload = u32_at(bytes, 0)? as usize;
    let len = FRAME_HEADER.checked_add(payload)?;
    (payload <= MAX_PAYLOAD && len <= bytes.len()).then_some(len)
}

/// The size of the sound frame of this commit that starts here.
pub(super) fn sound_frame(bytes: &[u8], commit: u64) -> Option<usize> {
    if u64_at(bytes, 8)? != commit {
        return None;
    }
    let len = frame_len(bytes)?;
    (u32_at(bytes, 4)? == frame_crc(&bytes[..len])).then_some(len)
}
