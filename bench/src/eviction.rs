//! `eagle-bench eviction`: how a server keeps to `maxmemory`, and how often what it is asked for is still there.
//!
//! *Bound*: ten times as much as the limit is written, in keys of their own and values within a quarter of a mean size; the most memory
//! that was ever resident is compared with the limit and with the empty server. *Hits*: keys are asked for as Zipf's law says, and written when they are missing,
//! as a cache is used; hits count from the second half on. With the same limit a server that takes less a key keeps more of
//! them; how good the choice alone is, `eagle_shard`'s own test shows (`hit_ratios_are_those_of_redis_or_better`).

use anyhow::{Context, Result, bail};
use fastrand::Rng;
use serde_json::json;

use crate::client::{Client, Reply, encode, info_field};
use crate::generator::{Generator, Goal};
use crate::measure::{Measure, measure, write_keys};
use crate::process::{self, Core};
use crate::report::{Report, Table};
use crate::requests::{Requests, key, varied_size};
use crate::server::{Program, Server};
use crate::setup::Setup;

/// Connections that write.
const CONNECTIONS: usize = 50;
/// Requests in flight on each.
const PIPELINE: usize = 32;
/// Keys asked for at a time in the cache workload.
const BATCH: usize = 64;

/// Arguments of `eviction`.
#[derive(clap::Args)]
pub(crate) struct Eviction {
    #[command(flatten)]
    setup: Setup,
    /// Shards of EagleDB: with several, all servers run on both cores, which the load then shares
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// `maxmemory` in MiB
    #[arg(long, default_value_t = 1024)]
    limit_mib: u64,
    /// Policies
    #[arg(long, value_delimiter = ',', default_value = "allkeys-lru,allkeys-lfu,allkeys-random")]
    policies: Vec<String>,
    /// Bytes of a value, in the mean
    #[arg(long, default_value_t = 512)]
    value_bytes: usize,
    /// How many times the limit is written, 0 for no such load
    #[arg(long, default_value_t = 10)]
    times: u64,
    /// `maxmemory` in MiB for the cache workload, 0 for none
    #[arg(long, default_value_t = 64)]
    cache_mib: u64,
    /// Keys of the cache workload
    #[arg(long, default_value_t = 1_000_000)]
    keys: u32,
    /// Requests of the cache workload
    #[arg(long, default_value_t = 4_000_000)]
    requests: u32,
    /// Exponent of Zipf's law
    #[arg(long, default_value_t = 0.99)]
    zipf: f64,
}

/// Measures all servers with all policies.
pub(crate) fn run(arguments: &Eviction) -> Result<()> {
    let mut report = Report::new("Eviction", arguments.setup.json.as_deref());
    process::pin_this_thread(&cores(arguments, arguments.setup.generator_core))?;
    let mut programs = arguments.setup.programs()?;
    programs[0] = arguments.setup.eagledb(arguments.shards)?;
    report.say(&format!(
        "{} EagleDB has {} shards. Bound: maxmemory {} MiB, {} times as much written in values of {} B within 25 %. Hits: maxmemory {} MiB, {} of \
         {} keys asked for, zipf {}.",
        arguments.setup.describe(&programs),
        arguments.shards,
        arguments.limit_mib,
        arguments.times,
        arguments.value_bytes,
        arguments.cache_mib,
        arguments.requests,
        arguments.keys,
        arguments.zipf
    ));
    let heads = [
        "server",
        "policy",
        "K SET/s",
        "CPU us/SET",
        "most resident / limit",
        "less the empty server",
        "keys",
        "hits %",
    ];
    let mut table = Table::new(&heads.map(String::from));
    let mut raw = Vec::new();
    for program in &programs {
        for policy in &arguments.policies {
            let (cells, figures) = measure_policy(arguments, program, policy)?;
            eprintln!("{}", cells.join("  "));
            raw.push(figures);
            table.row(cells);
        }
    }
    report.table("eviction", &table);
    report.figures("measurements", raw.into());
    report.finish()
}

/// What became of the limit.
#[derive(Clone, Copy, serde::Serialize)]
struct Bound {
    written: Measure,
    most_resident: u64,
    empty: u64,
    keys: u64,
}

fn measure_policy(arguments: &Eviction, program: &Program, policy: &str) -> Result<(Vec<String>, serde_json::Value)> {
    let limit = arguments.limit_mib << 20;
    let bound = match arguments.times {
        0 => None,
        times => Some(bound(arguments, &start(arguments, program, policy, arguments.limit_mib)?, limit * times)?),
    };
    let hits = match arguments.cache_mib {
        0 => None,
        mib => Some(hit_ratio(arguments, &start(arguments, program, policy, mib)?)?),
    };
    let cell = |text: &dyn Fn(Bound) -> String| bound.map_or("-".into(), text);
    let part = |bytes: u64| format!("{:.3}", bytes as f64 / limit as f64);
    let cells = vec![
        program.name.clone(),
        policy.to_owned(),
        cell(&|bound| format!("{:.0}", bound.written.rate / 1e3)),
        cell(&|bound| format!("{:.2}", bound.written.cpu_us)),
        cell(&|bound| part(bound.most_resident)),
        cell(&|bound| part(bound.most_resident - bound.empty)),
        cell(&|bound| bound.keys.to_string()),
        hits.map_or("-".into(), |hits| format!("{:.2}", hits * 100.0)),
    ];
    let figures = json!({"server": program.name, "policy": policy, "limit": limit, "bound": bound, "hits": hits});
    Ok((cells, figures))
}

