use super::*;
use crate::metadata::Store;
use crate::metadata::log::{Entry, Snapshot};
use crate::metadata::quorum::{Member, NEVER};
use crate::model::{PartitionId, TopicId};

const TOPIC: TopicId = TopicId([1; 16]);
const RECOVERY: Recovery = [5; 16];

fn voter(node: i32) -> Voter {
    Voter { node, directory: [node as u8; 16] }
}

fn three() -> Membership {
    let all: Vec<Voter> = (1..=3).map(voter).collect();
    let members = all.iter().map(|voter| Member { voter: *voter, endpoints: Vec::new() }).collect();
    Membership { voters: vec![all], members }
}

/// A node of three whose log ends behind what it knows to be committed.
fn survivor(dir: &Path, node: i32) -> Survivor {
    let mut state = QuorumState::create(dir, [node as u8; 16], Vote::default()).unwrap();
    state.set(Vote { epoch: 9, voted: Some(voter(2)) }).unwrap();
    let records = vec![
        Record::Cluster { id: "abc".into() },
        Record::ProducerIds { next: 5 },
        Record::Topic { id: TOPIC, name: "t".into() },
        Record::new_partition(TOPIC, 0, &[1, 2]),
    ];
    let (membership_at, membership_epoch) = (4, 3);
    let snapshot =
        Snapshot { offset: 4, epoch: 3, membership: three(), membership_at, membership_epoch, records };
    let mut log = MetadataLog::create(dir, &snapshot).unwrap();
    let records = [Record::new_partition(TOPIC, 1, &[1, 2]), Record::new_partition(TOPIC, 2, &[1, 3])];
    let records = What::Records(records.to_vec());
    let entries = [What::Blank, records];
    let entry = |(offset, what)| Entry { offset, epoch: 7, what };
    let entries: Vec<Entry> = (5..).zip(entries).map(entry).collect();
    log.append(&entries).unwrap();
    log.note_committed(5);
    Survivor::of(dir, None).unwrap().unwrap()
}

#[test]
fn who_goes_on_alone_keeps_all_that_it_has_and_gives_nothing_out_twice() {
    let dir = tempfile::tempdir().unwrap();
    let found = survivor(dir.path(), 3);
    assert_eq!((found.me, &*found.cluster, found.recovery), (voter(3), "abc", NEVER));
    assert_eq!((found.epoch, found.offset, found.committed), (7, 6, 5));
    assert!(!found.is_only_voter() && !found.is_blank());
    let recovered = go_alone(dir.path(), &found, RECOVERY).unwrap();
    assert_eq!(recovered.epoch, 10, "one past all that it has heard of");
    let mut store = Store::open(dir.path(), 3).unwrap();
    assert!(store.is_alone());
    assert_eq!((store.epoch(), store.recovery(), store.me()), (10, RECOVERY, voter(3)));
    let image = store.image();
    assert_eq!(image.version, recovered.offset);
    assert!(image.version > 1 << 20 && image.next_producer_id > 1_000_000);
    for index in [0, 1] {
        let partition = image.partition(PartitionId { topic: TOPIC, index }).unwrap();
        assert!(partition.leader_epoch.0 >= 1 << 10 && partition.isr().eq([1, 2]), "{index}");
    }
    // What it is in sync with it leads, whoever else was.
    let partition = image.partition(PartitionId { topic: TOPIC, index: 2 }).unwrap();
    assert!(partition.leader == Some(3) && partition.isr().eq([3]) && partition.leader_epoch.0 >= 1 << 10);
    store.commit(vec![vec![Record::ProducerIds { next: 7_000_000 }]]).unwrap();
    drop(store);
    assert_eq!(Store::open(dir.path(), 3).unwrap().image().next_producer_id, 7_000_000);
    assert!(Survivor::of(dir.path(), None).unwrap().unwrap().is_only_voter());
}

#[test]
fn who_follows_waits_to_be_given_all_and_has_promised_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let found = survivor(dir.path(), 2);
    let aside = tempfile::tempdir().unwrap();
    let kept = keep(dir.path(), aside.path(), 77).unwrap();
    follow(dir.path(), &found, RECOVERY).unwrap();
    let store = Store::join(dir.path(), 2).unwrap();
    assert_eq!((store.epoch(), store.recovery(), store.me()), (0, RECOVERY, voter(2)));
    assert_eq!((store.image().version, store.is_alone()), (0, false));
    drop(store);
    let again = Survivor::of(dir.path(), None).unwrap().unwrap();
    assert!(again.is_blank() && again.cluster == "abc" && again.me == voter(2));
    assert!(has_followed(dir.path()));
    settled(dir.path()).unwrap();
    assert!(!has_followed(dir.path()));
    // Nothing is lost: what was there opens where it was put.
    let before = Survivor::of(&kept, None).unwrap().unwrap();
    assert_eq!((before.epoch, before.offset, before.me), (7, 6, voter(2)));
}

#[test]
fn what_was_cut_short_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let found = survivor(dir.path(), 3);
    // The vote is written, the log is not.
    let mut state = QuorumState::open(dir.path()).unwrap().unwrap();
    state.follow([4; 16], Vote { epoch: 10, voted: Some(found.me) }).unwrap();
    let again = Survivor::of(dir.path(), None).unwrap().unwrap();
    assert!(!again.is_only_voter());
    let recovered = go_alone(dir.path(), &again, RECOVERY).unwrap();
    assert_eq!(recovered.epoch, 11);
    // One that follows and has lost its log already.
    std::fs::remove_file(MetadataLog::inspect(dir.path()).unwrap().unwrap().path).unwrap();
    Node { id: 3, cluster: "abc".into() }.write(dir.path()).unwrap();
    let blank = Survivor::of(dir.path(), None).unwrap().unwrap();
    follow(dir.path(), &blank, [6; 16]).unwrap();
    assert_eq!(Store::join(dir.path(), 3).unwrap().recovery(), [6; 16]);
}

#[test]
fn where_nothing_was_nothing_survives() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Survivor::of(dir.path(), None).unwrap().is_none());
    drop(Store::open(dir.path(), 7).unwrap());
    assert!(Survivor::of(dir.path(), None).unwrap().unwrap().is_only_voter());
}
