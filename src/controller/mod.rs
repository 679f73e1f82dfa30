//! What becomes of the metadata: requests to records, by `(image, request) → (records, answer)`. Pure.
//!
//! ```text
//! request ─▶ decide on the image with all that was proposed ─▶ records, proposed at an offset
//!                                                          └▶ answer, held until that offset is committed
//! committed ─▶ the image as of then, what changed, the answers that waited        lost ─▶ the answers say so
//! ```
//! Invariants: what was decided is decided on everything proposed before it; no answer is given, and no image handed out, that
//! rests on what is not committed.

mod alone;
mod balance;
mod brackets;
pub mod brokers;
mod decide;
mod desk;
mod index;
mod internal;
mod lifecycle;
pub mod loads;
mod planner;
mod rebalance;
pub mod rebuild;
pub mod request;
mod rules;
mod sessions;

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

pub use alone::{for_all, register};
pub use brokers::{AlterPartitions, Heard, Heartbeat, IsrChange, IsrRefusal, PartitionState, Registration};
pub use desk::{Desk, occupied};
pub use internal::internal_topic;
pub use request::{
    ConfigChange, ConfigOp, ConfigResource, ControlError, ControlErrorKind, ControlReply, ControlRequest,
    Elected, Moving, NewPartitions, NewTopic, ProducerIdBlock, QuotaChange, Reassignment, TopicRef,
};
pub use rules::Rules;

use crate::metadata::names::check_topic_name;
use crate::metadata::quorum::{Commit, Decided};
use crate::metadata::records::Record;
use crate::metadata::{ApplyError, Delta, Image};
use crate::model::limits::MAX_PARTITIONS_PER_REQUEST;
use crate::model::{BrokerId, BrokerSettings, MonoMs, TopicId};
use balance::Balance;
use decide::{Decision, Outcome};
use index::Index;
use sessions::Sessions;

/// Records of one change; larger ones are spread over several.
const MAX_RECORDS: usize = 10_000;

/// The controller, whoever the answers go to.
pub struct Controller<To> {
    settings: BrokerSettings,
    rules: Rules,
    committed: Arc<Image>,
    /// With everything that was proposed.
    proposed: Arc<Image>,
    /// Of what is proposed; `None` while this node is not the controller.
    index: Option<Index>,
    sessions: Sessions,
    balance: Balance,
    /// The last offset at which it changed how many have to be in sync, or at which this node became the controller. A leader
    /// that has not applied it may commit what it must not with the ISR that it asks for.
    terms_since: u64,
    pending: VecDeque<Pending<To>>,
    /// The quorum's leader's, which this controller leads by.
    epoch: i32,
}

/// A change that was proposed and is not committed.
struct Pending<To> {
    epoch: i32,
    records: Vec<Record>,
    /// With the change; its version is the offset.
    image: Arc<Image>,
    delta: Delta,
    answers: Vec<(To, ControlReply)>,
}

/// What is to be done about a request.
pub struct Step<To> {
    /// Changes to be proposed, one after another: the next ones.
    pub propose: Vec<Decided>,
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
    /// As one who follows what others commit, until it leads.
    pub fn new(image: Arc<Image>, settings: BrokerSettings) -> Self {
        let rules = Rules::of(&settings.cluster);
        Self::with_rules(image, settings, rules)
    }

    pub fn with_rules(image: Arc<Image>, settings: BrokerSettings, rules: Rules) -> Self {
        Self {
            settings,
            sessions: Sessions::new(rules.session_ms),
            rules,
            proposed: image.clone(),
            committed: image,
            index: None,
            balance: Balance::default(),
            terms_since: 0,
            pending: VecDeque::new(),
            epoch: 0,
        }
    }

