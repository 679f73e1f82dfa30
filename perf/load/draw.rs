//! Draws the records of a workload: size, key, partition.

use std::sync::Arc;

use super::keys::Keys;
use super::random::{Random, Weighted};
use crate::workload::{Sizes, Workload};

pub const NO_KEY: u32 = u32::MAX;
/// Sizes drawn beforehand; drawing again picks one of them.
const SIZES: usize = 8192;

/// A record that is meant to be sent: its bytes are made when its batch is.
#[derive(Clone, Copy, Debug)]
pub struct Draft {
    /// Nanoseconds on the run's clock.
    pub intended: u64,
    pub key: u32,
    pub size: u32,
}

/// What a batch that is not full may still take.
struct Sticky {
    partition: u32,
    left: i64,
}

pub struct Drawer {
    random: Random,
    sizes: Arc<[u32]>,
    keys: Option<Arc<Keys>>,
    partitions: u32,
    batch_size: i64,
    /// Records without a key fill one partition's batch before the next, for each producer.
    sticky: Vec<Sticky>,
}

impl Drawer {
    pub fn new(workload: &Workload, sizes: Arc<[u32]>, keys: Option<Arc<Keys>>, seed: u64) -> Drawer {
        let partitions = workload.topic.partitions as u32;
        let mut random = Random::new(seed);
        let sticky =
            |random: &mut Random| Sticky { partition: random.below(partitions.into()) as u32, left: 0 };
        let batch_size = workload.producer.batch_size.0 as i64;
        let most = workload.producer.batch_records as i64;
        // A batch that is limited by its records is full earlier.
        let usual = sizes.iter().map(|s| i64::from(*s)).sum::<i64>() / sizes.len() as i64;
        let batch_size = if most > 0 { batch_size.min(most * usual.max(1)) } else { batch_size };
        let sticky = (0..workload.producer.count).map(|_| sticky(&mut random)).collect();
        Drawer { random, sizes, keys, partitions, batch_size, sticky }
    }

    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    pub fn size(&mut self) -> u32 {
        self.sizes[self.random.below(self.sizes.len() as u64) as usize]
    }

    /// The next record of a producer, and its partition.
    pub fn next(&mut self, producer: usize, intended: u64) -> (u32, Draft) {
        let size = self.size();
        if let Some(keys) = &self.keys {
            let key = keys.draw(&mut self.random);
            return (keys.partition(key), Draft { intended, key, size });
        }
        let sticky = &mut self.sticky[producer];
        if sticky.left <= 0 {
            sticky.left = self.batch_size;
            sticky.partition = (sticky.partition + 1) % self.partitions;
        }
        sticky.left -= i64::from(size);
        (sticky.partition, Draft { intended, key: NO_KEY, size })
    }

    /// The next record for a partition that is given: its key is any.
    pub fn any(&mut self, intended: u64) -> Draft {
        let key = self.keys.as_ref().map_or(NO_KEY, |keys| keys.draw(&mut self.random));
        Draft { intended, key, size: self.size() }
    }

    pub fn keys(&self) -> Option<&Keys> {
        self.keys.as_deref()
    }
}

/// A sample of the sizes that a workload asks for.
pub fn sizes(spec: &Sizes, seed: u64) -> Arc<[u32]> {
    let mut random = Random::new(seed);
    let weighted = match spec {
        Sizes::Weighted(pairs) => Some(Weighted::new(&pairs.iter().map(|(_, w)| *w).collect::<Vec<_>>())),
        _ => None,
    };
    let one = |random: &mut Random| match spec {
        Sizes::Fixed(size) => size.0,
        Sizes::Uniform([low, high]) => low.0 + random.below(high.0 - low.0 + 1),
        Sizes::Lognormal { median, sigma, max } => {
            ((median.0 as f64 * (sigma * random.normal()).exp()) as u64).clamp(1, max.0)
        }
        Sizes::Weighted(pairs) => pairs[weighted.as_ref().map_or(0, |w| w.draw(random)) as usize].0.0,
    };
    let count = if matches!(spec, Sizes::Fixed(_)) { 1 } else { SIZES };
    (0..count).map(|_| one(&mut random) as u32).collect()
}
