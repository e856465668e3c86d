//! What a log with a medium knows of it: which commits are written, how far it is synced, and when what was freed may be used
//! again.
//!
//! The medium lags behind memory twice: a commit is *written* when the system has its bytes, which survive the process from
//! then on, and *synced* when they survive the loss of power. A sync covers what was written when it began.
//!
//! A freed extent may be reused only when nobody can need what it held, whatever happens next:
//!
//! ```text
//!  freed ─▶ what superseded its records is written ─▶ its memory is given back ─▶ that is synced
//!        ─▶ its header is written as invalid ─▶ that is synced ─▶ clean: may be opened
//! ```
//!
//! A few keep their memory instead, for the records that will be appended there: to fault it in again costs more than to
//! copy what lives out of an extent that is half dead.
//!
//! Before the first sync, power loss may bring back a state in which its records are the newest of their keys; before the
//! second, its old header may be read with new records behind it. (With memory that is the medium, steps that wait for
//! nothing are over at once.)
//!
//! # Runs
//!
//! The records of a run lie over the places of the headers in its body. Were they there without the run's own header, the place would
//! show no trace of what it was used for last, and its older records might be taken for some that are alive. So where the medium is a
//! file, a run is *announced* first: all but those pages is written, and synced; then they are. Until then the log does not come beyond
//! the position at which the run was opened.
//!
//! From: storage.md, "Compaction" and "Commit"; the argument is that of any log-structured store that reuses segments.

use crate::extent::ExtentId;
use crate::offset::Position;
use std::collections::VecDeque;

/// How far the medium is durable, in terms of the log's extents: every extent of a sequence below `next_sequence` is, to its
/// end, but for the open ones, which are up to a number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Synced {
    /// The sequence that the next extent would have got.
    pub next_sequence: u64,
    /// The open extents, of appends and of compaction: sequence (0 where there was none) and bytes of records.
    pub open: [(u64, u64); 2],
}

/// Bytes of [`Synced`] on the medium: three sequences of 8 bytes, two lengths of 4.
pub(crate) const SYNCED_BYTES: usize = 32;

impl Synced {
    /// Whether the extent of this sequence is durable to its end.
    #[inline]
    pub fn covers(&self, sequence: u64) -> bool {
        sequence < self.next_sequence && self.open.iter().all(|(open, _)| *open != sequence)
    }

    /// Bytes of records of the extent of this sequence that are durable, as far as that is known: `None` for all.
    pub(crate) fn bytes_of(&self, sequence: u64) -> Option<u64> {
        match self.open.iter().find(|(open, _)| *open == sequence) {
            Some((_, bytes)) => Some(*bytes),
            None if sequence < self.next_sequence => None,
            None => Some(0),
        }
    }

    /// As an extent header tells it, which has room for less: the open extent of appends is the first that is not whole.
    pub(crate) fn whole_before(&self) -> u64 {
        if self.open[0].0 == 0 { self.next_sequence } else { self.open[0].0 }
    }

    /// The open extent of compaction, if it is older than that.
    pub(crate) fn except(&self) -> u64 {
        if self.open[1].0 < self.whole_before() { self.open[1].0 } else { 0 }
    }

    pub(crate) fn to_bytes(self) -> [u8; SYNCED_BYTES] {
        let mut bytes = [0; SYNCED_BYTES];
        bytes[..8].copy_from_slice(&self.next_sequence.to_le_bytes());
        for (at, (sequence, len)) in [8, 20].into_iter().zip(self.open) {
            bytes[at..at + 8].copy_from_slice(&sequence.to_le_bytes());
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            bytes[at + 8..at + 12].copy_from_slice(&len.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SYNCED_BYTES] = bytes.try_into().ok()?;
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let open = [8, 20].map(|at| (u64_at(at), u64::from(u32_at(at + 8))));
        Some(Self { next_sequence: u64_at(0), open })
    }
}

/// What a sync covers: taken when it begins, given back when it is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncMark {
    number: u64,
    pub(crate) synced: Synced,
    position: Position,
}

impl SyncMark {
    /// Every change up to here is covered.
    pub const fn position(&self) -> Position {
        self.position
    }
}

