//! Transactions, seen from administration: which are open, for how long, on which partitions, and ending them.

use std::time::{Duration, Instant};

use kafka_wire::describe_producers_request::TopicRequest;
use kafka_wire::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_wire::{
    DescribeProducersRequest, DescribeTransactionsRequest, FindCoordinatorRequest, InitProducerIdRequest,
    ListTransactionsRequest, RequestResponsePair, WriteTxnMarkersRequest,
};
use kafka_wire_core::StrBytes;

use super::groups::TopicPartition;
use super::{Client, ClientError, Connection, KafkaError, message};
use crate::wire::error_code::ErrorCode;

/// How long a coordinator may take to be found, to be loaded, or to end a transaction.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
/// FindCoordinator's number for transactional ids.
const TRANSACTION: i8 = 1;
/// From here on FindCoordinator names several keys.
const FIND_BATCHED_FROM: i16 = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnListing {
    pub id: String,
    pub producer_id: i64,
    pub state: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnInfo {
    pub id: String,
    pub state: String,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub timeout_ms: i32,
    /// −1 before the first transaction.
    pub started_ms: i64,
    pub partitions: Vec<TopicPartition>,
}

/// A producer that has a transaction open on a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTxn {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub coordinator_epoch: i32,
    pub start_offset: i64,
}

impl Client {
    /// The transactional ids that the broker coordinates, by name. Negative for any duration.
    pub fn list_transactions(
        &mut self,
        states: &[String],
        longer_than_ms: i64,
    ) -> Result<Vec<TxnListing>, ClientError> {
        let until = Instant::now() + PATIENCE;
        let request = message::<ListTransactionsRequest>(|r| {
            r.state_filters = states.iter().map(|s| StrBytes::from(s.as_str())).collect();
            r.duration_filter = longer_than_ms;
        });
        let response = loop {
            let response = self.entry()?.call(&request)?;
            if !is_settling(response.error_code) || Instant::now() >= until {
                break response;
            }
            std::thread::sleep(PAUSE);
        };
        KafkaError::check(response.error_code, None).map_err(ClientError::kafka("list transactions"))?;
        let one = |t: &kafka_wire::list_transactions_response::TransactionState| TxnListing {
            id: t.transactional_id.to_string(),
            producer_id: t.producer_id,
            state: t.transaction_state.to_string(),
        };
        let mut listed: Vec<TxnListing> = response.transaction_states.iter().map(one).collect();
        listed.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(listed)
    }

    /// `None` if there is no such id.
    pub fn describe_transaction(&mut self, id: &str) -> Result<Option<TxnInfo>, ClientError> {
        let request =
            message::<DescribeTransactionsRequest>(|r| r.transactional_ids = vec![StrBytes::from(id)]);
        let code = |r: &kafka_wire::DescribeTransactionsResponse| {
            r.transaction_states.first().map_or(-1, |state| state.error_code)
        };
        let response = self.ask_coordinator(id, &request, code, is_settling)?;
        let Some(state) = response.transaction_states.first() else { return Ok(None) };
        if state.error_code == ErrorCode::TransactionalIdNotFound.code() {
            return Ok(None);
        }
        KafkaError::check(state.error_code, None)
            .map_err(ClientError::kafka(format!("describe transaction {id}")))?;
        let of = |t: &kafka_wire::describe_transactions_response::TopicData| -> Vec<TopicPartition> {
            t.partitions.iter().map(|index| (t.topic.to_string(), *index)).collect()
        };
        Ok(Some(TxnInfo {
            id: id.to_owned(),
            state: state.transaction_state.to_string(),
            producer_id: state.producer_id,
            producer_epoch: state.producer_epoch,
            timeout_ms: state.transaction_timeout_ms,
            started_ms: state.transaction_start_time_ms,
            partitions: state.topics.iter().flat_map(of).collect(),
        }))
    }

    /// Aborts what the id has open, and fences its producer.
    pub fn abort_transaction(&mut self, info: &TxnInfo) -> Result<(), ClientError> {
        let request = message::<InitProducerIdRequest>(|r| {
            r.transactional_id = Some(StrBytes::from(info.id.as_str()));
            r.transaction_timeout_ms = info.timeout_ms;
            (r.producer_id, r.producer_epoch) = (-1, -1);
        });
        // While the markers are being written the answer is to come again.
        let busy = |code| is_settling(code) || code == ErrorCode::ConcurrentTransactions.code();
        let response = self.ask_coordinator(&info.id, &request, |r| r.error_code, busy)?;
        KafkaError::check(response.error_code, None)
            .map_err(ClientError::kafka(format!("abort transaction {}", info.id)))
    }

