use super::*;
use crate::wire::batch::Compression;
use crate::wire::codec;

/// The format read plainly, as its description says, with all numbers wide.
fn reference(mut bytes: &[u8], count: usize) -> Option<Vec<Scanned>> {
    fn number(bytes: &mut &[u8], bits: u32) -> Option<i64> {
        let mut raw: u128 = 0;
        for i in 0..bits.div_ceil(7) {
            let byte = *bytes.split_off_first()?;
            raw += u128::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                let raw = u64::try_from(raw).ok().filter(|raw| bits == 64 || *raw < 1 << bits)?;
                return Some((raw / 2) as i64 ^ -((raw % 2) as i64));
            }
        }
        None
    }
    fn field(bytes: &mut &[u8]) -> Option<bool> {
        let length = number(bytes, 32)?;
        if length < 0 {
            return Some(false);
        }
        *bytes = bytes.get(length as usize..)?;
        Some(true)
    }
    let mut all = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(number(&mut bytes, 32)?).ok()?;
        let (mut record, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        record.split_off_first()?;
        let timestamp_delta = number(&mut record, 64)?;
        let offset_delta = number(&mut record, 32)? as i32;
        let has_key = field(&mut record)?;
        field(&mut record)?;
        for _ in 0..usize::try_from(number(&mut record, 32)?).ok()? {
            if !field(&mut record)? {
                return None;
            }
            field(&mut record)?;
        }
        if !record.is_empty() {
            return None;
        }
        all.push(Scanned { timestamp_delta, offset_delta, has_key });
    }
    bytes.is_empty().then_some(all)
}

fn plain(mut bytes: &[u8], count: usize) -> Option<Vec<Scanned>> {
    let mut all = Vec::new();
    for _ in 0..count {
        let (scanned, rest) = take(bytes).ok()?;
        all.push(scanned);
        bytes = rest;
    }
    bytes.is_empty().then_some(all)
}

/// Gives a few bytes at a time.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(out.len());
        self.0.read(&mut out[..n])
    }
}

fn streamed(bytes: &[u8], count: usize, step: usize) -> Option<Vec<Scanned>> {
    let mut buffer = vec![0; WINDOW];
    let mut stream = Stream::new(Box::new(Trickle(bytes, step)), &mut buffer, bytes.len());
    let all = (0..count).map(|_| stream.take()).collect::<Result<_, _>>().ok()?;
    let over = stream.is_over();
    assert!(stream.failed().is_none());
    (over && stream.read() == bytes.len()).then_some(all)
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

fn put(out: &mut Vec<u8>, value: i64) {
    let mut raw = (value << 1 ^ value >> 63) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

fn put_field(out: &mut Vec<u8>, length: Option<usize>) {
    put(out, length.map_or(-1, |n| n as i64));
    out.resize(out.len() + length.unwrap_or(0), b'x');
}

fn record(random: &mut Random, delta: i64, largest: usize) -> Vec<u8> {
    let mut body = vec![0];
    put(&mut body, [0, 3, -70, 1 << 40][random.below(4)]);
    put(&mut body, delta);
    for _ in 0..2 {
        let length = (random.below(3) > 0).then(|| random.below(largest));
        put_field(&mut body, length);
    }
    let headers = random.below(3);
    put(&mut body, headers as i64);
    for _ in 0..headers {
        put_field(&mut body, Some(random.below(9)));
        let length = (random.below(2) > 0).then(|| random.below(largest));
        put_field(&mut body, length);
    }
    let mut out = Vec::new();
    put(&mut out, body.len() as i64);
    out.extend(body);
    out
}

#[test]
fn records_read_as_they_do_plainly_however_they_come_and_however_they_are_damaged() {
    let mut random = Random(7);
    let (mut good, mut bad) = (0, 0);
    for round in 0..4000 {
        let count = 1 + random.below(6);
        let largest = [4, 30, 300][random.below(3)];
        let mut bytes: Vec<u8> = (0..count).flat_map(|i| record(&mut random, i as i64, largest)).collect();
        for _ in 0..round % 4 {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.below(256) as u8),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        let wanted = reference(&bytes, count);
        assert_eq!(plain(&bytes, count), wanted, "{bytes:?}");
        assert_eq!(streamed(&bytes, count, 1 + random.below(40)), wanted, "{bytes:?}");
        if wanted.is_some() { good += 1 } else { bad += 1 }
    }
    assert!(good > 1000 && bad > 1000, "{good} good, {bad} bad");
}

#[test]
fn records_larger_than_the_window_are_read_through_it() {
    let mut random = Random(3);
    for size in [WINDOW - 20, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW + 17] {
        let mut bytes = record(&mut random, 0, 5);
        let mut large = vec![0, 0, 2];
        put_field(&mut large, Some(size));
        put_field(&mut large, Some(7));
        put(&mut large, 1);
        put_field(&mut large, Some(2));
        put_field(&mut large, Some(size));
        put(&mut bytes, large.len() as i64);
        bytes.extend(&large);
        bytes.extend(record(&mut random, 2, 5));
        let wanted = reference(&bytes, 3);
        assert!(wanted.is_some());
        for step in [777, 1 << 20] {
            assert_eq!(streamed(&bytes, 3, step), wanted, "{size} {step}");
            for cut in [bytes.len() - 1, bytes.len() / 2, size / 2] {
                assert_eq!(streamed(&bytes[..cut], 3, step), None);
            }
        }
        // The header has no key any more.
        let at = bytes.iter().rposition(|byte| *byte == 4).unwrap();
        bytes[at] = 1;
        assert_eq!(streamed(&bytes, 3, 1 << 20), reference(&bytes, 3));
    }
}

#[test]
fn faults_say_what_is_wrong() {
    let fault = |bytes: &[u8]| take(bytes).unwrap_err();
    assert_eq!(fault(&[]), Fault::Missing);
    assert_eq!(fault(&[0x01]), Fault::Length(-1));
    assert_eq!(fault(&[40, 0, 0]), Fault::Length(20));
    assert_eq!(fault(&[0xff; 12]), Fault::Number);
    assert_eq!(fault(&[4, 0, 0]), Fault::Cut);
    assert_eq!(fault(&[12, 0, 0, 0, 1, 1, 5]), Fault::Headers(-3));
    assert_eq!(fault(&[12, 0, 0, 0, 1, 1, 80]), Fault::Headers(40));
    assert_eq!(fault(&[16, 0, 0, 0, 1, 1, 2, 1, 1]), Fault::HeaderKey);
    assert_eq!(fault(&[16, 0, 0, 0, 1, 1, 0, 9, 9]), Fault::Rest(2));
}

#[test]
fn a_stream_ends_at_its_limit_and_says_so() {
    let mut buffer = vec![0; WINDOW];
    let bytes = vec![0_u8; 3 * WINDOW];
    let mut bomb = Vec::new();
    put(&mut bomb, 10 * WINDOW as i64);
    bomb.extend([0, 0, 0]);
    put(&mut bomb, 9 * WINDOW as i64);
    bomb.extend(&bytes);
    let mut packed = Vec::new();
    codec::compress(Compression::Zstd, &bomb, &mut packed).unwrap();
    let source = codec::reader(Compression::Zstd, &packed, 2 * WINDOW, codec::LARGEST_WINDOW).unwrap();
    let mut stream = Stream::new(source, &mut buffer, 2 * WINDOW);
    assert_eq!(stream.take(), Err(Fault::Cut));
    assert!(stream.read() <= 2 * WINDOW);
    assert!(matches!(stream.failed(), Some(CodecError::TooLarge(_))));
}
