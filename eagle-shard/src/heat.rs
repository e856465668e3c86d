//! Heat is how lately or how often a key was used, in the 10 bits that its index entry has for it: no key costs a byte more.
//!
//! ```text
//!  9     8 7               0
//!  ├───────┼────────────────┤
//!  │ level │ stamp  mod 256 │   recency: when it was used last, in units of 1, 8, 64 or 1024 s by the level
//!  │ epoch │ count          │   frequency: how often, as Redis counts; epoch: when it last decayed, mod 4
//!  └───────┴────────────────┘
//! ```
//!
//! **Recency** is kept for all policies but the two of frequency. A use stores the second it happened in, and only if that changes
//! the bits: a hot key's entry is written once a second. Stamps wrap around, so a pass over the whole index must come by every
//! [`AGING_PERIOD_SECONDS`] at the latest ([`Measure::aged`]); it moves what was not used for long to the next level, where an eighth
//! of the time it lies idle is the unit at most, and holds what is older than the last level reaches at its end.
//!
//! **Frequency** is Redis' logarithmic counter (`evict.c`, `LFULogIncr`): a use adds one with a probability that falls with the count
//! and `lfu-log-factor`; every `lfu-decay-time` minutes it loses one. Redis keeps the minute of the last use beside the count, in
//! 16 bits; here two bits know the last three decays, and the pass that ages brings all that is older up to date.
//!
//! When the policy changes from one to the other, all keys begin anew: as used now, or with Redis' initial count.
//!
//! A pass reads 8 bytes a key a minute; it is part of the shard's background work. Redis has 24 bits in each object
//! (`server.h`, `LRU_BITS`); it shows them by `OBJECT IDLETIME` and `OBJECT FREQ`.

use crate::call::UnixMs;

/// A pass of aging must visit each entry at least once in this time.
pub(crate) const AGING_PERIOD_SECONDS: u64 = 128;

/// Seconds of a unit, as a power of two, by level.
const UNIT_BITS: [u32; 4] = [0, 3, 6, 10];
/// Units after which the next level is better, or which are held: but for the last level few enough that the stamp is still
/// right a pass later.
const UNITS_MAX: [u64; 4] = [120, 120, 120, 240];
/// The longest time without use that is told apart: some 68 hours.
pub const IDLE_SECONDS_MAX: u64 = UNITS_MAX[3] << UNIT_BITS[3];

const STAMP_BITS: u32 = 8;
const STAMP: u64 = (1 << STAMP_BITS) - 1;

// A stamp is still right when the next pass finds it, on every level.
const _: () = assert!(UNITS_MAX[0] + AGING_PERIOD_SECONDS < STAMP);
const _: () = assert!(((UNITS_MAX[3] + 1) << UNIT_BITS[3]) + AGING_PERIOD_SECONDS < (STAMP - 1) << UNIT_BITS[3]);
// So are two bits of decays, once a minute at most.
const _: () = assert!(AGING_PERIOD_SECONDS < 3 * 60);

/// The count of a new key (`LFU_INIT_VAL`).
const COUNT_NEW: u8 = 5;

/// What heat tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Measure {
    /// How lately.
    #[default]
    Recency,
    /// How often.
    Frequency {
        /// The larger, the more uses a count stands for (`lfu-log-factor`).
        log_factor: u32,
        /// Minutes after which a count loses one (`lfu-decay-time`), 0 for never.
        decay_minutes: u32,
    },
}

impl Measure {
    /// The heat of a new key.
    #[inline]
    pub(crate) fn fresh(self, now: UnixMs) -> u16 {
        match self {
            Self::Recency => second_stamp(now),
            Self::Frequency { decay_minutes, .. } => frequency(epoch(now, decay_minutes), COUNT_NEW),
        }
    }

    /// The heat of a key that had this one and is used now.
    #[inline]
    pub(crate) fn used(self, heat: u16, now: UnixMs, rng: &mut fastrand::Rng) -> u16 {
        match self {
            Self::Recency => second_stamp(now),
            Self::Frequency { log_factor, decay_minutes } => {
                let count = decayed(heat, now, decay_minutes);
                frequency(epoch(now, decay_minutes), incremented(count, log_factor, rng))
            }
        }
    }

    /// The same heat in the form in which it stays right until the next pass.
    #[inline]
    pub(crate) fn aged(self, heat: u16, now: UnixMs) -> u16 {
        match self {
            Self::Recency => {
                let idle = idle_seconds(heat, now);
                let level = level(heat);
                if idle < UNITS_MAX[level] << UNIT_BITS[level] { heat } else { used_before(now, idle) }
            }
            Self::Frequency { decay_minutes, .. } => {
                frequency(epoch(now, decay_minutes), decayed(heat, now, decay_minutes))
            }
        }
    }

    /// How well the key can be done without: the colder, the better.
    #[inline]
    pub(crate) fn coldness(self, heat: u16, now: UnixMs) -> u64 {
        match self {
            Self::Recency => idle_seconds(heat, now),
            Self::Frequency { decay_minutes, .. } => u64::from(u8::MAX - decayed(heat, now, decay_minutes)),
        }
    }
}

/// The recency of a key that is used now.
#[inline]
fn second_stamp(now: UnixMs) -> u16 {
    ((now.0 / 1000) & STAMP) as u16
}

#[inline]
const fn level(heat: u16) -> usize {
    (heat >> STAMP_BITS) as usize & 3
}

/// The recency of a key that was last used `idle_seconds` ago.
pub(crate) fn used_before(now: UnixMs, idle_seconds: u64) -> u16 {
    let second = now.0 / 1000;
    let idle = idle_seconds.min(IDLE_SECONDS_MAX).min(second);
    let level = (0..3).find(|level| idle < UNITS_MAX[*level] << UNIT_BITS[*level]).unwrap_or(3);
    (level << STAMP_BITS) as u16 | (((second - idle) >> UNIT_BITS[level]) & STAMP) as u16
}

