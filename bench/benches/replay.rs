//! Opening a pool: its records replayed, and a checkpoint taken over, on one core.
//!
//! `cargo bench -p eagle-bench --bench replay`. One million keys of 14 bytes with values of 64, all alive, and the same after each
//! was overwritten twice. The bytes are in memory before the clock starts, as those of a file are in the page cache; times
//! are those of one record, or of one key.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use eagle_pmem::{Checkpoint, CheckpointWriter};
use eagle_shard::{
    call::{DbId, UnixMs},
    shard::{Shard, ShardConfig},
    value::Encoding,
};

const DB: DbId = DbId(0);
const NOW: UnixMs = UnixMs(1_700_000_000_000);
const KEYS: usize = 1_000_000;
const VALUE: [u8; 64] = [b'x'; 64];

fn config() -> ShardConfig {
    ShardConfig { capacity_max: 8 << 30, extent_size: 1 << 20, ..ShardConfig::default() }
}

/// What is open is read; commits and syncs are taken to be done at once.
fn settle(shard: &mut Shard) {
    while let Some(loading) = shard.loading() {
        shard.load(NOW, 100_000).expect("nothing is damaged");
        if loading.bytes_done == loading.bytes_total {
            commit(shard, &mut Vec::new());
        }
    }
}

fn commit(shard: &mut Shard, image: &mut Vec<u8>) {
    let commit = shard.commit();
    let (position, ranges) = (commit.position, commit.ranges.to_vec());
    for range in ranges {
        let end = range.end as usize;
        if image.len() < end {
            image.resize(end, 0);
        }
        image[range.start as usize..end].copy_from_slice(shard.pool_bytes(range));
    }
    shard.written(position);
    let mark = shard.begin_sync();
    shard.end_sync(mark);
}

/// A pool whose keys were each set so many times, with its file's bytes.
fn pool(times: usize) -> (Shard, Vec<u8>) {
    let mut image = vec![0; 8192];
    let mut shard = Shard::with_image(&config(), &image, None, false).expect("a shard");
    settle(&mut shard);
    for _ in 0..times {
        for number in 0..KEYS {
            let name = format!("key:{number:010}");
            let key = shard.key(name.as_bytes());
            let old = shard.find(DB, key, NOW);
            shard.put_string(DB, key, old, &VALUE, None, Encoding::Natural).expect("room");
            if number % 10_000 == 0 {
                commit(&mut shard, &mut image);
            }
        }
    }
    shard.prepare_to_end();
    commit(&mut shard, &mut image);
    (shard, image)
}

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    group.sample_size(10).measurement_time(Duration::from_secs(8));
    for (name, times) in [("all alive", 1), ("overwritten twice", 3)] {
        let (_, image) = pool(times);
        group.throughput(Throughput::Elements((KEYS * times) as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let open = |_| Shard::with_image(&config(), &image, None, false).expect("a shard");
                (0..rounds).map(open).map(|shard| timed(shard, settle)).sum()
            });
        });
    }
    let (shard, image) = pool(1);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("shard-00.checkpoint");
    let mut writer = CheckpointWriter::create(&path, config().pool_id).expect("a file");
    shard.write_checkpoint(&mut writer).expect("a file");
    writer.finish().expect("a file");
    group.throughput(Throughput::Elements(KEYS as u64));
    group.bench_function("checkpoint", |bencher| {
        bencher.iter_custom(|rounds| {
            let open = |()| {
                let begun = Instant::now();
                let checkpoint = Checkpoint::open(&path, config().pool_id).expect("a file").expect("it is whole");
                let read = begun.elapsed();
                let without = timed_open(&image, None);
                let with = timed_open(&image, Some(&checkpoint));
                read + with.saturating_sub(without)
            };
            (0..rounds).map(|_| open(())).sum()
        });
    });
    group.finish();
}

/// How long it takes to open an image, most of which is to copy it, and with a checkpoint to take that over.
fn timed_open(image: &[u8], checkpoint: Option<&Checkpoint>) -> Duration {
    let begun = Instant::now();
    let shard = Shard::with_image(&config(), image, checkpoint, false).expect("a shard");
    let time = begun.elapsed();
    drop(black_box(shard));
    time
}

fn timed(mut shard: Shard, work: impl FnOnce(&mut Shard)) -> Duration {
    let begun = Instant::now();
    work(&mut shard);
    let time = begun.elapsed();
    drop(black_box(shard));
    time
}

criterion_group!(benches, replay);
criterion_main!(benches);
