//! What becomes of the metadata: requests to records, by `(image, request) → (records, answer)`. Pure.
//!
//! ```text
//! request ─▶ decide on the image with all that was proposed ─▶ records, proposed at an offset
//!                                                          └▶ answer, held until that offset is committed
//! committed ─▶ the image as of then, what changed, the answers that waited        lost ─▶ the answers say so
//! ```
//! Invariants: what was decided is decided on everything proposed before it; no answer is given, and no image handed out, that
//! rests on what is not committed.

pub mod brokers;
mod decide;
mod desk;
mod internal;
pub mod rebuild;
pub mod request;
mod rules;

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

pub use brokers::{
    AlterPartitions, Heard, Heartbeat, IsrChange, IsrRefusal, PartitionState, Registration, register,
};
pub use desk::{Desk, occupied};
pub use internal::internal_topic;
pub use request::{
    ConfigChange, ConfigOp, ConfigResource, ControlError, ControlErrorKind, ControlReply, ControlRequest,
    Elected, Moving, NewPartitions, NewTopic, ProducerIdBlock, QuotaChange, Reassignment, TopicRef,
};
pub use rules::Rules;

use crate::metadata::names::check_topic_name;
use crate::metadata::quorum::Commit;
use crate::metadata::records::Record;
use crate::metadata::{Delta, Image};
use crate::model::limits::MAX_PARTITIONS_PER_REQUEST;
use crate::model::{BrokerSettings, MonoMs, TopicId};
use decide::{Decision, Outcome};

/// The controller, whoever the answers go to.
pub struct Controller<To> {
    settings: BrokerSettings,
    committed: Arc<Image>,
    /// With everything that was proposed.
    proposed: Arc<Image>,
    pending: VecDeque<Pending<To>>,
    /// The quorum's leader's, which this controller leads by.
    epoch: i32,
}

/// A change that was proposed and is not committed.
struct Pending<To> {
    epoch: i32,
    /// With the change; its version is the offset.
    image: Arc<Image>,
    delta: Delta,
    answers: Vec<(To, ControlReply)>,
}

/// What is to be done about a request.
pub struct Step<To> {
    /// Changes to be proposed, one after another: the next ones.
    pub propose: Vec<Vec<Record>>,
    /// Answers that wait for nothing.
    pub answers: Vec<(To, ControlReply)>,
}

/// What a commit has brought.
pub struct Settled<To> {
    pub image: Arc<Image>,
    pub delta: Delta,
    pub answers: Vec<(To, ControlReply)>,
}

/// A directory below `topics/`: a topic's name and a partition's number.
pub type Place = (String, i32);

impl<To> Controller<To> {
    pub fn new(image: Arc<Image>, settings: BrokerSettings) -> Self {
        Self { settings, proposed: image.clone(), committed: image, pending: VecDeque::new(), epoch: 0 }
    }

    /// This controller leads in a new epoch: what it proposes from now on is of that.
    pub fn lead(&mut self, epoch: i32) {
        assert!(self.pending.is_empty(), "what was proposed in another epoch is lost");
        self.epoch = epoch;
    }

    /// As of the last commit.
    pub fn image(&self) -> &Arc<Image> {
        &self.committed
    }

    /// The places of the partitions that a request would make, and of some that it asks for in vain.
    pub fn places(&self, request: &ControlRequest) -> Vec<Place> {
        let mut places = Vec::new();
        let mut add = |name: &str, indexes: Range<i32>| {
            let most = MAX_PARTITIONS_PER_REQUEST.saturating_sub(places.len());
            places.extend(indexes.take(most).map(|index| (name.to_owned(), index)));
        };
        match request {
            ControlRequest::CreateTopics { topics, validate_only: false } => {
                let is_new =
                    |name: &str| check_topic_name(name).is_ok() && self.proposed.topic(name).is_none();
                for topic in topics.iter().filter(|topic| is_new(&topic.name)) {
                    let count = match topic.partitions {
                        _ if !topic.assignments.is_empty() => topic.assignments.len() as i32,
                        -1 => self.settings.num_partitions,
                        count => count,
                    };
                    add(&topic.name, 0..count);
                }
            }
            ControlRequest::CreatePartitions { topics, validate_only: false } => {
                for wanted in topics {
                    let Some(topic) = self.proposed.topic(&wanted.topic) else { continue };
                    add(&topic.name, topic.partitions.len() as i32..wanted.total);
                }
            }
            _ => {}
        }
        places
    }

    /// Names of topics that what is proposed deletes.
    pub fn deleting(&self) -> impl Iterator<Item = &str> {
        self.pending.iter().flat_map(|pending| pending.delta.deleted.values()).map(|topic| &*topic.name)
    }

