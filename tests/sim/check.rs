//! What has to hold after everything that happens, and in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use weir::model::{BrokerId, LeaderEpoch, PartitionId};

use super::disk::Record;
use super::node::Node;
use super::replica::Machine;
use super::world::World;

/// What was seen so far.
#[derive(Default)]
pub struct History {
    /// What was below any replica's high watermark, ever, by offset.
    committed: BTreeMap<PartitionId, Vec<Option<Record>>>,
    acked: BTreeMap<PartitionId, BTreeMap<i64, Record>>,
    /// Who led in an epoch: a broker, in one of its processes.
    leaders: BTreeMap<(PartitionId, LeaderEpoch), (BrokerId, u64)>,
    gone: BTreeSet<PartitionId>,
    values: u64,
    pub answered: u64,
    pub elections: u64,
    pub stops: u64,
    pub disks_lost: u64,
}

impl History {
    pub fn value(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    pub fn acked(&mut self, id: PartitionId, offset: i64, record: Record) {
        self.acked.entry(id).or_default().insert(offset, record);
    }

    /// S5: one process leads a partition in an epoch.
    pub fn note_leader(&mut self, seed: u64, id: PartitionId, epoch: LeaderEpoch, who: (BrokerId, u64)) {
        let known = *self.leaders.entry((id, epoch)).or_insert(who);
        assert_eq!(known, who, "seed {seed}: {id} has two leaders in epoch {epoch}");
    }

    /// Whether a leader waits for the controller to take an ISR.
    pub fn is_proposing(&self, nodes: &[Node]) -> bool {
        nodes.iter().any(|node| {
            node.parts.values().any(|part| match &part.machine {
                Machine::Leader(leader) => leader.is_proposing(),
                Machine::Follower(_) => false,
            })
        })
    }
}

impl World {
    /// Commits, when they happen: S4, and what the metadata may say at all.
    pub fn note_commits(&mut self, which: Range<usize>) {
        for at in which {
            let commit = self.quorum.commits[at].clone();
            if self.trace {
                println!("{} {} commit {commit:?}", self.seed, self.now);
            }
            let (mut next, delta) = self.image.with(&commit.records).unwrap_or_else(|error| {
                panic!("seed {}: a commit contradicts the metadata: {error}: {:?}", self.seed, commit.records)
            });
            next.version = commit.offset;
            for id in &delta.partitions {
                let Some(new) = next.partition(*id) else { continue };
                let isr: Vec<BrokerId> = new.isr().collect();
                let leads = new.leader.is_none_or(|leader| isr.contains(&leader));
                assert!(leads, "seed {}: {id} is led from outside of its ISR: {new:?}", self.seed);
                let apart = new.elr().all(|member| !isr.contains(&member));
                assert!(apart, "seed {}: {id} has replicas in both ISR and ELR: {new:?}", self.seed);
                assert!(!isr.is_empty() || new.leader.is_none(), "seed {}: {new:?}", self.seed);
                if let Some(old) = self.image.partition(*id) {
                    let rises =
                        new.leader_epoch >= old.leader_epoch && new.partition_epoch > old.partition_epoch;
                    assert!(rises, "seed {}: {id} goes from {old:?} to {new:?}", self.seed);
                    let elected = new.leader == old.leader || new.leader_epoch > old.leader_epoch;
                    assert!(elected, "seed {}: {id} goes from {old:?} to {new:?}", self.seed);
                    // Who may lead has what is committed, so it comes from those who had.
                    if let Some(leader) = new.leader.filter(|leader| old.leader != Some(*leader)) {
                        // A move that ends with the ISR that it needs hands over at once.
                        let moves = old.adding().chain(old.removing()).next().is_some();
                        let able = moves || old.isr().chain(old.elr()).any(|member| member == leader);
                        assert!(able, "seed {}: {id} is led by {leader} after {old:?}", self.seed);
                    }
                }
            }
            for broker in &delta.brokers {
                let epoch = |image: &weir::metadata::Image| image.broker(*broker).map(|b| b.epoch);
                assert!(epoch(&next).is_none() || epoch(&next) >= epoch(&self.image), "seed {}", self.seed);
            }
            for topic in delta.deleted.values() {
                self.history.gone.extend(topic.partition_ids());
            }
            self.image = next.into();
        }
    }

    /// After each event.
    pub fn check(&mut self) {
        let seed = self.seed;
        for node in self.nodes.iter_mut().filter(|node| node.up) {
            for (id, part) in &mut node.parts {
                let (offsets, log) = (part.offsets, &node.disks[id].log);
                assert_eq!(offsets.end(), log.end(), "seed {seed}: {id}");
                // Nothing that anybody could have read ever changes, on whichever replica.
                let committed = self.history.committed.entry(*id).or_default();
                let from = part.checked.max(offsets.log_start().0).max(log.base);
                for offset in from..offsets.high_watermark().0 {
                    let (here, at) = (log.at(offset).expect("what is committed is there"), offset as usize);
                    committed.resize(committed.len().max(at + 1), None);
                    let known = *committed[at].get_or_insert(here);
                    assert_eq!(
                        known, here,
                        "seed {seed}: broker {} has another record of {id} at {offset}",
                        node.id
                    );
                }
                part.checked = part.checked.max(offsets.high_watermark().0);
            }
        }
        // The rest costs more, and what it sees does not go away by itself.
        if self.events.is_multiple_of(64) {
            self.check_candidates();
        }
    }

