//! What a quorum is made of, as it is stored: who votes, and for whom this node voted. In Raft's terms from the beginning, so
//! that a node that was alone can become one of several on the same files.
//!
//! ```text
//! quorum-state:  copy at 0 │ copy at 4096          integers little-endian
//! copy: magic "WEIRVOTE" │ format u32 │ number u64 │ directory id 16 bytes │ epoch i32 │ voted i8 │ node i32 │ its directory 16
//!       │ recovery 16, from format 2 on │ CRC-32 u32
//! ```
//! Format 1 is written as long as the cluster was never recovered.
//!
//! The copies are written and synced one after the other, each change with a higher number: the highest that is whole counts,
//! and a change that was cut short leaves the copy before it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::codec::fields;
use super::errors::MetadataError;
use super::image::Image;
use super::records::{Endpoint, Record};
use crate::model::BrokerId;
use crate::rt::fs::{self, BlockingFile};

/// A voter is a node with its directory: one that comes back with another disk has promised nothing, and does not vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Voter {
    pub node: BrokerId,
    pub directory: [u8; 16],
}
fields!(Voter { node, directory });

impl std::fmt::Display for Voter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-", self.node)?;
        self.directory[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Where a member of the quorum is reached by the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub voter: Voter,
    pub endpoints: Vec<Endpoint>,
}
fields!(Member { voter, endpoints });

/// Who agrees on the metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// A majority of each set is needed: there are two while a change of the voters is under way.
    pub voters: Vec<Vec<Voter>>,
    /// Voters and learners.
    pub members: Vec<Member>,
}
fields!(Membership { voters, members });

impl Membership {
    /// A node that agrees with itself.
    pub fn of_one(voter: Voter) -> Self {
        Self { voters: vec![vec![voter]], members: vec![Member { voter, endpoints: Vec::new() }] }
    }

    /// Whether this node is the only member.
    pub fn is_alone(&self, me: Voter) -> bool {
        matches!(&self.voters[..], [one] if one[..] == [me]) && self.members.len() == 1
    }

    pub fn is_voter(&self, voter: Voter) -> bool {
        self.voters.iter().flatten().any(|one| *one == voter)
    }
}

/// What an operator asks of those who vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoterWish {
    Add(Voter),
    Remove(Voter),
    /// The controller chooses them again.
    Auto,
}

/// How a quorum stands, as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub me: Voter,
    pub leader: Option<Voter>,
    /// The leader's epoch.
    pub epoch: i32,
    /// The last offset that is committed.
    pub committed: u64,
    pub membership: Membership,
    pub members: Vec<MemberStatus>,
}

/// How far a member is. Of the others only the leader knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    pub voter: Voter,
    pub votes: bool,
    /// The last offset that it is known to have.
    pub end: Option<u64>,
    /// By the wall clock, when it last answered, and when it last had all that there was.
    pub heard_ms: Option<i64>,
    pub caught_up_ms: Option<i64>,
}

/// A change that is decided and not committed.
#[derive(Clone, Debug)]
pub struct Decided {
    pub records: Vec<Record>,
    /// As it is with the change and all that were decided before it; its version is the offset that the change is meant for.
    pub image: Arc<Image>,
}

/// A change that is committed. What is no change of the metadata, a leader's first entry or another membership, has no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub offset: u64,
    /// Of the leader that proposed it.
    pub epoch: i32,
    pub records: Vec<Record>,
}

/// What this node has promised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The highest epoch that it has heard of.
    pub epoch: i32,
    /// Whom it votes for in that epoch.
    pub voted: Option<Voter>,
}

/// Which recovery of a cluster that had lost its majority (`weir cluster recover`) a directory follows: drawn by each, zero where
/// there was none. Members of different ones are of different quorums, whatever else they have in common.
pub type Recovery = [u8; 16];
pub const NEVER: Recovery = [0; 16];

const FILE: &str = "quorum-state";
const MAGIC: &[u8; 8] = b"WEIRVOTE";
const FORMAT: u32 = 2;
const COPY: u64 = 4096;
/// A copy's size without the recovery.
const SIZE: usize = 65;

/// What one copy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stated {
    /// Rises with each change.
    number: u64,
    directory: [u8; 16],
    recovery: Recovery,
    vote: Vote,
}

