//! Carrying out a pass: slices of segments are read on the shard and worked on by a helper thread, with rests between
//! them while the shard has other work.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::log::error::is_out_of_files;
use crate::log::segment::{Segment, SegmentMeta};
use crate::log::{LogError, PartitionLog};
use crate::model::{Offset, WallMs};
use crate::rt;
use crate::wire::batch::{BatchHeader, BatchIter};

use super::files::{Output, Slice, Slices};
use super::filter::{self, Kept, Rules, Scratch};
use super::offsets::OffsetMap;
use super::transactions::Transactions;
use super::{AbortedTransaction, Bounds, Candidate, Policy, plan};

/// The longest rest after a slice.
const MAX_REST: Duration = Duration::from_millis(50);
/// How often a pass that is held back by its rate looks whether it still is.
const MAX_STEP: Duration = Duration::from_millis(500);

/// What a pass may use, and how it knows when to hold back.
pub struct Work<'a> {
    /// Bytes for the map of keys.
    pub map_bytes: usize,
    /// A count that moves while the shard serves.
    pub activity: &'a dyn Fn() -> u64,
    /// Bytes that may be read and written a second; `u64::MAX` for no limit.
    pub rate: &'a dyn Fn() -> u64,
    pub stop: &'a dyn Fn() -> bool,
}

/// What one pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub records_read: u64,
    pub records_kept: u64,
    pub segments_replaced: u64,
    /// Where the compacted part ends now.
    pub end: Offset,
    /// Abort markers, by offset, whose transactions the log has nothing of any more.
    pub outlived: Vec<Offset>,
    /// The map was full before the end: there is more to do.
    pub more: bool,
}

/// Lets the next pass begin when one ends, however it ends.
struct Running<'a>(&'a PartitionLog);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.compaction().state().running.set(false);
    }
}

impl PartitionLog {
    /// Whether there is something to compact, and what. `None` also while the last pass waits for its checkpoint.
    pub async fn compaction_candidate(
        &self,
        limit: Offset,
        policy: &Policy,
        now: WallMs,
    ) -> Option<Candidate> {
        let state = self.compaction();
        let blocked = state.is_running() || state.is_stopped() || state.failed().is_some();
        if !policy.compact || blocked || self.needs_repair().is_some() {
            return None;
        }
        if !self.is_whole().await || !state.is_settled() {
            return None;
        }
        if self.sealed_segments().is_empty() || self.is_cut_halfway() {
            return None;
        }
        let point = self.first_dirty().await;
        // A point past the end is of another log; this one has not been compacted.
        let first_dirty = if point > self.end_offset().0 { 0 } else { point }.max(self.start_offset().0);
        let sealed: Vec<SegmentMeta> = self.sealed_segments().iter().map(|s| s.meta()).collect();
        plan::candidate(&sealed, Offset(first_dirty), limit, policy, now)
    }

    /// Compacts once. `candidate` was found before the last checkpoint, which therefore lists its segments as they are.
    pub async fn compact(
        self: &Rc<Self>,
        candidate: Candidate,
        bounds: Bounds,
        policy: &Policy,
        work: &Work<'_>,
    ) -> Result<Passed, LogError> {
        self.compaction().state().running.set(true);
        let _running = Running(self);
        let rules = Rules {
            now: rt::wall(),
            delete_retention_ms: policy.delete_retention_ms,
            last_batches: bounds.last_batches,
            round_end: candidate.end,
        };
        let map = OffsetMap::new(work.map_bytes);
        let pass = Pass { log: self, work, candidate, aborted: &bounds.aborted, rules, policy };
        let done = pass.run(map).await;
        match &done {
            Err(LogError::Corrupt { .. }) => {
                let why = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
                log::error!("{why}; {} is not compacted until the next start", self.dir().display());
                *self.compaction().state().failed.borrow_mut() = Some(why.into());
            }
            Err(LogError::Removed) => return Ok(Passed::default()),
            _ => {}
        }
        done
    }

    /// Why this log is not compacted any more, if so.
    pub fn compaction_failed(&self) -> Option<std::sync::Arc<str>> {
        self.compaction().failed()
    }
}

/// What became of a group of segments.
#[derive(Clone, Copy)]
enum Cleaned {
    Done,
    /// It has to be done in smaller parts; nothing has changed.
    TooMuch,
}

struct Pass<'a> {
    log: &'a Rc<PartitionLog>,
    work: &'a Work<'a>,
    candidate: Candidate,
    aborted: &'a [AbortedTransaction],
    rules: Rules,
    policy: &'a Policy,
}