    /// This node is the controller in a new epoch, of which all that it proposes from now on is; what others committed is in its
    /// image. Every broker gets a full session.
    pub fn lead(&mut self, epoch: i32, now: MonoMs) {
        assert!(self.pending.is_empty(), "what was proposed in another epoch is lost");
        self.epoch = epoch;
        self.index = Some(Index::of(&self.proposed, now));
        self.sessions = Sessions::new(self.rules.session_ms);
        self.balance = Balance::begun(now);
        self.terms_since = self.proposed.version;
        for broker in self.proposed.brokers().filter(|broker| !broker.fenced) {
            self.sessions.begin(broker.id, broker.epoch, now);
        }
    }

    /// Another epoch begins, in which this node is the controller, or is not. Nothing is proposed any more.
    pub fn turn(&mut self, leads: Option<i32>, now: MonoMs) {
        self.index = None;
        self.sessions = Sessions::new(self.rules.session_ms);
        leads.into_iter().for_each(|epoch| self.lead(epoch, now));
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
        if self.index.is_none() {
            let why = ControlError::new(ControlErrorKind::NotController, "This node is not the controller.");
            return Step { propose: Vec::new(), answers: vec![(to, ControlReply::Failed(why))] };
        }
        let taken =
            |topic: &str, index| !occupied.is_empty() && occupied.contains(&(topic.to_owned(), index));
        let decision = match lifecycle::is_of_brokers(request) {
            true => self.of_brokers(request, now),
            false => {
                let how = (&self.settings, &self.rules);
                decide::decide(&self.proposed, how, request, new_id, &taken)
            }
        };
        self.carry(Some(to), decision, now)
    }

    /// Whom this controller has not heard for so many ms.
    pub fn silent(&self, now: MonoMs, ms: i64) -> Vec<BrokerId> {
        self.sessions.silent(now, ms).collect()
    }

    /// Does what time asks for: to be called about every half second, after what has arrived was handled.
    pub fn tick(&mut self, now: MonoMs) -> Step<To> {
        match self.index {
            Some(_) => {
                let decision = self.look_over(now);
                self.carry(None, decision, now)
            }
            None => Step { propose: Vec::new(), answers: Vec::new() },
        }
    }

    /// Proposes what was decided; the answer waits for it.
    fn carry(&mut self, to: Option<To>, decision: Decision, now: MonoMs) -> Step<To> {
        let Decision { records, outcome, validate_only } = decision;
        if records.is_empty() {
            let reply = reply(&self.proposed, outcome);
            return self.hold(to.map(|to| (to, reply)));
        }
        let from = self.proposed.clone();
        let failed = |error: ApplyError| {
            let error = ControlError::new(ControlErrorKind::InvalidRequest, error.to_string());
            ControlReply::Failed(error)
        };
        if validate_only {
            let reply = from.with(&records).map_or_else(failed, |(image, _)| reply(&image, outcome));
            return self.hold(to.map(|to| (to, reply)));
        }
        let mut image = from;
        let (mut changes, mut propose) = (Vec::new(), Vec::new());
        for records in brackets::split(records, MAX_RECORDS, image.is_bracketed()) {
            match image.with(&records) {
                Ok((next, delta)) => {
                    image = Arc::new(next);
                    if records.iter().any(rules::changes_terms) {
                        self.terms_since = image.version;
                    }
                    propose.push(Decided { records: records.clone(), image: image.clone() });
                    let (epoch, image) = (self.epoch, image.clone());
                    changes.push(Pending { epoch, records, image, delta, answers: Vec::new() });
                }
                Err(error) => return self.hold(to.map(|to| (to, failed(error)))),
            }
        }
        for change in &changes {
            if let Some(index) = &mut self.index {
                index.follow(&self.proposed, &change.image, &change.delta, now);
            }
            self.proposed = change.image.clone();
        }
        if let Some(last) = changes.last_mut() {
            last.answers.extend(to.map(|to| (to, reply(&image, outcome))));
        }
        self.pending.extend(changes);
        Step { propose, answers: Vec::new() }
    }

