//! The controller's decisions: `(image, request) → records`, without I/O, time or randomness of their own.
//!
//! Each item of a request succeeds or fails by itself; what succeeds is committed together.

mod brokers;
mod change;
mod configs;
pub mod drain;
pub mod elections;
pub mod factor;
pub mod isr;
pub mod membership;
mod placement;
mod quotas;
pub mod reassign;
mod topics;
pub mod view;

use std::sync::Arc;

use super::brokers::{Heard, IsrRefusal};
use super::request::{ControlError, ControlErrorKind, ControlRequest, Elected, Moving, ProducerIdBlock};
use super::rules::Rules;
use crate::metadata::records::Record;
use crate::metadata::{Image, Topic};
use crate::model::report::Drained;
use crate::model::{BrokerEpoch, BrokerId, BrokerSettings, PartitionId, TopicId};

/// What to commit, and what to answer once it is.
pub struct Decision {
    pub records: Vec<Record>,
    pub outcome: Outcome,
    pub validate_only: bool,
}

impl Decision {
    pub fn new(records: Vec<Record>, outcome: Outcome) -> Self {
        Self { records, outcome, validate_only: false }
    }

    pub fn failed(error: ControlError) -> Self {
        Self::new(Vec::new(), Outcome::Refused(error))
    }
}

/// A reply before the new image exists.
pub enum Outcome {
    Created(Vec<Result<TopicId, ControlError>>),
    Deleted(Vec<Result<Arc<Topic>, ControlError>>),
    Partitions(Vec<Result<(), ControlError>>),
    Configs(Vec<Result<(), ControlError>>),
    Quotas(Vec<Result<(), ControlError>>),
    ProducerIds(Result<ProducerIdBlock, ControlError>),
    Registered(BrokerId, BrokerEpoch),
    Heard(Heard),
    Gone,
    Altered(Vec<Result<PartitionId, IsrRefusal>>),
    Unregistered,
    Elected(Vec<Elected>),
    Reassigned(Vec<Result<(), ControlError>>),
    Reassignments(Vec<Moving>),
    Drained(Drained),
    VotersByHand,
    Refused(ControlError),
    /// Nobody asked.
    Nothing,
}

pub type NewId<'a> = dyn FnMut() -> TopicId + 'a;

/// Whether the place of a partition, by its topic's name, has files already.
pub type Occupied<'a> = dyn Fn(&str, i32) -> bool + 'a;

/// Decides what is asked of topics, configurations and the like; what concerns brokers and replicas is not for here.
pub fn decide(
    image: &Image,
    (settings, rules): (&BrokerSettings, &Rules),
    request: &ControlRequest,
    new_id: &mut NewId<'_>,
    occupied: &Occupied<'_>,
) -> Decision {
    match request {
        ControlRequest::CreateTopics { topics, validate_only } => {
            let (records, results) = topics::create(image, (settings, rules), topics, new_id, occupied);
            Decision { records, outcome: Outcome::Created(results), validate_only: *validate_only }
        }
        ControlRequest::DeleteTopics { topics } => {
            let (records, results) = topics::delete(image, settings, topics);
            Decision::new(records, Outcome::Deleted(results))
        }
        ControlRequest::CreatePartitions { topics, validate_only } => {
            let (records, results) = topics::grow(image, topics, occupied);
            Decision { records, outcome: Outcome::Partitions(results), validate_only: *validate_only }
        }
        ControlRequest::AlterConfigs { resources, validate_only } => {
            let (records, results) = configs::replace(image, settings, resources);
            Decision { records, outcome: Outcome::Configs(results), validate_only: *validate_only }
        }
        ControlRequest::IncrementalAlterConfigs { resources, validate_only } => {
            let (records, results) = configs::change(image, settings, resources);
            Decision { records, outcome: Outcome::Configs(results), validate_only: *validate_only }
        }
        ControlRequest::AlterQuotas { changes, validate_only } => {
            let (records, results) = quotas::change(image, changes);
            Decision { records, outcome: Outcome::Quotas(results), validate_only: *validate_only }
        }
        ControlRequest::ProducerIds { broker, epoch } => {
            let (records, result) = producer_ids(image, *broker, *epoch);
            Decision::new(records, Outcome::ProducerIds(result))
        }
        ControlRequest::VotersByHand { is } => {
            let changes = image.voters_by_hand != *is;
            let records = changes.then_some(Record::VotersByHand { is: *is });
            Decision::new(records.into_iter().collect(), Outcome::VotersByHand)
        }
        _ => unreachable!("of brokers and replicas"),
    }
}

/// Ids of a block.
const PRODUCER_IDS: i32 = 1000;

fn producer_ids(
    image: &Image,
    broker: BrokerId,
    epoch: BrokerEpoch,
) -> (Vec<Record>, Result<ProducerIdBlock, ControlError>) {
    let first = image.next_producer_id;
    let known = check_epoch(image, broker, epoch);
    match (known, first.checked_add(i64::from(PRODUCER_IDS))) {
        (Err(error), _) => (Vec::new(), Err(error)),
        (Ok(()), Some(next)) => {
            (vec![Record::ProducerIds { next }], Ok(ProducerIdBlock { first, len: PRODUCER_IDS }))
        }
        (Ok(()), None) => {
            let why = format!("There are no producer ids past {first}");
            (Vec::new(), Err(ControlError::new(ControlErrorKind::TooMany, why)))
        }
    }
}

/// Whether a broker speaks that is registered, in its last life.
pub fn check_epoch(image: &Image, id: BrokerId, epoch: BrokerEpoch) -> Result<(), ControlError> {
    match image.broker(id) {
        Some(broker) if broker.epoch == epoch => Ok(()),
        Some(broker) => {
            let why = format!("Expected broker epoch {}, but got broker epoch {epoch}", broker.epoch);
            Err(ControlError::new(ControlErrorKind::StaleBrokerEpoch, why))
        }
        None => {
            let why = format!("Broker ID {id} is not currently registered");
            Err(ControlError::new(ControlErrorKind::BrokerNotRegistered, why))
        }
    }
}
