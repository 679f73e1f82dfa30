//! What the handlers of the transaction APIs share: refusals in Kafka's codes, and asking a coordinator that may need a
//! fresh producer id.

use super::producer_ids::next_id;
use super::request::Cx;
use crate::coordinator::Ask;
use crate::coordinator::txn::ask::Granted;
use crate::coordinator::txn::{Name, Transactions, TxnError};
use crate::model::{Producer, ProducerId};
use crate::shard::coordinator::Unavailable;
use crate::shard::message::NotInTransaction;
use crate::wire::ErrorCode;

pub fn code(error: TxnError) -> ErrorCode {
    match error {
        TxnError::WrongProducer => ErrorCode::InvalidProducerIdMapping,
        TxnError::Fenced => ErrorCode::ProducerFenced,
        TxnError::Concurrent => ErrorCode::ConcurrentTransactions,
        TxnError::InvalidState => ErrorCode::InvalidTxnState,
        TxnError::InvalidTimeout => ErrorCode::InvalidTransactionTimeout,
        TxnError::NotOfTransaction => ErrorCode::TransactionAbortable,
        TxnError::NotFound => ErrorCode::TransactionalIdNotFound,
        TxnError::TooLarge => ErrorCode::UnknownServerError,
    }
}

/// As [`code`], for clients from before they knew of fenced producers (KIP-588).
pub fn code_before(error: TxnError, version: i16, knows_fenced_from: i16) -> ErrorCode {
    match code(error) {
        ErrorCode::ProducerFenced if version < knows_fenced_from => ErrorCode::InvalidProducerEpoch,
        code => code,
    }
}

pub fn unavailable(why: Unavailable) -> ErrorCode {
    match why {
        Unavailable::Loading => ErrorCode::CoordinatorLoadInProgress,
        Unavailable::NotHere | Unavailable::Failed => ErrorCode::NotCoordinator,
        Unavailable::Slow | Unavailable::TooFewReplicas => ErrorCode::CoordinatorNotAvailable,
    }
}

/// Why a batch or an offset is not taken into a transaction. Older clients know fewer words: they are told something
/// that makes them try again, or give the transaction up.
pub fn not_in(why: NotInTransaction, implicit: bool, knows_abortable: bool) -> ErrorCode {
    match why {
        NotInTransaction::Refused(TxnError::Concurrent) if !implicit => ErrorCode::NotEnoughReplicas,
        NotInTransaction::Refused(TxnError::NotOfTransaction) if !knows_abortable => {
            ErrorCode::InvalidTxnState
        }
        NotInTransaction::Refused(TxnError::Fenced) => ErrorCode::InvalidProducerEpoch,
        NotInTransaction::Refused(error) => code(error),
        NotInTransaction::Unavailable(_) | NotInTransaction::TooMany => ErrorCode::NotEnoughReplicas,
        NotInTransaction::SeveralProducers => ErrorCode::InvalidProducerIdMapping,
    }
}

/// Asks the id's coordinator what the client is from now on, a second time with a fresh producer id if it needs one.
pub async fn ask(
    cx: &Cx,
    id: &Name,
    ask: impl Fn(Option<ProducerId>) -> Ask<Transactions, Granted>,
) -> Result<Result<Producer, TxnError>, ErrorCode> {
    let granted = cx.shard.transaction(id, ask(None)).await.map_err(unavailable)?;
    if let Some(granted) = granted {
        return Ok(granted);
    }
    let fresh = next_id(cx).await?;
    let granted = cx.shard.transaction(id, ask(Some(fresh))).await.map_err(unavailable)?;
    // An id was given and used by another request meanwhile: the client comes again.
    granted.ok_or(ErrorCode::ConcurrentTransactions)
}