    /// What an answer says may rest on what is proposed: it is given once that is committed.
    fn hold(&mut self, answer: Option<(To, ControlReply)>) -> Step<To> {
        let answers = match self.pending.back_mut() {
            Some(last) => {
                last.answers.extend(answer);
                Vec::new()
            }
            None => answer.into_iter().collect(),
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
        let mut void = false;
        for commit in commits {
            // One that led in this epoch before, and was heard of by nobody for a while, may hear of what it proposed then.
            let own = |pending: &mut Pending<To>| {
                (pending.epoch, pending.image.version) == (commit.epoch, commit.offset)
                    && pending.records == commit.records
            };
            match self.pending.pop_front_if(own) {
                Some(pending) => {
                    settled.image = pending.image;
                    settled.delta.extend(pending.delta);
                    settled.answers.extend(pending.answers);
                }
                None => {
                    // What was proposed for this place, and all that was decided on it, is void.
                    if !self.pending.is_empty() {
                        void = true;
                        let why = "another change was committed first: whether to ask again is for who asked";
                        let why = ControlError::new(ControlErrorKind::NotController, why);
                        settled.answers.extend(self.give_up(&why));
                    }
                    let (mut image, delta) =
                        settled.image.with(&commit.records).expect("it was applied to this image before");
                    image.version = commit.offset;
                    settled.image = Arc::new(image);
                    settled.delta.extend(delta);
                }
            }
        }
        self.committed = settled.image.clone();
        if void || self.pending.is_empty() && self.proposed.version != self.committed.version {
            self.start_over();
        }
        settled
    }

    /// What is proposed is void: everybody who waits for it hears why.
    fn give_up(&mut self, why: &ControlError) -> Vec<(To, ControlReply)> {
        let answers = self.pending.drain(..).flat_map(|pending| pending.answers);
        answers.map(|(to, _)| (to, ControlReply::Failed(why.clone()))).collect()
    }

    /// The committed metadata is this, without what led to it. Nothing is proposed.
    pub fn on_snapshot(&mut self, image: Arc<Image>) -> Settled<To> {
        let delta = Delta::replacing(&self.committed, &image);
        self.committed = image.clone();
        self.start_over();
        Settled { image, delta, answers: Vec::new() }
    }

    /// Decides on what is committed from now on, and on nothing that was proposed.
    fn start_over(&mut self) {
        self.proposed = self.committed.clone();
        // Nothing is waited for that was to come of what was proposed.
        self.terms_since = self.terms_since.min(self.committed.version);
        self.sessions.forget_after(self.committed.version);
        if self.index.is_some() {
            self.index = Some(Index::of(&self.proposed, self.balance.looked));
        }
    }

    /// Nothing of what is proposed will be committed: decisions start from what is, and everybody who waits hears why.
    pub fn on_lost(&mut self, why: &ControlError) -> Vec<(To, ControlReply)> {
        self.start_over();
        self.give_up(why)
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
        Outcome::Registered(id, epoch) => ControlReply::Registered { id, epoch },
        Outcome::Heard(heard) => ControlReply::Heard(heard),
        Outcome::Gone | Outcome::Nothing => ControlReply::Gone,
        Outcome::Altered(results) => {
            let state = |id| {
                image.partition(id).map_or(Err(IsrRefusal::UnknownPartition), |p| Ok(PartitionState::of(p)))
            };
            ControlReply::AlteredPartitions(results.into_iter().map(|r| r.and_then(state)).collect())
        }
        Outcome::Unregistered => ControlReply::Unregistered,
        Outcome::Elected(results) => ControlReply::ElectLeaders(results),
        Outcome::Reassigned(results) => ControlReply::Reassign(results),
        Outcome::Reassignments(moving) => ControlReply::Reassignments(moving),
        Outcome::Drained(drained) => ControlReply::Drained(Box::new(drained)),
        Outcome::VotersByHand => ControlReply::VotersByHand,
        Outcome::Refused(error) => ControlReply::Failed(error),
    }
}

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;