/// Writes so many bytes in keys of their own, and looks at the most memory that was resident meanwhile.
fn bound(arguments: &Eviction, server: &Server, bytes: u64) -> Result<Bound> {
    let mut generator = Generator::connect(server.port, CONNECTIONS)?;
    generator.run(&[&Requests::ping(100_000)], PIPELINE, Goal::Once)?;
    let empty = server.resident_bytes()?;
    let keys = u32::try_from(bytes / arguments.value_bytes as u64).context("fewer keys than 2^32")?;
    let order: Vec<u32> = (0..keys).collect();
    let size = |number| varied_size(arguments.value_bytes, number, 0);
    let written = measure(server, || write_keys(&mut generator, &order, size, None, PIPELINE))?;
    let kept = field(server, "keyspace", "db0")?;
    let kept = kept.split(',').find_map(|part| part.strip_prefix("keys=")).context("keys of db0")?.parse()?;
    Ok(Bound { written, most_resident: server.peak_resident_bytes()?, empty, keys: kept })
}

/// The cores that one side has to itself with one shard; with several, all.
fn cores(arguments: &Eviction, own: Core) -> Vec<Core> {
    if arguments.shards > 1 { arguments.setup.both_cores().to_vec() } else { vec![own] }
}

fn start(arguments: &Eviction, program: &Program, policy: &str, mib: u64) -> Result<Server> {
    let mut program = program.clone();
    let limit = format!("{mib}mb");
    program.arguments.extend(["--maxmemory", &limit, "--maxmemory-policy", policy].map(String::from));
    Server::start(&program, &cores(arguments, arguments.setup.server_core))
}

/// A field of a section of INFO.
fn field(server: &Server, section: &str, name: &str) -> Result<String> {
    let info = server.client()?.call(&["INFO", section])?.text()?;
    Ok(info_field(&info, name).with_context(|| format!("{name} of INFO {section}"))?.to_owned())
}

/// The part of a cache's requests that are answered, in the second half of them.
fn hit_ratio(arguments: &Eviction, server: &Server) -> Result<f64> {
    let mut client = server.client()?;
    let mut zipf = Zipf::new(arguments.keys, arguments.zipf);
    let (mut hits, mut counted) = (0_u64, 0_u64);
    let batches = arguments.requests / BATCH as u32;
    for batch in 0..batches {
        let numbers: Vec<u32> = (0..BATCH).map(|_| zipf.next()).collect();
        let missing = missing(&mut client, &numbers)?;
        if batch >= batches / 2 {
            counted += BATCH as u64;
            hits += (BATCH - missing.len()) as u64;
        }
        store(&mut client, &missing, arguments.value_bytes)?;
    }
    Ok(hits as f64 / counted as f64)
}

/// Those of the keys that are not there.
fn missing(client: &mut Client, numbers: &[u32]) -> Result<Vec<u32>> {
    let mut bytes = Vec::new();
    for number in numbers {
        encode(&mut bytes, [&b"GET"[..], &key("key", *number)].into_iter());
    }
    client.send(&bytes)?;
    let mut missing = Vec::new();
    for number in numbers {
        match client.reply()? {
            Reply::Bulk(None) => missing.push(*number),
            Reply::Bulk(Some(_)) => {}
            other => bail!("GET answered {other:?}"),
        }
    }
    Ok(missing)
}

fn store(client: &mut Client, numbers: &[u32], value_bytes: usize) -> Result<()> {
    let mut bytes = Vec::new();
    for number in numbers {
        let value = vec![b'v'; varied_size(value_bytes, *number, 0)];
        encode(&mut bytes, [&b"SET"[..], &key("key", *number), &value].into_iter());
    }
    client.send(&bytes)?;
    for _ in numbers {
        match client.reply()? {
            Reply::Simple(text) if text == "OK" => {}
            other => bail!("SET answered {other:?}"),
        }
    }
    Ok(())
}

/// Numbers with the frequencies of Zipf's law.
struct Zipf {
    sums: Vec<f64>,
    rng: Rng,
}

impl Zipf {
    fn new(keys: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let add = |rank: u32| {
            sum += 1.0 / f64::from(rank + 1).powf(exponent);
            sum
        };
        Self { sums: (0..keys).map(add).collect(), rng: Rng::with_seed(1) }
    }

    fn next(&mut self) -> u32 {
        let at = self.rng.f64() * self.sums[self.sums.len() - 1];
        self.sums.partition_point(|sum| *sum <= at) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_numbers_have_their_share() {
        // With exponent 1 the first of a thousand comes up once in 7.485, the second half as often.
        let mut zipf = Zipf::new(1_000, 1.0);
        let mut counts = [0; 1_000];
        (0..100_000).for_each(|_| counts[zipf.next() as usize] += 1);
        assert!((12_900..13_800).contains(&counts[0]), "{}", counts[0]);
        assert!((6_300..7_100).contains(&counts[1]), "{}", counts[1]);
    }
}
