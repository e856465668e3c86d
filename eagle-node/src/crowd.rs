//! The crowd is what the clients of all cores take together of the memory that clients may (`maxmemory-clients`), without a lock.
//!
//! Clients are sorted into classes by what they take, a class a power of two, as in Redis 7 (`src/server.h`,
//! `CLIENT_MEM_USAGE_BUCKETS`). Each core adds and removes its own, while there is a limit. Clients of the highest class that is not
//! empty are the ones to be evicted; each core evicts its own of them, and takes what such a client had off the sum before it does so: of two cores
//! that see the same excess only one evicts for it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Bytes below which all clients are of class 0, as a power of two.
const CLASS_0_LOG: u32 = 15;
/// Classes: below 32 KiB, below 64 KiB, and so on to 4 GiB and more.
pub const CLASSES: usize = 19;

/// The class of a client that takes so many bytes.
#[must_use]
pub fn class_of(bytes: u64) -> u8 {
    let log = bytes.max(1).ilog2() + 1;
    log.saturating_sub(CLASS_0_LOG).min(CLASSES as u32 - 1) as u8
}

/// What the clients of all cores take.
#[derive(Debug, Default)]
pub struct Crowd {
    bytes: AtomicU64,
    /// Clients that may be evicted, by class.
    evictable: [AtomicU32; CLASSES],
}

impl Crowd {
    /// Replaces what a core's clients took by what they take.
    pub fn replace(&self, before: u64, bytes: u64) {
        if before != bytes {
            self.bytes.fetch_add(bytes.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    /// A client changes its class; `None` is that of those who may not be evicted or are not there.
    pub fn sort(&self, before: Option<u8>, class: Option<u8>) {
        if before == class {
            return;
        }
        if let Some(before) = before {
            self.evictable[usize::from(before)].fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(class) = class {
            self.evictable[usize::from(class)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the clients take `limit` bytes or more.
    pub fn exceeds(&self, limit: u64) -> bool {
        self.bytes.load(Ordering::Relaxed) >= limit
    }

    /// The highest class in which there are clients that may be evicted.
    pub fn top(&self) -> Option<u8> {
        let is_there = |class: &u8| self.evictable[usize::from(*class)].load(Ordering::Relaxed) > 0;
        (0..CLASSES as u8).rev().find(is_there)
    }

    /// Takes the bytes of a client that is to be evicted off the sum, if that is `limit` or more: then it is this client's turn.
    pub fn claim(&self, bytes: u64, limit: u64) -> bool {
        let less = |sum: u64| (sum >= limit).then(|| sum.saturating_sub(bytes));
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_powers_of_two() {
        // As Redis sorts them: all small ones together, and all very large ones.
        let sizes = [0, 1, (32 << 10) - 1, 32 << 10, (64 << 10) - 1, 64 << 10, 1 << 30, 4 << 30, 1 << 40, u64::MAX];
        assert_eq!(sizes.map(class_of), [0, 0, 0, 1, 1, 2, 16, 18, 18, 18]);
    }

    #[test]
    fn one_claim_an_excess() {
        // 100 bytes at a limit of 90: the first claim of 20 brings it below, the second finds nothing to do.
        let crowd = Crowd::default();
        crowd.replace(0, 100);
        assert!(crowd.exceeds(90) && crowd.claim(20, 90));
        assert!(!crowd.exceeds(90) && !crowd.claim(20, 90));
        crowd.replace(80, 0);
        assert!(!crowd.exceeds(1));
    }

    #[test]
    fn the_top_class_is_that_of_the_largest() {
        // Clients come, grow and go; who may not be evicted is of no class.
        let crowd = Crowd::default();
        assert_eq!(crowd.top(), None);
        crowd.sort(None, Some(0));
        crowd.sort(None, Some(5));
        assert_eq!(crowd.top(), Some(5));
        crowd.sort(Some(0), Some(7));
        crowd.sort(Some(7), None);
        assert_eq!(crowd.top(), Some(5));
        crowd.sort(Some(5), None);
        assert_eq!(crowd.top(), None);
    }
}
