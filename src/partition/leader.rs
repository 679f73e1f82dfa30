//! What the leader of a partition decides: up to where it is committed, and who is in the ISR. Pure:
//! `(event, now) → effects`.
//!
//! ```text
//! own log ── on_local ──┐                        ┌─▶ the high watermark rose
//! followers ─ on_fetch ─┼─▶ Leader (one epoch) ──┼─▶ a proposal for the controller (AlterPartition)
//! controller ─ on_answer┤                        └─▶ a follower lost what it had
//! metadata ── on_isr ───┤
//! time ────── on_tick ──┘
//! ```
//!
//! - The *committed* ISR is the one in the metadata. While a proposal is under way nobody knows which of the two the
//!   controller has: the *maximal* ISR is both together, and the high watermark waits for all of it.
//! - What counts of a follower is its durable end. Where it fetches from is only where to send from.
//! - Nothing is committed, whatever the producer asked for, while the committed ISR is smaller than
//!   `min.insync.replicas` or than the partition's replicas are many (Kafka's `effectiveMinIsr`).

use super::offsets::Offsets;
use super::peer::{Epochs, Heard, Peer, PeerState, Report, place};
use crate::model::{BrokerEpoch, BrokerId, LeaderEpoch, MonoMs, Offset, PartitionEpoch};

/// What the topic and the broker ask of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// `min.insync.replicas`.
    pub min_insync: usize,
    /// `replica.lag.time.max.ms`.
    pub lag_max_ms: i64,
}

/// An ISR for the controller to take, each member with the epoch under which it was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Tells it from others of the same leader.
    pub number: u64,
    pub leader_epoch: LeaderEpoch,
    /// What it rests on.
    pub partition_epoch: PartitionEpoch,
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
}

/// What the controller said of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Committed(PartitionEpoch, Vec<BrokerId>),
    /// It was not taken, and will not be: OPERATION_NOT_ATTEMPTED, INELIGIBLE_REPLICA.
    Refused,
    /// It rests on what is over: FENCED_LEADER_EPOCH, INVALID_UPDATE_VERSION, UNKNOWN_TOPIC_ID, NEW_LEADER_ELECTED. The
    /// metadata will say how things stand.
    Outdated,
    /// Anything else, no answer among it: whether it was taken is not known.
    Unknown,
}

/// What follows from an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// The high watermark rose.
    pub advanced: bool,
    /// For the controller.
    pub propose: Option<Proposal>,
    /// A follower has less than it had durably.
    pub lost: Option<BrokerId>,
}

/// See the module's page.
pub struct Leader {
    me: PeerState,
    epoch: LeaderEpoch,
    epoch_start: Offset,
    partition_epoch: PartitionEpoch,
    terms: Terms,
    committed: Vec<BrokerId>,
    proposed: Option<Box<Proposal>>,
    proposals: u64,
    peers: Vec<Peer>,
    /// When time was last looked at, and the log's end then.
    ticked: (MonoMs, Offset),
}

