//! What may be asked of a transaction's coordinator, each with the kind of its answer.

use super::Transactions;
use super::types::{Description, Name, Partition, Reply, Request, TxnError, Version};
use crate::coordinator::asks;
use crate::model::{Producer, ProducerId};

/// What a client is from now on; `None` where the coordinator has to be asked again with a fresh producer id.
pub type Granted = Option<Result<Producer, TxnError>>;
/// One result for all, or one for each partition.
pub type Added = Result<Vec<Result<(), TxnError>>, TxnError>;

asks! { Transactions:
    init(id: Name, timeout_ms: i32, expected: Option<Producer>, fresh: Option<ProducerId>) =
        Request::Init { id, timeout_ms, expected, fresh },
        Reply::Producer(producer) => Some(producer), Reply::NeedsProducerId => None => Granted;
    end(id: Name, producer: Producer, commit: bool, version: Version, fresh: Option<ProducerId>) =
        Request::End { id, producer, commit, version, fresh },
        Reply::Producer(producer) => Some(producer), Reply::NeedsProducerId => None => Granted;
    /// Takes partitions into the transaction; `verify` only asks whether they are in it.
    add(id: Name, producer: Producer, partitions: Vec<Partition>, version: Version, verify: bool) =
        Request::Add { id, producer, partitions, version, verify },
        Reply::Added(added) => added => Added;
    describe(id: Name) = Request::Describe(id),
        Reply::Described(description) => *description => Result<Description, TxnError>;
}
