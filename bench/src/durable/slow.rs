//! A disk whose syncs are late: who has to wait for them, and who does not.
//!
//! Under `sync always`, connections write some keys without a pause, while one connection reads others, which are long committed, and one
//! sends PINGs. That is measured as it is and with every sync late by some milliseconds (`DEBUG STORAGE DELAY-SYNC`): the writers then wait
//! as long, the other two must not notice.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use fastrand::Rng;
use serde_json::json;

use super::{Durable, Mode, Subject, WARM_UP};
use crate::generator::{Generator, Goal};
use crate::measure::FILL_PIPELINE;
use crate::report::{Report, Table};
use crate::requests::{Requests, shuffled};

/// Connections that write, each with one request in flight.
const WRITERS: usize = 16;
/// PINGs of a list.
const PINGS: usize = 1000;

/// What one of the loads saw.
#[derive(serde::Serialize)]
struct Seen {
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

/// Runs it for EagleDB.
pub(super) fn run(arguments: &Durable, late_ms: u32) -> Result<()> {
    let mut report = Report::new("A disk whose syncs are late", arguments.setup.json.as_deref());
    let mut program = arguments.setup.eagledb(1)?;
    program.arguments.extend(["--enable-debug-command", "yes"].map(String::from));
    let Subject { server, .. } = Subject::start(arguments, &program, Mode::Always, &arguments.parent()?)?;
    let mut rng = Rng::with_seed(3);
    let (committed, written) = (shuffled(0..arguments.keys, &mut rng), arguments.keys..2 * arguments.keys);
    let size = |_| arguments.value_bytes;
    let write = Requests::set(&shuffled(written, &mut rng), size, None);
    let loads = [
        ("SET", WRITERS, write),
        ("GET of committed keys", 1, Requests::get(&committed, arguments.value_bytes)),
        ("PING", 1, Requests::ping(PINGS)),
    ];
    Generator::connect(server.port, WRITERS)?.run(
        &[&Requests::set(&committed, size, None)],
        FILL_PIPELINE,
        Goal::Once,
    )?;
    report.say(&format!(
        "{} sync always, {WRITERS} connections that write, one that reads {} committed keys, one that sends PINGs, {} s each.",
        arguments.setup.describe(&[program]),
        arguments.keys,
        arguments.seconds,
    ));
    let mut table = Table::new(&["syncs", "request", "a second", "p50 us", "p99 us", "p99.9 us"]);
    let mut raw = Vec::new();
    for late_ms in [0, late_ms] {
        let fault = if late_ms == 0 { vec!["OFF".into()] } else { vec!["DELAY-SYNC".into(), late_ms.to_string()] };
        let mut request = vec!["DEBUG", "STORAGE"];
        request.extend(fault.iter().map(String::as_str));
        server.client()?.expect_ok(&request)?;
        let syncs = if late_ms == 0 { "as they are".to_string() } else { format!("{late_ms} ms late") };
        for ((name, ..), seen) in loads.iter().zip(measure(arguments, server.port, &loads)?) {
            let mut row = vec![syncs.clone(), (*name).into(), format!("{:.0}", seen.rate)];
            row.extend([seen.p50_us, seen.p99_us, seen.p999_us].map(|us| format!("{us:.0}")));
            table.row(row);
            raw.push(json!({"late_ms": late_ms, "request": name, "seen": seen}));
        }
    }
    report.table("delays", &table);
    report.figures("measurements", raw.into());
    report.finish()
}

/// All loads at once, each from a thread of its own, for the time of a measurement.
fn measure(arguments: &Durable, port: u16, loads: &[(&str, usize, Requests)]) -> Result<Vec<Seen>> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let begin = |(_, connections, requests): &'_ (&str, usize, Requests)| -> Result<Seen> {
            let mut generator = Generator::connect(port, *connections)?;
            generator.run(&[requests], 1, Goal::For(WARM_UP))?;
            generator.take_delays();
            let tally = generator.run(&[requests], 1, Goal::For(arguments.duration()))?;
            let delays = generator.take_delays();
            // Whoever is done first goes on, so that the others are measured beside it.
            while !is_over.load(Ordering::Relaxed) {
                generator.run(&[requests], 1, Goal::For(WARM_UP))?;
            }
            let us = |quantile| delays.value_at_quantile(quantile) as f64 / 1e3;
            Ok(Seen { rate: tally.rate(), p50_us: us(0.5), p99_us: us(0.99), p999_us: us(0.999) })
        };
        let threads: Vec<_> = loads.iter().map(|load| scope.spawn(move || begin(load))).collect();
        std::thread::sleep(WARM_UP + arguments.duration());
        is_over.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
