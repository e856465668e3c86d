//! Opening is how a core comes to its shard's data: a pool that was there before is loaded in slices between turns, so that
//! the core answers all the while what can be answered without data, and `-LOADING` to the rest.
//!
//! ```text
//!  Loading ──▶ Committing ──▶ Open          without a pool: Open at once
//!   slices      written and synced           the node serves when all of its cores are
//! ```
//!
//! What was read from the pool may never have been synced, and what recovery decided (a torn tail is cut off) must not be decided
//! otherwise next time: so a core commits and syncs, until the shard has nothing more to say, before it serves.

use eagle_shard::{ReplayError, shard::Shard};

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
        let loaded = self.shard.load(now.unix, records).and_then(|()| {
            // When all is read, the rest is done at once.
            if is_read(&self.shard) { self.shard.load(now.unix, 1) } else { Ok(()) }
        });
        if let Err(error) = loaded {
            let hint = if matches!(error, ReplayError::Damaged(_)) {
                ". Nothing of it was changed; 'accept-damage yes' opens it without what is damaged"
            } else {
                ""
            };
            actions.broken = Some(format!("the pool of shard {} cannot be loaded: {error}{hint}", self.id.0));
            return;
        }
        if let Some(progress) = self.shard.loading() {
            self.shared.loading.note(self.id, progress);
        }
        if is_read(&self.shard) {
            self.opening = Opening::Committing;
            while !self.gate.waits() && self.shard.loading().is_some() {
                // Each holds when it is made.
                let position = self.shard.commit().position;
                self.gate.begin(position, position);
            }
            self.opened(now.unix.0);
        }
    }

    /// After loading, once all that there is, is durable, the core serves.
    pub(super) fn opened(&mut self, unix_ms: u64) {
        if self.opening == Opening::Committing && self.shard.loading().is_none() {
            self.opening = Opening::Open;
            self.tell_recovery();
            self.shared.loading.core_ends(self.id, unix_ms);
        }
    }

    fn tell_recovery(&self) {
        let (report, core) = (self.shard.recovery(), self.id.0);
        tracing::info!("Core {core} has loaded {} records of {} extents", report.records, report.extents);
        if report.torn_bytes > 0 {
            tracing::info!(
                "Core {core} dropped {} bytes at the end of its pool, which were never promised to be durable",
                report.torn_bytes
            );
        }
        for damage in &report.damage {
            tracing::warn!("Core {core} opened its pool without what is damaged: {damage}");
        }
        if let Some((path, bytes)) = &report.quarantine {
            tracing::warn!("Core {core} keeps the {bytes} bytes that were there in {}", path.display());
        }
        if self.shard.keys_lost() > 0 {
            tracing::warn!("Core {core} dropped {} keys of which parts were lost", self.shard.keys_lost());
        }
    }
}

/// Whether all records of the shard's pool are read.
fn is_read(shard: &Shard) -> bool {
    shard.loading().is_none_or(|loading| loading.bytes_done == loading.bytes_total)
}
