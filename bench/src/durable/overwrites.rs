//! Overwrites at random, for long, of a server whose `maxmemory` is filled to four fifths: whether delays, memory and dead space stay
//! bounded. Each slice of the time is one list of keys in random order with sizes of their own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{Durable, Mode, Subject};
use crate::client::info_field;
use crate::generator::{Generator, Goal, Tally, no_delays};
use crate::measure::write_keys;
use crate::report::{Report, Table};
use crate::requests::{Requests, shuffled, varied_size};
use crate::server::Server;

/// Bytes of a value, in the mean.
const VALUE_BYTES: usize = 100;
/// Connections, and requests in flight on each: busy, but not so that delays are all queue.
const CONNECTIONS: usize = 50;
const PIPELINE: usize = 4;
/// Seconds between two looks at memory.
const SLICE_S: u64 = 5;
/// Keys written at a time while memory fills.
const FILL_KEYS: u32 = 50_000;
/// Keys of the list of a slice, and of a burst.
const LIST_KEYS: usize = 400_000;
const BURST_KEYS: usize = 20_000;
/// A burst, where the server rests between them.
const BURST: Duration = Duration::from_millis(50);

/// What one half of the time showed.
struct Half {
    delays: Histogram<u64>,
    requests: u64,
    seconds: f64,
    used_max: u64,
    resident_max: u64,
    /// The largest share of the log that was dead.
    dead_max: f64,
}

/// Memory of a server at a moment, in bytes.
struct Memory {
    used: u64,
    resident: u64,
    log: u64,
    dead: u64,
}

/// Runs it for EagleDB.
pub(super) fn run(arguments: &Durable, minutes: f64) -> Result<()> {
    let mut report = Report::new("Overwrites at random, for long", arguments.setup.json.as_deref());
    let limit = arguments.limit_mib << 20;
    let mut program = arguments.setup.eagledb(1)?;
    program.arguments.extend(["--maxmemory".into(), limit.to_string()]);
    let Subject { server, .. } = Subject::start(arguments, &program, Mode::EverySec, &arguments.parent()?)?;
    let mut generator = Generator::connect(server.port, CONNECTIONS)?;
    let keys = fill(&server, &mut generator, limit * 4 / 5)?;
    report.say(&format!(
        "{} sync everysec, maxmemory {} MiB, {keys} keys, values of {VALUE_BYTES} B within 25 %, {CONNECTIONS} connections at pipeline \
         {PIPELINE}, {minutes} minutes, writing in {} % of the time.",
        arguments.setup.describe(&[program]),
        arguments.limit_mib,
        arguments.duty,
    ));
    let half = Duration::from_secs_f64(minutes * 30.0);
    let halves = [1, 2].map(|number| overwrite(&server, &mut generator, keys, half, arguments.duty, number));
    let [first, second] = halves;
    let halves = [first?, second?];
    let mut table = Table::new(&[
        "half",
        "K SET/s",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "longest ms",
        "used MiB",
        "resident MiB",
        "dead % of log",
    ]);
    for (name, half) in ["first", "second"].iter().zip(&halves) {
        let us = |quantile| format!("{:.0}", half.delays.value_at_quantile(quantile) as f64 / 1e3);
        table.row(vec![
            (*name).into(),
            format!("{:.1}", half.requests as f64 / half.seconds / 1e3),
            us(0.5),
            us(0.99),
            us(0.999),
            format!("{:.1}", half.delays.max() as f64 / 1e6),
            (half.used_max >> 20).to_string(),
            (half.resident_max >> 20).to_string(),
            format!("{:.1}", half.dead_max * 100.0),
        ]);
    }
    report.table("halves", &table);
    let p99 = |half: &Half| half.delays.value_at_quantile(0.99) as f64;
    let ratio = p99(&halves[1]) / p99(&halves[0]);
    report.say(&format!("p99 of the second half is {ratio:.2} times that of the first (goal: at most 1.5)."));
    report.figures("ratio", json!(ratio));
    report.finish()
}

/// Writes keys until so many bytes are used; how many.
fn fill(server: &Server, generator: &mut Generator, bytes: u64) -> Result<u32> {
    let bar = ProgressBar::new(bytes).with_style(ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}")?);
    let mut keys = 0;
    loop {
        let used = memory(server)?.used;
        bar.set_position(used.min(bytes));
        if used >= bytes {
            bar.finish_and_clear();
            return Ok(keys);
        }
        let order: Vec<u32> = (keys..keys + FILL_KEYS).collect();
        write_keys(generator, &order, |key| varied_size(VALUE_BYTES, key, 0), None, PIPELINE)?;
        keys += FILL_KEYS;
    }
}

