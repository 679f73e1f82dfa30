//! A replica that follows: what it asks its leader for, and what it makes of the answers.

use bytes::Bytes;

use super::assignment::Role;
use super::follower::{Answer, Asked, BatchSeen, Take};
use super::producer::Producers;
use super::replica::Part;
use super::{Offsets, Replica};
use crate::log::{JournalFailed, LogError, ReplicaAppendError, ShardLog, Truncated};
use crate::model::{BrokerId, LeaderEpoch, MonoMs, Offset};
use crate::rt;
use crate::wire::batch::{self, BatchHeader, BatchIter};
use crate::wire::control;
use crate::wire::records::empty_batch;

/// What a leader said to a fetch.
#[derive(Clone, Debug)]
pub enum Said {
    Batches(Given),
    /// Of its epochs up to the one that it was told, the largest, and where that ends.
    Diverging(LeaderEpoch, Offset),
    /// OFFSET_OUT_OF_RANGE, with where its log is.
    OutOfRange {
        log_start: Offset,
        end: Offset,
    },
    /// FENCED_LEADER_EPOCH.
    Fenced,
    /// Anything that passes.
    NotNow,
}

#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Batches, back to back; the last may be cut.
    pub records: Bytes,
    pub high_watermark: Offset,
    pub log_start: Offset,
    /// Leader epochs past the one that was asked with, and where they begin.
    pub starts: Vec<(LeaderEpoch, Offset)>,
}

/// What is left to do about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Nothing,
    /// Something was appended: once it is durable, the leader is to know.
    Appended,
    /// The log has to be cut: [`Replica::cut`].
    Cut(Cut),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Truncate(Offset),
    Reset(Offset),
}

/// Offsets that one empty batch stands for at most, and how many of them are made in a row.
const EMPTY_SPAN: i64 = 1 << 30;
const MOST_EMPTY: i64 = 64;
/// Between attempts to make producers' state again.
const REST: std::time::Duration = std::time::Duration::from_secs(1);

impl Replica {
    /// R10: what to ask for now, if anything. `Err`: not before then.
    pub fn next_fetch(&self, now: MonoMs) -> Result<Option<Asked>, MonoMs> {
        if self.cutting.get() || self.log.needs_repair().is_some() {
            return Ok(None);
        }
        let Part::Follower(follower) = &*self.part.borrow() else { return Ok(None) };
        match follower.next_fetch(&*self.log, &self.offsets(), now) {
            None => follower.rests_until().filter(|until| *until > now).map_or(Ok(None), Err),
            asked => Ok(asked),
        }
    }

    /// Whether the metadata has this broker in sync.
    pub fn is_in_sync(&self) -> bool {
        self.assignment.borrow().isr.contains(&self.host.broker)
    }

    /// Whether it is held, as a leader or follower on a broker, to what that may spend on replication.
    pub fn is_throttled(&self, role: Role, broker: BrokerId) -> bool {
        let config = self.config.borrow();
        let throttled = match role {
            Role::Leader => &config.leader_throttled,
            _ => &config.follower_throttled,
        };
        throttled.has(self.id.index, broker)
    }

