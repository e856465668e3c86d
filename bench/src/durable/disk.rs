//! Bytes written a command: what the device under the folder wrote, over the commands that the server answered meanwhile.
//!
//! Everything counts: growing (a pool's new extents are zeros first), compaction, the file system's journal, and what others
//! on the machine write at the same time, which is why the lowest of the rounds is given beside the median. A last sync of the file
//! system ends each measurement, so that what a server left in the page cache is in the figure.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use fastrand::Rng;

use super::{Durable, Mode, Subject};
use crate::generator::{Generator, Goal};
use crate::process;
use crate::report::{Report, Table, median};
use crate::requests::{Requests, shuffled};

/// Bytes of a value here.
const VALUE_BYTES: usize = 100;
/// Bytes of the value of a field: small enough for a packed hash.
const FIELD_VALUE_BYTES: usize = 16;
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
        (format!("HSET into hashes of {FIELDS} fields"), Requests::hset(&order, FIELDS, FIELD_VALUE_BYTES)),
        (format!("INCR of {COUNTERS} keys"), Requests::incr(&counters)),
    ];
    let parent = arguments.parent()?;
    let heads = ["command", "server", "bytes a command, 50 x 1", "lowest", "50 x 32", "lowest"];
    let mut table = Table::new(&heads);
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
                    let before = synced_bytes(&parent)?;
                    let tally = generator.run(&[requests], pipeline, Goal::For(arguments.duration()))?;
                    bytes.push((synced_bytes(&parent)? - before) as f64 / tally.requests as f64);
                }
            }
        }
        for (subject, bytes) in subjects.iter().zip(bytes).filter(|(subject, _)| subject.mode != Mode::None) {
            let lowest = |bytes: &[f64]| bytes.iter().copied().fold(f64::MAX, f64::min);
            let mut row = vec![name.clone(), subject.server.name.clone()];
            row.extend(
                bytes
                    .iter()
                    .flat_map(|bytes| [median(bytes.iter().copied()), lowest(bytes)])
                    .map(|bytes| format!("{bytes:.0}")),
            );
            table.row(row);
        }
    }
    report.table("bytes", &table);
    Ok(())
}

/// What the device has written when nothing is left for it to write.
fn synced_bytes(folder: &Path) -> Result<u64> {
    rustix::fs::syncfs(File::open(folder)?)?;
    process::device_written_bytes(folder)?.context("no device lies under the folder: name another with --dir")
}
