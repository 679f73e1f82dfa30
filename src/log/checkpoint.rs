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
//! - Lists snapshots of producers' state, and has the high watermark (version 5). Version 4 had the log end for it; version 3
//!   did not say under which metadata it was made; version 2 had no checksums of active segments and no lasting generation,
//!   version 1 no damaged ranges. Integers in the frame are little-endian. A new field means a new version and a reader for
//!   the old one.

mod old;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::journal::Known;
use super::partition_log::PartitionCheckpoint;
use super::snapshots::Snapshot;
use super::{LogError, Lsn};
use crate::model::PartitionId;
use crate::rt;

const MAGIC: &[u8; 8] = b"WEIRCKPT";
const VERSION: u32 = 5;
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
    /// The metadata that it was made under; `None` from versions that did not say.
    pub origin: Option<Origin>,
    /// Rises with every checkpoint of the shard.
    pub number: u64,
    /// The number that topics' files are known to have, at least (`holdings`).
    pub seen: u64,
}

/// Whose metadata, and how much of it there was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The id that the metadata gave itself when it began.
    pub directory: String,
    /// Changes of the metadata up to then.
    pub version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    pub id: PartitionId,
    pub topic: String,
    pub log: PartitionCheckpoint,
    /// The log end when the checkpoint was made; durable, in segments or in the journal.
    pub end_offset: i64,
    /// Below it everything is committed, as far as was known.
    pub high_watermark: i64,
    /// Producers' state and the offset up to which it accounts for batches.
    pub producers: Option<(i64, Vec<u8>)>,
    /// Why the partition must not lead until somebody looked at it.
    pub repair: Option<String>,
    /// What was found damaged in its segments. The rest is served.
    pub damaged: Vec<DamagedRange>,
    /// Producers' state at earlier offsets.
    pub snapshots: Vec<Snapshot>,
}

impl PartitionState {
    /// A partition that has nothing yet.
    pub fn empty(id: PartitionId, topic: String) -> Self {
        let log = super::store::nothing_on_disk();
        let (producers, repair, damaged, snapshots) = (None, None, Vec::new(), Vec::new());
        Self { id, topic, log, end_offset: 0, high_watermark: 0, producers, repair, damaged, snapshots }
    }
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

impl Loaded {
    /// Written by a version of Weir that cannot read what this one writes.
    pub fn is_of_old_format(&self) -> bool {
        self.checkpoint.origin.is_none()
    }
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
            origin: None,
            number: 0,
            seen: 0,
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
            3 => read_body::<old::Unstamped>(body).map(Self::from),
            4 => read_body::<old::Stamped>(body).map(Self::from),
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

/// A body, behind a byte with the version of its form.
pub(in crate::log) fn write_versioned(version: u8, body: &impl Serialize) -> Vec<u8> {
    let mut out = vec![version];
    bincode::serde::encode_into_std_write(body, &mut out, bincode::config::standard())
        .expect("memory is writable");
    out
}

/// What [`write_versioned`] wrote, with the same version.
pub(in crate::log) fn read_versioned<T: serde::de::DeserializeOwned>(
    version: u8,
    bytes: &[u8],
) -> Result<T, String> {
    let (its, body) = bytes.split_first().ok_or("it is empty")?;
    if *its != version {
        return Err(format!("its version is {its}, not {version}"));
    }
    read_body(body).map_err(|what| format!("it {what}"))
}

/// The two files, the first to be believed first.
pub fn file_paths(journal_dir: &Path) -> [PathBuf; 2] {
    [file_path(journal_dir), journal_dir.join("checkpoint-copy")]
}

pub fn file_path(journal_dir: &Path) -> PathBuf {
    journal_dir.join("checkpoint")
}
