use crate::log::segment::extents::Extent;
use crate::model::TopicId;

use super::*;

fn checkpoint() -> Checkpoint {
    let partition = PartitionState {
        id: PartitionId { topic: TopicId(*b"0123456789abcdef"), index: 3 },
        topic: "orders".into(),
        log: PartitionCheckpoint {
            segment_durable_offset: 40,
            start_offset: 10,
            epochs: Default::default(),
            segments: Vec::new(),
            active: false,
            extents: vec![Extent {
                position: 0,
                length: 70_000,
                relative_offset: 0,
                crc: 0x0a0b0c0d,
                max_timestamp: 1_700_000_000_000,
            }],
            clean: false,
            was_reset: false,
        },
        end_offset: 50,
        high_watermark: 50,
        producers: Some((50, vec![1, 2, 3])),
        repair: Some("why".into()),
        damaged: vec![DamagedRange { segment: 10, position: 4096, length: 100, from: 12, until: 15 }],
        snapshots: vec![Snapshot { offset: 30, crc: 0x01020304 }],
    };
    Checkpoint {
        generation: 7,
        lasting: 6,
        floor: Lsn(4096),
        durable: Lsn(8000),
        closed: true,
        partitions: vec![partition],
        origin: Some(Origin { directory: "d1r".into(), version: 300 }),
        number: 9,
        seen: 8,
        ..Checkpoint::empty(1, 2, 0x01020304)
    }
}

#[test]
fn round_trips_and_notices_every_changed_byte() {
    let (path, bytes) = (Path::new("checkpoint"), checkpoint().encode());
    assert_eq!(Checkpoint::decode(path, &bytes).unwrap(), checkpoint());
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        assert!(Checkpoint::decode(path, &bad).is_err(), "byte {at}");
        assert!(Checkpoint::decode(path, &bytes[..at]).is_err(), "cut at {at}");
    }
}

/// The bytes on disk, as each version writes them. If this test fails, old data directories became unreadable.
#[test]
fn the_format_is_what_it_was() {
    let hex: String = checkpoint().encode().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, VERSION_6);
    let decode = |hex: &str| {
        let digits = (0..hex.len()).step_by(2);
        let bytes: Vec<u8> = digits.map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        Checkpoint::decode(Path::new("checkpoint"), &bytes).unwrap()
    };
    let mut old = checkpoint();
    assert_eq!(decode(VERSION_6), old);
    assert_eq!(decode(VERSION_5), old);
    old.partitions[0].snapshots.clear();
    assert_eq!(decode(VERSION_4), old);
    old = Checkpoint { origin: None, number: 0, seen: 0, ..old };
    assert_eq!(decode(VERSION_3), old);
    old.lasting = 0;
    old.partitions[0].log.extents.clear();
    assert_eq!(decode(VERSION_2), old);
    old.partitions[0].damaged.clear();
    assert_eq!(decode(VERSION_1), old);
}

