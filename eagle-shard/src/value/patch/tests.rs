//! Patches against lists: any splices, one after the other, show what a list has; what is no patch is refused; and what a shard writes
//! for a change of a packed hash is within the bounds that the module's head states.

#![allow(clippy::print_stderr, reason = "a random test names its seed, and a measurement its figures")]

use super::*;
use crate::{
    Budget,
    call::UnixMs,
    shard::ShardConfig,
    value::{HashRef, packed::Packing},
};

const DB: DbId = DbId(0);
const NOW: UnixMs = UnixMs(1_700_000_000_000);

fn packing(items: &[Vec<u8>]) -> Packing {
    let mut packing = Packing::default();
    packing.begin(None);
    items.iter().for_each(|item| packing.push(item));
    packing
}

#[test]
fn a_patched_collection_is_a_list() {
    // After any splices the items are those of a list that was changed the same way; the patch is sound, fits its base and is in the
    // shortest form: as many splices as places where the list differs.
    let seed = std::env::var("EAGLE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    eprintln!("EAGLE_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..300 {
        let any_item = |rng: &mut fastrand::Rng| {
            let len = if rng.u8(0..20) == 0 { rng.usize(200..400) } else { rng.usize(0..12) };
            vec![rng.alphanumeric() as u8; len]
        };
        let mut list: Vec<Vec<u8>> = (0..rng.usize(1..60)).map(|_| any_item(&mut rng)).collect();
        let packing = packing(&list);
        let (base, mut patching) = (packing.packed(), Patching::default());
        patching.begin(base, None);
        for _ in 0..rng.usize(0..40) {
            let at = rng.usize(..=list.len());
            let taken = rng.usize(..=(list.len() - at).min(4));
            let items: Vec<Vec<u8>> = (0..rng.usize(0..4)).map(|_| any_item(&mut rng)).collect();
            patching.splice(base, at, taken, &items.iter().map(Vec::as_slice).collect::<Vec<_>>());
            list.splice(at..at + taken, items);
            let patched = patching.patched(base);
            assert_eq!((patched.len(), patched.items().count()), (list.len(), list.len()));
            assert!(patched.items().eq(list.iter().map(Vec::as_slice)));
            assert!(is_sound(&patching.bytes) && (list.is_empty() || patched.fits(1)));
            let mut folded = Packing::default();
            folded.begin_folded(patched);
            assert!(folded.packed().items().eq(list.iter().map(Vec::as_slice)));
            // Begun anew with what it is, it is the same.
            let bytes = patching.bytes.clone();
            patching.begin(base, Some(&bytes));
        }
    }
}

#[test]
fn fields_of_a_patched_hash_are_found_with_their_values() {
    // Of entries that come and go and whose values change, each is found at its number with its value, values are taken for no fields, and
    // those that went are not found.
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let mut name = 0_u32;
        let mut entry = |rng: &mut fastrand::Rng| {
            name += 1;
            // Values read like fields.
            [name.to_string().into_bytes(), rng.u32(1..50).to_string().into_bytes()]
        };
        let mut list: Vec<Vec<u8>> = (0..rng.usize(1..20)).flat_map(|_| entry(&mut rng)).collect();
        let packing = packing(&list);
        let (base, mut patching) = (packing.packed(), Patching::default());
        patching.begin(base, None);
        for _ in 0..rng.usize(1..30) {
            let at = if list.is_empty() { 0 } else { 2 * rng.usize(..list.len() / 2) };
            match rng.u8(0..3) {
                0 if list.len() > 2 => {
                    patching.splice(base, at, 2, &[]);
                    list.drain(at..at + 2);
                }
                1 if !list.is_empty() => {
                    list[at + 1] = rng.u32(1..50).to_string().into_bytes();
                    patching.splice(base, at + 1, 1, &[&list[at + 1]]);
                }
                _ => {
                    let [field, value] = entry(&mut rng);
                    patching.splice(base, list.len(), 0, &[&field, &value]);
                    list.extend([field, value]);
                }
            }
            for name in 1..60_u32 {
                let name = name.to_string().into_bytes();
                let number = (0..list.len()).step_by(2).find(|at| list[*at] == name);
                let expected = number.map(|number| (number, Some(&list[number + 1][..])));
                assert_eq!(patching.patched(base).find(&name, 2), expected);
            }
        }
    }
}

#[test]
fn only_what_was_patched_is_sound() {
    // Every shorter value is refused, and every one whose splices overlap, do nothing or have other items than they say; a patch of another
    // base does not fit.
    let packing = packing(&(0..8).map(|number| vec![b'a' + number]).collect::<Vec<_>>());
    let (base, mut patching) = (packing.packed(), Patching::default());
    patching.begin(base, None);
    patching.splice(base, 1, 1, &[b"changed"]);
    patching.splice(base, 4, 2, &[]);
    patching.splice(base, 6, 0, &[b"field", &[7; 300]]);
    let patch = patching.bytes.clone();
    assert!(is_sound(&patch) && patching.patched(base).fits(2) && !patching.patched(base).fits(3));
    assert!((0..patch.len()).all(|len| !is_sound(&patch[..len])));
    let second = SPLICES + SPLICE_BYTES + 8;
    for (at, byte) in [(SPLICES_AT, 2), (SPLICES_AT, 4), (SPLICES + 4, 2), (second, 1), (second, 2), (second + 2, 0)] {
        let mut changed = patch.clone();
        assert_ne!(changed[at], byte);
        changed[at] = byte;
        assert!(!is_sound(&changed), "byte {at} as {byte}");
    }
    let shorter = self::packing(&(0..6).map(|number| vec![b'a' + number]).collect::<Vec<_>>());
    assert!(!patching.patched(shorter.packed()).fits(2));
}

