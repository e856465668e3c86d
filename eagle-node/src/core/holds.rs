//! Holds keep keys still while a command of several shards is at work on them.
//!
//! A RENAME from one shard to another copies, waits for the commit, and deletes; between these steps nobody else may
//! see or change the two keys. Its home core asks each shard in ascending order to hold them (so two such commands
//! cannot wait for each other), works with `Kind::RunHolding`, and releases. Whoever else wants a held key waits here,
//! in order; and because the commands of one connection on one shard take effect in order, what follows on a connection
//! whose command waits here waits as well.
//!
//! A command that writes to all keys of all shards (FLUSHALL) holds everything, in the same ascending order: it begins where no key is held
//! any more, and nobody sees it done on one shard and not on another. Commands that hold keys queue behind it, others go on until it has
//! its turn.
//!
//! While commands are paused ([`super::pause`]) everything is held for those that would write. A FLUSHALL that the pause stops half way
//! to its last shard lets reads pass on those that it holds: it has not changed anything.
//!
//! Keys are held by name in all databases at once: coarser than needed, simpler to see through. While nothing is held
//! (nearly always) the cost is one look at an empty table.

use std::collections::VecDeque;

use ahash::{AHashMap, AHashSet};
use eagle_resp::OwnedArgs;

use super::{
    event::{ConnId, CoreId},
    message::{Ask, Kind},
};

/// A question that waits for keys.
#[derive(Debug)]
pub struct Waiting {
    /// Who asked.
    pub from: CoreId,
    /// What; `first_arg` is 0, the arguments are its own.
    pub ask: Ask,
    /// Its arguments.
    pub args: OwnedArgs,
}

/// Whether one command holds all keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Everything {
    /// None does.
    #[default]
    Free,
    /// One does and has changed nothing yet.
    Held,
    /// One does and has done its work on this shard, perhaps not on others.
    Changed,
}

/// Keys held on one shard, and who waits for them.
#[derive(Debug, Default)]
pub struct Holds {
    held: AHashSet<Box<[u8]>>,
    waiting: VecDeque<Waiting>,
    /// How many questions of a connection wait.
    askers: AHashMap<(CoreId, ConnId), u32>,
    /// Nobody may write.
    writes_held: bool,
    everything: Everything,
    /// Commands that wait to hold everything.
    want_everything: u32,
}

impl Holds {
    /// Nothing is held and nobody waits: the usual case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty() && !self.writes_held && self.everything == Everything::Free
    }

    /// Whether a command of `asker` on this core's own shard must wait for `keys`, or because it `writes`.
    #[must_use]
    pub fn stops_own<'a>(
        &self,
        asker: (CoreId, ConnId),
        writes: bool,
        mut keys: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        self.askers.contains_key(&asker) || self.everything_stops(writes) || keys.any(|key| self.held.contains(key))
    }

    /// Whether a question of `from` must wait.
    #[must_use]
    pub fn stops(&self, ask: &Ask, from: CoreId, args: eagle_resp::Args<'_>) -> bool {
        let writes = ask.spec.writes();
        let queue = match ask.kind {
            Kind::HoldAll => self.want_everything > 0 || !self.held.is_empty() || self.everything != Everything::Free,
            Kind::Hold => self.want_everything > 0,
            _ => false,
        };
        queue || self.writes_held && writes || self.stops_own((from, ask.asker), writes, keys(ask, args))
    }

    /// Whether a command has to wait because another holds everything.
    fn everything_stops(&self, writes: bool) -> bool {
        match self.everything {
            Everything::Free => false,
            Everything::Held => writes || !self.writes_held,
            Everything::Changed => true,
        }
    }

    /// From now on nobody may write, or everybody again: then [`Self::next_free`] says who may go on.
    pub fn hold_writes(&mut self, hold: bool) {
        self.writes_held = hold;
    }

    /// Lets a question wait.
    pub fn wait(&mut self, waiting: Waiting) {
        *self.askers.entry((waiting.from, waiting.ask.asker)).or_default() += 1;
        self.want_everything += u32::from(waiting.ask.kind == Kind::HoldAll);
        self.waiting.push_back(waiting);
    }

    /// Holds keys that nobody holds.
    pub fn hold<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>) {
        for key in keys {
            self.held.insert(key.into());
        }
    }

    /// Holds everything, which nobody holds any part of.
    pub fn hold_everything(&mut self) {
        assert!(self.everything == Everything::Free && self.held.is_empty(), "everything is free");
        self.everything = Everything::Held;
    }

    /// Who holds everything, if anybody does, has done its work on this shard.
    pub fn changed(&mut self) {
        if self.everything == Everything::Held {
            self.everything = Everything::Changed;
        }
    }

    /// Lets go of everything; [`Self::next_free`] then says who may go on.
    pub fn release_everything(&mut self) {
        assert!(self.everything != Everything::Free, "only what is held is released");
        self.everything = Everything::Free;
    }

    /// Lets go of keys; [`Self::next_free`] then says who may go on.
    pub fn release<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>) {
        for key in keys {
            let was = self.held.remove(key);
            assert!(was, "only a held key is released");
        }
    }

    /// The first that waits no longer: none of its keys is held or waited for before it, and nothing of its connection
    /// waits before it.
    pub fn next_free(&mut self) -> Option<Waiting> {
        let mut wanted: AHashSet<&[u8]> = AHashSet::new();
        let mut before: AHashSet<(CoreId, ConnId)> = AHashSet::new();
        let mut found = None;
        let mut queue = false;
        for (index, waiting) in self.waiting.iter().enumerate() {
            let asker = (waiting.from, waiting.ask.asker);
            let key_is_taken = |key| self.held.contains(key) || wanted.contains(key);
            let (kind, writes) = (waiting.ask.kind, waiting.ask.spec.writes());
            let may_write = !self.writes_held || !writes;
            let may_hold = match kind {
                Kind::HoldAll => !queue && self.held.is_empty(),
                Kind::Hold => !queue,
                _ => true,
            };
            let free = may_hold
                && may_write
                && !self.everything_stops(writes)
                && !before.contains(&asker)
                && !keys_of(waiting).any(key_is_taken);
            if free {
                found = Some(index);
                break;
            }
            queue |= kind == Kind::HoldAll;
            before.insert(asker);
            wanted.extend(keys_of(waiting));
        }
        let waiting = self.waiting.remove(found?)?;
        self.want_everything -= u32::from(waiting.ask.kind == Kind::HoldAll);
        let asker = (waiting.from, waiting.ask.asker);
        let count = self.askers.get_mut(&asker).expect("counted when it came");
        *count -= 1;
        if *count == 0 {
            self.askers.remove(&asker);
        }
        Some(waiting)
    }
}

/// The keys that a waiting question concerns.
fn keys_of(waiting: &Waiting) -> impl Iterator<Item = &[u8]> {
    keys(&waiting.ask, waiting.args.as_args())
}

/// The keys that a question concerns: all arguments of a hold, else what its row says.
pub fn keys<'a>(ask: &Ask, args: eagle_resp::Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let all = matches!(ask.kind, Kind::Hold | Kind::Release);
    let by_row = (!all).then(|| ask.spec.key_indices(args.len()));
    let every = all.then(|| 0..args.len());
    by_row.into_iter().flatten().chain(every.into_iter().flatten()).filter_map(move |index| args.get(index))
}
