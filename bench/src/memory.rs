//! `eagle-bench memory`: bytes of memory a key costs beyond its own bytes and its value's.
//!
//! ```text
//!            resident now - resident when empty - sum of (key bytes + value bytes)
//! overhead = ---------------------------------------------------------------------
//!                                      keys
//! ```
//!
//! A server grows through several numbers of keys, because tables that double cost the more the shorter ago they
//! doubled: mean and worst are what counts. Variants: keys written once; every key overwritten after each
//! growth with values of the same size; and with values within a quarter of the mean size either way.

use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use serde_json::json;

use crate::client::info_field;
use crate::generator::{Generator, Goal};
use crate::measure::{FILL_PIPELINE, write_keys};
use crate::report::{Report, Table};
use crate::requests::{KEY_BYTES, Requests, shuffled, varied_size};
use crate::server::{Program, Server};
use crate::setup::Setup;

/// Connections that write; kept open, and warmed up before the empty server is measured.
const CONNECTIONS: usize = 50;
/// The expiry of keys that have one: none expires while this runs.
const EXPIRY_S: u32 = 1_000_000;
/// The line of INFO memory where a server that compacts says how many bytes of its memory are dead records.
const DEAD_BYTES_FIELD: &str = "log_dead_bytes";

/// Arguments of `memory`.
#[derive(clap::Args)]
pub(crate) struct Memory {
    #[command(flatten)]
    setup: Setup,
    /// Numbers of keys, ascending
    #[arg(long, value_delimiter = ',', default_value = "1000000,1200000,1400000,1700000,2000000")]
    keys: Vec<u32>,
    /// Bytes of the values
    #[arg(long, value_delimiter = ',', default_value = "8,64,512")]
    values: Vec<usize>,
    /// Keys without and with an expiry
    #[arg(long, value_delimiter = ',', default_value = "no,yes")]
    expiry: Vec<Expiry>,
    /// What happens to the keys after each growth
    #[arg(long, value_delimiter = ',', default_value = "fresh,same,varied")]
    variants: Vec<Variant>,
    /// How often the variants overwrite every key
    #[arg(long, default_value_t = 3)]
    overwrites: u32,
    /// Seconds a server is left alone before its memory is read
    #[arg(long, default_value_t = 1.0)]
    settle: f64,
}

/// Whether keys have an expiry.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Expiry {
    No,
    Yes,
}

/// What happens to keys after they were written.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Variant {
    /// Nothing
    Fresh,
    /// Overwritten by values of the same size
    Same,
    /// Overwritten by values of other sizes
    Varied,
}

/// One server's case: values of a size, with or without expiry, in a variant.
#[derive(Clone, Copy)]
struct Case {
    value_bytes: usize,
    expiry: Expiry,
    variant: Variant,
}

impl Case {
    /// Bytes of a key's value after so many overwrites of it.
    fn value_size(self, number: u32, generation: u32) -> usize {
        match self.variant {
            Variant::Varied => varied_size(self.value_bytes, number, generation),
            Variant::Fresh | Variant::Same => self.value_bytes,
        }
    }

    /// Bytes of keys and values when every key was last written in this generation.
    fn payload(self, keys: u32, generation: u32) -> u64 {
        (0..keys).map(|number| (KEY_BYTES + self.value_size(number, generation)) as u64).sum()
    }
}

/// What one number of keys cost, in bytes a key.
#[derive(serde::Serialize)]
struct Cost {
    keys: u32,
    overhead: f64,
    dead: Option<f64>,
}

/// Measures all cases of all servers.
pub(crate) fn run(arguments: &Memory) -> Result<()> {
    let mut report = Report::new("Memory a key", arguments.setup.json.as_deref());
    arguments.setup.pin_generator()?;
    let programs = arguments.setup.programs()?;
    report.say(&format!(
        "{} Bytes a key of {KEY_BYTES} B, beyond key, value and the empty server; overwritten {} times where it says so; \
         read {} s after the last write. Of these, dead records where the server tells (largest).",
        arguments.setup.describe(&programs),
        arguments.overwrites,
        arguments.settle
    ));
    let mut heads: Vec<String> = ["server", "value", "expiry", "overwritten"].map(String::from).into();
    heads.extend(arguments.keys.iter().map(|keys| format!("{} M", f64::from(*keys) / 1e6)));
    heads.extend(["mean", "worst", "of it dead"].map(String::from));
    let mut table = Table::new(&heads);
    let mut raw = Vec::new();

    for program in &programs {
        for value_bytes in arguments.values.iter().copied() {
            for expiry in arguments.expiry.iter().copied() {
                for variant in arguments.variants.iter().copied() {
                    let case = Case { value_bytes, expiry, variant };
                    let costs = measure_case(arguments, program, case)?;
                    let row = row(&program.name, case, &costs);
                    eprintln!("{}", row.join("  "));
                    raw.push(json!({"server": program.name, "value_bytes": value_bytes, "expiry": row[2], "overwritten": row[3], "costs": costs}));
                    table.row(row);
                }
            }
        }
    }
    report.table("bytes_a_key", &table);
    report.figures("measurements", raw.into());
    report.finish()
}

