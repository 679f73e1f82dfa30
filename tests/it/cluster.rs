//! Several brokers, each a process of its own on free ports, as one cluster.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kafka_wire::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
use kafka_wire::*;
use kafka_wire_core::{TaggedField, TaggedFields};

use crate::support::broker::{needs_own_broker, serve};
use crate::support::calls::metadata_of;
use crate::support::cluster::three;
use crate::support::{Broker, Options, Wire, eventually, msg};

/// Far beyond what anything here takes on a starved machine.
const LONG: Duration = Duration::from_secs(60);

fn metadata(at: SocketAddr) -> MetadataResponse {
    Wire::connect(at).call(12, &msg!(MetadataRequest { topics: Some(Vec::new()) }))
}

fn brokers(at: SocketAddr) -> Vec<(i32, i32)> {
    metadata(at).brokers.iter().map(|broker| (broker.node_id, broker.port)).collect()
}

fn create(at: SocketAddr, name: &str) -> i16 {
    let topic = msg!(create_topics_request::CreatableTopic {
        name: name.into(),
        num_partitions: 3,
        replication_factor: 1,
    });
    let request = msg!(CreateTopicsRequest { topics: vec![topic], timeout_ms: 20_000 });
    Wire::connect(at).call(7, &request).topics[0].error_code
}

#[test]
fn three_brokers_are_one_cluster_and_each_answers_for_all() {
    if needs_own_broker() {
        return;
    }
    let all = three();
    let addresses: Vec<(i32, i32)> =
        (1..).zip(&all).map(|(id, broker)| (id, i32::from(broker.kafka.port()))).collect();
    for broker in &all {
        eventually("every broker knows of three", LONG, || brokers(broker.kafka) == addresses);
    }
    let ids: Vec<_> = all.iter().map(|broker| metadata(broker.kafka).cluster_id).collect();
    assert!(ids[0].is_some() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    for (nth, broker) in all.iter().enumerate() {
        let name = format!("made-at-{nth}");
        assert_eq!(create(broker.kafka, &name), 0, "whoever is asked, the controller decides");
        // Whoever was asked has it at once; the others soon.
        let ids = |at| metadata_of(&mut Wire::connect(at), &name, false).topic_id;
        let made = ids(broker.kafka);
        assert!(!made.is_zero());
        for other in &all {
            eventually("every broker knows the topic", LONG, || ids(other.kafka) == made);
        }
        assert_eq!(create(all[(nth + 1) % 3].kafka, &name), 36, "it exists, for all of them");
    }
}

#[test]
fn a_broker_comes_back_as_who_it_was() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    let before = brokers(all[0].kafka);
    for nth in [1, 2, 0] {
        all[nth].kill();
        let others = [(nth + 1) % 3, (nth + 2) % 3];
        for other in others {
            eventually("metadata goes on without it", LONG, || {
                create(all[other].kafka, &format!("without-{nth}-{other}")) == 0
            });
        }
        // Without --join, and with the address of a broker that may be dead.
        all[nth].restart_with(|options| {
            if nth == 1 {
                options.args.clear();
            }
        });
        for broker in &all {
            eventually("it is back", LONG, || brokers(broker.kafka) == before);
        }
    }
}

/// Two of three gone at the same moment, or the second while the first has hardly come back: so that both miss an election.
#[test]
fn a_majority_that_restarts_agrees_again() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    let before = brokers(all[0].kafka);
    let rounds = std::env::var("WEIR_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    for round in 0..rounds {
        let (first, second) = ((round + 1) % 3, (round + 2) % 3);
        let changes = |all: &[Broker; 3], nth: usize| {
            let mut attempt = 0;
            eventually("the metadata changes", LONG, || {
                attempt += 1;
                create(all[nth].kafka, &format!("round-{round}-{nth}-{attempt}")) == 0
            });
        };
        all[first].kill();
        match round / 3 % 3 {
            0 => {
                all[second].kill();
                all[first].restart_with(|_| {});
            }
            1 => {
                all[first].restart_with(|_| {});
                all[second].kill();
            }
            _ => {
                changes(&all, second);
                all[first].restart_with(|_| {});
                all[second].kill();
                changes(&all, first);
            }
        }
        all[second].restart_with(|_| {});
        if round % 4 == 3 {
            continue;
        }
        for nth in 0..3 {
            changes(&all, nth);
            eventually("everybody is back", LONG, || brokers(all[nth].kafka) == before);
        }
    }
}