    /// Takes of an answer what can be taken. What was asked is held against how things are now: late answers are nothing.
    pub fn on_answer(
        &self,
        store: &ShardLog,
        asked: &Asked,
        said: &Said,
        now: MonoMs,
    ) -> Result<Next, ReplicaAppendError> {
        self.host.set_now(now);
        let (given, seen) = match said {
            Said::Batches(given) => (Some(given), look_through(&given.records)),
            _ => (None, Vec::new()),
        };
        let heads: Vec<BatchSeen> = seen.iter().map(|(seen, _)| *seen).collect();
        let answer = match said {
            Said::Batches(given) => Answer::Batches {
                batches: &heads,
                high_watermark: given.high_watermark,
                log_start: given.log_start,
            },
            Said::Diverging(epoch, end) => Answer::Diverging(*epoch, *end),
            Said::OutOfRange { log_start, end } => Answer::OutOfRange { log_start: *log_start, end: *end },
            Said::Fenced => Answer::Fenced,
            Said::NotNow => Answer::NotNow,
        };
        let take = self.follow(|follower, replica, offsets| {
            if given.is_some() && !heads.is_empty() && store.check_disk().is_err() {
                follower.on_busy(now);
                return Take::Nothing;
            }
            follower.on_answer(asked, &answer, &*replica.log, offsets, now)
        });
        match (take, given) {
            (Take::Append(count), Some(given)) => {
                let appended = self.append_given(store, &seen[..count], &given.starts);
                if appended.is_err() {
                    self.follow(|follower, _, _| {
                        follower.on_refused();
                        Take::Nothing
                    });
                }
                appended.map(|()| Next::Appended)
            }
            (Take::Truncate { to, .. }, _) => Ok(Next::Cut(Cut::Truncate(to))),
            (Take::Reset { at }, _) => Ok(Next::Cut(Cut::Reset(at))),
            _ => Ok(Next::Nothing),
        }
    }

    /// The follower decides; its log's start and who reads here follow.
    fn follow(&self, step: impl FnOnce(&mut super::follower::Follower, &Self, &mut Offsets) -> Take) -> Take {
        let before = self.offsets();
        let mut offsets = before;
        let take = match &mut *self.part.borrow_mut() {
            Part::Follower(follower) => step(follower, self, &mut offsets),
            _ => return Take::Nothing,
        };
        self.offsets.set(offsets);
        if offsets.log_start() > before.log_start() {
            self.log.set_start_offset(offsets.log_start());
        }
        self.settle(offsets.high_watermark() > before.high_watermark(), false);
        take
    }

    fn append_given(
        &self,
        store: &ShardLog,
        batches: &[(BatchSeen, (BatchHeader, Bytes))],
        starts: &[(LeaderEpoch, Offset)],
    ) -> Result<(), ReplicaAppendError> {
        let (now, write_caching) = (rt::wall(), self.config.borrow().write_caching);
        for (_, (header, bytes)) in batches {
            for filler in self.fillers(header, starts)? {
                let header = BatchHeader::parse(&filler).expect("made here");
                let lsn = store.append_replica(&self.log, &header, filler)?;
                self.note_appended(lsn, write_caching);
            }
            let lsn = store.append_replica(&self.log, header, bytes.clone())?;
            let mut producers = self.producers.borrow_mut();
            match control::decode(bytes, header) {
                Some(marker) => producers.record_end(header, marker, now),
                None => producers.record(header, now),
            }
            drop(producers);
            self.note_appended(lsn, write_caching);
        }
        Ok(())
    }

    /// What stands for the offsets between the log's end and a batch: the leader's compaction has removed what was there. Each
    /// is of the epoch that the leader had there, so that both find the same epochs wherever they look.
    fn fillers(
        &self,
        next: &BatchHeader,
        starts: &[(LeaderEpoch, Offset)],
    ) -> Result<Vec<Bytes>, ReplicaAppendError> {
        let (mut at, base) = (self.log.end_offset().0, next.base_offset);
        if at >= base {
            return Ok(Vec::new());
        }
        if base - at > MOST_EMPTY * EMPTY_SPAN {
            return Err(ReplicaAppendError::NotNext { base_offset: Offset(base), end_offset: Offset(at) });
        }
        let known = self.log.latest_epoch();
        let within = |(epoch, start): &&(LeaderEpoch, Offset)| {
            known.is_none_or(|known| *epoch > known) && epoch.0 <= next.leader_epoch && start.0 < base
        };
        let mut epoch = known;
        let mut fillers = Vec::new();
        let mut fill = |at: &mut i64, until: i64, epoch: LeaderEpoch| {
            while *at < until {
                let to = until.min(at.saturating_add(EMPTY_SPAN));
                fillers.push(empty_batch(*at, to, epoch.0).freeze());
                *at = to;
            }
        };
        for (begins, start) in starts.iter().filter(within) {
            fill(&mut at, start.0.min(base), epoch.unwrap_or(*begins));
            epoch = Some(epoch.map_or(*begins, |epoch| epoch.max(*begins)));
        }
        fill(&mut at, base, epoch.unwrap_or(LeaderEpoch(next.leader_epoch)));
        Ok(fillers)
    }

