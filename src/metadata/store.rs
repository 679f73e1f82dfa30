//! The metadata's directory as a whole, `<data>/meta`: the log, the quorum's state, and the image that they make. Blocks;
//! for start-up, tools and the thread that commits.
//!
//! ```text
//! quorum-state              this directory's id and vote (`quorum`)
//! metadata-<offset>.log     snapshot and changes (`log`)
//! ```

use std::path::Path;
use std::sync::Arc;

use super::committed::{Committed, known_committed, load, unfit};
use super::errors::{ApplyError, MetadataError};
use super::features::{MAX_LEVEL, VERSION};
use super::image::{Image, Topic};
use super::log::{Content, Entry, Inspected, MetadataLog, What};
use super::quorum::{Commit, Decided, Member, Membership, QuorumState, Recovery, Vote, Voter};
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
    me: Voter,
    committed: Committed,
    /// What a node that is not alone has after its log's first snapshot, committed or not.
    entries: Vec<Entry>,
}

/// A store taken apart.
#[derive(Debug)]
pub struct Parts {
    pub log: MetadataLog,
    pub state: QuorumState,
    pub me: Voter,
    pub committed: Committed,
    /// Of the entry before the first of `entries`.
    pub before: (u64, i32),
    pub entries: Vec<Entry>,
}

impl Store {
    /// The image that the metadata in `dir` makes, if there is any: nothing is changed on disk.
    pub fn inspect(dir: &Path) -> Result<Option<Image>, MetadataError> {
        let Some(Inspected { path, first, content, committed }) = MetadataLog::inspect(dir)? else {
            return Ok(None);
        };
        match content {
            Content::Old(commits) => old_image(&path, first, commits).map(Some),
            Content::Now { snapshot, entries } => {
                let entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
                let committed = known_committed(&snapshot, &entries, committed);
                load(&path, snapshot, &entries, committed).map(|loaded| Some(loaded.image))
            }
        }
    }

    /// Opens the metadata in `dir`, or begins a new cluster there; what is of an earlier format is written anew.
    pub fn open(dir: &Path, node: BrokerId) -> Result<Self, MetadataError> {
        let state = QuorumState::open(dir)?;
        let Some((log, content, committed)) = MetadataLog::open_at(dir)? else {
            return Self::begin(dir, node, state);
        };
        let (snapshot, entries) = match content {
            Content::Old(commits) => return Self::convert(dir, node, state, log, commits),
            Content::Now { snapshot, entries } => (snapshot, entries),
        };
        let mut entries: Vec<Entry> = entries.into_iter().map(|(entry, _)| entry).collect();
        let committed = known_committed(&snapshot, &entries, committed);
        let committed = load(log.path(), snapshot, &entries, committed)?;
        let corrupt = |what: &str| {
            Err(MetadataError::Corrupt { path: QuorumState::path_in(dir), offset: 0, what: what.into() })
        };
        let Some(state) = state else { return corrupt("it is gone") };
        let me = Voter { node, directory: state.directory() };
        let membership = &committed.membership;
        let is_mine = |member: &&Member| member.voter.directory == me.directory;
        match membership.members.iter().find(is_mine) {
            Some(member) if member.voter.node != node => {
                return Err(MetadataError::OtherBroker { stored: member.voter.node, configured: node });
            }
            None if membership.members.len() == 1 && entries.is_empty() => {
                return corrupt("it is of another directory than the metadata log");
            }
            _ => {}
        }
        if membership.is_alone(me) && committed.image.version + 1 == log.next_offset() {
            entries.clear();
        }
        Ok(Self { log, state, me, committed, entries })
    }

