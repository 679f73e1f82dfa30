//! The first request of a connection between brokers, and its answer.
//!
//! Bytes behind the fields that a build knows are a newer one's, and ignored.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_wire_core::StrBytes;

use crate::metadata::quorum::Recovery;
use crate::model::BrokerId;
use crate::wire::WireError;
use crate::wire::read::Reader;

/// The node id of who has none yet, or does not know it.
pub const NOBODY: BrokerId = -1;

/// What a connection is for: who serves it, and in whose way it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// The quorum, registration, heartbeats, proposals: the control thread serves it.
    Control,
    /// Replication of what is in sync, or nearly.
    Live,
    /// Replication of what is far behind.
    CatchUp,
    /// Requests on behalf of clients and coordinators.
    Calls,
}

impl Lane {
    pub const ALL: [Self; 4] = [Self::Control, Self::Live, Self::CatchUp, Self::Calls];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Live => "live",
            Self::CatchUp => "catch_up",
            Self::Calls => "calls",
        }
    }
}

/// Who calls, in which life of its, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub cluster: String,
    /// Whom it wants to reach; [`NOBODY`] where it knows an address only.
    pub to: BrokerId,
    /// [`NOBODY`] before it has joined.
    pub broker: BrokerId,
    /// Of its registration; -1 before it has one.
    pub epoch: i64,
    pub incarnation: [u8; 16],
    /// Of its metadata.
    pub directory: [u8; 16],
    /// Which recovery of its cluster it follows.
    pub recovery: Recovery,
    pub lane: Lane,
    /// The shard that is to serve the connection, unless the lane is the control thread's.
    pub shard: u32,
}

impl Hello {
    pub fn encode(&self, out: &mut BytesMut) {
        put_string(out, &self.cluster);
        out.put_i32(self.to);
        out.put_i32(self.broker);
        out.put_i64(self.epoch);
        out.put_slice(&self.incarnation);
        out.put_slice(&self.directory);
        out.put_slice(&self.recovery);
        out.put_i16(self.lane as i16);
        out.put_u32(self.shard);
    }

    pub fn decode(body: BytesMut) -> Result<Self, WireError> {
        let mut from = Reader::new(body);
        Ok(Self {
            cluster: from.string(false, "the cluster id")?.to_string(),
            to: from.i32("the broker that is called")?,
            broker: from.i32("the broker that calls")?,
            epoch: take_i64(&mut from, "the broker epoch")?,
            incarnation: from.uuid("the incarnation")?,
            directory: from.uuid("the directory id")?,
            recovery: from.uuid("the recovery")?,
            lane: {
                let lane = usize::try_from(from.i16("the lane")?).ok();
                *lane.and_then(|lane| Lane::ALL.get(lane)).ok_or(WireError::Length("the lane"))?
            },
            shard: from.i32("the shard")? as u32,
        })
    }
}

/// Why a Hello is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is of another cluster.
    ForeignCluster,
    /// Another broker than the one that was called has this address.
    AnotherBroker,
    /// No broker of this id is registered, as far as is known here yet.
    UnknownBroker,
    /// A later life of the broker has registered.
    StaleBroker,
    /// There are fewer shards.
    NoSuchShard,
    TooManyConnections,
    /// It starts, or stops.
    NotServing,
    /// The cluster was recovered, and one of them has not followed.
    OtherRecovery,
    /// A newer build's.
    Other(i16),
}

impl Refusal {
    const KNOWN: [Self; 8] = [
        Self::ForeignCluster,
        Self::AnotherBroker,
        Self::UnknownBroker,
        Self::StaleBroker,
        Self::NoSuchShard,
        Self::TooManyConnections,
        Self::NotServing,
        Self::OtherRecovery,
    ];

    pub fn code(self) -> i16 {
        match self {
            Self::Other(code) => code,
            known => {
                1 + Self::KNOWN.iter().position(|one| *one == known).expect("every refusal is listed") as i16
            }
        }
    }

    fn of(code: i16) -> Self {
        let known = usize::try_from(code - 1).ok().and_then(|at| Self::KNOWN.get(at));
        known.copied().unwrap_or(Self::Other(code))
    }
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub cluster: String,
    pub broker: BrokerId,
    pub epoch: i64,
    pub incarnation: [u8; 16],
    pub directory: [u8; 16],
    pub shards: u32,
}

