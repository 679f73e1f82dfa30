//! A segment's index and checksums in one: the list of its *extents*.
//!
//! An extent is a run of whole batches, about [`EXTENT_BYTES`] long (longer only if one batch is), with the offset it
//! starts at, the largest timestamp in it and a CRC-32 of its bytes. So one sorted list answers "where is this
//! offset", "where may this timestamp be" and "are these bytes what was written", and every read is of whole extents.
//!
//! On disk the list is the segment's sidecar, `<base offset>.extents`: blocks of 4 KiB, little-endian.
//! ```text
//! block:  magic "WEXT" | version u16 | count u16 | previous u32 | crc32 u32 | count × extent | zeros
//! extent: position u32 | length u32 | first offset − base u32 | crc32 u32 | max timestamp i64
//! ```
//! A block's checksum covers the segment's base offset, the block's number and the block (checksum field zeroed), so a
//! block of another file or place is not taken for this one's. `previous` is the checksum of the block before: what an
//! earlier life of the file left behind a rewritten block does not follow from it. Only the last block is ever
//! rewritten, and a block that is not full is the last.
//!
//! The sidecar is behind an active segment, and not synced with it. So the checkpoint has the extents that the sidecar
//! lacked when the segment was last synced, and every byte that a checkpoint covers has a checksum.
//!
//! The sidecar is disposable: what is missing or invalid is made again from the batches (see `recover`). A stretch
//! whose batches fail their own checks then becomes a *condemned* extent, whose checksum no bytes match.

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use crate::rt::BLOCK;

/// Batches are gathered into an extent up to this size.
pub const EXTENT_BYTES: u32 = 64 << 10;

const MAGIC: &[u8; 4] = b"WEXT";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 24;
/// Extents in one block of the sidecar.
pub const PER_BLOCK: usize = (BLOCK - HEADER_BYTES) / ENTRY_BYTES;

const _: () = assert!(HEADER_BYTES + PER_BLOCK * ENTRY_BYTES == BLOCK);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Where in the segment file it starts.
    pub position: u32,
    pub length: u32,
    /// Its first offset, relative to the segment's base offset.
    pub relative_offset: u32,
    pub crc: u32,
    pub max_timestamp: i64,
}

impl Extent {
    pub fn end(&self) -> u32 {
        self.position + self.length
    }

    pub fn matches(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.length as usize && crc32fast::hash(bytes) == self.crc
    }

    /// An extent over bytes that are known to be bad: every later read of them fails its check.
    pub fn condemned(position: u32, relative_offset: u32, bytes_crc: u32, length: u32) -> Self {
        Self { position, length, relative_offset, crc: !bytes_crc, max_timestamp: i64::MIN }
    }
}

/// The extents of one segment, without gaps; of all of it, or of its end (see [`ExtentIndex::ahead`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtentIndex {
    /// Where the first one begins.
    start: u32,
    extents: Vec<Extent>,
    /// Extents that take no more batches: those that were read back rather than written by this process.
    closed: usize,
}

impl ExtentIndex {
    /// The extents read from a sidecar, or none.
    pub fn from_extents(extents: Vec<Extent>) -> Self {
        let closed = extents.len();
        Self { start: 0, extents, closed }
    }

    /// An index of what will follow, to be put back with [`join`](Self::join). It begins with the last extent, if that
    /// takes more batches.
    pub fn ahead(&self) -> Self {
        let open = self.extents[self.closed..].last().copied();
        let start = open.map_or(self.end(), |extent| extent.position);
        Self { start, extents: open.into_iter().collect(), closed: 0 }
    }

    /// Adds what [`ahead`](Self::ahead) has become.
    pub fn join(&mut self, ahead: Self) {
        let keep = self.extents.partition_point(|e| e.end() <= ahead.start);
        self.extents.truncate(keep);
        self.extents.extend(ahead.extents);
    }

    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The file position up to which the list goes.
    pub fn end(&self) -> u32 {
        self.extents.last().map_or(self.start, Extent::end)
    }

    pub fn memory(&self) -> usize {
        self.extents.capacity() * size_of::<Extent>()
    }

    /// Adds the batch that follows the last one.
    pub fn push_batch(&mut self, relative_offset: u32, max_timestamp: i64, bytes: &[u8]) {
        let length = bytes.len() as u32;
        if self.extents.len() > self.closed
            && let Some(last) = self.extents.last_mut()
            && last.length + length <= EXTENT_BYTES
        {
            let mut hasher = Hasher::new_with_initial_len(last.crc, u64::from(last.length));
            hasher.update(bytes);
            last.crc = hasher.finalize();
            last.length += length;
            last.max_timestamp = last.max_timestamp.max(max_timestamp);
            return;
        }
        let position = self.end();
        self.extents.push(Extent {
            position,
            length,
            relative_offset,
            crc: crc32fast::hash(bytes),
            max_timestamp,
        });
    }

