//! What a journal gives back when it is opened.

use std::path::PathBuf;

use bytes::Bytes;

use crate::log::Lsn;
use crate::model::PartitionId;

use super::format::{EntryHeader, EntryKind};
use super::turns::ReplayTurn;

/// Durable entries that cannot be read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    pub path: PathBuf,
    pub offset: u64,
    /// The lost positions: entries with `from < lsn <= to`.
    pub from: Lsn,
    pub to: Lsn,
    /// The entry, where only what is behind its header is damaged.
    pub entry: Option<Entry>,
}

/// An entry of the journal as it comes back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    pub kind: EntryKind,
    pub lsn: Lsn,
    pub partition: PartitionId,
    /// Of a batch, or what the kind says.
    pub base_offset: i64,
    pub leader_epoch: i32,
}

impl From<EntryHeader> for Entry {
    fn from(header: EntryHeader) -> Self {
        let EntryHeader { kind, lsn, partition, base_offset, leader_epoch, .. } = header;
        Self { kind, lsn, partition, base_offset, leader_epoch }
    }
}

pub enum Replayed<'a> {
    Entry(Entry, &'a [u8]),
    Damage(&'a Damage),
}

/// What one file held at or past the floor, in order.
pub struct ReplayedFile {
    pub(super) bytes: Bytes,
    pub(super) items: Vec<Held>,
    pub(super) _turn: Option<ReplayTurn>,
}

pub(super) enum Held {
    Entry(Entry, std::ops::Range<usize>),
    Damage(Damage),
}

impl ReplayedFile {
    pub fn items(&self) -> impl Iterator<Item = Replayed<'_>> {
        self.items.iter().map(|item| match item {
            Held::Entry(entry, range) => Replayed::Entry(*entry, &self.bytes[range.clone()]),
            Held::Damage(damage) => Replayed::Damage(damage),
        })
    }
}