/// The state of a log's medium.
#[derive(Debug, Default)]
pub(crate) struct Sync {
    /// What holds when the commit begun last is written.
    begun: Synced,
    /// What would be durable if a sync began and ended now.
    written: Synced,
    written_to: Position,
    /// What is durable.
    pub(crate) synced: Synced,
    pub(crate) synced_to: Position,
    /// Syncs begun.
    number: u64,
    /// Whether the log itself has said what is durable since that changed.
    pub(crate) marked: bool,
    /// Runs that are not announced yet, oldest first.
    unannounced: VecDeque<Unannounced>,
    /// Bodies of runs that are, and whose first pages are still to be written.
    pub(crate) announced: Vec<u32>,
    freed: VecDeque<Dying<Position>>,
    releasing: VecDeque<Dying<()>>,
    unsynced: VecDeque<Dying<u64>>,
    to_invalidate: Vec<Dying<()>>,
    /// Bodies of runs whose headers are not durably invalid yet.
    bodies: Vec<Dying<()>>,
    /// Heads of runs that are durably invalid, and keep their places until those of the bodies are: else the place of a body would
    /// for a while show no trace of any use.
    heads: Vec<u32>,
    invalidating: VecDeque<Dying<Position>>,
    unsynced_header: VecDeque<Dying<u64>>,
    /// Bytes of dead records in extents that are not synced to their ends, which therefore cannot be compacted yet.
    pub(crate) dead_unsynced: u64,
    /// How much of the first of `releasing` is given back.
    released: u64,
    /// Extents beyond `releasing` that keep their memory until they are clean, and then.
    kept: Vec<u32>,
    /// Extents that recovery found without a seal: to be sealed when what it dropped is durably gone.
    pub(crate) seals_due: Vec<ExtentId>,
    /// Places that it found without header, to be given one that is invalid then.
    pub(crate) headers_due: Vec<ExtentId>,
    /// The sequences of extents opened from now on are to be noted then, too.
    pub(crate) note_due: bool,
    /// Whether nothing of recovery is left to be written.
    pub(crate) is_settled: bool,
}

/// A run whose header is not known to be synced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unannounced {
    /// Its first extent.
    pub(crate) head: u32,
    /// How many they are.
    pub(crate) run: u32,
    /// No commit comes beyond this before the header is synced.
    position: Position,
    /// Syncs begun when the header was written.
    header: Option<u64>,
}

/// A freed extent, and what it waits for: a position to be written, or the sync of a number to be done.
#[derive(Clone, Copy, Debug)]
struct Dying<T> {
    index: u32,
    /// The sequence of the run of whose body it is, and the extent with the header: it is given an invalid header of its own
    /// when that one is durably invalid.
    body_of: Option<(u64, u32)>,
    /// No record that died in it is older.
    dead_version_min: u64,
    until: T,
}

impl<T> Dying<T> {
    fn then<U>(self, until: U) -> Dying<U> {
        Dying { index: self.index, body_of: self.body_of, dead_version_min: self.dead_version_min, until }
    }
}

impl Sync {
    /// The log has come to `state` when the commit that begins now is written. While a run is not announced it stays where it was.
    pub(crate) fn begin_commit(&mut self, state: Synced) {
        if self.unannounced.is_empty() {
            self.begun = state;
        }
    }

    /// A run is opened that a sync must announce; `position` is beyond every commit begun.
    pub(crate) fn open_run(&mut self, head: u32, run: u32, position: Position) {
        self.unannounced.push_back(Unannounced { head, run, position, header: None });
    }

    /// The run opened last is shorter than that, and perhaps none.
    pub(crate) fn shorten_run(&mut self, head: u32, run: u32) {
        if self.unannounced.back().is_some_and(|last| last.head == head) {
            let last = self.unannounced.pop_back().expect("there is one");
            if run > 1 {
                self.unannounced.push_back(Unannounced { run, ..last });
            }
        }
    }

    /// Up to where a commit may come that begins now, of a log that has come to `position`.
    #[inline]
    pub(crate) fn committable(&self, position: Position) -> Position {
        self.unannounced.front().map_or(position, |run| run.position)
    }

    /// The runs that are not announced.
    pub(crate) fn unannounced(&self) -> impl Iterator<Item = &Unannounced> {
        self.unannounced.iter()
    }

    /// Whether the header of a run is written and waits for a sync to begin.
    pub(crate) fn wants_to_announce(&self) -> bool {
        self.unannounced.front().is_some_and(|run| run.header == Some(self.number))
    }

    /// The commit up to `position` is written.
    pub(crate) fn written(&mut self, position: Position) {
        self.written = self.begun;
        self.written_to = position;
        for run in self.unannounced.iter_mut().filter(|run| run.header.is_none() && run.position <= position) {
            run.header = Some(self.number);
        }
        while let Some(dying) = next_due(&mut self.freed, |until| *until <= position) {
            self.releasing.push_back(dying.then(()));
        }
        while let Some(dying) = next_due(&mut self.invalidating, |until| *until <= position) {
            self.unsynced_header.push_back(dying.then(self.number));
        }
    }

    pub(crate) fn begin_sync(&mut self) -> SyncMark {
        self.number += 1;
        SyncMark { number: self.number, synced: self.written, position: self.written_to }
    }

