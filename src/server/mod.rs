//! Kafka connections: accepting, handing out, framing, answering in order.

mod blocked;
mod connection;
mod in_flight;
mod input;
mod listener;
mod moments;
mod outbox;
mod peers;

pub use connection::serve;
pub use listener::accept;
