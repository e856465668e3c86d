//! The pulse tells whether the cores of a node live: each counts its ticks in a place of its own, and who watches looks whether all
//! counts have moved since.
//!
//! A tick comes ten times a second, whatever else a core does, asleep or loading too; a core whose count stands still is stuck in one
//! turn. It costs one store a tick, on a cache line that only its core writes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::event::CoreId;

/// The ticks of all cores. [`Default`]: of none, which is what a simulation has.
#[derive(Debug, Default)]
pub struct Pulse(Box<[Beats]>);

/// Alone on the cache lines that processors fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Beats(AtomicU64);

impl Pulse {
    /// Of this many cores.
    #[must_use]
    pub fn of(cores: u16) -> Self {
        Self((0..cores).map(|_| Beats::default()).collect())
    }

    /// A core has ticked.
    pub(crate) fn beat(&self, core: CoreId) {
        if let Some(Beats(count)) = self.0.get(core.index()) {
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// The counts of all cores, to be compared with later ones.
    #[must_use]
    pub fn counts(&self) -> Vec<u64> {
        self.0.iter().map(|Beats(count)| count.load(Ordering::Relaxed)).collect()
    }
}
