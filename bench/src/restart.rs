//! `eagle-bench restart`: how long a server takes to end, and how long from the start of its process until it answers and has all its keys.
//!
//! Each server is loaded, then ended by `kill -9` and started, some times, then by SIGTERM, in the same folder; EagleDB with pools in
//! files, the peers once with an append-only file and once with a snapshot (one is made when they are loaded). So after `kill -9`
//! EagleDB replays its whole log, unless it has made a checkpoint by itself, and after SIGTERM it has one. Times are seen by a client that asks again
//! and again: to the first PONG, to the first GET that is answered, and until INFO says that nothing is being loaded.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::process::Signal;
use serde_json::json;

use crate::client::{Client, Reply, info_field};
use crate::generator::Generator;
use crate::measure::{FILL_PIPELINE, write_keys};
use crate::report::{Report, Table, median};
use crate::server::{Dialect, Program, Server, folder};
use crate::setup::{Setup, target_dir};

/// How long a server may take to end or to start.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two questions to a server that starts.
const PAUSE: Duration = Duration::from_micros(500);
/// Keys that are loaded between two moves of the bar.
const STEP_KEYS: u32 = 100_000;

/// Arguments of `restart`.
#[derive(clap::Args)]
pub(crate) struct Restart {
    #[command(flatten)]
    setup: Setup,
    /// Where the servers' folders are made [default: cargo's target folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keys
    #[arg(long, value_delimiter = ',', default_value = "5000000")]
    keys: Vec<u32>,
    /// Bytes of a value
    #[arg(long, default_value_t = 64)]
    value_bytes: usize,
    /// Times that each is ended and started; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// Seconds of one end and start.
#[derive(Clone, Copy, serde::Serialize)]
struct Times {
    end: f64,
    pong: f64,
    get: f64,
    loaded: f64,
    /// CPU seconds of the server until then.
    cpu: f64,
}

/// Measures all servers with all numbers of keys.
pub(crate) fn run(arguments: &Restart) -> Result<()> {
    let mut report = Report::new("Ends and starts", arguments.setup.json.as_deref());
    arguments.setup.pin_generator()?;
    let programs = arguments.setup.programs()?;
    report.say(&format!(
        "{} Values of {} B, medians of {} rounds. Times from the start of the process.",
        arguments.setup.describe(&programs),
        arguments.value_bytes,
        arguments.rounds
    ));
    let heads =
        ["keys", "server", "ended by", "end s", "PONG ms", "GET ms", "all loaded ms", "M keys/s", "M keys/CPU s"];
    let mut table = Table::new(&heads);
    let mut raw = Vec::new();
    for keys in arguments.keys.iter().copied() {
        for program in programs.iter().flat_map(variants) {
            let (orderly, killed) = measure(arguments, &program, keys)?;
            for (how, times) in [("kill -9", killed), ("SIGTERM", orderly)] {
                let middle = |figure: fn(&Times) -> f64| median(times.iter().map(figure));
                let loaded = middle(|times| times.loaded);
                table.row(vec![
                    keys.to_string(),
                    program.name.clone(),
                    how.into(),
                    format!("{:.2}", middle(|times| times.end)),
                    format!("{:.0}", middle(|times| times.pong) * 1e3),
                    format!("{:.0}", middle(|times| times.get) * 1e3),
                    format!("{:.0}", loaded * 1e3),
                    format!("{:.2}", f64::from(keys) / loaded / 1e6),
                    format!("{:.2}", f64::from(keys) / middle(|times| times.cpu).max(0.01) / 1e6),
                ]);
                raw.push(json!({"keys": keys, "server": program.name, "ended by": how, "times": times}));
            }
        }
    }
    report.table("medians", &table);
    report.figures("measurements", raw.into());
    report.finish()
}

/// The ways in which a program keeps its keys.
fn variants(program: &Program) -> Vec<Program> {
    let ways: &[(&str, &[&str])] = match program.dialect {
        Dialect::Eagle { .. } => &[("", &["--pool", "file"])],
        _ => &[
            (" AOF", &["--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"]),
            (" RDB", &["--save", "31536000 1"]),
        ],
    };
    let variant = |(name, words): &(&str, &[&str])| {
        let mut program = program.clone();
        program.name += name;
        program.arguments.extend(words.iter().map(ToString::to_string));
        program
    };
    ways.iter().map(variant).collect()
}

/// Times after SIGTERM, and after `kill -9`.
fn measure(arguments: &Restart, program: &Program, keys: u32) -> Result<(Vec<Times>, Vec<Times>)> {
    let parent = arguments.dir.clone().map_or_else(target_dir, Ok)?;
    let cores = [arguments.setup.server_core];
    let mut server = Server::start_in(program, &cores, folder(Some(&parent))?)?;
    load(&server, keys, arguments.value_bytes)?;
    let (mut orderly, mut killed) = (Vec::new(), Vec::new());
    if program.arguments.iter().any(|word| word == "--save") {
        server.client()?.expect_ok(&["SAVE"])?;
    }
    for (signal, all) in [(Signal::KILL, &mut killed), (Signal::TERM, &mut orderly)] {
        for _ in 0..arguments.rounds {
            // As after any while of service: something was written since the start.
            write_keys(&mut Generator::connect(server.port, 1)?, &[0, 1, 2], |_| arguments.value_bytes, None, 1)?;
            let end = server.end(signal, PATIENCE)?.as_secs_f64();
            let started = Instant::now();
            let next = Server::launch(program, &cores, server.folder())?;
            server = next;
            let times = watch(&mut server, started, end, keys)?;
            eprintln!("{}, {signal:?}: {}", program.name, serde_json::to_string(&times)?);
            all.push(times);
        }
    }
    Ok((orderly, killed))
}

fn load(server: &Server, keys: u32, value_bytes: usize) -> Result<()> {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} keys, {per_sec}, {eta}")?;
    let bar = ProgressBar::new(keys.into()).with_style(style).with_message(server.name.clone());
    let mut generator = Generator::connect(server.port, 50)?;
    for first in (0..keys).step_by(STEP_KEYS as usize) {
        let order: Vec<u32> = (first..keys.min(first + STEP_KEYS)).collect();
        write_keys(&mut generator, &order, |_| value_bytes, None, FILL_PIPELINE)?;
        bar.inc(order.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Asks a server that starts until it has all keys.
fn watch(server: &mut Server, started: Instant, end: f64, keys: u32) -> Result<Times> {
    let until = |server: &mut Server, what: &str, is_so: &dyn Fn(&mut Client) -> Result<bool>| -> Result<f64> {
        let mut client = None;
        loop {
            ensure!(started.elapsed() < PATIENCE, "{} has no {what}:\n{}", server.name, server.output());
            ensure!(!server.has_ended()?, "{} ended at start:\n{}", server.name, server.output());
            if client.is_none() {
                client = Client::connect(server.port).ok();
            }
            match client.as_mut().map(is_so) {
                Some(Ok(true)) => return Ok(started.elapsed().as_secs_f64()),
                // It accepts before it serves, and may close what it accepted.
                Some(Err(_)) => client = None,
                Some(Ok(false)) | None => {}
            }
            std::thread::sleep(PAUSE);
        }
    };
    let pong = until(server, "PONG", &|client| Ok(client.call(&["PING"])? == Reply::Simple("PONG".into())))?;
    let get =
        until(server, "GET", &|client| Ok(matches!(client.call(&["GET", "key:0000000077"])?, Reply::Bulk(Some(_)))))?;
    let loaded = until(server, "end of loading", &|client| {
        let info = client.call(&["INFO", "persistence"])?.text()?;
        Ok(info_field(&info, "loading") == Some("0"))
    })?;
    let cpu = server.cpu_seconds()?;
    let found = server.client()?.call(&["DBSIZE"])?;
    ensure!(found == Reply::Integer(keys.into()), "{} has {found:?} keys of {keys}", server.name);
    Ok(Times { end, pong, get, loaded, cpu })
}
