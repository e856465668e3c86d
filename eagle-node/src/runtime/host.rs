//! The host is what the process runs on, and its book-keeping about the process; `INFO` shows both.
//!
//! Read from the system by the main thread: what never changes at the start, the rest about ten times a second.

use std::{ffi::CStr, fs, mem::MaybeUninit, sync::atomic::Ordering};

use crate::shared::{Host, Shared};

/// What never changes.
pub(super) fn read() -> Host {
    let executable = std::env::current_exe();
    Host {
        os: system(),
        executable: executable.map_or_else(|_| String::new(), |path| path.display().to_string()),
        memory_bytes: memory().unwrap_or(0),
        supervisor: "",
    }
}

/// Reads again what changes: resident memory and time on the processors.
pub(super) fn refresh(shared: &Shared) {
    if let Some(bytes) = resident() {
        shared.rss_bytes.store(bytes, Ordering::Relaxed);
    }
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: `usage` is a place for the answer; its fields are integers, for which zeros are a value.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    shared.cpu_user_us.store(micros(usage.ru_utime), Ordering::Relaxed);
    shared.cpu_system_us.store(micros(usage.ru_stime), Ordering::Relaxed);
}

/// System, version and machine: `Linux 6.1.0 x86_64`.
fn system() -> String {
    let mut names = MaybeUninit::<libc::utsname>::zeroed();
    // SAFETY: `names` is a place for the answer; its fields are arrays of bytes, for which zeros are a value.
    let names = unsafe {
        libc::uname(names.as_mut_ptr());
        names.assume_init()
    };
    let text = |name: &[libc::c_char]| {
        let bytes: Vec<u8> = name.iter().map(|byte| *byte as u8).collect();
        CStr::from_bytes_until_nul(&bytes).map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
    };
    format!("{} {} {}", text(&names.sysname), text(&names.release), text(&names.machine))
}

/// The machine's memory in bytes.
fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// Memory of the process that is not swapped out or shared away, in bytes.
fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    // SAFETY: asks for a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Some(pages * u64::try_from(page).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_system_says_what_it_is_and_what_was_used() {
        // Plausible figures of this very process, which has run and has memory.
        let host = read();
        assert!(host.os.starts_with("Linux ") && host.os.split(' ').count() == 3, "{host:?}");
        assert!(host.executable.starts_with('/') && host.memory_bytes > 1 << 26, "{host:?}");
        let shared = Shared::new(Config::default(), 1, 0, 0);
        let mut sum = 0u64;
        while shared.cpu_user_us.load(Ordering::Relaxed) + shared.cpu_system_us.load(Ordering::Relaxed) == 0 {
            sum = std::hint::black_box((0..100_000).fold(sum, u64::wrapping_add));
            refresh(&shared);
        }
        let rss = shared.rss_bytes.load(Ordering::Relaxed);
        assert!(rss > 1 << 16 && rss < host.memory_bytes, "{rss}");
    }
}
