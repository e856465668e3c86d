//! Bytes written a command: what the kernel says that each server gave it to write, over the commands that it answered.
//!
//! Growing counts (a pool's new extents are zeros first), and so does compaction; what the file system writes for itself does not.

use anyhow::Result;
use fastrand::Rng;

use super::{Durable, Mode, Subject};
use crate::generator::{Generator, Goal};
use crate::report::{Report, Table, median};
use crate::requests::{Requests, shuffled};

/// Bytes of a value here.
const VALUE_BYTES: usize = 100;
/// Fields of a hash, and counters.
const FIELDS: u32 = 100;
const COUNTERS: u32 = 100;

/// Measures all servers that keep anything.
pub(super) fn measure_all(arguments: &Durable, report: &mut Report, subjects: &[Subject]) -> Result<()> {
    let mut rng = Rng::with_seed(2);
    let order = shuffled(0..arguments.keys, &mut rng);
    let counters: Vec<u32> = (0..50_000).map(|_| rng.u32(0..COUNTERS)).collect();
    let loads: [(String, Requests); 3] = [
        (format!("SET of {VALUE_BYTES} B"), Requests::set(&order, |_| VALUE_BYTES, None)),
        (format!("HSET into hashes of {FIELDS} fields"), Requests::hset(&order, FIELDS, VALUE_BYTES)),
        (format!("INCR of {COUNTERS} keys"), Requests::incr(&counters)),
    ];
    let mut table = Table::new(&["command", "server", "bytes a command, 50 x 1", "50 x 32"]);
    for (name, requests) in &loads {
        eprintln!("bytes of {name}");
        let mut bytes = vec![[Vec::new(), Vec::new()]; subjects.len()];
        for round in 0..arguments.rounds {
            for (subject, bytes) in subjects.iter().zip(&mut bytes).filter(|(subject, _)| subject.mode != Mode::None) {
                let mut generator = Generator::connect(subject.server.port, 50)?;
                if round == 0 {
                    // Fields that are there before make overwrites of all that is measured.
                    generator.run(&[requests], 32, Goal::Once)?;
                }
                for (pipeline, bytes) in [1, 32].into_iter().zip(bytes) {
                    let before = subject.server.written_bytes()?;
                    let tally = generator.run(&[requests], pipeline, Goal::For(arguments.duration()))?;
                    bytes.push((subject.server.written_bytes()? - before) as f64 / tally.requests as f64);
                }
            }
        }
        for (subject, bytes) in subjects.iter().zip(bytes).filter(|(subject, _)| subject.mode != Mode::None) {
            let [one, many] = bytes.map(|bytes| format!("{:.0}", median(bytes)));
            table.row(vec![name.clone(), subject.server.name.clone(), one, many]);
        }
    }
    report.table("bytes", &table);
    Ok(())
}
