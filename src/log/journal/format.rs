//! The bytes of a journal file. Pure: encodes into and decodes from slices, knows no file.
//!
//! ```text
//! file      | header block, 4096 bytes | data: commits back to back …                     | stale or zero |
//! commit    | commit header 64 | entry | entry | … | zeros up to a multiple of 4096        |
//! entry     | entry header 64  | batch, `length` bytes | zeros up to a multiple of 8       |
//!
//! file header: magic "WEIRJRNL", version u32, salt u32, generation u64, first u64, previous_end u64,
//!              capacity u64, crc u32                                        (all integers little-endian)
//! commit:  0 magic u16 | 2 version u8 = 2 | 3 kind u8 = 2 | 4 behind u32 | 8 start u64 | 16 length u32
//!         20 entries u32 | 24 first u64 | 32 previous_end u64 | 40 generation u64 | 48 capacity u64 | 56 gap u32 | 60 crc
//! entry:   0 magic u16 | 2 version u8 = 1 | 3 kind u8 | 4 generation u32 | 8 lsn u64 | 16 topic id
//!         32 partition i32 | 36 leader epoch i32 | 40 offset i64 | 48 length u32 | 52 crc of the bytes behind u32
//!         56 0 | 60 crc of bytes 0..60
//! ```
//!
//! - A *position* is a byte address in the journal's endless logical space, never reused. A file holds the
//!   positions `first .. first + capacity`; an entry's [`Lsn`] is the position of its end.
//! - The salt is drawn once per journal and seeds every crc: bytes that a client chose are never taken for headers.
//! - `previous_end` is the lsn of the last entry that counts in the generations before: what an older file holds
//!   past it is a tear that an earlier recovery dropped.
//! - `gap` is how far before a commit's start the last entry before it ended: where what a damaged commit held ends.
//! - `acknowledged` is the lsn up to which all was on disk when the commit was handed to it; a commit has the distance from
//!   there to its start, `behind`. What cannot be read below it is damage. What cannot be read above it is the journal's
//!   end, even if a later commit holds: that one was not acknowledged. A commit that opens a file is handed to the disk when
//!   all before it is on it.
//! - A commit header repeats the file header, so that a damaged header block loses nothing.
//! - Version 3. A reader refuses a greater version; a later version must keep the first 16 bytes of the file header.
//!   Version 2 did not have `acknowledged`, nor entries of the kinds 4 to 6, and its commits were of version 1: they had the
//!   generation in the place of `behind`, and all before a commit was on disk. Version 1 had no entries of kind 3.

use crate::log::Lsn;
use crate::model::{PartitionId, TopicId};
use crate::rt::BLOCK;

/// Of the files; those of earlier versions are read as well.
pub const VERSION: u8 = 3;
pub const COMMIT_HEADER: usize = 64;
pub const ENTRY_HEADER: usize = 64;
/// Entries begin at multiples of this.
pub const ALIGN: usize = 8;
/// The first position of a new journal; zero stays "nothing".
pub const FIRST_POSITION: u64 = BLOCK as u64;

const FILE_MAGIC: &[u8; 8] = b"WEIRJRNL";
const MAGIC: u16 = 0x4a57;
const ENTRY_VERSION: u8 = 1;
const COMMIT_VERSION: u8 = 2;
const KIND_COMMIT: u8 = 2;
const CRC_AT: usize = 60;

const _: () = assert!(COMMIT_HEADER.is_multiple_of(ALIGN) && ENTRY_HEADER.is_multiple_of(ALIGN));

/// What one generation of one file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileHeader {
    pub generation: u64,
    /// The position of the first data byte, a multiple of [`BLOCK`].
    pub first: u64,
    /// The last lsn that counts in the generations before this one.
    pub previous_end: u64,
    /// Data bytes that the file has room for.
    pub capacity: u64,
}

impl FileHeader {
    /// The offset in the file of a position that the file holds.
    pub fn file_offset(&self, position: u64) -> u64 {
        BLOCK as u64 + (position - self.first)
    }
}

/// Why a file's header block cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadHeader {
    /// All zeros: a file never used.
    Empty,
    /// Written by a later version of this program.
    Newer(u32),
    Damaged,
}

