//! Reading partitions wherever they live: gather from each shard, and wait by watching high watermarks.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use super::Shard;
use super::located::{Located, Where};
use super::memory::LEAST_ANSWER;
use super::message::{Fetch, FetchEntry, FetchLimits, FetchResult, Source, Watch};
use super::wait::{LocalWait, RemoteWait};
use crate::model::{Offset, PartitionId};
use crate::partition::{ReadOutcome, Waiting};
use crate::rt::{self, Charge, First, mesh, race};

/// Ends a wait on every shard when the fetch is answered or dropped.
struct WaitGuard {
    local: Rc<LocalWait>,
    remote: Arc<AtomicBool>,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.local.end();
        self.remote.store(true, Ordering::Relaxed);
    }
}

impl Shard {
    /// Reads the entries, which may live on any shard; results come in their order, with the memory taken for them.
    /// Returns when `min_bytes` are there, an entry fails or diverges, or the wait is over; with less where memory is
    /// short, but never without anything of what there is.
    pub async fn fetch(
        self: &Rc<Self>,
        entries: &[FetchEntry],
        limits: FetchLimits,
    ) -> (Vec<FetchResult>, Charge) {
        let mut read = self.read_within(entries, limits.max_bytes).await;
        if read.is_complete(limits) || limits.max_wait.is_zero() {
            return read.done();
        }
        let mut deadline = pin!(rt::sleep(limits.max_wait));
        loop {
            // Whoever waits for records holds no memory.
            let seen = read.seen(entries);
            drop(read);
            let timed_out = self.wait_for_data(&seen, deadline.as_mut()).await;
            read = self.read_within(entries, limits.max_bytes).await;
            if timed_out || read.is_complete(limits) {
                return read.done();
            }
        }
    }

    /// Reads once, as much as there is memory for. What the cache holds is there already, and is charged when it is
    /// known how much it is; what comes from disk is charged before.
    async fn read_within(self: &Rc<Self>, entries: &[FetchEntry], max_bytes: usize) -> Read {
        let memory = &self.memory;
        let least = LEAST_ANSWER.min(max_bytes);
        let (granted, waited) = match memory.answers.offer(least, max_bytes) {
            Some(bytes) => (bytes, None),
            None => {
                let charge = memory.answer(least, max_bytes).await;
                (charge.bytes(), Some(charge))
            }
        };
        let results = self.gather(entries, granted, Source::Memory).await;
        let cold = self.cold_bytes(entries, &results);
        if cold == 0 {
            let mut charge = waited.unwrap_or_else(|| memory.answers.charge(0));
            charge.resize(total(&results));
            return Read { results, charge, granted };
        }
        drop((results, waited));
        let mut charge = memory.answer(cold.max(least), max_bytes.max(cold)).await;
        let granted = charge.bytes();
        let results = self.gather(entries, granted.min(max_bytes), Source::Disk).await;
        charge.resize(total(&results));
        Read { results, charge, granted }
    }

    /// What has to be read from disk at least, on every shard that has to.
    fn cold_bytes(&self, entries: &[FetchEntry], results: &[FetchResult]) -> usize {
        if results.iter().flatten().all(|outcome| outcome.cold == 0) {
            return 0;
        }
        let mut most = vec![0; self.me.count];
        for (entry, outcome) in entries.iter().zip(results) {
            let Some(shard) = self.shard_at(entry.partition.at) else { continue };
            most[shard] = outcome.as_ref().map_or(0, |outcome| outcome.cold).max(most[shard]);
        }
        most.iter().sum()
    }

    async fn gather(
        self: &Rc<Self>,
        entries: &[FetchEntry],
        max_bytes: usize,
        source: Source,
    ) -> Vec<FetchResult> {
        if entries.iter().all(|entry| entry.partition.at == Where::Here) {
            return self.read_local(entries, max_bytes, source).await;
        }
        let parts = self.split(entries);
        // What all of them bring at once has to fit.
        let each = if source == Source::Disk { max_bytes / parts.len().max(1) } else { max_bytes };
        let read = |entries| Fetch { entries, max_bytes: each, source };
        trim(self.ask_parts(entries, parts, read).await, max_bytes)
    }

