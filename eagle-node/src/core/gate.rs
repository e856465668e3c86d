//! The commit gate of a core: what is durable, what is on its way, and which keys show what is neither.
//!
//! One commit is in flight at a time; what is written meanwhile joins the next. A reply to a write waits for the
//! position behind its records. A reply also promises what it read: one that shows a write not yet committed, or the
//! absence that one left, waits as well. Two small filters of key hashes decide, one for the commit in flight and one
//! for the next; a false hit only makes a reply wait for a commit that comes anyway.
//!
//! A failed commit is final: positions behind it are never reached, and the gate refuses from then on.

use eagle_pmem::Position;

/// Bits of a filter; with a few hundred writes a commit some percent of the reads wait without need.
const BITS: usize = 1 << 13;

/// Who says when a commit is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// Nobody needs to: volatile pools promise nothing, replies leave at once.
    Immediate,
    /// The runtime or the simulator, by `Event::Committed`.
    Reported,
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

    fn set(&mut self, hash: u64) {
        let bit = hash as usize % BITS;
        self.words[bit / 64] |= 1 << (bit % 64);
        self.any = true;
    }

    fn has(&self, hash: u64) -> bool {
        let bit = hash as usize % BITS;
        self.all || self.words[bit / 64] >> (bit % 64) & 1 == 1
    }

    fn clear(&mut self) {
        if self.any || self.all {
            self.words.fill(0);
            self.any = false;
            self.all = false;
        }
    }
}

/// What is durable on a core, and what waits for it.
#[derive(Debug)]
pub struct Gate {
    mode: CommitMode,
    committed: Position,
    in_flight: Option<Position>,
    failed: bool,
    /// Keys changed since the last commit began.
    next: Filter,
    /// Keys changed by the commit in flight.
    current: Filter,
}

impl Gate {
    /// A gate at `position`, nothing in flight.
    #[must_use]
    pub fn new(mode: CommitMode, position: Position) -> Self {
        Self { mode, committed: position, in_flight: None, failed: false, next: Filter::new(), current: Filter::new() }
    }

    /// Whether anybody has to wait at all.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.mode == CommitMode::Reported
    }

    /// Everything before this is durable as configured.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.committed
    }

    /// Whether a commit has failed: writers are refused for good.
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

    /// Whether a reader of this key sees what is not committed yet.
    #[must_use]
    pub fn touches(&self, hash: u64) -> bool {
        self.next.has(hash) || self.current.has(hash)
    }

    /// Whether anything is not committed yet.
    #[must_use]
    pub fn dirty(&self) -> bool {
        self.next.any || self.current.any
    }

    /// May a commit begin? One is in flight at a time, none after a failure.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.in_flight.is_none() && !self.failed
    }

    /// A commit up to `position` begins. In `Immediate` mode it is done.
    pub fn begin(&mut self, position: Position) {
        debug_assert!(self.ready());
        if self.mode == CommitMode::Immediate {
            self.committed = position;
            return;
        }
        if position > self.committed {
            self.in_flight = Some(position);
            std::mem::swap(&mut self.current, &mut self.next);
        }
    }

    /// The commit up to `position` is done.
    pub fn done(&mut self, position: Position) {
        assert_eq!(self.in_flight.take(), Some(position), "the commit reported is the one in flight");
        self.committed = position;
        self.current.clear();
    }

    /// The commit in flight failed.
    pub fn fail(&mut self) {
        self.in_flight = None;
        self.failed = true;
    }

    /// Whether a commit is under way.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.in_flight.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_key_is_touched_until_its_own_commit_is_done() {
        // Written during a commit: that commit does not clear it, the next one does.
        let at = Position::from_raw;
        let mut gate = Gate::new(CommitMode::Reported, at(0));
        gate.wrote(1);
        gate.begin(at(10));
        gate.wrote(2);
        assert!(gate.touches(1) && gate.touches(2) && !gate.touches(3));
        gate.done(at(10));
        assert!(!gate.touches(1) && gate.touches(2));
        gate.begin(at(20));
        gate.done(at(20));
        assert!(!gate.dirty());
    }

    #[test]
    fn a_failure_is_final() {
        // Nothing commits after it, and what was being written stays touched.
        let at = Position::from_raw;
        let mut gate = Gate::new(CommitMode::Reported, at(0));
        gate.wrote(1);
        gate.begin(at(10));
        gate.fail();
        assert!(gate.failed() && !gate.ready() && gate.touches(1));
        assert_eq!(gate.committed(), at(0));
    }
}
