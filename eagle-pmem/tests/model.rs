//! The log against plain maps: whatever is done to it, every living record reads as it was written
//! and every account is right.
//!
//! Random changes run against a small log that is always short of room, so that compaction works
//! all the time. In a log that is replayed, what its commits named is also copied to a plain
//! vector, as a file would be, and read back at the end with nothing else to go by: the same keys
//! must live there.

#![allow(clippy::print_stderr, reason = "a random test prints the seed that repeats it")]

use eagle_pmem::layout::{ExtentHeader, SUPERBLOCKS_BYTES, extent_header, record_bytes_max};
use eagle_pmem::{
    CollectionId, EXPIRY_MS_MAX, Edit, ExtentSeed, ExtentState, Kind, Log, LogConfig, Policy, PoolOffset, Record,
    RecordParts, Walk,
};
use fastrand::Rng;
use std::collections::HashMap;

const POOL_ID: u64 = 0xEA61E;
const EXTENT: usize = 64 << 10;
const EXTENTS_MAX: usize = 48;

/// What the shard knows of a record.
#[derive(Clone, PartialEq, Debug)]
struct Known {
    offset: PoolOffset,
    tag: u8,
    db: u16,
    expiry: Option<u64>,
    id: Option<CollectionId>,
    value: Vec<u8>,
}

impl Known {
    fn parts<'a>(&self, key: &'a [u8], value: &'a [&'a [u8]]) -> RecordParts<'a> {
        RecordParts {
            tag: self.tag,
            db: self.db,
            expiry: self.expiry,
            id: self.id,
            ..RecordParts::new(Kind::String, key, value)
        }
    }
}

/// A log, the map that it must agree with, and, where it is replayed, the file that its commits
/// would write.
struct Bed {
    log: Log,
    model: HashMap<Vec<u8>, Known>,
    /// Where the model's records lie, to find a random one and to tell the living.
    keys: HashMap<PoolOffset, Vec<u8>>,
    file: Vec<u8>,
    walk: Option<Walk>,
    rng: Rng,
}

impl Bed {
    fn new(replayed: bool, rng: Rng) -> Self {
        let capacity_bytes = (EXTENTS_MAX * EXTENT) as u64;
        let config = LogConfig { extent_bytes: EXTENT, replayed, ..LogConfig::new(POOL_ID, capacity_bytes) };
        Self {
            log: Log::anonymous(config).expect("a log"),
            model: HashMap::new(),
            keys: HashMap::new(),
            file: Vec::new(),
            walk: None,
            rng,
        }
    }

    /// A key of few, so that most are overwritten; some are long.
    fn random_key(&mut self) -> Vec<u8> {
        let number = self.rng.u32(..400);
        let len = if number.is_multiple_of(10) { 300 } else { 14 };
        format!("{number:0len$}").into_bytes()
    }

    fn random_known(&mut self) -> Known {
        let len = match self.rng.u32(..1000) {
            0..5 => self.rng.usize(..EXTENT * 3),
            5..30 => self.rng.usize(..EXTENT / 2),
            _ => self.rng.usize(..200),
        };
        Known {
            offset: PoolOffset::from_raw(0),
            tag: self.rng.u8(..),
            db: if self.rng.bool() { self.rng.u16(..) } else { 0 },
            expiry: self.rng.bool().then(|| self.rng.u64(..=EXPIRY_MS_MAX)),
            id: self.rng.bool().then(|| CollectionId::from_raw(self.rng.u64(..1 << 40))),
            value: std::iter::repeat_with(|| self.rng.u8(..)).take(len).collect(),
        }
    }

    /// Makes room as a shard would: compacts until there is some.
    fn reserve(&mut self, bytes: usize) {
        while self.log.reserve(bytes).is_err() {
            assert!(self.compact(usize::MAX), "there is always something to compact: {:?}", self.log.usage());
        }
    }

    /// Walks extents, at most `steps` records of one, and moves those that the model knows. A walk
    /// is carried to its end.
    fn compact(&mut self, steps: usize) -> bool {
        let policy = if self.rng.bool() { Policy::CostBenefit } else { Policy::Greedy };
        let walk = self.walk.take().or_else(|| Some(self.log.walk(self.log.victim(policy, 1)?)));
        let Some(mut walk) = walk else {
            return false;
        };
        for _ in 0..steps {
            let Some(found) = self.log.step(&mut walk) else {
                return true;
            };
            let (offset, version, kind) = (found.offset, found.version, found.record.kind());
            if let Some(key) = self.keys.remove(&offset) {
                let moved = self.log.relocate(offset, version).expect("room for moving");
                self.model.get_mut(&key).expect("a known key").offset = moved;
                self.keys.insert(moved, key);
            } else if kind == Kind::Tombstone {
                self.log.relocate(offset, version).expect("room for moving");
            }
        }
        self.walk = Some(walk);
        true
    }

