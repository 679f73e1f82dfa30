//! The bytes of the metadata log: its header, and one frame an entry. See `log` for what they look like.

use super::codec::{Field, Reader, fields};
use super::errors::MetadataError;
use super::quorum::Membership;
use super::records::{Record, RecordError};

pub const FORMAT: u32 = 2;
pub(super) const HEADER: u64 = 4096;
pub(super) const MARK: u64 = 512;
pub(super) const COMMITTED: u64 = 1024;
pub(super) const MAGIC: &[u8; 8] = b"WEIRMETA";
pub(super) const FRAME_HEADER: usize = 24;
pub(super) const MAX_PAYLOAD: usize = 256 << 20;

/// Everything up to an offset, in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry that it stands for.
    pub offset: u64,
    pub epoch: i32,
    pub membership: Membership,
    /// The entry that the membership is of, and its epoch.
    pub membership_at: u64,
    pub membership_epoch: i32,
    pub records: Vec<Record>,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub offset: u64,
    /// Of the quorum's leader that made it.
    pub epoch: i32,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Records(Vec<Record>),
    Membership(Membership),
    /// Of a leader that began, so that what is before it can be committed.
    Blank,
}

pub(super) const RECORDS: u8 = 1;
pub(super) const MEMBERSHIP: u8 = 2;
pub(super) const BLANK: u8 = 3;
/// Of a node that is alone: without the epoch of its membership.
pub(super) const LONE_SNAPSHOT: u8 = 4;
pub(super) const SNAPSHOT: u8 = 5;

/// What a snapshot's payload begins with; its records follow.
struct SnapshotHead {
    membership_at: u64,
    membership_epoch: i32,
    membership: Membership,
}
fields!(SnapshotHead { membership_at, membership_epoch, membership });

struct LoneHead {
    membership_at: u64,
    membership: Membership,
}
fields!(LoneHead { membership_at, membership });

