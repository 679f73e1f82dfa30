use super::*;
use crate::log::segment::extents::Extent;
use crate::model::TopicId;

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
    assert_eq!(hex, VERSION_5);
    let decode = |hex: &str| {
        let digits = (0..hex.len()).step_by(2);
        let bytes: Vec<u8> = digits.map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        Checkpoint::decode(Path::new("checkpoint"), &bytes).unwrap()
    };
    let mut old = checkpoint();
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
const VERSION_5: &str = "57454952434b505405000000091af9726b000000000000000102fc040302010706fb0010fb401f01013031323334353637383961626364656606066f72646572\
    7350140000000100fc7011010000fc0d0c0b0afd00d0ca9f1703000000646401640301020301037768790114fb001064181e013cfc040302010103643172fb2c010908";
const VERSION_4: &str = "57454952434b505404000000c67cff7264000000000000000102fc040302010706fb0010fb401f01\
    013031323334353637383961626364656606066f726465727350140000000100fc7011010000fc0d\
    0c0b0afd00d0ca9f1703000000646401640301020301037768790114fb001064181e0103643172fb\
    2c010908";
