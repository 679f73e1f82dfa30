//! Reading partitions wherever they live: gather from each shard, and wait by watching high watermarks.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::Shard;
use super::message::{FetchEntry, FetchResult, Reply, Request};
use super::wait::{LocalWait, RemoteWait};
use crate::model::PartitionId;
use crate::partition::{ReadError, Waiting};
use crate::rt::{self, mesh};

/// How long to wait for how much.
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    pub max_wait: Duration,
    pub min_bytes: usize,
    pub max_bytes: usize,
}

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
    /// Reads the entries, which may live on any shard; results come in their order. Returns when `min_bytes` are
    /// there, an entry fails or diverges, or the wait is over.
    pub async fn fetch(self: &Rc<Self>, entries: &[FetchEntry], limits: FetchLimits) -> Vec<FetchResult> {
        let mut results = self.gather(entries, limits.max_bytes).await;
        if is_complete(&results, limits.min_bytes) || limits.max_wait.is_zero() {
            return results;
        }
        let mut deadline = pin!(rt::sleep(limits.max_wait));
        loop {
            let timed_out = self.wait_for_data(entries, &results, deadline.as_mut()).await;
            results = self.gather(entries, limits.max_bytes).await;
            if timed_out || is_complete(&results, limits.min_bytes) {
                return results;
            }
        }
    }

    async fn gather(self: &Rc<Self>, entries: &[FetchEntry], max_bytes: usize) -> Vec<FetchResult> {
        if entries.iter().all(|e| self.owns(e.partition)) {
            return self.read_local(entries, max_bytes).await;
        }
        let groups = self.by_owner(entries, |e| e.partition);
        let calls = groups.iter().map(|(owner, group)| {
            (*owner != self.index).then(|| {
                let entries = group.iter().map(|e| **e).collect();
                self.port.call(*owner, Request::Fetch { entries, max_bytes })
            })
        });
        let calls: Vec<_> = calls.collect();
        let mut by_owner: Vec<VecDeque<FetchResult>> = (0..self.count).map(|_| VecDeque::new()).collect();
        for ((owner, group), call) in groups.iter().zip(calls) {
            let results = match call {
                None => {
                    let own: Vec<FetchEntry> = group.iter().map(|e| **e).collect();
                    self.read_local(&own, max_bytes).await
                }
                Some(call) => match call.await {
                    Reply::Fetch(results) => results,
                    _ => unreachable!("a fetch is answered with a fetch"),
                },
            };
            by_owner[*owner] = results.into();
        }
        let in_order = entries.iter().map(|e| {
            by_owner[self.owner(e.partition)].pop_front().unwrap_or(Err(ReadError::UnknownPartition))
        });
        trim(in_order.collect(), max_bytes)
    }

    /// Reads this shard's partitions, in order, until the bytes are used up. The first that has anything returns at
    /// least one whole batch.
    pub(super) async fn read_local(&self, entries: &[FetchEntry], max_bytes: usize) -> Vec<FetchResult> {
        let mut left = max_bytes;
        let mut at_least_one = true;
        let mut results = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut position = entry.position;
            position.max_bytes = position.max_bytes.min(left);
            let result = match self.replica(entry.partition) {
                None => Err(ReadError::UnknownPartition),
                Some(replica) => match replica.read_cached(&position, at_least_one) {
                    Ok(Some(outcome)) => Ok(outcome),
                    Ok(None) => replica.read(&position, at_least_one).await,
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
        entries: &[FetchEntry],
        seen: &[FetchResult],
        mut deadline: std::pin::Pin<&mut rt::Sleep>,
    ) -> bool {
        let guard = WaitGuard { local: Rc::default(), remote: Arc::default() };
        let watched = entries.iter().zip(seen).filter_map(|(entry, result)| {
            let read = result.as_ref().ok()?;
            Some((entry.partition, read.high_watermark))
        });
        let watched: Vec<(PartitionId, i64)> = watched.collect();
        let mut remote = Vec::new();
        for (owner, group) in self.by_owner(&watched, |w| w.0) {
            let group = group.into_iter().copied();
            if owner == self.index {
                self.watch_local(group, guard.local.clone());
            } else {
                let request = Request::Watch { partitions: group.collect(), over: guard.remote.clone() };
                remote.push(self.port.call(owner, request));
            }
        }
        let mut local = pin!(guard.local.fired());
        let mut stop = self.stop.listen();
        if self.is_stopping() {
            return true;
        }
        std::future::poll_fn(|cx| {
            if std::pin::Pin::new(&mut stop).poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            let data = local.as_mut().poll(cx).is_ready()
                || remote.iter_mut().any(|call| std::pin::Pin::new(call).poll(cx).is_ready());
            if data {
                return Poll::Ready(false);
            }
            deadline.as_mut().poll(cx).map(|()| true)
        })
        .await
    }

    fn watch_local(&self, partitions: impl Iterator<Item = (PartitionId, i64)>, waiting: Rc<dyn Waiting>) {
        for (partition, above) in partitions {
            match self.replica(partition) {
                Some(replica) => replica.watch(above, waiting.clone()),
                None => waiting.fire(),
            }
        }
    }

    pub(super) fn watch_for(
        &self,
        from: mesh::From,
        partitions: Vec<(PartitionId, i64)>,
        over: Arc<AtomicBool>,
    ) {
        let waiting = Rc::new(RemoteWait { port: self.port.clone(), from: Cell::new(Some(from)), over });
        self.watch_local(partitions.into_iter(), waiting);
    }
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
