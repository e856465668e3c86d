//! A published value is what every core reads and rarely anybody replaces: the configuration, later the topology.
//!
//! It lies behind a crossbeam-epoch pointer. A reader pins the epoch and looks, without a lock or a shared write; whoever
//! changes it makes a changed copy and swaps the pointer, again if somebody else was faster. The old value is freed when
//! no reader can still see it. What always holds: a reader sees one whole value, never a mixture, and a value seen later
//! is never an older one. A reader must not sleep while it looks, or garbage of all cores piles up.

use std::{fmt, marker::PhantomData, ops::Deref, sync::atomic::Ordering};

use crossbeam_epoch::{self as epoch, Atomic, Guard, Owned};

/// A value that all cores read and few replace.
pub struct Published<T> {
    value: Atomic<T>,
}

/// A look at a published value, as it was when the look began.
pub struct Look<'a, T> {
    seen: *const T,
    /// Keeps what is seen from being freed.
    _guard: Guard,
    /// The look does not outlive what it looks at.
    _of: PhantomData<&'a Atomic<T>>,
}

impl<T: Send + Sync + 'static> Published<T> {
    /// Publishes the first value.
    pub fn new(value: T) -> Self {
        Self { value: Atomic::new(value) }
    }

    /// Looks at the present value. Keep the look short: within a turn, never across a sleep.
    pub fn load(&self) -> Look<'_, T> {
        let guard = epoch::pin();
        let seen = self.value.load(Ordering::Acquire, &guard).as_raw();
        Look { seen, _guard: guard, _of: PhantomData }
    }

    /// Replaces the value by what `change` makes of it; `change` is called again if somebody else was faster.
    ///
    /// # Errors
    /// What `change` fails with; the value is then as it was.
    pub fn update<E>(&self, mut change: impl FnMut(&T) -> Result<T, E>) -> Result<(), E> {
        let guard = epoch::pin();
        let mut present = self.value.load(Ordering::Acquire, &guard);
        loop {
            // SAFETY: never null (`new` and `update` store values only), and freed no sooner than `guard` is dropped.
            let changed = Owned::new(change(unsafe { present.deref() })?);
            match self.value.compare_exchange(present, changed, Ordering::AcqRel, Ordering::Acquire, &guard) {
                Ok(_) => {
                    // SAFETY: the swap took it out, so no new reader finds it, and only the winner of the swap frees it.
                    unsafe { guard.defer_destroy(present) };
                    return Ok(());
                }
                Err(lost) => present = lost.current,
            }
        }
    }
}

impl<T> Deref for Look<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: never null, and not freed before `_guard`, pinned before the load, is dropped.
        unsafe { &*self.seen }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // SAFETY: `&mut self`: nobody looks any more, and what the pointer holds was never handed to `defer_destroy`.
        drop(unsafe { std::mem::replace(&mut self.value, Atomic::null()).into_owned() });
    }
}

impl<T: fmt::Debug + Send + Sync + 'static> fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Published").field(&*self.load()).finish()
    }
}

impl<T: fmt::Debug> fmt::Debug for Look<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::Published;

    /// Two equal numbers that are poisoned when dropped: a reader of a freed or half-written pair notices.
    struct Pair {
        first: u64,
        second: u64,
        dropped: Arc<AtomicUsize>,
    }

    impl Drop for Pair {
        fn drop(&mut self) {
            (self.first, self.second) = (1, 2);
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn readers_see_whole_values_in_order_while_others_update() {
        // Shows that no update is lost, none is seen torn or freed, and none is seen after a later one.
        const WRITERS: u64 = 2;
        const UPDATES: u64 = 5_000;
        let dropped = Arc::new(AtomicUsize::new(0));
        let published = Published::new(Pair { first: 1_000, second: 1_000, dropped: dropped.clone() });
        std::thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    for _ in 0..UPDATES {
                        let plus_one = |old: &Pair| {
                            let (first, second) = (old.first + 1, old.second + 1);
                            Ok::<_, Infallible>(Pair { first, second, dropped: old.dropped.clone() })
                        };
                        published.update(plus_one).unwrap_or_else(|never| match never {});
                    }
                });
            }
            scope.spawn(|| {
                let mut last = 1_000;
                while last < 1_000 + WRITERS * UPDATES {
                    let look = published.load();
                    assert_eq!(look.first, look.second, "torn or freed");
                    assert!(look.first >= last, "an older value after a newer one");
                    last = look.first;
                }
            });
        });
        assert_eq!(published.load().first, 1_000 + WRITERS * UPDATES);
    }

    #[test]
    fn a_failed_change_leaves_the_value() {
        // Shows that an error of the change is handed on and nothing is replaced.
        let published = Published::new(7);
        assert_eq!(published.update(|_| Err("no")), Err("no"));
        assert_eq!(*published.load(), 7);
    }

    #[test]
    fn the_last_value_is_dropped_with_its_publisher() {
        // Shows that the value in place is freed, once.
        let dropped = Arc::new(AtomicUsize::new(0));
        drop(Published::new(Pair { first: 0, second: 0, dropped: dropped.clone() }));
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }
}
