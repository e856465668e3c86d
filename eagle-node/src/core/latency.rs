//! A latency histogram counts how long things took, exactly enough for percentiles: within a sixteenth; and adds it up.
//!
//! ```text
//!  ns   0 .. 1024   one bucket for all below about a microsecond
//!       1024 .. 2048 │ 16 buckets │ 2048 .. 4096 │ 16 buckets │ ...  up to [`NS_MAX`], and one for all above
//! ```
//!
//! Counting is two additions; memory is 4 KiB a command that was ever called. What is counted is what
//! [`super::stats::CoreStats::turn_took`] shares out: the mean of the commands of a turn.

/// Powers of two that are told apart.
const OCTAVES: usize = 30;
/// Buckets a power of two.
const STEPS: usize = 1 << STEP_BITS;
const STEP_BITS: u32 = 4;
/// Below it all is one: 2^10 ns.
const FLOOR_BITS: u32 = 10;
const BUCKETS: usize = 1 + OCTAVES * STEPS + 1;
/// Above it all is one, in nanoseconds: 18 minutes.
pub const NS_MAX: u64 = 1 << (FLOOR_BITS as usize + OCTAVES);

/// How long the calls of a command took.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), sum_ns: 0 }
    }
}

/// The bucket of a time, to be computed once for all of that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket(usize);

impl Bucket {
    /// Of so many nanoseconds.
    #[must_use]
    pub fn of(ns: u64) -> Self {
        if ns < 1 << FLOOR_BITS {
            return Self(0);
        }
        if ns >= NS_MAX {
            return Self(BUCKETS - 1);
        }
        let octave = ns.ilog2();
        let step = (ns >> (octave - STEP_BITS)) as usize & (STEPS - 1);
        Self(1 + (octave - FLOOR_BITS) as usize * STEPS + step)
    }

    /// The longest time that it holds, in nanoseconds.
    fn most_ns(self) -> u64 {
        match self.0 {
            0 => (1 << FLOOR_BITS) - 1,
            last if last == BUCKETS - 1 => NS_MAX,
            inner => {
                let (octave, step) = ((inner - 1) / STEPS, (inner - 1) % STEPS);
                let width = 1u64 << (FLOOR_BITS as usize + octave - STEP_BITS as usize);
                (STEPS + step + 1) as u64 * width - 1
            }
        }
    }
}

impl Histogram {
    /// Counts a time of so many nanoseconds, whose bucket this is.
    #[inline]
    pub fn count(&mut self, bucket: Bucket, ns: u64) {
        self.counts[bucket.0] += 1;
        self.sum_ns += ns;
    }

    /// Counts a time of so many microseconds.
    pub fn count_us(&mut self, us: u64) {
        let ns = us.saturating_mul(1000);
        self.count(Bucket::of(ns), ns);
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.counts.iter_mut().zip(other.counts.iter()) {
            *own += *other;
        }
        self.sum_ns += other.sum_ns;
    }

    /// How many times were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in nanoseconds.
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns
    }

    /// The longest time of each bucket that has any, in nanoseconds, and how many it has.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(index, count)| (Bucket(index).most_ns(), *count))
    }

    /// Bounds in nanoseconds, each twice the one before, and how many times were below each.
    pub fn below(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut seen = self.counts[0];
        let octaves = self.counts[1..BUCKETS - 1].chunks_exact(STEPS);
        let above = octaves.enumerate().map(move |(octave, counts)| {
            seen += counts.iter().sum::<u64>();
            (1 << (FLOOR_BITS as usize + octave + 1), seen)
        });
        std::iter::once((1 << FLOOR_BITS, self.counts[0])).chain(above)
    }

    /// The time, in nanoseconds, that this many percent of the calls did not exceed; 0 if there were none.
    #[must_use]
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        // As HdrHistogram: at least one call.
        let wanted = ((percent / 100.0 * self.total() as f64).round() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Bucket(index).most_ns();
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_lies_in_a_bucket_a_sixteenth_wide() {
        // No gap and no overlap, from one nanosecond to beyond the end.
        let mut before = Bucket::of(0);
        let mut ns = 1;
        while ns < 2 * NS_MAX {
            let bucket = Bucket::of(ns);
            assert!(bucket.0 >= before.0 && bucket.0 < BUCKETS);
            if bucket.0 > 0 && ns < NS_MAX {
                assert!(bucket.most_ns() >= ns && bucket.most_ns() - ns <= ns / 16, "{ns} in {bucket:?}");
                assert_eq!(Bucket::of(bucket.most_ns()), bucket);
                assert_ne!(Bucket::of(bucket.most_ns() + 1), bucket);
            }
            before = bucket;
            ns += 1 + ns / 37;
        }
    }

    #[test]
    fn percentiles_are_those_of_the_calls() {
        // 98 calls of 2 us, one of 50 us, one of 9 ms, counted by two.
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        assert_eq!(one.percentile_ns(50.0), 0);
        for _ in 0..49 {
            one.count_us(2);
            other.count_us(2);
        }
        one.count_us(50);
        other.count_us(9_000);
        one.add(&other);
        let near = |percent: f64, ns: u64| {
            let found = one.percentile_ns(percent);
            assert!(found >= ns && found <= ns + ns / 16, "p{percent}: {found}, not {ns}");
        };
        near(0.0, 2_000);
        near(50.0, 2_000);
        near(98.0, 2_000);
        near(99.0, 50_000);
        near(99.9, 9_000_000);
        near(100.0, 9_000_000);
        assert_eq!((one.total(), one.sum_ns()), (100, 98 * 2_000 + 50_000 + 9_000_000));
    }

    #[test]
    fn bounds_double_and_count_all_that_is_below() {
        // On either side of bounds, at the beginning, and beyond the end.
        let mut histogram = Histogram::default();
        for ns in [0, 1023, 1024, 2047, 2048, (1 << 20) - 1, 1 << 20, NS_MAX] {
            histogram.count(Bucket::of(ns), ns);
        }
        let below: Vec<(u64, u64)> = histogram.below().collect();
        assert_eq!(below[..3], [(1024, 2), (2048, 4), (4096, 5)]);
        assert_eq!(below[10..12], [(1 << 20, 6), (1 << 21, 7)]);
        assert_eq!(below.last(), Some(&(NS_MAX, 7)));
        assert!(below.windows(2).all(|pair| pair[1].0 == 2 * pair[0].0));
    }
}