/// What the helper thread works with, there and back.
struct Bench {
    map: OffsetMap,
    transactions: Transactions,
    rules: Rules,
    scratch: Scratch,
    from: Offset,
    full: bool,
    out: Vec<u8>,
    changed: bool,
    read: u64,
    kept: u64,
}

impl Pass<'_> {
    async fn run(&self, map: OffsetMap) -> Result<Passed, LogError> {
        let (mut passed, cut) = (Passed::default(), self.log.last_cut());
        let segments: Vec<Rc<Segment>> = self
            .log
            .sealed_segments()
            .into_iter()
            .filter(|s| Offset(s.meta().next_offset) <= self.candidate.end)
            .collect();
        let mut bench = Bench {
            map,
            transactions: Transactions::new(self.aborted),
            rules: self.rules.clone(),
            scratch: Scratch::new(self.log.resources().largest_records()),
            from: self.candidate.first_dirty,
            full: false,
            out: Vec::new(),
            changed: false,
            read: 0,
            kept: 0,
        };
        for segment in segments.iter().filter(|s| Offset(s.meta().next_offset) > self.candidate.first_dirty) {
            bench = self.gather(segment, bench, &mut passed).await?;
            if bench.full {
                break;
            }
            bench.map.advance(segment.meta().next_offset - 1);
        }
        let done = bench.map.latest() + 1;
        passed.more = Offset(done) < self.candidate.end;
        bench.transactions = Transactions::new(self.aborted);
        let mut rest: VecDeque<Rc<Segment>> =
            segments.into_iter().filter(|s| s.base_offset() < done).collect();
        let metas: Vec<SegmentMeta> = rest.iter().map(|s| s.meta()).collect();
        for group in plan::groups(&metas, self.policy.segment_bytes) {
            // Who has been replaced is let go of: its file is open until then.
            let group = rest.drain(..group.len()).collect();
            bench = self.clean_group(group, bench, &mut passed).await?;
        }
        (passed.records_read, passed.records_kept) = (bench.read, bench.kept);
        passed.outlived = bench.transactions.take_outlived();
        passed.end = Offset(done);
        self.log.set_first_dirty(done, cut).await;
        Ok(passed)
    }

    /// Notes the keys of one segment.
    async fn gather(
        &self,
        segment: &Rc<Segment>,
        mut bench: Bench,
        passed: &mut Passed,
    ) -> Result<Bench, LogError> {
        let mut slices = Slices::of(segment).await?;
        // What lies before the dirty part has been noted in an earlier pass, but transactions may begin there.
        while let Some(slice) = slices.next().await? {
            passed.bytes_read += slice.bytes.len() as u64;
            bench = self.bench(segment, slice, bench, Bench::index).await?;
            if bench.full {
                break;
            }
        }
        Ok(bench)
    }

    /// Cleans a group as one, or in parts where that does not go.
    async fn clean_group(
        &self,
        group: Vec<Rc<Segment>>,
        mut bench: Bench,
        passed: &mut Passed,
    ) -> Result<Bench, LogError> {
        let mut parts = vec![group];
        while let Some(mut part) = parts.pop() {
            let cleaned;
            (bench, cleaned) = self.clean(&part, bench, passed).await?;
            if let Cleaned::TooMuch = cleaned {
                parts.push(part.split_off(part.len() / 2));
                parts.push(part);
            }
        }
        Ok(bench)
    }

    /// Filters a group of segments into one and puts it in their place. A single segment that would grow beyond what
    /// a segment may have stays as it is.
    async fn clean(
        &self,
        group: &[Rc<Segment>],
        mut bench: Bench,
        passed: &mut Passed,
    ) -> Result<(Bench, Cleaned), LogError> {
        let before = (bench.transactions.clone(), bench.read, bench.kept);
        let mut output = Output::create(self.log, group, self.policy.most_bytes)?;
        bench.changed = group.len() > 1;
        for segment in group {
            let mut slices = Slices::of(segment).await?;
            while let Some(slice) = slices.next().await? {
                passed.bytes_read += slice.bytes.len() as u64;
                bench = self.bench(segment, slice, bench, Bench::filter).await?;
                if output.is_over(bench.out.len()) {
                    if group.len() > 1 {
                        (bench.transactions, bench.read, bench.kept) = before;
                        return Ok((bench, Cleaned::TooMuch));
                    }
                    // The transactions in it are still followed to its end.
                    continue;
                }
                passed.bytes_written += bench.out.len() as u64;
                output.push(&bench.out).await?;
            }
        }
        if output.is_over(0) {
            log::warn!("{}: it would grow too large and is left as it is", group[0].path().display());
            bench.kept = before.2 + bench.read - before.1;
            return Ok((bench, Cleaned::Done));
        }
        if !bench.changed {
            return Ok((bench, Cleaned::Done));
        }
        let new = output.finish(group).await?;
        // From here on the file may be the log, whatever becomes of this task.
        output.kept = new.is_some();
        let replaced = self.log.replace(group, new).await;
        if !matches!(replaced, Ok(true)) {
            output.kept &= self.log.compaction().is_halfway();
        }
        match replaced {
            Ok(true) => {}
            Ok(false) => return Err(LogError::Removed),
            // All of a group have to be open at once.
            Err(LogError::Io { source, .. })
                if is_out_of_files(&source) && group.len() > 1 && !self.log.compaction().is_halfway() =>
            {
                (bench.transactions, bench.read, bench.kept) = before;
                return Ok((bench, Cleaned::TooMuch));
            }
            Err(e) => return Err(e),
        }
        passed.segments_replaced += group.len() as u64;
        Ok((bench, Cleaned::Done))
    }

    /// Has the helper thread work on a slice; rests as long as that took if the shard was busy meanwhile.
    async fn bench(
        &self,
        segment: &Rc<Segment>,
        slice: Slice,
        mut bench: Bench,
        job: fn(&mut Bench, &Bytes) -> Result<(), usize>,
    ) -> Result<Bench, LogError> {
        if (self.work.stop)() || segment.is_history() {
            return Err(LogError::Removed);
        }
        let (began, activity) = (rt::now(), (self.work.activity)());
        let position = slice.extents[0].position;
        let bytes = slice.bytes.len();
        let expected = bench.expected(&slice.bytes);
        let memory = self.log.resources().work().take(expected, expected).await;
        let work = move || {
            let problem = slice.check().and_then(|()| job(&mut bench, &slice.bytes)).err();
            bench.scratch.shrink();
            (bench, problem)
        };
        let ((bench, problem), memory) = rt::blocking_within(memory, work).await;
        drop(memory);
        if let Some(at) = problem {
            let what = "its batches are not what was written; the log is left as it is";
            return Err(LogError::corrupt(segment.path(), u64::from(position) + at as u64, what));
        }
        match (self.work.activity)() == activity {
            true => rt::yield_now().await,
            false => rt::sleep(began.elapsed().min(MAX_REST)).await,
        }
        // Only filtering leaves something to be written.
        self.keep_to_rate(began, bytes + bench.out.len()).await;
        Ok(bench)
    }

    /// Rests until so many bytes may have been read and written since then; a stop or another rate holds at once.
    async fn keep_to_rate(&self, since: Instant, bytes: usize) {
        while !(self.work.stop)() {
            let left = time_of(bytes, (self.work.rate)()).saturating_sub(since.elapsed());
            if left.is_zero() {
                return;
            }
            rt::sleep(left.min(MAX_STEP)).await;
        }
    }
}