impl Leader {
    /// R1: begins an epoch where the log ends. Of followers nothing is known yet; those in the ISR get the time that all
    /// have.
    pub fn begin(
        me: PeerState,
        (epoch, partition_epoch): (LeaderEpoch, PartitionEpoch),
        peers: impl IntoIterator<Item = PeerState>,
        isr: &[BrokerId],
        terms: Terms,
        (end, now): (Offset, MonoMs),
    ) -> Self {
        let others = peers.into_iter().filter(|peer| peer.id != me.id);
        let peers = others.map(|state| Peer::new(state, isr.contains(&state.id).then_some(now)));
        Self {
            me,
            epoch,
            epoch_start: end,
            partition_epoch,
            terms,
            committed: isr.to_vec(),
            proposed: None,
            proposals: 0,
            peers: peers.collect(),
            ticked: (now, end),
        }
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    pub fn isr(&self) -> &[BrokerId] {
        &self.committed
    }

    /// Where to send a follower from.
    pub fn sent(&self, follower: BrokerId) -> Option<Offset> {
        self.peers.iter().find(|peer| peer.state.id == follower)?.sent
    }

    pub fn has_followers(&self) -> bool {
        !self.peers.is_empty()
    }

    /// R7: whether what is appended could be committed.
    pub fn has_enough(&self) -> bool {
        self.committed.len() >= self.terms.min_insync.min(self.peers.len() + 1)
    }

    /// R9: whether the end of what is committed is known: what an earlier leader committed may be past the high
    /// watermark that this replica knows of until then.
    pub fn knows_committed(&self, offsets: &Offsets) -> bool {
        offsets.high_watermark() >= self.epoch_start
    }

    /// [`Self::on_local`] has to follow.
    pub fn set_terms(&mut self, terms: Terms) {
        self.terms = terms;
    }

    /// The log's end or its durable end moved here. Returns whether the high watermark rose.
    pub fn on_local(&mut self, offsets: &mut Offsets, now: MonoMs) -> bool {
        self.advance(offsets, now)
    }

    /// R2: a follower fetched.
    pub fn on_fetch(
        &mut self,
        report: &Report,
        log: &impl Epochs,
        offsets: &mut Offsets,
        now: MonoMs,
    ) -> (Heard, Effects) {
        let mut fx = Effects::default();
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.state.id == report.from) else {
            return (Heard::Ignored, fx);
        };
        if report.leader_epoch != self.epoch || report.broker_epoch != peer.state.epoch {
            return (Heard::Ignored, fx);
        }
        match place(log, report, offsets) {
            Heard::Counted => {}
            elsewhere => return (elsewhere, fx),
        }
        fx.lost = peer.note(report, offsets.end(), now).then_some(report.from);
        fx.advanced = self.advance(offsets, now);
        let lost = self.shrink(offsets, |peer, _| peer.lost);
        fx.propose = lost.or_else(|| self.expand(report.from, offsets));
        (Heard::Counted, fx)
    }

    /// R5: time passed. To be called every half of `lag_max_ms`. Who has what there was last time had it then: a follower
    /// has nothing to report of a log that rests.
    pub fn on_tick(&mut self, offsets: &Offsets, now: MonoMs) -> Option<Proposal> {
        let most = self.terms.lag_max_ms;
        let (at, end) = std::mem::replace(&mut self.ticked, (now, offsets.end()));
        for peer in self.peers.iter_mut().filter(|peer| peer.durable.is_some_and(|durable| durable >= end)) {
            peer.caught_up = peer.caught_up.max(Some(at));
        }
        let shrunk = self.shrink(offsets, |peer, end| peer.lost || !peer.is_caught_up(end, now, most));
        shrunk.or_else(|| self.invite(offsets))
    }

    /// R5: lets in who is far enough, by what he said last: for when something else changed than that.
    pub fn invite(&mut self, offsets: &Offsets) -> Option<Proposal> {
        let ids: Vec<BrokerId> = self.peers.iter().map(|peer| peer.state.id).collect();
        ids.into_iter().find_map(|id| self.expand(id, offsets))
    }

