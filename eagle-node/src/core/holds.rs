//! Holds keep keys still while a command of several shards is at work on them.
//!
//! A RENAME from one shard to another copies, waits for the commit, and deletes; between these steps nobody else may
//! see or change the two keys. Its home core asks each shard in ascending order to hold them (so two such commands
//! cannot wait for each other), works with `Kind::RunHolding`, and releases. Whoever else wants a held key waits here,
//! in order; and because the commands of one connection on one shard take effect in order, what follows on a connection
//! whose command waits here waits as well.
//!
//! While commands are paused ([`super::pause`]) everything is held for those that would write.
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

/// Keys held on one shard, and who waits for them.
#[derive(Debug, Default)]
pub struct Holds {
    held: AHashSet<Box<[u8]>>,
    waiting: VecDeque<Waiting>,
    /// How many questions of a connection wait.
    askers: AHashMap<(CoreId, ConnId), u32>,
    /// Nobody may write.
    writes_held: bool,
}

impl Holds {
    /// Nothing is held and nobody waits: the usual case.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.waiting.is_empty() && !self.writes_held
    }

    /// Whether a command of `asker` on this core's own shard must wait for `keys`.
    #[must_use]
    pub fn stops_own<'a>(&self, asker: (CoreId, ConnId), keys: impl Iterator<Item = &'a [u8]>) -> bool {
        self.askers.contains_key(&asker) || self.any_held(keys)
    }

    /// Whether a question of `from` must wait.
    #[must_use]
    pub fn stops(&self, ask: &Ask, from: CoreId, args: eagle_resp::Args<'_>) -> bool {
        self.writes_held && ask.spec.writes() || self.stops_own((from, ask.asker), keys(ask, args))
    }

    /// From now on nobody may write, or everybody again: then [`Self::next_free`] says who may go on.
    pub fn hold_writes(&mut self, hold: bool) {
        self.writes_held = hold;
    }

    fn any_held<'a>(&self, mut keys: impl Iterator<Item = &'a [u8]>) -> bool {
        keys.any(|key| self.held.contains(key))
    }

    /// Lets a question wait.
    pub fn wait(&mut self, waiting: Waiting) {
        *self.askers.entry((waiting.from, waiting.ask.asker)).or_default() += 1;
        self.waiting.push_back(waiting);
    }

    /// Holds keys that nobody holds.
    pub fn hold<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>) {
        for key in keys {
            self.held.insert(key.into());
        }
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
        for (index, waiting) in self.waiting.iter().enumerate() {
            let asker = (waiting.from, waiting.ask.asker);
            let key_is_taken = |key| self.held.contains(key) || wanted.contains(key);
            let may_write = !self.writes_held || !waiting.ask.spec.writes();
            let free = may_write && !before.contains(&asker) && !keys_of(waiting).any(key_is_taken);
            if free {
                found = Some(index);
                break;
            }
            before.insert(asker);
            wanted.extend(keys_of(waiting));
        }
        let waiting = self.waiting.remove(found?)?;
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
