//! The commit gate of a core: what is durable, and how much so; what is on its way; and which keys show what is not.
//!
//! ```text
//!  positions   synced            written            begun          now
//!  ───────────────┼─────────────────┼─────────────────┼──────────────┼──▶
//!  keys changed   │ syncing │ unsynced │    writing    │     next     │    a filter of key hashes each
//! ```
//!
//! There are two levels of durability ([`Level`]): *written* bytes survive the process, *synced* ones the loss of power. One
//! commit's writes and one sync are in flight at a time; what is written meanwhile joins the next. A reply to a write waits for
//! the position behind its records, at the level that its connection asks for. A reply also promises what it read: one that shows
//! a write below that level, or the absence that one left, waits as well. Small filters of key hashes decide; a false hit only
//! makes a reply wait for a commit that comes anyway.
//!
//! A failed write or sync is final: positions behind it are never reached, and the gate refuses from then on.

use eagle_pmem::Position;

/// Bits of a filter, of which a key sets two: with 50 keys a commit one read in 100,000 waits without need, with 1600 one in 100.
const BITS: usize = 1 << 15;

/// Who says when a commit is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// Nobody needs to: it holds when it is made (memory that is the medium), or promises nothing (no pool). Replies leave at
    /// once.
    Immediate,
    /// The runtime or the simulator, by `Event::Stored`.
    Reported,
}

/// How durable something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The system has it: it survives the end of the process.
    Written,
    /// The medium has it: it survives the loss of power.
    Synced,
}

/// What a reply waits for: everything before a position is as durable as this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Up to where.
    pub position: Position,
    /// How durable.
    pub level: Level,
}

impl Promise {
    /// Whether it holds what the other promises as well.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.position >= other.position && self.level >= other.level
    }
}

/// How far a log is written and synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Everything before it is written.
    pub written: Position,
    /// Everything before it is synced; never beyond `written`.
    pub synced: Position,
}

impl Reached {
    /// The same of both.
    #[must_use]
    pub fn all(position: Position) -> Self {
        Self { written: position, synced: position }
    }

    /// How far it is at this level.
    #[must_use]
    pub fn at(self, level: Level) -> Position {
        match level {
            Level::Written => self.written,
            Level::Synced => self.synced,
        }
    }

    /// Whether a promise holds.
    #[inline]
    #[must_use]
    pub fn holds(self, promise: Promise) -> bool {
        promise.position <= self.at(promise.level)
    }
}

#[derive(Debug)]
struct Filter {
    words: Box<[u64; BITS / 64]>,
    /// Everything was touched (a flush, say).
    all: bool,
    any: bool,
}

impl Filter {
    fn new() -> Self {
        Self { words: Box::new([0; BITS / 64]), all: false, any: false }
    }

    fn bits(hash: u64) -> [usize; 2] {
        [hash as usize % BITS, (hash >> 32) as usize % BITS]
    }

    fn set(&mut self, hash: u64) {
        for bit in Self::bits(hash) {
            self.words[bit / 64] |= 1 << (bit % 64);
        }
        self.any = true;
    }

    fn has(&self, hash: u64) -> bool {
        self.all || self.any && Self::bits(hash).iter().all(|bit| self.words[bit / 64] >> (bit % 64) & 1 == 1)
    }

    fn clear(&mut self) {
        if self.any {
            self.words.fill(0);
            self.any = false;
            self.all = false;
        }
    }

    /// Has what another has, too.
    fn add(&mut self, other: &Self) {
        if other.any {
            for (word, more) in self.words.iter_mut().zip(other.words.iter()) {
                *word |= more;
            }
            self.all |= other.all;
            self.any = true;
        }
    }

    /// Takes over what another has, which is empty then.
    fn absorb(&mut self, other: &mut Self) {
        if self.any {
            self.add(other);
            other.clear();
        } else {
            std::mem::swap(self, other);
        }
    }
}

/// What is durable on a core, and what waits for it.
#[derive(Debug)]
pub struct Gate {
    mode: CommitMode,
    reached: Reached,
    /// The end of the commit whose writes are in flight.
    writing: Option<Position>,
    /// What the sync in flight covers.
    syncing: Option<Position>,
    failed: bool,
    /// Keys changed since the last commit began.
    next: Filter,
    /// Keys changed by the commit whose writes are in flight.
    current: Filter,
    /// Keys changed by commits that are written and that no sync covers.
    unsynced: Filter,
    /// Keys changed by what the sync in flight covers.
    in_sync: Filter,
}

impl Gate {
    /// A gate at `position`, nothing in flight.
    #[must_use]
    pub fn new(mode: CommitMode, position: Position) -> Self {
        Self {
            mode,
            reached: Reached::all(position),
            writing: None,
            syncing: None,
            failed: false,
            next: Filter::new(),
            current: Filter::new(),
            unsynced: Filter::new(),
            in_sync: Filter::new(),
        }
    }

    /// Whether anybody has to wait at all.
    #[inline]
    #[must_use]
    pub fn waits(&self) -> bool {
        self.mode == CommitMode::Reported
    }

    /// How far all is durable.
    #[inline]
    #[must_use]
    pub fn reached(&self) -> Reached {
        self.reached
    }

    /// Whether a write or sync has failed: writers are refused for good.
    #[inline]
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// A key was written.
    pub fn wrote(&mut self, hash: u64) {
        self.next.set(hash);
    }

    /// Any key may have been written.
    pub fn wrote_all(&mut self) {
        self.next.all = true;
        self.next.any = true;
    }

    /// Up to where a reader of this key sees what is not as durable as `level`; `now` is how far the log is.
    #[must_use]
    pub fn shows(&self, hash: u64, level: Level, now: Position) -> Option<Position> {
        self.latest(level, now, |filter| filter.has(hash))
    }