    pub fn push_condemned(&mut self, relative_offset: u32, bytes_crc: u32, length: u32) {
        self.extents.push(Extent::condemned(self.end(), relative_offset, bytes_crc, length));
        self.close();
    }

    /// Lets no further batch join the last extent.
    pub fn close(&mut self) {
        self.closed = self.extents.len();
    }

    /// Adds extents that follow the last one.
    pub fn extend(&mut self, extents: &[Extent]) {
        self.extents.extend_from_slice(extents);
        self.close();
    }

    /// Those that do not lie wholly below `position`.
    pub fn beyond(&self, position: u32) -> &[Extent] {
        &self.extents[self.extents.partition_point(|e| e.end() <= position)..]
    }

    /// Drops what does not lie wholly below `position`.
    pub fn cut(&mut self, position: u32) {
        let keep = self.extents.partition_point(|e| e.end() <= position);
        self.extents.truncate(keep);
        self.closed = keep;
    }

    /// The extent that holds the offset, or would if the log had no gaps.
    pub fn find_offset(&self, relative_offset: u32) -> Option<usize> {
        self.extents.partition_point(|e| e.relative_offset <= relative_offset).checked_sub(1)
    }

    /// The first extent at or after `from` with a timestamp not below `target`.
    pub fn find_timestamp(&self, from: usize, target: i64) -> Option<usize> {
        let rest = self.extents.get(from..)?;
        rest.iter().position(|e| e.max_timestamp >= target).map(|i| from + i)
    }
}

/// One block of the sidecar: the extents from `number × PER_BLOCK` on, as many as fit. Returns its checksum.
pub fn encode_block(
    base_offset: i64,
    number: usize,
    previous: u32,
    extents: &[Extent],
    out: &mut [u8],
) -> u32 {
    let entries = &extents[number * PER_BLOCK..];
    let entries = &entries[..entries.len().min(PER_BLOCK)];
    out[..BLOCK].fill(0);
    out[..4].copy_from_slice(MAGIC);
    out[4..6].copy_from_slice(&VERSION.to_le_bytes());
    out[6..8].copy_from_slice(&(entries.len() as u16).to_le_bytes());
    out[8..12].copy_from_slice(&previous.to_le_bytes());
    for (extent, slot) in entries.iter().zip(out[HEADER_BYTES..].chunks_exact_mut(ENTRY_BYTES)) {
        slot[..4].copy_from_slice(&extent.position.to_le_bytes());
        slot[4..8].copy_from_slice(&extent.length.to_le_bytes());
        slot[8..12].copy_from_slice(&extent.relative_offset.to_le_bytes());
        slot[12..16].copy_from_slice(&extent.crc.to_le_bytes());
        slot[16..24].copy_from_slice(&extent.max_timestamp.to_le_bytes());
    }
    let crc = block_crc(base_offset, number, &out[..BLOCK]);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    crc
}

fn block_crc(base_offset: i64, number: usize, block: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&base_offset.to_le_bytes());
    hasher.update(&(number as u64).to_le_bytes());
    hasher.update(&block[..12]);
    hasher.update(&block[HEADER_BYTES..]);
    hasher.finalize()
}

/// What a sidecar holds: the extents of its valid blocks, and those blocks' checksums.
#[derive(Debug, Default)]
pub struct Sidecar {
    pub extents: Vec<Extent>,
    pub blocks: Vec<u32>,
}

/// Reads a sidecar up to the first byte that cannot be trusted.
pub fn decode_sidecar(base_offset: i64, bytes: &[u8]) -> Sidecar {
    let mut sidecar = Sidecar::default();
    for (number, block) in bytes.chunks_exact(BLOCK).enumerate() {
        let previous = sidecar.blocks.last().copied().unwrap_or(0);
        let Some(crc) = decode_block(base_offset, number, previous, block, &mut sidecar.extents) else {
            break;
        };
        sidecar.blocks.push(crc);
        if sidecar.extents.len() % PER_BLOCK != 0 {
            break;
        }
    }
    sidecar
}