    /// Makes a directory that waits to be given a cluster's metadata; one that has some opens as it is.
    pub fn join(dir: &Path, node: BrokerId) -> Result<Self, MetadataError> {
        if MetadataLog::inspect(dir)?.is_some() {
            return Self::open(dir, node);
        }
        create_dir(dir)?;
        let state = match QuorumState::open(dir)? {
            Some(state) => state,
            None => QuorumState::create(dir, new_id().0, Vote::default())?,
        };
        let image = Image::empty();
        let (membership, me) = (Membership::default(), Voter { node, directory: state.directory() });
        let committed = Committed { image, epoch: 0, membership, membership_at: 0, membership_epoch: 0 };
        let log = MetadataLog::create(dir, &committed.snapshot())?;
        Ok(Self { log, state, me, committed, entries: Vec::new() })
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
        create_dir(dir)?;
        let state = match state {
            Some(state) => state,
            None => {
                let me = Voter { node, directory: new_id().0 };
                QuorumState::create(dir, me.directory, Vote { epoch: FIRST_EPOCH, voted: Some(me) })?
            }
        };
        let me = Voter { node, directory: state.directory() };
        let (membership, at) = (Membership::of_one(me), image.version);
        let committed = Committed { image, epoch, membership, membership_at: at, membership_epoch: epoch };
        let log = MetadataLog::create(dir, &committed.snapshot())?;
        Ok(Self { log, state, me, committed, entries: Vec::new() })
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

    /// With every change that is known to be committed.
    pub fn image(&self) -> &Image {
        &self.committed.image
    }

    /// The highest epoch that this node has heard of; of a node that is alone, the one in which it leads.
    pub fn epoch(&self) -> i32 {
        self.state.vote().epoch
    }

    pub fn me(&self) -> Voter {
        self.me
    }

    pub fn recovery(&self) -> Recovery {
        self.state.recovery()
    }

    pub fn membership(&self) -> &Membership {
        &self.committed.membership
    }

    /// Whether nobody but this node has the metadata, or is to have it.
    pub fn is_alone(&self) -> bool {
        self.committed.membership.is_alone(self.me) && self.entries.is_empty()
    }

    pub fn into_parts(self) -> Parts {
        let Self { log, state, me, committed, entries } = self;
        let before = match entries.first() {
            Some(_) => log.first(),
            None => (committed.image.version, committed.epoch),
        };
        Parts { log, state, me, committed, before, entries }
    }

    /// Commits changes of a node that is alone, as [`Self::commit_decided`] does, which nobody else has looked at.
    pub fn commit(&mut self, changes: Vec<Vec<Record>>) -> Result<Vec<Commit>, MetadataError> {
        let mut image = self.committed.image.clone();
        let mut decided = Vec::with_capacity(changes.len());
        for records in changes {
            image.apply(&records).map_err(|error| self.unfit(&error))?;
            decided.push(Decided { records, image: Arc::new(image.clone()) });
        }
        self.commit_decided(decided)
    }

    /// Commits changes of a node that is alone, all by one write: they are durable when this returns, or none of them counts.
    ///
    /// # Panics
    /// If one is not meant for the offset that it gets: it was decided on something else than what is committed before it.
    pub fn commit_decided(&mut self, changes: Vec<Decided>) -> Result<Vec<Commit>, MetadataError> {
        assert!(self.is_alone(), "others have a say");
        let (mut image, epoch) = (self.committed.image.clone(), self.epoch());
        let mut entries = Vec::with_capacity(changes.len());
        for Decided { records, image: decided } in changes {
            assert_eq!(decided.version, image.version + 1, "decided on all that is committed before it");
            image = Image::clone(&decided);
            entries.push(Entry { offset: image.version, epoch, what: What::Records(records) });
        }
        self.log.append(&entries)?;
        (self.committed.image, self.committed.epoch) = (image, epoch);
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
        if let Err(error) = self.log.rewrite(&self.committed.snapshot()) {
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

fn create_dir(dir: &Path) -> Result<(), MetadataError> {
    rt::fs::create_dir_all_durable(dir).map_err(|source| MetadataError::Io {
        doing: "create",
        path: dir.to_path_buf(),
        source,
    })
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

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
