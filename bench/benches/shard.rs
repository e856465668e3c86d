//! The shard without its commands: lookups, overwrites, inserts, and a batch in stages, on one core.
//!
//! `cargo bench -p eagle-bench --bench shard`. Keys of 14 bytes, values of 64. "cached" is 1,000 keys, which fit the second-level
//! cache with their records; "million" is one million, taken at random. Times are those of one operation, the hashing of
//! its key included.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use eagle_resp::{Protocol, Reply};
use eagle_shard::{
    Budget,
    call::{DbId, UnixMs},
    dash::Hashed,
    shard::{Shard, ShardConfig, hash_key},
    value::Encoding,
};

const DB: DbId = DbId(0);
const NOW: UnixMs = UnixMs(1_700_000_000_000);
const VALUE: [u8; 64] = [b'x'; 64];
/// As many commands as a core looks ahead.
const BATCH: usize = 32;

fn key(number: usize) -> [u8; 14] {
    let mut key = *b"key:0000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn filled(count: usize) -> Shard {
    let mut shard = Shard::new(ShardConfig { capacity_max: 8 << 30, ..ShardConfig::default() }).expect("a shard");
    (0..count).for_each(|number| set(&mut shard, &key(number), &VALUE));
    shard
}

fn set(shard: &mut Shard, key: &[u8], value: &[u8]) {
    let key = shard.key(key);
    let old = shard.find(DB, key, NOW);
    shard.put_string(DB, key, old, value, None, Encoding::Natural).expect("room");
}

fn get(shard: &mut Shard, key: &[u8], out: &mut Vec<u8>) {
    let key = shard.key(key);
    let mut reply = Reply::new(out, Protocol::Resp2);
    match shard.find_read(DB, key, NOW) {
        Some(found) => shard.string(found).expect("a string").write_bulk(&mut reply),
        None => reply.null(),
    }
}

/// The stages by which a core looks ahead for a batch.
fn prefetch(shard: &Shard, keys: &[[u8; 14]]) {
    let mut located = [None; BATCH];
    for (key, located) in keys.iter().zip(&mut located) {
        let hashed: Hashed = hash_key(shard.config().seed, key);
        *located = Some(shard.prefetch_bucket(DB, hashed));
    }
    located.iter().flatten().for_each(|at| shard.prefetch_words(DB, *at));
    located.iter().flatten().for_each(|at| shard.prefetch_record(DB, *at));
}

fn single(c: &mut Criterion) {
    let mut group = c.benchmark_group("shard/one by one");
    for (name, count) in [("cached", 1000), ("million", 1_000_000)] {
        let mut shard = filled(count);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut out = Vec::new();
        group.bench_function(format!("get {name}"), |b| {
            b.iter(|| {
                out.clear();
                get(&mut shard, &key(rng.usize(..count)), &mut out);
                black_box(&out);
            });
        });
        group.bench_function(format!("miss {name}"), |b| {
            b.iter(|| {
                out.clear();
                get(&mut shard, &key(count + rng.usize(..count)), &mut out);
                black_box(&out);
            });
        });
        group.bench_function(format!("overwrite {name}"), |b| {
            b.iter(|| set(&mut shard, &key(rng.usize(..count)), &VALUE));
        });
        group.bench_function(format!("overwrite with another length {name}"), |b| {
            let mut work = 0;
            b.iter(|| {
                set(&mut shard, &key(rng.usize(..count)), &VALUE[..rng.usize(..64)]);
                work += 1;
                if work % 64 == 0 {
                    black_box(shard.commit().position);
                    shard.background(NOW, Budget { records: 64, is_idle: false });
                }
            });
        });
    }
    group.finish();
}

fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("shard/batch of 32");
    group.throughput(Throughput::Elements(BATCH as u64));
    const COUNT: usize = 1_000_000;
    let mut shard = filled(COUNT);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut out = Vec::new();
    group.bench_function("get million", |b| {
        b.iter(|| {
            out.clear();
            let keys: [[u8; 14]; BATCH] = std::array::from_fn(|_| key(rng.usize(..COUNT)));
            prefetch(&shard, &keys);
            keys.iter().for_each(|key| get(&mut shard, key, &mut out));
            black_box(&out);
        });
    });
    group.bench_function("overwrite million", |b| {
        b.iter(|| {
            let keys: [[u8; 14]; BATCH] = std::array::from_fn(|_| key(rng.usize(..COUNT)));
            prefetch(&shard, &keys);
            keys.iter().for_each(|key| set(&mut shard, key, &VALUE));
        });
    });
    group.finish();
}

fn insert(c: &mut Criterion) {
    let mut group = c.benchmark_group("shard/insert");
    group.bench_function("new keys up to a million", |b| {
        b.iter_custom(|count| {
            let mut spent = Duration::ZERO;
            let mut left = count as usize;
            while left > 0 {
                let mut shard = filled(0);
                let now = left.min(1_000_000);
                let begin = std::time::Instant::now();
                (0..now).for_each(|number| set(&mut shard, &key(number), &VALUE));
                spent += begin.elapsed();
                left -= now;
            }
            spent
        });
    });
    group.finish();
}

/// Fields of a large hash, sixteen in a command.
fn fields(c: &mut Criterion) {
    const COUNT: usize = 1_000_000;
    const FIELDS: usize = 16;
    let mut group = c.benchmark_group("shard/16 fields of a large hash");
    group.throughput(Throughput::Elements(FIELDS as u64));
    let mut shard = filled(0);
    let mut rng = fastrand::Rng::with_seed(1);
    let put = |shard: &mut Shard, fields: &[[u8; 14]]| {
        let key = shard.key(b"hash");
        let old = shard.find(DB, key, NOW);
        let pairs = fields.iter().map(|field| (&field[..], &VALUE[..16]));
        shard.set_fields(DB, key, old, pairs).expect("room")
    };
    for first in (0..COUNT).step_by(1000) {
        let fields: Vec<[u8; 14]> = (first..first + 1000).map(key).collect();
        put(&mut shard, &fields);
    }
    group.bench_function("get million", |b| {
        b.iter(|| {
            let fields: [[u8; 14]; FIELDS] = std::array::from_fn(|_| key(rng.usize(..COUNT)));
            let key = shard.key(b"hash");
            let found = shard.find(DB, key, NOW).expect("a hash");
            let hash = shard.hash(found).expect("a hash");
            let mut bytes = 0;
            hash.get_each(fields.iter().map(|field| &field[..]), |value| bytes += value.map_or(0, <[u8]>::len));
            assert_eq!(bytes, 16 * FIELDS);
        });
    });
    group.bench_function("overwrite million", |b| {
        b.iter(|| {
            let fields: [[u8; 14]; FIELDS] = std::array::from_fn(|_| key(rng.usize(..COUNT)));
            put(&mut shard, &fields)
        });
    });
    group.bench_function("delete and set million", |b| {
        b.iter(|| {
            let fields: [[u8; 14]; FIELDS] = std::array::from_fn(|_| key(rng.usize(..COUNT)));
            let key = shard.key(b"hash");
            let found = shard.find(DB, key, NOW).expect("a hash");
            black_box(shard.delete_fields(DB, key, found, fields.iter().map(|field| &field[..])).expect("room"));
            put(&mut shard, &fields);
            shard.commit();
            shard.background(NOW, Budget { records: 64, is_idle: false });
        });
    });
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
}

criterion_group! { name = shard; config = config(); targets = single, batch, insert, fields }
criterion_main!(shard);
