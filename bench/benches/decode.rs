//! What the protocol costs: decoding pipelines of 32 requests, encoding replies, reading and writing numbers.
//!
//! Each figure is for the whole pipeline; the throughput line counts requests (or replies, or numbers) a second.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use eagle_resp::number::LongDouble;
use eagle_resp::{Decoder, Limits, Protocol, Reply, Requests, format_f64, parse_f64};

/// Requests of a pipeline.
const PIPELINE: usize = 32;
const VALUE: [u8; 64] = [b'v'; 64];

/// A pipeline of `PIPELINE` requests, request i made by `args`.
fn pipeline(args: impl Fn(usize) -> Vec<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut reply = Reply::new(&mut bytes, Protocol::Resp2);
    for i in 0..PIPELINE {
        let args = args(i);
        reply.array(args.len());
        args.iter().for_each(|arg| reply.bulk(arg));
    }
    bytes
}

fn key(i: usize) -> Vec<u8> {
    format!("key:{i:010}").into_bytes()
}

fn get() -> Vec<u8> {
    pipeline(|i| vec![b"GET".to_vec(), key(i)])
}

fn set() -> Vec<u8> {
    pipeline(|i| vec![b"SET".to_vec(), key(i), VALUE.to_vec()])
}

fn decode(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut bytes: Vec<u8>, piece: usize) {
    let limits = Limits::default();
    let mut decoder = Decoder::new();
    let mut requests = Requests::new();
    group.bench_function(name, |b| {
        b.iter(|| {
            requests.clear();
            let (mut from, mut end) = (0, 0);
            while end < bytes.len() {
                end = (end + piece).min(bytes.len());
                let decoded = decoder.decode(&mut bytes[..end], from, &limits, usize::MAX, &mut requests);
                from += decoded.consumed;
            }
            assert_eq!(requests.len(), PIPELINE);
            black_box(&requests);
        });
    });
}

fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    decode(&mut group, "GET of 14 B keys", get(), usize::MAX);
    decode(&mut group, "SET of 14 B keys to 64 B values", set(), usize::MAX);
    decode(&mut group, "SET in pieces of 100 B", set(), 100);
    decode(&mut group, "MSET of 10", pipeline(|_| (0..21).map(|i| key(i % 14)).collect()), usize::MAX);
    decode(&mut group, "inline GET", b"GET key:0123456789\r\n".repeat(PIPELINE), usize::MAX);
    group.finish();
}

fn encode(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, say: impl Fn(&mut Reply<'_>, usize)) {
    let mut out = Vec::new();
    group.bench_function(name, |b| {
        b.iter(|| {
            out.clear();
            let mut reply = Reply::new(&mut out, Protocol::Resp3);
            for i in 0..PIPELINE {
                say(&mut reply, i);
            }
            black_box(&out);
        });
    });
}

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(PIPELINE as u64));
    encode(&mut group, "bulk of 64 B", |reply, _| {
        reply.bulk(black_box(&VALUE));
    });
    encode(&mut group, "bulk of 512 B", |reply, _| {
        reply.bulk(black_box(&[b'v'; 512]));
    });
    encode(&mut group, "ok", |reply, _| reply.ok());
    encode(&mut group, "integer", |reply, i| {
        reply.integer(black_box(1_000_000 + i as i64));
    });
    encode(&mut group, "double", |reply, i| {
        reply.double(black_box(1.0 / (i + 3) as f64));
    });
    group.finish();
}

fn numbers(c: &mut Criterion) {
    let mut group = c.benchmark_group("number");
    group.bench_function("parse a double", |b| {
        b.iter(|| parse_f64(black_box(b"3.14159265358979")));
    });
    group.bench_function("format a double", |b| {
        b.iter(|| format_f64(black_box(0.1234567), &mut [0; eagle_resp::number::F64_TEXT_MAX]).len());
    });
    let mut out = Vec::new();
    group.bench_function("INCRBYFLOAT 10.5 0.1", |b| {
        b.iter(|| {
            out.clear();
            let value = LongDouble::parse(black_box(b"10.5")).expect("a number");
            let increment = LongDouble::parse(black_box(b"0.1")).expect("a number");
            value.checked_add(increment).expect("a sum").write(&mut out);
            black_box(&out);
        });
    });
    group.finish();
}

criterion_group!(benches, decoding, encoding, numbers);
criterion_main!(benches);