fn measure_case(arguments: &Memory, program: &Program, case: Case) -> Result<Vec<Cost>> {
    let server = arguments.setup.start(program)?;
    let mut generator = Generator::connect(server.port, CONNECTIONS)?;
    generator.run(&[&Requests::ping(100_000)], FILL_PIPELINE, Goal::Once)?;
    let empty = server.resident_bytes()?;

    let mut rng = Rng::with_seed(1);
    let expiry_s = (case.expiry == Expiry::Yes).then_some(EXPIRY_S);
    let (mut written, mut generation) = (0, 0);
    let mut costs = Vec::new();
    for keys in arguments.keys.iter().copied() {
        let mut write = |range, generation| {
            let order = shuffled(range, &mut rng);
            write_keys(&mut generator, &order, |number| case.value_size(number, generation), expiry_s, FILL_PIPELINE)
        };
        write(written..keys, generation)?;
        written = keys;
        let overwrites = if case.variant == Variant::Fresh { 0 } else { arguments.overwrites };
        for _ in 0..overwrites {
            generation += 1;
            write(0..keys, generation)?;
        }
        std::thread::sleep(Duration::from_secs_f64(arguments.settle));
        let beyond = server.resident_bytes()? as f64 - empty as f64 - case.payload(keys, generation) as f64;
        costs.push(Cost {
            keys,
            overhead: beyond / f64::from(keys),
            dead: dead_bytes(&server)?.map(|bytes| bytes / f64::from(keys)),
        });
    }
    Ok(costs)
}

/// Bytes of dead records, if the server reports them.
fn dead_bytes(server: &Server) -> Result<Option<f64>> {
    let info = server.client()?.call(&["INFO", "memory"])?.text()?;
    let field = info_field(&info, DEAD_BYTES_FIELD);
    field.map(|bytes| bytes.parse().with_context(|| format!("{DEAD_BYTES_FIELD}:{bytes} of INFO"))).transpose()
}

fn row(server: &str, case: Case, costs: &[Cost]) -> Vec<String> {
    let overheads = costs.iter().map(|cost| cost.overhead);
    let mean = overheads.clone().sum::<f64>() / costs.len() as f64;
    let worst = overheads.clone().fold(f64::MIN, f64::max);
    let dead = costs.iter().filter_map(|cost| cost.dead).reduce(f64::max);
    let mut row = vec![
        server.to_owned(),
        format!("{} B", case.value_bytes),
        if case.expiry == Expiry::Yes { "yes" } else { "no" }.into(),
        match case.variant {
            Variant::Fresh => "no",
            Variant::Same => "same size",
            Variant::Varied => "within 25 %",
        }
        .into(),
    ];
    row.extend(overheads.chain([mean, worst]).map(|bytes| format!("{bytes:.1}")));
    row.push(dead.map_or("-".into(), |bytes| format!("{bytes:.1}")));
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_counts_the_sizes_that_were_written() {
        // What overhead is measured against follows the last sizes, not the first.
        let same = Case { value_bytes: 64, expiry: Expiry::No, variant: Variant::Same };
        assert_eq!(same.payload(10, 3), 780);
        let varied = Case { variant: Variant::Varied, ..same };
        let expected: usize = (0..10).map(|number| 14 + varied_size(64, number, 3)).sum();
        assert_eq!(varied.payload(10, 3), expected as u64);
    }

    #[test]
    fn a_row_has_mean_and_worst_behind_the_figures() {
        let case = Case { value_bytes: 8, expiry: Expiry::Yes, variant: Variant::Varied };
        let cost = |overhead, dead| Cost { keys: 1, overhead, dead };
        let cells = row("S", case, &[cost(10.0, Some(1.0)), cost(20.0, Some(2.0))]);
        assert_eq!(cells, ["S", "8 B", "yes", "within 25 %", "10.0", "20.0", "15.0", "20.0", "2.0"]);
    }
}
