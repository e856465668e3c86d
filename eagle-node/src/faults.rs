//! Faults are what a test wants to go wrong with the media of pools: set by `DEBUG STORAGE`, looked at by the runtime before it asks
//! the system for something, so that the core above sees what it would see of a disk that is slow, full or broken.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use crate::core::event::CoreId;

/// What is to go wrong, from now on.
#[derive(Debug, Default)]
pub struct Faults {
    is_on: AtomicBool,
    /// The only core that is concerned, plus one; 0: all are.
    core: AtomicU64,
    sync_delay_ms: AtomicU64,
    write_error: AtomicI32,
    sync_error: AtomicI32,
    short_write: AtomicBool,
    growth_error: AtomicI32,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Each sync begins so many milliseconds late.
    DelaySync(u64),
    /// Writes fail with this error number.
    FailWrite(i32),
    /// The first piece of a write is written to its half only; the rest when it is tried again.
    ShortWrite,
    /// Syncs fail with this error number.
    FailSync(i32),
    /// There is no space to grow.
    NoSpace,
}

impl Faults {
    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        self.is_on.store(false, Ordering::Release);
        self.core.store(0, Ordering::Relaxed);
        self.sync_delay_ms.store(0, Ordering::Relaxed);
        for error in [&self.write_error, &self.sync_error, &self.growth_error] {
            error.store(0, Ordering::Relaxed);
        }
        self.short_write.store(false, Ordering::Relaxed);
    }

    /// This goes wrong from now on, beside what does already; on one core only, if one is named.
    pub fn set(&self, fault: Fault, core: Option<CoreId>) {
        match fault {
            Fault::DelaySync(ms) => self.sync_delay_ms.store(ms, Ordering::Relaxed),
            Fault::FailWrite(code) => self.write_error.store(code, Ordering::Relaxed),
            Fault::ShortWrite => self.short_write.store(true, Ordering::Relaxed),
            Fault::FailSync(code) => self.sync_error.store(code, Ordering::Relaxed),
            Fault::NoSpace => self.growth_error.store(libc::ENOSPC, Ordering::Relaxed),
        }
        self.core.store(core.map_or(0, |core| u64::from(core.0) + 1), Ordering::Relaxed);
        self.is_on.store(true, Ordering::Release);
    }

    /// Whether anything goes wrong on this core: what else there is to ask need not be asked if not.
    fn concern(&self, core: CoreId) -> bool {
        self.is_on.load(Ordering::Acquire)
            && matches!(self.core.load(Ordering::Relaxed), only if only == 0 || only == u64::from(core.0) + 1)
    }

    /// By how many milliseconds a sync is late.
    #[must_use]
    pub fn sync_delay_ms(&self, core: CoreId) -> u64 {
        if self.concern(core) { self.sync_delay_ms.load(Ordering::Relaxed) } else { 0 }
    }

    fn error(&self, core: CoreId, error: &AtomicI32) -> Option<i32> {
        let code = if self.concern(core) { error.load(Ordering::Relaxed) } else { 0 };
        (code != 0).then_some(code)
    }

    /// What a write fails with.
    #[must_use]
    pub fn write_error(&self, core: CoreId) -> Option<i32> {
        self.error(core, &self.write_error)
    }

    /// What a sync fails with.
    #[must_use]
    pub fn sync_error(&self, core: CoreId) -> Option<i32> {
        self.error(core, &self.sync_error)
    }

    /// What growing fails with.
    #[must_use]
    pub fn growth_error(&self, core: CoreId) -> Option<i32> {
        self.error(core, &self.growth_error)
    }

    /// Whether writes are short.
    #[must_use]
    pub fn is_write_short(&self, core: CoreId) -> bool {
        self.concern(core) && self.short_write.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_concerns_the_core_it_is_meant_for() {
        // One core or all; after `clear` none.
        let faults = Faults::default();
        let (one, other) = (CoreId(0), CoreId(1));
        faults.set(Fault::FailSync(5), Some(other));
        assert_eq!(
            (faults.sync_error(one), faults.sync_error(other), faults.write_error(other)),
            (None, Some(5), None)
        );
        faults.set(Fault::DelaySync(7), None);
        assert_eq!((faults.sync_error(one), faults.sync_delay_ms(one)), (Some(5), 7));
        faults.clear();
        assert_eq!((faults.sync_error(one), faults.sync_delay_ms(other)), (None, 0));
    }
}
