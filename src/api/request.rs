//! What a handler gets and gives: the request it answers, the row of its API, and what becomes of the request.

use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_wire_core::StrBytes;

use crate::rt::Charge;
use crate::security::{Operation, ResourceType};
use crate::shard::Shard;
use crate::shard::context::ConnectionContext;
use crate::shard::metrics::ProtocolError;
use crate::wire::error_code::ErrorCode;

/// One API: a row of the table.
pub struct Api {
    pub key: i16,
    pub name: &'static str,
    /// The lowest version in ApiVersions; lower than `min` where old clients look for it (KAFKA-18659).
    pub advertised_min: i16,
    pub min: i16,
    pub max: i16,
    /// What its client has to be allowed: each operation, and the type of the resources that a request names.
    pub checks: &'static [(Operation, ResourceType)],
    /// A broker that is not the controller hands it on to that.
    pub forwarded: bool,
    /// Served on the cluster listener only, and advertised to nobody.
    pub for_brokers: bool,
    pub start: fn(Cx, BytesMut) -> Pending,
}

impl Api {
    /// Whether the row says that the API checks this. What may be done with a resource is shown where it is described.
    pub fn may_ask(&self, operation: Operation, resource: ResourceType) -> bool {
        let shows = [ResourceType::Topic, ResourceType::Group, ResourceType::Cluster].contains(&resource)
            && self.checks.contains(&(Operation::Describe, resource));
        shows || self.checks.contains(&(operation, resource))
    }

    pub fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// What a handler knows of its request.
#[derive(Clone)]
pub struct Cx {
    pub shard: Rc<Shard>,
    pub api: &'static Api,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
    pub connection: Rc<ConnectionContext>,
}

impl Cx {
    /// Counts an error that a response carries.
    pub fn count(&self, code: ErrorCode) {
        if code != ErrorCode::None {
            self.shard.metrics.error(self.api.key, code.code());
        }
    }
}

/// What becomes of a request.
pub enum Outcome {
    /// A whole frame, length prefix included, in slices that leave in one send.
    Respond(Vec<Bytes>),
    /// Likewise, in memory that was taken for it.
    Fetched(Vec<Bytes>, Charge),
    /// Likewise, or nothing; and then the client is not listened to for this long.
    Throttled(Vec<Bytes>, Option<Charge>, Duration),
    /// A request that is never answered (Produce with acks=0).
    Silent,
    /// The connection ends: the stream, or the client's state, can no longer be trusted.
    Close(ProtocolError, String),
}

pub type Pending = Pin<Box<dyn Future<Output = Outcome>>>;
