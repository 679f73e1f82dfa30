//! Joining a cluster: any broker's Kafka address leads to the controller, which gives a node id.

use std::time::Duration;

use kafka_wire::DescribeClusterRequest;
use tokio::time::{Instant, sleep};

use super::socket;
use crate::api::{brokers, describe_cluster};
use crate::controller::{ControlErrorKind, ControlReply, ControlRequest, Registration};
use crate::metadata::Image;
use crate::metadata::quorum::Recovery;
use crate::model::{BrokerEpoch, BrokerId};
use crate::peer::hello::NOBODY;
use crate::peer::{Hello, Lane, Limits, LinkError, Refusal, Whom, keys};

const CONNECT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_secs(5);
const REST: Duration = Duration::from_millis(100);

/// A cluster as one of its brokers describes it to another.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub cluster: String,
    pub recovery: Recovery,
    /// Where each broker's cluster listener is.
    pub brokers: Vec<(BrokerId, Whom)>,
    pub controller: Option<BrokerId>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("{0}")]
    Unreachable(LinkError),
    /// What answers is no broker that can be joined.
    #[error("{0}")]
    NoBroker(String),
    #[error("{0}")]
    Refused(String),
    #[error("the cluster has had no controller for {0:?}")]
    NoController(Duration),
}

/// Asks a broker, at the address that clients use, for its cluster.
pub(crate) async fn find(address: &Whom) -> Result<Found, JoinError> {
    let link = socket::open(address, Limits::default(), CONNECT).await.map_err(JoinError::Unreachable)?;
    let mut request = DescribeClusterRequest::default();
    request.endpoint_type = describe_cluster::CONTROLLERS;
    request.unknown_tagged_fields = keys::tags([(describe_cluster::JOINING, Default::default())]);
    let described = link
        .call(&request, 1, ANSWER)
        .await
        .map_err(|e| JoinError::NoBroker(format!("what answers at {address} is no broker of Weir: {e}")))?;
    if described.error_code != 0 {
        let why = format!(
            "what answers at {address} is a broker, but none of Weir: {}",
            described.error_message.as_deref().unwrap_or("it does not tell who the controller is")
        );
        return Err(JoinError::NoBroker(why));
    }
    let whom = |broker: &kafka_wire::describe_cluster_response::DescribeClusterBroker| {
        let port = u16::try_from(broker.port).ok()?;
        Some((broker.broker_id, Whom { host: broker.host.to_string(), port }))
    };
    Ok(Found {
        cluster: described.cluster_id.to_string(),
        recovery: describe_cluster::recovery(&described),
        brokers: described.brokers.iter().filter_map(whom).collect(),
        controller: (described.controller_id >= 0).then_some(described.controller_id),
    })
}

/// Registers a broker that has no metadata yet: its id, and the epoch of this life. Looks for the controller for as long as
/// `limit`.
pub(crate) async fn register(
    address: &Whom,
    found: Found,
    registration: Registration,
    limit: Duration,
) -> Result<(BrokerId, BrokerEpoch), JoinError> {
    let until = Instant::now() + limit;
    let mut found = found;
    while Instant::now() < until {
        match once(&found, &registration).await? {
            Some(registered) => return Ok(registered),
            None => sleep(REST).await,
        }
        found = match find(address).await {
            Ok(found) => found,
            Err(JoinError::Unreachable(_)) => found,
            Err(error) => return Err(error),
        };
    }
    Err(JoinError::NoController(limit))
}

/// `None` where the controller is not there, or not the controller any more.
async fn once(
    found: &Found,
    registration: &Registration,
) -> Result<Option<(BrokerId, BrokerEpoch)>, JoinError> {
    let Some(controller) = found.controller else { return Ok(None) };
    let Some((_, whom)) = found.brokers.iter().find(|(id, _)| *id == controller) else { return Ok(None) };
    let hello = Hello {
        cluster: found.cluster.clone(),
        to: controller,
        broker: registration.id.unwrap_or(NOBODY),
        epoch: -1,
        incarnation: registration.incarnation,
        directory: registration.directory,
        recovery: found.recovery,
        lane: Lane::Control,
        shard: 0,
    };
    let link = match socket::connect(whom, &hello, Limits::default(), CONNECT).await {
        Ok((link, _)) => link,
        Err(LinkError::Refused(Refusal::NotServing | Refusal::AnotherBroker, _)) => return Ok(None),
        Err(LinkError::Refused(_, why)) => return Err(JoinError::Refused(why)),
        Err(why) => {
            log::debug!("the controller at {whom} was not reached: {why}");
            return Ok(None);
        }
    };
    let request = ControlRequest::Register(Box::new(registration.clone()));
    let told = match brokers::ask(&link, &request, ANSWER).await.expect("brokers register with each other") {
        Ok(told) if !told.is_elsewhere() => told,
        _ => return Ok(None),
    };
    match told.reply(&Image::empty()) {
        ControlReply::Registered { id, epoch } => Ok(Some((id, epoch))),
        ControlReply::Failed(error) if error.kind == ControlErrorKind::Unavailable => Ok(None),
        ControlReply::Failed(error) => Err(JoinError::Refused(error.message)),
        other => Err(JoinError::Refused(format!("the controller answered something else: {other:?}"))),
    }
}
