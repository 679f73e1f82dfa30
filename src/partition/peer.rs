//! What a leader hears and knows of a follower. Pure.

use super::offsets::Offsets;
use crate::model::{BrokerEpoch, BrokerId, LeaderEpoch, MonoMs, Offset};

/// The largest epoch of a log up to the given one, and where it ends.
pub trait Epochs {
    fn latest(&self) -> Option<LeaderEpoch>;
    fn end_of(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)>;
}

/// What the metadata says of a broker that has a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerState {
    pub id: BrokerId,
    pub epoch: BrokerEpoch,
    /// It may be in an ISR: it is neither fenced nor about to stop.
    pub eligible: bool,
}

/// What a follower says when it fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub from: BrokerId,
    pub broker_epoch: BrokerEpoch,
    pub leader_epoch: LeaderEpoch,
    /// Its end, and the epoch of the last batch before it.
    pub offset: Offset,
    pub last_epoch: Option<LeaderEpoch>,
    pub durable: Offset,
}

/// What becomes of a follower's fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It counts.
    Counted,
    /// It is of another epoch, or of an earlier life of its broker, or of one that has no replica.
    Ignored,
    /// It lies outside of the log.
    OutOfRange,
    /// Its log is not a part of this one: of its epochs this one has the largest up to here, and this is its end.
    Diverging(LeaderEpoch, Offset),
}

/// What a leader knows of a follower.
pub(super) struct Peer {
    pub(super) state: PeerState,
    /// Where to send from.
    pub(super) sent: Option<Offset>,
    pub(super) durable: Option<Offset>,
    /// When it last had everything durably.
    pub(super) caught_up: Option<MonoMs>,
    /// When it last reported, and the leader's end at the time.
    pub(super) reported: Option<(MonoMs, Offset)>,
    /// It lost records and is to leave the ISR.
    pub(super) lost: bool,
}

impl Peer {
    /// One of which nothing is known but that it had everything at a time, if it did.
    pub(super) fn new(state: PeerState, caught_up: Option<MonoMs>) -> Self {
        Self { state, sent: None, durable: None, caught_up, reported: None, lost: false }
    }

    /// Returns whether it lost something just now.
    pub(super) fn note(&mut self, report: &Report, end: Offset, now: MonoMs) -> bool {
        let durable = report.durable.min(report.offset);
        // R8: nobody loses what is on disk, in one life and in one epoch.
        let loses = self.durable.is_some_and(|known| durable < known);
        if loses {
            (self.lost, self.caught_up, self.reported) = (true, None, None);
        }
        (self.sent, self.durable) = (Some(report.offset), Some(durable));
        // R4.
        if durable >= end {
            self.caught_up = Some(now);
        } else if let Some((at, end_then)) = self.reported
            && durable >= end_then
        {
            self.caught_up = self.caught_up.max(Some(at));
        }
        self.reported = Some((now, end));
        loses
    }

    pub(super) fn is_caught_up(&self, end: Offset, now: MonoMs, most_ms: i64) -> bool {
        self.durable == Some(end) || self.caught_up.is_some_and(|at| now.since(at) <= most_ms)
    }
}

/// Where a follower's log stands to this one (K `Partition.readRecords`).
pub(super) fn place(log: &impl Epochs, report: &Report, offsets: &Offsets) -> Heard {
    if report.offset < offsets.log_start() {
        return Heard::OutOfRange;
    }
    match report.last_epoch.map(|last| (last, log.end_of(last))) {
        Some((last, Some((epoch, end)))) if epoch < last || end < report.offset => {
            Heard::Diverging(epoch, end)
        }
        Some((_, None)) => Heard::OutOfRange,
        _ if report.offset > offsets.end() => Heard::OutOfRange,
        _ => Heard::Counted,
    }
}