    /// The metadata says something else of a broker.
    pub fn on_peer(&mut self, state: PeerState, offsets: &mut Offsets, now: MonoMs) -> Effects {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.state.id == state.id) {
            if peer.state.epoch != state.epoch {
                // Another life of it: what it had may be gone.
                (peer.durable, peer.sent, peer.reported, peer.caught_up) = (None, None, None, None);
            }
            peer.state = state;
        } else if state.id == self.me.id {
            self.me = state;
        }
        Effects { advanced: self.advance(offsets, now), ..Effects::default() }
    }

    /// The metadata has other replicas of the partition, in the same leader epoch: of those that come nothing is known yet.
    /// [`Self::on_isr`] has to follow.
    pub fn on_replicas(&mut self, peers: impl IntoIterator<Item = PeerState>) {
        let others: Vec<PeerState> = peers.into_iter().filter(|peer| peer.id != self.me.id).collect();
        self.peers.retain(|known| others.iter().any(|peer| peer.id == known.state.id));
        for state in others {
            if !self.peers.iter().any(|known| known.state.id == state.id) {
                self.peers.push(Peer::new(state, None));
            }
        }
    }

    /// The metadata has another ISR, in the same leader epoch. What was proposed is over, one way or the other.
    pub fn on_isr(
        &mut self,
        (epoch, isr): (PartitionEpoch, &[BrokerId]),
        offsets: &mut Offsets,
        now: MonoMs,
    ) -> Effects {
        if epoch > self.partition_epoch {
            (self.partition_epoch, self.proposed) = (epoch, None);
            self.commit_isr(isr);
        }
        Effects { advanced: self.advance(offsets, now), ..Effects::default() }
    }

    /// R6: the controller answered a proposal.
    pub fn on_answer(
        &mut self,
        number: u64,
        verdict: Verdict,
        offsets: &mut Offsets,
        now: MonoMs,
    ) -> Effects {
        // Free before anything follows from the answer.
        let Some(proposal) = self.proposed.take_if(|proposal| proposal.number == number) else {
            return Effects::default();
        };
        match verdict {
            Verdict::Committed(epoch, isr) => {
                if epoch > self.partition_epoch {
                    self.partition_epoch = epoch;
                    self.commit_isr(&isr);
                }
                // Others may have come as far meanwhile.
                let advanced = self.advance(offsets, now);
                return Effects { advanced, propose: self.invite(offsets), ..Effects::default() };
            }
            Verdict::Refused => {}
            // It may have been taken: both count until the metadata says which.
            Verdict::Outdated => self.proposed = Some(proposal),
            Verdict::Unknown => {
                self.proposed = Some(proposal.clone());
                return Effects { propose: Some(*proposal), ..Effects::default() };
            }
        }
        Effects { advanced: self.advance(offsets, now), ..Effects::default() }
    }

    fn commit_isr(&mut self, isr: &[BrokerId]) {
        self.committed = isr.to_vec();
        // Who is out may come back by what it reports from now on.
        for peer in self.peers.iter_mut().filter(|peer| !isr.contains(&peer.state.id)) {
            peer.lost = false;
        }
    }

    /// Whether a proposal is under way.
    pub fn is_proposing(&self) -> bool {
        self.proposed.is_some()
    }

    /// Whether the high watermark waits for a replica because it is, or may be, in the ISR.
    pub fn is_in_maximal_isr(&self, id: BrokerId) -> bool {
        let proposed = self.proposed.iter().flat_map(|proposal| &proposal.isr);
        self.committed.contains(&id) || proposed.into_iter().any(|(member, _)| *member == id)
    }

    /// R3.
    fn advance(&mut self, offsets: &mut Offsets, now: MonoMs) -> bool {
        if !self.has_enough() {
            return false;
        }
        let (end, most) = (offsets.end(), self.terms.lag_max_ms);
        let mut to = offsets.durable_end();
        for peer in &self.peers {
            // Who is as far as the ISR is about to be in it, and would hold it up then.
            let joins = || peer.state.eligible && peer.is_caught_up(end, now, most);
            if peer.durable.is_none_or(|durable| durable < to)
                && (self.is_in_maximal_isr(peer.state.id) || joins())
            {
                to = peer.durable.unwrap_or(Offset::ZERO);
            }
        }
        offsets.commit(to)
    }

    /// R5: whether the follower is far enough to be in the ISR.
    fn expand(&mut self, id: BrokerId, offsets: &Offsets) -> Option<Proposal> {
        if self.proposed.is_some() || self.committed.contains(&id) {
            return None;
        }
        let peer = self.peers.iter().find(|peer| peer.state.id == id && peer.state.eligible)?;
        let least = offsets.high_watermark().max(self.epoch_start);
        peer.durable.filter(|durable| *durable >= least)?;
        let isr = self.committed.iter().copied().chain([id]).collect();
        Some(self.propose(isr))
    }

    fn shrink(&mut self, offsets: &Offsets, is_out: impl Fn(&Peer, Offset) -> bool) -> Option<Proposal> {
        if self.proposed.is_some() {
            return None;
        }
        let end = offsets.end();
        let stays = |id: &BrokerId| !self.peers.iter().any(|peer| peer.state.id == *id && is_out(peer, end));
        let isr: Vec<BrokerId> = self.committed.iter().copied().filter(stays).collect();
        (isr.len() < self.committed.len()).then(|| self.propose(isr))
    }

    fn propose(&mut self, isr: Vec<BrokerId>) -> Proposal {
        self.proposals += 1;
        let epoch_of = |id: BrokerId| {
            let peer = self.peers.iter().map(|peer| &peer.state).chain([&self.me]).find(|peer| peer.id == id);
            (id, peer.map_or(BrokerEpoch::ZERO, |peer| peer.epoch))
        };
        let proposal = Proposal {
            number: self.proposals,
            leader_epoch: self.epoch,
            partition_epoch: self.partition_epoch,
            isr: isr.into_iter().map(epoch_of).collect(),
        };
        self.proposed = Some(Box::new(proposal.clone()));
        proposal
    }
}

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;
