//! How fast groups are: not a test of right or wrong, so it runs only when asked for, against the broker of
//! `WEIR_TEST_BROKER` (a release build, or Apache Kafka), with an initial rebalance delay of 100 ms: with none, the first
//! member would have a generation to itself, and nobody here rejoins before all are answered:
//!
//! ```sh
//! WEIR_TEST_BROKER=127.0.0.1:9092 cargo test --release --test it group_speed -- --ignored --nocapture --test-threads 1
//! ```
//!
//! `WEIR_TEST_PID` names the broker's process, for what idle groups cost it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::{
    FindCoordinatorRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, SyncGroupRequest,
};
use kafka_wire_core::StrBytes;

use crate::support::calls::create;
use crate::support::{Wire, eventually, msg, shared, unique};

const MEMBERS: usize = 100;
const PARTITIONS: usize = 1000;

fn ready(addr: SocketAddr) -> Wire {
    let mut wire = Wire::connect(addr);
    eventually("a coordinator", Duration::from_secs(30), || {
        let found = wire.call(4, &msg!(FindCoordinatorRequest { coordinator_keys: vec!["x".into()] }));
        found.coordinators[0].error_code == 0
    });
    wire
}

fn join(group: &str, member: &StrBytes, round: usize) -> JoinGroupRequest {
    // A consumer's metadata with a hundred bytes that change each time.
    let mut metadata = vec![0, 1, 0, 0, 0, 1, 0, 5];
    metadata.extend(b"topic");
    metadata.extend(100_i32.to_be_bytes());
    metadata.extend([round as u8; 100]);
    msg!(JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.clone(),
        protocol_type: "consumer".into(),
        protocols: vec![msg!(JoinGroupRequestProtocol { name: "range".into(), metadata: metadata.into() })],
    })
}

/// A consumer's assignment of `each` partitions.
fn assignment(each: usize) -> Bytes {
    let mut out = vec![0, 1, 0, 0, 0, 1, 0, 5];
    out.extend(b"topic");
    out.extend((each as i32).to_be_bytes());
    out.extend((0..each as i32).flat_map(i32::to_be_bytes));
    out.extend([0xff; 4]);
    out.into()
}

/// One rebalance: everybody joins, the leader assigns, everybody has its assignment. `None` if it was overtaken by
/// another one.
fn rebalance(wires: &mut [Wire], group: &str, ids: &mut [StrBytes], round: usize) -> Option<Duration> {
    let started = Instant::now();
    let sent: Vec<i32> =
        wires.iter_mut().zip(ids.iter()).map(|(wire, id)| wire.send(5, &join(group, id, round))).collect();
    let mut joined: Vec<JoinGroupResponse> = Vec::with_capacity(MEMBERS);
    for ((wire, id), correlation) in wires.iter_mut().zip(ids.iter_mut()).zip(sent) {
        let mut reply = wire.receive::<JoinGroupRequest>(5, correlation);
        if reply.error_code == 79 {
            *id = reply.member_id.clone();
            reply = wire.call(5, &join(group, id, round));
        }
        joined.push(reply);
    }
    let generation = joined.iter().map(|j| j.generation_id).max()?;
    let full = joined.iter().all(|j| j.error_code == 0 && j.generation_id == generation);
    let leader = joined.iter().position(|j| j.leader == j.member_id && j.members.len() == MEMBERS)?;
    if !full {
        return None;
    }
    let given = assignment(PARTITIONS / MEMBERS);
    let mut sent = Vec::with_capacity(MEMBERS);
    for (i, (wire, reply)) in wires.iter_mut().zip(&joined).enumerate() {
        let mut request = msg!(SyncGroupRequest {
            group_id: group.into(),
            generation_id: generation,
            member_id: reply.member_id.clone(),
        });
        if i == leader {
            let one = |id: &StrBytes| {
                msg!(SyncGroupRequestAssignment { member_id: id.clone(), assignment: given.clone() })
            };
            request.assignments = joined.iter().map(|j| one(&j.member_id)).collect();
        }
        sent.push(wire.send(3, &request));
    }
    for (wire, correlation) in wires.iter_mut().zip(sent) {
        let reply = wire.receive::<SyncGroupRequest>(3, correlation);
        if reply.error_code != 0 || reply.assignment != given {
            return None;
        }
    }
    Some(started.elapsed())
}

#[test]
#[ignore = "a measurement"]
fn group_speed_rebalance() {
    let addr = shared();
    ready(addr);
    let group = unique("speed");
    let mut wires: Vec<Wire> = (0..MEMBERS).map(|_| Wire::connect(addr)).collect();
    // Members get their ids, and with the last of them the first full generation.
    let mut ids = Vec::new();
    for wire in &mut wires {
        let reply = wire.call(5, &join(&group, &StrBytes::default(), 0));
        assert_eq!(reply.error_code, 79);
        ids.push(reply.member_id);
    }
    let mut times = Vec::new();
    // The first one waits for the initial delay.
    rebalance(&mut wires, &group, &mut ids, 0);
    for round in 1..=60 {
        times.extend(rebalance(&mut wires, &group, &mut ids, round));
    }
    times.sort();
    assert!(times.len() > 20, "only {} rebalances went through", times.len());
    println!(
        "rebalance, {MEMBERS} members, {PARTITIONS} partitions: median {:?}, best {:?}, worst {:?}, of {}",
        times[times.len() / 2],
        times[0],
        times[times.len() - 1],
        times.len()
    );
}

