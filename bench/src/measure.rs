//! One measurement: how many requests a second a server answered, and what CPU time each cost it.

use std::time::Instant;

use anyhow::Result;

use crate::generator::{Generator, Goal, Tally};
use crate::process;
use crate::requests::Requests;
use crate::server::Server;

/// Keys of one list of requests while a keyspace is written: bounds the memory of the generator.
const KEYS_A_LIST: usize = 250_000;
/// The pipeline while a keyspace is written.
pub(crate) const FILL_PIPELINE: usize = 64;

/// What a load got from a server and cost it.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Measure {
    /// Requests a second.
    pub(crate) rate: f64,
    /// Microseconds of the server's CPU time a request: all its threads, in user and system mode.
    pub(crate) cpu_us: f64,
    /// Share of the time (0 to 1) that the load itself kept its core busy: near 1, the load was the limit.
    pub(crate) load_share: f64,
}

/// Carries out a load and looks at the server's CPU time before and after.
pub(crate) fn measure(server: &Server, load: impl FnOnce() -> Result<Tally>) -> Result<Measure> {
    let (before, load_before) = (server.cpu_seconds()?, process::own_cpu_seconds()?);
    let started = Instant::now();
    let tally = load()?;
    let elapsed = started.elapsed().as_secs_f64();
    let (after, load_after) = (server.cpu_seconds()?, process::own_cpu_seconds()?);
    Ok(Measure {
        rate: tally.rate(),
        cpu_us: (after - before) * 1e6 / tally.requests as f64,
        load_share: (load_after - load_before) / elapsed,
    })
}

/// Sets each key once, in the order given, to a value of as many bytes as `size` says.
/// Encoding is not in the time that the tally has.
pub(crate) fn write_keys(
    generator: &mut Generator,
    order: &[u32],
    size: impl Fn(u32) -> usize,
    expiry_s: Option<u32>,
    pipeline: usize,
) -> Result<Tally> {
    let mut total = Tally::default();
    for keys in order.chunks(KEYS_A_LIST) {
        let requests = Requests::set(keys, &size, expiry_s);
        let tally = generator.run(&[&requests], pipeline, Goal::Once)?;
        total.requests += tally.requests;
        total.seconds += tally.seconds;
    }
    Ok(total)
}
