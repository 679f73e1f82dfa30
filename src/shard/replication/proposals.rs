//! ISRs that leaders of this shard would have, on their way to the controller: gathered for a moment, and answered each.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::ground::{Ground, Later};
use crate::controller::{AlterPartitions, IsrChange, IsrRefusal, PartitionState};
use crate::model::PartitionId;
use crate::partition::leader::{Proposal, Verdict};
use crate::rt::{self, Notify};

/// How long to gather, and how many go at once.
const GATHER: Duration = Duration::from_millis(2);
const MOST: usize = 1000;
/// Before what was not answered is said again.
const REST: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// One answer for each change; `None`: there was none, and what became of them is not known.
pub type Answers = Option<Vec<Result<PartitionState, IsrRefusal>>>;

/// Asks the controller.
pub type Propose = Rc<dyn Fn(AlterPartitions) -> Later<Answers>>;

#[derive(Default)]
pub struct Proposals {
    /// The newest of each partition, which is the only one that its leader waits for.
    waiting: RefCell<BTreeMap<PartitionId, Proposal>>,
    wake: Notify,
    over: Cell<bool>,
}

impl Proposals {
    pub fn push(&self, id: PartitionId, proposal: Proposal) {
        self.waiting.borrow_mut().insert(id, proposal);
        self.wake.notify_all();
    }

    pub fn end(&self) {
        self.over.set(true);
        self.wake.notify_all();
    }

    fn take(&self) -> Vec<(PartitionId, Proposal)> {
        let mut waiting = self.waiting.borrow_mut();
        std::iter::from_fn(|| waiting.pop_first()).take(MOST).collect()
    }

    /// R6. `applied`: the newest metadata that is applied here.
    pub async fn run(self: Rc<Self>, ground: Rc<dyn Ground>, applied: impl Fn() -> u64, propose: Propose) {
        let mut rest = *REST.start();
        while !self.over.get() && !ground.is_stopping() {
            let woken = self.wake.listen();
            if self.waiting.borrow().is_empty() {
                woken.await;
                continue;
            }
            rt::sleep(GATHER).await;
            let proposals = self.take();
            let me = ground.me();
            let changes = proposals.iter().map(|(id, proposal)| change(*id, proposal)).collect();
            let alter = AlterPartitions { broker: me.id, epoch: me.epoch, applied: applied(), changes };
            let answers = propose(alter).await.unwrap_or_default();
            let mut answers = answers.into_iter();
            let mut again = Vec::new();
            for (id, proposal) in proposals {
                let verdict = answers.next().map_or(Verdict::Unknown, |answer| verdict(answer, &proposal));
                let Some(replica) = ground.replica(id) else { continue };
                let left = replica.on_verdict(proposal.number, proposal.leader_epoch, verdict, ground.now());
                again.extend(left.map(|proposal| (id, proposal)));
            }
            if again.is_empty() {
                rest = *REST.start();
                continue;
            }
            rt::sleep(rest).await;
            rest = (rest * 2).min(*REST.end());
            // What was proposed since is newer.
            let mut waiting = self.waiting.borrow_mut();
            for (id, proposal) in again {
                waiting.entry(id).or_insert(proposal);
            }
        }
    }
}

fn change(id: PartitionId, proposal: &Proposal) -> IsrChange {
    IsrChange {
        id,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        isr: proposal.isr.clone(),
        recovering: false,
    }
}

fn verdict(answer: Result<PartitionState, IsrRefusal>, proposal: &Proposal) -> Verdict {
    match answer {
        Ok(state) if state.leader_epoch == proposal.leader_epoch => {
            Verdict::Committed(state.partition_epoch, state.isr)
        }
        Ok(_) => Verdict::Outdated,
        Err(IsrRefusal::IneligibleReplica | IsrRefusal::NotAttempted) => Verdict::Refused,
        // Another controller may know.
        Err(IsrRefusal::NotController) => Verdict::Unknown,
        Err(
            IsrRefusal::UnknownTopicId
            | IsrRefusal::UnknownPartition
            | IsrRefusal::FencedLeaderEpoch
            | IsrRefusal::InvalidUpdateVersion
            | IsrRefusal::InvalidRequest
            | IsrRefusal::NewLeaderElected,
        ) => Verdict::Outdated,
    }
}