    /// Points the model at a key's new record, and lets the log know that the old one is dead.
    fn point(&mut self, key: &[u8], known: Known) {
        self.keys.insert(known.offset, key.to_vec());
        if let Some(old) = self.model.insert(key.to_vec(), known) {
            self.keys.remove(&old.offset);
            self.log.kill(old.offset);
        }
    }

    fn set(&mut self) {
        let (key, mut known) = (self.random_key(), self.random_known());
        let cut = self.rng.usize(..=known.value.len());
        let value = known.value.clone();
        let pieces = [&value[..cut], &value[cut..]];
        let parts = known.parts(&key, &pieces);
        if let Some(old) = self.model.get(&key)
            && self.log.overwrite(old.offset, &parts)
        {
            known.offset = old.offset;
            self.model.insert(key, known);
            return;
        }
        self.reserve(parts.bytes());
        known.offset = if self.rng.bool() {
            self.log.append(&parts)
        } else {
            let parts = RecordParts { value: &[], ..parts };
            self.log.append_with(&parts, value.len(), |place| place.copy_from_slice(&value))
        };
        self.point(&key, known);
    }

    fn delete(&mut self) {
        let key = self.random_key();
        let Some(old) = self.model.get(&key) else {
            return;
        };
        let bytes = self.log.delete_bytes(old.offset);
        while self.log.reserve_privileged(bytes).is_err() {
            assert!(self.compact(usize::MAX), "{:?}", self.log.usage());
        }
        let old = self.model.remove(&key).expect("it is there");
        self.keys.remove(&old.offset);
        self.log.delete(old.offset);
    }

    /// Appends a key's value with something added, or changes it in place if it may.
    fn extend(&mut self) {
        let key = self.random_key();
        let Some(mut known) = self.model.get(&key).cloned() else {
            return;
        };
        let more = known.value.len().min(50);
        known.value.extend_from_within(..more);
        if self.log.overwrite_value(known.offset, &[&known.value]) {
            self.model.insert(key, known);
            return;
        }
        self.reserve(record_bytes_max(key.len(), known.value.len()));
        let source = self.model[&key].offset;
        let parts = known.parts(&key, &[]);
        known.offset = self.log.append_from(source, &parts, known.value.len(), |old, place| {
            let (start, end) = place.split_at_mut(old.value().len());
            start.copy_from_slice(old.value());
            end.copy_from_slice(&old.value()[..more]);
        });
        self.point(&key, known);
    }

    /// Copies a key's record to another key, or changes its expiry.
    fn copy(&mut self) {
        let (from, to) = (self.random_key(), self.random_key());
        let Some(mut known) = self.model.get(&from).cloned() else {
            return;
        };
        known.expiry = self.rng.bool().then(|| self.rng.u64(..=EXPIRY_MS_MAX));
        known.db = self.rng.u16(..3);
        self.reserve(record_bytes_max(to.len(), known.value.len()));
        let edit = Edit { key: Some(&to), db: Some(known.db), expiry: Some(known.expiry), ..Edit::default() };
        known.offset = self.log.append_copy(self.model[&from].offset, &edit);
        self.point(&to, known);
    }

    fn change_in_place(&mut self) {
        let key = self.random_key();
        let Some(known) = self.model.get_mut(&key) else {
            return;
        };
        let at = self.rng.u64(..=EXPIRY_MS_MAX);
        if self.log.set_expiry(known.offset, at) {
            known.expiry = Some(at);
        }
        if self.log.change_value(known.offset, |value| value.fill(3)) {
            known.value.fill(3);
        }
    }

