//! One replica: its role, its offsets, and who waits for them.
//!
//! A leader that is alone in the ISR commits what is durable here, so a consumer never reads what a crash could take
//! back (unless the topic opted out with `write.caching`).

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::acks::Acks;
use super::appended::{AppendError, Appended};
use super::assignment::{Assignment, Role};
use super::followed::Followed;
use super::follower::Follower;
use super::host::Host;
use super::leader::Leader;
use super::offsets::Offsets;
use super::producer::{ProducerView, Producers};
use super::underway::{Underway, Waiting};
use super::verification::Verifications;
use super::waits::{Failure, Ticket, Waits};
use crate::log::{Lsn, PartitionLog, ShardLog};
use crate::model::topic_config::TopicConfig;
use crate::model::{BrokerId, LeaderEpoch, MonoMs, Offset, PartitionId, WallMs};

pub struct Replica {
    pub id: PartitionId,
    pub topic: Arc<str>,
    /// Behind [`super::storage`].
    pub(super) log: Rc<PartitionLog>,
    pub(super) host: Rc<Host>,
    pub(super) config: RefCell<Arc<TopicConfig>>,
    /// Until the metadata says, what the configuration does.
    pub(super) min_insync: Cell<Option<usize>>,
    pub(super) assignment: RefCell<Assignment>,
    pub(super) part: RefCell<Part>,
    /// Its log is being cut: it takes nothing, and leads only afterwards.
    pub(super) cutting: Cell<bool>,
    pub(super) producers: RefCell<Producers>,
    pub(super) verifications: RefCell<Verifications>,
    /// Until then a gap in a producer's sequences may be of batches that were refused before.
    pub(super) gaps_until: Cell<MonoMs>,
    pub(super) offsets: Cell<Offsets>,
    /// Once something was appended or waited for.
    pub(super) underway: OnceCell<Box<Underway>>,
    /// Followers' sessions, while it leads.
    pub(super) followed: Followed,
}

/// What the replica does for its partition, and what it knows for that.
pub(super) enum Part {
    Leader(Leader),
    Follower(Follower),
    Offline,
}

impl Replica {
    /// A replica over a log that is durable up to its end; of the high watermark it is told what was stored.
    /// It serves nothing before it is [assigned](Self::assign).
    pub fn new(
        (id, topic): (PartitionId, Arc<str>),
        host: &Rc<Host>,
        log: Rc<PartitionLog>,
        config: Arc<TopicConfig>,
        high_watermark: Offset,
    ) -> Self {
        let (start, end) = (log.start_offset(), log.end_offset());
        Self {
            id,
            topic,
            log,
            host: host.clone(),
            config: RefCell::new(config),
            min_insync: Cell::new(None),
            assignment: RefCell::default(),
            part: RefCell::new(Part::Offline),
            cutting: Cell::new(false),
            producers: RefCell::default(),
            verifications: RefCell::default(),
            gaps_until: Cell::new(MonoMs::ZERO),
            offsets: Cell::new(Offsets::recovered(start, high_watermark, end)),
            underway: OnceCell::new(),
            followed: Followed::default(),
        }
    }

    fn underway(&self) -> &Underway {
        self.underway.get_or_init(Box::default)
    }

    pub fn set_producers(&self, mut producers: Producers) {
        producers.settle(self.high_watermark());
        producers.cut(self.log.start_offset());
        self.producers.replace(producers);
    }

    /// The producers' state and the offset that it is of, to be stored once that is durable: the log end, but for a log that
    /// is being cut, where it may be past that.
    pub fn producer_snapshot(&self) -> Option<(Offset, Vec<u8>)> {
        let mut producers = self.producers.borrow_mut();
        producers.cut(self.log.start_offset());
        (!producers.is_empty()).then(|| (self.offsets.get().end(), producers.snapshot()))
    }

    pub fn expire_producers(&self, before: WallMs) {
        self.producers.borrow_mut().expire(before);
        self.verifications.borrow_mut().forget_idle();
    }

    /// Where requests that append here wait.
    pub fn waits(&self) -> &Rc<Waits> {
        &self.host.waits
    }

    /// What each producer did here.
    pub fn producers(&self) -> Vec<ProducerView> {
        self.producers.borrow().views().collect()
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.borrow().clone()
    }

    pub fn set_config(&self, config: Arc<TopicConfig>) {
        self.log.set_config(config.clone());
        *self.config.borrow_mut() = config;
        self.renew_terms();
    }

