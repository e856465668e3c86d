//! How far a node is with loading its pools: one place that each core writes its part of, and that clients, the log and the
//! main thread read.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use eagle_shard as shard;

use crate::core::event::CoreId;

/// What the cores of a node have loaded. [`Default`]: nothing is to be loaded.
#[derive(Debug, Default)]
pub struct Loading {
    cores: Vec<Part>,
    left: AtomicUsize,
    /// When it began, Unix milliseconds.
    started_unix_ms: u64,
    took_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct Part {
    done: AtomicU64,
    total: AtomicU64,
    has_ended: AtomicBool,
}

impl Loading {
    /// Begins: cores `0..loads.len()`, of which those load for which it is said.
    #[must_use]
    pub fn begin(loads: &[bool], started_unix_ms: u64) -> Self {
        let left = loads.iter().filter(|loads| **loads).count();
        let part = |loads: &bool| Part { has_ended: AtomicBool::new(!loads), ..Part::default() };
        let cores = loads.iter().map(part).collect();
        Self { cores, left: AtomicUsize::new(left), started_unix_ms, took_ms: AtomicU64::new(0) }
    }

    /// Whether some core still loads.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.left.load(Ordering::Acquire) > 0
    }

    /// When it began, Unix milliseconds; 0 if there was nothing to load.
    #[must_use]
    pub fn started_unix_ms(&self) -> u64 {
        self.started_unix_ms
    }

    /// How long it took, in milliseconds; of the cores that have ended.
    #[must_use]
    pub fn took_ms(&self) -> u64 {
        self.took_ms.load(Ordering::Relaxed)
    }

    /// Bytes looked at, and to look at, of all cores.
    #[must_use]
    pub fn bytes(&self) -> shard::Loading {
        let sum = |of: fn(&Part) -> &AtomicU64| self.cores.iter().map(|core| of(core).load(Ordering::Relaxed)).sum();
        shard::Loading { bytes_done: sum(|core| &core.done), bytes_total: sum(|core| &core.total) }
    }

    /// Notes how far a core is.
    pub(crate) fn note(&self, core: CoreId, progress: shard::Loading) {
        if let Some(core) = self.cores.get(core.index()) {
            core.done.store(progress.bytes_done, Ordering::Relaxed);
            core.total.store(progress.bytes_total, Ordering::Relaxed);
        }
    }

    /// A core that loads has ended.
    pub(crate) fn core_ends(&self, core: CoreId, unix_ms: u64) {
        if let Some(core) = self.cores.get(core.index())
            && !core.has_ended.swap(true, Ordering::Relaxed)
        {
            core.done.store(core.total.load(Ordering::Relaxed), Ordering::Relaxed);
            self.took_ms.fetch_max(unix_ms.saturating_sub(self.started_unix_ms), Ordering::Relaxed);
            self.left.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
