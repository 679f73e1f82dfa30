//! Ends of transactions on their way: what `coordinator::txn::marking` decides is written here, or by the brokers that lead.

use std::rc::Rc;
use std::time::Duration;

use super::Shard;
use super::links::Purpose;
use super::located::Where;
use super::message::{EndEntry, EndResult, ProduceError};
use super::txn_codec;
use crate::coordinator::txn::marking::{Act, Coordinator, Leader, Marker, Marking, Outcome, Round};
use crate::coordinator::txn::{self, Partition, Transactions};
use crate::model::{BrokerId, LeaderEpoch, PartitionId};
use crate::partition::{AppendError, EndOfTxn};
use crate::rt::{self, race};
use crate::wire::control::EndMarker;

/// How long another broker may take for its markers: longer than it gives them ([`super::markers::LONGEST`]).
const ANSWER: Duration = Duration::from_secs(8);

/// Carries out what a coordinator decided.
pub(super) fn perform(
    shard: &Rc<Shard>,
    (partition, epoch): (PartitionId, LeaderEpoch),
    command: txn::Command,
) {
    let by = Coordinator { partition, epoch };
    shard.mark(|marking, round| marking.begin(by, command, round));
}

impl Shard {
    /// Gives the ends one event, and does what comes of it.
    fn mark(self: &Rc<Self>, event: impl FnOnce(&mut Marking, &mut Round<'_>)) {
        let image = self.image();
        let leader = |(topic, index): &Partition| {
            let Some(located) = image.topic(topic).and_then(|topic| self.leader_of(topic, *index)) else {
                return Leader::Gone;
            };
            match located.at {
                Where::Here | Where::Shard(_) => Leader::Broker(self.me.broker),
                Where::Broker(broker) => Leader::Broker(broker),
                Where::Nobody => Leader::Nobody,
            }
        };
        let mut round = Round { now: self.now().0, leader: &leader, acts: Vec::new() };
        self.ends.step(|marking| event(marking, &mut round));
        for act in round.acts {
            match act {
                Act::Send { to, markers } => drop(rt::spawn(self.clone().send_markers(to, markers))),
                Act::Done { by, id, producer } => {
                    let marked = txn::Request::Marked { id, producer };
                    rt::spawn(self.clone().tell::<Transactions>((by.partition, by.epoch), marked));
                }
                Act::GivenUp { id, partition } => {
                    log::warn!("{id}: {}-{} refuses its marker", partition.0, partition.1);
                }
                Act::Late { id, partition, tries } => {
                    log::warn!("{id}: no marker yet for {}-{} after {tries} tries", partition.0, partition.1);
                }
            }
        }
    }

    async fn send_markers(self: Rc<Self>, to: BrokerId, markers: Vec<Marker>) {
        let outcomes = match to == self.me.broker {
            true => self.write_markers(&markers).await,
            false => self.have_markers_written(to, &markers).await,
        };
        self.mark(|marking, round| marking.answered(to, markers.into_iter().zip(outcomes), round));
    }

    /// Writes markers to partitions that are led here.
    async fn write_markers(self: &Rc<Self>, markers: &[Marker]) -> Vec<Outcome> {
        let image = self.image();
        let located = |marker: &Marker| {
            let (topic, index) = &marker.partition;
            let partition = image.topic(topic).and_then(|topic| self.leader_of(topic, *index))?;
            Some(EndEntry { partition, end: end(marker) })
        };
        let located: Vec<Option<EndEntry>> = markers.iter().map(located).collect();
        let entries: Vec<EndEntry> = located.iter().copied().flatten().collect();
        let mut results = self.end_transactions(&entries, None).await.into_iter();
        let each = located.into_iter().zip(markers).map(|(entry, marker)| {
            let result = entry.and_then(|_| results.next());
            result.map_or(Outcome::Again, |result| outcome(result, marker))
        });
        each.collect()
    }

    /// Has another broker write markers to partitions that it leads.
    async fn have_markers_written(self: &Rc<Self>, to: BrokerId, markers: &[Marker]) -> Vec<Outcome> {
        let request = txn_codec::markers(markers);
        let asked = async {
            let link = self.calls_to(to, Purpose::Markers).await?;
            link.call(&request, txn_codec::MARKERS, ANSWER).await
        };
        match asked.await {
            Ok(response) => txn_codec::outcomes(markers, &response),
            Err(why) => {
                log::debug!("{} markers are not written by broker {to} yet: {why}", markers.len());
                vec![Outcome::Again; markers.len()]
            }
        }
    }

    /// Tries again what could not be written, in time.
    pub(super) async fn run_marking(self: Rc<Self>) {
        loop {
            let changed = self.ends.changed();
            let next = self.ends.next_at();
            match next.map(|at| at - self.now().0) {
                None => changed.await,
                Some(wait) if wait > 0 => {
                    race(changed, rt::sleep(Duration::from_millis(wait as u64))).await;
                }
                // What is not written by now the next start does.
                Some(_) if self.is_stopping() || self.store().journal().failed().is_some() => return,
                Some(_) => self.mark(|marking, round| marking.tick(round)),
            }
        }
    }
}

fn end(marker: &Marker) -> EndOfTxn {
    let end = &marker.end;
    EndOfTxn {
        producer: end.producer,
        marker: EndMarker { commit: end.commit, coordinator_epoch: end.coordinator_epoch.0 },
        version: end.version.level(),
    }
}

fn outcome(result: EndResult, marker: &Marker) -> Outcome {
    match result {
        Ok(_) => Outcome::Written,
        Err(ProduceError::Append(AppendError::Producer(why))) => {
            log::warn!("{}-{}: {why}", marker.partition.0, marker.partition.1);
            Outcome::Refused
        }
        Err(why) => {
            log::debug!("no marker yet for {}-{}: {why}", marker.partition.0, marker.partition.1);
            Outcome::Again
        }
    }
}
