//! Coordinators of transactions (KIP-98, KIP-890): who may write under a transactional id, which partitions its open
//! transaction has touched, and how it ended. The state is the contents of a partition of `__transaction_state`, in
//! Kafka's records.
//!
//! ```text
//!  End ─▶ record Prepare* ─ durable ─▶ answer the client, and Command: markers to every partition of the transaction
//!                                                   │ each leader appends one, durably; tried until all have it ([`marking`])
//!                                                   ▼
//!                                      Marked ─▶ record Complete*
//! ```
//!
//! - The Prepare record decides. A crash after it repeats the markers at the next start (`loaded`), which partitions
//!   take twice; a crash before it leaves the transaction open, and its client or its timeout ends it.
//! - A transaction is ended once: no answer is given, no marker is written before the record that says so is durable.
//! - With version 2 each transaction has its own epoch, so nothing that was delayed reaches a later one.
//! - Ids that nobody used for `transactional.id.expiration.ms` are forgotten, open transactions never.

pub mod ask;
mod codec;
mod machine;
pub mod marking;
mod state;
#[cfg(test)]
mod tests;
mod types;

pub use machine::{Timer, Transactions};
pub use state::State;
pub use types::{
    Command, Description, ListFilter, Listed, Name, Partition, Reply, Request, TxnError, Version,
};