#[test]
fn either_of_the_two_files_will_do() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    crate::rt::block_on(async move { checkpoint().store(&path).await.unwrap() });
    let bytes = checkpoint().encode();
    for (i, path) in file_paths(dir.path()).into_iter().enumerate() {
        assert!(Checkpoint::load(dir.path()).unwrap().unwrap().twice);
        for bad in [&bytes[..20], b"" as &[u8]] {
            std::fs::write(&path, bad).unwrap();
            let loaded = Checkpoint::load(dir.path()).unwrap().unwrap();
            assert_eq!((loaded.checkpoint, loaded.twice), (checkpoint(), false), "without file {i}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!Checkpoint::load(dir.path()).unwrap().unwrap().twice);
        std::fs::write(&path, &bytes).unwrap();
    }
}

const VERSION_1: &str = "57454952434b5054010000008e76974c3b000000000000000102fc0403020107fb0010fb401f0101\
    3031323334353637383961626364656606066f726465727350140000000064640164030102030103\
    776879";
const VERSION_2: &str = "57454952434b505402000000e3fef67643000000000000000102fc0403020107fb0010fb401f0101\
    3031323334353637383961626364656606066f726465727350140000000064640164030102030103\
    7768790114fb001064181e";
const VERSION_3: &str = "57454952434b5054030000001b1d1f485a000000000000000102fc040302010706fb0010fb401f01\
    013031323334353637383961626364656606066f726465727350140000000100fc7011010000fc0d\
    0c0b0afd00d0ca9f1703000000646401640301020301037768790114fb001064181e";
/// The partition of [`checkpoint`] at another offset, without another that is gone, and as it was after a clean close.
fn change() -> Change {
    let mut now = Checkpoint { number: 12, closed: false, ..checkpoint() };
    now.partitions[0].end_offset = 70;
    Change { now, removed: vec![numbered(4).id] }
}

fn numbered(index: i32) -> PartitionState {
    let mut state = checkpoint().partitions.remove(0);
    state.id.index = index;
    state
}

#[test]
fn changes_follow_the_base() {
    let path = Path::new("checkpoint");
    let base = Checkpoint { partitions: (2..7).map(numbered).collect(), ..checkpoint() };
    let mut again =
        Change { now: Checkpoint { number: 15, closed: false, ..checkpoint() }, removed: Vec::new() };
    again.now.partitions = vec![numbered(4), numbered(9)];
    let (base_bytes, first, second) = (base.encode(), change().encode(), again.encode());
    let bytes = [&base_bytes[..], &first, &second].concat();
    let decoded = Checkpoint::decode(path, &bytes).unwrap();
    let indexes: Vec<i32> = decoded.partitions.iter().map(|state| state.id.index).collect();
    assert_eq!((indexes, decoded.number, decoded.closed), (vec![2, 3, 5, 6, 4, 9], 15, false));
    assert_eq!(decoded.partitions[1].end_offset, 70);
    assert_eq!(decoded.partitions[0], numbered(2));
    // Wherever it is cut or changed, it is not taken for whole, and what is before that counts.
    for at in 1..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        assert!(Checkpoint::decode(path, &bad).is_err(), "byte {at}");
        let cut = Decoded::of(path, &bytes[..at]);
        let known = cut.as_ref().ok().map(|cut| (cut.checkpoint.number, cut.unread.is_none()));
        let (one, two) = (base_bytes.len(), base_bytes.len() + first.len());
        let expected = (at >= one).then_some((if at < two { 9 } else { 12 }, at == one || at == two));
        assert_eq!(known, expected, "cut at {at}");
    }
    let twice = [&base_bytes[..], &first, &first].concat();
    assert!(Checkpoint::decode(path, &twice).is_err(), "numbers rise");
    let old = [&base_bytes[..8], &5u32.to_le_bytes(), &base_bytes[12..], &first].concat();
    assert!(Checkpoint::decode(path, &old).is_err(), "there were none in version 5");
    let hex: String = first.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, CHANGE);
}

/// What two files say that end in different places, one or the other, or both of them, in what cannot be read.
#[test]
fn the_newer_of_two_files_counts_and_an_end_that_is_not_whole_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let numbers = |files: [&[u8]; 2]| {
        for (path, bytes) in file_paths(dir.path()).iter().zip(files) {
            std::fs::write(path, bytes).unwrap();
        }
        let loaded = Checkpoint::load(dir.path());
        loaded.map(|loaded| {
            loaded.map(|loaded| (loaded.checkpoint.number, loaded.twice, loaded.layout.is_some()))
        })
    };
    let (old, change) = (checkpoint().encode(), change().encode());
    let new = [&old[..], &change].concat();
    let half = &new[..new.len() - 3];
    let mut damaged = new.clone();
    damaged[old.len() + 20] ^= 1;
    assert_eq!(numbers([&new, &new]).unwrap(), Some((12, true, true)));
    assert_eq!(numbers([&old, &old]).unwrap(), Some((9, true, true)));
    for files in
        [[&new[..], &old[..]], [&old, &new], [&new, half], [half, &new], [&damaged, &new], [&new, &[]]]
    {
        assert_eq!(numbers(files).unwrap(), Some((12, false, false)));
    }
    for files in [[half, &old[..]], [&old, half], [&damaged, &old], [&[], &old]] {
        assert_eq!(numbers(files).unwrap(), Some((9, false, false)));
    }
    let newer =
        [&new[..], &Change { now: Checkpoint { number: 13, ..checkpoint() }, removed: vec![] }.encode()[..9]];
    let newer = newer.concat();
    for files in [[half, half], [&damaged, half], [half, &[]], [&newer, &old], [&[1, 2, 3], half]] {
        assert!(matches!(numbers(files), Err(LogError::Corrupt { .. })));
    }
}

