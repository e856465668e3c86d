//! `eagle-bench durable`: what it costs that writes are kept, under each mode, beside the peers' append-only files.
//!
//! All servers have their folders on the same file system and are alive from the beginning; they take turns, round after round. The
//! peers do not rewrite their logs meanwhile (EagleDB compacts its own as ever). *Floor* is a bare loop of pwrite and
//! fdatasync, a record of the same bytes at a time, into a file written before as a pool is: what one connection that waits for each
//! reply cannot go below. Then [`disk`]: bytes written a command. With `--minutes`, [`overwrites`] instead; with `--late-ms`, [`slow`].

mod disk;
mod floor;
mod overwrites;
mod slow;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use fastrand::Rng;
use hdrhistogram::Histogram;
use serde_json::json;

use crate::generator::{Generator, Goal};
use crate::measure::{FILL_PIPELINE, Measure, measure};
use crate::report::{Report, Table, median};
use crate::requests::{Requests, Workload};
use crate::server::{Dialect, Program, Server, folder};
use crate::setup::{Setup, target_dir};

/// How long a server is loaded before a measurement begins.
const WARM_UP: Duration = Duration::from_millis(300);

/// Arguments of `durable`.
#[derive(clap::Args)]
pub(crate) struct Durable {
    #[command(flatten)]
    setup: Setup,
    /// Where the servers' folders are made [default: cargo's target folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Measurements of each server; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Keys, used at random
    #[arg(long, default_value_t = 1_000_000)]
    keys: u32,
    /// Bytes of a value
    #[arg(long, default_value_t = 64)]
    value_bytes: usize,
    /// Connections and pipelines of the loads
    #[arg(long, value_name = "CxP", value_delimiter = ',', default_values = ["1x1", "50x1", "50x32"])]
    loads: Vec<Case>,
    /// Leave out the bytes written a command
    #[arg(long)]
    without_bytes: bool,
    /// Instead, overwrite at random for so long, in minutes, with `maxmemory` filled to 80 %
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<f64>,
    /// Instead, let every sync be late by so many milliseconds, and see who waits
    #[arg(long, value_name = "MS", conflicts_with = "minutes")]
    late_ms: Option<u32>,
    /// The part of that time in which anything is written, in percent: bursts of a twentieth of a second with rests between
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100))]
    duty: u32,
    /// `maxmemory` of that, in MiB
    #[arg(long, default_value_t = 512)]
    limit_mib: u64,
}

impl Durable {
    fn parent(&self) -> Result<PathBuf> {
        self.dir.clone().map_or_else(target_dir, Ok)
    }

    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// When writes are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing is kept.
    None,
    /// Within a second.
    EverySec,
    /// Before the reply.
    Always,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::EverySec => "everysec",
            Self::Always => "always",
        }
    }

    /// The program in this mode.
    pub(super) fn of(self, program: &Program) -> Program {
        let arguments: &[&str] = match (program.dialect, self) {
            (_, Self::None) => &[],
            (Dialect::Eagle { .. }, _) => &["--pool", "file", "--sync", self.name()],
            (..) => &["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0", "--appendfsync", self.name()],
        };
        let mut program = program.clone();
        program.name = format!("{} {}", program.name, self.name());
        program.arguments.extend(arguments.iter().map(ToString::to_string));
        program
    }
}

/// A server in a mode.
struct Subject {
    server: Server,
    mode: Mode,
}

impl Subject {
    fn start(arguments: &Durable, program: &Program, mode: Mode, parent: &Path) -> Result<Self> {
        let cores = [arguments.setup.server_core];
        let server = Server::start_in(&mode.of(program), &cores, folder(Some(parent))?)?;
        Ok(Self { server, mode })
    }
}

/// How many connections have how many requests in flight each.
#[derive(Clone, Copy, Debug)]
struct Case {
    connections: usize,
    pipeline: usize,
}

impl FromStr for Case {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (connections, pipeline) = text.split_once('x').with_context(|| format!("'{text}' is not as 50x32"))?;
        Ok(Self { connections: connections.parse()?, pipeline: pipeline.parse()? })
    }
}

