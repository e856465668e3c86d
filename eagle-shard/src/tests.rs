//! The keyspace against a map: random histories with everything that may happen between commands.
//!
//! A history puts, overwrites, appends, expires, renames, flushes and swaps, lets time jump, and runs background slices of random
//! size between; the model is a `BTreeMap`. What the shard shows must be what the map has, at each step for the keys
//! touched and at the end for all, and [`Shard::check`] recounts the log. `EAGLE_SEED` repeats a history.

#![allow(clippy::print_stderr, reason = "a random test names its seed")]

use std::collections::BTreeMap;

use crate::{
    Budget, ExportCursor,
    call::{DbId, Key, UnixMs},
    dash::Cursor,
    error::Error,
    keyspace::Found,
    shard::{Shard, ShardConfig},
    value::Encoding,
};

/// What the model has under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    bytes: Vec<u8>,
    expiry: Option<UnixMs>,
    encoding: Encoding,
}

type Name = (u8, Vec<u8>);

/// The databases that a history uses.
const DATABASES: u8 = 3;

struct History {
    shard: Shard,
    model: BTreeMap<Name, Value>,
    rng: fastrand::Rng,
    now: UnixMs,
    /// How many different keys.
    keys: u32,
    /// Values above 64 KiB among the others: one in so many.
    large_every: u32,
    refused: usize,
}

