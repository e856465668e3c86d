//! `eagle-bench overwrite`: how SET holds up while the whole keyspace is overwritten again and again.
//!
//! Every pass sets each key once, in an order and to value sizes of its own (within a quarter of the mean), so that a server that
//! writes a log has to compact. *Fill* writes the empty server; *1* to *n* are overwrites; *after* is the
//! pass behind the n-th. Both the fill and the first overwrite may be called fresh: both ratios are given.

use anyhow::Result;
use fastrand::Rng;
use serde_json::json;

use crate::generator::Generator;
use crate::measure::{Measure, measure, write_keys};
use crate::report::{Report, Table, median};
use crate::requests::{shuffled, varied_size};
use crate::server::Program;
use crate::setup::Setup;

/// Arguments of `overwrite`.
#[derive(clap::Args)]
pub(crate) struct Overwrite {
    #[command(flatten)]
    setup: Setup,
    /// How often the keyspace is overwritten before the last pass
    #[arg(long, default_value_t = 10)]
    overwrites: u32,
    /// Keys of the keyspace
    #[arg(long, default_value_t = 1_000_000)]
    keys: u32,
    /// Bytes of a value, in the mean
    #[arg(long, default_value_t = 64)]
    value_bytes: usize,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 32)]
    pipeline: usize,
    /// Connections
    #[arg(long, default_value_t = 50)]
    connections: usize,
    /// Fresh servers that go through it; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Measures all servers.
pub(crate) fn run(arguments: &Overwrite) -> Result<()> {
    let mut report = Report::new("Throughput under overwrites", arguments.setup.json.as_deref());
    arguments.setup.pin_generator()?;
    let programs = arguments.setup.programs()?;
    report.say(&format!(
        "{} {} connections, pipeline {}, {} keys, values of {} B within 25 %, median of {} rounds, servers taking turns.",
        arguments.setup.describe(&programs),
        arguments.connections,
        arguments.pipeline,
        arguments.keys,
        arguments.value_bytes,
        arguments.rounds
    ));
    let mut rounds: Vec<Vec<Vec<Measure>>> = vec![Vec::new(); programs.len()];
    for round in 1..=arguments.rounds {
        for (program, measures) in programs.iter().zip(&mut rounds) {
            eprintln!("{}, round {round}", program.name);
            measures.push(measure_passes(arguments, program)?);
        }
    }

    let mut heads: Vec<String> = ["server", "", "fill"].map(String::from).into();
    heads.extend((1..=arguments.overwrites).map(|pass| pass.to_string()));
    heads.extend(["after", "after / fill", "after / 1"].map(String::from));
    let mut table = Table::new(&heads);
    for (program, rounds) in programs.iter().zip(&rounds) {
        table.row(row(&program.name, "K SET/s", 0, rounds, |measure| measure.rate / 1e3));
        table.row(row(&program.name, "CPU us/SET", 2, rounds, |measure| measure.cpu_us));
        report.figures(&program.name, json!(rounds));
    }
    report.table("medians", &table);
    report.finish()
}

/// The fill, the overwrites, and the pass behind them, on a fresh server.
fn measure_passes(arguments: &Overwrite, program: &Program) -> Result<Vec<Measure>> {
    let server = arguments.setup.start(program)?;
    let mut generator = Generator::connect(server.port, arguments.connections)?;
    let mut rng = Rng::with_seed(1);
    let mut pass = |generation| {
        let order = shuffled(0..arguments.keys, &mut rng);
        let size = |number| varied_size(arguments.value_bytes, number, generation);
        measure(&server, || write_keys(&mut generator, &order, size, None, arguments.pipeline))
    };
    (0..=arguments.overwrites + 1).map(&mut pass).collect()
}

/// The medians of each pass over the rounds, and the last one's ratio to the fill and to the first overwrite.
fn row(
    server: &str,
    what: &str,
    digits: usize,
    rounds: &[Vec<Measure>],
    figure: impl Fn(&Measure) -> f64,
) -> Vec<String> {
    let passes = rounds[0].len();
    let medians: Vec<f64> = (0..passes).map(|pass| median(rounds.iter().map(|round| figure(&round[pass])))).collect();
    let last = medians[passes - 1];
    let mut cells = vec![server.to_owned(), what.to_owned()];
    cells.extend(medians.iter().map(|median| format!("{median:.digits$}")));
    cells.extend([medians[0], medians[1]].map(|fresh| format!("{:.2}", last / fresh)));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pass_is_compared_with_the_fill_and_the_first_overwrite() {
        let round = |rates: [f64; 3]| rates.map(|rate| Measure { rate, cpu_us: 1.0, load_share: 0.5 }).to_vec();
        let rounds = [round([100.0, 200.0, 100.0]), round([100.0, 200.0, 180.0]), round([90.0, 210.0, 150.0])];
        let cells = row("S", "K/s", 0, &rounds, |measure| measure.rate);
        assert_eq!(cells, ["S", "K/s", "100", "200", "150", "1.50", "0.75"]);
    }
}
