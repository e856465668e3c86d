//! `eagle-bench large`: what becomes of a server with a hash of very many fields while that is renamed, copied, expires and goes.
//!
//! One hash is filled, and each command on it is timed from sending it to its reply. A pinger runs beside it: during the command, and
//! afterwards until the server's memory has come to rest, since a server that answers at once may still be busy with what is left of
//! the hash.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::client::{Client, Reply, encode};
use crate::generator::{Generator, Goal};
use crate::measure::FILL_PIPELINE;
use crate::pinger::{Delays, Pinger};
use crate::report::{Report, Table};
use crate::requests::{Requests, key};
use crate::server::{Program, Server};
use crate::setup::Setup;

/// Connections that write.
const CONNECTIONS: usize = 50;
/// Elements of one list of requests: bounds the memory of the generator.
const ELEMENTS_A_LIST: u32 = 250_000;
/// How often the hash is renamed; the slowest counts.
const RENAMES: usize = 21;
/// From one look at the server's memory to the next.
const LOOK: Duration = Duration::from_millis(10);
/// Memory is at rest when it has not shrunk by [`SHRINKS_BYTES`] for so long.
const REST: Duration = Duration::from_secs(2);
const SHRINKS_BYTES: u64 = 1 << 20;
/// How long pings alone are taken.
const ALONE: Duration = Duration::from_secs(2);

/// Arguments of `large`.
#[derive(clap::Args)]
pub(crate) struct Large {
    #[command(flatten)]
    setup: Setup,
    /// Fields of the hash
    #[arg(long, default_value_t = 10_000_000)]
    fields: u32,
    /// Bytes of the values
    #[arg(long, default_value_t = 16)]
    value_bytes: usize,
}

/// Measures all servers.
pub(crate) fn run(arguments: &Large) -> Result<()> {
    let mut report = Report::new("A very large hash", arguments.setup.json.as_deref());
    arguments.setup.pin_generator()?;
    let programs = arguments.setup.programs()?;
    report.say(&format!(
        "{} A hash of {} fields, values of {} B. Round trips of single commands on it; PINGs, one every 0.2 ms, from when the command is \
         sent until the server's memory is at rest.",
        arguments.setup.describe(&programs),
        arguments.fields,
        arguments.value_bytes
    ));
    let heads =
        ["server", "command", "round trip ms", "PINGs", "p99 ms", "longest ms", "MB before", "MB at rest", "after s"];
    let mut table = Table::new(&heads);
    let mut raw = Vec::new();
    for program in &programs {
        for row in measure(arguments, program)? {
            raw.push(row.json(&program.name));
            table.row(row.cells(&program.name));
        }
    }
    report.table("commands", &table);
    report.figures("measurements", raw.into());
    report.finish()
}

/// What was seen of one command.
struct Row {
    command: &'static str,
    round_trip_ms: Option<f64>,
    beside: Delays,
    before: u64,
    at_rest: u64,
    rest_s: f64,
}

impl Row {
    fn cells(&self, server: &str) -> Vec<String> {
        vec![
            server.to_owned(),
            self.command.to_owned(),
            self.round_trip_ms.map_or("-".into(), |ms| format!("{ms:.2}")),
            self.beside.len().to_string(),
            format!("{:.3}", self.beside.p99_ms()),
            format!("{:.2}", self.beside.longest_ms()),
            (self.before >> 20).to_string(),
            (self.at_rest >> 20).to_string(),
            format!("{:.1}", self.rest_s),
        ]
    }

    fn json(&self, server: &str) -> Value {
        json!({"server": server, "command": self.command, "round_trip_ms": self.round_trip_ms, "pings": self.beside.len(),
            "p99_ms": self.beside.p99_ms(), "longest_ms": self.beside.longest_ms(), "bytes_before": self.before,
            "bytes_at_rest": self.at_rest, "rest_s": self.rest_s})
    }
}

/// A server with a pinger and a client beside it.
struct Bench {
    server: Server,
    client: Client,
    pinger: Pinger,
}

