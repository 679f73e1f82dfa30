//! A cluster that has lost the majority of its voters for good: `weir cluster recover` on what survived, on real processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::batch::encoded;
use crate::support::broker::{needs_own_broker, run, weir};
use crate::support::calls::{Topic, metadata_of, produce_at, read_from};
use crate::support::cluster::{joining, three, voters, whole};
use crate::support::{Broker, Wire, eventually};

/// Far beyond what anything here takes on a starved machine.
const LONG: Duration = Duration::from_secs(90);
const UNKNOWN_TOPIC: i16 = 3;

/// What the command says, and whether it has done it.
fn recover(data: &Path, more: &[&str]) -> (bool, String) {
    let mut command = weir();
    command.args(["cluster", "recover", "--data-dir"]).arg(data).args(more);
    let output = run(&mut command);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn must(data: &Path, more: &[&str]) -> String {
    let (done, said) = recover(data, more);
    assert!(done, "{said}");
    said
}

fn create(at: SocketAddr, name: &str, replicas: &str, configs: &[&str]) {
    let mut command = weir();
    command.args(["topic", "create", name, "-p", "3", "-r", replicas, "--broker", &at.to_string()]);
    command.args(configs.iter().flat_map(|config| ["-c", config]));
    eventually("the topic is made", LONG, || {
        let output = command.output().expect("the weir binary starts");
        output.status.success() || String::from_utf8_lossy(&output.stderr).contains("already exists")
    });
}

fn topic(at: SocketAddr, name: &str) -> Topic {
    Topic { name: name.into(), id: metadata_of(&mut Wire::connect(at), name, false).topic_id }
}

/// Where the leader of a partition is, as one of the three says, whose ids are their places.
fn leader(all: &[Broker; 3], at: SocketAddr, name: &str, index: i32) -> Option<SocketAddr> {
    let partitions = metadata_of(&mut Wire::try_connect(at).ok()?, name, false).partitions;
    let id = partitions.iter().find(|p| p.partition_index == index)?.leader_id;
    Some(all.get(usize::try_from(id - 1).ok()?)?.kafka)
}

/// One record with acks=all to each partition, found by way of `nth`.
fn produce(all: &[Broker; 3], nth: usize, topic: &Topic, value: &str) {
    for index in 0..3 {
        eventually("a record is acknowledged", LONG, || {
            let Some(at) = leader(all, all[nth].kafka, &topic.name, index) else { return false };
            let Ok(mut wire) = Wire::try_connect(at) else { return false };
            let records = encoded([value]);
            produce_at(&mut wire, 9, topic, index, -1, records).error_code == 0
        });
    }
}

/// Whether each partition has exactly these values in this order, each at least once.
fn has(all: &[Broker; 3], nth: usize, topic: &Topic, values: &[&str]) -> bool {
    (0..3).all(|index| {
        let Some(at) = leader(all, all[nth].kafka, &topic.name, index) else { return false };
        let Ok(mut wire) = Wire::try_connect(at) else { return false };
        let mut rows = read_from(&mut wire, topic, index, 0);
        // What was not acknowledged is sent again.
        rows.dedup_by(|one, other| one.1 == other.1);
        rows.iter().map(|(_, value)| &value[..]).eq(values.iter().map(|value| value.as_bytes()))
    })
}

#[test]
fn one_of_three_goes_on_where_the_others_are_lost() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    create(all[0].kafka, "kept", "3", &["min.insync.replicas=1"]);
    eventually("each partition has its replicas", LONG, || whole(&all, &["kept"], 3));
    let kept = topic(all[0].kafka, "kept");
    produce(&all, 0, &kept, "before");
    let data = all[2].data_dir();
    let (done, said) = recover(&data, &["--cluster-id", "x"]);
    assert!(!done && said.contains("is in use by process"), "{said}");
    all.iter_mut().for_each(Broker::kill);
    for lost in &all[..2] {
        std::fs::remove_dir_all(lost.data_dir()).expect("the disk is gone");
    }
    // It asks for the cluster's id, and changes nothing without it.
    let (done, said) = recover(&data, &[]);
    assert!(!done && said.contains("nothing was done") && said.contains("voters were [1, 2, 3]"), "{said}");
    let (done, said) = recover(&data, &["--cluster-id", "another"]);
    assert!(!done && said.contains("nothing was done"), "{said}");
    let facts: serde_json::Value = serde_json::from_str(&must(&data, &["--json"])).expect("JSON");
    let cluster = facts["cluster"].as_str().expect("its id");
    let said = must(&data, &["--cluster-id", cluster]);
    assert!(said.contains("broker 3 decides alone"), "{said}");
    let (done, said) = recover(&data, &["--cluster-id", cluster]);
    assert!(!done && said.contains("needs nobody"), "{said}");

    all[2].restart_with(|options| options.args.clear());
    let third = &all[2];
    eventually("it decides alone", LONG, || voters(third.kafka) == [3]);
    eventually("what was acknowledged is there", LONG, || has(&all, 2, &kept, &["before"]));
    produce(&all, 2, &kept, "after");
    create(third.kafka, "new", "1", &[]);
    for lost in ["1", "2"] {
        let mut command = weir();
        command.args(["cluster", "remove", lost, "--force", "--broker", &third.kafka.to_string()]);
        eventually("who is lost is taken out", LONG, || command.output().is_ok_and(|o| o.status.success()));
    }
    // It grows again, with brokers that begin with nothing.
    let fourth = Broker::start_with(joining(third));
    let fifth = Broker::start_with(joining(&fourth));
    eventually("three vote again", LONG, || voters(fifth.kafka).len() == 3);
    assert!(has(&all, 2, &kept, &["before", "after"]));
}