fn shard() -> Shard {
    Shard::new(ShardConfig { extent_size: 1 << 20, in_place: false, ..ShardConfig::default() }).expect("a shard")
}

/// A hash of fields of 4 bytes, each with a value of 16.
fn fill(shard: &mut Shard, name: &str, fields: u32) {
    let fields: Vec<String> = (0..fields).map(|field| format!("{field:0>4}")).collect();
    let key = shard.key(name.as_bytes());
    let pairs = fields.iter().map(|field| (field.as_bytes(), &[b'v'; 16][..]));
    shard.set_fields(DB, key, None, pairs).expect("room");
}

fn set(shard: &mut Shard, name: &str, field: u32, value: &[u8]) {
    let (key, field) = (shard.key(name.as_bytes()), format!("{field:0>4}"));
    let old = shard.find(DB, key, NOW);
    shard.set_fields(DB, key, old, std::iter::once((field.as_bytes(), value))).expect("room");
}

#[test]
fn a_change_writes_little_of_a_hash() {
    // Bytes that setting a field appends to the log, in hashes of 100 fields of 4 + 16 bytes: any field, and one field over and over. What
    // the module's head says, and nothing of it for hashes below the bound.
    let appended = |fields: u32, field: &dyn Fn(u32) -> u32| {
        let mut shard = shard();
        fill(&mut shard, "hash", fields);
        let before = shard.log.usage().bytes_used;
        for number in 0..1000 {
            set(&mut shard, "hash", field(number), format!("{number:0>16}").as_bytes());
        }
        shard.check().expect("the log's accounts");
        let bytes = (shard.log.usage().bytes_used - before) / 1000;
        eprintln!(
            "{fields} fields: {bytes} B a change, {} patches, {} folded",
            shard.stats.patches, shard.stats.folded
        );
        (bytes, shard.stats.patches, shard.stats.folded)
    };
    let any = |number: u32| number * 37 % 100;
    assert!(matches!(appended(100, &any), (250..360, 900.., 50..100)));
    assert!(matches!(appended(100, &|_| 50), (60..120, 950.., 10..40)));
    assert!(matches!(appended(40, &|number| number % 40), (_, 0, 0)));
}

#[test]
fn what_belongs_to_a_patched_hash_goes_with_it() {
    // Renamed, given an expiry, flushed, overwritten, deleted, expired: the patch is folded or dies with its base, the table is built anew
    // between; MEMORY USAGE counts it.
    for way in ["delete", "expire", "overwrite", "flush", "fold", "rename over"] {
        let mut shard = shard();
        shard.now = NOW;
        fill(&mut shard, "hash", 100);
        set(&mut shard, "hash", 7, b"first");
        let (key, new) = (shard.key(b"hash"), shard.key(b"new"));
        let found = shard.find(DB, key, NOW).expect("it was set");
        let before = shard.memory_usage(found);
        set(&mut shard, "hash", 8, b"second");
        let found = shard.find(DB, key, NOW).expect("it was set");
        assert!(matches!(shard.hash(found), Ok(HashRef::Patched(_))) && shard.memory_usage(found) > before + 30);
        shard.move_key((DB, key), found, (DB, new)).expect("room");
        assert_eq!(shard.patches.len(), 0, "what is renamed is folded");
        set(&mut shard, "new", 9, b"third");
        let found = shard.find(DB, new, NOW).expect("it was renamed");
        shard.set_expiry(DB, new, found, Some(UnixMs(NOW.0 + 10))).expect("room");
        assert_eq!(shard.patches.len(), 0, "what gets another expiry is folded");
        set(&mut shard, "new", 10, b"fourth");
        shard.reload();
        let found = shard.find(DB, new, NOW).expect("it is there");
        let hash = shard.hash(found).expect("a hash");
        assert!(matches!(hash, HashRef::Patched(_)));
        assert_eq!([hash.get(b"0007"), hash.get(b"0010")], [Some(&b"first"[..]), Some(b"fourth")]);
        shard.copy_key((DB, new), found, (DbId(1), key)).expect("room");
        assert_eq!(shard.patches.len(), 1, "a copy is folded");
        match way {
            "delete" => shard.remove(DB, new, found),
            "expire" => assert!(shard.find(DB, new, UnixMs(NOW.0 + 10)).is_none()),
            "overwrite" => {
                shard.put_string(DB, new, Some(found), b"v", None, crate::value::Encoding::Natural).expect("room");
            }
            "flush" => shard.clear(DB).expect("room"),
            "fold" => (0..200).for_each(|number| set(&mut shard, "new", 100 + number, b"more")),
            _ => {
                fill(&mut shard, "other", 3);
                let other = shard.key(b"other");
                let from = shard.find(DB, other, NOW).expect("it was set");
                shard.move_key((DB, other), from, (DB, new)).expect("room");
            }
        }
        shard.check().expect("the log's accounts");
        while shard.background(NOW, Budget { records: 100, is_idle: true }).more {}
        shard.check().expect("the log's accounts");
        assert_eq!(shard.patches.len(), usize::from(way == "fold"), "{way}");
        let copy = shard.find(DbId(1), key, NOW).expect("it was copied");
        let copy = shard.hash(copy).expect("a hash");
        assert_eq!((copy.len(), copy.get(b"0010")), (100, Some(&b"fourth"[..])));
    }
}