fn decode_block(base: i64, number: usize, previous: u32, block: &[u8], out: &mut Vec<Extent>) -> Option<u32> {
    let u16_at = |at: usize| u16::from_le_bytes([block[at], block[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let count = u16_at(6) as usize;
    let crc = u32_at(12);
    let known = &block[..4] == MAGIC && u16_at(4) == VERSION;
    if !known
        || count == 0
        || count > PER_BLOCK
        || u32_at(8) != previous
        || block_crc(base, number, block) != crc
    {
        return None;
    }
    let start = out.len();
    for i in 0..count {
        let at = HEADER_BYTES + i * ENTRY_BYTES;
        let extent = Extent {
            position: u32_at(at),
            length: u32_at(at + 4),
            relative_offset: u32_at(at + 8),
            crc: u32_at(at + 12),
            max_timestamp: i64::from_le_bytes(block[at + 16..at + 24].try_into().ok()?),
        };
        let follows = match out.last() {
            Some(last) => extent.position == last.end() && extent.relative_offset > last.relative_offset,
            None => extent.position == 0,
        };
        if !follows || extent.length == 0 || extent.position.checked_add(extent.length).is_none() {
            out.truncate(start);
            return None;
        }
        out.push(extent);
    }
    Some(crc)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(count: u32) -> ExtentIndex {
        let mut index = ExtentIndex::default();
        for i in 0..count {
            index.push_batch(i * 2, i64::from(i % 7), &[i as u8; 40_000]);
        }
        index
    }

    fn encode(index: &ExtentIndex) -> Vec<u8> {
        let blocks = index.extents().len().div_ceil(PER_BLOCK);
        let mut bytes = vec![0; blocks * BLOCK];
        let mut previous = 0;
        for (i, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
            previous = encode_block(7, i, previous, index.extents(), block);
        }
        bytes
    }

    #[test]
    fn what_is_gathered_ahead_joins_as_if_it_had_been_pushed() {
        let batches: Vec<Vec<u8>> =
            (0..40u8).map(|i| vec![i; 1_000 * (1 + usize::from(i) * 7 % 30)]).collect();
        let (mut pushed, mut joined) = (ExtentIndex::default(), ExtentIndex::default());
        for (i, chunk) in batches.chunks(3).enumerate() {
            if i == 5 {
                pushed.close();
                joined.close();
            }
            let mut ahead = joined.ahead();
            let abandoned = joined.ahead();
            for (j, batch) in chunk.iter().enumerate() {
                pushed.push_batch((i * 3 + j) as u32, j as i64, batch);
                ahead.push_batch((i * 3 + j) as u32, j as i64, batch);
            }
            drop(abandoned);
            joined.join(ahead);
            assert_eq!(joined, pushed, "after chunk {i}");
        }
    }

    #[test]
    fn batches_gather_into_extents_whose_checksum_covers_them_all() {
        let mut index = ExtentIndex::default();
        let batches: Vec<Vec<u8>> = (1..40u8).map(|i| vec![i; i as usize * 300]).collect();
        for (i, batch) in batches.iter().enumerate() {
            index.push_batch(i as u32, 100 - i as i64, batch);
        }
        let file = batches.concat();
        assert!(index.extents().len() > 2);
        for extent in index.extents() {
            assert!(extent.length <= EXTENT_BYTES);
            assert!(extent.matches(&file[extent.position as usize..extent.end() as usize]));
        }
        assert_eq!(index.end() as usize, file.len());
        assert_eq!(index.find_offset(0), Some(0));
        assert_eq!(index.find_offset(10_000), Some(index.extents().len() - 1));
        let second = index.extents()[1].relative_offset;
        assert_eq!(index.find_offset(second - 1), Some(0));
        assert_eq!(index.find_offset(second), Some(1));
        assert_eq!(index.find_timestamp(0, 101), None);
        assert_eq!(index.find_timestamp(0, 100), Some(0));
        assert_eq!(index.find_timestamp(1, 1), Some(1));
    }

    #[test]
    fn a_sidecar_reads_back_up_to_its_first_bad_block() {
        let index = sample(400);
        let bytes = encode(&index);
        assert_eq!(decode_sidecar(7, &bytes).extents, index.extents());
        assert!(decode_sidecar(8, &bytes).extents.is_empty(), "another segment's sidecar");
        for at in (0..bytes.len()).step_by(61) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let read = decode_sidecar(7, &bad).extents;
            assert_eq!(read, index.extents()[..at / BLOCK * PER_BLOCK], "byte {at}");
        }
        for cut in (0..bytes.len()).step_by(997) {
            let read = decode_sidecar(7, &bytes[..cut]).extents;
            assert_eq!(read, index.extents()[..cut / BLOCK * PER_BLOCK]);
        }
    }

    #[test]
    fn blocks_of_an_earlier_life_are_not_followed() {
        let old = encode(&sample(400));
        let mut index = ExtentIndex::from_extents(sample(400).extents()[..PER_BLOCK - 1].to_vec());
        let at = index.extents().last().unwrap().relative_offset + 1;
        index.push_batch(at, 5, &[9; 40_000]);
        let mut bytes = encode(&index);
        bytes.extend_from_slice(&old[BLOCK..]);
        assert_eq!(decode_sidecar(7, &bytes).extents, index.extents());
    }

    #[test]
    fn a_condemned_extent_matches_no_reading_of_its_bytes() {
        let mut index = ExtentIndex::default();
        let bad = [3u8; 100];
        index.push_condemned(0, crc32fast::hash(&bad), 100);
        index.push_batch(5, 1, &[4; 10]);
        assert!(!index.extents()[0].matches(&bad));
        assert!(index.extents()[1].matches(&[4; 10]));
        index.cut(105);
        assert_eq!(index.extents().len(), 1);
    }
}
