//! Heat is how lately a key was used, in the 10 bits that its index entry has for it.
//!
//! ```text
//!   9   8                    0
//!  ├───┼──────────────────────┤
//!  │ 0 │ second     mod 512   │   used within the last minutes: exact to the second
//!  │ 1 │ 512 seconds  mod 512 │   used before: exact to 512 s, up to [`IDLE_SECONDS_MAX`]
//!  └───┴──────────────────────┘
//! ```
//!
//! A use stores the second it happened in, and only if that changes the bits: a hot key's entry is written once a
//! second. Both halves wrap around, so a pass over the whole index must come by every [`AGING_PERIOD_SECONDS`] at the
//! latest ([`aged`]); it turns fine heat into coarse heat and holds what is older than the coarse half reaches at its
//! end. A pass reads 8 bytes a key every few minutes; it is part of the shard's background work.
//!
//! Redis keeps 24 bits of seconds in each object (`server.h`, `LRU_BITS`); it shows them by `OBJECT IDLETIME`.

use crate::call::UnixMs;

/// A use becomes coarse once it lies this far back.
const FINE_SECONDS: u64 = 256;
/// A pass of aging must visit each entry at least once in this time: fine heat wraps 512 s after the use.
pub(crate) const AGING_PERIOD_SECONDS: u64 = 128;
/// Seconds of a unit of coarse heat.
const COARSE_SECONDS: u64 = 512;
/// The longest time without use that is told apart: some 69 hours.
pub const IDLE_SECONDS_MAX: u64 = COARSE_SECONDS * (COARSE_UNITS_MAX);
const COARSE_UNITS_MAX: u64 = 488;

const COARSE: u16 = 1 << 9;
const MASK: u64 = (1 << 9) - 1;

// Fine heat is still right when the next pass finds it, coarse heat too.
const _: () = assert!(FINE_SECONDS + AGING_PERIOD_SECONDS < MASK);
const _: () = assert!((COARSE_UNITS_MAX + 1) * COARSE_SECONDS + AGING_PERIOD_SECONDS < (MASK - 2) * COARSE_SECONDS);

/// The heat of a key that is used now.
#[inline]
pub(crate) fn used(now: UnixMs) -> u16 {
    ((now.0 / 1000) & MASK) as u16
}

/// The heat of a key that was last used `idle_seconds` ago.
pub(crate) fn used_before(now: UnixMs, idle_seconds: u64) -> u16 {
    let second = now.0 / 1000;
    let then = second.saturating_sub(idle_seconds.min(IDLE_SECONDS_MAX));
    if second - then < FINE_SECONDS { (then & MASK) as u16 } else { COARSE | ((then / COARSE_SECONDS) & MASK) as u16 }
}

/// Seconds since the key with this heat was last used; coarse heat counts from the end of its unit.
pub(crate) fn idle_seconds(heat: u16, now: UnixMs) -> u64 {
    let (second, bits) = (now.0 / 1000, u64::from(heat) & MASK);
    if heat & COARSE == 0 {
        return second.wrapping_sub(bits) & MASK;
    }
    let units = (second / COARSE_SECONDS).wrapping_sub(bits) & MASK;
    units * COARSE_SECONDS + second % COARSE_SECONDS
}

/// The same heat in the form in which it stays right until the next pass.
#[inline]
pub(crate) fn aged(heat: u16, now: UnixMs) -> u16 {
    let idle = idle_seconds(heat, now);
    if idle < FINE_SECONDS || heat & COARSE != 0 && idle <= IDLE_SECONDS_MAX { heat } else { used_before(now, idle) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_exact_for_minutes_and_coarse_for_days() {
        // With a pass of aging at least every AGING_PERIOD_SECONDS, the idle time never strays by more than a coarse unit.
        let start = 1_700_000_123_456;
        for phase in [0, 1, 255, 511, 777] {
            let begin = UnixMs(start + phase * 1000);
            let mut heat = used(begin);
            for second in 0..IDLE_SECONDS_MAX + 100_000 {
                let now = UnixMs(begin.0 + second * 1000);
                if second % AGING_PERIOD_SECONDS == 0 {
                    heat = aged(heat, now);
                }
                let idle = idle_seconds(heat, now);
                if second < FINE_SECONDS {
                    assert_eq!(idle, second);
                } else if second < IDLE_SECONDS_MAX {
                    assert!(idle.abs_diff(second) <= COARSE_SECONDS, "{idle} s shown after {second} s");
                } else {
                    assert!(idle >= IDLE_SECONDS_MAX - COARSE_SECONDS, "{idle} s shown after {second} s");
                }
            }
        }
    }

    #[test]
    fn idle_time_given_is_idle_time_shown() {
        // RESTORE with IDLETIME, and keys carried between shards, keep their age to a coarse unit.
        let now = UnixMs(1_700_000_000_000);
        for idle in [0, 1, 100, 255, 256, 1000, 86_400, IDLE_SECONDS_MAX, 1 << 40] {
            let shown = idle_seconds(used_before(now, idle), now);
            assert!(shown.abs_diff(idle.min(IDLE_SECONDS_MAX)) <= COARSE_SECONDS, "{idle} shown as {shown}");
        }
    }
}
