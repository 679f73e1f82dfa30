//! What a shard's journal and segments hold between them, in one small file: `<data>/journal/<shard>/checkpoint`.
//!
//! ```text
//! magic "WEIRCKPT" | version u32 | crc u32 of the body | length u64 of the body | body: bincode of `Checkpoint`
//! ```
//!
//! - Replaced at once (written aside, synced, renamed, directory synced): after a crash it is the old one or the new.
//! - Says nothing that is not durable already: what its offsets cover was synced before it was written.
//! - Journal files are reused only after the checkpoint that no longer needs them is in place.
//! - Version 1. Integers in the frame are little-endian. A new field means a new version and a reader for the old one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::Known;
use super::partition_log::PartitionCheckpoint;
use super::{LogError, Lsn};
use crate::model::PartitionId;
use crate::rt;

const MAGIC: &[u8; 8] = b"WEIRCKPT";
const VERSION: u32 = 1;
const FRAME: usize = 24;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub shard: u32,
    /// How many shards the partitions were spread over.
    pub shards: u32,
    /// The journal's own, see `journal::format`.
    pub salt: u32,
    /// The newest generation of the journal.
    pub generation: u64,
    /// Journal entries below are in segments.
    pub floor: Lsn,
    /// Journal entries up to here were durable.
    pub durable: Lsn,
    /// Made at a clean close: everything is in segments.
    pub closed: bool,
    pub partitions: Vec<PartitionState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    pub id: PartitionId,
    pub topic: String,
    pub log: PartitionCheckpoint,
    /// The log end when the checkpoint was made; durable, in segments or in the journal.
    pub end_offset: i64,
    pub high_watermark: i64,
    /// Producers' state and the offset up to which it accounts for batches.
    pub producers: Option<(i64, Vec<u8>)>,
    /// Why the partition must not lead until somebody looked at it.
    pub repair: Option<String>,
}

impl Checkpoint {
    /// The checkpoint of a shard that has nothing yet.
    pub fn empty(shard: usize, shards: usize, salt: u32) -> Self {
        Self {
            shard: shard as u32,
            shards: shards as u32,
            salt,
            generation: 0,
            floor: Lsn::ZERO,
            durable: Lsn::ZERO,
            closed: false,
            partitions: Vec::new(),
        }
    }

    /// What the journal needs to know of it.
    pub fn known(&self) -> Known {
        Known {
            floor: self.floor,
            durable: self.durable,
            generation: self.generation,
            salt: Some(self.salt),
            closed: self.closed,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let body =
            bincode::serde::encode_to_vec(self, bincode::config::standard()).expect("memory is writable");
        let mut out = Vec::with_capacity(FRAME + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// Decodes what was read from `path`.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self, LogError> {
        let corrupt = |offset, what: &str| LogError::corrupt(path, offset, what);
        let Some((frame, body)) = bytes.split_first_chunk::<FRAME>() else {
            return Err(corrupt(0, "the checkpoint is cut short"));
        };
        let word = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        if &frame[..8] != MAGIC {
            return Err(corrupt(0, "not a checkpoint"));
        }
        let length = u64::from(word(16)) | u64::from(word(20)) << 32;
        if word(8) > VERSION && word(8) < 1 << 16 {
            return Err(LogError::Newer { path: path.to_owned(), version: word(8) });
        }
        if word(8) != VERSION || length != body.len() as u64 || crc32fast::hash(body) != word(12) {
            return Err(corrupt(8, "the checkpoint's checksum does not hold"));
        }
        match bincode::serde::decode_from_slice(body, bincode::config::standard()) {
            Ok((checkpoint, used)) if used == body.len() => Ok(checkpoint),
            Ok(_) => Err(corrupt(FRAME as u64, "the checkpoint has bytes to spare")),
            Err(e) => Err(corrupt(FRAME as u64, &format!("the checkpoint cannot be decoded: {e}"))),
        }
    }

    /// The checkpoint in a journal's directory, if there is one.
    pub fn load(journal_dir: &Path) -> Result<Option<Self>, LogError> {
        let path = file_path(journal_dir);
        match rt::fs::read_all(&path) {
            Ok(bytes) => Self::decode(&path, &bytes).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(LogError::io(path, e)),
        }
    }

    /// Replaces the checkpoint in a journal's directory. Durable when it returns.
    pub async fn store(&self, journal_dir: &Path) -> Result<(), LogError> {
        let (path, bytes) = (file_path(journal_dir), self.encode());
        let to = path.clone();
        rt::blocking(move || rt::fs::write_atomic(to, &bytes)).await.map_err(|e| LogError::io(path, e))
    }
}

pub fn file_path(journal_dir: &Path) -> PathBuf {
    journal_dir.join("checkpoint")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    fn checkpoint() -> Checkpoint {
        let partition = PartitionState {
            id: PartitionId { topic: TopicId(*b"0123456789abcdef"), index: 3 },
            topic: "orders".into(),
            log: PartitionCheckpoint {
                segment_durable_offset: 40,
                start_offset: 10,
                epochs: Default::default(),
                segments: Vec::new(),
                active: false,
                clean: false,
            },
            end_offset: 50,
            high_watermark: 50,
            producers: Some((50, vec![1, 2, 3])),
            repair: Some("why".into()),
        };
        Checkpoint {
            generation: 7,
            floor: Lsn(4096),
            durable: Lsn(8000),
            closed: true,
            partitions: vec![partition],
            ..Checkpoint::empty(1, 2, 0x01020304)
        }
    }

    #[test]
    fn round_trips_and_notices_every_changed_byte() {
        let (path, bytes) = (Path::new("checkpoint"), checkpoint().encode());
        assert_eq!(Checkpoint::decode(path, &bytes).unwrap(), checkpoint());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(Checkpoint::decode(path, &bad).is_err(), "byte {at}");
            assert!(Checkpoint::decode(path, &bytes[..at]).is_err(), "cut at {at}");
        }
    }

    /// The bytes on disk, as version 1 writes them. If this test fails, old data directories became unreadable.
    #[test]
    fn the_format_is_what_it_was() {
        let hex: String = checkpoint().encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, FIXTURE);
    }

    const FIXTURE: &str = "57454952434b5054010000008e76974c3b000000000000000102fc0403020107fb0010fb401f0101\
        3031323334353637383961626364656606066f726465727350140000000064640164030102030103\
        776879";
}
