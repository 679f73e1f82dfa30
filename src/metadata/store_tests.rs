use std::fs;
use std::path::PathBuf;

use super::*;
use crate::metadata::records::Owner;
use crate::model::PartitionId;

fn fixture() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metadata/fixtures/metadata-1.log")).unwrap()
}

fn old(dir: &Path) -> PathBuf {
    dir.join("metadata-00000000000000000001.log")
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const TOPIC: TopicId = TopicId([7; 16]);

/// What the fixture's changes have made: its last one deletes the only topic.
fn check(image: &Image) {
    assert_eq!((&*image.cluster_id, image.next_producer_id, image.topics().len()), ("cluster", 1000, 0));
    assert!(image.was_deleted(TOPIC) && image.was_deleted(TopicId([9; 16])));
    assert_eq!(image.overrides.get(&Owner::Broker(3)).map(|own| own.len()), Some(1));
}

#[test]
fn format_one_is_written_anew_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(old(dir.path()), fixture()).unwrap();
    check(&Store::inspect(dir.path()).unwrap().unwrap());
    assert_eq!(names(dir.path()).len(), 1, "to look changes nothing");
    let store = Store::open(dir.path(), 4).unwrap();
    check(store.image());
    assert_eq!(store.image().version, 9, "after the eight changes there were");
    assert_eq!(store.image().features.get(VERSION), Some(&MAX_LEVEL));
    let files = ["metadata-00000000000000000009.log", "quorum-state"];
    assert_eq!(names(dir.path()), files);
    let (me, membership) = (store.me(), store.membership().clone());
    drop(store);
    let again = Store::open(dir.path(), 4).unwrap();
    check(again.image());
    assert_eq!((again.me(), again.membership(), again.image().version), (me, &membership, 9));
    assert_eq!(membership, Membership::of_one(Voter { node: 4, directory: me.directory }));
}

#[test]
fn leader_epochs_of_format_one_stay() {
    let dir = tempfile::tempdir().unwrap();
    // Without its last frame, which deletes the topic.
    let bytes = fixture();
    let mut ends = vec![4096];
    while let Some(len) = v1::sound_frame(&bytes[*ends.last().unwrap()..], ends.len() as u64) {
        ends.push(ends.last().unwrap() + len);
    }
    let mut cut = bytes[..ends[ends.len() - 2]].to_vec();
    cut[512..524].fill(0);
    fs::write(old(dir.path()), &cut).unwrap();
    let store = Store::open(dir.path(), 1).unwrap();
    let epochs: Vec<i32> = (0..3)
        .map(|index| store.image().partition(PartitionId { topic: TOPIC, index }).unwrap().leader_epoch.0)
        .collect();
    assert_eq!(epochs, [1, 1, 0]);
    assert_eq!(store.image().topic("orders").unwrap().overrides["retention.ms"], "5");
    let other = tempfile::tempdir().unwrap();
    fs::write(old(other.path()), &cut).unwrap();
    assert!(matches!(
        Store::open(other.path(), 2),
        Err(MetadataError::OtherBroker { stored: 1, configured: 2 })
    ));
    assert_eq!(names(other.path()).len(), 1, "what is another's stays as it is");
}

/// Each state that a crash in the middle of it leaves.
#[test]
fn a_conversion_that_was_cut_short_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path();
    fs::write(old(place), fixture()).unwrap();
    fs::write(place.join("quorum-state.tmp"), b"half").unwrap();
    fs::write(place.join("metadata-00000000000000000009.tmp"), b"half").unwrap();
    let directory = Store::open(place, 1).unwrap().me().directory;
    // After the new file has its name, before the old one is gone.
    fs::write(old(place), fixture()).unwrap();
    let store = Store::open(place, 1).unwrap();
    check(store.image());
    assert_eq!((store.me().directory, store.image().version), (directory, 9));
    drop(store);
    // With the quorum's state and nothing else new.
    fs::remove_file(place.join("metadata-00000000000000000009.log")).unwrap();
    fs::write(old(place), fixture()).unwrap();
    let store = Store::open(place, 1).unwrap();
    check(store.image());
    assert_eq!(store.me().directory, directory);
}

#[test]
fn changes_are_committed_together_and_survive() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), 1).unwrap();
    let first = store.image().version;
    let ids = |next| vec![Record::ProducerIds { next }];
    store.commit(vec![ids(10), ids(20), ids(30)]).unwrap();
    assert_eq!(store.image().version, first + 3);
    let unfit = vec![ids(40), vec![Record::TopicDeleted { id: TOPIC }]];
    assert!(store.commit(unfit).is_err());
    assert_eq!((store.image().version, store.image().next_producer_id), (first + 3, 30));
    drop(store);
    let store = Store::open(dir.path(), 1).unwrap();
    assert_eq!((store.image().version, store.image().next_producer_id), (first + 3, 30));
    assert!(matches!(
        Store::open(dir.path(), 2),
        Err(MetadataError::OtherBroker { stored: 1, configured: 2 })
    ));
}

#[test]
fn a_log_without_its_quorums_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), 1).unwrap());
    let state = QuorumState::path_in(dir.path());
    let bytes = fs::read(&state).unwrap();
    fs::remove_file(&state).unwrap();
    let error = Store::open(dir.path(), 1).unwrap_err().to_string();
    assert!(error.contains("quorum-state") && error.contains("it is gone"), "{error}");
    let other = tempfile::tempdir().unwrap();
    drop(Store::open(other.path(), 1).unwrap());
    fs::copy(QuorumState::path_in(other.path()), &state).unwrap();
    let error = Store::open(dir.path(), 1).unwrap_err().to_string();
    assert!(error.contains("another directory"), "{error}");
    fs::write(&state, bytes).unwrap();
    assert!(Store::open(dir.path(), 1).is_ok());
}

#[test]
fn a_level_that_this_build_does_not_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), 1).unwrap();
    store.commit(vec![vec![Record::FeatureLevel { name: VERSION.into(), level: MAX_LEVEL + 1 }]]).unwrap();
    drop(store);
    let error = Store::open(dir.path(), 1).unwrap_err().to_string();
    assert!(error.contains("weir.version") && error.contains("newer version"), "{error}");
}
