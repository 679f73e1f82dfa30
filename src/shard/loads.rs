//! How much the partitions are that this shard leads: those of which that changed since it was told.

use std::cell::RefCell;

use super::Shard;
use crate::controller::loads::PartitionLoad;
use crate::model::{MonoMs, PartitionId};
use crate::partition::Role;

/// Partitions told at once.
pub const MOST: usize = 2_000;
/// What makes a size or a rate another one: so many bytes, and a part of it.
const BYTES: u64 = 1 << 20;
const RATE: u64 = 64 << 10;
const PART: u64 = 20;

/// What was told of what is led, by partition.
#[derive(Default)]
pub(super) struct Told {
    of: RefCell<Vec<Known>>,
}

#[derive(Clone, Copy)]
struct Known {
    id: PartitionId,
    /// Its size, and when that was looked at.
    bytes: u64,
    at: MonoMs,
    rate: u64,
    told: Option<(u64, u64)>,
}

impl Known {
    fn new(id: PartitionId, bytes: u64, at: MonoMs) -> Self {
        Self { id, bytes, at, rate: 0, told: None }
    }

    /// What it grew by since it was looked at last. One that shrank lost what is old: that tells nothing of what is new.
    fn look(&mut self, bytes: u64, now: MonoMs) {
        let ms = now.since(self.at) as u64;
        if ms > 0 && bytes >= self.bytes {
            let rate = u128::from(bytes - self.bytes) * 1000 / u128::from(ms);
            self.rate = (self.rate / 2).saturating_add(u64::try_from(rate / 2).unwrap_or(u64::MAX / 2));
        }
        (self.bytes, self.at) = (bytes, now);
    }

    fn is_news(&self) -> bool {
        let differs = |now: u64, then: u64, least: u64| now.abs_diff(then) > least.max(then / PART);
        self.told
            .is_none_or(|(bytes, rate)| differs(self.bytes, bytes, BYTES) || differs(self.rate, rate, RATE))
    }
}

impl Shard {
    /// What is new, and whether that is all of it. `again`: nothing was told yet.
    pub(super) fn loads(&self, again: bool) -> (Vec<PartitionLoad>, bool) {
        let now = self.now();
        let led = self.partitions.select(|replica| replica.role() == Role::Leader);
        let sizes = led.iter().map(|replica| (replica.id, replica.size_bytes()));
        self.told.look(sizes, now, again)
    }
}

impl Told {
    /// `sizes` are of all that is led, by id.
    fn look(
        &self,
        sizes: impl Iterator<Item = (PartitionId, u64)>,
        now: MonoMs,
        again: bool,
    ) -> (Vec<PartitionLoad>, bool) {
        let mut before = self.of.take().into_iter().peekable();
        let (mut after, mut news, mut whole) = (Vec::new(), Vec::new(), true);
        for (id, bytes) in sizes {
            while before.next_if(|known| known.id < id).is_some() {}
            let known = before.next_if(|known| known.id == id);
            let mut known = known.unwrap_or_else(|| Known::new(id, bytes, now));
            known.look(bytes, now);
            if again {
                known.told = None;
            }
            if known.is_news() {
                match news.len() < MOST {
                    true => {
                        news.push(PartitionLoad { id, bytes, rate: known.rate });
                        known.told = Some((bytes, known.rate));
                    }
                    false => whole = false,
                }
            }
            after.push(known);
        }
        self.of.replace(after);
        (news, whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    fn id(index: i32) -> PartitionId {
        PartitionId { topic: TopicId([1; 16]), index }
    }

    fn look(told: &Told, sizes: &[(i32, u64)], now: i64, again: bool) -> Vec<(i32, u64, u64)> {
        let sizes = sizes.iter().map(|(index, bytes)| (id(*index), *bytes));
        let (news, whole) = told.look(sizes, MonoMs(now), again);
        assert!(whole);
        news.iter().map(|load| (load.id.index, load.bytes, load.rate)).collect()
    }

    #[test]
    fn only_what_changed_is_told_again() {
        let told = Told::default();
        let mb = 1 << 20;
        assert_eq!(look(&told, &[(0, 0), (1, 50 * mb)], 0, false), [(0, 0, 0), (1, 50 * mb, 0)]);
        assert_eq!(
            look(&told, &[(0, 1000), (1, 52 * mb)], 10_000_000, false),
            [],
            "a twentieth of it, and slowly"
        );
        assert_eq!(
            look(&told, &[(0, 2 * mb), (1, 52 * mb), (2, 5)], 20_000_000, false),
            [(0, 2 * mb, 104), (2, 5, 0)]
        );
        // Another controller has to hear it all.
        assert_eq!(look(&told, &[(1, 52 * mb), (2, 5)], 20_000_001, true).len(), 2);
        // Written fast.
        let news = look(&told, &[(1, 62 * mb), (2, 5)], 20_010_001, false);
        assert_eq!(news[0].0, 1);
        assert!(news[0].2 > mb / 3, "{news:?}");
        // What was deleted says nothing of how fast it grows.
        let then = look(&told, &[(1, mb), (2, 5)], 20_020_001, false);
        assert_eq!(then, [(1, mb, news[0].2)]);
    }

    #[test]
    fn much_is_told_in_parts() {
        let told = Told::default();
        let all = || (0..MOST as i32 + 5).map(|index| (id(index), 7));
        let (first, whole) = told.look(all(), MonoMs(0), true);
        assert!(first.len() == MOST && !whole);
        let (rest, whole) = told.look(all(), MonoMs(1), false);
        assert_eq!((rest.len(), whole, rest[0].id), (5, true, id(MOST as i32)));
    }
}