    /// Some keys set as one.
    fn set_group(&mut self) {
        let count = self.rng.usize(1..40);
        let mut group: Vec<(Vec<u8>, Known)> = Vec::new();
        for _ in 0..count {
            let (key, known) = (self.random_key(), self.random_known());
            group.retain(|(other, _)| *other != key);
            group.push((key, known));
        }
        let bytes = group.iter().map(|(key, known)| record_bytes_max(key.len(), known.value.len())).sum();
        self.reserve(bytes);
        self.log.begin_group(bytes);
        for (key, mut known) in group {
            let value = known.value.clone();
            known.offset = self.log.append(&known.parts(&key, &[&value]));
            self.point(&key, known);
        }
        self.log.end_group();
    }

    fn commit(&mut self) {
        let ranges = self.log.commit().ranges.to_vec();
        if !self.log.is_replayed() {
            return;
        }
        for range in ranges {
            let (start, end) = (range.start as usize, range.end as usize);
            if self.file.len() < end {
                self.file.resize(end, 0);
            }
            self.file[start..end].copy_from_slice(self.log.bytes(range));
        }
    }

    fn step(&mut self) {
        match self.rng.u32(..100) {
            0..50 => self.set(),
            50..65 => self.delete(),
            65..75 => self.extend(),
            75..80 => self.copy(),
            80..88 => self.change_in_place(),
            88..90 => self.set_group(),
            90..98 => drop(self.compact(20)),
            _ => self.commit(),
        }
    }

    /// Compares everything.
    fn check(&self) {
        for (key, known) in &self.model {
            let record = self.log.read(known.offset);
            assert!(record.key() == key && record.value() == known.value, "key {key:?}");
            assert_eq!((record.tag(), record.db()), (known.tag, known.db));
            assert_eq!((record.expiry(), record.id()), (known.expiry, known.id));
        }
        // Which tombstones of a half walked extent were moved is known to nobody; else all of them
        // live.
        if self.walk.is_none() || !self.log.is_replayed() {
            let tombstone = |offset| self.log.read(offset).kind() == Kind::Tombstone;
            let live = |offset| self.keys.contains_key(&offset) || tombstone(offset);
            self.log.check(live).expect("a consistent log");
        }
        let usage = self.log.usage();
        assert!(usage.extents <= EXTENTS_MAX);
        assert_eq!(usage.bytes_live + usage.bytes_dead, usage.bytes_used);
        let open = self.log.extents().filter(|(_, extent)| extent.state() == ExtentState::Open).count();
        assert!(open <= 2, "{open} extents are open");
    }
}

/// Reads a file as recovery will: the living records by their keys, with nothing known but the
/// pool's id and extent size.
fn recover(file: &[u8]) -> HashMap<Vec<u8>, Known> {
    let start_of = |index: usize| SUPERBLOCKS_BYTES + index * EXTENT;
    let count = file.len().saturating_sub(SUPERBLOCKS_BYTES).div_ceil(EXTENT);
    let mut headers: Vec<(usize, ExtentHeader)> = (0..count)
        .filter_map(|index| {
            let bytes = file.get(start_of(index)..start_of(index) + extent_header::BYTES)?;
            Some((index, ExtentHeader::parse(bytes.try_into().expect("a header's bytes")).ok()?))
        })
        .collect();
    // A place may lie in the body of a run and still bear the header of its former use: the higher
    // sequence holds.
    headers.sort_by_key(|(_, header)| std::cmp::Reverse(header.sequence));
    let mut taken = vec![false; count];
    let mut newest: HashMap<Vec<u8>, (u64, Option<Known>)> = HashMap::new();
    for (index, header) in headers {
        let run = index..(index + header.run as usize).min(count);
        if taken[run.clone()].iter().any(|taken| *taken) {
            continue;
        }
        taken[run.clone()].fill(true);
        let end = start_of(run.end).min(file.len());
        replay(&file[..end], start_of(index), &header, &mut newest);
    }
    newest.into_iter().filter_map(|(key, (_, known))| Some((key, known?))).collect()
}

fn replay(file: &[u8], start: usize, header: &ExtentHeader, newest: &mut HashMap<Vec<u8>, (u64, Option<Known>)>) {
    let seed = ExtentSeed::new(POOL_ID, header.sequence);
    let mut at = start + extent_header::BYTES;
    let mut ordinal = 0;
    while at < file.len() {
        let offset = PoolOffset::from_raw(at as u64 / 8);
        let Ok(record) = Record::parse(&file[at..], seed, offset) else {
            break;
        };
        let version = record.version().unwrap_or(header.version_base + ordinal);
        let known = (record.kind() != Kind::Tombstone).then(|| known_of(&record));
        let entry = newest.entry(record.key().to_vec()).or_default();
        if version > entry.0 {
            *entry = (version, known);
        } else if version == entry.0 {
            // A record that was moved, and what it left in an extent that was freed and not used
            // since.
            assert_eq!(entry.1, known, "one version of a key is one thing");
        }
        ordinal += 1;
        at += record.bytes_on_medium();
    }
}

