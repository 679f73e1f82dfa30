//! Batches against the client's decoder, draws against their distributions.

use bytes::Bytes;
use weir::client::{Codec, decode_records};

use super::batch::{Builder, Header, Origin, Position, RECORD_OVERHEAD, Records};
use super::draw::{Draft, Drawer, NO_KEY, sizes};
use super::keys::{Keys, partition};
use super::payload::{Filler, MARK, Mark, Seen};
use super::random::{Random, Weighted};
use super::schedule::Schedule;
use crate::units::Size;
use crate::workload::{Arrivals, Key, Sizes, Workload};

const AT: Position = Position { records: 90, marks: 40 };
const ORIGIN: Origin = Origin { run: 7, producer: 3, position: AT, producer_id: -1, epoch: -1 };

fn drafts(count: usize) -> Vec<Draft> {
    let size = |i: usize| [0, 31, 32, 100, 70_000][i % 5];
    let draft = |i: usize| Draft { intended: i as u64 * 700_000, key: i as u32 % 4, size: size(i) };
    (0..count).map(draft).collect()
}

fn batch(codec: Codec, keys: Option<&Keys>, drafts: &[Draft]) -> Vec<u8> {
    let mut out = b"before".to_vec();
    let mut builder = Builder::new(Filler::new(0.5, 70_000, 1), 1_000, codec);
    builder.append(&mut out, keys, ORIGIN, drafts.iter().copied()).unwrap();
    out.split_off(6)
}

#[test]
fn what_is_built_is_what_the_client_decodes() {
    let keys = Keys::new(&Key { count: 4, bytes: 10, zipf: 0.0 }, 4);
    for codec in [Codec::None, Codec::Lz4] {
        for keys in [None, Some(&keys)] {
            let drafts = drafts(200);
            let bytes = batch(codec, keys, &drafts);
            let header = Header::read(&bytes).unwrap();
            assert_eq!((header.size, header.records, header.next_offset()), (bytes.len(), 200, 200));
            assert!(header.intact(&bytes) && header.is_compressed() == (codec != Codec::None));
            let (got, _) = decode_records(Bytes::from(bytes), 0).unwrap();
            let mut sequence = AT.marks;
            for (draft, record) in drafts.iter().zip(&got) {
                let value = record.value.as_deref().unwrap();
                assert_eq!(value.len(), draft.size as usize);
                assert_eq!(record.timestamp_ms, 1_000 + draft.intended as i64 / 1_000_000);
                assert_eq!(record.key.as_deref(), keys.map(|k| k.bytes(draft.key)));
                let mark = Mark { run: 7, producer: 3, sequence, intended: draft.intended };
                let expected = if value.len() < MARK { Seen::Unmarked } else { Seen::Marked(mark) };
                assert_eq!(Mark::read(value), expected);
                sequence += u64::from(value.len() >= MARK);
            }
        }
    }
}

#[test]
fn our_own_walk_over_records_agrees_and_any_damage_is_seen() {
    let drafts = drafts(4);
    let bytes = batch(Codec::None, None, &drafts);
    let walked: Vec<_> = Records::of(&bytes).collect::<Result<_, _>>().unwrap();
    assert_eq!(walked.iter().map(|(delta, _)| *delta).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(walked.iter().zip(&drafts).all(|((_, value), d)| value.len() == d.size as usize));
    for at in 21..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert!(!Header::read(&damaged).unwrap().intact(&damaged), "{at}");
        let _ = Records::of(&damaged).count();
    }
    let mut value = walked[3].1.to_vec();
    value[MARK] ^= 1;
    assert_eq!(Mark::read(&value), Seen::Damaged);
}

#[test]
fn keys_go_where_kafkas_clients_put_them() {
    // Hashes that Kafka's own tests hold for these texts.
    for (text, hash) in [("21", -973_932_308i32), ("foobar", -790_332_482), ("abc", 479_470_107)] {
        assert_eq!(partition(text.as_bytes(), 1000), (hash as u32 & 0x7fff_ffff) % 1000, "{text}");
    }
}

#[test]
fn distributions_are_what_they_say() {
    let mut random = Random::new(5);
    let weights = Weighted::new(&[1.0, 0.0, 3.0]);
    let mut counts = [0; 3];
    (0..40_000).for_each(|_| counts[weights.draw(&mut random) as usize] += 1);
    assert!(counts[1] == 0 && (9_000..11_000).contains(&counts[0]), "{counts:?}");
    let drawn = sizes(&Sizes::Lognormal { median: Size(64), sigma: 0.5, max: Size(200) }, 1);
    let below = drawn.iter().filter(|s| **s < 64).count();
    assert!((3_700..4_500).contains(&below) && drawn.iter().all(|s| (1..=200).contains(s)), "{below}");
    let uniform = sizes(&Sizes::Uniform([Size(5), Size(6)]), 1);
    assert!(uniform.contains(&5) && uniform.contains(&6) && uniform.iter().all(|s| [5, 6].contains(s)));
    let zipf = Weighted::zipf(100, 1.0);
    let firsts = (0..10_000).filter(|_| zipf.draw(&mut random) == 0).count();
    assert!((1_700..2_200).contains(&firsts), "{firsts}");
}

#[test]
fn schedules_keep_their_rate() {
    for arrivals in [Arrivals::Fixed, Arrivals::Poisson] {
        let mut schedule = Schedule::new(arrivals, 1_000.0, 5_000_000, 9);
        let times: Vec<u64> = (0..50_000).map(|_| schedule.take()).collect();
        assert!(times[0] >= 5_000_000 && times.windows(2).all(|w| w[0] <= w[1]));
        let seconds = (times[49_999] - times[0]) as f64 / 1e9;
        assert!((48.5..51.5).contains(&seconds), "{arrivals:?} {seconds}");
        let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let short = gaps.iter().filter(|g| **g < 500_000.0).count() as f64 / gaps.len() as f64;
        let expected = if arrivals == Arrivals::Fixed { 0.0 } else { 0.39 };
        assert!((short - expected).abs() < 0.02, "{arrivals:?} {short}");
    }
}

#[test]
fn producers_without_keys_fill_a_batch_before_the_next_partition() {
    let workload = Workload::load("default", &["producer.batch_size=1000".to_owned()]).unwrap();
    let mut drawer = Drawer::new(&workload, sizes(&workload.record.size, 1), None, 3);
    let drawn: Vec<u32> = (0..40).map(|_| drawer.next(0, 0).0).collect();
    assert!(drawn.chunks(10).all(|c| c.iter().all(|p| *p == c[0])), "{drawn:?}");
    assert!((0..4).all(|p| drawn.contains(&p)));
    assert_eq!(drawer.next(0, 0).1.key, NO_KEY);
    const { assert!(RECORD_OVERHEAD >= 12) };
}