    /// What the sync covers is durable. Returns the extents that are clean now.
    pub(crate) fn end_sync(&mut self, mark: SyncMark) -> Vec<u32> {
        if mark.synced != self.synced {
            self.synced = mark.synced;
            self.marked = false;
        }
        self.synced_to = self.synced_to.max(mark.position);
        while self.unannounced.front().is_some_and(|run| run.header.is_some_and(|number| number < mark.number)) {
            let Unannounced { head, run, .. } = self.unannounced.pop_front().expect("there is one");
            self.announced.extend(head + 1..head + run);
        }
        while let Some(dying) = next_due(&mut self.unsynced, |until| *until < mark.number) {
            let queue = if dying.body_of.is_none() { &mut self.to_invalidate } else { &mut self.bodies };
            queue.push(dying.then(()));
        }
        let due = std::iter::from_fn(|| next_due(&mut self.unsynced_header, |until| *until < mark.number));
        let due: Vec<Dying<u64>> = due.collect();
        let mut clean = Vec::new();
        for dying in due {
            let is_head = dying.body_of.is_none() && self.has_body_of(dying.index);
            if is_head { self.heads.push(dying.index) } else { clean.push(dying.index) }
        }
        let (due, others) = std::mem::take(&mut self.bodies)
            .into_iter()
            .partition(|dying| dying.body_of.is_some_and(|(_, head)| self.heads.contains(&head)));
        self.bodies = others;
        self.to_invalidate.append(&mut { due });
        let (waiting, done) = std::mem::take(&mut self.heads).into_iter().partition(|head| self.has_body_of(*head));
        self.heads = waiting;
        clean.extend::<Vec<u32>>(done);
        clean
    }

    /// Whether a body of the run with this head is not clean yet.
    fn has_body_of(&self, head: u32) -> bool {
        fn any<'d, T: 'd>(queue: impl IntoIterator<Item = &'d Dying<T>>, head: u32) -> bool {
            queue.into_iter().any(|dying| dying.body_of.is_some_and(|(_, of)| of == head))
        }
        any(&self.freed, head)
            || any(&self.releasing, head)
            || any(&self.unsynced, head)
            || any(&self.bodies, head)
            || any(&self.to_invalidate, head)
            || any(&self.invalidating, head)
            || any(&self.unsynced_header, head)
    }

    /// An extent is freed; `position` is beyond what superseded its records, and beyond every commit begun.
    pub(crate) fn free(&mut self, index: u32, body_of: Option<(u64, u32)>, dead_version_min: u64, position: Position) {
        self.freed.push_back(Dying { index, body_of, dead_version_min, until: position });
    }

    /// The next piece of memory of freed extents to be given back: an extent and bytes of it, at most `bytes_max`.
    pub(crate) fn next_to_release(&mut self, extent_bytes: u64, bytes_max: u64) -> Option<(u32, std::ops::Range<u64>)> {
        let dying = *self.releasing.front()?;
        let start = self.released;
        self.released = extent_bytes.min(start + bytes_max);
        let range = start..self.released;
        if self.released == extent_bytes {
            self.released = 0;
            self.releasing.pop_front();
            self.unsynced.push_back(dying.then(self.number));
        }
        Some((dying.index, range))
    }

    /// The extent whose memory is to be given back next, if that has not begun.
    pub(crate) fn next_whole(&self) -> Option<u32> {
        self.releasing.front().filter(|_| self.released == 0).map(|dying| dying.index)
    }

    /// Lets that one keep its memory.
    pub(crate) fn keep_next(&mut self) {
        if let Some(dying) = self.releasing.pop_front() {
            self.kept.push(dying.index);
            self.unsynced.push_back(dying.then(self.number));
        }
    }

    /// How many keep their memory and are not clean yet.
    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Whether an extent that is clean now has kept its memory.
    pub(crate) fn take_kept(&mut self, index: u32) -> bool {
        let at = self.kept.iter().position(|kept| *kept == index);
        at.map(|at| self.kept.swap_remove(at)).is_some()
    }

    /// The extents whose headers are to be made invalid, those of bodies with the sequence that these are to have; `position` is
    /// beyond that.
    pub(crate) fn invalidate(&mut self, position: impl FnOnce() -> Position) -> Vec<(u32, Option<u64>)> {
        if self.to_invalidate.is_empty() {
            return Vec::new();
        }
        let position = position();
        let sequence = |dying: &Dying<()>| dying.body_of.map(|(sequence, _)| sequence);
        let indices = self.to_invalidate.iter().map(|dying| (dying.index, sequence(dying))).collect();
        self.invalidating.extend(self.to_invalidate.drain(..).map(|dying| dying.then(position)));
        indices
    }

