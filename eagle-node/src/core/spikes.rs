//! Spikes are what `LATENCY` tells of: by event, the last times that something took as long as `latency-monitor-threshold`.
//!
//! A core keeps its own, [`SAMPLES_MAX`] an event, the longest of each second; `LATENCY` puts them together. As in Redis (`src/latency.c`),
//! whose names are kept where they mean the same.

use std::collections::VecDeque;

/// Samples an event.
pub const SAMPLES_MAX: usize = 160;

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// A command that is not fast by its nature.
    Command,
    /// One that is (`@fast`).
    FastCommand,
    /// A slice of background work in which keys expired.
    ExpireCycle,
    /// Making room for a command within `maxmemory`, or a slice of background work in which keys were evicted.
    EvictionCycle,
    /// Another slice of background work: compaction, checkpoints, the scrub. Ours.
    Background,
    /// A commit, from its begin until what waits for it may leave. Nothing else waits for it. Ours.
    Commit,
    /// Making what is written durable, likewise. Ours.
    Sync,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Command,
        Self::FastCommand,
        Self::ExpireCycle,
        Self::EvictionCycle,
        Self::Background,
        Self::Commit,
        Self::Sync,
    ];

    /// As `LATENCY` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::FastCommand => "fast-command",
            Self::ExpireCycle => "expire-cycle",
            Self::EvictionCycle => "eviction-cycle",
            Self::Background => "background",
            Self::Commit => "commit",
            Self::Sync => "sync",
        }
    }

    /// The event of this name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|event| name == event.name().as_bytes())
    }
}

/// The longest spike of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When, Unix seconds.
    pub unix_s: u64,
    /// How long, milliseconds.
    pub ms: u64,
}

/// The spikes of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// The oldest first.
    pub samples: VecDeque<Sample>,
    /// The longest ever, milliseconds.
    pub max_ms: u64,
}

impl Series {
    fn note(&mut self, sample: Sample) {
        self.max_ms = self.max_ms.max(sample.ms);
        match self.samples.back_mut() {
            Some(last) if last.unix_s == sample.unix_s => last.ms = last.ms.max(sample.ms),
            _ => self.samples.push_back(sample),
        }
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// Those of several cores as one.
    #[must_use]
    pub fn together(all: &[Self]) -> Self {
        let mut samples: Vec<Sample> = all.iter().flat_map(|series| series.samples.iter().copied()).collect();
        samples.sort_by_key(|sample| sample.unix_s);
        let mut together = Self::default();
        samples.into_iter().for_each(|sample| together.note(sample));
        together.max_ms = all.iter().map(|series| series.max_ms).max().unwrap_or(0);
        together
    }
}

/// The spikes of a core.
#[derive(Clone, Debug, Default)]
pub struct Spikes {
    series: [Option<Series>; Event::ALL.len()],
}

impl Spikes {
    /// Notes one.
    pub fn note(&mut self, event: Event, unix_s: u64, ms: u64) {
        self.series[event as usize].get_or_insert_default().note(Sample { unix_s, ms });
    }

    /// Those of an event, if there were any.
    #[must_use]
    pub fn of(&self, event: Event) -> Option<&Series> {
        self.series[event as usize].as_ref()
    }

    /// Forgets those of an event; returns them.
    pub fn reset(&mut self, event: Event) -> Option<Series> {
        self.series[event as usize].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_longest_spike() {
        // Two of one second are one; the oldest go; the longest ever stays; an event that is forgotten begins anew.
        let mut spikes = Spikes::default();
        spikes.note(Event::Command, 10, 500);
        for second in 10..300 {
            spikes.note(Event::Command, second, 7);
            spikes.note(Event::Command, second, 9);
            spikes.note(Event::Command, second, 8);
        }
        let series = spikes.of(Event::Command).unwrap();
        assert_eq!((series.samples.len(), series.max_ms), (SAMPLES_MAX, 500));
        assert!(series.samples.iter().all(|sample| sample.ms == 9));
        assert_eq!(series.samples.back().unwrap().unix_s, 299);
        assert!(spikes.reset(Event::Command).is_some() && spikes.reset(Event::Command).is_none());
        assert!(spikes.of(Event::FastCommand).is_none());
    }

    #[test]
    fn cores_together_are_one_history() {
        // In the order of time, a second once.
        let series = |pairs: &[(u64, u64)]| {
            let mut series = Series::default();
            pairs.iter().for_each(|(unix_s, ms)| series.note(Sample { unix_s: *unix_s, ms: *ms }));
            series
        };
        let together = Series::together(&[series(&[(1, 5), (3, 9)]), series(&[(2, 4), (3, 11)])]);
        assert_eq!(together, series(&[(1, 5), (2, 4), (3, 9), (3, 11)]));
        assert_eq!((together.samples.len(), together.max_ms), (3, 11));
    }

    #[test]
    fn events_are_found_by_their_names() {
        // Each by its own, and by no other.
        assert!(Event::ALL.iter().all(|event| Event::named(event.name().as_bytes()) == Some(*event)));
        assert_eq!(Event::named(b"fork"), None);
        assert!(Event::ALL.iter().enumerate().all(|(at, event)| *event as usize == at));
    }
}