#[test]
fn who_cannot_join_is_told_why() {
    if needs_own_broker() {
        return;
    }
    let refused = |broker: &Broker, join: &str, data: &std::path::Path| {
        let free = crate::support::broker::free_port;
        let mut command = serve(data, free(), free(), 1);
        let output = command.args(["--join", join]).output().expect("it runs");
        assert!(!output.status.success(), "it joined");
        broker_is_well(broker);
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let mut first = Broker::start_with(Options { shards: 1, ..Options::default() });
    let mut other = Broker::start_with(Options { shards: 1, ..Options::default() });
    let fresh = tempfile::tempdir().expect("a directory");

    let closed = crate::support::broker::free_port().to_string();
    let said = refused(&first, &closed, &fresh.path().join("a"));
    assert!(said.contains("no broker answers at"), "{said}");
    let said = refused(&first, &first.admin.to_string(), &fresh.path().join("b"));
    assert!(said.contains("is no broker of Weir") && said.contains("--listen"), "{said}");
    // A directory with a life of its own.
    assert_eq!(create(other.kafka, "its-own"), 0);
    other.stop();
    let said = refused(&first, &first.kafka.to_string(), &other.data_dir());
    assert!(said.contains("--join leads to cluster") && said.contains("never put together"), "{said}");
    first.assert_healthy();
}

fn broker_is_well(broker: &Broker) {
    Wire::connect(broker.kafka).api_versions();
}

/// The address of the cluster listener, as a broker that would join is told it.
fn cluster_address(broker: &Broker) -> SocketAddr {
    let joining = TaggedFields::from_sorted(vec![TaggedField::new(10_000, Default::default())]);
    let request =
        msg!(DescribeClusterRequest { endpoint_type: 2, unknown_tagged_fields: joining.expect("one tag") });
    let described = Wire::connect(broker.kafka).call(1, &request);
    let endpoint = &described.brokers[0];
    SocketAddr::new(endpoint.host.parse().expect("an address"), endpoint.port as u16)
}

#[test]
fn the_cluster_listener_is_for_brokers_and_nothing_that_comes_hurts_it() {
    if needs_own_broker() {
        return;
    }
    let mut broker = Broker::start_with(Options { shards: 1, ..Options::default() });
    let cluster = cluster_address(&broker);
    // A Kafka client, bytes that mean nothing, a length that is a lie, and silence.
    let mut client = Wire::connect(cluster);
    client.send(0, &ApiVersionsRequest::default());
    client.assert_closed("a client at the cluster listener");
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x7f, 0xff, 0xff, 0xff, 1],
        &[0, 0, 0, 8, 0x27, 0x10, 0, 0, 0, 0, 0, 1],
    ] {
        let mut wire = Wire::connect(cluster);
        wire.send_rude(bytes);
        wire.assert_closed("bytes that are no broker's");
    }
    let silent: Vec<_> = (0..200).filter_map(|_| TcpStream::connect(cluster).ok()).collect();
    for mut one in &silent {
        drop(one.write_all(&[0]));
    }
    assert!(broker.log().contains("is a Kafka client at the cluster listener"), "{}", broker.log());
    broker.assert_healthy();
    // A forged replica id, on the clients' listener (CVE-2018-1288).
    assert_eq!(create(broker.kafka, "theirs"), 0);
    let mut wire = Wire::connect(broker.kafka);
    let id = metadata_of(&mut wire, "theirs", false).topic_id;
    let partition = msg!(FetchPartition { partition: 0, partition_max_bytes: 1000 });
    let topic = msg!(FetchTopic { topic_id: id, partitions: vec![partition] });
    let request = msg!(FetchRequest {
        replica_state: msg!(ReplicaState { replica_id: 1, replica_epoch: 1 }),
        session_epoch: -1,
        max_bytes: 1000,
        topics: vec![topic],
    });
    assert_eq!(wire.call(17, &request).responses[0].partitions[0].error_code, 29);
    // What only brokers may ask is no API of the clients' listener.
    let mut wire = Wire::connect(broker.kafka);
    wire.send(0, &EnvelopeRequest::default());
    wire.assert_closed("an Envelope of a client");
}