    /// Reads this shard's partitions, in order, until the bytes are used up. The first that has anything returns at
    /// least one whole batch.
    pub(super) async fn read_local(
        &self,
        entries: &[FetchEntry],
        max_bytes: usize,
        source: Source,
    ) -> Vec<FetchResult> {
        let mut left = max_bytes;
        let mut at_least_one = true;
        let mut results = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut position = entry.position;
            position.max_bytes = position.max_bytes.min(left);
            let result = match self.held(entry.partition.id) {
                Err(e) => Err(e),
                Ok(replica) => match replica.read_cached(&position, at_least_one) {
                    Ok(Some(outcome)) => Ok(outcome),
                    Ok(None) => match source {
                        Source::Memory => replica.find_cold(&position).await,
                        Source::Disk => replica.read(&position, at_least_one).await,
                    },
                    Err(e) => Err(e),
                },
            };
            if let Ok(outcome) = &result {
                let bytes = outcome.bytes();
                at_least_one &= bytes == 0;
                left = left.saturating_sub(bytes);
            }
            results.push(result);
        }
        results
    }

    /// Waits until a partition has more than was read of it. Returns whether the time ran out instead.
    async fn wait_for_data(
        self: &Rc<Self>,
        watched: &[(Located, Offset)],
        deadline: Pin<&mut rt::Sleep>,
    ) -> bool {
        let guard = WaitGuard { local: Rc::default(), remote: Arc::default() };
        let mut remote = Vec::new();
        for (shard, part) in self.split(watched) {
            let part = part.into_iter().map(|(at, above)| (at.id, above));
            if shard == self.me.shard {
                self.watch_local(part, guard.local.clone());
            } else {
                let request = Watch { partitions: part.collect(), over: guard.remote.clone() };
                remote.push(self.port.call(shard, request));
            }
        }
        let told = std::future::poll_fn(|cx| {
            match remote.iter_mut().any(|call| Pin::new(call).poll(cx).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let data = race(guard.local.fired(), told);
        !matches!(race(self.stopped(), race(data, deadline)).await, First::B(First::A(_)))
    }

    fn watch_local(&self, partitions: impl Iterator<Item = (PartitionId, Offset)>, waiting: Rc<dyn Waiting>) {
        for (partition, above) in partitions {
            match self.replica(partition) {
                Some(replica) => replica.watch(above, waiting.clone()),
                None => waiting.fire(),
            }
        }
    }

    pub(super) fn watch_for(&self, to: mesh::To<Watch>, Watch { partitions, over }: Watch) {
        let waiting = Rc::new(RemoteWait { port: self.port.clone(), to: Cell::new(Some(to)), over });
        self.watch_local(partitions.into_iter(), waiting);
    }
}

/// What one reading brought.
struct Read {
    results: Vec<FetchResult>,
    charge: Charge,
    /// Bytes that there was memory for; less than was asked for where it is short.
    granted: usize,
}

impl Read {
    fn is_complete(&self, limits: FetchLimits) -> bool {
        // An answer of whole batches that memory cut short is at least half of what there was memory for.
        let most = if self.granted < limits.max_bytes { (self.granted / 2).max(1) } else { usize::MAX };
        is_complete(&self.results, limits.min_bytes.min(most))
    }

    /// The partitions that were read, each with the offset above which there is something new.
    fn seen(&self, entries: &[FetchEntry]) -> Vec<(Located, Offset)> {
        let read = entries.iter().zip(&self.results);
        read.filter_map(|(e, result)| Some((e.partition, result.as_ref().ok()?.high_watermark))).collect()
    }

    fn done(self) -> (Vec<FetchResult>, Charge) {
        (self.results, self.charge)
    }
}

fn total(results: &[FetchResult]) -> usize {
    results.iter().flatten().map(ReadOutcome::bytes).sum()
}

fn is_complete(results: &[FetchResult], min_bytes: usize) -> bool {
    let mut bytes = 0;
    for result in results {
        match result {
            Ok(outcome) if outcome.diverging.is_none() => bytes += outcome.bytes(),
            _ => return true,
        }
    }
    bytes >= min_bytes
}

/// Cuts what several shards returned to one request's limit: whole batches, the first of all even if it is larger.
fn trim(mut results: Vec<FetchResult>, max_bytes: usize) -> Vec<FetchResult> {
    let mut used = 0;
    for outcome in results.iter_mut().flatten() {
        let fits = outcome.batches.iter().take_while(|batch| {
            let fits = used == 0 || used + batch.len() <= max_bytes;
            used += if fits { batch.len() } else { 0 };
            fits
        });
        let fits = fits.count();
        outcome.batches.truncate(fits);
    }
    results
}