    /// Decides a request. `occupied` are those of [`Self::places`] that have files of something else.
    pub fn handle(
        &mut self,
        to: To,
        request: &ControlRequest,
        now: MonoMs,
        new_id: &mut dyn FnMut() -> TopicId,
        occupied: &BTreeSet<Place>,
    ) -> Step<To> {
        let _ = now;
        let taken =
            |topic: &str, index| !occupied.is_empty() && occupied.contains(&(topic.to_owned(), index));
        let Decision { records, outcome, validate_only } =
            decide::decide(&self.proposed, &self.settings, request, new_id, &taken);
        if records.is_empty() {
            return self.hold(to, reply(&self.proposed, outcome));
        }
        match self.proposed.with(&records) {
            Err(error) => {
                let error = ControlError::new(ControlErrorKind::InvalidRequest, error.to_string());
                self.hold(to, ControlReply::Failed(error))
            }
            Ok((image, _)) if validate_only => self.hold(to, reply(&image, outcome)),
            Ok((image, delta)) => {
                let image = Arc::new(image);
                let answers = vec![(to, reply(&image, outcome))];
                self.proposed = image.clone();
                self.pending.push_back(Pending { epoch: self.epoch, image, delta, answers });
                Step { propose: vec![records], answers: Vec::new() }
            }
        }
    }

    /// Does what time asks for: to be called about every half second, after what has arrived was handled.
    pub fn tick(&mut self, now: MonoMs) -> Step<To> {
        let _ = now;
        Step { propose: Vec::new(), answers: Vec::new() }
    }

    /// What an answer says may rest on what is proposed: it is given once that is committed.
    fn hold(&mut self, to: To, reply: ControlReply) -> Step<To> {
        let answers = match self.pending.back_mut() {
            Some(last) => {
                last.answers.push((to, reply));
                Vec::new()
            }
            None => vec![(to, reply)],
        };
        Step { propose: Vec::new(), answers }
    }

    /// Changes are committed, in this order: what this controller proposed, or what others did.
    ///
    /// # Panics
    /// If a change contradicts the image: whoever committed it has applied it to the same one.
    pub fn on_committed(&mut self, commits: &[Commit]) -> Settled<To> {
        let mut settled =
            Settled { image: self.committed.clone(), delta: Delta::default(), answers: Vec::new() };
        for commit in commits {
            let own = |pending: &mut Pending<To>| {
                (pending.epoch, pending.image.version) == (commit.epoch, commit.offset)
            };
            match self.pending.pop_front_if(own) {
                Some(pending) => {
                    settled.image = pending.image;
                    settled.delta.extend(pending.delta);
                    settled.answers.extend(pending.answers);
                }
                None => {
                    let (mut image, delta) =
                        settled.image.with(&commit.records).expect("it was applied to this image before");
                    image.version = commit.offset;
                    settled.image = Arc::new(image);
                    settled.delta.extend(delta);
                }
            }
        }
        self.committed = settled.image.clone();
        if self.pending.is_empty() {
            self.proposed = self.committed.clone();
        }
        settled
    }

    /// The committed metadata is this, without what led to it. Nothing is proposed.
    pub fn on_snapshot(&mut self, image: Arc<Image>) -> Settled<To> {
        let delta = Delta::replacing(&self.committed, &image);
        (self.committed, self.proposed) = (image.clone(), image.clone());
        Settled { image, delta, answers: Vec::new() }
    }

    /// Nothing of what is proposed will be committed: decisions start from what is, and everybody who waits hears why.
    pub fn on_lost(&mut self, why: &ControlError) -> Vec<(To, ControlReply)> {
        self.proposed = self.committed.clone();
        let answers = self.pending.drain(..).flat_map(|pending| pending.answers);
        answers.map(|(to, _)| (to, ControlReply::Failed(why.clone()))).collect()
    }
}

fn reply(image: &Image, outcome: Outcome) -> ControlReply {
    match outcome {
        Outcome::Created(results) => {
            let topic = |id| image.topic_by_id(id).cloned().expect("a created topic is in its image");
            ControlReply::CreateTopics(results.into_iter().map(|r| r.map(topic)).collect())
        }
        Outcome::Deleted(results) => ControlReply::DeleteTopics(results),
        Outcome::Partitions(results) => ControlReply::CreatePartitions(results),
        Outcome::Configs(results) => ControlReply::AlterConfigs(results),
        Outcome::Quotas(results) => ControlReply::AlterQuotas(results),
        Outcome::ProducerIds(result) => ControlReply::ProducerIds(result),
        Outcome::Refused(error) => ControlReply::Failed(error),
    }
}

#[cfg(test)]
mod tests;