    pub(crate) fn has_to_invalidate(&self) -> bool {
        !self.to_invalidate.is_empty()
    }

    /// Whether something was freed that waits for a sync.
    pub(crate) fn wants_sync(&self) -> bool {
        !self.unsynced.is_empty() || !self.unsynced_header.is_empty()
    }

    /// Freed extents that still have their memory.
    pub(crate) fn unreleased(&self) -> usize {
        self.freed.len() + self.releasing.len()
    }

    /// How much of them is given back, in bytes.
    pub(crate) const fn released(&self) -> u64 {
        self.released
    }

    /// The oldest dead record of extents that are not yet clean.
    pub(crate) fn dead_version_min(&self) -> u64 {
        fn least<T>(queue: &VecDeque<Dying<T>>) -> u64 {
            queue.iter().map(|dying| dying.dead_version_min).min().unwrap_or(u64::MAX)
        }
        let queued = [
            least(&self.freed),
            least(&self.releasing),
            least(&self.unsynced),
            least(&self.invalidating),
            least(&self.unsynced_header),
        ];
        let waiting = self.to_invalidate.iter().chain(&self.bodies).map(|dying| dying.dead_version_min);
        waiting.chain(queued).min().unwrap_or(u64::MAX)
    }
}

/// The first of a queue, if what it waits for has come.
fn next_due<T>(queue: &mut VecDeque<Dying<T>>, has_come: impl Fn(&T) -> bool) -> Option<Dying<T>> {
    if queue.front().is_some_and(|dying| has_come(&dying.until)) { queue.pop_front() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: u64 = 64 << 10;

    fn release_all(sync: &mut Sync) {
        while sync.next_to_release(EXTENT, EXTENT / 4).is_some() {}
    }

    #[test]
    fn a_freed_extent_is_clean_after_two_syncs_and_not_before() {
        // What superseded it is written, synced, its header zeroed, written, synced: each sync must have begun afterwards.
        let at = Position::from_raw;
        let mut sync = Sync::default();
        sync.free(7, None, 3, at(10));
        sync.written(at(9));
        assert!(sync.next_to_release(EXTENT, EXTENT).is_none(), "its successor is not written");
        let early = sync.begin_sync();
        sync.written(at(10));
        release_all(&mut sync);
        assert!(sync.end_sync(early).is_empty());
        assert!(!sync.has_to_invalidate(), "that sync began too early");
        let first = sync.begin_sync();
        assert!(sync.end_sync(first).is_empty());
        assert_eq!(sync.invalidate(|| at(20)), [(7, None)]);
        let early = sync.begin_sync();
        sync.written(at(20));
        assert!(sync.end_sync(early).is_empty());
        assert_eq!(sync.dead_version_min(), 3);
        let second = sync.begin_sync();
        assert_eq!(sync.end_sync(second), [7]);
        assert_eq!(sync.dead_version_min(), u64::MAX);
        assert!(!sync.wants_sync());
    }

    #[test]
    fn a_run_is_clean_all_at_once_however_late_its_memory_is_given_back() {
        // The head is durably invalid before the body's memory is even released: the body still gets its header, and only then is
        // the head's place free.
        let mut sync = Sync::default();
        let mut position = 10;
        sync.free(7, None, 3, Position::from_raw(1));
        sync.free(8, Some((5, 7)), 3, Position::from_raw(1));
        let mut clean = Vec::new();
        for round in 0..12 {
            sync.written(Position::from_raw(position));
            if round == 0 || round == 6 {
                sync.next_to_release(EXTENT, EXTENT);
            }
            let mark = sync.begin_sync();
            clean.extend(sync.end_sync(mark));
            assert!(clean.is_empty() || round > 6, "round {round}");
            position += 10;
            let due = sync.invalidate(|| Position::from_raw(position));
            assert!(due.iter().all(|(index, body_of)| body_of.is_some() == (*index == 8)));
        }
        clean.sort_unstable();
        assert_eq!(clean, [7, 8]);
        assert_eq!(sync.dead_version_min(), u64::MAX);
    }

    #[test]
    fn what_is_synced_survives_its_bytes() {
        // All numbers come back; other lengths are none.
        let synced = Synced { next_sequence: 1 << 50, open: [(1 << 49, 77), (3, 1 << 20)] };
        assert_eq!(Synced::parse(&synced.to_bytes()), Some(synced));
        assert_eq!(Synced::parse(&[0; 31]), None);
        assert!(synced.covers(4) && !synced.covers(3) && !synced.covers(1 << 50));
        assert_eq!((synced.bytes_of(3), synced.bytes_of(5), synced.bytes_of(1 << 51)), (Some(1 << 20), None, Some(0)));
        assert_eq!((synced.whole_before(), synced.except()), (1 << 49, 3));
    }
}