/// The answer to a Hello: who it is that answers, or why not, with what to do.
pub type Answer = Result<Welcome, (Refusal, String)>;

pub fn encode_answer(answer: &Answer, out: &mut BytesMut) {
    match answer {
        Ok(welcome) => {
            out.put_i16(0);
            put_string(out, "");
            put_string(out, &welcome.cluster);
            out.put_i32(welcome.broker);
            out.put_i64(welcome.epoch);
            out.put_slice(&welcome.incarnation);
            out.put_slice(&welcome.directory);
            out.put_u32(welcome.shards);
        }
        Err((refusal, why)) => {
            out.put_i16(refusal.code());
            put_string(out, why);
        }
    }
}

pub fn decode_answer(body: Bytes) -> Result<Answer, WireError> {
    let mut from = Reader::new(BytesMut::from(body));
    let code = from.i16("the code")?;
    let why: StrBytes = from.string(false, "the reason")?;
    if code != 0 {
        return Ok(Err((Refusal::of(code), why.to_string())));
    }
    Ok(Ok(Welcome {
        cluster: from.string(false, "the cluster id")?.to_string(),
        broker: from.i32("the broker that answers")?,
        epoch: take_i64(&mut from, "the broker epoch")?,
        incarnation: from.uuid("the incarnation")?,
        directory: from.uuid("the directory id")?,
        shards: from.i32("the number of shards")? as u32,
    }))
}

fn take_i64(from: &mut Reader, what: &'static str) -> Result<i64, WireError> {
    let (high, low) = (from.i32(what)?, from.i32(what)? as u32);
    Ok(i64::from(high) << 32 | i64::from(low))
}

/// What is too long for Kafka's strings loses its end.
fn put_string(out: &mut BytesMut, text: &str) {
    let mut end = text.len().min(1024);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.put_i16(end as i16);
    out.put_slice(&text.as_bytes()[..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            cluster: "abc".into(),
            to: 2,
            broker: 7,
            epoch: i64::MIN + 3,
            incarnation: [1; 16],
            directory: [2; 16],
            recovery: [3; 16],
            lane: Lane::CatchUp,
            shard: 5,
        }
    }

    fn encoded(hello: &Hello) -> BytesMut {
        let mut out = BytesMut::new();
        hello.encode(&mut out);
        out
    }

    #[test]
    fn what_is_said_is_heard_and_what_a_newer_build_adds_is_not() {
        for lane in Lane::ALL {
            let hello = Hello { lane, ..hello() };
            let mut bytes = encoded(&hello);
            assert_eq!(Hello::decode(bytes.clone()), Ok(hello.clone()));
            bytes.extend_from_slice(b"more");
            assert_eq!(Hello::decode(bytes), Ok(hello));
        }
        let welcome = Welcome {
            cluster: "abc".into(),
            broker: 2,
            epoch: 9,
            incarnation: [3; 16],
            directory: [4; 16],
            shards: 64,
        };
        let mut answers: Vec<Answer> = vec![Ok(welcome)];
        answers.extend(Refusal::KNOWN.map(|refusal| Err((refusal, "wait".into()))));
        answers.push(Err((Refusal::Other(99), String::new())));
        for answer in answers {
            let mut bytes = BytesMut::new();
            encode_answer(&answer, &mut bytes);
            assert_eq!(decode_answer(bytes.freeze()), Ok(answer));
        }
    }

    #[test]
    fn cut_and_odd_bytes_are_errors() {
        let whole = encoded(&hello());
        for len in 0..whole.len() {
            assert!(Hello::decode(whole.clone().split_to(len)).is_err(), "{len}");
        }
        let lane_at = whole.len() - 6;
        for lane in [-1i16, 4, i16::MAX] {
            let mut odd = whole.clone();
            odd[lane_at..lane_at + 2].copy_from_slice(&lane.to_be_bytes());
            assert!(Hello::decode(odd).is_err(), "{lane}");
        }
        assert!(Hello::decode(BytesMut::from(&[0x7f, 0xff, 1][..])).is_err());
        assert!(decode_answer(Bytes::from_static(&[0, 0, 0, 0])).is_err());
        let long = Hello { cluster: "é".repeat(4000), ..hello() };
        assert!(Hello::decode(encoded(&long)).unwrap().cluster.len() <= 1024);
    }
}
