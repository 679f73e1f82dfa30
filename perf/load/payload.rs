//! The bytes of a value: a mark that lets a consumer check it, and filler.
//!
//! ```text
//! magic u32 · crc32c of the rest u32 · run u32 · producer u32 · sequence u64 · intended time u64 · filler
//! ```
//! Little-endian. The sequence counts a producer's marked records to one partition from 0, so a reader of the
//! partition sees a gap, a repetition or a change of order at once. Values shorter than the mark are filler
//! alone, and only their offsets can be checked.

use super::random::Random;

pub const MARK: usize = 32;
const MAGIC: u32 = 0x4652_5057;
const POOL: usize = 1 << 20;
/// Filler repeats nothing within a piece, and then what compresses follows.
const PIECE: usize = 64;

/// Filler to copy from.
pub struct Filler {
    pool: Vec<u8>,
    random: Random,
}

impl Filler {
    pub fn new(compressibility: f64, longest: usize, seed: u64) -> Filler {
        let mut random = Random::new(seed);
        let mut pool = vec![b'w'; POOL.max(longest * 2).next_multiple_of(PIECE)];
        let noise = PIECE - (PIECE as f64 * compressibility).round() as usize;
        for piece in pool.chunks_mut(PIECE) {
            random.fill(&mut piece[..noise]);
        }
        Filler { pool, random }
    }

    /// Appends filler of this length, from anywhere in the pool.
    fn append(&mut self, out: &mut Vec<u8>, length: usize) {
        let at = self.random.below((self.pool.len() - length + 1) as u64) as usize;
        out.extend_from_slice(&self.pool[at..at + length]);
    }

    /// Appends a value of this size.
    pub fn value(&mut self, out: &mut Vec<u8>, size: usize, mark: Mark) {
        if size < MARK {
            return self.append(out, size);
        }
        let start = out.len();
        out.extend_from_slice(&mark.head());
        self.append(out, size - MARK);
        let sum = checksum(&out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub run: u32,
    pub producer: u32,
    pub sequence: u64,
    /// Nanoseconds on the run's clock.
    pub intended: u64,
}

/// What a value turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nobody's, or too short to carry a mark.
    Unmarked,
    Marked(Mark),
    /// It carries a mark, and its checksum says that it was changed.
    Damaged,
}

impl Mark {
    fn head(&self) -> [u8; MARK] {
        let mut head = [0; MARK];
        head[..4].copy_from_slice(&MAGIC.to_le_bytes());
        head[8..12].copy_from_slice(&self.run.to_le_bytes());
        head[12..16].copy_from_slice(&self.producer.to_le_bytes());
        head[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        head[24..].copy_from_slice(&self.intended.to_le_bytes());
        head
    }

    pub fn read(value: &[u8]) -> Seen {
        let Some(head) = value.first_chunk::<MARK>() else { return Seen::Unmarked };
        let u32_at = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u32_at(0) != MAGIC {
            return Seen::Unmarked;
        }
        if checksum(&value[8..]) != u32_at(4) {
            return Seen::Damaged;
        }
        let (run, producer) = (u32_at(8), u32_at(12));
        Seen::Marked(Mark { run, producer, sequence: u64_at(16), intended: u64_at(24) })
    }
}

pub fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