/// The seed of this run; a failing test names it.
fn seed() -> u64 {
    std::env::var("EAGLE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("EAGLE_SEED is a number"))
}

impl History {
    fn new(config: ShardConfig, seed: u64, keys: u32, large_every: u32) -> Self {
        let shard = Shard::new(config).expect("a shard");
        let (model, now) = (BTreeMap::new(), UnixMs(1_700_000_000_000));
        Self { shard, model, rng: fastrand::Rng::with_seed(seed), now, keys, large_every, refused: 0 }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.shard.now = self.now;
            // As before a command: without room for its tombstones it is not begun.
            if self.shard.make_tombstone_room(5 * 400).is_err() {
                self.refused += 1;
                self.background();
                continue;
            }
            self.step();
        }
        self.compare_all();
        self.shard.check().expect("the log's accounts");
    }

    fn step(&mut self) {
        let (db, bytes) = self.any_name();
        let name = (db.0, bytes.clone());
        let key = self.shard.key(&bytes);
        match self.rng.u32(0..1000) {
            0..400 => self.put(db, key, name),
            400..460 => self.append(db, key, name),
            460..520 => self.set_range(db, key, name),
            520..580 => self.expire(db, key, &name),
            580..700 => self.delete(db, key, &name),
            700..800 => self.compare(db, key, &name),
            800..830 => self.transfer(db, key, &name, true),
            830..860 => self.transfer(db, key, &name, false),
            860..880 => self.carry(db, key, &name),
            880..881 => self.flush(db),
            881..884 => self.swap(),
            884..900 => self.now.0 += self.rng.u64(0..2000),
            900..985 => self.background(),
            _ => drop(self.shard.commit()),
        }
    }

    fn any_name(&mut self) -> (DbId, Vec<u8>) {
        let number = self.rng.u32(0..self.keys);
        // A few keys are long enough for the long form of a record.
        let text = if number.is_multiple_of(97) { format!("{number:0>300}") } else { format!("key:{number}") };
        (DbId(self.rng.u8(0..DATABASES)), text.into_bytes())
    }

    fn any_bytes(&mut self) -> Vec<u8> {
        let rng = &mut self.rng;
        let len = match rng.u32(0..100) {
            _ if rng.u32(0..self.large_every) == 0 => rng.usize(65_000..300_000),
            0..20 => return rng.i64(-1000..1000).to_string().into_bytes(),
            20..80 => rng.usize(0..100),
            80..99 => rng.usize(0..2000),
            _ => rng.usize(0..65_536),
        };
        let first = rng.u8(..);
        (0..len).map(|at| first.wrapping_add((at % 251) as u8)).collect()
    }

    fn any_expiry(&mut self) -> Option<UnixMs> {
        (self.rng.u32(0..3) == 0).then(|| UnixMs(self.now.0 + self.rng.u64(1..20_000)))
    }

    /// The model's value unless it has expired.
    fn expected(&mut self, name: &Name) -> Option<Value> {
        let value = self.model.get(name)?;
        if value.expiry.is_some_and(|at| at <= self.now) {
            self.model.remove(name);
            return None;
        }
        Some(value.clone())
    }

    fn compare(&mut self, db: DbId, key: Key<'_>, name: &Name) {
        let found = self.shard.find_read(db, key, self.now);
        let expected = self.expected(name);
        let shown = found.map(|found| shown(&self.shard, found));
        assert!(shown == expected, "{name:?}: shown {:?}, expected {:?}", brief(&shown), brief(&expected));
    }

    fn compare_all(&mut self) {
        let mut scanned = Vec::new();
        for db in (0..DATABASES).map(DbId) {
            let mut cursor = Cursor::START;
            loop {
                cursor = self.shard.scan(db, cursor, self.now, |key, _| {
                    scanned.push((db.0, key.to_vec()));
                });
                if cursor == Cursor::START {
                    break;
                }
            }
        }
        scanned.sort();
        scanned.dedup();
        let now = self.now;
        self.model.retain(|_, value| value.expiry.is_none_or(|at| at > now));
        assert!(scanned.iter().eq(self.model.keys()), "a scan shows the keys that there are");
        for name in scanned {
            let key = self.shard.key(&name.1);
            self.compare(DbId(name.0), key, &name);
        }
        let mut listed = 0;
        for db in (0..DATABASES).map(DbId) {
            self.shard.for_each_key(db, now, |_, _| listed += 1);
            let is_empty = !self.model.keys().any(|name| name.0 == db.0);
            assert_eq!(self.shard.random(db, now).is_none(), is_empty);
        }
        assert_eq!(listed, self.model.len());
    }

    /// Takes over what the model would have if the shard did what was asked.
    fn settle<T>(&mut self, done: &Result<T, Error>, change: impl FnOnce(&mut BTreeMap<Name, Value>)) {
        match done {
            Ok(_) => change(&mut self.model),
            Err(error) => {
                assert_eq!(*error, Error::OutOfMemory);
                self.refused += 1;
            }
        }
    }

    fn put(&mut self, db: DbId, key: Key<'_>, name: Name) {
        let old = self.shard.find(db, key, self.now);
        let bytes = match old {
            // Often of the same length, so that it can go in place.
            Some(found) if self.rng.bool() => {
                vec![self.rng.u8(..); self.shard.string_len(found).expect("a string")]
            }
            _ => self.any_bytes(),
        };
        let encoding = [Encoding::Natural, Encoding::Text, Encoding::Raw][self.rng.usize(0..3)];
        let encoding = if bytes.len() > 65_536 { Encoding::Raw } else { encoding };
        let value = Value { bytes, expiry: self.any_expiry(), encoding };
        let done = self.shard.put_string(db, key, old, &value.bytes, value.expiry, encoding);
        self.expected(&name);
        self.settle(&done, |model| drop(model.insert(name, value)));
    }

    fn append(&mut self, db: DbId, key: Key<'_>, name: Name) {
        let tail = self.any_bytes();
        let old = self.shard.find(db, key, self.now);
        let done = self.shard.append(db, key, old, &tail);
        let before = self.expected(&name);
        let is_new = before.is_none();
        let mut value = before.unwrap_or(Value { bytes: Vec::new(), expiry: None, encoding: Encoding::Natural });
        value.bytes.extend_from_slice(&tail);
        if (!is_new && !tail.is_empty()) || value.bytes.len() > 65_536 {
            value.encoding = Encoding::Raw;
        }
        if let Ok(len) = done {
            assert_eq!(len, value.bytes.len());
        }
        self.settle(&done, |model| drop(model.insert(name, value)));
    }

    fn set_range(&mut self, db: DbId, key: Key<'_>, name: Name) {
        let bytes = self.any_bytes();
        let far = if self.rng.u32(0..self.large_every) == 0 { 400_000 } else { 200 };
        let at = self.rng.usize(0..far);
        let old = self.shard.find(db, key, self.now);
        let done = self.shard.set_range(db, key, old, at, &bytes);
        let before = self.expected(&name);
        if bytes.is_empty() {
            assert_eq!(done, Ok(before.map_or(0, |value| value.bytes.len())));
            return;
        }
        let mut value = before.unwrap_or(Value { bytes: Vec::new(), expiry: None, encoding: Encoding::Raw });
        let len = value.bytes.len().max(at + bytes.len());
        value.bytes.resize(len, 0);
        value.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        value.encoding = Encoding::Raw;
        self.settle(&done, |model| drop(model.insert(name, value)));
    }

    fn expire(&mut self, db: DbId, key: Key<'_>, name: &Name) {
        let Some(found) = self.shard.find(db, key, self.now) else {
            assert_eq!(self.expected(name), None);
            return;
        };
        let expiry = self.any_expiry();
        let done = self.shard.set_expiry(db, key, found, expiry);
        self.settle(&done, |model| {
            model.get_mut(name).expect("the shard had it").expiry = expiry;
        });
    }

    fn delete(&mut self, db: DbId, key: Key<'_>, name: &Name) {
        let found = self.shard.find(db, key, self.now);
        assert_eq!(found.is_some(), self.expected(name).is_some());
        if let Some(found) = found {
            self.shard.remove(db, key, found);
        }
        self.model.remove(name);
    }

    /// Moves or copies a value to another name.
    fn transfer(&mut self, db: DbId, key: Key<'_>, name: &Name, is_move: bool) {
        let (to_db, to_bytes) = self.any_name();
        let to_name = (to_db.0, to_bytes.clone());
        let Some(found) = self.shard.find(db, key, self.now) else {
            return;
        };
        if *name == to_name {
            return;
        }
        let to = (to_db, self.shard.key(&to_bytes));
        let value = self.expected(name).expect("the shard has it");
        let done =
            if is_move { self.shard.move_key((db, key), found, to) } else { self.shard.copy_key((db, key), found, to) };
        self.settle(&done, |model| {
            if is_move {
                model.remove(name);
            }
            model.insert(to_name, value);
        });
    }

    /// Exports a value and imports it under another name, as RENAME across shards does.
    fn carry(&mut self, db: DbId, key: Key<'_>, name: &Name) {
        let (to_db, to_bytes) = self.any_name();
        let to_name = (to_db.0, to_bytes.clone());
        let Some(found) = self.shard.find(db, key, self.now) else {
            return;
        };
        let exported = self.shard.export(found, ExportCursor::START);
        let exported = crate::Exported::from_bytes(exported.as_bytes().to_vec()).expect("what was exported");
        let (value, replace) = (self.expected(name).expect("the shard has it"), self.rng.bool());
        let to = self.shard.key(&to_bytes);
        let done = self.shard.import(to_db, to, &exported, replace, self.now);
        let is_there = self.expected(&to_name).is_some();
        if let Ok(imported) = done {
            assert_eq!(imported, replace || !is_there);
        }
        self.settle(&done, |model| {
            if replace || !is_there {
                model.insert(to_name, value);
            }
        });
    }

    fn flush(&mut self, db: DbId) {
        if self.rng.u32(0..4) == 0 {
            let done = self.shard.clear_all();
            self.settle(&done, BTreeMap::clear);
        } else {
            let done = self.shard.clear(db);
            self.settle(&done, |model| model.retain(|name, _| name.0 != db.0));
        }
    }

    fn swap(&mut self) {
        let (first, second) = (self.rng.u8(0..DATABASES), self.rng.u8(0..DATABASES));
        let done = self.shard.swap(DbId(first), DbId(second));
        let other = |db| match db {
            _ if db == first => second,
            _ if db == second => first,
            _ => db,
        };
        self.settle(&done, |model| {
            *model = std::mem::take(model).into_iter().map(|((db, key), value)| ((other(db), key), value)).collect();
        });
    }

    fn background(&mut self) {
        let budget = Budget { records: self.rng.usize(0..300), is_idle: self.rng.bool() };
        self.shard.background(self.now, budget);
    }
}

