//! Hashes against a map: random histories that cross from packed to large, with all that may happen to a key between.
//!
//! As the histories of the keyspace ([`crate::tests`]), in one database and with small limits, so that most keys are packed and large in
//! turn. What the shard shows must be what the model has: fields, values, encoding and expiry, of a packed hash the order too.
//! `EAGLE_SEED` repeats a history.

#![allow(clippy::print_stderr, reason = "a random test names its seed")]

use std::collections::BTreeMap;

use super::*;
use crate::{Budget, Copied, ExportCursor, Exported, call::UnixMs, shard::ShardConfig, value::Encoding};

const DB: DbId = DbId(0);
const LIMITS: PackedLimits = PackedLimits { entries_max: 24, item_bytes_max: 30 };
/// With these packed hashes come to some KiB, and change by patches.
const WIDE: PackedLimits = PackedLimits { entries_max: 200, item_bytes_max: 30 };

/// What the model has under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    /// In the order in which they came.
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    is_large: bool,
    expiry: Option<UnixMs>,
}

impl Model {
    fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        if let Some(pair) = self.fields.iter_mut().find(|pair| pair.0 == field) {
            pair.1 = value.to_vec();
            return false;
        }
        self.fields.push((field.to_vec(), value.to_vec()));
        true
    }
}

struct History {
    shard: Shard,
    model: BTreeMap<Vec<u8>, Model>,
    rng: fastrand::Rng,
    now: UnixMs,
    /// How many different fields.
    fields: u32,
    /// Items that are too long for a packed hash: one in so many of those that may be.
    long_every: u32,
    refused: usize,
}