fn known_of(record: &Record<'_>) -> Known {
    Known {
        offset: PoolOffset::from_raw(0),
        tag: record.tag(),
        db: record.db(),
        expiry: record.expiry(),
        id: record.id(),
        value: record.value().to_vec(),
    }
}

fn seed() -> u64 {
    let given = std::env::var("EAGLE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("EAGLE_SEED={seed}");
    seed
}

const fn steps() -> usize {
    if cfg!(miri) { 300 } else { 30_000 }
}

#[test]
fn the_log_agrees_with_a_map() {
    // 30,000 random changes in a log for caches: overwrites in place, compaction, runs; compared
    // with a map every 500.
    let mut bed = Bed::new(false, Rng::with_seed(seed()));
    for step in 0..steps() {
        bed.step();
        if step % 500 == 0 {
            bed.check();
        }
    }
    bed.check();
}

#[test]
fn what_commits_name_is_enough_to_read_the_log_back() {
    // The same with tombstones, groups and versions; the bytes that the commits named, and they
    // alone, hold every living key.
    let mut bed = Bed::new(true, Rng::with_seed(seed()));
    for step in 0..steps() / 3 {
        bed.step();
        if step % 500 == 0 {
            bed.check();
        }
    }
    while bed.walk.is_some() {
        bed.compact(20);
    }
    bed.commit();
    bed.check();
    let recovered = recover(&bed.file);
    let (recovered_keys, keys) = (recovered.len(), bed.model.len());
    for (key, known) in bed.model {
        let found = recovered.get(&key).expect("a living key is found");
        let known = Known { offset: found.offset, ..known };
        assert!(*found == known, "key {key:?} is another: {found:?}, {known:?}");
    }
    assert_eq!(recovered_keys, keys, "a dead key came back");
}

#[test]
fn overwriting_for_ever_stays_within_bounds() {
    // Ten thousand keys, overwritten fifty times over with values that never fit in place: a log
    // 1.7 times the living bytes is enough.
    let keys: u32 = if cfg!(miri) { 100 } else { 10_000 };
    let live = u64::from(keys) * 96;
    let capacity_bytes = (live * 17 / 10).max(8 * EXTENT as u64);
    let config = LogConfig { extent_bytes: EXTENT, ..LogConfig::new(POOL_ID, capacity_bytes) };
    let mut log = Log::anonymous(config).expect("a log");
    let mut rng = Rng::with_seed(seed());
    let mut offsets: Vec<Option<PoolOffset>> = vec![None; keys as usize];
    let mut copied = 0;
    let writes = keys * 50;
    for write in 0..writes {
        let number = if write < keys { write } else { rng.u32(..keys) };
        let len = 64 + 8 * (write as usize / keys as usize % 2);
        let value = vec![number as u8; len];
        while log.reserve(record_bytes_max(14, len)).is_err() {
            copied += compact_once(&mut log, &mut offsets);
        }
        let key = format!("{number:014}");
        let offset = log.append(&RecordParts::new(Kind::String, key.as_bytes(), &[&value]));
        if let Some(old) = offsets[number as usize].replace(offset) {
            log.kill(old);
        }
    }
    assert!(log.usage().bytes <= capacity_bytes);
    log.check(|offset| offsets.contains(&Some(offset))).expect("a consistent log");
    eprintln!("{copied} records copied for {writes} written, {:?}", log.usage());
}

fn compact_once(log: &mut Log, offsets: &mut [Option<PoolOffset>]) -> u64 {
    let victim = log.victim(Policy::CostBenefit, 5).expect("dead space to win");
    let mut walk = log.walk(victim);
    let mut copied = 0;
    while let Some(found) = log.step(&mut walk) {
        let key = std::str::from_utf8(found.record.key()).expect("digits");
        let number: usize = key.parse().expect("a number");
        let (offset, version) = (found.offset, found.version);
        if offsets[number] == Some(offset) {
            offsets[number] = Some(log.relocate(offset, version).expect("room for moving"));
            copied += 1;
        }
    }
    copied
}