pub(super) fn encode_header(first: u64) -> [u8; 24] {
    let mut header = [0; 24];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    header[12..20].copy_from_slice(&first.to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// `place`: how many entries are before it in the same write.
pub(super) fn encode_entry(entry: &Entry, place: u16, out: &mut Vec<u8>) -> Result<(), MetadataError> {
    encode(out, entry.offset, entry.epoch, place, |out| match &entry.what {
        What::Records(records) => {
            records.iter().for_each(|record| record.encode(out));
            RECORDS
        }
        What::Membership(membership) => {
            membership.put(out);
            MEMBERSHIP
        }
        What::Blank => BLANK,
    })
}

pub(super) fn encode_snapshot(snapshot: &Snapshot) -> Result<Vec<u8>, MetadataError> {
    let mut out = Vec::new();
    encode(&mut out, snapshot.offset, snapshot.epoch, 0, |out| {
        snapshot.membership_at.put(out);
        snapshot.membership_epoch.put(out);
        snapshot.membership.put(out);
        snapshot.records.iter().for_each(|record| record.encode(out));
        SNAPSHOT
    })?;
    Ok(out)
}

fn encode(
    out: &mut Vec<u8>,
    offset: u64,
    epoch: i32,
    place: u16,
    payload: impl FnOnce(&mut Vec<u8>) -> u8,
) -> Result<(), MetadataError> {
    let start = out.len();
    out.resize(start + FRAME_HEADER, 0);
    let kind = payload(out);
    let frame = &mut out[start..];
    let size = frame.len() - FRAME_HEADER;
    if size > MAX_PAYLOAD {
        out.truncate(start);
        return Err(MetadataError::TooLarge(size));
    }
    frame[..4].copy_from_slice(&(size as u32).to_le_bytes());
    frame[8..16].copy_from_slice(&offset.to_le_bytes());
    frame[16..20].copy_from_slice(&epoch.to_le_bytes());
    frame[20] = kind;
    frame[22..24].copy_from_slice(&place.to_le_bytes());
    let crc = frame_crc(frame);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

pub(super) fn frame_crc(frame: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&frame[..4]);
    crc.update(&frame[8..]);
    crc.finalize()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The size of the sound frame of this offset that starts here.
pub(super) fn sound_frame(bytes: &[u8], offset: u64) -> Option<usize> {
    sound_behind(FRAME_HEADER, bytes, offset)
}

/// As [`sound_frame`], with a header of another size: size, checksum and offset begin it in every format.
pub(super) fn sound_behind(header: usize, bytes: &[u8], offset: u64) -> Option<usize> {
    if u64_at(bytes, 8)? != offset {
        return None;
    }
    let payload = u32_at(bytes, 0)? as usize;
    let len = header.checked_add(payload)?;
    if payload > MAX_PAYLOAD || len > bytes.len() {
        return None;
    }
    (u32_at(bytes, 4)? == frame_crc(&bytes[..len])).then_some(len)
}

/// How many entries are before this frame's in the write that it came with.
pub(super) fn place(frame: &[u8]) -> u64 {
    frame.get(22..24).map_or(0, |place| u64::from(u16::from_le_bytes([place[0], place[1]])))
}

/// A frame that is sound.
pub(super) struct Frame<'a> {
    pub offset: u64,
    pub epoch: i32,
    pub kind: u8,
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub fn of(frame: &'a [u8]) -> Self {
        let (header, payload) = frame.split_at(FRAME_HEADER);
        Self {
            offset: u64_at(header, 8).unwrap_or(0),
            epoch: u32_at(header, 16).unwrap_or(0).cast_signed(),
            kind: header[20],
            payload,
        }
    }

    pub fn entry(&self) -> Result<Entry, RecordError> {
        let what = match self.kind {
            RECORDS => What::Records(Record::decode_all(self.payload)?),
            MEMBERSHIP => What::Membership(whole(self.payload)?),
            BLANK if self.payload.is_empty() => What::Blank,
            BLANK | SNAPSHOT | LONE_SNAPSHOT => return Err(RecordError::Malformed),
            kind => return Err(RecordError::Newer { kind: kind.into(), version: 0 }),
        };
        Ok(Entry { offset: self.offset, epoch: self.epoch, what })
    }

    pub fn snapshot(&self) -> Result<Snapshot, RecordError> {
        let mut reader = Reader(self.payload);
        let head = match self.kind {
            SNAPSHOT => SnapshotHead::take(&mut reader)?,
            LONE_SNAPSHOT => {
                let LoneHead { membership_at, membership } = LoneHead::take(&mut reader)?;
                SnapshotHead { membership_at, membership_epoch: self.epoch, membership }
            }
            _ => return Err(RecordError::Malformed),
        };
        Ok(Snapshot {
            offset: self.offset,
            epoch: self.epoch,
            membership: head.membership,
            membership_at: head.membership_at,
            membership_epoch: head.membership_epoch,
            records: Record::decode_all(reader.0)?,
        })
    }
}

/// Entries as one node tells them to another: frames as the log has them.
pub fn put_entries(entries: &[Entry], out: &mut Vec<u8>) -> Result<(), MetadataError> {
    entries.iter().try_for_each(|entry| encode_entry(entry, 0, out))
}

/// What [`put_entries`] has written, of these offsets from `first` on and of rising epochs.
pub fn take_entries(mut bytes: &[u8], first: u64) -> Result<Vec<Entry>, RecordError> {
    let mut entries: Vec<Entry> = Vec::new();
    while !bytes.is_empty() {
        let offset = first.checked_add(entries.len() as u64).ok_or(RecordError::Malformed)?;
        let len = sound_frame(bytes, offset).ok_or(RecordError::Malformed)?;
        let entry = Frame::of(&bytes[..len]).entry()?;
        if entry.epoch < entries.last().map_or(0, |last| last.epoch) {
            return Err(RecordError::Malformed);
        }
        entries.push(entry);
        bytes = &bytes[len..];
    }
    Ok(entries)
}

impl Snapshot {
    /// A snapshot as one node tells it to another: the frame that the log would begin with.
    pub fn encode(&self) -> Result<Vec<u8>, MetadataError> {
        encode_snapshot(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let offset = u64_at(bytes, 8).ok_or(RecordError::Malformed)?;
        match sound_frame(bytes, offset) {
            Some(len) if len == bytes.len() => Frame::of(bytes).snapshot(),
            _ => Err(RecordError::Malformed),
        }
    }
}

fn whole<T: Field>(bytes: &[u8]) -> Result<T, RecordError> {
    let mut reader = Reader(bytes);
    let value = T::take(&mut reader)?;
    if reader.is_empty() { Ok(value) } else { Err(RecordError::Malformed) }
}
