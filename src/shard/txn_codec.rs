//! What brokers ask of each other for transactions, as Kafka's messages: WriteTxnMarkers, of a coordinator to partitions' leaders,
//! and AddPartitionsToTxn, of a partition's leader to a transaction's coordinator (KIP-890).

use std::collections::BTreeMap;

use kafka_wire::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_wire::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_wire::write_txn_markers_response::WritableTxnMarkerResult;
use kafka_wire::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use kafka_wire_core::StrBytes;

use crate::coordinator::txn::ask::Added;
use crate::coordinator::txn::marking::{Marker, Outcome};
use crate::coordinator::txn::{Partition, TxnError};
use crate::model::Producer;
use crate::wire::error_code::ErrorCode;

/// The version of WriteTxnMarkers that brokers speak: it says the transaction's version (KIP-1228).
pub(super) const MARKERS: i16 = 2;
/// The version of AddPartitionsToTxn that brokers speak.
pub(super) const ADD: i16 = 5;

/// Markers of one end after another.
pub(super) fn markers(markers: &[Marker]) -> WriteTxnMarkersRequest {
    let mut request = WriteTxnMarkersRequest::default();
    for of_end in markers.chunk_by(|one, next| one.job == next.job) {
        let end = &of_end[0].end;
        let mut marker = WritableTxnMarker::default();
        (marker.producer_id, marker.producer_epoch) = (end.producer.id.0, end.producer.epoch.0);
        marker.transaction_result = end.commit;
        marker.coordinator_epoch = end.coordinator_epoch.0;
        marker.transaction_version = end.version.level();
        for of_topic in of_end.chunk_by(|one, next| one.partition.0 == next.partition.0) {
            let mut topic = WritableTxnMarkerTopic::default();
            topic.name = StrBytes::from(&*of_topic[0].partition.0);
            topic.partition_indexes = of_topic.iter().map(|marker| marker.partition.1).collect();
            marker.topics.push(topic);
        }
        request.markers.push(marker);
    }
    request
}

/// The codes of an answer by topic and partition; `of` says where a partition's are.
fn by_place<'a, T: 'a>(
    topics: impl Iterator<Item = (&'a str, &'a [T])>,
    of: fn(&T) -> (i32, i16),
) -> impl Iterator<Item = ((&'a str, i32), ErrorCode)> {
    topics.flat_map(move |(topic, partitions)| {
        partitions.iter().map(of).map(move |(index, code)| ((topic, index), ErrorCode::from_code(code)))
    })
}

/// What became of the markers that were asked for, in their order.
pub(super) fn outcomes<'a>(markers: &[Marker], response: &'a WriteTxnMarkersResponse) -> Vec<Outcome> {
    let of_end = |end: &'a WritableTxnMarkerResult| {
        let topics = end.topics.iter().map(|topic| (&*topic.name, &topic.partitions[..]));
        by_place(topics, |p| (p.partition_index, p.error_code))
            .map(|(place, code)| ((end.producer_id, place), code))
    };
    let codes: BTreeMap<_, _> = response.markers.iter().flat_map(of_end).collect();
    let of = |marker: &Marker| {
        let (topic, index) = &marker.partition;
        match codes.get(&(marker.end.producer.id.0, (&**topic, *index))) {
            Some(ErrorCode::None) => Outcome::Written,
            Some(ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced) => {
                Outcome::Refused
            }
            _ => Outcome::Again,
        }
    };
    markers.iter().map(of).collect()
}

/// Why a coordinator's answer says nothing of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    Loading,
    /// It coordinates the transaction no more, or says what this build does not know.
    Elsewhere,
    /// It has not committed what it would answer, or has not heard of a topic yet.
    Late,
}