    /// Cuts the log as the follower has decided. It takes nothing until this is over, and leads no sooner: `true`, if a term
    /// that waited for it has begun. Not to be dropped half-way.
    pub async fn cut(&self, store: &ShardLog, cut: Cut, now: impl Fn() -> MonoMs) -> Result<bool, LogError> {
        assert!(!self.cutting.replace(true), "a log is cut by one at a time");
        let before = self.log.end_offset();
        let epoch = self.leader_epoch();
        let cut_off = match cut {
            Cut::Truncate(to) => store.truncate(&self.log, to, epoch).await,
            Cut::Reset(at) => store.reset(&self.log, at, epoch).await,
        };
        let done = match cut_off {
            Ok(Truncated { producers, .. }) => Ok(producers),
            // It is cut, and only what is left was not read.
            Err(e) if self.log.end_offset() != before => self.producers_again(store, e).await,
            Err(e) => Err(e),
        };
        let done = done.map(|found| {
            let snapshot = found.snapshot.as_ref().map(|(_, state)| state.as_slice());
            self.follow_cut(cut);
            self.set_producers(Producers::rebuild(snapshot, &found.replayed, rt::wall()));
        });
        self.cutting.set(false);
        self.host.set_now(now());
        if let Part::Follower(follower) = &mut *self.part.borrow_mut() {
            match &done {
                Ok(()) => follower.on_cut(),
                Err(_) => follower.on_refused(),
            }
        }
        done?;
        let role = self.assignment.borrow().role_of(self.host.broker);
        let begins = role == Role::Leader && self.role() != role;
        if begins {
            self.take_part(store, role, true);
        }
        self.advance();
        self.rouse_watchers();
        Ok(begins)
    }

    async fn producers_again(
        &self,
        store: &ShardLog,
        mut why: LogError,
    ) -> Result<crate::log::Producers, LogError> {
        loop {
            if let Some(failed) = store.journal().failed() {
                return Err(JournalFailed(failed).into());
            }
            // The next life makes it again.
            if matches!(why, LogError::Removed) || store.is_closing() {
                return Err(why);
            }
            log::warn!("{}: producers' state after a truncation: {why}", self.id);
            rt::sleep(REST).await;
            match self.log.producers().await {
                Err(e) => why = e,
                found => return found,
            }
        }
    }

    /// Offsets and what waits for a commit are as the log is.
    fn follow_cut(&self, cut: Cut) {
        let (start, end) = (self.log.start_offset(), self.log.end_offset());
        let mut offsets = self.offsets.get();
        match cut {
            Cut::Reset(_) => offsets.restart(start),
            Cut::Truncate(_) if end < offsets.high_watermark() => {
                let committed = offsets.high_watermark();
                log::warn!(
                    "{}: offsets {end}..{committed} were committed, and the leader does not have them",
                    self.id
                );
                offsets.lose(end);
            }
            Cut::Truncate(_) => offsets.truncate(end),
        }
        let stays = |to: Offset| matches!(cut, Cut::Truncate(_)) && to <= end;
        self.underway.get().inspect(|underway| underway.cut(stays));
        self.offsets.set(offsets);
    }
}

/// The batches in `records`, as far as they are whole.
fn look_through(records: &Bytes) -> Vec<(BatchSeen, (BatchHeader, Bytes))> {
    let whole = BatchIter::new(records).map_while(Result::ok);
    let seen = whole.map(|(header, range)| {
        let bytes = records.slice(range);
        let seen = BatchSeen {
            base: Offset(header.base_offset),
            next: Offset(header.next_offset()),
            epoch: LeaderEpoch(header.leader_epoch),
            sound: header.last_offset_delta >= 0 && batch::check_stored(&bytes).is_ok(),
        };
        (seen, (header, bytes))
    });
    seen.collect()
}
