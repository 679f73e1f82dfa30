//! One partition's change: what brokers, leaders and administrators ask for, made into a record that keeps the rules. All
//! changes of partitions go through here, in one order (as Kafka's `PartitionChangeBuilder`): a move that is done ends, who
//! leaves the ISR stays eligible, a leader is elected, epochs rise.
//!
//! Eligible leaders (KIP-966): nothing is committed while fewer than `min.insync.replicas` are in sync, so that who leaves an
//! ISR below that has all that ever was committed, until the ISR is large enough again.

use crate::metadata::Partition;
use crate::metadata::records::Record;
use crate::model::{BrokerId, PartitionId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Election {
    /// The leader stays while it can; else any that is in sync.
    Online,
    /// The preferred replica, if it is in sync; else as `Online`.
    Preferred,
    /// As `Online`, and with nobody eligible any that lives.
    Unclean,
}

pub struct Change<'a> {
    pub id: PartitionId,
    partition: &'a Partition,
    pub election: Election,
    /// What is to be.
    pub isr: Vec<BrokerId>,
    pub replicas: Vec<BrokerId>,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
    pub recovering: bool,
    /// Has not what it had when it left.
    pub lost: Option<BrokerId>,
    /// Has nothing at all: not even worth an election that loses something.
    pub empty: bool,
    /// Has come in another life: where it leads on, it does so in another epoch.
    pub renewed: Option<BrokerId>,
    elr: Vec<BrokerId>,
    last_known: Option<BrokerId>,
}

/// Who leads from now on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Elected {
    leader: Option<BrokerId>,
    unclean: bool,
}

type May<'a> = &'a dyn Fn(BrokerId) -> bool;

impl<'a> Change<'a> {
    pub fn of(id: PartitionId, partition: &'a Partition) -> Self {
        Self {
            id,
            partition,
            election: Election::Online,
            isr: partition.isr().collect(),
            replicas: partition.replicas().to_vec(),
            adding: partition.adding().collect(),
            removing: partition.removing().collect(),
            recovering: partition.recovering,
            lost: None,
            empty: false,
            renewed: None,
            elr: partition.elr().collect(),
            last_known: partition.last_known(),
        }
    }

