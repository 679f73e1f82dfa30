//! The metadata's directory as a whole, `<data>/meta`: the log, the quorum's state, and the image that they make. Blocks;
//! for start-up, tools and the thread that commits.
//!
//! ```text
//! quorum-state              this directory's id and vote (`quorum`)
//! metadata-<offset>.log     snapshot and changes (`log`)
//! ```

use std::path::Path;
use std::sync::Arc;

use super::errors::{ApplyError, MetadataError};
use super::features::{MAX_LEVEL, MIN_LEVEL, VERSION};
use super::image::{Image, Topic};
use super::log::{Content, Entry, Inspected, MetadataLog, Snapshot, What};
use super::quorum::{Commit, Membership, QuorumState, Vote, Voter};
use super::records::Record;
use super::v1;
use crate::model::{BrokerId, TopicId};
use crate::rt;

/// The epoch of a node that agrees with itself, from its first start on.
const FIRST_EPOCH: i32 = 1;

#[derive(Debug)]
pub struct Store {
    log: MetadataLog,
    state: QuorumState,
    membership: Membership,
    membership_at: u64,
    image: Image,
}

impl Store {
    /// The image that the metadata in `dir` makes, if there is any: nothing is changed on disk.
    pub fn inspect(dir: &Path) -> Result<Option<Image>, MetadataError> {
        let Some(Inspected { path, first, content }) = MetadataLog::inspect(dir)? else { return Ok(None) };
        match content {
            Content::Old(commits) => old_image(&path, first, commits).map(Some),
            Content::Now { snapshot, entries } => {
                let entries = entries.into_iter().map(|(entry, _)| entry);
                load(&path, snapshot, entries).map(|loaded| Some(loaded.image))
            }
        }
    }

    /// Opens the metadata in `dir`, or begins a new cluster there; what is of an earlier format is written anew.
    pub fn open(dir: &Path, node: BrokerId) -> Result<Self, MetadataError> {
        let state = QuorumState::open(dir)?;
        let Some((log, content)) = MetadataLog::open(dir)? else { return Self::begin(dir, node, state) };
        let (snapshot, entries) = match content {
            Content::Old(commits) => return Self::convert(dir, node, state, log, commits),
            Content::Now { snapshot, entries } => (snapshot, entries),
        };
        let loaded = load(log.path(), snapshot, entries.into_iter().map(|(entry, _)| entry))?;
        let corrupt = |what: &str| {
            Err(MetadataError::Corrupt { path: QuorumState::path_in(dir), offset: 0, what: what.into() })
        };
        let Some(state) = state else { return corrupt("it is gone") };
        let me = Voter { node, directory: state.directory };
        let Loaded { image, membership, membership_at } = loaded;
        if !membership.is_voter(me) {
            return match membership.voters.iter().flatten().find(|voter| voter.directory == me.directory) {
                Some(voter) => Err(MetadataError::OtherBroker { stored: voter.node, configured: node }),
                None => corrupt("it is of another directory than the metadata log"),
            };
        }
        Ok(Self { log, state, membership, membership_at, image })
    }

    /// Begins a cluster. A start that was cut short may have left a quorum's state.
    fn begin(dir: &Path, node: BrokerId, state: Option<QuorumState>) -> Result<Self, MetadataError> {
        let records = [Record::Cluster { id: new_id().to_string() }];
        let (image, _) = Image::empty().with(&records).expect("a cluster without topics contradicts nothing");
        Self::write(dir, node, state, image, FIRST_EPOCH)
    }

    /// Writes `image` as the metadata of `dir`, where there is none or what there is has a lower number.
    fn write(
        dir: &Path,
        node: BrokerId,
        state: Option<QuorumState>,
        mut image: Image,
        epoch: i32,
    ) -> Result<Self, MetadataError> {
        if !image.features.contains_key(VERSION) {
            image.features.insert(VERSION.into(), MAX_LEVEL);
        }
        rt::fs::create_dir_all_durable(dir).map_err(|source| MetadataError::Io {
            doing: "create",
            path: dir.to_path_buf(),
            source,
        })?;
        let state = match state {
            Some(state) => state,
            None => {
                let me = Voter { node, directory: new_id().0 };
                QuorumState::create(dir, me.directory, Vote { epoch: FIRST_EPOCH, voted: Some(me) })?
            }
        };
        let membership = Membership::of_one(Voter { node, directory: state.directory });
        let snapshot = Snapshot {
            offset: image.version,
            epoch,
            membership: membership.clone(),
            membership_at: image.version,
            records: image.snapshot(),
        };
        let log = MetadataLog::create(dir, &snapshot)?;
        Ok(Self { log, state, membership, membership_at: image.version, image })
    }

    /// Makes `image` the metadata in `dir`, where there is none.
    pub fn write_anew(dir: &Path, node: BrokerId, image: &Image) -> Result<(), MetadataError> {
        Self::write(dir, node, None, image.clone(), FIRST_EPOCH).map(drop)
    }

