//! Kafka connections: accepting, handing out, framing, answering in order.

mod connection;
mod in_flight;
mod input;
mod listener;

pub use connection::serve;
pub use listener::accept;
