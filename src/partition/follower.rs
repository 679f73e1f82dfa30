//! What a follower decides: what to fetch next, and what of an answer to take. Pure: `(event, now) → effects`.
//!
//! ```text
//!          ┌──────────────────────────┐
//! Idle ─▶ Fetching{epoch} ─▶ Truncating, Resetting      Failed ─▶ (next metadata)
//!   ▲        │        ▲────── cut, durably ──┘             ▲
//!   └────────┘ fenced: the metadata will say more          └─ the log refuses
//! ```
//!
//! - Fetching starts at the replica's own end with the epoch of its last batch, never with a truncation (R10). Where the
//!   logs part is for the leader to say (KIP-595).
//! - An answer counts only while epoch and end are those that it was asked with (R11).
//! - Nothing of an answer that tells of divergence is taken but that.

use super::offsets::Offsets;
use super::peer::Epochs;
use crate::model::{BrokerId, LeaderEpoch, MonoMs, Offset};

/// The first pause after a refusal that passes, and the longest.
const PAUSE_MS: std::ops::RangeInclusive<i64> = 50..=1000;

/// What to ask the leader for, in order: the answer is held against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub leader: BrokerId,
    pub epoch: LeaderEpoch,
    /// This replica's end.
    pub offset: Offset,
    /// The epoch of the last batch before it.
    pub last_epoch: Option<LeaderEpoch>,
    pub durable: Offset,
}

/// A batch of an answer, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSeen {
    pub base: Offset,
    pub next: Offset,
    pub epoch: LeaderEpoch,
    /// Its checksum holds.
    pub sound: bool,
}

/// A leader's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    Batches {
        batches: &'a [BatchSeen],
        high_watermark: Offset,
        log_start: Offset,
    },
    /// The leader's largest epoch up to the one that it was told, and its end.
    Diverging(LeaderEpoch, Offset),
    /// OFFSET_OUT_OF_RANGE, with where the leader's log is.
    OutOfRange {
        log_start: Offset,
        end: Offset,
    },
    /// FENCED_LEADER_EPOCH.
    Fenced,
    /// UNKNOWN_LEADER_EPOCH, NOT_LEADER_OR_FOLLOWER, no connection, or anything else that passes.
    NotNow,
}

/// What is to be done about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Nothing.
    Nothing,
    /// Append so many of its batches as the leader gave them; then [`Follower::on_appended`].
    Append(usize),
    /// Cut the log and its epochs, also where no record goes; then [`Follower::on_cut`].
    Truncate { to: Offset, below_high_watermark: bool },
    /// Give the log up and begin anew; then [`Follower::on_cut`].
    Reset { at: Offset },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody leads, or the leader has gone on to an epoch that the metadata here does not have.
    Idle,
    Fetching,
    Truncating {
        to: Offset,
    },
    Resetting {
        at: Offset,
    },
    /// The log takes nothing; the next metadata tries again.
    Failed,
}

/// See the module's page.
#[derive(Clone, Debug)]
pub struct Follower {
    leader: Option<BrokerId>,
    epoch: LeaderEpoch,
    state: State,
    /// Nothing is asked before, after so many pauses on end.
    pause: Option<(MonoMs, u32)>,
    /// The leader's, from its last answer in this epoch.
    committed: Offset,
    log_start: Offset,
}

impl Follower {
    pub fn begin(leader: Option<BrokerId>, epoch: LeaderEpoch) -> Self {
        let state = if leader.is_some() { State::Fetching } else { State::Idle };
        Self { leader, epoch, state, pause: None, committed: Offset::ZERO, log_start: Offset::ZERO }
    }