fn shown(shard: &Shard, found: Found) -> Value {
    let bytes = shard.string(found).expect("a string").to_vec();
    Value { bytes, expiry: shard.expiry(found), encoding: shard.encoding(found) }
}

fn brief(value: &Option<Value>) -> Option<(usize, Option<UnixMs>, Encoding)> {
    value.as_ref().map(|value| (value.bytes.len(), value.expiry, value.encoding))
}

#[test]
fn overwriting_for_ever_takes_bounded_memory() {
    // A hundred times a keyspace of 10 MB is written with values of other lengths, on logs of both kinds, with slices of background
    // work too small to keep up by themselves; memory in use stays within the lazy bound of dead space and a few extents.
    let seed = seed();
    eprintln!("EAGLE_SEED={seed}");
    const KEYS: usize = 20_000;
    const LEN_MAX: usize = 1000;
    for in_place in [true, false] {
        let config = ShardConfig { in_place, extent_size: 256 << 10, capacity_max: 1 << 30, ..ShardConfig::default() };
        let mut shard = Shard::new(config).expect("a shard");
        let mut rng = fastrand::Rng::with_seed(seed);
        let (mut now, mut worst) = (UnixMs(1_700_000_000_000), 0.0f64);
        for round in 0..100 {
            for step in 0..KEYS {
                let name = format!("key:{}", if round == 0 { step } else { rng.usize(..KEYS) });
                let key = shard.key(name.as_bytes());
                let old = shard.find(DbId(0), key, now);
                let value = vec![b'v'; rng.usize(..LEN_MAX)];
                shard.put_string(DbId(0), key, old, &value, None, Encoding::Natural).expect("room");
                if step % 64 == 0 {
                    shard.commit();
                    shard.background(now, Budget { records: 1, is_idle: false });
                }
            }
            now.0 += 100;
            let usage = shard.usage();
            if round > 0 {
                worst = worst.max(usage.log_bytes as f64 / usage.log_live_bytes as f64);
            }
        }
        let usage = shard.usage();
        eprintln!(
            "in place {in_place}: {} MB alive, in use at most {worst:.2} times as much, {} MB moved for 1000 MB written",
            usage.log_live_bytes >> 20,
            shard.stats.moved_bytes >> 20
        );
        let bound = if in_place { 1.75 } else { 2.25 };
        assert!(worst < bound, "{worst}");
        shard.check().expect("the log's accounts");
    }
}

