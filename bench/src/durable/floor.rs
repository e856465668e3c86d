//! The floor: what the file system itself takes to keep one record after the other.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::Durable;
use crate::generator::no_delays;
use crate::process;
use crate::requests::KEY_BYTES;

/// Bytes of the file, which is gone through again and again.
const FILE_BYTES: usize = 64 << 20;
/// Bytes of a record beside key and value.
const HEADER_BYTES: usize = 10;

/// One measurement.
#[derive(Clone, Copy, serde::Serialize)]
pub(super) struct Floor {
    /// Records a second.
    pub(super) rate: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
}

/// Appends records for the time of a measurement, each synced before the next, on the servers' core.
pub(super) fn measure(arguments: &Durable, parent: &Path) -> Result<Floor> {
    let file = tempfile::tempfile_in(parent)?;
    file.write_all_at(&vec![0; FILE_BYTES], 0)?;
    file.sync_all()?;
    let core = arguments.setup.server_core;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            process::pin_this_thread(&[core])?;
            append(arguments, &file)
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn append(arguments: &Durable, file: &File) -> Result<Floor> {
    let record = vec![b'x'; (HEADER_BYTES + KEY_BYTES + arguments.value_bytes).next_multiple_of(8)];
    let mut delays = no_delays();
    let (started, mut at) = (Instant::now(), 0);
    while started.elapsed() < arguments.duration() {
        let begun = Instant::now();
        file.write_all_at(&record, at)?;
        file.sync_data()?;
        delays.saturating_record(begun.elapsed().as_nanos() as u64);
        at = (at + record.len() as u64) % (FILE_BYTES - record.len()) as u64;
    }
    let us = |quantile| delays.value_at_quantile(quantile) as f64 / 1e3;
    let rate = delays.len() as f64 / started.elapsed().as_secs_f64();
    Ok(Floor { rate, p50_us: us(0.5), p99_us: us(0.99), p999_us: us(0.999) })
}
