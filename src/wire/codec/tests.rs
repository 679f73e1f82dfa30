use std::io::Write;

use super::*;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn records(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i / 300 % 251) as u8).collect()
}

fn written(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::new(encoding, &mut out, plain.len() as u64).unwrap();
    // In pieces, as a stream comes.
    plain.chunks(777).for_each(|piece| writer.write_all(piece).unwrap());
    writer.finish().unwrap();
    out
}

#[test]
fn what_goes_in_comes_out_within_its_bound() {
    for codec in CODECS {
        for len in [0, 1, 100, 32 << 10, 64 << 10, 200_001] {
            let (plain, mut packed, mut out) = (records(len), Vec::new(), vec![9; 7]);
            compress(codec, &plain, &mut packed).unwrap();
            decompress(codec, &packed, len, &mut out).unwrap();
            assert_eq!(out, plain, "{codec:?} {len}");
            if len > 1 {
                let bounded = decompress(codec, &packed, len - 1, &mut out);
                assert!(matches!(bounded, Err(CodecError::TooLarge(_))), "{codec:?} {len}: {bounded:?}");
            }
        }
    }
}

#[test]
fn what_is_expected_is_bounded_and_what_is_said_is_taken() {
    for codec in CODECS {
        let (plain, mut packed) = (vec![b'x'; 100_000], Vec::new());
        compress(codec, &plain, &mut packed).unwrap();
        let expected = expected_size(codec, &packed, 1 << 20);
        assert!((packed.len()..=1 << 20).contains(&expected), "{codec:?}: {expected}");
        if matches!(codec, Compression::None | Compression::Gzip) {
            assert_eq!(expected, plain.len());
        }
        assert_eq!(expected_size(codec, &packed, 10), 10);
        for at in 0..packed.len().min(64) {
            assert!(expected_size(codec, &packed[..at], 1000) <= 1000);
        }
    }
}

#[test]
fn every_level_returns_and_the_highest_is_no_larger_than_the_lowest() {
    let plain: Vec<u8> = (0..60_000_u32).flat_map(|i| (i % 977 * 31).to_string().into_bytes()).collect();
    let families: [&dyn Fn(i32) -> (Encoding, bool); 3] = [
        &|level| (Encoding::Gzip(level), (1..=9).contains(&level)),
        &|level| (Encoding::Lz4(level), (1..=17).contains(&level)),
        &|level| (Encoding::Zstd(level), (-5..=22).contains(&level)),
    ];
    for family in families {
        let mut sizes = Vec::new();
        for (encoding, _) in (-131_072..=22).map(family).filter(|(_, exists)| *exists) {
            let (packed, mut out) = (written(encoding, &plain), Vec::new());
            decompress(encoding.codec(), &packed, plain.len(), &mut out).unwrap();
            assert_eq!(out, plain, "{encoding:?}");
            sizes.push(packed.len());
        }
        assert!(sizes.last() < sizes.first(), "{sizes:?}");
    }
}

#[test]
fn output_stops_at_its_bound() {
    let plain: Vec<u8> = (0..100_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for codec in CODECS {
        let encoding = Encoding::default_of(codec).unwrap();
        let mut out = Vec::new();
        let mut writer = Writer::bounded(encoding, &mut out, 10_000, plain.len() as u64).unwrap();
        let outcome = writer.write_all(&plain).map_err(CodecError::from).and_then(|()| writer.finish());
        assert!(matches!(outcome, Err(CodecError::NoRoom(10_000))), "{codec:?}: {outcome:?}");
        assert!(out.len() <= 10_000);
    }
}

#[test]
fn damaged_input_is_an_error_or_other_bytes_never_a_panic() {
    for codec in CODECS {
        let (plain, mut packed, mut out) = (records(5000), Vec::new(), Vec::new());
        compress(codec, &plain, &mut packed).unwrap();
        for at in 0..packed.len() {
            let mut bad = packed.clone();
            bad[at] ^= 0x41;
            let _ = (window(codec, &bad), window(codec, &packed[..at]));
            let _ = decompress(codec, &bad, 1 << 20, &mut out);
            let cut = decompress(codec, &packed[..at], 1 << 20, &mut out);
            let whole = [Compression::None, Compression::Snappy].contains(&codec) || at == 0;
            assert!(whole || cut.is_err(), "{codec:?} cut at {at}");
            assert!(out.len() <= (1 << 20) + 1);
        }
    }
}

#[test]
fn a_bare_snappy_block_is_read_as_kafka_reads_it() {
    let plain = records(3000);
    let block = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    let mut out = Vec::new();
    decompress(Compression::Snappy, &block, 3000, &mut out).unwrap();
    assert_eq!(out, plain);
    assert_eq!(window(Compression::Snappy, &block), 3000);
}

/// Nothing is reserved for a claim: four bytes cannot be a gigabyte.
#[test]
fn a_snappy_block_that_claims_what_it_cannot_hold_is_refused_before_it_is_opened() {
    let claims = [0xff, 0xff, 0xff, 0xff, 0x03, 0, 0, 0];
    let mut out = Vec::new();
    let refused = decompress(Compression::Snappy, &claims, 1 << 30, &mut out);
    assert!(matches!(refused, Err(CodecError::Malformed(_))), "{refused:?}");
    assert_eq!((out.capacity(), window(Compression::Snappy, &claims)), (0, 0));
}

#[test]
fn zstd_windows_are_read_from_the_frame() {
    let plain = records(100_000);
    // The size is known: it is the window.
    assert_eq!(window(Compression::Zstd, &written(Encoding::Zstd(3), &plain)), 100_000);
    let mut streamed = Vec::new();
    let mut encoder = ::zstd::stream::write::Encoder::new(&mut streamed, 3).unwrap();
    encoder.write_all(&plain).unwrap();
    encoder.finish().unwrap();
    assert_eq!(window(Compression::Zstd, &streamed), 2 << 20);
    assert_eq!(window(Compression::Zstd, b"nothing"), 128 << 20);
}

#[test]
fn lz4_frames_that_kafkas_consumers_do_not_read_are_refused() {
    let plain = records(1000);
    let frame = written(Encoding::Lz4(9), &plain);
    let mut out = Vec::new();
    let mut with = |at: usize, byte: u8| {
        let mut frame = frame.clone();
        frame[at] = byte;
        frame[6] = (twox_hash::XxHash32::oneshot(0, &frame[4..6]) >> 8) as u8;
        decompress(Compression::Lz4, &frame, 1000, &mut out).map_err(|e| e.to_string())
    };
    assert_eq!(with(4, 0x60), Ok(()));
    for (what, at, byte) in
        [("linked", 4, 0x40), ("dictionary", 4, 0x61), ("version", 4, 0xa0), ("block", 5, 0x30)]
    {
        assert!(with(at, byte).is_err(), "{what}");
    }
    let behind = [&frame[..], b"x"].concat();
    assert!(decompress(Compression::Lz4, &behind, 1000, &mut Vec::new()).is_err());
    let endless = &frame[..frame.len() - 4];
    assert!(decompress(Compression::Lz4, endless, 1000, &mut Vec::new()).is_err());
}
