//! Who will hold what once all that is under way is done, and how good that is.

use std::collections::BTreeMap;

use super::score::Off;
use super::world::{Limits, Move, World};
use crate::metadata::{Broker, Partition};
use crate::model::{BrokerId, PartitionId};

/// Brokers and partitions by their places in [`State`].
pub type At = usize;

/// One partition's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub part: At,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A replica goes from one broker to another.
    Copy { from: At, to: At },
    /// The replica at a place among them is preferred to lead.
    Prefer { from: At, to: At, rank: usize },
    /// Takes that back.
    Demote { from: At, to: At, rank: usize },
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub takers: i128,
    pub size: i128,
    pub replicas: i128,
    pub bytes: i128,
    pub leaders: i128,
    pub rate: i128,
}

#[derive(Default)]
pub struct Holder {
    pub id: BrokerId,
    pub rack: usize,
    /// New replicas may go there.
    pub takes: bool,
    pub dead: bool,
    /// Of its disk, in parts of the smallest one.
    pub size: i128,
    /// What may be added to its disk.
    pub room: i128,
    /// Copies under way from it or to it.
    pub copies: usize,
    pub replicas: i128,
    pub bytes: i128,
    pub leaders: i128,
    pub rate: i128,
}

pub struct Part {
    pub id: PartitionId,
    pub topic: usize,
    pub bytes: i128,
    pub rate: i128,
    pub replicas: Vec<At>,
    /// Of `replicas`: in sync now.
    pub synced: Vec<At>,
    /// It is not moved by anybody, and its load is known.
    pub free: bool,
    /// All replicas are in sync.
    pub whole: bool,
}

pub struct State {
    pub brokers: Vec<Holder>,
    pub parts: Vec<Part>,
    /// By broker: what it will hold.
    pub held: Vec<Vec<At>>,
    /// By topic and broker: replicas.
    pub of_topic: Vec<BTreeMap<At, i128>>,
    pub limits: Limits,
    /// Racks of brokers that take replicas.
    pub racks: usize,
    /// Of all there is, and of all disks that take it.
    pub all: Totals,
    pub copies: usize,
    /// Somebody is gone whose replicas are not given up yet: nothing is balanced meanwhile.
    pub waits: bool,
    /// What is off by more than may be.
    pub off: Off,
    pub steps: usize,
    seed: u64,
}

/// Sizes of disks are told apart by so much of the smallest.
const SIZES: u64 = 8;

impl State {
    /// `None`: not everybody has told what it holds, or there is nobody to move anything to.
    pub fn of(world: &World<'_>, limits: &Limits, seed: u64) -> Option<Self> {
        let mut state = Self {
            brokers: Vec::new(),
            parts: Vec::new(),
            held: Vec::new(),
            of_topic: Vec::new(),
            limits: *limits,
            racks: 0,
            all: Totals::default(),
            copies: 0,
            waits: false,
            off: Off::default(),
            steps: 0,
            seed,
        };
        state.take_brokers(world)?;
        for topic in world.image.topics() {
            state.of_topic.push(BTreeMap::new());
            let paused = (world.paused)(topic.id);
            for (id, partition) in topic.partition_ids().zip(topic.partitions.iter()) {
                state.take_part(world, id, partition, paused);
            }
        }
        for broker in &state.brokers {
            let all = &mut state.all;
            (all.replicas, all.bytes) = (all.replicas + broker.replicas, all.bytes + broker.bytes);
            (all.leaders, all.rate) = (all.leaders + broker.leaders, all.rate + broker.rate);
            if broker.takes {
                (all.takers, all.size) = (all.takers + 1, all.size + broker.size);
            }
        }
        state.off = state.is_off(world.under_way);
        Some(state)
    }

    fn take_brokers(&mut self, world: &World<'_>) -> Option<()> {
        let mut racks: Vec<Option<&str>> = Vec::new();
        let mut disks = Vec::new();
        for broker in world.image.brokers() {
            let rack = broker.rack.as_deref();
            let at = racks.iter().position(|known| *known == rack).unwrap_or_else(|| {
                racks.push(rack);
                racks.len() - 1
            });
            let takes = takes(broker);
            let disk = match takes {
                true => world.loads.disk(broker.id, broker.epoch)?,
                false => Default::default(),
            };
            let dead = world.dead.contains(&broker.id);
            self.waits |= !takes && !dead && !broker.draining;
            disks.push(disk);
            self.add_broker(broker.id, at, takes, dead);
        }
        let smallest = disks.iter().map(|disk| disk.total).filter(|total| *total > 0).min()?;
        let takers = self.brokers.iter().filter(|broker| broker.takes);
        let used: std::collections::BTreeSet<usize> = takers.map(|broker| broker.rack).collect();
        self.racks = used.len();
        for (broker, disk) in self.brokers.iter_mut().zip(&disks).filter(|(broker, _)| broker.takes) {
            let parts = u128::from(disk.total) * u128::from(SIZES) / u128::from(smallest);
            broker.size = parts.clamp(1, 1 << 16) as i128;
            let used = disk.total.saturating_sub(disk.free);
            let most = u128::from(disk.total) * u128::from(self.limits.full_percent) / 100;
            broker.room = most as i128 - i128::from(used);
        }
        Some(())
    }

    fn add_broker(&mut self, id: BrokerId, rack: usize, takes: bool, dead: bool) -> At {
        self.brokers.push(Holder { id, rack, takes, dead, size: 1, ..Holder::default() });
        self.held.push(Vec::new());
        self.brokers.len() - 1
    }

    fn place(&mut self, id: BrokerId) -> At {
        let known = self.brokers.iter().position(|broker| broker.id == id);
        // Whoever is not registered any more is as good as dead.
        known.unwrap_or_else(|| self.add_broker(id, usize::MAX, false, true))
    }