    /// What it is a change of.
    pub fn partition(&self) -> &'a Partition {
        self.partition
    }

    /// Takes a broker out of the ISR.
    #[must_use]
    pub fn without(mut self, id: BrokerId) -> Self {
        self.isr.retain(|member| *member != id);
        self
    }

    /// `leads`: who may be elected. `stays`: who may go on leading where nobody may be elected.
    pub fn record(
        mut self,
        min_isr: &dyn Fn(usize) -> usize,
        leads: May<'_>,
        stays: May<'_>,
    ) -> Option<Record> {
        self.end_move();
        let min_isr = min_isr(self.replicas.len());
        self.keep_eligible(min_isr);
        let elected = self.elect(leads, stays);
        let was = self.partition.leader;
        if elected.unclean {
            self.isr = elected.leader.into_iter().collect();
            self.elr.clear();
            self.recovering = true;
        } else if let Some(leader) = elected.leader.filter(|leader| self.elr.contains(leader)) {
            self.isr = vec![leader];
            self.elr.retain(|id| *id != leader && min_isr > 1);
        }
        // Who no longer holds the partition must not be taken for one of its replicas any more.
        let shrinks = self.partition.replicas().iter().any(|id| !self.replicas.contains(id));
        let bump = was.is_some() && (shrinks || self.renewed == was);
        let leader = (elected.leader != was || bump).then_some(elected.leader);
        self.last_known = match elected.leader {
            Some(_) => None,
            None => self.last_known.or(was),
        };
        let forgotten = |id: &BrokerId| self.empty && self.lost == Some(*id) || !self.replicas.contains(id);
        self.last_known = self.last_known.filter(|id| !forgotten(id));
        self.difference(leader)
    }

    /// Ends a move once all that it adds are in sync. One that takes away more than it adds waits for all that remain: the
    /// ISR would shrink for nothing.
    fn end_move(&mut self) {
        if self.adding.is_empty() && self.removing.is_empty() {
            return;
        }
        let rest = |ids: &[BrokerId]| -> Vec<BrokerId> {
            ids.iter().copied().filter(|id| !self.removing.contains(id)).collect()
        };
        let (isr, replicas) = (rest(&self.isr), rest(&self.replicas));
        let all_in = |ids: &[BrokerId]| ids.iter().all(|id| isr.contains(id));
        let shrinks = self.adding.len() < self.removing.len();
        if isr.is_empty() || replicas.is_empty() || !all_in(&self.adding) || shrinks && !all_in(&replicas) {
            return;
        }
        (self.isr, self.replicas) = (isr, replicas);
        self.adding.clear();
        self.removing.clear();
    }

    fn keep_eligible(&mut self, min_isr: usize) {
        if self.isr.len() >= min_isr {
            self.elr.clear();
            return;
        }
        let left = self.partition.isr().filter(|id| !self.elr.contains(id)).collect::<Vec<_>>();
        self.elr.extend(left);
        self.elr.retain(|id| !self.isr.contains(id) && self.lost != Some(*id) && self.replicas.contains(id));
    }

    fn is_eligible(&self, id: BrokerId) -> bool {
        self.isr.contains(&id) || self.isr.is_empty() && self.elr.contains(&id)
    }

    fn elect(&self, leads: May<'_>, stays: May<'_>) -> Elected {
        let clean = |leader| Elected { leader: Some(leader), unclean: false };
        let able = |id: &BrokerId| self.is_eligible(*id) && leads(*id);
        let preferred = self.replicas.first().filter(|_| self.election == Election::Preferred);
        let current = self.partition.leader;
        let found = preferred.copied().filter(able).or(current.filter(able));
        if let Some(leader) = found.or_else(|| self.replicas.iter().copied().find(able)) {
            return clean(leader);
        }
        if let Some(leader) = current.filter(|id| self.is_eligible(*id) && stays(*id)) {
            return clean(leader);
        }
        let nobody = self.isr.is_empty() && self.elr.is_empty();
        let last = self
            .partition
            .last_known()
            .filter(|id| nobody && self.replicas.contains(id) && leads(*id) && self.lost != Some(*id));
        let any = || {
            let unclean = self.election == Election::Unclean;
            self.replicas.iter().copied().find(|id| unclean && leads(*id))
        };
        match last.or_else(any) {
            Some(leader) => Elected { leader: Some(leader), unclean: true },
            None => Elected { leader: None, unclean: false },
        }
    }

    /// What of all this is not as it was.
    fn difference(self, leader: Option<Option<BrokerId>>) -> Option<Record> {
        let was = self.partition;
        let set = |now: &[BrokerId], then: Vec<BrokerId>| {
            let same = now.len() == then.len() && now.iter().all(|id| then.contains(id));
            (!same).then(|| now.to_vec())
        };
        let isr = set(&self.isr, was.isr().collect());
        let elr = set(&self.elr, was.elr().collect());
        let adding = set(&self.adding, was.adding().collect());
        let removing = set(&self.removing, was.removing().collect());
        let replicas = (self.replicas != was.replicas()).then_some(self.replicas);
        let last_known = (self.last_known != was.last_known()).then_some(self.last_known);
        let recovering = (self.recovering != was.recovering).then_some(self.recovering);
        let changed = leader.is_some()
            || [&isr, &elr, &adding, &removing, &replicas].iter().any(|set| set.is_some())
            || last_known.is_some()
            || recovering.is_some();
        let PartitionId { topic, index } = self.id;
        changed.then_some(Record::PartitionChanged {
            topic,
            index,
            leader,
            replicas,
            isr,
            elr,
            adding,
            removing,
            last_known,
            recovering,
        })
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