    /// Up to where a reader of everything sees what is not as durable as `level`; `now` is how far the log is.
    #[must_use]
    pub fn shows_any(&self, level: Level, now: Position) -> Option<Position> {
        self.latest(level, now, |filter| filter.any)
    }

    fn latest(&self, level: Level, now: Position, is_in: impl Fn(&Filter) -> bool) -> Option<Position> {
        if is_in(&self.next) {
            return Some(now);
        }
        if is_in(&self.current) {
            // After a failure nothing is in flight, and what was is never reached.
            return Some(self.writing.unwrap_or(now));
        }
        if level == Level::Written {
            return None;
        }
        if is_in(&self.unsynced) {
            return Some(self.reached.written);
        }
        is_in(&self.in_sync).then(|| self.syncing.unwrap_or(self.reached.written))
    }

    /// Whether anything is not as durable as this.
    #[inline]
    #[must_use]
    pub fn dirty(&self, level: Level) -> bool {
        self.next.any || self.current.any || level == Level::Synced && (self.unsynced.any || self.in_sync.any)
    }

    /// May a commit begin? One is in flight at a time, none after a failure.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.writing.is_none() && !self.failed
    }

    /// A commit up to `position` begins of a log that has come to `now`: what lies between may be part of it, and is promised by a later
    /// one. In `Immediate` mode it is done.
    pub fn begin(&mut self, position: Position, now: Position) {
        debug_assert!(self.ready());
        if self.mode == CommitMode::Immediate {
            self.reached = Reached::all(position);
            return;
        }
        if position > self.reached.written {
            self.writing = Some(position);
            if position == now {
                std::mem::swap(&mut self.current, &mut self.next);
            } else {
                self.current.add(&self.next);
            }
        }
    }

    /// The commit in flight is written.
    pub fn written(&mut self) {
        self.reached.written = self.writing.take().expect("the commit reported is the one in flight");
        self.unsynced.absorb(&mut self.current);
    }

    /// A sync begins: it covers what is written.
    pub fn begin_sync(&mut self) {
        debug_assert!(self.syncing.is_none(), "one sync is in flight at a time");
        self.syncing = Some(self.reached.written);
        std::mem::swap(&mut self.in_sync, &mut self.unsynced);
    }

    /// The sync in flight is done.
    pub fn synced(&mut self) {
        self.reached.synced = self.syncing.take().expect("the sync reported is the one in flight");
        self.in_sync.clear();
    }

    /// What was in flight failed.
    pub fn fail(&mut self) {
        self.failed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(raw: u64) -> Position {
        Position::from_raw(raw)
    }

    #[test]
    fn a_written_key_is_shown_until_its_own_commit_is_done() {
        // Written during a commit: that commit does not clear it, the next one does.
        let mut gate = Gate::new(CommitMode::Reported, at(0));
        let shows = |gate: &Gate, hash| gate.shows(hash, Level::Written, at(99));
        gate.wrote(1);
        gate.begin(at(10), at(10));
        gate.wrote(2);
        assert_eq!([1, 2, 3].map(|hash| shows(&gate, hash)), [Some(at(10)), Some(at(99)), None]);
        gate.written();
        assert_eq!([1, 2].map(|hash| shows(&gate, hash)), [None, Some(at(99))]);
        gate.begin(at(20), at(20));
        gate.written();
        assert!(!gate.dirty(Level::Written) && gate.dirty(Level::Synced));
    }

    #[test]
    fn a_key_is_shown_until_the_commit_that_promises_it() {
        // The first commit stops short of what was written: the second promises it.
        let mut gate = Gate::new(CommitMode::Reported, at(0));
        gate.wrote(1);
        gate.begin(at(5), at(10));
        assert_eq!(gate.shows(1, Level::Written, at(10)), Some(at(10)));
        gate.written();
        assert_eq!(gate.shows(1, Level::Written, at(10)), Some(at(10)));
        gate.begin(at(10), at(10));
        gate.written();
        assert_eq!(gate.shows(1, Level::Written, at(10)), None);
    }

    #[test]
    fn a_written_key_is_synced_by_a_sync_that_began_afterwards() {
        // One commit before the sync began, one during it: the first is synced by it, the second by the next.
        let mut gate = Gate::new(CommitMode::Reported, at(0));
        let shows = |gate: &Gate, hash| gate.shows(hash, Level::Synced, at(99));
        gate.wrote(1);
        gate.begin(at(10), at(10));
        gate.written();
        assert_eq!(shows(&gate, 1), Some(at(10)));
        gate.begin_sync();
        gate.wrote(2);
        gate.begin(at(20), at(20));
        gate.written();
        assert_eq!([1, 2].map(|hash| shows(&gate, hash)), [Some(at(10)), Some(at(20))]);
        gate.synced();
        assert_eq!([1, 2].map(|hash| shows(&gate, hash)), [None, Some(at(20))]);
        assert_eq!(gate.reached(), Reached { written: at(20), synced: at(10) });
        gate.begin_sync();
        gate.synced();
        assert!(!gate.dirty(Level::Synced));
        assert_eq!(gate.reached(), Reached::all(at(20)));
    }

    #[test]
    fn a_failure_is_final() {
        // Nothing commits after it, and what was being written stays shown.
        let mut gate = Gate::new(CommitMode::Reported, at(0));
        gate.wrote(1);
        gate.begin(at(10), at(10));
        gate.fail();
        assert!(gate.failed() && !gate.ready() && gate.shows(1, Level::Written, at(10)).is_some());
        assert_eq!(gate.reached(), Reached::all(at(0)));
    }
}
