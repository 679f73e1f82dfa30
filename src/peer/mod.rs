//! How brokers talk to each other: the wire of the cluster listener, and its client.
//!
//! A connection carries Kafka's frames. Its first request is a [`Hello`], which says who calls, in which life, and what
//! for; the answer says who answers. Then come Kafka's requests between brokers, and requests of our own, whose keys start
//! at [`keys::OWN`] and whose header is its fixed part alone:
//!
//! ```text
//! request   length i32 · key i16 · version i16 · correlation id i32 · body        response  length i32 · correlation id i32 · body
//! ```
//! Invariants: nothing is asked of who has not said Hello; no length from the wire is trusted before its bytes are there;
//! requests under way and bytes unsent are bounded; a connection that ends fails everything that waits for it, once.
//!
//! [`Link`] is the client, on whichever thread: what carries its bytes is a [`Wire`], a shard's socket ([`connect`]) or the
//! control thread's.

mod dial;
pub mod hello;
pub mod keys;
mod limits;
mod link;
mod pipe;
mod wire;

pub use dial::{Whom, connect, introduce};
pub use hello::{Hello, Lane, Refusal, Welcome};
pub use limits::{Limits, LinkError};
pub use link::Link;
pub use pipe::Reply;
pub use wire::Wire;