/// Seconds since the key with this recency was last used, counted from the end of its unit.
#[inline]
pub(crate) fn idle_seconds(heat: u16, now: UnixMs) -> u64 {
    let (second, bits) = (now.0 / 1000, UNIT_BITS[level(heat)]);
    let units = (second >> bits).wrapping_sub(u64::from(heat)) & STAMP;
    let within = second & ((1 << bits) - 1);
    // What was used within the unit that goes on was used now, for all that is known.
    if units == 0 { 0 } else { ((units - 1) << bits) + within + 1 }
}

/// The count of a key with this frequency, as it has decayed to by now.
#[inline]
pub(crate) fn decayed(heat: u16, now: UnixMs, decay_minutes: u32) -> u8 {
    let decays = if decay_minutes == 0 { 0 } else { epoch(now, decay_minutes).wrapping_sub(heat >> STAMP_BITS) & 3 };
    (heat as u8).saturating_sub(decays as u8)
}

/// How often counts have decayed up to now, mod 4.
#[inline]
fn epoch(now: UnixMs, decay_minutes: u32) -> u16 {
    if decay_minutes == 0 { 0 } else { ((now.0 / (u64::from(decay_minutes) * 60_000)) & 3) as u16 }
}

#[inline]
const fn frequency(epoch: u16, count: u8) -> u16 {
    (epoch << STAMP_BITS) | count as u16
}

/// Adds a use to a count: surely to a low one, ever less likely to a higher one.
#[inline]
fn incremented(count: u8, log_factor: u32, rng: &mut fastrand::Rng) -> u8 {
    let above = u64::from(count.saturating_sub(COUNT_NEW));
    let is_counted = rng.u64(..) <= u64::MAX / (above * u64::from(log_factor) + 1);
    count.saturating_add(u8::from(is_counted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_exact_for_minutes_and_to_an_eighth_for_days() {
        // With a pass of aging at least every AGING_PERIOD_SECONDS, the idle time never strays further.
        let start = 1_700_000_123_456;
        for phase in [0, 1, 255, 511, 777] {
            let begin = UnixMs(start + phase * 1000);
            let mut heat = Measure::Recency.fresh(begin);
            for second in 0..IDLE_SECONDS_MAX + 100_000 {
                let now = UnixMs(begin.0 + second * 1000);
                if second % AGING_PERIOD_SECONDS == 0 {
                    heat = Measure::Recency.aged(heat, now);
                }
                let idle = idle_seconds(heat, now);
                if second < UNITS_MAX[0] {
                    assert_eq!(idle, second);
                } else if second < IDLE_SECONDS_MAX {
                    assert!(idle.abs_diff(second) <= second / 6, "{idle} s shown after {second} s");
                } else {
                    assert!(idle >= IDLE_SECONDS_MAX - (2 << UNIT_BITS[3]), "{idle} s shown after {second} s");
                }
            }
        }
    }

    #[test]
    fn idle_time_given_is_idle_time_shown() {
        // RESTORE with IDLETIME, and keys carried between shards, keep their age to a sixth.
        let now = UnixMs(1_700_000_000_000);
        for idle in [0, 1, 100, 255, 256, 1000, 86_400, IDLE_SECONDS_MAX, 1 << 40] {
            let shown = idle_seconds(used_before(now, idle), now);
            let idle = idle.min(IDLE_SECONDS_MAX);
            assert!(shown.abs_diff(idle) <= idle / 6, "{idle} shown as {shown}");
        }
    }

    #[test]
    fn counts_grow_as_redis_documents() {
        // The table of redis.conf: counts after so many hits, by factor. Chance may stray some from it.
        let mut rng = fastrand::Rng::with_seed(5);
        for (log_factor, hits, count) in
            [(0, 100, 104), (0, 1000, 255), (1, 100, 18), (1, 1000, 49), (10, 100, 10), (10, 1000, 18), (100, 1000, 11)]
        {
            let measure = Measure::Frequency { log_factor, decay_minutes: 0 };
            let rounds = 50;
            let total: u32 = (0..rounds)
                .map(|_| {
                    let mut heat = measure.fresh(UnixMs(0));
                    (0..hits).for_each(|_| heat = measure.used(heat, UnixMs(0), &mut rng));
                    u32::from(decayed(heat, UnixMs(0), 0))
                })
                .sum();
            let mean = total / rounds;
            assert!(mean.abs_diff(count) <= 2, "factor {log_factor}, {hits} hits: {mean}, not {count}");
        }
    }

    #[test]
    fn counts_decay_once_a_period() {
        // Whether an entry is looked at by a use, by passes of aging or by nobody for three periods.
        let (minute, start) = (60_000, 1_700_000_040_000);
        for decay_minutes in [1, 2, 5] {
            let measure = Measure::Frequency { log_factor: 10, decay_minutes };
            let period = minute * u64::from(decay_minutes);
            let begin = start / period * period;
            let mut heat = frequency(epoch(UnixMs(begin), decay_minutes), 200);
            for ms in (0..300 * period).step_by(10_000) {
                let now = UnixMs(begin + ms);
                if ms % (AGING_PERIOD_SECONDS / 2 * 1000) < 10_000 {
                    heat = measure.aged(heat, now);
                }
                let count = u64::from(decayed(heat, now, decay_minutes));
                assert_eq!(count, 200_u64.saturating_sub(ms / period), "after {ms} ms of periods of {period}");
            }
        }
    }
}
