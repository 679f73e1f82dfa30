//! What a shard's journal and segments hold between them, in one small file, kept twice:
//! `<data>/journal/<shard>/checkpoint` and `checkpoint-copy` beside it.
//!
//! ```text
//! base                                                              change              change
//! magic "WEIRCKPT" | version u32 | crc u32 | length u64 | body      crc | length | body    …
//! ```
//! The body of the base is a `Checkpoint`, the crc is of the body. A change says what became of the partitions that differ
//! since (`changes`): what a checkpoint costs goes by what changed, not by how many partitions there are. Bodies are bincode,
//! integers in frames little-endian.
//!
//! - A base replaces the files at once (written aside, synced, renamed, directory synced): after a crash it is the old one or
//!   the new. It is made once the changes are longer than the base before it, away from the shard.
//! - A change is appended to the first file and synced, then to the copy: after a crash one of them is whole. A file that ends
//!   in what cannot be read is not used, whether a power cut or damage left it so.
//! - Says nothing that is not durable already: what its offsets cover was synced before it was written.
//! - Journal files are reused only after the checkpoint that no longer needs them is in place, in both files.
//! - Either file serves where the other cannot be read. Where they differ, the last store did not get to its end, and
//!   either is good, the newer one is used; a start makes them equal before anything relies on it.
//! - Lists snapshots of producers' state, and has the high watermark. Version 6 has changes behind the base. Version 4 had the
//!   log end for the high watermark; version 3 did not say under which metadata it was made; version 2 had no checksums of
//!   active segments and no lasting generation, version 1 no damaged ranges. A new field means a new version and a reader for
//!   the old one.

mod changes;
mod files;
mod old;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::log::journal::Known;
use crate::log::{LogError, Lsn};
use crate::model::PartitionId;

use super::{PartitionCheckpoint, read_body, write_body};

pub use crate::log::resources::damage::DamagedRange;
pub use changes::Change;
pub use files::{Files, FilesStats, Layout, Loaded, Looked, file_path, file_paths, look};

const MAGIC: &[u8; 8] = b"WEIRCKPT";
const VERSION: u32 = 6;
/// The last version whose files have nothing behind the base.
const WITHOUT_CHANGES: u32 = 5;
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

/// Producers' state that is in a file of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// It accounts for the batches below.
    pub offset: i64,
    pub crc: u32,
}

impl PartitionState {
    /// A partition that has nothing yet.
    pub fn empty(id: PartitionId, topic: String) -> Self {
        let log = PartitionCheckpoint::nothing();
        let (producers, repair, damaged, snapshots) = (None, None, Vec::new(), Vec::new());
        Self { id, topic, log, end_offset: 0, high_watermark: 0, producers, repair, damaged, snapshots }
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
        let body = write_body(self);
        let mut out = Vec::with_capacity(FRAME + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// Decodes what was read from `path`, changes and all.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self, LogError> {
        let Decoded { checkpoint, unread, .. } = Decoded::of(path, bytes)?;
        match unread {
            None => Ok(checkpoint),
            Some(unread) => Err(unread),
        }
    }
}

/// What a file has.
struct Decoded {
    checkpoint: Checkpoint,
    version: u32,
    /// How much of the file is the base.
    base: usize,
    /// Why it has no more than this: behind it is something else than a change.
    unread: Option<LogError>,
}

impl Decoded {
    fn of(path: &Path, bytes: &[u8]) -> Result<Self, LogError> {
        let corrupt = |offset, what: &str| LogError::corrupt(path, offset, what);
        let Some((frame, rest)) = bytes.split_first_chunk::<FRAME>() else {
            return Err(corrupt(0, "the checkpoint is cut short"));
        };
        let word = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        if &frame[..8] != MAGIC {
            return Err(corrupt(0, "not a checkpoint"));
        }
        let (version, crc) = (word(8), word(12));
        let length = u64::from(word(16)) | u64::from(word(20)) << 32;
        if version > VERSION && version < 1 << 16 {
            return Err(LogError::Newer { path: path.to_owned(), version });
        }
        let body = usize::try_from(length).ok().and_then(|length| rest.get(..length)).unwrap_or_default();
        let whole = length == body.len() as u64 && (version > WITHOUT_CHANGES || body.len() == rest.len());
        if !whole || crc32fast::hash(body) != crc {
            return Err(corrupt(8, "the checkpoint's checksum does not hold"));
        }
        let decoded = match version {
            1 => read_body::<old::Checkpoint<old::Undamaged>>(body).map(Checkpoint::from),
            2 => read_body::<old::Checkpoint<old::PartitionState>>(body).map(Checkpoint::from),
            3 => read_body::<old::Unstamped>(body).map(Checkpoint::from),
            4 => read_body::<old::Stamped>(body).map(Checkpoint::from),
            WITHOUT_CHANGES | VERSION => read_body::<Checkpoint>(body),
            _ => return Err(corrupt(8, "the checkpoint has no version that there was")),
        };
        let checkpoint = decoded.map_err(|what| corrupt(FRAME as u64, &format!("the checkpoint {what}")))?;
        let base = FRAME + body.len();
        let (checkpoint, read) = changes::apply_all(checkpoint, &bytes[base..]);
        let unread = read.err().map(|(at, what)| corrupt((base + at) as u64, &what));
        Ok(Self { checkpoint, version, base, unread })
    }
}
