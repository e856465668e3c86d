//! What the kernel says of a process from outside: CPU time used, memory resident, where threads may run.
//!
//! `/proc/PID/stat` counts the whole process: its io_uring workers are threads of it, so their time is in the figure.
//! Memory is taken from `smaps_rollup`, which is exact where the counters of `statm` lag behind by pages a core.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::thread::CpuSet;

/// A core of the machine as the kernel numbers them.
pub(crate) type Core = usize;

/// Lets the calling thread, and what it starts from now on, run on these cores only.
pub(crate) fn pin_this_thread(cores: &[Core]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {cores:?}"))
}

/// User and system time that the process and its ended threads have used, in seconds, to the kernel's tick (10 ms).
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    Ok(cpu_times(&format!("/proc/{pid}/stat"))?.own)
}

/// The same of this process, with the children that it has waited for.
pub(crate) fn own_cpu_seconds() -> Result<f64> {
    let times = cpu_times("/proc/self/stat")?;
    Ok(times.own + times.children)
}

/// CPU time in seconds, user and system together.
#[derive(Debug, PartialEq)]
struct CpuTimes {
    /// The process with all its threads.
    own: f64,
    /// Its children that have ended and were waited for.
    children: f64,
}

fn cpu_times(path: &str) -> Result<CpuTimes> {
    let stat = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    parse_cpu_times(&stat, rustix::param::clock_ticks_per_second()).with_context(|| format!("{path} reads: {stat}"))
}

/// utime, stime, cutime and cstime: fields 14 to 17. The name in field 2 may hold blanks and parentheses.
fn parse_cpu_times(stat: &str, ticks_per_second: u64) -> Option<CpuTimes> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_ascii_whitespace().skip(14 - 3);
    let mut seconds = || Some(fields.next()?.parse::<u64>().ok()? as f64 / ticks_per_second as f64);
    let (user, system, user_children, system_children) = (seconds()?, seconds()?, seconds()?, seconds()?);
    Some(CpuTimes { own: user + system, children: user_children + system_children })
}

/// Bytes of memory that are resident for the process.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64> {
    kilobytes_field(&format!("/proc/{pid}/smaps_rollup"), "Rss:")
}

/// Bytes of memory that are resident for the process, to within some hundred KiB. Read from counters: [`resident_bytes`] goes over
/// all of its pages, 14 ms for each GB, in which neither the process may map memory nor this one poll its sockets.
pub(crate) fn resident_bytes_roughly(pid: u32) -> Result<u64> {
    kilobytes_field(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// The most bytes of memory that were ever resident for the process.
pub(crate) fn peak_resident_bytes(pid: u32) -> Result<u64> {
    kilobytes_field(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// A `Name:   123 kB` line of a file of `/proc`, in bytes.
fn kilobytes_field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let Some(bytes) = parse_kilobytes(&text, name) else { bail!("{path} has no line {name}") };
    Ok(bytes)
}

fn parse_kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Bytes that the device under a folder has written for whomever; `None` where there is no such device.
pub(crate) fn device_written_bytes(folder: &Path) -> Result<Option<u64>> {
    let device = fs::metadata(folder)?.dev();
    let path = format!("/sys/dev/block/{}:{}/stat", rustix::fs::major(device), rustix::fs::minor(device));
    let Ok(stat) = fs::read_to_string(&path) else { return Ok(None) };
    // The seventh figure: sectors of 512 bytes written.
    let sectors = stat.split_ascii_whitespace().nth(6).and_then(|sectors| sectors.parse::<u64>().ok());
    Ok(Some(sectors.with_context(|| format!("{path} reads: {stat}"))? * 512))
}

/// Raises the number of files that this process and its children may open to the hard limit, and returns it.
pub(crate) fn raise_open_files_limit() -> Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("cannot raise the limit of open files")?;
    Ok(maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_with_blanks_and_parentheses() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 200 0 0 0 11 22 3 4 20 0 5 0 100 1000 10 184467";
        let expected = CpuTimes { own: 0.33, children: 0.07 };
        assert_eq!(parse_cpu_times(stat, 100), Some(expected));
        assert_eq!(parse_cpu_times("42 (cut off", 100), None);
    }

    #[test]
    fn this_process_uses_cpu_and_memory() {
        // Shows that the files parse as this kernel writes them.
        let pid = std::process::id();
        let before = cpu_seconds(pid).unwrap();
        let mut sum = 0_u64;
        while cpu_seconds(pid).unwrap() < before + 0.02 {
            sum = (0..100_000_u64).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        assert!(resident_bytes(pid).unwrap() > 100_000);
        assert!(peak_resident_bytes(pid).unwrap() >= 100_000);
    }

    #[test]
    fn kilobytes_are_read_by_the_name_of_their_line() {
        let text = "VmHWM:\t  3 kB\nVmRSS:\t    2048 kB\n";
        assert_eq!(parse_kilobytes(text, "VmRSS:"), Some(2 << 20));
        assert_eq!(parse_kilobytes(text, "Rss:"), None);
    }
}