#[test]
fn changes_are_appended_until_they_outgrow_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    crate::rt::block_on(async move {
        let base =
            Checkpoint { partitions: (0..2000).map(numbered).collect(), closed: false, ..checkpoint() };
        let layout = base.store(&path).await.unwrap();
        let files = Files::new(path.clone(), Some(layout), base.number);
        let mut expected = base.clone();
        let put = |number: u64, ids: std::ops::Range<i32>| {
            let now =
                Checkpoint { number, partitions: ids.map(numbered).collect(), closed: false, ..checkpoint() };
            Change { now, removed: Vec::new() }
        };
        for round in 0..30 {
            let mut change = put(10 + round, 0..100);
            change.now.partitions.iter_mut().for_each(|state| state.end_offset = 1000 + round as i64);
            expected.partitions[..100].clone_from_slice(&change.now.partitions);
            expected.number = change.now.number;
            files.add(change.into()).await.unwrap();
            let loaded = Checkpoint::load(&path).unwrap().unwrap();
            assert!(loaded.twice && loaded.layout.is_some());
            assert_eq!(loaded.checkpoint, expected);
        }
        let stats = files.stats();
        assert_eq!(stats.bases, 1, "{stats:?}");
        assert_eq!(stats.states, 29 * 100 + 2000);
        // A file that is not as it was left is not appended to.
        let [first, copy] = file_paths(&path);
        std::fs::write(&first, [&std::fs::read(&first).unwrap()[..], b"half of a change"].concat()).unwrap();
        files.add(put(60, 7..8).into()).await.unwrap();
        assert_eq!(files.stats().bases, 2);
        // Nor is one made of an older one than was written.
        std::fs::write(&first, base.encode()).unwrap();
        std::fs::write(&copy, base.encode()).unwrap();
        assert!(matches!(files.add(put(61, 7..8).into()).await, Err(LogError::Corrupt { .. })));
        files.replace(put(61, 7..8).into()).await.unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap().unwrap().checkpoint.partitions.len(), 1);
    });
}

const VERSION_6: &str = "57454952434b505406000000091af9726b000000000000000102fc040302010706fb0010fb401f01013031323334353637383961626364656606066f72646572\
    7350140000000100fc7011010000fc0d0c0b0afd00d0ca9f1703000000646401640301020301037768790114fb001064181e013cfc040302010103643172fb2c010908";
const CHANGE: &str = "7e82e2027d000000000000000102fc040302010706fb0010fb401f00013031323334353637383961626364656606066f72646572\
    7350140000000100fc7011010000fc0d0c0b0afd00d0ca9f17030000008c6401640301020301037768790114fb001064181e013cfc040302010103643172fb2c\
    010c08013031323334353637383961626364656608";
const VERSION_5: &str = "57454952434b505405000000091af9726b000000000000000102fc040302010706fb0010fb401f01013031323334353637383961626364656606066f72646572\
    7350140000000100fc7011010000fc0d0c0b0afd00d0ca9f1703000000646401640301020301037768790114fb001064181e013cfc040302010103643172fb2c010908";
const VERSION_4: &str = "57454952434b505404000000c67cff7264000000000000000102fc040302010706fb0010fb401f01\
    013031323334353637383961626364656606066f726465727350140000000100fc7011010000fc0d\
    0c0b0afd00d0ca9f1703000000646401640301020301037768790114fb001064181e0103643172fb\
    2c010908";
