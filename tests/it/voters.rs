//! Who votes on the metadata, chosen by an operator and by the controller, on clusters of real processes.

use std::net::SocketAddr;
use std::time::Duration;

use kafka_wire::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_wire::{AddRaftVoterRequest, CreateTopicsRequest, MetadataRequest, RemoveRaftVoterRequest};
use kafka_wire_core::Uuid;
use serde_json::Value;

use crate::support::broker::{needs_own_broker, weir};
use crate::support::cluster::{joining, three, voters};
use crate::support::{Broker, Options, Wire, eventually, msg};

/// Far beyond what anything here takes on a starved machine.
const LONG: Duration = Duration::from_secs(90);
const TIMED_OUT: i16 = 7;
const INVALID_REQUEST: i16 = 42;
const INCONSISTENT_CLUSTER_ID: i16 = 104;
const INVALID_VOTER_KEY: i16 = 125;
const DUPLICATE_VOTER: i16 = 126;
const VOTER_NOT_FOUND: i16 = 127;

fn command(at: SocketAddr, args: &[&str]) -> (bool, String) {
    let mut command = weir();
    command.args(args).args(["--broker", &at.to_string()]);
    let output = command.output().expect("the weir binary starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// What `weir cluster voters` says, after doing it.
fn have(at: SocketAddr, args: &[&str]) -> Value {
    let mut said = String::new();
    eventually("the voters are changed", LONG, || {
        let all: Vec<&str> = ["cluster", "voters"].iter().chain(args).chain(&["--json"]).copied().collect();
        let (done, now) = command(at, &all);
        said = now;
        // What was done and not heard of is not done twice.
        done || said.contains("votes already") || said.contains("is none of the voters")
    });
    let (done, shown) = command(at, &["cluster", "voters", "--json"]);
    assert!(done, "{shown}");
    serde_json::from_str(&shown).unwrap_or_else(|e| panic!("{e}: {shown}"))
}

fn directory(at: SocketAddr, id: i32) -> Uuid {
    let shown = have(at, &[]);
    let member = shown["members"].as_array().into_iter().flatten().find(|member| member["id"] == id);
    let text = member.and_then(|member| member["directory"].as_str()).expect("a member");
    Uuid::from_bytes(decoded(text))
}

/// 22 digits of base64 with `-` and `_`.
fn decoded(text: &str) -> [u8; 16] {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |byte: u8| ALPHABET.iter().position(|one| *one == byte).expect("a digit") as u128;
    let bits = text.bytes().take(21).fold(0u128, |bits, byte| bits << 6 | digit(byte));
    (bits << 2 | digit(text.as_bytes()[21]) >> 4).to_be_bytes()
}

fn add(at: SocketAddr, cluster: &str, id: i32, directory: Uuid, timeout_ms: i32) -> i16 {
    let request = msg!(AddRaftVoterRequest {
        cluster_id: Some(cluster.into()),
        timeout_ms: timeout_ms,
        voter_id: id,
        voter_directory_id: directory,
    });
    Wire::connect(at).call(1, &request).error_code
}

fn remove(at: SocketAddr, cluster: &str, id: i32, directory: Uuid) -> i16 {
    let request = msg!(RemoveRaftVoterRequest {
        cluster_id: Some(cluster.into()),
        voter_id: id,
        voter_directory_id: directory,
    });
    Wire::connect(at).call(0, &request).error_code
}

fn cluster_id(at: SocketAddr) -> String {
    let (done, said) = command(at, &["cluster", "status", "--json"]);
    assert!(done, "{said}");
    let status: Value = serde_json::from_str(&said).expect("JSON");
    status["cluster"].as_str().expect("an id").to_owned()
}

fn changes(at: SocketAddr, name: &str) {
    eventually("the metadata changes", LONG, || {
        let (done, said) = command(at, &["topic", "create", name, "-r", "1"]);
        done || said.contains("already exists")
    });
}

fn of(all: &[Broker], id: i32) -> SocketAddr {
    all[id as usize - 1].kafka
}

#[test]
fn voters_that_an_operator_chooses_stay_until_the_controller_may_choose_again() {
    if needs_own_broker() {
        return;
    }
    let mut all = Vec::from(three());
    all.push(Broker::start_with(joining(&all[0])));
    // Whoever is asked, the controller does it.
    let at = all[3].kafka;
    eventually("the fourth follows the metadata", LONG, || {
        have(at, &[])["members"].as_array().is_some_and(|members| members.len() == 4)
    });
    assert_eq!((have(at, &[])["by_hand"].clone(), voters(at)), (false.into(), vec![1, 2, 3]));
    let (cluster, wrong) = (cluster_id(at), Uuid::from_bytes([9; 16]));
    let [second, fourth] = [2, 4].map(|id| directory(at, id));
    assert_eq!(add(at, &cluster, 2, second, 5_000), DUPLICATE_VOTER);
    assert_eq!(add(at, &cluster, 4, wrong, 5_000), INVALID_VOTER_KEY);
    assert_eq!(add(at, &cluster, 9, wrong, 5_000), INVALID_REQUEST);
    assert_eq!(add(at, "another", 4, fourth, 5_000), INCONSISTENT_CLUSTER_ID);
    assert_eq!(remove(at, &cluster, 4, fourth), VOTER_NOT_FOUND);
    assert_eq!(remove(at, &cluster, 2, wrong), VOTER_NOT_FOUND);
    assert_eq!((have(at, &[])["by_hand"].clone(), voters(at)), (false.into(), vec![1, 2, 3]));

    assert_eq!(add(at, &cluster, 4, fourth, 20_000), 0);
    assert_eq!((have(at, &[])["by_hand"].clone(), voters(at)), (true.into(), vec![1, 2, 3, 4]));
    // The leader, too: somebody else leads on.
    let leader = have(at, &[])["leader"].as_i64().expect("one leads") as i32;
    let others: Vec<i32> = (1..=4).filter(|id| *id != leader).collect();
    have(at, &["remove", &leader.to_string()]);
    eventually("the others vote", LONG, || voters(at) == others);
    eventually("one of them leads", LONG, || {
        have(at, &[])["leader"].as_i64().is_some_and(|id| others.contains(&(id as i32)))
    });
    changes(of(&all, leader), "after-the-leader");

    // It stays so when all of them start again, and when one of them is gone.
    all.iter_mut().for_each(Broker::kill);
    all.iter_mut().for_each(Broker::start_again);
    all.iter_mut().for_each(Broker::await_ready);
    eventually("they vote again", LONG, || voters(at) == others);
    let gone = *others.iter().find(|id| **id != 4).expect("there are three");
    all[gone as usize - 1].kill();
    changes(at, "with-one-gone");
    assert_eq!(add(at, &cluster, gone, directory(at, gone), 100), DUPLICATE_VOTER);
    eventually("it is known to be gone", LONG, || {
        let status = command(at, &["cluster", "status", "--json"]).1;
        let status: Value = serde_json::from_str(&status).unwrap_or_default();
        status["brokers"][gone as usize - 1]["state"] == "fenced"
    });
    let text = command(at, &["cluster", "status"]).1;
    assert!(text.contains("voters were chosen by hand"), "{text}");
    assert_eq!(voters(at), others);
    // What would leave no majority that lives is refused; who is gone can be taken out.
    let lives = *others.iter().find(|id| **id != gone && **id != 4).expect("there are three");
    assert_eq!(remove(at, &cluster, lives, directory(at, lives)), INVALID_REQUEST);
    have(at, &["remove", &gone.to_string()]);
    eventually("two vote", LONG, || voters(at).len() == 2);
    assert_eq!(add(at, &cluster, gone, directory(at, gone), 300), TIMED_OUT, "it does not serve");

    let now = have(at, &["auto"]);
    assert_eq!(now["by_hand"], false);
    eventually("three vote again, of those that live", LONG, || {
        voters(at) == (1..=4).filter(|id| *id != gone).collect::<Vec<_>>()
    });
}

#[test]
fn another_broker_takes_the_place_of_a_voter_that_stays_away() {
    if needs_own_broker() {
        return;
    }
    let args = vec![
        "--quorum-replace-after",
        "2s",
        "--broker-session-timeout",
        "2s",
        "--broker-heartbeat-interval",
        "200ms",
    ];
    let first = Broker::start_with(Options { shards: 1, args: args.clone(), ..Options::default() });
    let join = |broker: &Broker| {
        let mut options = joining(broker);
        options.args.extend(args.iter().copied());
        Broker::start_with(options)
    };
    let mut all = vec![first];
    (0..3).for_each(|_| all.push(join(&all[0])));
    eventually("three vote", LONG, || voters(all[0].kafka) == [1, 2, 3]);
    // The fourth is nearly current before it is needed.
    eventually("the fourth follows", LONG, || {
        have(all[0].kafka, &[])["members"].as_array().is_some_and(|members| members.len() == 4)
    });
    all[1].kill();
    eventually("the fourth has its place", LONG, || voters(all[0].kafka) == [1, 3, 4]);
    changes(all[0].kafka, "goes-on");
    all[1].restart();
    eventually("it is back, and follows", LONG, || {
        let members = have(all[0].kafka, &[])["members"].clone();
        members
            .as_array()
            .is_some_and(|members| members.iter().any(|one| one["id"] == 2 && one["votes"] == false))
    });
    assert_eq!(voters(all[0].kafka), [1, 3, 4], "nobody loses a place to it");
}

/// What a broker may write of a file; for a process that runs.
fn limit_files(broker: &Broker, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a limit in a struct that outlives the call, of a child that has not been waited for.
    let done = unsafe {
        libc::prlimit(broker.pid() as i32, libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut())
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// The metadata's log may not grow any more, as on a file system that has become read-only: the broker cannot know what the cluster
/// is, and must not serve as if it did.
#[test]
fn a_broker_that_cannot_write_metadata_stops_and_says_so() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    let at = all[0].kafka;
    let leader = have(at, &[])["leader"].as_i64().expect("one leads") as i32;
    let failed = (1..=3).find(|id| *id != leader).expect("there are three") as usize - 1;
    limit_files(&all[failed], 64 << 10);
    // Topics that it has no part in.
    let make = |nth: usize| {
        let assignments = (0..100).map(|index| {
            msg!(CreatableReplicaAssignment { partition_index: index, broker_ids: vec![leader] })
        });
        let topic = msg!(CreatableTopic {
            name: format!("others-{nth}").as_str().into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: assignments.collect(),
        });
        let request = msg!(CreateTopicsRequest { topics: vec![topic], timeout_ms: 20_000 });
        let code = Wire::connect(of(&all, leader)).call(7, &request).topics[0].error_code;
        assert_eq!(code, 0, "the others go on");
    };
    (0..30).for_each(make);
    assert_eq!(all[failed].wait_exit(LONG).code(), Some(1));
    let log = all[failed].log();
    assert!(log.contains("cannot keep the cluster's metadata any more"), "{log}");
    assert!(log.contains("File too large") && !log.contains("panicked"), "{log}");
    all[failed].restart();
    eventually("all of it is there", LONG, || {
        let reply = Wire::connect(all[failed].kafka).call(12, &msg!(MetadataRequest { topics: None }));
        reply
            .topics
            .iter()
            .filter(|topic| topic.name.as_ref().is_some_and(|n| n.starts_with("others")))
            .count()
            == 30
    });
    assert_eq!(voters(at).len(), 3);
}
