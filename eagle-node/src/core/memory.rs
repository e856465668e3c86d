//! The memory that a core takes, and the limit on that of the node.
//!
//! At the end of a turn, while there is a limit, a core adds what it takes to the node's budget and tells its shard how
//! much room is left. Before the first command of a turn that may grow it looks at the budget again, because it may have slept.
//!
//! A command on one shard is admitted by that shard ([`Shard::admit`](eagle_shard::shard::Shard::admit)). One whose keys lie on
//! several is admitted whole at its home or not at all; its parts are not refused any more.

use eagle_shard::{
    Room,
    error::Error,
    spec::{Flags, Spec},
};

use super::{Core, session::Session};
use crate::budget::Part;

/// A core's account of its memory.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Sessions and their buffers, in bytes.
    clients: u64,
    /// What the node's budget was last told.
    told: Part,
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
    /// Tells the budget what this core takes, and the shard what room the node has.
    pub(super) fn measure_memory(&mut self) {
        if self.config.maxmemory == 0 {
            return self.shard.set_room(None);
        }
        let part = Part { bytes: self.shard.memory() + self.memory.clients, can_make_room: self.shard.can_make_room() };
        if part != self.memory.told {
            self.shared.budget.replace(std::mem::replace(&mut self.memory.told, part), part);
        }
        let (limit, budget) = (self.config.maxmemory, &self.shared.budget);
        let bytes = limit as i64 - budget.used() as i64;
        self.shard.set_room(Some(Room { limit, bytes, elsewhere: budget.relief_beside(part) }));
    }

    /// The turn is over.
    pub(super) fn end_of_turn_memory(&mut self) {
        self.measure_memory();
        self.memory.fresh = false;
    }

    /// Lets a command that may grow begin on this core's shard.
    #[inline]
    pub(super) fn admit(&mut self) -> Result<(), Error> {
        if self.config.maxmemory == 0 { Ok(()) } else { self.admit_within_limit() }
    }

    fn admit_within_limit(&mut self) -> Result<(), Error> {
        if !self.memory.fresh {
            self.memory.fresh = true;
            self.measure_memory();
        }
        self.shard.admit()
    }

    /// Lets a command begin whose parts go to several shards, as far as it may grow: if one of them can still make room, it
    /// will.
    pub(super) fn admit_whole(&mut self, spec: &Spec) -> Result<(), Error> {
        if !spec.flags.contains(Flags::DENYOOM) {
            return Ok(());
        }
        self.admit()
    }
}