fn overwrite(
    server: &Server,
    generator: &mut Generator,
    keys: u32,
    time: Duration,
    duty: u32,
    seed: u64,
) -> Result<Half> {
    let mut rng = Rng::with_seed(seed);
    let mut half = Half { delays: no_delays(), requests: 0, seconds: 0.0, used_max: 0, resident_max: 0, dead_max: 0.0 };
    let style = ProgressStyle::with_template("{msg} {wide_bar} {elapsed}/{duration}")?;
    let bar = ProgressBar::new(time.as_secs()).with_style(style);
    let started = Instant::now();
    generator.take_delays();
    while started.elapsed() < time {
        let left = time.saturating_sub(started.elapsed()).min(Duration::from_secs(SLICE_S));
        let tally = if duty == 100 {
            let mut order = shuffled(0..keys, &mut rng);
            order.truncate(LIST_KEYS);
            let generation = rng.u32(..);
            let requests = Requests::set(&order, |key| varied_size(VALUE_BYTES, key, generation), None);
            generator.run(&[&requests], PIPELINE, Goal::For(left))?
        } else {
            bursts(generator, keys, left, duty, &mut rng)?
        };
        half.requests += tally.requests;
        half.seconds += tally.seconds;
        let memory = memory(server)?;
        half.used_max = half.used_max.max(memory.used);
        half.resident_max = half.resident_max.max(memory.resident);
        half.dead_max = half.dead_max.max(memory.dead as f64 / memory.log.max(1) as f64);
        bar.set_position(started.elapsed().as_secs());
        bar.set_message(format!("{:.0} K/s, {} MiB used", tally.rate() / 1e3, memory.used >> 20));
    }
    bar.finish_and_clear();
    half.delays = generator.take_delays();
    ensure!(half.requests > 0, "half the time is too short");
    Ok(half)
}

/// Writes random keys in bursts for so long, and rests between them. What it returns counts the bursts' time only.
fn bursts(generator: &mut Generator, keys: u32, time: Duration, duty: u32, rng: &mut Rng) -> Result<Tally> {
    let (started, mut all) = (Instant::now(), Tally::default());
    while started.elapsed() < time {
        let order: Vec<u32> = (0..BURST_KEYS).map(|_| rng.u32(0..keys)).collect();
        let generation = rng.u32(..);
        let requests = Requests::set(&order, |key| varied_size(VALUE_BYTES, key, generation), None);
        let begun = Instant::now();
        let tally = generator.run(&[&requests], PIPELINE, Goal::For(BURST))?;
        all.requests += tally.requests;
        all.seconds += tally.seconds;
        std::thread::sleep(begun.elapsed() * (100 - duty) / duty);
    }
    Ok(all)
}

fn memory(server: &Server) -> Result<Memory> {
    let mut client = server.client()?;
    let info = client.call(&["INFO", "memory"])?.text()?;
    let used = info_field(&info, "used_memory").context("INFO has used_memory")?.parse()?;
    let stats = client.call(&["MEMORY", "MALLOC-STATS"])?.text()?;
    let (log, dead) = log_bytes(&stats).with_context(|| format!("MEMORY MALLOC-STATS tells of the log: {stats}"))?;
    Ok(Memory { used, resident: server.resident_bytes_roughly()?, log, dead })
}

/// Bytes of the log in use, and of them dead: from `log: in_use=8388608 free_resident=0 live=0 dead=0`.
fn log_bytes(stats: &str) -> Option<(u64, u64)> {
    let line = stats.lines().find_map(|line| line.strip_prefix("log: "))?;
    let field = |name: &str| line.split(' ').find_map(|word| word.strip_prefix(name))?.parse().ok();
    Some((field("in_use=")?, field("dead=")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_bytes_are_read_from_the_line_of_the_log() {
        let stats =
            "Records lie in logs.\nlog: in_use=4096 free_resident=0 live=1000 dead=24\nheap: index=7 values=0\n";
        assert_eq!(log_bytes(stats), Some((4096, 24)));
        assert_eq!(log_bytes("heap: index=7"), None);
    }
}
