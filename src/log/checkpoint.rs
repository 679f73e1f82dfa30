//! What a shard's journal and segments hold between them, in one small file, kept twice:
//! `<data>/journal/<shard>/checkpoint` and `checkpoint-copy` beside it.
//!
//! ```text
//! magic "WEIRCKPT" | version u32 | crc u32 of the body | length u64 of the body | body: bincode of `Checkpoint`
//! ```
//!
//! - Replaced at once (written aside, synced, renamed, directory synced): after a crash it is the old one or the new.
//! - Says nothing that is not durable already: what its offsets cover was synced before it was written.
//! - Journal files are reused only after the checkpoint that no longer needs them is in place.
//! - The copy serves where the other cannot be read. Where they differ, the last store did not get to its end, and
//!   either is good; a start makes them equal before anything relies on it.
//! - Version 3; version 2 had no checksums of active segments and no lasting generation, version 1 no damaged ranges. Integers in the frame are little-endian. A new field means a new
//!   version and a reader for the old one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::Known;
use super::partition_log::PartitionCheckpoint;
use super::{LogError, Lsn};
use crate::model::PartitionId;
use crate::rt;

const MAGIC: &[u8; 8] = b"WEIRCKPT";
const VERSION: u32 = 3;
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
    /// There was a file of this generation or of a later one.
    pub lasting: u64,
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
    /// What was found damaged in its segments. The rest is served.
    pub damaged: Vec<DamagedRange>,
}

/// Records at rest that cannot be read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DamagedRange {
    /// The segment's base offset.
    pub segment: i64,
    /// Where in the segment's file.
    pub position: u32,
    pub length: u32,
    /// The offsets that are there: `from..until`.
    pub from: i64,
    pub until: i64,
}

/// A checkpoint as it was found.
#[derive(Debug)]
pub struct Loaded {
    pub checkpoint: Checkpoint,
    /// Both files say it.
    pub twice: bool,
}

impl Checkpoint {
    /// The checkpoint of a shard that has nothing yet.
    pub fn empty(shard: usize, shards: usize, salt: u32) -> Self {
        Self {
            shard: shard as u32,
            shards: shards as u32,
            salt,
            generation: 0,
            lasting: 0,
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
            lasting: self.lasting,
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
        if length != body.len() as u64 || crc32fast::hash(body) != word(12) {
            return Err(corrupt(8, "the checkpoint's checksum does not hold"));
        }
        let decoded = match word(8) {
            1 => read_body::<old::Checkpoint<old::Undamaged>>(body).map(Self::from),
            2 => read_body::<old::Checkpoint<old::PartitionState>>(body).map(Self::from),
            VERSION => read_body::<Self>(body),
            _ => return Err(corrupt(8, "the checkpoint has no version that there was")),
        };
        decoded.map_err(|what| corrupt(FRAME as u64, &format!("the checkpoint {what}")))
    }

    /// The checkpoint in a journal's directory, if there is one.
    pub fn load(journal_dir: &Path) -> Result<Option<Loaded>, LogError> {
        let [first, copy] = file_paths(journal_dir).map(|path| match rt::fs::read_all(&path) {
            Ok(bytes) => Self::decode(&path, &bytes).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(LogError::io(path, e)),
        });
        match (first, copy) {
            (Err(e @ LogError::Newer { .. }), _) | (_, Err(e @ LogError::Newer { .. })) => Err(e),
            (Ok(Some(checkpoint)), copy) => {
                let twice = matches!(&copy, Ok(Some(copy)) if *copy == checkpoint);
                if let Err(e) = copy {
                    log::warn!("{e}; it is made again");
                }
                Ok(Some(Loaded { checkpoint, twice }))
            }
            (first, Ok(Some(checkpoint))) => {
                let why = first.err().map_or("it is missing".to_owned(), |e| e.to_string());
                log::warn!("{}: {why}; its copy is used", file_path(journal_dir).display());
                Ok(Some(Loaded { checkpoint, twice: false }))
            }
            (Ok(None), Ok(None)) => Ok(None),
            (Err(e), _) | (Ok(None), Err(e)) => Err(e),
        }
    }

    /// Replaces the checkpoint in a journal's directory. Durable when it returns.
    pub async fn store(&self, journal_dir: &Path) -> Result<(), LogError> {
        let (paths, bytes) = (file_paths(journal_dir), self.encode());
        let path = file_path(journal_dir);
        rt::blocking(move || rt::fs::write_atomic_each(&paths, &bytes))
            .await
            .map_err(|e| LogError::io(path, e))
    }
}

/// What was encoded into all of these bytes.
pub(in crate::log) fn read_body<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    match bincode::serde::decode_from_slice(body, bincode::config::standard()) {
        Ok((whole, used)) if used == body.len() => Ok(whole),
        Ok(_) => Err("has bytes to spare".into()),
        Err(e) => Err(format!("cannot be decoded: {e}")),
    }
}

/// The two files, the first to be believed first.
pub fn file_paths(journal_dir: &Path) -> [PathBuf; 2] {
    [file_path(journal_dir), journal_dir.join("checkpoint-copy")]
}

pub fn file_path(journal_dir: &Path) -> PathBuf {
    journal_dir.join("checkpoint")
}

/// Versions 1 and 2.
mod old {
    use serde::Deserialize;

