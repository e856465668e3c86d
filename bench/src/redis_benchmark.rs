//! `redis-benchmark` as the generator, for figures that others can repeat with what they have.
//!
//! It names its keys itself and runs for a number of requests, so the number is first estimated by a short run.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::compare::Load;
use crate::generator::Tally;
use crate::requests::Workload;

/// Requests of the run that estimates the rate.
const PROBE_REQUESTS: u64 = 50_000;

/// Runs it against a port for about this long.
pub(crate) fn run(port: u16, workload: Workload, pipeline: usize, load: &Load, duration: Duration) -> Result<Tally> {
    let probe = run_requests(port, workload, pipeline, load, PROBE_REQUESTS)?;
    let requests = (probe.rate() * duration.as_secs_f64()) as u64;
    let run = run_requests(port, workload, pipeline, load, requests.max(PROBE_REQUESTS))?;
    Ok(Tally { requests: probe.requests + run.requests, seconds: probe.seconds + run.seconds })
}

/// Runs it for this many requests.
pub(crate) fn run_requests(
    port: u16,
    workload: Workload,
    pipeline: usize,
    load: &Load,
    requests: u64,
) -> Result<Tally> {
    let mut command = Command::new("redis-benchmark");
    let mut option = |name: &str, value: &dyn ToString| {
        command.arg(name).arg(value.to_string());
    };
    option("-p", &port);
    option("-t", &workload.name().to_lowercase());
    option("-n", &requests);
    option("-c", &load.connections);
    option("-P", &pipeline);
    option("-d", &load.value_bytes);
    option("-r", &load.keys);
    let output = command.arg("--csv").output().context("cannot run redis-benchmark: apt-get install redis-tools")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "redis-benchmark failed: {}", String::from_utf8_lossy(&output.stderr));
    let rate = rate(&text, workload.name()).with_context(|| format!("redis-benchmark printed: {text}"))?;
    Ok(Tally { requests, seconds: requests as f64 / rate })
}

/// The second column of the test's row: `"SET","123456.00",...`.
fn rate(csv: &str, test: &str) -> Option<f64> {
    let rows = csv.lines().map(|line| line.split("\",\"").map(|cell| cell.trim_matches('"')).collect::<Vec<_>>());
    let mut rows = rows.filter(|cells| cells[0] == test || cells[0].starts_with(&format!("{test} ")));
    rows.next()?.get(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_in_the_row_of_the_test() {
        // The rate is read from the named row, not from the first.
        let csv =
            "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"1000.50\",\"0.2\"\n\"MSET (10 keys)\",\"77.00\",\"1.0\"\n";
        assert_eq!(rate(csv, "SET"), Some(1000.5));
        assert_eq!(rate(csv, "MSET"), Some(77.0));
        assert_eq!(rate(csv, "GET"), None);
    }
}
