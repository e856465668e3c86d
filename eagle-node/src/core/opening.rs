//! Opening is how a core comes to its shard's data: a pool that was there before is loaded in slices between turns, so that
//! the core answers all the while what can be answered without data, and `-LOADING` to the rest.
//!
//! ```text
//!  Loading ──▶ Committing ──▶ Open          a new pool, and no pool: Open at once
//!   slices      one write, one sync          the node serves when all of its cores are
//! ```
//!
//! What was read from the pool may never have been synced, and what recovery decided (a torn tail is cut off) must not be decided
//! otherwise next time: so a core commits and syncs once before it serves.

use eagle_shard::medium::Loading;

use super::{
    Core,
    event::{Actions, Now},
};

/// How far the opening of a core is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Records are read.
    Loading,
    /// What was read is made durable.
    Committing,
    /// It serves.
    Open,
}

impl Opening {
    /// Whether the next commit is to be synced because of it.
    pub(super) fn wants_sync(self) -> bool {
        self == Self::Committing
    }
}

impl Core {
    /// Wants slices of [`super::event::Event::Load`].
    #[inline]
    #[must_use]
    pub fn loads(&self) -> bool {
        self.opening == Opening::Loading
    }

    /// Whether it is still to load, or to make durable what it has loaded.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        self.opening != Opening::Open
    }

    /// Whether its shard has all its data.
    pub(super) fn is_loaded(&self) -> bool {
        self.opening != Opening::Loading
    }

    /// Whether the node still loads, as far as this core has seen: it finds out at the end of its turns.
    #[inline]
    pub(super) fn node_loads(&self) -> bool {
        self.node_loads
    }

    /// Loads a slice.
    pub(super) fn load(&mut self, records: usize, now: Now, actions: &mut Actions) {
        if !self.loads() {
            return;
        }
        match self.shard.load(now.unix, records) {
            Ok(progress) => self.note_loaded(progress, now),
            Err(error) => {
                actions.broken = Some(format!("the pool of shard {} cannot be loaded: {error}", self.id.0));
            }
        }
    }

    fn note_loaded(&mut self, progress: Option<Loading>, now: Now) {
        match progress {
            Some(progress) => self.shared.loading.note(self.id, progress),
            None => {
                self.opening = Opening::Committing;
                if !self.gate.waits() {
                    // It holds when it is made.
                    let position = self.shard.commit().position;
                    self.gate.begin(position);
                    self.opened(now);
                }
            }
        }
    }

    /// All that there is, is durable: after loading, the core serves.
    pub(super) fn opened(&mut self, now: Now) {
        if self.opening == Opening::Committing && self.gate.reached().synced == self.shard.position() {
            self.opening = Opening::Open;
            self.shared.loading.core_ends(self.id, now.unix.0);
        }
    }
}