/// Writes the header block over the first [`BLOCK`] bytes of `out`.
pub fn encode_file_header(header: &FileHeader, salt: u32, out: &mut [u8]) {
    let block = &mut out[..BLOCK];
    block.fill(0);
    block[..8].copy_from_slice(FILE_MAGIC);
    put_u32(block, 8, u32::from(VERSION));
    put_u32(block, 12, salt);
    put_u64(block, 16, header.generation);
    put_u64(block, 24, header.first);
    put_u64(block, 32, header.previous_end);
    put_u64(block, 40, header.capacity);
    let crc = seeded_crc(salt, &block[..48]);
    put_u32(block, 48, crc);
}

/// The header and the journal's salt.
pub fn decode_file_header(block: &[u8]) -> Result<(FileHeader, u32), BadHeader> {
    if block.len() < BLOCK {
        return Err(BadHeader::Damaged);
    }
    if block[..BLOCK].iter().all(|b| *b == 0) {
        return Err(BadHeader::Empty);
    }
    let salt = get_u32(block, 12);
    if &block[..8] != FILE_MAGIC {
        return Err(BadHeader::Damaged);
    }
    let version = get_u32(block, 8);
    if version > u32::from(VERSION) && version < 1 << 16 {
        return Err(BadHeader::Newer(version));
    }
    let header = FileHeader {
        generation: get_u64(block, 16),
        first: get_u64(block, 24),
        previous_end: get_u64(block, 32),
        capacity: get_u64(block, 40),
    };
    let known = (1..=u32::from(VERSION)).contains(&version);
    if !known || seeded_crc(salt, &block[..48]) != get_u32(block, 48) || !sane(&header) {
        return Err(BadHeader::Damaged);
    }
    Ok((header, salt))
}

fn sane(header: &FileHeader) -> bool {
    let block = BLOCK as u64;
    header.first.is_multiple_of(block)
        && header.first >= FIRST_POSITION
        && header.capacity.is_multiple_of(block)
        && header.capacity > 0
        && header.first.checked_add(header.capacity).is_some()
        && header.previous_end <= header.first
}

/// The header of one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitHeader {
    pub file: FileHeader,
    /// The commit's own position, a multiple of [`BLOCK`].
    pub start: u64,
    /// Bytes of the whole commit: header, entries, padding.
    pub length: u32,
    pub entries: u32,
    /// Bytes between the last entry before this commit and its start.
    pub gap: u32,
    /// Everything up to this lsn was on disk when this commit was handed to it.
    pub acknowledged: u64,
}

impl CommitHeader {
    /// Where the last entry before this commit ended.
    pub fn before(&self) -> u64 {
        self.start.saturating_sub(u64::from(self.gap))
    }
}

pub fn encode_commit(commit: &CommitHeader, salt: u32, out: &mut [u8]) {
    let out = &mut out[..COMMIT_HEADER];
    out.fill(0);
    let behind = u32::try_from(commit.start.saturating_sub(commit.acknowledged)).unwrap_or(u32::MAX);
    put_prefix(out, COMMIT_VERSION, KIND_COMMIT, behind);
    put_u64(out, 8, commit.start);
    put_u32(out, 16, commit.length);
    put_u32(out, 20, commit.entries);
    put_u64(out, 24, commit.file.first);
    put_u64(out, 32, commit.file.previous_end);
    put_u64(out, 40, commit.file.generation);
    put_u64(out, 48, commit.file.capacity);
    put_u32(out, 56, commit.gap);
    let crc = seeded_crc(salt, &out[..CRC_AT]);
    put_u32(out, CRC_AT, crc);
}

/// A commit header, if the bytes are one: of any generation, at any position.
pub fn decode_commit(bytes: &[u8], salt: u32) -> Option<CommitHeader> {
    let (bytes, version, kind) = checked(bytes, salt)?;
    if kind != KIND_COMMIT || !(1..=COMMIT_VERSION).contains(&version) {
        return None;
    }
    let (start, gap) = (get_u64(bytes, 8), get_u32(bytes, 56));
    let behind = if version == 1 { gap } else { get_u32(bytes, 4) };
    let file = FileHeader {
        generation: get_u64(bytes, 40),
        first: get_u64(bytes, 24),
        previous_end: get_u64(bytes, 32),
        capacity: get_u64(bytes, 48),
    };
    let commit = CommitHeader {
        file,
        start,
        length: get_u32(bytes, 16),
        entries: get_u32(bytes, 20),
        gap,
        acknowledged: start.saturating_sub(u64::from(behind)),
    };
    let length = u64::from(commit.length);
    let within = commit.start >= file.first
        && (commit.start - file.first).checked_add(length).is_some_and(|end| end <= file.capacity);
    (sane(&file)
        && within
        && commit.start.is_multiple_of(BLOCK as u64)
        && length.is_multiple_of(BLOCK as u64)
        && length > 0)
        .then_some(commit)
}

