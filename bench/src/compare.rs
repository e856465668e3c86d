//! `eagle-bench compare`: throughput and CPU time a request, beside the peers.
//!
//! All servers are alive from the beginning, one is loaded at a time; an idle one costs a few timer ticks. For each command and
//! pipeline the servers take turns, round after round, so that what else the machine does strikes all alike;
//! what is reported is the median of the rounds and its ratio to each peer's.

use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use serde_json::json;

use crate::generator::{Generator, Goal, Tally};
use crate::measure::{FILL_PIPELINE, Measure, measure};
use crate::redis_benchmark;
use crate::report::{Report, Table, median};
use crate::requests::{Requests, Workload};
use crate::server::{Dialect, Program, Server};
use crate::setup::Setup;

/// How long a server is loaded before a measurement begins.
const WARM_UP: Duration = Duration::from_millis(200);

/// Arguments of `compare`.
#[derive(clap::Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    setup: Setup,
    #[command(flatten)]
    load: Load,
    /// What makes the load
    #[arg(long, value_enum, default_value = "own")]
    generator: GeneratorKind,
    /// Measurements of each server; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// A bare server that takes a port as its only argument and knows GET and SET: measured along as the floor
    #[arg(long, value_name = "PATH")]
    floor: Option<std::path::PathBuf>,
}

/// What the load consists of.
#[derive(clap::Args)]
pub(crate) struct Load {
    /// Commands to measure
    #[arg(long, value_delimiter = ',', default_value = "set,get,incr,mset")]
    pub(crate) workloads: Vec<Workload>,
    /// Requests in flight on each connection
    #[arg(long, value_delimiter = ',', default_value = "1,16,32,64")]
    pub(crate) pipelines: Vec<usize>,
    /// Connections
    #[arg(long, default_value_t = 50)]
    pub(crate) connections: usize,
    /// Bytes of a value
    #[arg(long, default_value_t = 64)]
    pub(crate) value_bytes: usize,
    /// Keys, used at random
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) keys: u32,
}

/// Who sends the requests.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum GeneratorKind {
    /// This program
    Own,
    /// redis-benchmark
    RedisBenchmark,
}

/// A server with the connections that load it.
struct Subject {
    server: Server,
    dialect: Dialect,
    generator: Generator,
}

/// Runs the comparison.
pub(crate) fn run(arguments: &Compare) -> Result<()> {
    let mut report = Report::new("Throughput and CPU a request", arguments.setup.json.as_deref());
    arguments.setup.pin_generator()?;
    let programs = programs(arguments)?;
    introduce(&report, arguments, &programs);
    let mut subjects = programs.iter().map(|program| start(program, arguments)).collect::<Result<Vec<_>>>()?;

    let mut table = Table::new(&[
        "command",
        "pipeline",
        "server",
        "K req/s",
        "lowest to highest",
        "ratio",
        "CPU us/req",
        "CPU ratio",
        "load's core",
    ]);
    let mut raw = Vec::new();
    for workload in arguments.load.workloads.iter().copied() {
        let requests = prepare(&mut subjects, workload, arguments)?;
        for pipeline in arguments.load.pipelines.iter().copied() {
            eprintln!("{} at pipeline {pipeline}", workload.name());
            let rounds = measure_rounds(&mut subjects, workload, &requests, pipeline, arguments)?;
            add_rows(&mut table, &subjects, workload, pipeline, &rounds);
            for (subject, rounds) in subjects.iter().zip(rounds).filter(|(_, rounds)| !rounds.is_empty()) {
                raw.push(json!({"command": workload.name(), "pipeline": pipeline, "server": subject.server.name, "rounds": rounds}));
            }
        }
    }
    report.table("medians", &table);
    report.figures("measurements", raw.into());
    report.finish()
}

fn programs(arguments: &Compare) -> Result<Vec<Program>> {
    let mut programs = arguments.setup.programs()?;
    programs.extend(arguments.floor.clone().map(|path| Program {
        name: "floor".into(),
        note: path.display().to_string(),
        path,
        dialect: Dialect::Floor,
        preload: None,
        arguments: Vec::new(),
    }));
    Ok(programs)
}

fn start(program: &Program, arguments: &Compare) -> Result<Subject> {
    let server = arguments.setup.start(program)?;
    let generator = Generator::connect(server.port, arguments.load.connections)?;
    Ok(Subject { server, dialect: program.dialect, generator })
}