    /// Takes what the metadata says of the partition. What is older than what was taken already is ignored. Returns
    /// whether the replica begins a leader's term, or ends one: then nobody who waited for the old one is answered with
    /// success, and whoever reads looks again. While its log is being cut it goes on as a follower until that is over.
    pub fn assign(&self, store: &ShardLog, assignment: Assignment, now: MonoMs) -> bool {
        self.host.set_now(now);
        let known = self.assignment.borrow();
        let (role, first) = (assignment.role_of(self.host.broker), known.replicas.is_empty());
        if !first && !known.is_before(&assignment) {
            return false;
        }
        let new_term = first || known.leader_epoch != assignment.leader_epoch || self.role() != role;
        drop(known);
        self.assignment.replace(assignment);
        self.take_part(store, role, new_term);
        if new_term {
            self.turn_away(Failure::Deposed);
            // What a coordinator said was said to another leader.
            self.verifications.borrow_mut().void_all();
        }
        self.advance();
        new_term
    }

    pub(super) fn take_part(&self, store: &ShardLog, role: Role, new_term: bool) {
        let (now, mut offsets) = (self.host.now(), self.offsets());
        let (mut part, assignment) = (self.part.borrow_mut(), self.assignment.borrow());
        let (epoch, partition_epoch) = (assignment.leader_epoch, assignment.partition_epoch);
        let role = if role == Role::Leader && self.cutting.get() { Role::Follower } else { role };
        match (role, &mut *part) {
            (Role::Leader, Part::Leader(leader)) if !new_term => {
                leader.on_replicas(assignment.replicas.iter().map(|id| self.host.peer(*id)));
                leader.on_isr((partition_epoch, &assignment.isr), &mut offsets, now);
            }
            (Role::Leader, part) => {
                self.record_epoch(store, epoch);
                self.unsettle_sequences(epoch, now);
                let peers = assignment.replicas.iter().map(|id| self.host.peer(*id));
                let (epochs, begins) = ((epoch, partition_epoch), (offsets.end(), now));
                let me = self.host.peer(self.host.broker);
                *part = Part::Leader(Leader::begin(me, epochs, peers, &assignment.isr, self.terms(), begins));
            }
            (Role::Follower, Part::Follower(follower)) => follower.on_metadata(assignment.leader, epoch),
            (Role::Follower, part) => *part = Part::Follower(Follower::begin(assignment.leader, epoch)),
            (Role::Offline, part) => *part = Part::Offline,
        }
        self.offsets.set(offsets);
    }

    /// R1: the journal has where the epoch begins, though nothing may ever be written in it, before anything that follows
    /// in it. The first epoch of a partition has nothing before it: without an entry it is found to begin at 0, too.
    fn record_epoch(&self, store: &ShardLog, epoch: LeaderEpoch) {
        if (epoch == LeaderEpoch::ZERO && self.log.end_offset() == Offset::ZERO)
            || self.log.needs_repair().is_some()
        {
            return;
        }
        if let Err(e) = store.epoch_start(&self.log, epoch) {
            log::warn!("{}: epoch {} is not recorded: {e}", self.id, epoch.0);
        }
    }

    pub fn role(&self) -> Role {
        match &*self.part.borrow() {
            Part::Leader(_) => Role::Leader,
            Part::Follower(_) => Role::Follower,
            Part::Offline => Role::Offline,
        }
    }

    /// R9: whether the high watermark tells all that is committed.
    pub(super) fn knows_committed(&self) -> bool {
        match &*self.part.borrow() {
            Part::Leader(leader) => leader.knows_committed(&self.offsets.get()),
            _ => false,
        }
    }

    /// Refuses what could not be committed by now (R7).
    pub fn check_acks(&self, acks: Acks) -> Result<(), AppendError> {
        match &*self.part.borrow() {
            Part::Leader(leader) if acks == Acks::All && !leader.has_enough() => {
                Err(AppendError::NotEnoughReplicas)
            }
            _ => Ok(()),
        }
    }

    /// Settles `ticket` once what was appended counts as much as `acks` asks for, or will not.
    pub fn acknowledge(&self, appended: &Appended, acks: Acks, ticket: Ticket) {
        let offsets = self.offsets.get();
        let counts = match acks {
            Acks::None => true,
            Acks::Leader => offsets.durable_end() >= appended.end,
            Acks::All => offsets.high_watermark() >= appended.end,
        };
        if !counts {
            self.host.waits.expect(ticket);
            self.underway().wait(acks, appended.end, ticket);
        }
    }