    fn take_part(&mut self, world: &World<'_>, id: PartitionId, partition: &Partition, paused: bool) {
        let load = world.loads.of(id);
        let leaves = |id: &BrokerId| partition.removing().any(|removed| removed == *id);
        let stay: Vec<BrokerId> = partition.replicas().iter().copied().filter(|id| !leaves(id)).collect();
        let replicas: Vec<At> = stay.iter().map(|id| self.place(*id)).collect();
        let synced: Vec<At> = partition.isr().map(|id| self.place(id)).collect();
        let part = Part {
            id,
            topic: self.of_topic.len() - 1,
            bytes: load.map_or(0, |load| i128::from(load.bytes)),
            rate: load.map_or(0, |load| i128::from(load.rate)),
            whole: replicas.iter().all(|at| synced.contains(at)),
            free: load.is_some() && !partition.is_moving() && !paused && partition.leader.is_some(),
            replicas,
            synced,
        };
        let adding: Vec<At> = partition.adding().map(|id| self.place(id)).collect();
        let removing: Vec<At> = partition.removing().map(|id| self.place(id)).collect();
        self.copies += adding.len().max(usize::from(partition.is_moving()));
        adding.iter().chain(&removing).for_each(|at| self.brokers[*at].copies += 1);
        // How much of it is on the disk already is not known.
        adding.iter().for_each(|at| self.brokers[*at].room -= part.bytes);
        let at = self.parts.len();
        for (rank, broker) in part.replicas.iter().enumerate() {
            self.held[*broker].push(at);
            *self.of_topic[part.topic].entry(*broker).or_default() += 1;
            let holder = &mut self.brokers[*broker];
            (holder.replicas, holder.bytes) = (holder.replicas + 1, holder.bytes + part.bytes);
            if rank == 0 {
                (holder.leaders, holder.rate) = (holder.leaders + 1, holder.rate + part.rate);
            }
        }
        self.parts.push(part);
    }

    /// Takes a step into the plan.
    pub fn take(&mut self, step: &Step) {
        self.change(step);
        self.parts[step.part].free = false;
        self.steps += 1;
        if let What::Copy { from, to } = step.what {
            self.copies += 1;
            self.brokers[from].copies += 1;
            self.brokers[to].copies += 1;
            self.held[from].retain(|at| *at != step.part);
            self.held[to].push(step.part);
        }
    }

    /// Carries a step out; its [`Step::back`] takes it back.
    pub fn change(&mut self, step: &Step) {
        let Part { bytes, rate, topic, .. } = self.parts[step.part];
        let replicas = &mut self.parts[step.part].replicas;
        let (from, to, leads) = match step.what {
            What::Copy { from, to } => {
                let rank = replicas.iter().position(|at| *at == from).expect("it has what it gives");
                replicas[rank] = to;
                (from, to, rank == 0)
            }
            What::Prefer { from, to, rank } => {
                replicas[..=rank].rotate_right(1);
                (from, to, true)
            }
            What::Demote { from, to, rank } => {
                replicas[..=rank].rotate_left(1);
                (from, to, true)
            }
        };
        for (at, sign) in [(from, -1), (to, 1)] {
            let holder = &mut self.brokers[at];
            if matches!(step.what, What::Copy { .. }) {
                holder.replicas += sign;
                holder.bytes += sign * bytes;
                holder.room -= sign * bytes;
                *self.of_topic[topic].entry(at).or_default() += sign;
            }
            if leads {
                holder.leaders += sign;
                holder.rate += sign * rate;
            }
        }
    }

    /// Whether so many copies more may go from one to another.
    pub fn may_copy(&self, from: At, to: At, count: usize) -> bool {
        let free = |at: At| self.brokers[at].dead || self.brokers[at].copies + count <= self.limits.of_broker;
        free(from) && free(to) && self.copies + count <= self.limits.in_all
    }

    pub fn fits(&self, part: At, to: At) -> bool {
        let broker = &self.brokers[to];
        broker.takes && !self.parts[part].replicas.contains(&to) && broker.room >= self.parts[part].bytes
    }

    /// What a step has to be copied for.
    pub fn weight(&self, step: &Step) -> i128 {
        match step.what {
            What::Copy { .. } => self.parts[step.part].bytes,
            _ => 0,
        }
    }

    /// Where one thing is as good as another.
    pub fn lot(&self, part: At) -> u64 {
        let PartitionId { topic, index } = self.parts[part].id;
        let topic = u64::from_le_bytes(*topic.0.first_chunk().expect("sixteen bytes"));
        let mut mixed = self.seed ^ topic ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for _ in 0..2 {
            mixed = (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        mixed ^ mixed >> 29
    }

    pub fn told(&self, part: At) -> Move {
        let Part { id, ref replicas, .. } = self.parts[part];
        Move { id, replicas: replicas.iter().map(|at| self.brokers[*at].id).collect() }
    }
}

impl Step {
    pub fn back(self) -> Self {
        let what = match self.what {
            What::Copy { from, to } => What::Copy { from: to, to: from },
            What::Prefer { from, to, rank } => What::Demote { from: to, to: from, rank },
            What::Demote { from, to, rank } => What::Prefer { from: to, to: from, rank },
        };
        Self { what, ..self }
    }

    pub fn ends(&self) -> (At, At) {
        match self.what {
            What::Copy { from, to } | What::Prefer { from, to, .. } | What::Demote { from, to, .. } => {
                (from, to)
            }
        }
    }
}

fn takes(broker: &Broker) -> bool {
    !broker.fenced && !broker.draining && !broker.shutting_down
}