fn introduce(report: &Report, arguments: &Compare, programs: &[Program]) {
    let load = &arguments.load;
    report.say(&format!(
        "{} {} connections, {} keys, values of {} B, median of {} rounds of {} s, servers taking turns; load by {}. \
         Ratios are EagleDB's figure to this server's.",
        arguments.setup.describe(programs),
        load.connections,
        load.keys,
        load.value_bytes,
        arguments.rounds,
        arguments.seconds,
        match arguments.generator {
            GeneratorKind::Own => "eagle-bench",
            GeneratorKind::RedisBenchmark => "redis-benchmark",
        },
    ));
}

/// Gives every server the keys of the workload and nothing else; returns the requests to send.
fn prepare(subjects: &mut [Subject], workload: Workload, arguments: &Compare) -> Result<Requests> {
    let load = &arguments.load;
    let mut rng = Rng::with_seed(1);
    let writer = workload.writer();
    let fill = writer.requests(load.keys, load.value_bytes, &mut rng);
    for subject in subjects.iter_mut().filter(|subject| takes(subject, workload)) {
        if subject.dialect != Dialect::Floor {
            subject.server.client()?.expect_ok(&["FLUSHALL"])?;
        }
        match arguments.generator {
            GeneratorKind::Own => subject.generator.run(&[&fill], FILL_PIPELINE, Goal::Once)?,
            GeneratorKind::RedisBenchmark => {
                redis_benchmark::run_requests(subject.server.port, writer, FILL_PIPELINE, load, u64::from(load.keys))?
            }
        };
    }
    Ok(workload.requests(load.keys, load.value_bytes, &mut rng))
}

/// The floor is a toy that knows two commands.
fn takes(subject: &Subject, workload: Workload) -> bool {
    subject.dialect != Dialect::Floor || matches!(workload, Workload::Set | Workload::Get)
}

/// The measurements of each server, in the order of the servers.
fn measure_rounds(
    subjects: &mut [Subject],
    workload: Workload,
    requests: &Requests,
    pipeline: usize,
    arguments: &Compare,
) -> Result<Vec<Vec<Measure>>> {
    let mut rounds = vec![Vec::new(); subjects.len()];
    for _ in 0..arguments.rounds {
        for (subject, measures) in subjects.iter_mut().zip(&mut rounds) {
            if takes(subject, workload) {
                measures.push(measure_once(subject, workload, requests, pipeline, arguments)?);
            }
        }
    }
    Ok(rounds)
}

fn measure_once(
    subject: &mut Subject,
    workload: Workload,
    requests: &Requests,
    pipeline: usize,
    arguments: &Compare,
) -> Result<Measure> {
    let port = subject.server.port;
    let duration = Duration::from_secs_f64(arguments.seconds);
    let mut load = |duration: Duration| -> Result<Tally> {
        match arguments.generator {
            GeneratorKind::Own => subject.generator.run(&[requests], pipeline, Goal::For(duration)),
            GeneratorKind::RedisBenchmark => redis_benchmark::run(port, workload, pipeline, &arguments.load, duration),
        }
    };
    load(WARM_UP)?;
    measure(&subject.server, || load(duration))
}

fn add_rows(table: &mut Table, subjects: &[Subject], workload: Workload, pipeline: usize, rounds: &[Vec<Measure>]) {
    let rate = |measures: &[Measure]| median(measures.iter().map(|measure| measure.rate));
    let cpu = |measures: &[Measure]| median(measures.iter().map(|measure| measure.cpu_us));
    let (our_rate, our_cpu) = (rate(&rounds[0]), cpu(&rounds[0]));
    for (number, (subject, measures)) in subjects.iter().zip(rounds).enumerate() {
        if measures.is_empty() {
            continue;
        }
        let ratio = |ours: f64, theirs: f64| {
            if number == 0 { String::new() } else { format!("{:.2}", ours / theirs) }
        };
        let rates = measures.iter().map(|measure| measure.rate / 1e3);
        let (lowest, highest) = (rates.clone().fold(f64::MAX, f64::min), rates.fold(0.0, f64::max));
        table.row(vec![
            workload.name().into(),
            pipeline.to_string(),
            subject.server.name.clone(),
            format!("{:.1}", rate(measures) / 1e3),
            format!("{lowest:.0} to {highest:.0}"),
            ratio(our_rate, rate(measures)),
            format!("{:.3}", cpu(measures)),
            ratio(our_cpu, cpu(measures)),
            format!("{:.0} %", 100.0 * median(measures.iter().map(|measure| measure.load_share))),
        ]);
    }
}