/// What an entry holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EntryKind {
    Batch = 1,
    /// Where batches are that were written to their segment at once.
    Placement = 3,
    /// The partition's log ends at the entry's offset from here on: what earlier entries have past it is void.
    Truncate = 4,
    /// The entry's leader epoch begins at its offset, whether records follow or not.
    EpochStart = 5,
    /// The partition's log has nothing and starts at the entry's offset from here on: all earlier entries are void.
    Reset = 6,
}

impl EntryKind {
    const ALL: [Self; 5] = [Self::Batch, Self::Placement, Self::Truncate, Self::EpochStart, Self::Reset];
}

/// The header of one entry; `lsn` is the position of the entry's end, padding included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryHeader {
    pub kind: EntryKind,
    pub generation: u32,
    pub lsn: Lsn,
    pub partition: PartitionId,
    pub leader_epoch: i32,
    pub base_offset: i64,
    pub length: u32,
    pub batch_crc: u32,
}

/// Bytes that an entry with a batch of `length` bytes takes.
pub const fn entry_size(length: usize) -> usize {
    ENTRY_HEADER + length.next_multiple_of(ALIGN)
}

impl EntryHeader {
    pub fn size(&self) -> u64 {
        entry_size(self.length as usize) as u64
    }
}

pub fn encode_entry(entry: &EntryHeader, salt: u32) -> [u8; ENTRY_HEADER] {
    let mut out = [0; ENTRY_HEADER];
    put_prefix(&mut out, ENTRY_VERSION, entry.kind as u8, entry.generation);
    put_u64(&mut out, 8, entry.lsn.0);
    out[16..32].copy_from_slice(&entry.partition.topic.0);
    put_u32(&mut out, 32, entry.partition.index as u32);
    put_u32(&mut out, 36, entry.leader_epoch as u32);
    put_u64(&mut out, 40, entry.base_offset as u64);
    put_u32(&mut out, 48, entry.length);
    put_u32(&mut out, 52, entry.batch_crc);
    let crc = seeded_crc(salt, &out[..CRC_AT]);
    put_u32(&mut out, CRC_AT, crc);
    out
}

/// An entry header, if the bytes are one. Whether the batch behind it is whole is for [`batch_crc`] to say.
pub fn decode_entry(bytes: &[u8], salt: u32) -> Option<EntryHeader> {
    let (bytes, version, kind) = checked(bytes, salt)?;
    let kind = EntryKind::ALL.into_iter().find(|known| *known as u8 == kind && version == ENTRY_VERSION)?;
    let mut topic = [0; 16];
    topic.copy_from_slice(&bytes[16..32]);
    Some(EntryHeader {
        kind,
        generation: get_u32(bytes, 4),
        lsn: Lsn(get_u64(bytes, 8)),
        partition: PartitionId { topic: TopicId(topic), index: get_u32(bytes, 32) as i32 },
        leader_epoch: get_u32(bytes, 36) as i32,
        base_offset: get_u64(bytes, 40) as i64,
        length: get_u32(bytes, 48),
        batch_crc: get_u32(bytes, 52),
    })
}

pub fn batch_crc(batch: &[u8]) -> u32 {
    crc32fast::hash(batch)
}

fn put_prefix(out: &mut [u8], version: u8, kind: u8, word: u32) {
    out[..2].copy_from_slice(&MAGIC.to_le_bytes());
    out[2] = version;
    out[3] = kind;
    put_u32(out, 4, word);
}

/// The 64 header bytes, their version and their kind, if they begin with the magic and their crc holds.
fn checked(bytes: &[u8], salt: u32) -> Option<(&[u8; 64], u8, u8)> {
    let header: &[u8; 64] = bytes.first_chunk()?;
    let begins = header[..2] == MAGIC.to_le_bytes();
    let holds = begins && seeded_crc(salt, &header[..CRC_AT]) == get_u32(header, CRC_AT);
    holds.then_some((header, header[2], header[3]))
}

fn seeded_crc(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

fn put_u32(out: &mut [u8], at: usize, value: u32) {
    out[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut [u8], at: usize, value: u64) {
    out[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