/// How long so many bytes take at this rate.
fn time_of(bytes: usize, rate: u64) -> Duration {
    match rate {
        u64::MAX => Duration::ZERO,
        rate => Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64),
    }
}

impl Bench {
    fn batches(bytes: &Bytes) -> impl Iterator<Item = Result<(BatchHeader, Bytes), usize>> + '_ {
        let mut batches = BatchIter::new(bytes);
        std::iter::from_fn(move || {
            let at = batches.position();
            Some(batches.next()?.map(|(header, range)| (header, bytes.slice(range))).map_err(|_| at))
        })
    }

    /// What work on a slice probably takes: its largest batch, opened, and what is written of it.
    fn expected(&self, bytes: &Bytes) -> usize {
        let batches = BatchIter::new(bytes).map_while(Result::ok);
        let opened = batches.map(|(header, range)| self.scratch.expected(&bytes[range], &header)).max();
        bytes.len() + opened.unwrap_or(0)
    }

    fn index(&mut self, bytes: &Bytes) -> Result<(), usize> {
        for batch in Self::batches(bytes) {
            let (header, batch) = batch?;
            let Self { map, transactions, scratch, from, .. } = self;
            if !filter::index(&batch, &header, from.0, map, transactions, scratch) {
                self.full = true;
                break;
            }
        }
        Ok(())
    }

    fn filter(&mut self, bytes: &Bytes) -> Result<(), usize> {
        self.out.clear();
        for batch in Self::batches(bytes) {
            let (header, batch) = batch?;
            let Self { map, transactions, rules, scratch, out, .. } = self;
            let outcome = filter::filter(&batch, &header, map, transactions, rules, scratch, out);
            self.changed |= outcome.kept != Kept::AsItWas;
            self.read += u64::from(outcome.records_read);
            self.kept += u64::from(outcome.records_kept);
        }
        Ok(())
    }
}
