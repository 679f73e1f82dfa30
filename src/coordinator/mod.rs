//! Coordinators: state machines whose state is the contents of one partition of an internal topic.
//!
//! Pure: `(event, now) → effects`. Nothing here knows the runtime, the log, a connection or another partition; the
//! driver in `shard` owns a [`Machine`] for each coordinator partition of its shard, feeds it and does what it says.
//!
//! ```text
//!  request ─┐                                  ┌─ records ──▶ one batch appended to the machine's own partition
//!  timer  ──┼─▶ Machine ──▶ Effects ───────────┼─ replies ──▶ at once, or once everything appended so far is durable
//!  log    ──┘  (replay)                        ├─ commands ─▶ once everything appended so far is durable
//!                                              └─ timers ───▶ one heap a shard
//! ```
//!
//! Invariants: a machine changes its state as it emits the records that say so, and nobody is told of either before
//! the records are durable; an append that fails ends the machine, and a restart builds it again from the log.
//! A machine is never asked to take a change back, so it refuses what could not be written before it changes anything.

pub mod group;
mod timers;
pub mod txn;

use bytes::Bytes;

use crate::model::{MonoMs, Offset, Producer, WallMs};

pub use timers::{Deadline, Fired, TimerHeap};

/// Milliseconds: of the wall clock in records, of the shard's monotonic clock in deadlines.
pub type Ms = i64;

/// Names a request until it is answered.
pub type Token = u64;

/// A record of the machine's partition; without a value it deletes its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// One record as it lies in the log, when a machine is loaded.
#[derive(Clone, Debug)]
pub struct Replayed {
    pub offset: i64,
    /// The transactional producer that wrote it, if one did.
    pub producer: Option<Producer>,
    /// A control record ends a transaction and is no data of the machine's.
    pub is_control: bool,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
}

/// The state of one coordinator partition.
pub trait Machine: Sized + 'static {
    type Request;
    type Reply;
    type Timer: 'static;
    /// What a machine wants done outside of its partition.
    type Command;

    /// The internal topic whose partitions hold this state.
    const TOPIC: &'static str;

    /// Whether the request may write: it is not asked while nothing can be committed.
    fn writes(request: &Self::Request) -> bool;
    /// Takes in one record of the log; what it does not know it ignores.
    fn replay(&mut self, record: &Replayed);
    /// The whole log was taken in: time begins.
    fn loaded(&mut self, fx: &mut Effects<Self>);
    fn handle(&mut self, token: Token, request: Self::Request, fx: &mut Effects<Self>);
    /// A timer is due. It may be one that means nothing any more.
    fn fire(&mut self, timer: Self::Timer, fx: &mut Effects<Self>);
    /// Topics went away.
    fn topics_deleted(&mut self, names: &[String], fx: &mut Effects<Self>);
}

/// What a machine wants done after an event, and the event's time.
pub struct Effects<M: Machine> {
    /// The monotonic clock, for deadlines.
    pub now: Ms,
    /// The wall clock, for what is stored.
    pub wall: Ms,
    /// The offset that the first record of this event will get.
    pub next_offset: i64,
    /// The largest batch that the partition takes.
    pub max_batch: usize,
    pub records: Vec<Record>,
    /// Makes the records' batch a transactional one.
    pub producer: Option<Producer>,
    pub replies: Vec<Answer<M::Reply>>,
    pub commands: Vec<M::Command>,
    pub timers: Vec<(Ms, M::Timer)>,
}

pub struct Answer<R> {
    pub token: Token,
    pub reply: R,
    /// Not before everything that was appended so far is durable: the reply says, or rests on, what is stored.
    pub settled: bool,
}

impl<M: Machine> Effects<M> {
    pub fn new(now: MonoMs, wall: WallMs, next: Offset, max_batch: usize) -> Self {
        Self {
            now: now.0,
            wall: wall.0,
            next_offset: next.0,
            max_batch,
            records: Vec::new(),
            producer: None,
            replies: Vec::new(),
            commands: Vec::new(),
            timers: Vec::new(),
        }
    }

    /// Stores a record; returns its offset.
    pub fn write(&mut self, record: Record) -> i64 {
        self.records.push(record);
        self.next_offset + self.records.len() as i64 - 1
    }

    pub fn write_all(&mut self, records: Vec<Record>) {
        self.records.extend(records);
    }

    /// Answers at once.
    pub fn reply(&mut self, token: Token, reply: M::Reply) {
        self.replies.push(Answer { token, reply, settled: false });
    }

    /// Answers once everything that was appended so far, by this event too, is durable.
    pub fn reply_settled(&mut self, token: Token, reply: M::Reply) {
        self.replies.push(Answer { token, reply, settled: true });
    }

    pub fn schedule(&mut self, at: Ms, timer: M::Timer) {
        self.timers.push((at, timer));
    }
}

/// A request to a machine, and which of its replies answers it: whoever asks is given that kind, or nothing.
pub struct Ask<M: Machine, A> {
    pub request: M::Request,
    pub answer: fn(M::Reply) -> Option<A>,
}

/// Defines functions that make an [`Ask`] each: its request, and the replies that answer it.
macro_rules! asks {
    ($machine:ident: $(
        $(#[$doc:meta])*
        $name:ident($($arg:ident: $type:ty),* $(,)?) = $request:expr, $($reply:pat => $value:expr),+ => $answer:ty;
    )*) => {$(
        $(#[$doc])*
        pub fn $name($($arg: $type),*) -> $crate::coordinator::Ask<$machine, $answer> {
            $crate::coordinator::Ask {
                request: $request,
                answer: |reply| match reply {
                    $($reply => Some($value),)+
                    _ => None,
                },
            }
        }
    )*};
}
pub(crate) use asks;

/// The partition of an internal topic that holds a key: Java's `String.hashCode`, made non-negative, modulo.
pub fn partition_for(key: &str, partitions: usize) -> i32 {
    let hash =
        key.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let positive = if hash == i32::MIN { 0 } else { hash.abs() };
    positive % (partitions.max(1) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_kafka_puts_them() {
        // From Java: Utils.abs("…".hashCode()) % 50.
        for (key, partition) in [("", 0), ("a", 47), ("group", 47), ("polygenelubricants", 0), ("ü😀", 21)]
        {
            assert_eq!(partition_for(key, 50), partition, "{key}");
        }
    }
}