fn measure(arguments: &Large, program: &Program) -> Result<Vec<Row>> {
    let server = arguments.setup.start(program)?;
    fill(&server, arguments)?;
    let mut bench = Bench { client: server.client()?, pinger: Pinger::connect(server.port)?, server };
    let (name, other) = (String::from_utf8_lossy(&key("hsh", 0)).into_owned(), "renamed");
    let fields = Reply::Integer(arguments.fields.into());
    bench.rest()?;
    bench.pinger.take();

    let mut rows = vec![bench.alone()?];
    rows.push(bench.row("RENAME", |bench| {
        let (mut slowest, mut names) = (0.0_f64, [name.as_str(), other]);
        for _ in 0..RENAMES {
            slowest = slowest.max(bench.timed(&["RENAME", names[0], names[1]], &Reply::Simple("OK".into()))?);
            names.reverse();
        }
        Ok(slowest)
    })?);
    ensure!(bench.client.call(&["HLEN", other])? == fields, "the renamed hash is whole");
    rows.push(bench.row("COPY", |bench| bench.timed(&["COPY", other, "copy"], &Reply::Integer(1)))?);
    ensure!(bench.client.call(&["HLEN", "copy"])? == fields, "the copy is whole");
    rows.push(bench.row("PEXPIRE", |bench| bench.timed(&["PEXPIRE", "copy", "600000"], &Reply::Integer(1)))?);
    bench.timed(&["PEXPIRE", "copy", "1"], &Reply::Integer(1))?;
    std::thread::sleep(Duration::from_millis(2));
    rows.push(bench.row("EXISTS, expired", |bench| bench.timed(&["EXISTS", "copy"], &Reply::Integer(0)))?);
    rows.push(bench.row("DEL", |bench| bench.timed(&["DEL", other], &Reply::Integer(1)))?);
    Ok(rows)
}

fn fill(server: &Server, arguments: &Large) -> Result<()> {
    let mut generator = Generator::connect(server.port, CONNECTIONS)?;
    for first in (0..arguments.fields).step_by(ELEMENTS_A_LIST as usize) {
        let numbers: Vec<u32> = (first..arguments.fields.min(first + ELEMENTS_A_LIST)).collect();
        let requests = Requests::hset(&numbers, arguments.fields, arguments.value_bytes);
        generator.run(&[&requests], FILL_PIPELINE, Goal::Once)?;
    }
    Ok(())
}

impl Bench {
    /// Times a command, with pings beside it until the memory is at rest.
    fn row(&mut self, command: &'static str, time: impl FnOnce(&mut Self) -> Result<f64>) -> Result<Row> {
        let before = self.server.resident_bytes_roughly()?;
        let round_trip_ms = Some(time(self)?);
        let (at_rest, rest_s) = self.rest()?;
        let row = Row { command, round_trip_ms, beside: self.pinger.take(), before, at_rest, rest_s };
        eprintln!("{}", row.cells(&self.server.name).join("  "));
        Ok(row)
    }

    /// Pings with nothing else to do.
    fn alone(&mut self) -> Result<Row> {
        let before = self.server.resident_bytes_roughly()?;
        let started = Instant::now();
        while started.elapsed() < ALONE {
            self.pinger.poll()?;
        }
        let beside = self.pinger.take();
        Ok(Row { command: "none", round_trip_ms: None, beside, before, at_rest: before, rest_s: 0.0 })
    }

    /// The round trip of a command in milliseconds.
    fn timed(&mut self, arguments: &[&str], expected: &Reply) -> Result<f64> {
        let mut request = Vec::new();
        encode(&mut request, arguments.iter().map(|argument| argument.as_bytes()));
        let sent = Instant::now();
        self.client.send(&request)?;
        while !self.client.has_reply()? {
            self.pinger.poll()?;
        }
        let round_trip = sent.elapsed();
        let reply = self.client.reply()?;
        ensure!(reply == *expected, "{} answered {reply:?}", arguments.join(" "));
        Ok(round_trip.as_secs_f64() * 1e3)
    }

    /// Pings until memory is at rest. Returns how much it is then, and after how many seconds it was.
    fn rest(&mut self) -> Result<(u64, f64)> {
        let started = Instant::now();
        let (mut least, mut shrunk, mut looked) = (self.server.resident_bytes_roughly()?, started, started);
        while shrunk.elapsed() < REST {
            self.pinger.poll()?;
            if looked.elapsed() < LOOK {
                continue;
            }
            looked = Instant::now();
            let bytes = self.server.resident_bytes_roughly()?;
            if bytes + SHRINKS_BYTES <= least {
                (least, shrunk) = (bytes, looked);
            }
        }
        Ok((least, (shrunk - started).as_secs_f64()))
    }
}
