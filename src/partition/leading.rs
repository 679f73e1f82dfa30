//! A replica that leads followers: what their fetches are answered with, and what they make of the high watermark and of the
//! ISR.

use std::rc::Rc;

use bytes::Bytes;

use super::followed::Follows;
use super::leader::{Effects, Proposal, Terms, Verdict};
use super::peer::{Epochs, Heard, PeerState, Report};
use super::replica::Part;
use super::{ReadError, Replica};
use crate::log::{LogError, PartitionLog};
use crate::model::{BrokerId, LeaderEpoch, MonoMs, Offset};

/// What a follower's fetch is answered with, but for the batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub end: Offset,
    /// Where the follower's log parts from this one.
    pub diverging: Option<(LeaderEpoch, Offset)>,
    /// Epochs past the follower's last one, and where they begin: of some, compaction may have left no batch.
    pub starts: Vec<(LeaderEpoch, Offset)>,
    /// For the controller.
    pub propose: Option<Proposal>,
    /// The follower has less than it had durably.
    pub lost: Option<BrokerId>,
}

/// Epochs told in one answer; more of them are told with the next.
const MOST_STARTS: usize = 1000;

impl Epochs for PartitionLog {
    fn latest(&self) -> Option<LeaderEpoch> {
        self.latest_epoch()
    }

    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epoch_end_offset(epoch)
    }
}

impl Replica {
    /// A follower fetched (R2). What there is for it from `report.offset` on is read by [`Self::read_ordered`], unless it
    /// diverges. `OffsetOutOfRange`: it is told [where the log is](Self::offsets).
    pub fn on_fetch(&self, report: &Report, now: MonoMs) -> Result<Served, ReadError> {
        self.host.set_now(now);
        self.check_leader(Some(report.leader_epoch))?;
        if let Some(why) = self.needs_repair() {
            return Err(ReadError::Corrupt(why));
        }
        let mut offsets = self.offsets();
        let (heard, fx, enough) = match &mut *self.part.borrow_mut() {
            Part::Leader(leader) => {
                let (heard, fx) = leader.on_fetch(report, &*self.log, &mut offsets, now);
                (heard, fx, leader.has_enough())
            }
            _ => return Err(ReadError::NotLeader),
        };
        self.offsets.set(offsets);
        let Effects { advanced, propose, lost } = fx;
        self.settle(advanced, enough);
        let diverging = match heard {
            Heard::Counted => None,
            Heard::Diverging(epoch, end) => Some((epoch, end)),
            Heard::OutOfRange => return Err(ReadError::OffsetOutOfRange),
            // The metadata of one of the two is behind: it will ask again.
            Heard::Ignored => return Err(ReadError::UnknownEpoch),
        };
        Ok(Served {
            high_watermark: offsets.high_watermark(),
            log_start: offsets.log_start(),
            end: offsets.end(),
            diverging,
            starts: self.log.epochs_after(report.last_epoch, MOST_STARTS),
            propose,
            lost,
        })
    }

    /// Batches up to the log's end, whether they are committed or not: for a follower. From memory; `None`: the disk has to be
    /// asked, with [`Self::read_ordered`].
    pub fn read_ordered_cached(
        &self,
        from: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Option<Vec<Bytes>> {
        self.log.read_cached(from, self.log.end_offset(), max_bytes, at_least_one)
    }

    /// As [`Self::read_ordered_cached`], from wherever they are.
    pub async fn read_ordered(
        &self,
        from: Offset,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Vec<Bytes>, LogError> {
        self.log.read(from, self.log.end_offset(), max_bytes, at_least_one).await
    }

    /// Tells `follows` from now on that there is something new here, by its number for this partition.
    pub fn follow_with(&self, follows: &Rc<dyn Follows>, place: usize) {
        self.followed.add(follows, place);
    }

    pub fn unfollow(&self, follows: &Rc<dyn Follows>) {
        self.followed.remove(follows);
    }

    /// Time passed; every half of `replica.lag.time.max.ms`. Returns an ISR for the controller.
    pub fn on_tick(&self, now: MonoMs) -> Option<Proposal> {
        self.host.set_now(now);
        let before = self.offsets.get();
        let offsets = self.offsets();
        if offsets.log_start() != before.log_start() {
            self.followed.mark();
        }
        match &mut *self.part.borrow_mut() {
            Part::Leader(leader) => leader.on_tick(&offsets, now),
            _ => None,
        }
    }

    /// The controller answered a proposal (R6). Returns one to be made again, after a while.
    pub fn on_verdict(
        &self,
        number: u64,
        epoch: LeaderEpoch,
        verdict: Verdict,
        now: MonoMs,
    ) -> Option<Proposal> {
        self.lead(now, |leader, offsets| match leader.epoch() == epoch {
            true => leader.on_answer(number, verdict, offsets, now),
            false => Effects::default(),
        })
    }

    /// The metadata says something else of a broker that may have a replica. Returns an ISR for the controller.
    pub fn on_peer(&self, state: PeerState, now: MonoMs) -> Option<Proposal> {
        self.lead(now, |leader, offsets| {
            let fx = leader.on_peer(state, offsets, now);
            Effects { propose: leader.invite(offsets), ..fx }
        })
    }

    /// The ISR or the replicas are others now: an ISR for the controller, if more can be let in.
    pub fn invite(&self, now: MonoMs) -> Option<Proposal> {
        self.lead(now, |leader, offsets| Effects { propose: leader.invite(offsets), ..Effects::default() })
    }

    fn lead(
        &self,
        now: MonoMs,
        step: impl FnOnce(&mut super::leader::Leader, &mut super::Offsets) -> Effects,
    ) -> Option<Proposal> {
        self.host.set_now(now);
        let mut offsets = self.offsets();
        let (fx, enough) = match &mut *self.part.borrow_mut() {
            Part::Leader(leader) => (step(leader, &mut offsets), leader.has_enough()),
            _ => return None,
        };
        self.offsets.set(offsets);
        self.settle(fx.advanced, enough);
        fx.propose
    }

    pub(super) fn renew_terms(&self) {
        let terms = self.terms();
        if let Part::Leader(leader) = &mut *self.part.borrow_mut() {
            leader.set_terms(terms);
        }
        self.advance();
    }

    pub(super) fn terms(&self) -> Terms {
        let own = || self.config.borrow().min_insync_replicas.max(1) as usize;
        let min_insync = self.min_insync.get().unwrap_or_else(own);
        Terms { min_insync, lag_max_ms: self.host.lag_max_ms }
    }

    /// How many replicas have to be in sync for anything to be committed, as the whole cluster has it.
    pub fn set_min_insync(&self, least: usize) {
        if self.min_insync.replace(Some(least)) != Some(least) {
            self.renew_terms();
        }
    }

    pub fn has_followers(&self) -> bool {
        matches!(&*self.part.borrow(), Part::Leader(leader) if leader.has_followers())
    }
}
