//! Where a log's dirty part begins, kept beside its segments.
//!
//! `compacted`: magic, CRC-32 of the offset, offset, little-endian. Disposable: without it, everything is dirty.

use crate::log::segment::with_files;
use crate::log::{Lsn, PartitionLog};
use crate::rt;

const POINT_FILE: &str = "compacted";
const POINT_MAGIC: &[u8; 4] = b"WCMP";

impl PartitionLog {
    pub(in crate::log) async fn first_dirty(&self) -> i64 {
        if let Some(known) = self.compaction().state().first_dirty.get() {
            return known;
        }
        let path = self.dir().join(POINT_FILE);
        let bytes = rt::blocking(move || rt::fs::read_all(path)).await.unwrap_or_default();
        let point = decode_point(&bytes).unwrap_or(0);
        self.compaction().state().first_dirty.set(Some(point));
        point
    }

    /// Unless the log was cut since `cut` was its last truncation.
    pub(super) async fn set_first_dirty(&self, offset: i64, cut: Lsn) {
        let _turn = self.quiet_turn().await;
        if self.is_removed() || self.last_cut() > cut {
            // The directory may be another's by now, and what was clean another branch's.
            return;
        }
        self.put_first_dirty(offset).await;
    }

    /// For who has the turn.
    pub(in crate::log) async fn put_first_dirty(&self, offset: i64) {
        self.compaction().state().first_dirty.set(Some(offset));
        let path = self.dir().join(POINT_FILE);
        let bytes = encode_point(offset);
        if let Err(e) = with_files(self.resources(), move || rt::fs::write_atomic(&path, &bytes)).await {
            log::warn!("{}: {e}; the next start compacts again", self.dir().display());
        }
    }
}

fn encode_point(offset: i64) -> Vec<u8> {
    let offset = offset.to_le_bytes();
    [&POINT_MAGIC[..], &crc32fast::hash(&offset).to_le_bytes(), &offset].concat()
}

fn decode_point(bytes: &[u8]) -> Option<i64> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let (crc, offset) = (bytes[4..8].try_into().ok()?, bytes[8..].try_into().ok()?);
    let sound = &bytes[..4] == POINT_MAGIC && crc32fast::hash(&bytes[8..]) == u32::from_le_bytes(crc);
    sound.then(|| i64::from_le_bytes(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_point_returns_and_damage_means_from_the_start() {
        let bytes = encode_point(1234);
        assert_eq!(decode_point(&bytes), Some(1234));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(decode_point(&bad), None, "byte {at}");
        }
        assert_eq!(decode_point(&[]), None);
    }
}