/// The file of this node's directory id and vote.
#[derive(Debug)]
pub struct QuorumState {
    path: PathBuf,
    file: BlockingFile,
    stated: Stated,
}

impl QuorumState {
    pub fn path_in(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Reads it; `None` where there is none. A file that was not written whole for the first time counts as none.
    pub fn open(dir: &Path) -> Result<Option<Self>, MetadataError> {
        let path = Self::path_in(dir);
        let Some(stated) = inspect(&path)? else { return Ok(None) };
        let file = BlockingFile::open(&path).map_err(|source| io_error("open", &path, source))?;
        Ok(Some(Self { path, file, stated }))
    }

    /// Draws no id itself: `directory` is the new one. Durable when it returns.
    pub fn create(dir: &Path, directory: [u8; 16], vote: Vote) -> Result<Self, MetadataError> {
        let path = Self::path_in(dir);
        let unfinished = path.with_extension("tmp");
        let error = |doing| {
            let path = unfinished.clone();
            move |source| MetadataError::Io { doing, path, source }
        };
        let file = BlockingFile::create(&unfinished).map_err(error("create"))?;
        let stated = Stated { number: 1, directory, recovery: NEVER, vote };
        let copy = stated.encode();
        let written = file
            .write_all_at(&copy, 0)
            .and_then(|()| file.write_all_at(&copy, COPY))
            .and_then(|()| file.sync())
            .and_then(|()| fs::rename(&unfinished, &path))
            .and_then(|()| fs::sync_dir(dir));
        written.map_err(error("write"))?;
        Ok(Self { path, file, stated })
    }

    pub fn directory(&self) -> [u8; 16] {
        self.stated.directory
    }

    pub fn recovery(&self) -> Recovery {
        self.stated.recovery
    }

    pub fn vote(&self) -> Vote {
        self.stated.vote
    }

    /// Nothing that follows from the vote may leave before this has returned.
    pub fn set(&mut self, vote: Vote) -> Result<(), MetadataError> {
        assert!(vote.epoch >= self.stated.vote.epoch, "a vote is never taken back");
        self.write(Stated { vote, ..self.stated })
    }

    /// From now on this directory is of the quorum that another recovery began, where nothing was promised yet.
    pub fn follow(&mut self, recovery: Recovery, vote: Vote) -> Result<(), MetadataError> {
        self.write(Stated { recovery, vote, ..self.stated })
    }

    fn write(&mut self, stated: Stated) -> Result<(), MetadataError> {
        let stated = Stated { number: self.stated.number + 1, ..stated };
        let copy = stated.encode();
        for at in [0, COPY] {
            let written = self.file.write_all_at(&copy, at).and_then(|()| self.file.sync());
            written.map_err(|source| io_error("write", &self.path, source))?;
        }
        self.stated = stated;
        Ok(())
    }
}

/// What the newest copy says. Changes nothing.
fn inspect(path: &Path) -> Result<Option<Stated>, MetadataError> {
    if !fs::exists(path) {
        return Ok(None);
    }
    let bytes = fs::read_all(path).map_err(|source| io_error("read", path, source))?;
    let copies = [0, COPY as usize].map(|at| bytes.get(at..).and_then(decode));
    let path = || path.to_path_buf();
    if let Some(found) = copies.iter().flatten().find_map(|copy| copy.as_ref().err()) {
        return Err(MetadataError::NewerFormat { path: path(), found: *found, known: FORMAT });
    }
    match copies.into_iter().flatten().flatten().max_by_key(|stated| stated.number) {
        Some(newest) => Ok(Some(newest)),
        None => Err(MetadataError::Corrupt { path: path(), offset: 0, what: "neither copy is whole".into() }),
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> MetadataError {
    MetadataError::Io { doing, path: path.to_path_buf(), source }
}

impl Stated {
    fn encode(&self) -> Vec<u8> {
        let Self { number, directory, recovery, vote } = self;
        let format = if *recovery == NEVER { 1 } else { FORMAT };
        let mut copy = Vec::with_capacity(SIZE + 16);
        copy.extend_from_slice(MAGIC);
        copy.extend(format.to_le_bytes());
        copy.extend(number.to_le_bytes());
        copy.extend_from_slice(directory);
        copy.extend(vote.epoch.to_le_bytes());
        let voter = vote.voted.unwrap_or_default();
        copy.push(u8::from(vote.voted.is_some()));
        copy.extend(voter.node.to_le_bytes());
        copy.extend_from_slice(&voter.directory);
        if format > 1 {
            copy.extend_from_slice(recovery);
        }
        copy.extend(crc32fast::hash(&copy).to_le_bytes());
        copy
    }
}

/// What the copy says that these bytes begin with. `None` where there is no whole one; the number of a format that is not known as
/// an error.
fn decode(bytes: &[u8]) -> Option<Result<Stated, u32>> {
    let number = |at: usize| bytes.get(at..)?.first_chunk::<4>().copied();
    let id = |at: usize| bytes.get(at..)?.first_chunk::<16>().copied();
    if bytes.get(..8)? != MAGIC {
        return None;
    }
    let format = u32::from_le_bytes(number(8)?);
    let size = if format > 1 { SIZE + 16 } else { SIZE };
    let (body, crc) = bytes.get(..size)?.split_at(size - 4);
    if crc != crc32fast::hash(body).to_le_bytes() {
        return None;
    }
    if !(1..=FORMAT).contains(&format) {
        return Some(Err(format));
    }
    let voter = Voter { node: i32::from_le_bytes(number(41)?), directory: id(45)? };
    let vote = Vote { epoch: i32::from_le_bytes(number(36)?), voted: (body[40] == 1).then_some(voter) };
    let recovery = if format > 1 { id(61)? } else { NEVER };
    let number = u64::from_le_bytes(*body[12..].first_chunk()?);
    Some(Ok(Stated { number, directory: id(20)?, recovery, vote }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Voter = Voter { node: 7, directory: [3; 16] };

    fn vote(epoch: i32) -> Vote {
        Vote { epoch, voted: (epoch % 2 == 1).then_some(ME) }
    }

    #[test]
    fn a_vote_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert!(QuorumState::open(dir.path()).unwrap().is_none());
        let mut state = QuorumState::create(dir.path(), ME.directory, vote(1)).unwrap();
        for epoch in 2..6 {
            state.set(vote(epoch)).unwrap();
            let again = QuorumState::open(dir.path()).unwrap().unwrap();
            assert_eq!((again.vote(), again.directory()), (vote(epoch), ME.directory));
        }
    }

    #[test]
    fn a_recovery_is_kept_and_only_then_is_the_format_another() {
        let dir = tempfile::tempdir().unwrap();
        let format = || std::fs::read(QuorumState::path_in(dir.path())).unwrap()[8];
        let mut state = QuorumState::create(dir.path(), ME.directory, vote(7)).unwrap();
        assert_eq!((state.recovery(), format()), (NEVER, 1));
        state.follow([9; 16], vote(0)).unwrap();
        state.set(vote(1)).unwrap();
        let again = QuorumState::open(dir.path()).unwrap().unwrap();
        let said = (again.vote(), again.directory(), again.recovery(), format());
        assert_eq!(said, (vote(1), ME.directory, [9; 16], 2));
    }

    #[test]
    fn one_broken_copy_takes_nothing_that_was_promised() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = QuorumState::create(dir.path(), ME.directory, vote(1)).unwrap();
        state.set(vote(2)).unwrap();
        let path = QuorumState::path_in(dir.path());
        let whole = std::fs::read(&path).unwrap();
        for at in (0..SIZE).chain(COPY as usize..COPY as usize + SIZE) {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert_eq!(QuorumState::open(dir.path()).unwrap().unwrap().vote(), vote(2), "byte {at}");
            bad[(at + COPY as usize) % (2 * COPY as usize)] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            assert!(matches!(QuorumState::open(dir.path()), Err(MetadataError::Corrupt { .. })), "byte {at}");
        }
        // A write that was cut short between its copies.
        let mut torn = whole.clone();
        let next = Stated { number: 3, directory: ME.directory, recovery: NEVER, vote: vote(3) };
        torn[..SIZE].copy_from_slice(&next.encode());
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(QuorumState::open(dir.path()).unwrap().unwrap().vote(), vote(3));
        for len in [0, 1, SIZE - 1] {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(QuorumState::open(dir.path()).is_err(), "cut to {len}");
        }
    }
}