    /// The metadata says the same leader and epoch again, or more of it. Another epoch [begins](Self::begin) anew,
    /// but for a cut that is under way: that is waited for.
    pub fn on_metadata(&mut self, leader: Option<BrokerId>, epoch: LeaderEpoch) {
        let cutting = self.is_cutting();
        if self.state == State::Failed || (self.leader, self.epoch) != (leader, epoch) {
            let state = self.state;
            *self = Self::begin(leader, epoch);
            self.state = if cutting { state } else { self.state };
        }
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// R10: what to ask for now, if anything.
    pub fn next_fetch(&self, log: &impl Epochs, offsets: &Offsets, now: MonoMs) -> Option<Asked> {
        let leader = self.leader.filter(|_| self.state == State::Fetching)?;
        if self.pause.is_some_and(|(until, _)| now < until) {
            return None;
        }
        Some(Asked {
            leader,
            epoch: self.epoch,
            offset: offsets.end(),
            last_epoch: log.latest(),
            durable: offsets.durable_end(),
        })
    }

    pub fn on_answer(
        &mut self,
        asked: &Asked,
        answer: &Answer<'_>,
        log: &impl Epochs,
        offsets: &mut Offsets,
        now: MonoMs,
    ) -> Take {
        let stale = asked.epoch != self.epoch || asked.offset != offsets.end();
        if stale || self.state != State::Fetching {
            return Take::Nothing;
        }
        match *answer {
            Answer::Batches { batches, high_watermark, log_start } => {
                let fit = fitting(batches, asked, log.latest());
                // What does not fit is not what was asked for, or was damaged on its way.
                if fit < batches.len() {
                    self.rest(now)
                } else {
                    self.pause = None
                }
                (self.committed, self.log_start) = (self.committed.max(high_watermark), log_start);
                self.follow(offsets);
                if fit == 0 { Take::Nothing } else { Take::Append(fit) }
            }
            Answer::Diverging(epoch, end) => self.truncate(common(log, epoch, end), offsets),
            Answer::OutOfRange { log_start, .. } if log_start > offsets.end() => self.reset(log_start),
            Answer::OutOfRange { end, .. } if end < offsets.end() => self.truncate(end, offsets),
            // It moved meanwhile.
            Answer::OutOfRange { .. } | Answer::NotNow => {
                self.rest(now);
                Take::Nothing
            }
            Answer::Fenced => {
                self.state = State::Idle;
                Take::Nothing
            }
        }
    }

    /// What was taken is in the log, in memory or on disk: R15. Returns whether the high watermark rose. Nothing of a log
    /// that is being cut is committed.
    pub fn on_local(&mut self, offsets: &mut Offsets) -> bool {
        !self.is_cutting() && self.follow(offsets)
    }

    fn is_cutting(&self) -> bool {
        matches!(self.state, State::Truncating { .. } | State::Resetting { .. })
    }

    /// The log cannot take anything just now.
    pub fn on_busy(&mut self, now: MonoMs) {
        self.rest(now);
    }

    /// Until when nothing is asked, if so.
    pub fn rests_until(&self) -> Option<MonoMs> {
        self.pause.map(|(until, _)| until)
    }

    /// The log was cut as it was asked for, and that is durable.
    pub fn on_cut(&mut self) {
        if self.is_cutting() {
            self.state = if self.leader.is_some() { State::Fetching } else { State::Idle };
        }
    }

    /// The log did not take what it was given, or could not be cut.
    pub fn on_refused(&mut self) {
        self.state = State::Failed;
    }

    /// R15. Of the leader's high watermark counts what is durable here.
    fn follow(&self, offsets: &mut Offsets) -> bool {
        let rose = offsets.commit(self.committed);
        offsets.start_at(self.log_start.min(offsets.high_watermark()));
        rose
    }

    fn truncate(&mut self, to: Offset, offsets: &Offsets) -> Take {
        let to = to.min(offsets.end());
        if to < offsets.log_start() {
            return self.reset(to);
        }
        self.state = State::Truncating { to };
        Take::Truncate { to, below_high_watermark: to < offsets.high_watermark() }
    }

    fn reset(&mut self, at: Offset) -> Take {
        self.state = State::Resetting { at };
        Take::Reset { at }
    }

    fn rest(&mut self, now: MonoMs) {
        let pauses = self.pause.map_or(0, |(_, pauses)| pauses + 1);
        let pause = PAUSE_MS.start() << pauses.min(10);
        self.pause = Some((MonoMs(now.0 + pause.min(*PAUSE_MS.end())), pauses));
    }
}

/// R11: up to where this log has what the leader has, as far as is known: both have `epoch` or an older one in common
/// (KIP-279).
fn common(log: &impl Epochs, epoch: LeaderEpoch, end: Offset) -> Offset {
    match log.end_of(epoch) {
        // The leader's epoch is not known here: what there is of older ones is held against the leader's next.
        Some((_, own_end)) => own_end.min(end),
        None => end,
    }
}

/// R12: how many of the batches can be appended. Compaction may have left gaps between them.
fn fitting(batches: &[BatchSeen], asked: &Asked, latest: Option<LeaderEpoch>) -> usize {
    let (mut at, mut least) = (asked.offset, latest.unwrap_or_default());
    let fits = batches.iter().take_while(|batch| {
        let fits = batch.sound && batch.base >= at && batch.epoch >= least && batch.epoch <= asked.epoch;
        (at, least) = (batch.next, batch.epoch);
        fits
    });
    fits.count()
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