    use super::{DamagedRange, Lsn, PartitionId};
    use crate::log::partition_log::PartitionCheckpoint as Log;
    use crate::log::segment::SegmentMeta;
    use crate::log::segment::epochs::EpochList;

    #[derive(Deserialize)]
    pub struct Checkpoint<P> {
        shard: u32,
        shards: u32,
        salt: u32,
        generation: u64,
        floor: Lsn,
        durable: Lsn,
        closed: bool,
        partitions: Vec<P>,
    }

    #[derive(Deserialize)]
    struct PartitionCheckpoint {
        segment_durable_offset: i64,
        start_offset: i64,
        epochs: EpochList,
        segments: Vec<SegmentMeta>,
        active: bool,
        clean: bool,
    }

    /// A partition of version 1.
    #[derive(Deserialize)]
    pub struct Undamaged {
        id: PartitionId,
        topic: String,
        log: PartitionCheckpoint,
        end_offset: i64,
        high_watermark: i64,
        producers: Option<(i64, Vec<u8>)>,
        repair: Option<String>,
    }

    /// A partition of version 2.
    #[derive(Deserialize)]
    pub struct PartitionState {
        state: Undamaged,
        damaged: Vec<DamagedRange>,
    }

    impl<P: Into<super::PartitionState>> From<Checkpoint<P>> for super::Checkpoint {
        fn from(old: Checkpoint<P>) -> Self {
            let Checkpoint { shard, shards, salt, generation, floor, durable, closed, partitions } = old;
            let partitions = partitions.into_iter().map(Into::into).collect();
            Self { shard, shards, salt, generation, lasting: 0, floor, durable, closed, partitions }
        }
    }

    impl From<PartitionCheckpoint> for Log {
        fn from(old: PartitionCheckpoint) -> Self {
            let PartitionCheckpoint { segment_durable_offset, start_offset, epochs, segments, active, clean } =
                old;
            let extents = Vec::new();
            Self { segment_durable_offset, start_offset, epochs, segments, active, extents, clean }
        }
    }

    impl From<Undamaged> for super::PartitionState {
        fn from(old: Undamaged) -> Self {
            let Undamaged { id, topic, log, end_offset, high_watermark, producers, repair } = old;
            let (log, damaged) = (log.into(), Vec::new());
            Self { id, topic, log, end_offset, high_watermark, producers, repair, damaged }
        }
    }

    impl From<PartitionState> for super::PartitionState {
        fn from(old: PartitionState) -> Self {
            Self { damaged: old.damaged, ..old.state.into() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segment::extents::Extent;
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
                extents: vec![Extent {
                    position: 0,
                    length: 70_000,
                    relative_offset: 0,
                    crc: 0x0a0b0c0d,
                    max_timestamp: 1_700_000_000_000,
                }],
                clean: false,
            },
            end_offset: 50,
            high_watermark: 50,
            producers: Some((50, vec![1, 2, 3])),
            repair: Some("why".into()),
            damaged: vec![DamagedRange { segment: 10, position: 4096, length: 100, from: 12, until: 15 }],
        };
        Checkpoint {
            generation: 7,
            lasting: 6,
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

    /// The bytes on disk, as each version writes them. If this test fails, old data directories became unreadable.
    #[test]
    fn the_format_is_what_it_was() {
        let hex: String = checkpoint().encode().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, VERSION_3);
        let decode = |hex: &str| {
            let digits = (0..hex.len()).step_by(2);
            let bytes: Vec<u8> = digits.map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            Checkpoint::decode(Path::new("checkpoint"), &bytes).unwrap()
        };
        let mut old = checkpoint();
        old.lasting = 0;
        old.partitions[0].log.extents.clear();
        assert_eq!(decode(VERSION_2), old);
        old.partitions[0].damaged.clear();
        assert_eq!(decode(VERSION_1), old);
    }

    #[test]
    fn either_of_the_two_files_will_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        crate::rt::block_on(async move { checkpoint().store(&path).await.unwrap() });
        let bytes = checkpoint().encode();
        for (i, path) in file_paths(dir.path()).into_iter().enumerate() {
            assert!(Checkpoint::load(dir.path()).unwrap().unwrap().twice);
            for bad in [&bytes[..20], b"" as &[u8]] {
                std::fs::write(&path, bad).unwrap();
                let loaded = Checkpoint::load(dir.path()).unwrap().unwrap();
                assert_eq!((loaded.checkpoint, loaded.twice), (checkpoint(), false), "without file {i}");
            }
            std::fs::remove_file(&path).unwrap();
            assert!(!Checkpoint::load(dir.path()).unwrap().unwrap().twice);
            std::fs::write(&path, &bytes).unwrap();
        }
    }

    const VERSION_1: &str = "57454952434b5054010000008e76974c3b000000000000000102fc0403020107fb0010fb401f0101\
        3031323334353637383961626364656606066f726465727350140000000064640164030102030103\
        776879";
    const VERSION_2: &str = "57454952434b505402000000e3fef67643000000000000000102fc0403020107fb0010fb401f0101\
        3031323334353637383961626364656606066f726465727350140000000064640164030102030103\
        7768790114fb001064181e";
    const VERSION_3: &str = "57454952434b5054030000001b1d1f485a000000000000000102fc040302010706fb0010fb401f01\
        013031323334353637383961626364656606066f726465727350140000000100fc7011010000fc0d\
        0c0b0afd00d0ca9f1703000000646401640301020301037768790114fb001064181e";
}
