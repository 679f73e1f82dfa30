//! Keys, and the partition that Kafka's default partitioner gives each.

use super::random::{Random, Weighted};
use crate::workload::Key;

pub struct Keys {
    width: usize,
    bytes: Vec<u8>,
    partitions: Vec<u32>,
    /// None draws evenly.
    weights: Option<Weighted>,
}

impl Keys {
    pub fn new(spec: &Key, partitions: u32) -> Keys {
        let mut bytes = Vec::with_capacity(spec.count as usize * spec.bytes);
        let mut placed = Vec::with_capacity(spec.count as usize);
        for key in 0..spec.count {
            let text = format!("{key:0>width$}", width = spec.bytes);
            placed.push(partition(text.as_bytes(), partitions));
            bytes.extend_from_slice(text.as_bytes());
        }
        let weights = (spec.zipf > 0.0).then(|| Weighted::zipf(spec.count, spec.zipf));
        Keys { width: spec.bytes, bytes, partitions: placed, weights }
    }

    pub fn draw(&self, random: &mut Random) -> u32 {
        match &self.weights {
            Some(weights) => weights.draw(random),
            None => random.below(self.partitions.len() as u64) as u32,
        }
    }

    pub fn partition(&self, key: u32) -> u32 {
        self.partitions[key as usize]
    }

    pub fn bytes(&self, key: u32) -> &[u8] {
        &self.bytes[key as usize * self.width..][..self.width]
    }

    pub fn width(&self) -> usize {
        self.width
    }
}

/// Where Kafka's clients put a key: murmur2, its sign dropped, modulo the partitions.
pub fn partition(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// MurmurHash2 with the seed that Kafka's clients use.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ data.len() as u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * i);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}