/// Adds partitions to a transaction, or asks whether they are in it.
pub(super) fn add(
    id: &str,
    producer: Producer,
    partitions: &[Partition],
    verify: bool,
) -> AddPartitionsToTxnRequest {
    let mut asked = AddPartitionsToTxnTransaction::default();
    asked.transactional_id = StrBytes::from(id);
    (asked.producer_id, asked.producer_epoch) = (producer.id.0, producer.epoch.0);
    asked.verify_only = verify;
    // A topic is named once.
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, index) in partitions {
        topics.entry(topic).or_default().push(*index);
    }
    for (name, partitions) in topics {
        let mut topic = AddPartitionsToTxnTopic::default();
        (topic.name, topic.partitions) = (StrBytes::from(name), partitions);
        asked.topics.push(topic);
    }
    let mut request = AddPartitionsToTxnRequest::default();
    request.transactions.push(asked);
    request
}

/// What a transaction's coordinator says of each partition, in their order. What holds for the whole question is told of the
/// whole.
pub(super) fn added(
    partitions: &[Partition],
    response: &AddPartitionsToTxnResponse,
) -> Result<Added, Unanswered> {
    if response.error_code != 0 {
        return Err(Unanswered::Elsewhere);
    }
    let topics = response.results_by_transaction.iter().flat_map(|result| &result.topic_results);
    let topics = topics.map(|topic| (&*topic.name, &topic.results_by_partition[..]));
    let codes: BTreeMap<_, _> = by_place(topics, |p| (p.partition_index, p.partition_error_code)).collect();
    let mut each = Vec::with_capacity(partitions.len());
    for (topic, index) in partitions {
        let code = codes.get(&(&**topic, *index)).ok_or(Unanswered::Elsewhere)?;
        match verdict(*code)? {
            Err(TxnError::Concurrent) => return Ok(Err(TxnError::Concurrent)),
            verdict => each.push(verdict),
        }
    }
    Ok(Ok(each))
}

fn verdict(code: ErrorCode) -> Result<Result<(), TxnError>, Unanswered> {
    Ok(match code {
        ErrorCode::None => Ok(()),
        ErrorCode::InvalidProducerIdMapping => Err(TxnError::WrongProducer),
        ErrorCode::ProducerFenced | ErrorCode::InvalidProducerEpoch => Err(TxnError::Fenced),
        ErrorCode::ConcurrentTransactions => Err(TxnError::Concurrent),
        ErrorCode::InvalidTxnState => Err(TxnError::InvalidState),
        ErrorCode::TransactionAbortable => Err(TxnError::NotOfTransaction),
        ErrorCode::TransactionalIdNotFound => Err(TxnError::NotFound),
        ErrorCode::UnknownServerError => Err(TxnError::TooLarge),
        ErrorCode::CoordinatorLoadInProgress => return Err(Unanswered::Loading),
        ErrorCode::CoordinatorNotAvailable
        | ErrorCode::UnknownTopicOrPartition
        | ErrorCode::OperationNotAttempted => return Err(Unanswered::Late),
        _ => return Err(Unanswered::Elsewhere),
    })
}

