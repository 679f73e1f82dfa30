//! Clients that are at the wrong port, or speak to the right one as if it had TLS or SASL: counted by what they speak,
//! and named in the log, once a minute an address.
//!
//! Process-wide, and off the data path: such a connection ends. Both tables have a fixed size; where two addresses
//! share a place in the table of times, the second of a minute is only counted.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::model::BrokerId;
use crate::wire::stranger::Speaks;

const PLACES: usize = 1024;
const QUIET_S: u32 = 60;

/// The port that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    Kafka,
    Http,
    /// The cluster listener.
    Cluster,
}

impl Door {
    pub const ALL: [Self; 3] = [Self::Kafka, Self::Http, Self::Cluster];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Http => "http",
            Self::Cluster => "cluster",
        }
    }
}

static COUNTS: [[AtomicU64; Speaks::ALL.len()]; Door::ALL.len()] =
    [const { [const { AtomicU64::new(0) }; Speaks::ALL.len()] }; Door::ALL.len()];
static TIMES: Times = Times([const { AtomicU32::new(0) }; PLACES]);

/// When what was last said: seconds, and zero for never.
struct Times([AtomicU32; PLACES]);

impl Times {
    /// Whether this may be said at `now`, in seconds; it is then taken for said.
    fn due(&self, what: &impl Hash, now: u32) -> bool {
        let mut hasher = DefaultHasher::new();
        what.hash(&mut hasher);
        let place = &self.0[hasher.finish() as usize % PLACES];
        let said = place.load(Ordering::Relaxed);
        let due = said == 0 || now.wrapping_sub(said) >= QUIET_S;
        due && place.compare_exchange(said, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Connections that were given up because they spoke something else.
pub fn seen(door: Door, speaks: Speaks) -> u64 {
    COUNTS[door as usize][speaks as usize].load(Ordering::Relaxed)
}

/// A connection from `peer` to `local` is given up: what came is no request. `now_ms` since the epoch.
pub fn note(door: Door, peer: SocketAddr, local: SocketAddr, speaks: Speaks, now_ms: i64) {
    COUNTS[door as usize][speaks as usize].fetch_add(1, Ordering::Relaxed);
    let address = peer.ip().to_canonical();
    if TIMES.due(&(address, door, speaks.name()), (now_ms / 1000) as u32) {
        log::warn!("{address} {}", advice(door, speaks, local));
    }
}

/// A broker's connection to the cluster listener is refused.
pub fn refused(peer: SocketAddr, broker: BrokerId, why: &str, now_ms: i64) {
    COUNTS[Door::Cluster as usize][Speaks::Broker as usize].fetch_add(1, Ordering::Relaxed);
    if TIMES.due(&(peer.ip().to_canonical(), broker, why), (now_ms / 1000) as u32) {
        log::warn!(
            "broker {broker} at {} is refused at the cluster listener: {why}",
            peer.ip().to_canonical()
        );
    }
}

fn advice(door: Door, speaks: Speaks, local: SocketAddr) -> String {
    match (door, speaks) {
        (Door::Kafka, Speaks::Tls) => format!(
            "speaks TLS to the Kafka port ({local}), which has none: set security.protocol=PLAINTEXT in that client"
        ),
        (Door::Kafka, Speaks::Sasl) => format!(
            "wants to authenticate by SASL at the Kafka port ({local}), which has none: set \
             security.protocol=PLAINTEXT in that client"
        ),
        (Door::Kafka, Speaks::Http) => format!(
            "speaks HTTP to the Kafka port ({local}): health and metrics are at the address of --admin"
        ),
        (Door::Kafka, Speaks::ProxyProtocol) => format!(
            "is a load balancer that puts the PROXY protocol in front of connections to the Kafka port ({local}): \
             switch that off"
        ),
        (Door::Kafka, Speaks::Ssh) => format!("speaks SSH to the Kafka port ({local})"),
        (Door::Kafka, Speaks::Broker) => format!(
            "asks at the Kafka port ({local}) for what only brokers may, who ask at the cluster listener: it is refused"
        ),
        (Door::Cluster, Speaks::Kafka) => format!(
            "is a Kafka client at the cluster listener ({local}), which is for brokers only: clients connect to the \
             address of --listen"
        ),
        (Door::Cluster, _) => format!(
            "sends bytes to the cluster listener ({local}) that are no broker's of this cluster: clients connect to the \
             address of --listen"
        ),
        (Door::Kafka, Speaks::Kafka | Speaks::Other) => format!(
            "sends bytes to the Kafka port ({local}) that are no request of Kafka's protocol: is it a Kafka client?"
        ),
        (Door::Http, Speaks::Kafka) => format!(
            "speaks Kafka's protocol to the HTTP port ({local}): Kafka clients connect to the address of --listen"
        ),
        (Door::Http, Speaks::Tls) => {
            format!("speaks TLS to the HTTP port ({local}), which has none: ask with http://, not https://")
        }
        (Door::Http, _) => format!("sends bytes to the HTTP port ({local}) that are no HTTP request"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_named_once_a_minute() {
        let times = Times([const { AtomicU32::new(0) }; PLACES]);
        let said = |what: &str, now| times.due(&what, now);
        assert!(said("a", 100) && !said("a", 100) && !said("a", 159) && said("a", 160));
        // Whoever they are and however many, the lines of a minute are bounded.
        let many = (0..100_000).filter(|n| said(&n.to_string(), 1000)).count();
        assert!((PLACES / 2..=PLACES).contains(&many), "{many}");
    }

    #[test]
    fn every_kind_is_told_what_to_do_at_either_door() {
        let local = ([127, 0, 0, 1], 9092).into();
        for door in Door::ALL {
            for speaks in Speaks::ALL {
                assert!(advice(door, speaks, local).contains("127.0.0.1:9092"));
            }
        }
        let before = seen(Door::Kafka, Speaks::Ssh);
        note(Door::Kafka, local, local, Speaks::Ssh, 1);
        assert_eq!(seen(Door::Kafka, Speaks::Ssh), before + 1);
    }
}