fn seed() -> u64 {
    let seed = std::env::var("EAGLE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("a number"));
    eprintln!("EAGLE_SEED={seed}");
    seed
}

fn shard(in_place: bool, capacity_max: u64) -> Shard {
    let config =
        ShardConfig { extent_size: 256 << 10, capacity_max, in_place, packed_hash: LIMITS, ..ShardConfig::default() };
    Shard::new(config).expect("a shard")
}

impl History {
    fn new(shard: Shard, seed: u64, fields: u32) -> Self {
        let now = UnixMs(1_700_000_000_000);
        Self {
            shard,
            model: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
            now,
            fields,
            long_every: 1,
            refused: 0,
        }
    }

    fn run(&mut self, steps: usize) {
        for step in 0..steps {
            self.shard.now = self.now;
            // As before a command: without room for its tombstones it is not begun.
            if self.shard.make_tombstone_room(80 * 100).is_err() {
                self.refused += 1;
                self.background();
                continue;
            }
            self.step();
            if step % 4000 == 0 {
                self.shard.check().expect("the log's accounts");
            }
        }
        for name in self.model.keys().cloned().collect::<Vec<_>>() {
            self.compare(&name);
        }
        self.shard.check().expect("the log's accounts");
    }

    fn step(&mut self) {
        let name = self.any_name();
        match self.rng.u32(0..1000) {
            0..400 => self.set(&name),
            400..560 => self.delete_fields(&name),
            560..700 => self.compare(&name),
            700..730 => self.expire(&name),
            730..750 => self.remove(&name),
            750..790 => self.transfer(&name, true),
            790..820 => self.transfer(&name, false),
            820..850 => self.carry(&name),
            850..870 => self.put_string(&name),
            870..872 => self.flush(),
            872..880 => self.now.0 += self.rng.u64(0..2000),
            880..882 => self.shard.reload(),
            882..985 => self.background(),
            _ => drop(self.shard.commit()),
        }
    }

    fn any_name(&mut self) -> Vec<u8> {
        format!("key:{}", self.rng.u32(0..20)).into_bytes()
    }

    fn any_field(&mut self) -> Vec<u8> {
        let number = self.rng.u32(0..self.fields);
        // Some are too long for a packed hash.
        if number % 50 == 49 && self.rng.u32(0..self.long_every) == 0 {
            format!("{number:0>40}")
        } else {
            format!("f{number}")
        }
        .into_bytes()
    }

    fn any_value(&mut self) -> Vec<u8> {
        let len = match self.rng.u32(0..100) {
            0..60 => 8,
            60..97 => self.rng.usize(0..=30),
            _ if self.rng.u32(0..self.long_every) > 0 => 16,
            97..99 => self.rng.usize(0..400),
            _ => self.rng.usize(0..20_000),
        };
        vec![self.rng.alphanumeric() as u8; len]
    }

    /// The model's hash unless it has expired.
    fn expected(&mut self, name: &[u8]) -> Option<Model> {
        let model = self.model.get(name)?;
        if model.expiry.is_some_and(|at| at <= self.now) {
            self.model.remove(name);
            return None;
        }
        Some(model.clone())
    }

    fn find(&mut self, name: &[u8]) -> Option<Found> {
        let found = self.shard.find(DB, self.shard.key(name), self.now);
        assert_eq!(found.is_some(), self.expected(name).is_some(), "{}", name.escape_ascii());
        found
    }

    /// Takes over what the model would have if the shard did what was asked.
    fn settle<T>(&mut self, done: &Result<T, Error>, change: impl FnOnce(&mut BTreeMap<Vec<u8>, Model>)) {
        match done {
            Ok(_) => change(&mut self.model),
            Err(error) => {
                assert_eq!(*error, Error::OutOfMemory);
                self.refused += 1;
            }
        }
    }

    fn compare(&mut self, name: &[u8]) {
        let (found, expected) = (self.find(name), self.expected(name));
        let (Some(found), Some(expected)) = (found, expected) else {
            return;
        };
        let hash = self.shard.hash(found).expect("a hash");
        let mut shown = Vec::new();
        hash.for_each(|(field, value)| shown.push((field.to_vec(), value.to_vec())));
        assert_eq!(hash.len(), shown.len());
        for (field, value) in &expected.fields {
            assert_eq!(hash.get(field), Some(value.as_slice()), "{}", field.escape_ascii());
        }
        assert_eq!(hash.get(b"none"), None);
        let mut scanned = Vec::new();
        let mut cursor = Cursor::START;
        loop {
            cursor = hash.scan(cursor, |(field, value)| scanned.push((field.to_vec(), value.to_vec())));
            if cursor == Cursor::START {
                break;
            }
        }
        let random = hash.random(&mut self.rng);
        assert!(shown.iter().any(|pair| pair.0 == random.0 && pair.1 == random.1));
        let mut fields = expected.fields.clone();
        if expected.is_large {
            [&mut shown, &mut scanned, &mut fields].into_iter().for_each(|pairs| pairs.sort());
        }
        assert!(shown == fields && scanned == fields, "all fields and no others, in their order while packed");
        let encoding = if expected.is_large { "hashtable" } else { "listpack" };
        assert_eq!((self.shard.encoding_name(found), self.shard.expiry(found)), (encoding, expected.expiry));
    }

    fn set(&mut self, name: &[u8]) {
        let count = [1, 1, 1, 2, 5, 40][self.rng.usize(0..6)];
        let pairs: Vec<_> = (0..count).map(|_| (self.any_field(), self.any_value())).collect();
        let old = self.find(name);
        let key = self.shard.key(name);
        let given = pairs.iter().map(|(field, value)| (field.as_slice(), value.as_slice()));
        let done = self.shard.set_fields(DB, key, old, given);
        let mut model = self.expected(name).unwrap_or_default();
        let added = pairs.iter().filter(|(field, value)| model.set(field, value)).count();
        let limits = self.shard.config.packed_hash;
        let is_long = |item: &[u8]| item.len() > limits.item_bytes_max;
        model.is_large |= pairs.len() > limits.entries_max
            || model.fields.len() > limits.entries_max
            || pairs.iter().any(|(field, value)| is_long(field) || is_long(value));
        if let Ok(new) = done {
            assert_eq!(new, added);
        }
        self.settle(&done, |all| drop(all.insert(name.to_vec(), model)));
    }

    fn delete_fields(&mut self, name: &[u8]) {
        let count = [1, 1, 3, 30][self.rng.usize(0..4)];
        let fields: Vec<_> = (0..count).map(|_| self.any_field()).collect();
        let Some(found) = self.find(name) else {
            return;
        };
        let key = self.shard.key(name);
        let done = self.shard.delete_fields(DB, key, found, fields.iter().map(Vec::as_slice));
        let mut model = self.expected(name).expect("the shard has it");
        let before = model.fields.len();
        model.fields.retain(|pair| !fields.contains(&pair.0));
        if let Ok(removed) = done {
            assert_eq!(removed, before - model.fields.len());
        }
        self.settle(&done, |all| match model.fields.is_empty() {
            true => drop(all.remove(name)),
            false => drop(all.insert(name.to_vec(), model)),
        });
    }

    fn expire(&mut self, name: &[u8]) {
        let expiry = self.rng.bool().then(|| UnixMs(self.now.0 + self.rng.u64(1..20_000)));
        if let Some(found) = self.find(name) {
            let key = self.shard.key(name);
            let done = self.shard.set_expiry(DB, key, found, expiry);
            self.settle(&done, |all| all.get_mut(name).expect("the shard had it").expiry = expiry);
        }
    }

    fn remove(&mut self, name: &[u8]) {
        if let Some(found) = self.find(name) {
            let key = self.shard.key(name);
            self.shard.remove(DB, key, found);
            self.model.remove(name);
        }
    }

    /// A string takes a hash's place, and goes again.
    fn put_string(&mut self, name: &[u8]) {
        let old = self.find(name);
        let key = self.shard.key(name);
        let value = self.any_value();
        if self.shard.put_string(DB, key, old, &value, None, Encoding::Natural).is_ok() {
            let found = self.shard.find(DB, key, self.now).expect("it was put");
            assert!(matches!(self.shard.hash(found), Err(Error::WrongType)));
            self.shard.remove(DB, key, found);
            self.model.remove(name);
        }
    }

    fn transfer(&mut self, name: &[u8], is_move: bool) {
        let to = self.any_name();
        let Some(found) = self.find(name).filter(|_| *name != *to) else {
            return;
        };
        let (from, to_key) = ((DB, self.shard.key(name)), (DB, self.shard.key(&to)));
        let done =
            if is_move { self.shard.move_key(from, found, to_key) } else { self.shard.copy_key(from, found, to_key) };
        let model = self.expected(name).expect("the shard has it");
        self.settle(&done, |all| {
            if is_move {
                all.remove(name);
            }
            all.insert(to, model);
        });
    }

    /// Carries a hash to another name slice by slice, as COPY across shards does, with background work between; now and then not to
    /// the end.
    fn carry(&mut self, name: &[u8]) {
        let to = self.any_name();
        if self.find(name).is_none() || *name == *to {
            return;
        }
        let to_key = self.shard.key(&to);
        let mut next = Some(ExportCursor::START);
        while let Some(cursor) = next {
            let found = self.find(name).expect("nothing happens to it meanwhile");
            let exported = self.shard.export(found, cursor);
            next = Exported::next_slice(exported.as_bytes());
            let exported = Exported::from_bytes(exported.as_bytes().to_vec()).expect("what was exported");
            let done = self.shard.import(DB, to_key, &exported, true, self.now);
            if let Err(error) = done {
                assert_eq!(error, Error::OutOfMemory);
                self.refused += 1;
                return;
            }
            if next.is_some() && self.rng.u32(0..10) == 0 {
                self.shard.abandon(DB, to_key);
                return;
            }
            self.background();
        }
        let model = self.expected(name).expect("the shard has it");
        self.model.insert(to, model);
    }

    fn flush(&mut self) {
        let done = self.shard.clear_all();
        self.settle(&done, BTreeMap::clear);
    }

    fn background(&mut self) {
        let budget = Budget { records: self.rng.usize(0..300), is_idle: self.rng.bool() };
        self.shard.background(self.now, budget);
    }
}

#[test]
fn a_hash_is_a_map_while_memory_is_plenty() {
    // Few fields, so that most hashes are packed for long; then thousands, in tables that split, merge and go in slices. On logs of both
    // kinds, with compaction under way all the time.
    let seed = seed();
    for in_place in [true, false] {
        for (fields, steps) in [(60, 30_000), (8_000, 10_000)] {
            let mut history = History::new(shard(in_place, 1 << 30), seed, fields);
            if fields > 1000 {
                history.grow(3, 150);
            }
            history.run(steps);
            assert_eq!(history.refused, 0, "there was room for everything");
        }
    }
}

#[test]
fn a_patched_hash_is_a_map() {
    // Hashes of some KiB that change by patches, are folded, and become large now and then; while memory is plenty, and in so few extents
    // that records move all the time.
    let seed = seed();
    for (capacity_max, fields) in [(1 << 30, 190), (1 << 30, 230), (768 << 10, 190)] {
        let (extent_size, in_place) = (64 << 10, false);
        let config = ShardConfig { extent_size, capacity_max, in_place, packed_hash: WIDE, ..ShardConfig::default() };
        let shard = Shard::new(config).expect("a shard");
        let mut history = History::new(shard, seed, fields);
        history.long_every = 100;
        history.grow(20, 12);
        history.run(20_000);
        let stats = history.shard.stats;
        eprintln!("{} patches, {} folded, {} refused", stats.patches, stats.folded, history.refused);
        assert!(stats.patches > 300 && stats.folded > 30 && stats.moved > 100, "{stats:?}");
    }
}

#[test]
fn a_hash_is_a_map_while_memory_is_short() {
    // Writers are refused or served; nothing is lost or half done, and deletes make room again.
    let seed = seed();
    for in_place in [true, false] {
        let mut history = History::new(shard(in_place, 2 << 20), seed, 8_000);
        history.grow(12, 400);
        history.run(8_000);
        assert!(history.refused > 0, "memory was short");
    }
}

impl History {
    /// Sets fields of so many keys so many times, for tables of many segments.
    fn grow(&mut self, keys: usize, times: usize) {
        for key in 0..keys {
            let name = format!("key:{key}").into_bytes();
            (0..times).for_each(|_| self.set(&name));
        }
    }
}

#[test]
fn elements_take_few_bytes() {
    // Hashes of 100 fields (4 + 16 bytes) and of 1000 (5 + 16), built field by field among each other: bytes an element, dead ones left
    // out, with its share of key and index.
    for (hashes, fields, bytes_max) in [(2_000, 100, 26.0), (200, 1_000, 55.0)] {
        let mut shard = Shard::new(ShardConfig { extent_size: 1 << 20, ..ShardConfig::default() }).expect("a shard");
        let now = UnixMs(1_700_000_000_000);
        for field in 0..fields {
            for hash in 0..hashes {
                let (name, field) =
                    (format!("hash:{hash:0>5}"), format!("{field:0>4}{}", if fields > 100 { "f" } else { "" }));
                let key = shard.key(name.as_bytes());
                let old = shard.find(DB, key, now);
                shard.set_fields(DB, key, old, std::iter::once((field.as_bytes(), &[b'v'; 16][..]))).expect("room");
            }
            shard.commit();
            shard.background(now, Budget { records: 1000, is_idle: true });
        }
        let usage = shard.usage();
        let bytes = usage.log_live_bytes as usize + usage.index_bytes + usage.other_bytes;
        let an_element = bytes as f64 / f64::from(hashes * fields);
        let in_all = usage.memory as f64 / f64::from(hashes * fields);
        eprintln!("{fields} fields: {an_element:.1} B an element, {in_all:.1} with what is dead and extents not full");
        assert!(an_element <= bytes_max, "{an_element}");
        let found = shard.find(DB, shard.key(b"hash:00000"), now).expect("a hash");
        let said = shard.memory_usage(found) as f64 / f64::from(fields);
        assert!((said / an_element - 1.0).abs() < 0.2, "MEMORY USAGE says {said} an element");
    }
}

#[test]
fn a_large_hash_goes_by_its_head() {
    // Renamed, deleted, expired: only the head's record is written or dies at once, whatever the number of fields; the elements are
    // counted as dead in slices, and then their memory is free.
    for in_place in [true, false] {
        let mut shard = shard(in_place, 1 << 30);
        let now = UnixMs(1_700_000_000_000);
        shard.now = now;
        let fill = |shard: &mut Shard| {
            let key = shard.key(b"key");
            let fields: Vec<_> = (0..50_000u32).map(|n| n.to_string().into_bytes()).collect();
            shard
                .set_fields(DB, key, None, fields.iter().map(|field| (field.as_slice(), &b"value"[..])))
                .expect("room");
        };
        let sweep = |shard: &mut Shard, now: UnixMs| {
            let mut slices = 0;
            while !shard.flushed.is_empty() {
                shard.background(now, Budget { records: 100, is_idle: false });
                slices += 1;
            }
            shard.check().expect("the log's accounts");
            slices
        };
        for way in ["delete", "expire", "overwrite"] {
            fill(&mut shard);
            let (key, new) = (shard.key(b"key"), shard.key(b"new"));
            let found = shard.find(DB, key, now).expect("it was set");
            let before = shard.usage();
            shard.move_key((DB, key), found, (DB, new)).expect("room");
            let found = shard.find(DB, new, now).expect("it was renamed");
            assert_eq!(shard.hash(found).expect("a hash").len(), 50_000);
            match way {
                "delete" => shard.remove(DB, new, found),
                "expire" => {
                    shard.set_expiry(DB, new, found, Some(UnixMs(now.0 + 1))).expect("room");
                    assert!(shard.find(DB, new, UnixMs(now.0 + 1)).is_none());
                }
                _ => {
                    shard.put_string(DB, new, Some(found), b"v", None, Encoding::Natural).expect("room");
                    let found = shard.find(DB, new, now).expect("a string");
                    shard.remove(DB, new, found);
                }
            }
            let after = shard.usage();
            assert!(before.log_live_bytes.abs_diff(after.log_live_bytes) < 300, "{way}: elements are not touched");
            assert!(before.memory.abs_diff(after.memory) < 100_000, "{way}: their memory still counts");
            assert!(sweep(&mut shard, now) > 20, "{way}: in slices");
            let after = shard.usage();
            // The log's extents go back in their own time; what is certain is that nothing in them lives.
            assert!(after.log_live_bytes < 1000 && after.other_bytes < before.other_bytes / 2, "{way}: {after:?}");
        }
    }
}

#[test]
fn a_large_hash_is_copied_in_slices() {
    // Between slices others write, records move, tables are built anew: the copy is not seen before it is whole, and then has every field
    // and the expiry. If the source goes in between, or another comes to its key, nothing is left of the copy.
    let now = UnixMs(1_700_000_000_000);
    for (in_place, way) in [true, false].into_iter().flat_map(|in_place| (0..4).map(move |way| (in_place, way))) {
        let mut shard = shard(in_place, 1 << 30);
        let (from, to) = ((DB, shard.key(b"from")), (DbId(1), shard.key(b"to")));
        let fields: Vec<_> = (0..20_000u32).map(|number| number.to_string().into_bytes()).collect();
        let fill = |shard: &mut Shard, db: DbId, value: &[u8]| {
            let old = shard.find(db, from.1, now);
            shard.set_fields(db, from.1, old, fields.iter().map(|field| (field.as_slice(), value))).expect("room");
        };
        fill(&mut shard, DB, b"short");
        fill(&mut shard, DB, b"a value that is longer");
        let found = shard.find(DB, from.1, now).expect("it was set");
        shard.set_expiry(DB, from.1, found, Some(UnixMs(now.0 + 1_000))).expect("room");
        assert!(shard.is_copied_in_slices(DB, from.1));
        let (mut cursor, mut slices) = (ExportCursor::START, 0);
        let copied = loop {
            match shard.copy_slice(from, to, slices % 2 == 0, cursor, now).expect("room") {
                Copied::Until(next) => cursor = next,
                copied => break copied,
            }
            slices += 1;
            assert!(shard.find(to.0, to.1, now).is_none(), "not seen before it is whole");
            let other = shard.key(b"other");
            let old = shard.find(DB, other, now);
            shard.put_string(DB, other, old, &vec![b'v'; 5_000], None, Encoding::Raw).expect("room");
            shard.background(now, Budget { records: 500, is_idle: true });
            match (way, slices) {
                (1, 30) => shard.reload(),
                (2, 30) => shard.clear(DB).expect("room"),
                (3, 30) => {
                    shard.clear(DB).expect("room");
                    fill(&mut shard, DB, b"another");
                }
                _ => {}
            }
        };
        if way < 2 {
            assert_eq!(copied, Copied::Whole);
            assert!((20_000 / 300..20_000 / 256).contains(&slices), "{slices} slices");
            let found = shard.find(to.0, to.1, now).expect("it was copied");
            assert_eq!(shard.expiry(found), Some(UnixMs(now.0 + 1_000)));
            let hash = shard.hash(found).expect("a hash");
            assert_eq!(hash.len(), fields.len());
            assert!(fields.iter().all(|field| hash.get(field) == Some(b"a value that is longer")));
        } else {
            assert_eq!((copied, slices), (Copied::Nothing, 30));
            assert!(shard.find(to.0, to.1, now).is_none() && shard.arrivals.is_empty());
        }
        shard.check().expect("the log's accounts");
    }
}

#[test]
fn a_copy_that_finds_no_room_leaves_nothing() {
    // A hash that fills more than half of a shard: some slice of its copy is refused, and what was copied before is forgotten.
    let (mut shard, now) = (shard(true, 4 << 20), UnixMs(1_700_000_000_000));
    let (from, to) = ((DB, shard.key(b"from")), (DB, shard.key(b"to")));
    for number in 0..28_000u32 {
        let (field, old) = (number.to_string().into_bytes(), shard.find(DB, from.1, now));
        shard.set_fields(DB, from.1, old, std::iter::once((&field[..], &[b'v'; 64][..]))).expect("room");
    }
    let found = shard.find(DB, from.1, now).expect("it was set");
    assert_eq!(shard.copy_key(from, found, to), Err(Error::OutOfMemory));
    assert!(shard.find(DB, to.1, now).is_none() && shard.arrivals.is_empty());
    let found = shard.find(DB, from.1, now).expect("it stays");
    assert_eq!(shard.hash(found).expect("a hash").len(), 28_000);
    shard.check().expect("the log's accounts");
}