    /// The transactions that are open on a partition, whatever their coordinators know.
    pub fn open_transactions(&mut self, topic: &str, partition: i32) -> Result<Vec<OpenTxn>, ClientError> {
        let info = self.topic(topic, false)?;
        let request = message::<DescribeProducersRequest>(|r| {
            r.topics = vec![message::<TopicRequest>(|t| {
                t.name = StrBytes::from(topic);
                t.partition_indexes = vec![partition];
            })];
        });
        let response = self.call_leader(&info, partition, &request, Duration::ZERO)?;
        let what = format!("describe the producers of {topic}-{partition}");
        let Some(found) = response.topics.first().and_then(|t| t.partitions.first()) else {
            return Ok(Vec::new());
        };
        KafkaError::check(found.error_code, found.error_message.as_deref())
            .map_err(ClientError::kafka(what))?;
        let open = found.active_producers.iter().filter(|p| p.current_txn_start_offset >= 0);
        Ok(open
            .map(|p| OpenTxn {
                producer_id: p.producer_id,
                producer_epoch: p.producer_epoch as i16,
                coordinator_epoch: p.coordinator_epoch,
                start_offset: p.current_txn_start_offset,
            })
            .collect())
    }

    /// Ends a transaction on one partition, past its coordinator.
    pub fn abort_on(&mut self, topic: &str, partition: i32, open: OpenTxn) -> Result<(), ClientError> {
        let info = self.topic(topic, false)?;
        let request = message::<WriteTxnMarkersRequest>(|r| {
            r.markers = vec![message::<WritableTxnMarker>(|m| {
                m.producer_id = open.producer_id;
                m.producer_epoch = open.producer_epoch;
                m.coordinator_epoch = open.coordinator_epoch.max(0);
                m.topics = vec![message::<WritableTxnMarkerTopic>(|t| {
                    t.name = StrBytes::from(topic);
                    t.partition_indexes = vec![partition];
                })];
            })];
        });
        let response = self.call_leader(&info, partition, &request, Duration::ZERO)?;
        let code = response.markers.first().and_then(|m| m.topics.first()).and_then(|t| t.partitions.first());
        KafkaError::check(code.map_or(-1, |p| p.error_code), None)
            .map_err(ClientError::kafka(format!("abort on {topic}-{partition}")))
    }

    /// Sends to an id's coordinator, and again while `busy` says so.
    fn ask_coordinator<R: RequestResponsePair>(
        &mut self,
        id: &str,
        request: &R,
        code: impl Fn(&R::Response) -> i16,
        busy: impl Fn(i16) -> bool,
    ) -> Result<R::Response, ClientError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let response = self.txn_coordinator(id)?.call(request)?;
            if !busy(code(&response)) || Instant::now() >= until {
                return Ok(response);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn txn_coordinator(&mut self, id: &str) -> Result<&mut Connection, ClientError> {
        let until = Instant::now() + PATIENCE;
        loop {
            let batched = self.entry()?.version_of::<FindCoordinatorRequest>()? >= FIND_BATCHED_FROM;
            let request = message::<FindCoordinatorRequest>(|r| {
                r.key_type = TRANSACTION;
                match batched {
                    true => r.coordinator_keys = vec![StrBytes::from(id)],
                    false => r.key = StrBytes::from(id),
                }
            });
            let response = self.entry()?.call(&request)?;
            let (code, node, host, port) = match response.coordinators.first() {
                Some(c) => (c.error_code, c.node_id, c.host.to_string(), c.port),
                None => (response.error_code, response.node_id, response.host.to_string(), response.port),
            };
            if is_settling(code) && Instant::now() < until {
                std::thread::sleep(PAUSE);
                continue;
            }
            KafkaError::check(code, None)
                .map_err(ClientError::kafka(format!("coordinator of transactional id {id}")))?;
            return self.broker_at(node, &host, port);
        }
    }
}

/// The coordinator is not there yet: the same request may succeed soon.
fn is_settling(code: i16) -> bool {
    let settling =
        [ErrorCode::CoordinatorLoadInProgress, ErrorCode::CoordinatorNotAvailable, ErrorCode::NotCoordinator];
    settling.iter().any(|error| error.code() == code)
}
