//! Looking into batches before they are appended: at once where that is little work, on the codec thread where it would
//! hold up the shard.
//!
//! ```text
//! entries ─ check ─┬─ all light ────────────────────────────────────────────── append
//!                  └─ any heavy, or an earlier one of its partition is ─ line ─ (codec thread) ─ first in line ─ append
//! ```
//! Whoever comes for a partition behind one that is being looked into waits behind it: order is as it was sent.

use std::rc::Rc;

use super::Shard;
use super::message::{ProduceEntry, ProduceError};
use crate::model::{PartitionId, WallMs};
use crate::partition::{AppendError, Guard};
use crate::rt;
use crate::wire::ProducedBatch;
use crate::wire::validate::{Effort, Refusal, Rules, Sound, Unsound};

/// What a codec may look back on, where budgets are smaller: what zstd's levels up to 19 ask for.
const LEAST_WINDOW: usize = 8 << 20;

/// An entry that was looked into.
pub(super) struct Inspected {
    pub partition: PartitionId,
    pub guard: Option<Guard>,
    pub batch: Result<Sound, ProduceError>,
}

pub(super) enum Inspection {
    Done(Inspected),
    Heavy { partition: PartitionId, guard: Option<Guard>, batch: ProducedBatch, rules: Rules },
}

impl Inspection {
    pub(super) fn partition(&self) -> PartitionId {
        match self {
            Self::Done(inspected) => inspected.partition,
            Self::Heavy { partition, .. } => *partition,
        }
    }

    pub(super) fn is_heavy(&self) -> bool {
        matches!(self, Self::Heavy { .. })
    }

    /// Bytes of the batch as far as is known.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Done(inspected) => inspected.size(),
            Self::Heavy { batch, .. } => batch.bytes.len(),
        }
    }
}

impl Inspected {
    pub(super) fn size(&self) -> usize {
        self.batch.as_ref().map_or(0, |sound| sound.header().size())
    }
}

fn refused(why: Refusal) -> ProduceError {
    AppendError::Refused(why).into()
}

impl Shard {
    /// Looks into a batch as far as that is little work.
    pub(super) fn inspect(&self, entry: ProduceEntry, now: WallMs) -> Inspection {
        let ProduceEntry { partition, batch, guard } = entry;
        let done = |batch| Inspection::Done(Inspected { partition, guard, batch });
        let Some(replica) = self.replica(partition) else { return done(Err(ProduceError::UnknownPartition)) };
        let rules = replica.rules(now);
        match self.intake.check_lightly(batch, &rules) {
            Ok(sound) => done(Ok(sound)),
            Err(Unsound::Refused(why)) => done(Err(refused(why))),
            Err(Unsound::Heavy(batch)) => Inspection::Heavy { partition, guard, batch, rules },
        }
    }

    /// Looks into the rest.
    pub(super) async fn inspect_fully(self: &Rc<Self>, inspections: Vec<Inspection>) -> Vec<Inspected> {
        let mut inspected = Vec::with_capacity(inspections.len());
        for inspection in inspections {
            inspected.push(match inspection {
                Inspection::Done(inspected) => inspected,
                Inspection::Heavy { partition, guard, batch, rules } => {
                    let batch = self.inspect_heavy(batch, rules).await.map_err(refused);
                    Inspected { partition, guard, batch }
                }
            });
        }
        inspected
    }

    /// One at a time, so that the memory of one codec is what a shard needs. Who no longer wants to know leaves at
    /// most what is under way behind, which ends by itself.
    async fn inspect_heavy(self: &Rc<Self>, batch: ProducedBatch, rules: Rules) -> Result<Sound, Refusal> {
        let place = self.intake.codec.enter_one();
        place.front().await;
        let budget = self.share(self.settings.request_memory_bytes);
        let most = (budget / 2).max(LEAST_WINDOW);
        let needed = Sound::memory(&batch, &rules, most);
        let memory = self.memory.work.take(needed, needed).await;
        let checked = rt::spawn(async move {
            let effort = Effort::Full { memory: most };
            let checked = rt::compute(move || Sound::check(batch, &rules, effort, &mut Vec::new())).await;
            drop((place, memory));
            checked
        });
        checked.await.map_err(|unsound| match unsound {
            Unsound::Refused(why) => why,
            Unsound::Heavy(_) => unreachable!("nothing is too heavy for full effort"),
        })
    }
}