#[test]
fn deleting_for_ever_takes_bounded_memory() {
    // A replayed log keeps each deleted key dead by a tombstone, and drops the tombstone when what it kills is gone: new keys set and
    // deleted beside some that stay, fifty times the memory in use, leave it as it is.
    let mut shard = Shard::new(small_config(false, 1 << 30)).expect("a shard");
    let (now, mut worst) = (UnixMs(1_700_000_000_000), 0);
    for number in 0..1_000_000u32 {
        let name = number.to_string();
        let key = shard.key(name.as_bytes());
        shard.put_string(DbId(0), key, None, &[b'v'; 20], None, Encoding::Natural).expect("room");
        let old = number.saturating_sub(2000);
        if !old.is_multiple_of(500) {
            let name = old.to_string();
            let key = shard.key(name.as_bytes());
            if let Some(found) = shard.find(DbId(0), key, now) {
                shard.make_tombstone_room(100).expect("room");
                shard.remove(DbId(0), key, found);
            }
        }
        if number.is_multiple_of(64) {
            shard.commit();
            shard.background(now, Budget { records: 64, is_idle: false });
            worst = worst.max(shard.usage().log_bytes);
        }
    }
    let usage = shard.usage();
    eprintln!("{} keys, {} KiB alive, {} KiB in use at most", usage.keys, usage.log_live_bytes >> 10, worst >> 10);
    assert!(usage.keys < 5000 && worst < 6 << 20, "a million tombstones would take 24 MB");
    shard.check().expect("the log's accounts");
}

fn small_config(in_place: bool, capacity_max: u64) -> ShardConfig {
    ShardConfig { extent_size: 256 << 10, capacity_max, in_place, databases: DATABASES, ..ShardConfig::default() }
}

#[test]
fn keyspace_is_a_map_while_memory_is_plenty() {
    // Few keys often changed, then many keys through splits of the index, on logs of both kinds.
    let seed = seed();
    eprintln!("EAGLE_SEED={seed}");
    for in_place in [true, false] {
        for (keys, large_every) in [(60, 30), (20_000, 1000)] {
            let mut history = History::new(small_config(in_place, 1 << 30), seed, keys, large_every);
            for _ in 0..3 {
                history.run(12_000);
            }
            assert_eq!(history.refused, 0, "there was room for everything");
        }
    }
}

#[test]
fn keyspace_is_a_map_while_memory_is_short() {
    // With room for a fraction of what is put, writers are refused or served; nothing is lost, and deletes make room again.
    let seed = seed();
    eprintln!("EAGLE_SEED={seed}");
    for in_place in [true, false] {
        let mut history = History::new(small_config(in_place, 5 << 20), seed, 3000, 20);
        for _ in 0..3 {
            history.run(12_000);
        }
        assert!(history.refused > 0, "memory was short");
    }
}
