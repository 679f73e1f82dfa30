//! Quotas as the protocol has them (KIP-219): a client over its quota is answered at once, told how long to wait, and not
//! listened to for that long.

use std::time::Duration;

use bytes::Bytes;
use kafka_wire::*;
use kafka_wire_core::KafkaEncode;

use super::frames::{malformed, respond};
use super::request::{Cx, Outcome};
use crate::security::quota::Kind;
use crate::shard::quotas::Who;

/// A response that can say how long its client is to wait.
pub trait Throttled: KafkaEncode {
    fn set_throttle(&mut self, ms: i32);
}

macro_rules! throttled {
    ($($response:ident)*) => {
        $(impl Throttled for $response {
            fn set_throttle(&mut self, ms: i32) {
                self.throttle_time_ms = ms;
            }
        })*
    };
}

throttled! {
    AlterClientQuotasResponse AlterConfigsResponse AlterPartitionReassignmentsResponse AlterReplicaLogDirsResponse
    ApiVersionsResponse CreatePartitionsResponse CreateTopicsResponse DeleteRecordsResponse DeleteTopicsResponse
    DescribeClientQuotasResponse DescribeClusterResponse DescribeConfigsResponse DescribeLogDirsResponse
    DescribeProducersResponse DescribeTopicPartitionsResponse DescribeUserScramCredentialsResponse
    ElectLeadersResponse IncrementalAlterConfigsResponse
    InitProducerIdResponse ListConfigResourcesResponse ListOffsetsResponse ListPartitionReassignmentsResponse
    CreateAclsResponse DeleteAclsResponse DescribeAclsResponse
    AddOffsetsToTxnResponse AddPartitionsToTxnResponse DeleteGroupsResponse DescribeGroupsResponse
    DescribeTransactionsResponse EndTxnResponse FindCoordinatorResponse HeartbeatResponse JoinGroupResponse
    LeaveGroupResponse ListGroupsResponse ListTransactionsResponse OffsetCommitResponse OffsetDeleteResponse
    OffsetFetchResponse SyncGroupResponse TxnOffsetCommitResponse
    MetadataResponse OffsetForLeaderEpochResponse ProduceResponse UnregisterBrokerResponse UpdateFeaturesResponse
    AddRaftVoterResponse RemoveRaftVoterResponse
}

/// Kafka's have no place for it; the client is made to wait all the same.
macro_rules! throttled_silently {
    ($($response:ident)*) => {
        $(impl Throttled for $response {
            fn set_throttle(&mut self, _: i32) {}
        })*
    };
}

throttled_silently! { DescribeQuorumResponse EnvelopeResponse WriteTxnMarkersResponse }

pub fn millis(wait: Duration) -> i32 {
    i32::try_from(wait.as_millis()).unwrap_or(i32::MAX)
}

impl Cx {
    fn client(&self) -> Who<'_> {
        let client_id = self.client_id.as_deref().unwrap_or_default();
        Who { principal: self.connection.principal(), client_id }
    }

    /// How long the client has to wait for the time that its requests took so far.
    pub fn time_wait(&self) -> Duration {
        self.shard.quotas.charge(Kind::Request, self.client(), 0.0)
    }

    /// Counts bytes, and says how long the client has to wait for them or for its time.
    pub fn charge(&self, kind: Kind, bytes: usize) -> Duration {
        let wait = self.shard.quotas.charge(kind, self.client(), bytes as f64);
        if !wait.is_zero() {
            self.shard.metrics.throttled(kind, wait);
        }
        let time_wait = self.time_wait();
        if time_wait > wait {
            self.shard.metrics.throttled(Kind::Request, time_wait);
        }
        wait.max(time_wait)
    }

    /// Takes back what was counted for a response that is not given.
    pub fn refund(&self, kind: Kind, bytes: usize) {
        self.shard.quotas.charge(kind, self.client(), -(bytes as f64));
    }

    /// The bytes that a client's quota allows at once, if it has one.
    pub fn burst(&self, kind: Kind) -> Option<usize> {
        self.shard.quotas.burst(kind, self.client()).map(|bytes| (bytes as usize).max(1))
    }
}

/// What a handler has to say.
pub trait Answer {
    fn outcome(self, cx: &Cx) -> Outcome;
}

impl<R: Throttled> Answer for R {
    fn outcome(self, cx: &Cx) -> Outcome {
        respond_throttled(cx, self)
    }
}

/// A request that makes no sense ends the connection, as one that does not decode.
impl<R: Throttled> Answer for Result<R, String> {
    fn outcome(self, cx: &Cx) -> Outcome {
        match self {
            Ok(response) => respond_throttled(cx, response),
            Err(why) => malformed(cx.api.name, &why),
        }
    }
}

/// Responds, with the wait that the client's time quota demands.
pub fn respond_throttled<R: Throttled>(cx: &Cx, mut response: R) -> Outcome {
    let wait = cx.time_wait();
    if !wait.is_zero() {
        cx.shard.metrics.throttled(Kind::Request, wait);
        response.set_throttle(millis(wait));
    }
    with_wait(respond(cx, &response), wait)
}

/// The outcome, after which the client is not listened to for as long as `wait`.
pub fn with_wait(outcome: Outcome, wait: Duration) -> Outcome {
    match outcome {
        Outcome::Respond(slices) if !wait.is_zero() => Outcome::Throttled(slices, None, wait),
        Outcome::Silent if !wait.is_zero() => Outcome::Throttled(Vec::<Bytes>::new(), None, wait),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::super::common::testing::round_trip;
    use super::*;

    #[test]
    fn every_version_of_a_response_encodes_with_a_wait() {
        fn check<R: Throttled + KafkaMessage + Default>(versions: std::ops::RangeInclusive<i16>) {
            for version in versions {
                let mut response = R::default();
                response.set_throttle(7);
                round_trip(&response, version);
            }
        }
        check::<MetadataResponse>(0..=13);
        check::<ListOffsetsResponse>(1..=11);
        check::<CreateTopicsResponse>(2..=7);
        check::<DeleteTopicsResponse>(1..=6);
        check::<ApiVersionsResponse>(0..=4);
        check::<OffsetForLeaderEpochResponse>(2..=4);
    }
}
