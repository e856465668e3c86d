//! The record log by itself: what appending, reading, overwriting and moving a record costs.
//!
//! Records are of 14 bytes of key and 64 of value, 88 on the medium. "hot" works in what the caches
//! hold; "cold" goes through 256 MiB in an order that no cache or prefetcher foresees. Each figure
//! is for one record.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use eagle_pmem::layout::record_bytes_max;
use eagle_pmem::{ExtentId, Kind, Log, LogConfig, Policy, PoolOffset, RecordParts};
use std::hint::black_box;

const KEY: &[u8; 14] = b"key:0000000000";
const VALUE: &[u8; 64] = &[7; 64];
const BATCH: u64 = 1000;

fn log(capacity_bytes: u64) -> Log {
    Log::anonymous(LogConfig { extent_bytes: 8 << 20, ..LogConfig::new(1, capacity_bytes) }).expect("a log")
}

fn append_one(log: &mut Log) -> PoolOffset {
    log.reserve(record_bytes_max(KEY.len(), VALUE.len())).expect("room");
    log.append(&RecordParts::new(Kind::String, black_box(KEY), &[black_box(VALUE)]))
}

/// Appends a batch and kills it, so that one resident extent after the other is used.
fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(BATCH));
    let mut hot = log(1 << 30);
    group.bench_function("append and kill", |b| {
        let mut last = append_one(&mut hot);
        b.iter(|| {
            for _ in 0..BATCH {
                let offset = append_one(&mut hot);
                hot.kill(std::mem::replace(&mut last, offset));
            }
        });
    });
    group.bench_function("append to fresh memory", |b| {
        b.iter_batched(
            || log(1 << 30),
            |mut log| {
                for _ in 0..100 * BATCH {
                    black_box(append_one(&mut log));
                }
                log
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Reads and overwrites records, hot and cold.
fn touch(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    group.throughput(Throughput::Elements(BATCH));
    let mut log = log(1 << 30);
    let mut offsets: Vec<PoolOffset> = (0..(256 << 20) / 88).map(|_| append_one(&mut log)).collect();
    fastrand::seed(1);
    fastrand::shuffle(&mut offsets);
    for (name, span) in [("hot", BATCH as usize), ("cold", offsets.len())] {
        let mut at = 0;
        let mut next = |count: usize| {
            at = if at + count > span { 0 } else { at };
            at += count;
            &offsets[at - count..at]
        };
        group.bench_function(format!("read and compare key, {name}"), |b| {
            b.iter(|| next(BATCH as usize).iter().filter(|offset| log.read(**offset).key() == black_box(KEY)).count());
        });
        group.bench_function(format!("read in prefetched batches of 20, {name}"), |b| {
            b.iter(|| {
                let mut same = 0;
                for batch in next(BATCH as usize).chunks(20) {
                    batch.iter().for_each(|offset| log.prefetch(*offset));
                    same += batch.iter().filter(|offset| log.read(**offset).key() == black_box(KEY)).count();
                }
                same
            });
        });
        group.bench_function(format!("overwrite value, {name}"), |b| {
            b.iter(|| {
                next(BATCH as usize).iter().filter(|offset| log.overwrite_value(**offset, &[black_box(VALUE)])).count()
            });
        });
    }
    group.finish();
}

/// Moves half of an extent's records, the others being dead.
fn relocate(c: &mut Criterion) {
    let mut group = c.benchmark_group("log");
    let records = (8 << 20) / 88;
    group.throughput(Throughput::Elements(records / 2));
    group.bench_function("relocate", |b| {
        b.iter_batched(
            || {
                let mut log = log(64 << 20);
                let offsets: Vec<PoolOffset> = (0..records + 1).map(|_| append_one(&mut log)).collect();
                offsets.iter().step_by(2).for_each(|offset| log.kill(*offset));
                let victim = log.victim(Policy::CostBenefit, 10).expect("a half dead extent");
                (log, victim)
            },
            |(mut log, victim)| move_living(&mut log, victim),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn move_living(log: &mut Log, victim: ExtentId) {
    let mut walk = log.walk(victim);
    let mut living = false;
    while let Some(found) = log.step(&mut walk) {
        let (offset, version) = (found.offset, found.version);
        if living {
            black_box(log.relocate(offset, version).expect("room"));
        }
        living = !living;
    }
}

criterion_group!(benches, append, touch, relocate);
criterion_main!(benches);
