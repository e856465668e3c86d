//! Storage carries out what a core asks of its pool's medium ([`crate::core::event::Storage`]), through the core's own ring.
//!
//! ```text
//!  Write  ─▶ a write a range ──(linked)──▶ fdatasync          Grow  ─▶ fallocate ─▶ zeros, piece by piece ─▶ fdatasync
//!            short: the rest again, then the sync by itself           ─▶ the zeros leave the page cache
//!         or, where only this is to be synced:
//!            a direct write a range that is synced by itself
//!  Sync   ─▶ fdatasync                                         Punch ─▶ fallocate, range by range
//! ```
//!
//! A write of few ranges whose sync is waited for goes past the page cache where the file system lets it (`O_DIRECT`), and is synced by its own
//! `RWF_DSYNC` if all that was written before it is synced. ext4 begins such a write within the submission, while a buffered
//! one and an fdatasync each pass through a thread of the kernel's. Measured on ext4 (4 KiB; 160 KiB), p50 us and CPU us:
//! buffered and fdatasync, linked, 101 and 48; 182 and 76. Direct with `RWF_DSYNC` 84 and 18; 123 and 28. A write that nobody
//! waits to be synced is a copy into the page cache: 9 and 10; 18 and 23 against 50 and 20; 89 and 29 of a direct one.
//!
//! Nothing waits: an operation ends with a completion, and when nothing of what was asked for is left to do, with an event. A
//! write that the system did in part is done in full before anything is said of it; an error is told, never tried again. A
//! sync that ended well counts only if it certainly began when the writes before it had ended: one whose chain was broken
//! (a short write) or cut (see [`super::ring`]) is asked for again.
//!
//! The file grows through a descriptor of its own: the system reports a failed write-back once to each, and what
//! growing hears of it must not be kept from the commit's sync.
//!
//! What always holds: memory that the kernel reads (records of the log, the zeros) stays in place while an operation is in flight.
//! The log promises it for what a commit names until the core has told it that the commit is written, and the core does
//! after the event; the core loop lets go of neither while [`Storage::is_quiet`] says no.