    /// Writes metadata of format 1 anew, under the next number: until that file has its name the old one is the log.
    fn convert(
        dir: &Path,
        node: BrokerId,
        state: Option<QuorumState>,
        old: MetadataLog,
        commits: Vec<Vec<v1::Record>>,
    ) -> Result<Self, MetadataError> {
        let first = old.next_offset() - commits.len() as u64;
        let mut image = old_image(old.path(), first, commits)?;
        let leader_of =
            |topic: &Arc<Topic>| topic.partitions.iter().find_map(|p| p.leader.filter(|id| *id != node));
        let another = image.topics().find_map(leader_of);
        if let Some(stored) = another {
            return Err(MetadataError::OtherBroker { stored, configured: node });
        }
        image.version += 1;
        let store = Self::write(dir, node, state, image, 0)?;
        log::warn!(
            "the metadata in {} was written anew in format 2: versions of Weir that know only format 1 do not start on \
             this directory any more",
            dir.display()
        );
        rt::fs::remove_file(old.path()).map_err(|source| MetadataError::Io {
            doing: "remove",
            path: old.path().to_path_buf(),
            source,
        })?;
        Ok(store)
    }

    /// With every change that was committed.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Of the quorum's leader, this node.
    pub fn epoch(&self) -> i32 {
        self.state.vote().epoch
    }

    pub fn me(&self) -> Voter {
        self.state.vote().voted.unwrap_or(Voter { node: 0, directory: self.state.directory })
    }

    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Commits changes, all by one write: they are durable when this returns, or none of them counts.
    pub fn commit(&mut self, changes: Vec<Vec<Record>>) -> Result<Vec<Commit>, MetadataError> {
        let (mut image, epoch) = (self.image.clone(), self.epoch());
        let mut entries = Vec::with_capacity(changes.len());
        for records in changes {
            image.apply(&records).map_err(|error| self.unfit(&error))?;
            entries.push(Entry { offset: image.version, epoch, what: What::Records(records) });
        }
        self.log.append(&entries)?;
        self.image = image;
        let commit = |Entry { offset, what, .. }| match what {
            What::Records(records) => Commit { offset, epoch, records },
            What::Membership(_) | What::Blank => unreachable!("only records were appended"),
        };
        Ok(entries.into_iter().map(commit).collect())
    }

    fn unfit(&self, error: &ApplyError) -> MetadataError {
        MetadataError::Corrupt {
            path: self.log.path().to_path_buf(),
            offset: 0,
            what: format!("a new change does not fit: {error}"),
        }
    }

    /// Writes the log anew if it has grown well past what it says. May take a while.
    pub fn trim(&mut self) {
        if !self.log.wants_rewrite() {
            return;
        }
        let snapshot = Snapshot {
            offset: self.image.version,
            epoch: self.epoch(),
            membership: self.membership.clone(),
            membership_at: self.membership_at,
            records: self.image.snapshot(),
        };
        if let Err(error) = self.log.rewrite(&snapshot) {
            log::error!("the metadata log could not be rewritten and goes on growing: {error}");
        }
    }
}

/// A random id that is fit to be a topic's or a cluster's: one that begins with a dash would look like an option on a command
/// line.
pub fn new_id() -> TopicId {
    loop {
        let mut bytes = rt::random().to_ne_bytes();
        // A UUID of version 4.
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let id = TopicId(bytes);
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

struct Loaded {
    image: Image,
    membership: Membership,
    membership_at: u64,
}

fn load(
    path: &Path,
    snapshot: Snapshot,
    entries: impl Iterator<Item = Entry>,
) -> Result<Loaded, MetadataError> {
    let mut image = Image::empty();
    image.apply(&snapshot.records).map_err(|error| unfit(path, snapshot.offset, &error))?;
    image.version = snapshot.offset;
    let (mut membership, mut membership_at) = (snapshot.membership, snapshot.membership_at);
    for entry in entries {
        match entry.what {
            What::Records(records) => {
                image.apply(&records).map_err(|error| unfit(path, entry.offset, &error))?;
            }
            What::Membership(new) => (membership, membership_at) = (new, entry.offset),
            What::Blank => {}
        }
        image.version = entry.offset;
    }
    if let Some(level) = image.features.get(VERSION)
        && !(MIN_LEVEL..=MAX_LEVEL).contains(level)
    {
        let (min, max) = (MIN_LEVEL, MAX_LEVEL);
        return Err(MetadataError::Level { feature: VERSION.into(), found: *level, min, max });
    }
    Ok(Loaded { image, membership, membership_at })
}

fn old_image(path: &Path, first: u64, commits: Vec<Vec<v1::Record>>) -> Result<Image, MetadataError> {
    let mut image = Image::empty();
    for (number, records) in (first..).zip(commits) {
        for record in records {
            record.apply(&mut image).map_err(|error| unfit(path, number, &error))?;
        }
        image.version = number;
    }
    Ok(image)
}

fn unfit(path: &Path, number: u64, error: &ApplyError) -> MetadataError {
    MetadataError::Corrupt {
        path: path.to_path_buf(),
        offset: 0,
        what: format!("change {number} does not fit those before it: {error}"),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
