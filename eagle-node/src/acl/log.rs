//! The log of what was denied, for `ACL LOG`: each core keeps its own, newest first, and what is asked for is made of all of them.
//!
//! What happens again within a minute is counted, not kept again; as in Redis, only the ten newest entries are looked at for it, so that
//! a client that is denied on and on costs little. Between cores all entries are compared.

use std::collections::VecDeque;

/// Milliseconds within which the same is one entry.
const SAME_MS: u64 = 60_000;
/// Entries looked at for one that is the same.
const LOOKED_AT_MAX: usize = 10;

/// How many reasons there are.
pub const REASONS: usize = 4;

/// Why something was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The command may not be used.
    Command,
    /// A key may not.
    Key,
    /// A channel may not.
    Channel,
    /// The password was wrong, or the user may not come in.
    Auth,
}

impl Reason {
    /// As the reply names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Key => "key",
            Self::Channel => "channel",
            Self::Auth => "auth",
        }
    }
}

/// What was denied, once or again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How often.
    pub count: u64,
    /// Why.
    pub reason: Reason,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// The user who was denied it.
    pub user: Vec<u8>,
    /// The client that asked for it last, as `CLIENT LIST` shows it.
    pub client: Vec<u8>,
    /// Unique on the node, growing.
    pub id: u64,
    /// When it happened first, Unix milliseconds.
    pub created_ms: u64,
    /// When it happened last, Unix milliseconds.
    pub updated_ms: u64,
}

impl Entry {
    fn is_same(&self, other: &Self) -> bool {
        self.reason == other.reason
            && self.updated_ms.abs_diff(other.updated_ms) <= SAME_MS
            && self.object == other.object
            && self.user == other.user
    }

    /// Takes over what another entry of the same says.
    fn absorb(&mut self, other: Self) {
        self.count += other.count;
        if other.updated_ms >= self.updated_ms {
            (self.updated_ms, self.client) = (other.updated_ms, other.client);
        }
        if other.id < self.id {
            (self.id, self.created_ms) = (other.id, other.created_ms);
        }
    }
}

/// A core's entries, newest first.
#[derive(Clone, Debug, Default)]
pub struct Log {
    entries: VecDeque<Entry>,
}

impl Log {
    /// Notes what was denied, in at most `len_max` entries.
    pub fn note(&mut self, entry: Entry, len_max: usize) {
        let same = self.entries.iter().take(LOOKED_AT_MAX).position(|known| known.is_same(&entry));
        match same.and_then(|at| self.entries.remove(at)) {
            Some(mut known) => {
                known.absorb(entry);
                self.entries.push_front(known);
            }
            None => {
                self.entries.push_front(entry);
                self.entries.truncate(len_max);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Its entries, newest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.iter().cloned().collect()
    }
}

/// What all cores denied, newest first, `count` entries at most.
#[must_use]
pub fn merged(logs: Vec<Vec<Entry>>, count: usize) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    for (nth, log) in logs.into_iter().enumerate() {
        for entry in log {
            // Those of one core are apart already.
            match all.iter_mut().find(|known| nth > 0 && known.is_same(&entry)) {
                Some(known) => known.absorb(entry),
                None => all.push(entry),
            }
        }
    }
    all.sort_by_key(|entry| std::cmp::Reverse(entry.updated_ms));
    all.truncate(count);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, object: &str, at_ms: u64) -> Entry {
        let (reason, user, client) = (Reason::Key, b"a".to_vec(), format!("id={id}").into_bytes());
        Entry { count: 1, reason, object: object.into(), user, client, id, created_ms: at_ms, updated_ms: at_ms }
    }

    fn shown(entries: &[Entry]) -> Vec<(u64, u64, String)> {
        entries.iter().map(|entry| (entry.id, entry.count, String::from_utf8_lossy(&entry.object).into())).collect()
    }

    #[test]
    fn what_happens_again_soon_is_counted() {
        // The first id stays, the newest is in front; after a minute it is another entry, and there are never too many.
        let mut log = Log::default();
        for (id, object, at_ms) in [(0, "x", 0), (1, "y", 5), (2, "x", 10), (3, "y", 70_000), (4, "z", 70_001)] {
            log.note(entry(id, object, at_ms), 3);
        }
        assert_eq!(shown(&log.entries()), [(4, 1, "z".into()), (3, 1, "y".into()), (0, 2, "x".into())]);
        assert_eq!(log.entries()[2].client, b"id=2");
    }

    #[test]
    fn the_same_of_several_cores_is_one() {
        // Counted together, first and last as of all.
        let logs = vec![vec![entry(1, "x", 5), entry(0, "y", 1)], vec![entry(3, "x", 9), entry(2, "z", 7)]];
        let all = merged(logs, 2);
        assert_eq!(shown(&all), [(1, 2, "x".into()), (2, 1, "z".into())]);
        assert_eq!((all[0].created_ms, all[0].updated_ms, &all[0].client[..]), (5, 9, &b"id=3"[..]));
    }
}