fn commit(group: &str, topic: &str, offset: i64) -> OffsetCommitRequest {
    let partition = msg!(OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: -1,
        committed_metadata: Some("".into()),
    });
    msg!(OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: vec![msg!(OffsetCommitRequestTopic { name: topic.into(), partitions: vec![partition] })],
    })
}

#[test]
#[ignore = "a measurement"]
fn group_speed_commits() {
    const GROUPS: usize = 1000;
    const CONNECTIONS: usize = 16;
    const WINDOW: usize = 64;
    let addr = shared();
    let mut wire = ready(addr);
    let topic = create(&mut wire, "speed", 1, &[]).name;
    let prefix = unique("commits");
    let until = Instant::now() + Duration::from_secs(8);
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|worker| {
            let (topic, prefix) = (topic.clone(), prefix.clone());
            std::thread::spawn(move || {
                let mut wire = Wire::connect(addr);
                let groups: Vec<String> =
                    (worker..GROUPS).step_by(CONNECTIONS).map(|g| format!("{prefix}-{g}")).collect();
                let (mut done, mut counted, mut next) = (0_i64, 0_i64, 0_usize);
                let mut open = std::collections::VecDeque::new();
                let warm = until - Duration::from_secs(6);
                while Instant::now() < until {
                    while open.len() < WINDOW {
                        let request = commit(&groups[next % groups.len()], &topic, next as i64);
                        open.push_back(wire.send(7, &request));
                        next += 1;
                    }
                    let reply =
                        wire.receive::<OffsetCommitRequest>(7, open.pop_front().expect("one is open"));
                    let code = reply.topics[0].partitions[0].error_code;
                    assert!(code == 0 || code == 14 || code == 16, "a commit failed: {code}");
                    done += i64::from(code == 0);
                    counted += i64::from(code == 0 && Instant::now() >= warm);
                }
                assert!(done > 0);
                counted
            })
        })
        .collect();
    let total: i64 = workers.into_iter().map(|worker| worker.join().expect("a worker")).sum();
    println!(
        "commits, {GROUPS} groups, {CONNECTIONS} connections x {WINDOW}: {:.0} a second",
        total as f64 / 6.0
    );
}

#[test]
#[ignore = "a measurement"]
fn group_speed_idle() {
    const GROUPS: usize = 10_000;
    let addr = shared();
    let mut wire = ready(addr);
    let topic = create(&mut wire, "idle", 1, &[]).name;
    let pid = std::env::var("WEIR_TEST_PID").ok();
    let before = pid.as_deref().map(rss_kib);
    let prefix = unique("idle");
    let mut open = std::collections::VecDeque::new();
    for g in 0..GROUPS {
        open.push_back(wire.send(7, &commit(&format!("{prefix}-{g}"), &topic, 1)));
        if open.len() > 64 {
            wire.receive::<OffsetCommitRequest>(7, open.pop_front().expect("one is open"));
        }
    }
    for correlation in open {
        wire.receive::<OffsetCommitRequest>(7, correlation);
    }
    let Some(pid) = pid else { return println!("idle: set WEIR_TEST_PID") };
    let with_offsets = rss_kib(&pid);
    for g in 0..GROUPS {
        settle_alone(&mut wire, &format!("{prefix}-member-{g}"));
    }
    std::thread::sleep(Duration::from_secs(3));
    let (cpu, with_members) = (cpu_ticks(&pid), rss_kib(&pid));
    std::thread::sleep(Duration::from_secs(10));
    println!(
        "{GROUPS} groups with an offset and {GROUPS} with a member, idle: {} ms of CPU in 10 s; memory of a group with an \
         offset {} bytes, with a member {} bytes",
        (cpu_ticks(&pid) - cpu) * 10,
        (with_offsets - before.unwrap_or(0)) * 1024 / GROUPS as i64,
        (with_members - with_offsets) * 1024 / GROUPS as i64,
    );
}

/// A group of one member, which has its assignment and half an hour until it is missed.
fn settle_alone(wire: &mut Wire, group: &str) {
    let mut request = join(group, &StrBytes::default(), 0);
    request.session_timeout_ms = 1_800_000;
    // From version 4 on a member would be asked to come back with its id.
    let joined = wire.call(3, &request);
    assert_eq!(joined.error_code, 0);
    let given =
        msg!(SyncGroupRequestAssignment { member_id: joined.member_id.clone(), assignment: assignment(10) });
    let synced = wire.call(
        2,
        &msg!(SyncGroupRequest {
            group_id: group.into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id,
            assignments: vec![given],
        }),
    );
    assert_eq!(synced.error_code, 0);
}

fn rss_kib(pid: &str) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

fn cpu_ticks(pid: &str) -> i64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11].parse::<i64>().expect("utime") + fields[12].parse::<i64>().expect("stime")
}