    /// Whether it leads in this epoch.
    pub fn leads_in(&self, epoch: LeaderEpoch) -> bool {
        matches!(&*self.part.borrow(), Part::Leader(leader) if leader.epoch() == epoch)
    }

    /// The leader that the metadata names, and its epoch.
    pub fn leader(&self) -> (Option<BrokerId>, LeaderEpoch) {
        let assignment = self.assignment.borrow();
        (assignment.leader, assignment.leader_epoch)
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.assignment.borrow().leader_epoch
    }

    pub fn offsets(&self) -> Offsets {
        let mut offsets = self.offsets.get();
        // Retention moves it, up to what is committed, where the replica is not asked.
        offsets.start_at(self.log.start_offset().min(offsets.high_watermark()));
        self.offsets.set(offsets);
        offsets
    }

    pub(super) fn move_offsets<T>(&self, change: impl FnOnce(&mut Offsets) -> T) -> T {
        let mut offsets = self.offsets();
        let done = change(&mut offsets);
        self.offsets.set(offsets);
        done
    }

    pub fn high_watermark(&self) -> Offset {
        self.offsets.get().high_watermark()
    }

    /// Returns the log's end.
    pub(super) fn note_appended(&self, lsn: Lsn, write_caching: bool) -> Offset {
        let end = self.log.end_offset();
        self.move_offsets(|offsets| offsets.append(end));
        self.followed.mark();
        if write_caching {
            self.move_offsets(|offsets| offsets.make_durable(end));
            self.advance();
        } else {
            self.underway().append(lsn, end);
        }
        end
    }

    /// Whether appended batches wait for a commit.
    pub fn is_undurable(&self) -> bool {
        self.underway.get().is_some_and(|underway| underway.is_undurable())
    }

    /// More is on disk, as `is_durable` tells: the high watermark follows, and who waited for it is answered.
    pub fn on_durable(&self, is_durable: impl Fn(Lsn) -> bool) {
        let end = self.underway.get().and_then(|underway| underway.on_durable(is_durable));
        if let Some(end) = end {
            self.move_offsets(|offsets| offsets.make_durable(end));
            self.advance();
        }
    }

    /// Offsets moved here: what follows for the high watermark, and who may be answered.
    pub(super) fn advance(&self) {
        let mut offsets = self.offsets();
        let (rose, enough) = match &mut *self.part.borrow_mut() {
            Part::Leader(leader) => (leader.on_local(&mut offsets, self.host.now()), leader.has_enough()),
            Part::Follower(follower) => (follower.on_local(&mut offsets), false),
            Part::Offline => (false, false),
        };
        self.offsets.set(offsets);
        self.settle(rose, enough);
    }

    /// Answers who waited for what there is by now; the high watermark rose, perhaps.
    pub(super) fn settle(&self, rose: bool, enough: bool) {
        let offsets = self.offsets.get();
        if rose {
            self.followed.mark();
            self.tell_watchers(offsets.high_watermark());
        }
        self.underway.get().inspect(|underway| underway.settle(&offsets, enough, &self.host.waits));
    }

    fn tell_watchers(&self, high_watermark: Offset) {
        self.producers.borrow_mut().settle(high_watermark);
        self.underway.get().inspect(|underway| underway.tell_watchers(high_watermark));
    }

    /// Nobody is left waiting.
    fn turn_away(&self, why: Failure) {
        self.underway.get().inspect(|underway| underway.fail(why, &self.host.waits));
        self.followed.mark();
        self.rouse_watchers();
    }

    pub(super) fn rouse_watchers(&self) {
        self.underway.get().inspect(|underway| underway.rouse_watchers());
    }

    /// Fires `waiting` once the high watermark is above `above`, or another term begins, or the partition goes away.
    pub fn watch(&self, above: Offset, waiting: Rc<dyn Waiting>) {
        if self.high_watermark() > above {
            return waiting.fire();
        }
        self.underway().watch(above, waiting);
    }

    /// The partition is going away.
    pub fn retire(&self) {
        self.turn_away(Failure::Gone);
    }

    /// The partition is others' from now on.
    pub fn give_up(&self) {
        self.turn_away(Failure::Deposed);
    }
}

#[cfg(test)]
#[path = "replica_tests.rs"]
pub(super) mod tests;