    /// S6, S7: who may be elected has what is committed, and leaders wait for all who may be.
    fn check_candidates(&self) {
        let seed = self.seed;
        for id in self.partitions() {
            let partition = self.image.partition(id).expect("it is listed");
            let committed = self.history.committed.get(&id).map_or(&[][..], |all| &all[..]);
            let isr: Vec<BrokerId> = partition.isr().collect();
            for member in isr.iter().copied().chain(partition.elr()) {
                if !self.has_its_disk(member) {
                    continue;
                }
                let node = &self.nodes[(member - 1) as usize];
                let Some(disk) = node.disks.get(&id) else {
                    let nothing = committed.iter().all(Option::is_none);
                    assert!(nothing, "seed {seed}: broker {member} may lead {id} and has nothing of it");
                    continue;
                };
                let start = node.parts.get(&id).map_or(disk.stored.1, |part| part.offsets.log_start());
                let from = start.0.max(disk.durable.base) as usize;
                for (offset, record) in committed.iter().enumerate().skip(from) {
                    let has = record.is_none() || disk.durable.at(offset as i64) == *record;
                    assert!(
                        has,
                        "seed {seed}: broker {member} may lead {id} without {offset}: {partition:?}"
                    );
                }
            }
            if let Some(leader) = partition.leader {
                let node = &self.nodes[(leader - 1) as usize];
                let part = node.parts.get(&id).filter(|_| node.up);
                if let Some(Machine::Leader(machine)) = part.map(|part| &part.machine)
                    && machine.epoch() == partition.leader_epoch
                {
                    let counts = isr.iter().all(|member| machine.is_in_maximal_isr(*member));
                    assert!(counts, "seed {seed}: the leader of {id} does not wait for all of {partition:?}");
                }
            }
        }
    }

    /// I1: what was acknowledged is committed, as it was.
    pub fn check_acked(&self) -> usize {
        let mut all = 0;
        for (id, acked) in self.history.acked.iter().filter(|(id, _)| !self.history.gone.contains(id)) {
            let committed = &self.history.committed[id];
            for (offset, record) in acked {
                let kept = committed.get(*offset as usize).copied().flatten() == Some(*record);
                assert!(kept, "seed {}: {record:?} of {id} was acknowledged at {offset}", self.seed);
            }
            all += acked.len();
        }
        all
    }

    /// I10: with everything mended, everybody gets to the same end and stays there.
    pub fn converge(&mut self, most_ms: i64) {
        let (until, events) = (self.now + most_ms, self.events + 400_000);
        let mut since = None;
        while self.now < until && self.events < events {
            self.run_until(self.now + 500, events);
            let epochs = self.epochs();
            match (self.why_not_done(), &since) {
                (Some(_), _) => since = None,
                (None, Some((at, before))) if *before == epochs => {
                    if self.now - at >= 10_000 {
                        return self.check_candidates();
                    }
                }
                (None, _) => since = Some((self.now, epochs)),
            }
        }
        let why = self.why_not_done().unwrap_or_else(|| "elections go on".into());
        panic!("seed {}: no end in sight: {why}", self.seed);
    }

    fn epochs(&self) -> Vec<LeaderEpoch> {
        let epochs = self.partitions().into_iter();
        epochs.filter_map(|id| Some(self.image.partition(id)?.leader_epoch)).collect()
    }

    fn why_not_done(&self) -> Option<String> {
        let leads = self.nodes.iter().filter(|node| node.up && node.leads.is_some()).count();
        if leads != 1 {
            return Some(format!("{leads} brokers take themselves for the controller"));
        }
        for node in &self.nodes {
            match self.image.broker(node.id) {
                Some(broker) if broker.fenced => return Some(format!("broker {} is fenced", node.id)),
                None => return Some(format!("broker {} is not registered", node.id)),
                _ if node.image.version != self.image.version => {
                    return Some(format!("broker {} is behind", node.id));
                }
                _ => {}
            }
        }
        self.partitions().into_iter().find_map(|id| self.why_not_even(id))
    }

    fn why_not_even(&self, id: PartitionId) -> Option<String> {
        let partition = self.image.partition(id)?;
        let leader = match partition.leader {
            Some(leader) => leader,
            None => return Some(format!("{id} has no leader: {partition:?}")),
        };
        if partition.isr().count() < partition.replicas().len() {
            return Some(format!("{id} is not whole: {partition:?}"));
        }
        let end = self.nodes[(leader - 1) as usize].parts.get(&id)?.offsets.end();
        for replica in partition.replicas() {
            let Some(part) = self.nodes[(replica - 1) as usize].parts.get(&id) else {
                return Some(format!("broker {replica} does not hold {id}"));
            };
            let offsets = part.offsets;
            if (offsets.end(), offsets.high_watermark()) != (end, end) {
                return Some(format!("broker {replica} has {offsets:?} of {id}, the leader {end}"));
            }
        }
        None
    }
}