/// A measurement with the delays of its batches, in microseconds.
#[derive(Clone, Copy, serde::Serialize)]
struct Round {
    #[serde(flatten)]
    measure: Measure,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

impl Round {
    fn new(measure: Measure, delays: &Histogram<u64>) -> Self {
        let us = |quantile| delays.value_at_quantile(quantile) as f64 / 1e3;
        Self { measure, p50_us: us(0.5), p99_us: us(0.99), p999_us: us(0.999) }
    }
}

/// Runs the comparison.
pub(crate) fn run(arguments: &Durable) -> Result<()> {
    arguments.setup.pin_generator()?;
    if let Some(minutes) = arguments.minutes {
        return overwrites::run(arguments, minutes);
    }
    if let Some(late_ms) = arguments.late_ms {
        return slow::run(arguments, late_ms);
    }
    let mut report = Report::new("What durability costs", arguments.setup.json.as_deref());
    let (programs, parent) = (arguments.setup.programs()?, arguments.parent()?);
    report.say(&format!(
        "{} SET of {} keys, values of {} B, folders in {}; median of {} rounds of {} s, servers taking turns. Delays are of a batch. Ratio is \
         EagleDB's throughput in the same mode to this server's.",
        arguments.setup.describe(&programs),
        arguments.keys,
        arguments.value_bytes,
        parent.display(),
        arguments.rounds,
        arguments.seconds,
    ));
    let mut subjects = Vec::new();
    for (number, program) in programs.iter().enumerate() {
        let modes: &[Mode] =
            if number == 0 { &[Mode::None, Mode::EverySec, Mode::Always] } else { &[Mode::EverySec, Mode::Always] };
        for mode in modes {
            subjects.push(Subject::start(arguments, program, *mode, &parent)?);
        }
    }
    throughput(arguments, &mut report, &subjects, &parent)?;
    if !arguments.without_bytes {
        disk::measure_all(arguments, &mut report, &subjects)?;
    }
    report.finish()
}

fn throughput(arguments: &Durable, report: &mut Report, subjects: &[Subject], parent: &Path) -> Result<()> {
    let requests = Workload::Set.requests(arguments.keys, arguments.value_bytes, &mut Rng::with_seed(1));
    for subject in subjects {
        eprintln!("filling {}", subject.server.name);
        Generator::connect(subject.server.port, 50)?.run(&[&requests], FILL_PIPELINE, Goal::Once)?;
    }
    let heads =
        ["load", "server", "K req/s", "lowest to highest", "ratio", "CPU us/req", "p50 us", "p99 us", "p99.9 us"];
    let mut table = Table::new(&heads);
    let mut raw = Vec::new();
    for case in arguments.loads.iter().copied() {
        eprintln!("{case:?}");
        let mut rounds = vec![Vec::new(); subjects.len()];
        let mut floors = Vec::new();
        for _ in 0..arguments.rounds {
            for (subject, rounds) in subjects.iter().zip(&mut rounds) {
                rounds.push(measure_once(arguments, subject, case, &requests)?);
            }
            if case.connections == 1 {
                floors.push(floor::measure(arguments, parent)?);
            }
        }
        add_rows(&mut table, case, subjects, &rounds, &floors);
        for (subject, rounds) in subjects.iter().zip(&rounds) {
            raw.push(json!({"case": format!("{case:?}"), "server": subject.server.name, "rounds": rounds}));
        }
        raw.push(json!({"case": format!("{case:?}"), "server": "floor", "rounds": floors}));
    }
    report.table("medians", &table);
    report.figures("measurements", raw.into());
    Ok(())
}

fn measure_once(arguments: &Durable, subject: &Subject, case: Case, requests: &Requests) -> Result<Round> {
    let mut generator = Generator::connect(subject.server.port, case.connections)?;
    generator.run(&[requests], case.pipeline, Goal::For(WARM_UP))?;
    generator.take_delays();
    let load = || generator.run(&[requests], case.pipeline, Goal::For(arguments.duration()));
    let measure = measure(&subject.server, load)?;
    Ok(Round::new(measure, &generator.take_delays()))
}

fn add_rows(table: &mut Table, case: Case, subjects: &[Subject], rounds: &[Vec<Round>], floors: &[floor::Floor]) {
    let load = format!("{} x {}", case.connections, case.pipeline);
    let rate = |rounds: &[Round]| median(rounds.iter().map(|round| round.measure.rate)) / 1e3;
    for (number, (subject, measured)) in subjects.iter().zip(rounds).enumerate() {
        // Those of EagleDB come first.
        let ours = subjects.iter().position(|ours| ours.mode == subject.mode).expect("it is in every mode");
        let ratio = if ours == number { String::new() } else { format!("{:.2}", rate(&rounds[ours]) / rate(measured)) };
        let rates = measured.iter().map(|round| round.measure.rate / 1e3);
        let (lowest, highest) = (rates.clone().fold(f64::MAX, f64::min), rates.fold(0.0, f64::max));
        let us = |figure: fn(&Round) -> f64| format!("{:.0}", median(measured.iter().map(figure)));
        table.row(vec![
            load.clone(),
            subject.server.name.clone(),
            format!("{:.1}", rate(measured)),
            format!("{lowest:.1} to {highest:.1}"),
            ratio,
            format!("{:.2}", median(measured.iter().map(|round| round.measure.cpu_us))),
            us(|round| round.p50_us),
            us(|round| round.p99_us),
            us(|round| round.p999_us),
        ]);
    }
    if !floors.is_empty() {
        let us = |figure: fn(&floor::Floor) -> f64| format!("{:.0}", median(floors.iter().map(figure)));
        let rate = format!("{:.1}", median(floors.iter().map(|floor| floor.rate)) / 1e3);
        let none = String::new;
        let (p50, p99, p999) = (us(|floor| floor.p50_us), us(|floor| floor.p99_us), us(|floor| floor.p999_us));
        table.row(vec![load, "floor".into(), rate, none(), none(), none(), p50, p99, p999]);
    }
}
