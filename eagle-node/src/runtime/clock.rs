//! The clock is read once a turn; what the turn does, it does at that moment.

use std::{
    sync::LazyLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use eagle_shard::call::UnixMs;

use crate::core::{event::Now, laps::Stopwatch};

/// The wall clock and the time since the node started, the same for all cores.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic time begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks: two calls into the vDSO, some 40 ns.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix_us = unix_us();
        let unix = UnixMs(unix_us / 1000).min(UnixMs::MAX);
        Now { unix, unix_sub_us: (unix_us % 1000) as u16, mono_us: self.mono_us() }
    }

    /// Microseconds since [`Clock::start`].
    #[must_use]
    pub fn mono_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).expect("half a million years")
    }
}

/// Reads the monotonic clock, some 30 ns.
#[must_use]
pub fn stopwatch() -> Stopwatch {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // One more: 0 is no time.
    Stopwatch(|| 1 + u64::try_from(START.elapsed().as_nanos()).expect("half a thousand years"))
}

/// Microseconds since 1970.
fn unix_us() -> u64 {
    let us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros());
    u64::try_from(us).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Clock;

    #[test]
    fn the_clock_runs_and_tells_this_century() {
        // Shows the units: milliseconds since 1970 and microseconds since the start.
        let clock = Clock::start();
        let first = clock.now();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let second = clock.now();
        assert!(first.unix.0 > 1_700_000_000_000 && first.unix.0 < 4_000_000_000_000);
        assert!((2_000..60_000_000).contains(&(second.mono_us - first.mono_us)));
    }
}