#[test]
fn survivors_follow_and_keep_what_the_one_that_went_on_does_not_know() {
    if needs_own_broker() {
        return;
    }
    let mut all = three();
    create(all[0].kafka, "kept", "3", &[]);
    eventually("each partition has its replicas", LONG, || whole(&all, &["kept"], 3));
    let kept = topic(all[0].kafka, "kept");
    produce(&all, 0, &kept, "before");
    eventually("all of them have it", LONG, || has(&all, 0, &kept, &["before"]) && whole(&all, &["kept"], 3));
    // The third hears of nothing more.
    all[2].kill();
    create(all[0].kafka, "late", "2", &[]);
    let late = topic(all[0].kafka, "late");
    produce(&all, 0, &late, "late");
    produce(&all, 0, &kept, "unknown");
    // One has what it had in segments, and a checkpoint that lists them; the other has most in its journal.
    assert!(all[0].stop().success());
    all[1].kill();

    let facts: serde_json::Value =
        serde_json::from_str(&must(&all[2].data_dir(), &["--json"])).expect("JSON");
    let cluster = facts["cluster"].as_str().expect("its id").to_owned();
    must(&all[2].data_dir(), &["--cluster-id", &cluster]);
    all[2].restart_with(|options| options.args.clear());
    eventually("it decides alone", LONG, || voters(all[2].kafka) == [3]);

    // Who was told nothing has no part in it, and says so.
    all[0].start_again();
    eventually("it says what there is to do", LONG, || {
        all[0].log().contains("recovered without broker 1") && all[0].log().contains("--follow")
    });
    all[0].kill();
    assert_eq!(voters(all[2].kafka), [3]);
    let went_on = all[2].kafka.to_string();
    for nth in [0, 1] {
        let data = all[nth].data_dir();
        let (done, said) = recover(&data, &["--follow", &went_on, "--cluster-id", "another"]);
        assert!(!done && said.contains("nothing was done"), "{said}");
        let said = must(&data, &["--follow", &went_on, "--cluster-id", &cluster]);
        assert!(said.contains("set-aside"), "{said}");
        let (done, said) = recover(&data, &["--follow", &went_on, "--cluster-id", &cluster]);
        assert!(!done && said.contains("follows that recovery already"), "{said}");
    }
    // One is found at the address that it had, the other looks for the others itself.
    all[0].restart_with(|options| options.args.clear());
    let join: &'static str = Box::leak(went_on.into_boxed_str());
    all[1].restart_with(|options| options.args = vec!["--join", join]);
    eventually("all are in sync again", LONG, || whole(&all, &["kept"], 3));
    eventually("three vote again", LONG, || voters(all[1].kafka).len() == 3);
    produce(&all, 0, &kept, "after");
    assert!(has(&all, 1, &kept, &["before", "after"]), "nobody has what the one that went on had not");
    assert_eq!(metadata_of(&mut Wire::connect(all[0].kafka), "late", false).error_code, UNKNOWN_TOPIC);
    for nth in [0, 1] {
        let aside = std::fs::read_dir(all[nth].data_dir().join("set-aside")).expect("there is something");
        let kept: Vec<_> = aside.flatten().map(|entry| entry.path()).collect();
        assert!(kept.iter().any(|dir| dir.join("quorum-state").exists()), "{kept:?}");
        let is_late = |dir: &PathBuf| match nth {
            0 => dir.join("late-0").exists(),
            _ => dir.to_string_lossy().ends_with("-0") && dir.join(format!("{:020}.log", 0)).exists(),
        };
        assert!(kept.iter().any(is_late), "{kept:?}");
        all[nth].assert_healthy();
    }
}
