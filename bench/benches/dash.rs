//! What a lookup and an insert cost in the Dash index, beside hashbrown.
//!
//! Records are simulated: 16 bytes of an arena hold the 14 bytes of a key, and both indexes keep only a record's
//! number, so that each hit reads the record to compare the key, as the shard does. Queries lie in their own array,
//! as they would in a receive buffer; the hash is part of what is measured. *Batched* is how the shard looks up:
//! 32 commands go through the stages of a lookup together.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use eagle_shard::dash::{Dash, Hashed, KeyHash, Located, Word};
use hashbrown::HashTable;
use std::hint::black_box;

const SEED: u64 = 42;
const BATCH: usize = 32;
const QUERIES: usize = 1 << 18;

type Key = [u8; 14];
type Record = [u8; 16];

fn key(number: usize) -> Key {
    let mut key = *b"key:0000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn holds(record: &Record, key: &Key) -> bool {
    record[..14] == key[..]
}

/// A table of this many keys under both indexes.
struct Bed {
    records: Vec<Record>,
    dash: Dash,
    brown: HashTable<u64>,
    hits: Vec<Key>,
    misses: Vec<Key>,
}

fn dash_insert(dash: &mut Dash, records: &[Record], number: usize) {
    let hashed = Hashed::of_key(SEED, &records[number][..14]);
    let rehash = |word: Word| KeyHash::of(SEED, &records[word.offset() as usize][..14]);
    dash.insert(hashed, Word::new(number as u64, 0), rehash);
}

fn brown_insert(brown: &mut HashTable<u64>, records: &[Record], number: usize) {
    let hash = |number: &u64| KeyHash::of(SEED, &records[*number as usize][..14]).raw();
    brown.insert_unique(hash(&(number as u64)), number as u64, hash);
}

impl Bed {
    fn new(keys: usize) -> Bed {
        let mut rng = fastrand::Rng::with_seed(1);
        let record = |number| {
            let mut record = [0; 16];
            record[..14].copy_from_slice(&key(number));
            record
        };
        let mut records: Vec<Record> = (0..keys).map(record).collect();
        rng.shuffle(&mut records);
        let (mut dash, mut brown) = (Dash::new(), HashTable::new());
        for number in 0..keys {
            dash_insert(&mut dash, &records, number);
            brown_insert(&mut brown, &records, number);
        }
        let hits = (0..QUERIES).map(|_| key(rng.usize(..keys))).collect();
        let misses = (0..QUERIES).map(|_| key(keys + rng.usize(..keys))).collect();
        Bed { records, dash, brown, hits, misses }
    }

    fn dash_find(&self, query: &Key) -> Option<Word> {
        let eq = |word: Word| holds(&self.records[word.offset() as usize], query);
        let place = self.dash.find(Hashed::of_key(SEED, query), eq)?;
        Some(self.dash.word(place))
    }

    fn dash_find_batch(&self, queries: &[Key]) -> usize {
        let mut at = [None::<Located>; BATCH];
        for (at, query) in at.iter_mut().zip(queries) {
            *at = Some(self.dash.locate(Hashed::of_key(SEED, query)));
        }
        let at = at.map(|at| at.expect("a whole batch"));
        for at in at {
            self.dash.prefetch_words(at);
        }
        for at in at {
            if let Some(word) = self.dash.candidate(at) {
                // A load that nobody waits for stands in for the pool's prefetch.
                black_box(self.records[word.offset() as usize][0]);
            }
        }
        let found = |(at, query): (Located, &Key)| {
            self.dash.find_at(at, |word| holds(&self.records[word.offset() as usize], query)).is_some()
        };
        at.into_iter().zip(queries).filter(|pair| found(*pair)).count()
    }

    fn brown_find(&self, query: &Key) -> Option<&u64> {
        let eq = |number: &u64| holds(&self.records[*number as usize], query);
        self.brown.find(KeyHash::of(SEED, query).raw(), eq)
    }
}

fn lookups(criterion: &mut Criterion) {
    for keys in [1_000_000, 10_000_000] {
        let bed = Bed::new(keys);
        let mut group = criterion.benchmark_group("find");
        group.throughput(Throughput::Elements(1));
        for (what, queries) in [("hit", &bed.hits), ("miss", &bed.misses)] {
            let mut next = queries.iter().cycle();
            group.bench_function(BenchmarkId::new(format!("dash/{what}"), keys), |bencher| {
                bencher.iter(|| bed.dash_find(next.next().expect("cycles")));
            });
            group.bench_function(BenchmarkId::new(format!("hashbrown/{what}"), keys), |bencher| {
                bencher.iter(|| bed.brown_find(next.next().expect("cycles")).copied());
            });
            let mut batches = queries.chunks_exact(BATCH).cycle();
            group.throughput(Throughput::Elements(BATCH as u64));
            group.bench_function(BenchmarkId::new(format!("dash batched by 32/{what}"), keys), |bencher| {
                bencher.iter(|| bed.dash_find_batch(batches.next().expect("cycles")));
            });
            group.throughput(Throughput::Elements(1));
        }
        group.finish();
    }
}

fn inserts(criterion: &mut Criterion) {
    const KEYS: usize = 1_000_000;
    let records = Bed::new(KEYS).records;
    let mut group = criterion.benchmark_group("insert 1000000 into an empty table");
    group.sample_size(10);
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("dash", |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut dash = Dash::new();
            (0..KEYS).for_each(|number| dash_insert(&mut dash, &records, number));
            dash
        });
    });
    group.bench_function("hashbrown", |bencher| {
        bencher.iter_with_large_drop(|| {
            let mut brown = HashTable::new();
            (0..KEYS).for_each(|number| brown_insert(&mut brown, &records, number));
            brown
        });
    });
    group.finish();
}

criterion_group!(dash, lookups, inserts);
criterion_main!(dash);