use std::{
    collections::VecDeque,
    fs::File,
    ops::Range,
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use io_uring::types::Timespec;

mod direct;

use self::direct::Direct;
use super::{checkpoint::CHECKPOINT, ring::Ring};
use crate::{
    core::event::{CoreId, Storage as Action, Stored},
    faults::Faults,
};

const SYNC: u32 = 1 << 24;
const GROW: u32 = 2 << 24;
// Checkpoints use the number between.
const PUNCH: u32 = 4 << 24;
const _: () = assert!(GROW < CHECKPOINT && CHECKPOINT < PUNCH);
/// Of [`SYNC`] and what is above, the kind; below, the piece of a write.
const KIND_MASK: u32 = !0 << 24;

/// The longest chain of writes; of more pieces the sync is asked for when they have ended.
const CHAIN_MAX: usize = 64;
/// Bytes of one operation at most; the system does not write more than 2 GiB at once.
const WRITE_BYTES_MAX: u64 = 1 << 30;
/// Bytes of zeros written at once: few enough not to stand in a commit's way.
const ZEROS: usize = 256 << 10;
/// Times that the system may do nothing of a write without saying why.
const FRUITLESS_MAX: u32 = 1000;

/// A pool's file, as its core writes to it.
pub(super) struct Storage {
    core: CoreId,
    file: OwnedFd,
    /// The same file, to be written past the page cache, where that can be.
    direct: Option<Direct>,
    /// The same file, opened again.
    growth_file: File,
    /// Writes begun that are not synced each by itself, and up to which of them a sync has covered them: those found at the start count
    /// as one.
    unsynced: u64,
    unsynced_covered: u64,
    write: Option<Write>,
    sync: Option<Sync>,
    growth: Option<Growth>,
    /// Ranges that are still to be punched, the first of them now, in reverse order.
    punch: Option<Vec<Range<u64>>>,
    ended: VecDeque<(Stored, Result<(), i32>)>,
}

/// A write under way.
struct Write {
    pieces: Vec<Piece>,
    /// A sync is to follow it.
    is_synced: bool,
    /// What is in flight of it goes past the page cache.
    is_direct: bool,
    /// And is synced by itself.
    syncs_itself: bool,
    in_flight: usize,
    fruitless: u32,
    error: Option<i32>,
}

/// A range of a write.
struct Piece {
    offset: u64,
    bytes: *const u8,
    left: u64,
    /// What its operation fails with although it was not even tried.
    fault: Option<i32>,
}

impl Piece {
    /// Whether it can be written directly.
    fn is_aligned(&self) -> bool {
        [self.offset as usize, self.bytes.addr(), self.left as usize].iter().all(|at| at.is_multiple_of(direct::ALIGN))
    }
}

/// A sync under way.
#[derive(Default)]
struct Sync {
    state: SyncState,
    /// In flight behind the writes of a chain.
    is_linked: bool,
    /// Of the writes that are not synced each by itself, it covers so many.
    covers: u64,
    fault: Option<i32>,
    time: Box<Timespec>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SyncState {
    /// To be asked for.
    #[default]
    Due,
    /// The time by which it is late runs.
    Late,
    /// Asked for.
    InFlight,
    /// It has ended.
    Ended(Result<(), i32>),
}

/// A growth under way.
struct Growth {
    ranges: Vec<Range<u64>>,
    /// Of the present step: the range, and up to where it has zeros.
    at: usize,
    done: u64,
    step: Step,
    fault: Option<i32>,
    zeros: Box<[u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Allocating,
    Zeroing,
    Syncing,
    Forgetting,
}

impl Storage {
    /// Of the pool of this core, in this file; `growth_file` is the same file, opened again.
    pub(super) fn new(core: CoreId, file: OwnedFd, growth_file: File) -> Self {
        let direct = Direct::new(&file);
        if direct.is_none() {
            tracing::debug!("The pool of core {} cannot be written past the page cache", core.0);
        }
        let ended = VecDeque::new();
        let (unsynced, unsynced_covered) = (1, 0);
        let (write, sync, growth, punch) = (None, None, None, None);
        Self { core, file, direct, growth_file, unsynced, unsynced_covered, write, sync, growth, punch, ended }
    }

    /// Begins something; `bytes` gives the memory of a range of the pool.
    ///
    /// # Safety
    /// What `bytes` gives stays in place until the write's end is told by [`Self::next_ended`].
    pub(super) unsafe fn begin<'a>(
        &mut self,
        action: Action,
        bytes: impl Fn(Range<u64>) -> &'a [u8],
        ring: &mut Ring,
        faults: &Faults,
    ) {
        match action {
            Action::Write { ranges, sync } => {
                assert!(self.write.is_none() && !(sync && self.sync.is_some()), "one write is in flight a core");
                let piece = |range: &Range<u64>| Piece {
                    offset: range.start,
                    bytes: bytes(range.clone()).as_ptr(),
                    left: range.end - range.start,
                    fault: None,
                };
                let pieces = ranges.iter().map(piece).collect();
                self.write = Some(Write {
                    pieces,
                    is_synced: sync,
                    is_direct: false,
                    syncs_itself: false,
                    in_flight: 0,
                    fruitless: 0,
                    error: None,
                });
                self.sync = if sync { Some(Sync::default()) } else { self.sync.take() };
                if faults.is_write_short(self.core) {
                    self.begin_short(ring);
                } else {
                    self.go_on_writing(ring, faults);
                }
            }
            Action::Sync => {
                assert!(self.sync.is_none(), "one sync is in flight a core");
                self.sync = Some(Sync::default());
            }
            Action::Punch(mut ranges) => {
                assert!(self.punch.is_none() && !ranges.is_empty(), "space is given back once at a time");
                ranges.reverse();
                self.punch = Some(ranges);
                self.punch_next(ring);
            }
            Action::Grow(ranges) => {
                assert!(self.growth.is_none(), "one growth is under way a core");
                let fault = faults.growth_error(self.core);
                if fault.is_some() {
                    ring.nothing(GROW);
                } else {
                    ring.allocate(GROW, self.growth_file.as_raw_fd(), &ranges[0]);
                }
                let zeros = vec![0; ZEROS].into_boxed_slice();
                self.growth = Some(Growth { ranges, at: 0, done: 0, step: Step::Allocating, fault, zeros });
            }
        }
        self.settle(ring, faults);
    }

    /// An operation has ended.
    pub(super) fn completed(&mut self, operation: u32, result: Result<usize, i32>, ring: &mut Ring, faults: &Faults) {
        match operation & KIND_MASK {
            SYNC => self.sync_completed(result.map(drop), ring),
            GROW => self.growth_completed(result, ring),
            PUNCH => self.punch_completed(result.map(drop), ring),
            _ => self.piece_completed(operation as usize, result),
        }
        self.settle(ring, faults);
    }

    /// What has ended, in order.
    pub(super) fn next_ended(&mut self) -> Option<(Stored, Result<(), i32>)> {
        self.ended.pop_front()
    }

    /// A write or sync is in flight.
    pub(super) fn is_committing(&self) -> bool {
        self.write.is_some() || self.sync.is_some()
    }

    /// Nothing is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.write.is_none() && self.sync.is_none() && self.growth.is_none() && self.punch.is_none()
    }

    fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Asks for what is left of the write, with the sync in or behind it if there is to be one and it can be.
    fn go_on_writing(&mut self, ring: &mut Ring, faults: &Faults) {
        let write = self.write.as_mut().expect("a write goes on");
        let fault = faults.write_error(self.core);
        let pieces = write.pieces.iter().filter(|piece| piece.left > 0).count();
        let syncs_well = write.is_synced
            && fault.is_none()
            && faults.sync_error(self.core).is_none()
            && faults.sync_delay_ms(self.core) == 0;
        let is_aligned = || write.pieces.iter().all(Piece::is_aligned);
        let mut direct = self
            .direct
            .as_mut()
            .filter(|direct| write.is_synced && pieces <= direct::PIECES_MAX && !direct.is_refused && is_aligned());
        let is_clean = self.unsynced == self.unsynced_covered;
        write.is_direct = direct.is_some();
        write.syncs_itself = write.is_direct && syncs_well && is_clean;
        self.unsynced += u64::from(!write.syncs_itself);
        let links = !write.is_direct && syncs_well && pieces <= CHAIN_MAX && ring.has_room(pieces + 1);
        let mut nth = 0..;
        for (number, piece) in (0..).zip(&mut write.pieces).filter(|(_, piece)| piece.left > 0) {
            piece.fault = fault;
            write.in_flight += 1;
            let bytes = (piece.bytes, piece.left.min(WRITE_BYTES_MAX) as u32);
            match (&mut direct, nth.next()) {
                _ if fault.is_some() => ring.nothing(number),
                // SAFETY: the log's memory, in place until this write's end is told, as `begin` was promised; no other piece in
                // flight is the `nth`.
                (Some(direct), Some(nth)) => unsafe {
                    direct.write(number, nth, piece.offset, bytes, write.syncs_itself, ring);
                },
                // SAFETY: as above.
                _ => unsafe { ring.write(number, self.file.as_raw_fd(), piece.offset, bytes, links) },
            }
        }
        if links {
            ring.sync(SYNC, self.file.as_raw_fd());
            let sync = self.sync.as_mut().expect("to follow the write");
            (sync.state, sync.is_linked, sync.covers) = (SyncState::InFlight, true, self.unsynced);
        }
    }

    /// As a system does that writes less than it was asked to: half of the first piece.
    fn begin_short(&mut self, ring: &mut Ring) {
        let fd = self.fd();
        self.unsynced += 1;
        let write = self.write.as_mut().expect("a write begins");
        if let Some(piece) = write.pieces.first() {
            let len = piece.left.min(WRITE_BYTES_MAX) as u32;
            write.in_flight = 1;
            // SAFETY: as in `go_on_writing`.
            unsafe { ring.write(0, fd, piece.offset, (piece.bytes, len.div_ceil(2)), false) };
        }
    }

    fn piece_completed(&mut self, number: usize, result: Result<usize, i32>) {
        let write = self.write.as_mut().expect("a piece is of a write");
        let piece = &mut write.pieces[number];
        write.in_flight -= 1;
        match piece.fault.take().map_or(result, Err) {
            Ok(written @ 1..) => {
                // What is written directly begins at a whole page, also after a short write.
                let is_short = write.is_direct && (written as u64) < piece.left;
                let written = if is_short { written / direct::ALIGN * direct::ALIGN } else { written };
                write.fruitless = if written > 0 { 0 } else { write.fruitless + 1 };
                piece.offset += written as u64;
                // SAFETY: at most to the end of the piece, of which the kernel has written so much.
                piece.bytes = unsafe { piece.bytes.add(written) };
                piece.left -= written as u64;
            }
            // The file system opens files for direct writes and does not do them, or not these.
            Err(libc::EINVAL) if write.is_direct => {
                if let Some(direct) = &mut self.direct {
                    direct.is_refused = true;
                }
            }
            // Cancelled, because the one before it in the chain was short or failed; or for no reason: again.
            Ok(0) | Err(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {
                write.fruitless += 1;
                if write.fruitless > FRUITLESS_MAX {
                    write.error.get_or_insert(libc::EIO);
                }
            }
            Err(code) => write.error = Some(code),
        }
    }

    fn sync_completed(&mut self, result: Result<(), i32>, ring: &mut Ring) {
        let sync = self.sync.as_mut().expect("a sync that ends is under way");
        if sync.state == SyncState::Late {
            sync.state = SyncState::InFlight;
            match sync.fault {
                Some(_) => ring.nothing(SYNC),
                None => ring.sync(SYNC, self.file.as_raw_fd()),
            }
            return;
        }
        // What was not certainly behind the writes proves nothing.
        let is_early = self.write.as_ref().is_some_and(|write| write.is_synced);
        let was_cut = std::mem::take(&mut sync.is_linked) && ring.was_chain_cut();
        sync.state = match sync.fault.take().map_or(result, Err) {
            Err(libc::ECANCELED | libc::EINTR | libc::EAGAIN) => SyncState::Due,
            Ok(()) if is_early || was_cut => SyncState::Due,
            ended => SyncState::Ended(ended),
        };
        if sync.state == SyncState::Ended(Ok(())) {
            self.unsynced_covered = self.unsynced_covered.max(sync.covers);
        }
    }

    /// Goes on with what can, and tells of what has ended.
    fn settle(&mut self, ring: &mut Ring, faults: &Faults) {
        if let Some(write) = &self.write {
            let is_whole = write.pieces.iter().all(|piece| piece.left == 0);
            let chain_is_over = !self.sync.as_ref().is_some_and(|sync| sync.is_linked);
            if is_whole {
                if write.syncs_itself {
                    let sync = self.sync.as_mut().expect("the write is to be synced");
                    sync.state = SyncState::Ended(Ok(()));
                }
                self.write = None;
                self.ended.push_back((Stored::Write, Ok(())));
            } else if write.in_flight == 0 && chain_is_over {
                match write.error {
                    Some(code) => {
                        if write.is_synced {
                            self.sync = None;
                        }
                        self.write = None;
                        self.ended.push_back((Stored::Write, Err(code)));
                    }
                    None => self.go_on_writing(ring, faults),
                }
            }
        }
        if self.write.as_ref().is_some_and(|write| write.is_synced) {
            return;
        }
        match self.sync.as_ref().map(|sync| sync.state) {
            Some(SyncState::Due) => self.begin_sync(ring, faults),
            Some(SyncState::Ended(result)) => {
                self.sync = None;
                self.ended.push_back((Stored::Sync, result));
            }
            Some(SyncState::Late | SyncState::InFlight) | None => {}
        }
    }

    fn begin_sync(&mut self, ring: &mut Ring, faults: &Faults) {
        let fd = self.fd();
        let sync = self.sync.as_mut().expect("a sync begins");
        let late_ms = faults.sync_delay_ms(self.core);
        sync.fault = faults.sync_error(self.core);
        sync.covers = if self.write.is_some() { self.unsynced_covered } else { self.unsynced };
        if late_ms > 0 {
            *sync.time = Timespec::from(std::time::Duration::from_millis(late_ms));
            sync.state = SyncState::Late;
            // SAFETY: in a box, kept until the sync has ended.
            unsafe { ring.sleep(SYNC, &raw const *sync.time) };
        } else {
            sync.state = SyncState::InFlight;
            if sync.fault.is_some() { ring.nothing(SYNC) } else { ring.sync(SYNC, fd) }
        }
    }

    fn growth_completed(&mut self, result: Result<usize, i32>, ring: &mut Ring) {
        let growth = self.growth.as_mut().expect("a growth that goes on is under way");
        let fd = self.growth_file.as_raw_fd();
        match (growth.fault.take().map_or(result, Err), growth.step) {
            (Err(libc::EINTR | libc::EAGAIN), Step::Allocating) => {}
            (Err(libc::EINTR | libc::EAGAIN), Step::Syncing) => return ring.sync(GROW, fd),
            // What the file system cannot allocate ahead, the zeros do.
            (Ok(_) | Err(libc::EOPNOTSUPP), Step::Allocating) => growth.at += 1,
            (Ok(written @ 1..), Step::Zeroing) => growth.done += written as u64,
            (Err(libc::EINTR | libc::EAGAIN), Step::Zeroing) => {}
            (Ok(_), Step::Zeroing) => return self.end_growth(Err(libc::ENOSPC)),
            // Nobody reads the zeros, and they lie in large folios of the page cache, each of which counts as written as a whole
            // when a commit writes a few pages of it. Advice, no more.
            (Ok(_), Step::Syncing) => {
                growth.step = Step::Forgetting;
                return ring.forget(GROW, fd, &(growth.ranges[0].start..growth.end()));
            }
            (_, Step::Forgetting) => return self.end_growth(Ok(())),
            (Err(code), _) => return self.end_growth(Err(code)),
        }
        growth.go_on(fd, ring);
    }

    fn punch_next(&self, ring: &mut Ring) {
        let next = self.punch.as_ref().and_then(|ranges| ranges.last()).expect("something is to be punched");
        ring.punch(PUNCH, self.growth_file.as_raw_fd(), next);
    }

    fn punch_completed(&mut self, result: Result<(), i32>, ring: &mut Ring) {
        let ranges = self.punch.as_mut().expect("what is punched is under way");
        match result {
            Err(libc::EINTR | libc::EAGAIN) => return self.punch_next(ring),
            Ok(()) if ranges.len() > 1 => {
                ranges.pop();
                return self.punch_next(ring);
            }
            ended => self.ended.push_back((Stored::Punch, ended)),
        }
        self.punch = None;
    }

    fn end_growth(&mut self, result: Result<(), i32>) {
        self.growth = None;
        self.ended.push_back((Stored::Grow, result));
    }
}

impl Growth {
    fn end(&self) -> u64 {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// Allocates or fills the next range, or syncs.
    fn go_on(&mut self, fd: RawFd, ring: &mut Ring) {
        if self.step == Step::Allocating {
            match self.ranges.get(self.at) {
                Some(range) => return ring.allocate(GROW, fd, range),
                None => (self.step, self.at, self.done) = (Step::Zeroing, 0, self.ranges[0].start),
            }
        }
        if self.done == self.ranges[self.at].end {
            self.at += 1;
            match self.ranges.get(self.at) {
                Some(range) => self.done = range.start,
                None => {
                    self.step = Step::Syncing;
                    return ring.sync(GROW, fd);
                }
            }
        }
        let len = (self.ranges[self.at].end - self.done).min(ZEROS as u64) as u32;
        // SAFETY: the zeros are the growth's own, which stays until this completion.
        unsafe { ring.write(GROW, fd, self.done, (self.zeros.as_ptr(), len), false) };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::FileExt,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::{faults::Fault, runtime::ring::Completion};

    const CORE: CoreId = CoreId(0);

    /// A pool's file that has no name, what is to be in it, and a ring.
    struct Bench {
        ring: Ring,
        storage: Storage,
        file: File,
        memory: Vec<u8>,
        /// Where in it the pool begins: at a page, or not.
        start: usize,
        faults: Faults,
        /// Completions that were seen.
        completions: usize,
    }

    impl Bench {
        fn new(len: usize) -> Self {
            let path = std::env::temp_dir().join(format!("eagle-storage-{}-{}", std::process::id(), fastrand::u64(..)));
            let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
            let growth_file = File::options().write(true).open(&path).expect("the same file");
            std::fs::remove_file(&path).expect("its name is not needed");
            let owned = file.try_clone().expect("a descriptor").into();
            let mut rng = fastrand::Rng::with_seed(1);
            Self {
                ring: Ring::new().expect("a ring"),
                storage: Storage::new(CORE, owned, growth_file),
                file,
                memory: (0..len + direct::ALIGN).map(|_| rng.u8(1..)).collect(),
                start: 0,
                faults: Faults::default(),
                completions: 0,
            }
            .skewed(8)
        }

        /// Lets the pool begin so many bytes behind a page; at a page it is written directly.
        fn skewed(self, by: usize) -> Self {
            let start = self.memory.as_ptr().align_offset(direct::ALIGN);
            Self { start: (start + by) % direct::ALIGN, ..self }
        }

        fn begin(&mut self, action: Action) {
            let memory = &self.memory[self.start..];
            let bytes = |range: Range<u64>| &memory[range.start as usize..range.end as usize];
            // SAFETY: the memory is not touched before the test has seen the end of all operations.
            unsafe { self.storage.begin(action, bytes, &mut self.ring, &self.faults) };
        }

        /// All that ends until nothing is in flight, or a failed test after 10 seconds.
        fn ended(&mut self) -> Vec<(Stored, Result<(), i32>)> {
            let until = Instant::now() + Duration::from_secs(10);
            let mut ended = Vec::new();
            loop {
                while let Some(Completion::Storage { operation, result }) = self.ring.next() {
                    self.completions += 1;
                    self.storage.completed(operation, result, &mut self.ring, &self.faults);
                }
                ended.extend(std::iter::from_fn(|| self.storage.next_ended()));
                if self.storage.is_quiet() {
                    return ended;
                }
                assert!(Instant::now() < until, "it does not end");
                self.ring.wait(1, Duration::from_millis(100));
            }
        }

        fn assert_written(&self, range: Range<usize>) {
            let mut bytes = vec![0; range.len()];
            self.file.read_exact_at(&mut bytes, range.start as u64).expect("the file is that long");
            assert!(bytes == self.memory[self.start..][range.clone()], "{range:?} is not what memory has");
        }
    }

    fn grow(range: Range<u64>) -> Action {
        Action::Grow(std::iter::once(range).collect())
    }

    fn write(range: Range<u64>, sync: bool) -> Action {
        Action::Write { ranges: std::iter::once(range).collect(), sync }
    }

    #[test]
    fn ranges_are_written_to_their_places_and_synced_behind() {
        // One chain of three writes and a sync, four completions; then a write alone, a sync alone.
        let mut bench = Bench::new(1 << 20);
        let ranges = vec![0..4096, 8192..100 << 10, 512 << 10..1 << 20];
        bench.begin(Action::Write { ranges: ranges.clone(), sync: true });
        assert_eq!(bench.ended(), [(Stored::Write, Ok(())), (Stored::Sync, Ok(()))]);
        assert_eq!(bench.completions, 4);
        for range in ranges {
            bench.assert_written(range.start as usize..range.end as usize);
        }
        bench.begin(write(4096..8192, false));
        assert_eq!(bench.ended(), [(Stored::Write, Ok(()))]);
        bench.assert_written(0..100 << 10);
        bench.begin(Action::Sync);
        assert_eq!(bench.ended(), [(Stored::Sync, Ok(()))]);
    }

    #[test]
    fn a_direct_write_is_synced_by_itself_if_nothing_else_is_to_be() {
        // By the completions: the first has a sync behind it, for what was there before, the second has none; nor has one of several
        // ranges; one of many, and one after a write that nobody wanted synced, have. What is in the file is what memory has.
        let mut bench = Bench::new(1 << 20).skewed(0);
        if bench.storage.direct.is_none() {
            return eprintln!("passed over: files in {} cannot be written directly", std::env::temp_dir().display());
        }
        let both = [(Stored::Write, Ok(())), (Stored::Sync, Ok(()))];
        let mut expect = |action, completions, ended: &[_]| {
            bench.completions = 0;
            bench.begin(action);
            assert_eq!((bench.ended().as_slice(), bench.completions), (ended, completions));
        };
        let ranges = |count: u64| (0..count).map(|nth| nth << 16..(nth << 16) + 12_288).collect();
        expect(write(0..4096, true), 2, &both);
        expect(write(0..8192, true), 1, &both);
        expect(Action::Write { ranges: ranges(4), sync: true }, 4, &both);
        expect(Action::Write { ranges: ranges(5), sync: true }, 6, &both);
        expect(write(0..4096, true), 1, &both);
        expect(write(4096..1 << 20, false), 1, &both[..1]);
        expect(write(0..4096, true), 2, &both);
        expect(write(0..4096, true), 1, &both);
        bench.assert_written(0..1 << 20);
        bench.faults.set(Fault::ShortWrite, None);
        bench.begin(write(0..64 << 10, true));
        assert_eq!(bench.ended(), both);
        bench.faults.clear();
        bench.faults.set(Fault::FailSync(libc::EIO), None);
        bench.begin(write(0..4096, true));
        assert_eq!(bench.ended(), [(Stored::Write, Ok(())), (Stored::Sync, Err(libc::EIO))]);
    }

    #[test]
    fn a_write_and_a_sync_of_what_was_before_are_in_flight_together() {
        // Neither waits for the other: with the sync an hour late the write ends.
        let mut bench = Bench::new(1 << 20);
        bench.faults.set(Fault::DelaySync(3_600_000), None);
        bench.begin(Action::Sync);
        bench.begin(write(0..1 << 20, false));
        let mut ended = None;
        while ended.is_none() {
            bench.ring.wait(1, Duration::from_millis(100));
            while let Some(Completion::Storage { operation, result }) = bench.ring.next() {
                bench.storage.completed(operation, result, &mut bench.ring, &bench.faults);
            }
            ended = bench.storage.next_ended();
        }
        assert_eq!(ended, Some((Stored::Write, Ok(()))));
        assert!(!bench.storage.is_quiet());
        bench.ring.cancel_all();
    }

    #[test]
    fn a_short_write_is_done_in_full_before_its_sync() {
        // The first half of the first range, by injection; the rest follows, and the sync counts only behind that.
        let mut bench = Bench::new(1 << 20);
        bench.faults.set(Fault::ShortWrite, None);
        bench.begin(Action::Write { ranges: vec![0..300_000, 300_000..1 << 20], sync: true });
        assert_eq!(bench.ended(), [(Stored::Write, Ok(())), (Stored::Sync, Ok(()))]);
        bench.assert_written(0..1 << 20);
    }

    #[test]
    fn errors_are_told_once_and_a_failed_write_has_no_sync() {
        // Of a write with a sync behind it: its own end alone. Real errors too: a descriptor that cannot be written to.
        let mut bench = Bench::new(1 << 16);
        bench.faults.set(Fault::FailWrite(libc::EIO), None);
        bench.begin(Action::Write { ranges: vec![0..4096, 8192..1 << 16], sync: true });
        assert_eq!(bench.ended(), [(Stored::Write, Err(libc::EIO))]);
        bench.faults.clear();
        bench.faults.set(Fault::FailSync(libc::EIO), None);
        bench.begin(write(0..4096, true));
        assert_eq!(bench.ended(), [(Stored::Write, Ok(())), (Stored::Sync, Err(libc::EIO))]);
        bench.begin(Action::Sync);
        assert_eq!(bench.ended(), [(Stored::Sync, Err(libc::EIO))]);
        bench.faults.clear();
        bench.storage.file = File::open("/proc/self/exe").expect("this test").into();
        bench.begin(Action::Write { ranges: vec![0..4096, 8192..1 << 16], sync: true });
        assert_eq!(bench.ended(), [(Stored::Write, Err(libc::EBADF))]);
    }

    #[test]
    fn the_file_grows_by_zeros() {
        // Allocated and written, not only promised; what does not fit is an error.
        use std::os::unix::fs::MetadataExt;
        let mut bench = Bench::new(4 << 20);
        bench.begin(grow(4096..2 << 20));
        assert_eq!(bench.ended(), [(Stored::Grow, Ok(()))]);
        let space = |bench: &Bench| bench.file.metadata().expect("a file").blocks() * 512;
        assert_eq!(bench.file.metadata().expect("a file").len(), 2 << 20);
        assert!(space(&bench) >= (2 << 20) - 4096);
        bench.faults.set(Fault::NoSpace, None);
        bench.begin(grow(2 << 20..4 << 20));
        assert_eq!(bench.ended(), [(Stored::Grow, Err(libc::ENOSPC))]);
        assert_eq!(bench.file.metadata().expect("a file").len(), 2 << 20);
    }

    #[test]
    fn space_is_given_back_and_filled_again() {
        // Range by range, what lies between stays; what is filled again is zeros with space; what cannot be punched is an error.
        use std::os::unix::fs::MetadataExt;
        let mut bench = Bench::new(4 << 20);
        bench.begin(write(0..4 << 20, true));
        bench.ended();
        let holes = vec![4096..1 << 20, (1 << 20) + 4096..2 << 20];
        bench.begin(Action::Punch(holes.clone()));
        assert_eq!(bench.ended(), [(Stored::Punch, Ok(()))]);
        let space = |bench: &Bench| bench.file.metadata().expect("a file").blocks() * 512;
        assert!(space(&bench) < 3 << 20, "{}", space(&bench));
        bench.begin(Action::Grow(holes.clone()));
        assert_eq!(bench.ended(), [(Stored::Grow, Ok(()))]);
        assert!(space(&bench) >= 4 << 20 && bench.file.metadata().expect("a file").len() == 4 << 20);
        for hole in holes {
            bench.memory[bench.start..][hole.start as usize..hole.end as usize].fill(0);
        }
        bench.assert_written(0..4 << 20);
        bench.storage.growth_file = File::open("/proc/self/exe").expect("this test");
        bench.begin(Action::Punch(vec![0..4096, 8192..12_288]));
        assert_eq!(bench.ended(), [(Stored::Punch, Err(libc::EBADF))]);
    }
}
