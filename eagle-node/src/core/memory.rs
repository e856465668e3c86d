//! The memory that a core takes, and the limit on that of the node.
//!
//! At the end of a turn, while there is a limit, a core adds what it takes to the node's budget and tells its shard how
//! much room is left. Before the first command of a turn that may grow it looks at the budget again, because it may have slept.
//!
//! What the program takes by itself counts too, up to a hundredth of the limit.
//!
//! Each core evicts keys of its own shard only. So that memory goes to where it is needed, cores compare ten times a second how many keys left,
//! and one that has evicted less than its part of them, by the memory that it takes, evicts some more.
//!
//! A command on one shard is admitted by that shard ([`Shard::admit`](eagle_shard::shard::Shard::admit)). One whose keys lie on
//! several is admitted whole at its home or not at all; its parts are not refused any more.

use eagle_shard::{
    Room,
    error::Error,
    spec::{Flags, Spec},
};

use super::{Core, event::Now, session::Session};
use crate::budget::Part;

/// A core's account of its memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Sessions and their buffers, in bytes.
    clients: u64,
    /// What the node's budget was last told.
    told: Part,
    /// Keys evicted, by this core and by all, when they were last compared.
    evicted: u64,
    evicted_by_all: u64,
    /// Whether the shard was told this turn how much room is left.
    fresh: bool,
}

impl Memory {
    /// Takes note of what a session takes now.
    pub(super) fn note(&mut self, session: &mut Session) {
        let memory = session.memory();
        self.clients += memory as u64;
        self.clients -= std::mem::replace(&mut session.memory_noted, memory) as u64;
    }

    /// A session goes.
    pub(super) fn forget(&mut self, session: &Session) {
        self.clients -= session.memory_noted as u64;
    }
}

impl Core {
    /// Memory of sessions and their buffers in bytes, as of the end of the last turn.
    pub fn clients_bytes(&self) -> u64 {
        self.memory.clients
    }

    /// Tells the budget what this core takes, and the shard what room the node has.
    pub(super) fn measure_memory(&mut self) {
        if self.config.maxmemory == 0 {
            return self.shard.set_room(None);
        }
        let part = Part { bytes: self.shard.memory() + self.memory.clients, can_make_room: self.shard.can_make_room() };
        if part != self.memory.told {
            self.shared.budget.replace(std::mem::replace(&mut self.memory.told, part), part);
        }
        let (limit, budget) = (self.shared.limit_of_data(self.config.maxmemory), &self.shared.budget);
        let bytes = limit as i64 - budget.used() as i64;
        self.shard.set_room(Some(Room { limit, bytes, elsewhere: budget.relief_beside(part) }));
    }

    /// The turn is over.
    pub(super) fn end_of_turn_memory(&mut self, now: Now) {
        self.measure_memory();
        self.memory.fresh = false;
        self.shared.budget.note_excess(self.shared.limit_of_data(self.config.maxmemory), now.mono_us);
        self.background_due |= self.shard.wants_room();
    }

    /// Sees to it that this core evicts its part of the keys that leave for the room of all: by what it takes of the memory in use.
    pub(super) fn share_evictions(&mut self) {
        let own = self.shard.stats.evicted;
        let evicted = own.saturating_sub(self.memory.evicted);
        self.memory.evicted = own;
        let budget = &self.shared.budget;
        let all = budget.add_evicted(evicted);
        let lately = all - std::mem::replace(&mut self.memory.evicted_by_all, all);
        let part = u128::from(lately) * u128::from(self.memory.told.bytes) / u128::from(budget.used().max(1));
        self.shard.owe_evictions((part as u64).saturating_sub(evicted));
    }

    /// Lets a command that may grow begin on this core's shard.
    #[inline]
    pub(super) fn admit(&mut self, bytes: usize) -> Result<(), Error> {
        if self.config.maxmemory == 0 { Ok(()) } else { self.admit_within_limit(bytes) }
    }

    fn admit_within_limit(&mut self, bytes: usize) -> Result<(), Error> {
        if !self.memory.fresh {
            self.memory.fresh = true;
            self.measure_memory();
        }
        self.shard.admit(bytes)
    }

    /// Lets a command begin whose parts go to several shards, as far as it may grow: if one of them can still make room, it
    /// will.
    pub(super) fn admit_whole(&mut self, spec: &Spec) -> Result<(), Error> {
        if !spec.flags.contains(Flags::DENYOOM) {
            return Ok(());
        }
        self.admit(0)
    }
}