#[cfg(test)]
mod tests {
    use kafka_wire::add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
    };
    use kafka_wire::write_txn_markers_response::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerTopicResult,
    };

    use super::*;
    use crate::coordinator::txn::Version;
    use crate::coordinator::txn::marking::End;
    use crate::model::LeaderEpoch;

    fn marker(job: u64, topic: &str, index: i32) -> Marker {
        let end = End {
            producer: Producer::new(job as i64, 3),
            commit: job.is_multiple_of(2),
            version: Version::V2,
            coordinator_epoch: LeaderEpoch(5),
        };
        Marker { job, end, partition: (topic.into(), index) }
    }

    #[test]
    fn markers_go_by_end_and_topic_and_each_has_its_outcome() {
        let all = [marker(1, "a", 0), marker(1, "a", 2), marker(1, "b", 0), marker(2, "a", 0)];
        let request = markers(&all);
        let shape: Vec<_> = request
            .markers
            .iter()
            .map(|m| {
                let topics = m.topics.iter().map(|t| (t.name.to_string(), t.partition_indexes.clone()));
                (m.producer_id, m.producer_epoch, m.transaction_result, topics.collect::<Vec<_>>())
            })
            .collect();
        let of = |name: &str, indexes: &[i32]| (name.to_string(), indexes.to_vec());
        assert_eq!(
            shape,
            [(1, 3, false, vec![of("a", &[0, 2]), of("b", &[0])]), (2, 3, true, vec![of("a", &[0])])]
        );
        assert!(request.markers.iter().all(|m| m.coordinator_epoch == 5 && m.transaction_version == 2));

        let mut response = WriteTxnMarkersResponse::default();
        for (producer, topic, index, code) in [(2, "a", 0, 0), (1, "b", 0, 47), (1, "a", 0, 6)] {
            let mut partition = WritableTxnMarkerPartitionResult::default();
            (partition.partition_index, partition.error_code) = (index, code);
            let mut of_topic = WritableTxnMarkerTopicResult::default();
            (of_topic.name, of_topic.partitions) = (topic.into(), vec![partition]);
            let mut end = WritableTxnMarkerResult::default();
            (end.producer_id, end.topics) = (producer, vec![of_topic]);
            response.markers.push(end);
        }
        let expected = [Outcome::Again, Outcome::Again, Outcome::Refused, Outcome::Written];
        assert_eq!(outcomes(&all, &response), expected, "what is not said is not written");
    }

    #[test]
    fn a_coordinators_word_is_taken_partition_by_partition_and_its_absence_as_a_whole() {
        let partitions: Vec<Partition> = vec![("a".into(), 0), ("b".into(), 1), ("a".into(), 1)];
        let request = add("tx", Producer::new(7, 1), &partitions, true);
        let [asked] = &request.transactions[..] else { panic!("one transaction") };
        assert!(asked.verify_only && asked.producer_id == 7 && asked.producer_epoch == 1);
        let topics: Vec<_> =
            asked.topics.iter().map(|t| (t.name.to_string(), t.partitions.clone())).collect();
        assert_eq!(topics, [("a".to_string(), vec![0, 1]), ("b".to_string(), vec![1])]);

        let answer = |codes: &[(&str, i32, i16)]| {
            let mut result = AddPartitionsToTxnResult::default();
            for (topic, index, code) in codes {
                let mut partition = AddPartitionsToTxnPartitionResult::default();
                (partition.partition_index, partition.partition_error_code) = (*index, *code);
                let mut of_topic = AddPartitionsToTxnTopicResult::default();
                (of_topic.name, of_topic.results_by_partition) = ((*topic).into(), vec![partition]);
                result.topic_results.push(of_topic);
            }
            let mut response = AddPartitionsToTxnResponse::default();
            response.results_by_transaction.push(result);
            added(&partitions, &response)
        };
        let mixed = answer(&[("a", 1, 120), ("b", 1, 0), ("a", 0, 90)]);
        assert_eq!(
            mixed,
            Ok(Ok(vec![Err(TxnError::Fenced), Ok(()), Err(TxnError::NotOfTransaction)])),
            "in the order of the question"
        );
        assert_eq!(answer(&[("a", 0, 51), ("b", 1, 51), ("a", 1, 51)]), Ok(Err(TxnError::Concurrent)));
        let whole = |code| answer(&[("a", 0, code), ("b", 1, code), ("a", 1, code)]).unwrap_err();
        assert_eq!(whole(16), Unanswered::Elsewhere);
        assert_eq!(whole(14), Unanswered::Loading);
        assert_eq!(answer(&[("a", 0, 3), ("b", 1, 55), ("a", 1, 55)]), Err(Unanswered::Late));
        assert_eq!(answer(&[("a", 0, 0)]), Err(Unanswered::Elsewhere), "half an answer is none");
    }
}
