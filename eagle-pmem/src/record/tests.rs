//! Records against random parts, flipped bits and garbage.

#![allow(clippy::print_stderr, reason = "a random test prints the seed that repeats it")]

use super::*;
use fastrand::Rng;

const SEED: ExtentSeed = ExtentSeed::new(3, 5);
const PLACE: PoolOffset = PoolOffset::from_raw(77);

fn rng() -> Rng {
    let seed = std::env::var("EAGLE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("EAGLE_SEED={seed}");
    Rng::with_seed(seed)
}

/// A record as it lies at `PLACE`.
fn encode(parts: &RecordParts<'_>, version: Option<u64>) -> Vec<u8> {
    let shape = Shape::of(parts, parts.value_len(), version);
    let mut bytes = vec![0xEE; shape.len];
    let value: Vec<u8> = parts.value.concat();
    shape.write(parts, &mut bytes).copy_from_slice(&value);
    let crc = Checksum::new().of(&bytes[header::KIND..], SEED.at(PLACE));
    bytes[..header::KIND].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn random_parts<'a>(rng: &mut Rng, key: &'a [u8], value: &'a [&'a [u8]]) -> RecordParts<'a> {
    RecordParts {
        kind: Kind::from_byte(rng.u8(1..=13)).expect("a kind"),
        tag: rng.u8(..),
        db: if rng.bool() { rng.u16(..) } else { 0 },
        expiry: rng.bool().then(|| rng.u64(..=EXPIRY_MS_MAX)),
        id: rng.bool().then(|| CollectionId::from_raw(rng.u64(..1 << 40))),
        key,
        value,
    }
}

fn random_bytes(rng: &mut Rng, lens: &[usize]) -> Vec<u8> {
    let len = *rng.choice(lens).expect("lengths");
    let len = rng.usize(len / 2..=len);
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

#[test]
fn what_is_written_is_read() {
    // Random parts come back whole, by parsing and by trust, and the size said beforehand is
    // that on the medium.
    let mut rng = rng();
    let rounds = if cfg!(miri) { 30 } else { 2000 };
    for _ in 0..rounds {
        let key = random_bytes(&mut rng, &[0, 14, 255, 256, 300]);
        let value = random_bytes(&mut rng, &[0, 8, 64, 1000, 65_535, 65_536, 70_000]);
        let cut = rng.usize(..=value.len());
        let pieces = [&value[..cut], &value[cut..]];
        let parts = random_parts(&mut rng, &key, &pieces);
        let version = rng.bool().then(|| rng.u64(..1 << 56));
        let bytes = encode(&parts, version);
        if version.is_none() {
            assert_eq!(bytes.len(), parts.bytes());
        }
        let parsed = Record::parse(&bytes, SEED, PLACE).expect("a record");
        // SAFETY: the bytes are a record.
        let trusted = unsafe { Record::trusted(bytes.as_ptr(), bytes.len()) };
        for record in [parsed, trusted] {
            assert_eq!(record.kind(), parts.kind);
            assert_eq!((record.tag(), record.db()), (parts.tag, parts.db));
            assert_eq!((record.expiry(), record.id()), (parts.expiry, parts.id));
            assert_eq!(record.version(), version);
            assert!(!record.more_follows());
            assert!(record.key() == key && record.value() == value);
            assert_eq!(record.bytes_on_medium(), bytes.len());
        }
    }
}

#[test]
fn a_small_record_takes_no_more_than_promised() {
    // The sizes that the goal for overhead a key rests on.
    let bytes = |value: usize, expiry| {
        let value = [0; 512].as_slice().split_at(value).0;
        RecordParts { expiry, ..RecordParts::new(Kind::String, &[0; 14], &[value]) }.bytes()
    };
    assert_eq!([bytes(8, None), bytes(64, None), bytes(512, None)], [32, 88, 536]);
    assert_eq!([bytes(8, Some(1)), bytes(64, Some(1)), bytes(512, Some(1))], [40, 96, 544]);
}

#[test]
fn a_flipped_bit_never_verifies() {
    // Every single bit of short and long records matters, padding included.
    let mut rng = rng();
    let rounds = if cfg!(miri) { 1 } else { 20 };
    for round in 0..rounds {
        let key = random_bytes(&mut rng, &[14, 300]);
        let value = random_bytes(&mut rng, &[64]);
        let pieces = [&value[..]];
        let mut bytes = encode(&random_parts(&mut rng, &key, &pieces), (round % 2 == 0).then_some(9));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::parse(&bytes, SEED, PLACE).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(Record::parse(&bytes, SEED, PLACE).is_ok());
    }
}

#[test]
fn a_record_is_only_right_in_its_place() {
    // Right bytes at another offset, in another opening of the extent or in another pool are an
    // error of the checksum.
    let bytes = encode(&RecordParts::new(Kind::String, b"key", &[b"value"]), None);
    let elsewhere = [(SEED, PoolOffset::from_raw(78)), (ExtentSeed::new(3, 6), PLACE), (ExtentSeed::new(4, 5), PLACE)];
    for (seed, place) in elsewhere {
        let error = Record::parse(&bytes, seed, place).expect_err("not its place");
        assert!(matches!(error, RecordError::Checksum { .. }));
    }
}

#[test]
fn garbage_is_an_error_and_never_a_panic() {
    // Random bytes, cut records and records with changed headers.
    let mut rng = rng();
    let rounds = if cfg!(miri) { 200 } else { 200_000 };
    let value = [7; 300];
    let whole = encode(&RecordParts::new(Kind::Element, b"field", &[&value]), Some(1));
    for cut in 0..whole.len() {
        assert!(Record::parse(&whole[..cut], SEED, PLACE).is_err(), "cut at {cut}");
    }
    for _ in 0..rounds {
        let mut bytes = random_bytes(&mut rng, &[64]);
        if rng.bool() {
            bytes = whole.clone();
            let at = rng.usize(..header::BYTES + 8);
            bytes[at] = rng.u8(..);
            if bytes == whole {
                continue;
            }
        }
        assert!(Record::parse(&bytes, SEED, PLACE).is_err());
    }
}

#[test]
fn zeros_are_no_record() {
    // What an extent holds behind its last record, if it is new.
    assert_eq!(Record::parse(&[0; 64], SEED, PLACE).err(), Some(RecordError::Kind(0)));
}
