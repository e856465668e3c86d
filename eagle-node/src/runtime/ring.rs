//! A ring is a core's io_uring: what the core asks of the kernel goes in, once a turn and in one system call, and what became
//! of it comes out as completions.
//!
//! Multishot operations stay armed: one accept a listener and one receive a connection bring a completion for each
//! connection and each piece of input. Input lands in a ring of buffers that the kernel takes from and that are given
//! back in the turn in which their bytes were read. `DEFER_TASKRUN` makes the kernel do its part only when the core enters,
//! so a core that works is never interrupted.
//!
//! ```text
//!  user data   63      56 55                 32 31                    0
//!              ┌─────────┬─────────────────────┬──────────────────────┐
//!              │  kind   │ generation (24 bit) │ index                │   of the connection, or the listener's number
//!              └─────────┴─────────────────────┴──────────────────────┘   or the storage operation
//! ```
//!
//! Operations can be linked: each begins when the one before it has ended well, or else ends as cancelled. The kernel takes a
//! chain for one only if it gets it in one piece; if ever it took less ([`Ring::was_chain_cut`]), the order is not known.
//!
//! What always holds: a completion without the `MORE` flag is its operation's last; memory and descriptors that were given to an operation
//! live until then (the caller keeps a connection's until its last completion, the ring its own until it is dropped).
//! From: io_uring(7), io_uring_enter(2), io_uring_setup(2); Linux 6.1 or newer.

use std::{
    collections::VecDeque,
    ffi::CStr,
    io,
    ops::Range,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use io_uring::{
    IoUring, cqueue, opcode, squeue,
    types::{self, BufRingEntry},
};

use crate::core::event::ConnId;

/// Entries of the submission queue; more in one turn cost one more system call.
const SUBMISSIONS: u32 = 2048;
/// Entries of the completion queue; what exceeds it waits in the kernel.
const COMPLETIONS: u32 = 8192;
/// Buffers for input; a power of two.
pub(super) const BUFFERS: u16 = 256;
/// Bytes of a buffer.
pub(super) const BUFFER_SIZE: usize = 16 << 10;
/// From one buffer to the next: 64 bytes more, so that the beginnings of buffers do not all fall into the same few sets of the
/// processor's caches.
const BUFFER_STRIDE: usize = BUFFER_SIZE + 64;
/// Bytes of all buffers of a ring, which become resident as input comes.
pub(super) const INPUT_BYTES: u64 = BUFFERS as u64 * BUFFER_STRIDE as u64;
/// The only group of buffers.
const GROUP: u16 = 0;
/// Bytes of one ring with its queues that the kernel may count as locked, measured on Linux 6.18 and rounded up.
pub(super) const LOCKED_BYTES: u64 = 320 << 10;

const _: () = assert!(BUFFERS.is_power_of_two());
const _: () = assert!(size_of::<BufRingEntry>() == 16);

const ACCEPT: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const BELL: u64 = 4;
const CANCEL: u64 = 5;
const STORAGE: u64 = 6;
const KIND_SHIFT: u32 = 56;
const GENERATION_SHIFT: u32 = 32;
const GENERATION_MASK: u32 = (1 << 24) - 1;

/// A connection as an operation's user data names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// Place in the table of connections.
    pub(super) index: u32,
    generation: u32,
}

impl Tag {
    /// Whether it names this connection.
    pub(super) fn is(self, conn: ConnId) -> bool {
        self == Self::from(conn)
    }

    fn user_data(self, kind: u64) -> u64 {
        kind << KIND_SHIFT | u64::from(self.generation) << GENERATION_SHIFT | u64::from(self.index)
    }
}

impl From<ConnId> for Tag {
    fn from(conn: ConnId) -> Self {
        Self { index: conn.index, generation: conn.generation & GENERATION_MASK }
    }
}

/// What became of an operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Completion {
    /// A listener accepted, or failed with an error number.
    Accept {
        /// Its number.
        listener: u32,
        /// The new descriptor.
        result: Result<RawFd, i32>,
        /// It goes on accepting.
        more: bool,
    },
    /// Input came, ended, or failed.
    Receive {
        /// Whose.
        tag: Tag,
        /// Bytes, 0 at the end, or an error number.
        result: Result<usize, i32>,
        /// Where it is; to be given back.
        input: Option<Input>,
        /// It goes on receiving.
        more: bool,
    },
    /// The kernel took output.
    Send {
        /// Whose.
        tag: Tag,
        /// Bytes, or an error number.
        result: Result<usize, i32>,
    },
    /// The bell rang; it has to be armed again.
    Bell,
    /// An operation on a pool's file has ended.
    Storage {
        /// Its number.
        operation: u32,
        /// Bytes, or an error number.
        result: Result<usize, i32>,
    },
}

/// A piece of input, in a buffer that the caller has until it gives it back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Input {
    buffer: u16,
    len: usize,
}

/// A core's io_uring. Used only on the thread that made it.
pub(super) struct Ring {
    /// Before `buffers` and `bell_count`: dropped first, it ends the operations that use them.
    ring: IoUring,
    buffers: Buffers,
    bell_count: Box<u64>,
    /// What found the submission queue full.
    overflow: VecDeque<squeue::Entry>,
    /// A chain lies in the submission queue.
    has_chain: bool,
    chain_was_cut: bool,
}

impl Ring {
    /// Makes a ring on this thread.
    ///
    /// # Errors
    /// The kernel is too old or forbids it, or lacks memory: [`super::preflight`] tells which.
    pub(super) fn new() -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let buffers = Buffers::new(&ring)?;
        Ok(Self {
            ring,
            buffers,
            bell_count: Box::new(0),
            overflow: VecDeque::new(),
            has_chain: false,
            chain_was_cut: false,
        })
    }

    /// Has an eventfd written to when there are completions, while [`Self::ring_aloud`] is on; it starts off.
    pub(super) fn register(&mut self, eventfd: BorrowedFd<'_>) -> io::Result<()> {
        self.ring.submitter().register_eventfd(eventfd.as_raw_fd())?;
        self.ring_aloud(false);
        Ok(())
    }

    /// Switches writing to the registered eventfd.
    pub(super) fn ring_aloud(&mut self, on: bool) {
        if on {
            self.ring.completion().enable_eventfd();
        } else {
            self.ring.completion().disable_eventfd();
        }
    }

    /// Starts accepting on a listener, until a completion says that there is no more.
    pub(super) fn accept(&mut self, listener: u32, fd: BorrowedFd<'_>) {
        let flags = libc::SOCK_CLOEXEC;
        let entry = opcode::AcceptMulti::new(types::Fd(fd.as_raw_fd())).flags(flags).build();
        self.push(entry.user_data(ACCEPT << KIND_SHIFT | u64::from(listener)));
    }

    /// Stops accepting: the accept's last completion follows.
    pub(super) fn stop_accepting(&mut self, listener: u32) {
        self.cancel(ACCEPT << KIND_SHIFT | u64::from(listener));
    }

    /// Starts receiving, until a completion says that there is no more.
    pub(super) fn receive(&mut self, conn: ConnId, fd: BorrowedFd<'_>) {
        let entry = opcode::RecvMulti::new(types::Fd(fd.as_raw_fd()), GROUP).build();
        self.push(entry.user_data(Tag::from(conn).user_data(RECEIVE)));
    }

    /// Receives once, into one buffer at most.
    pub(super) fn receive_once(&mut self, conn: ConnId, fd: BorrowedFd<'_>) {
        let entry = opcode::Recv::new(types::Fd(fd.as_raw_fd()), ptr::null_mut(), BUFFER_SIZE as u32).buf_group(GROUP);
        let entry = entry.build().flags(squeue::Flags::BUFFER_SELECT);
        self.push(entry.user_data(Tag::from(conn).user_data(RECEIVE)));
    }

    /// Stops receiving: the receive's last completion follows, after what has arrived.
    pub(super) fn stop_receiving(&mut self, conn: ConnId) {
        self.cancel(Tag::from(conn).user_data(RECEIVE));
    }

    /// Sends.
    ///
    /// # Safety
    /// The bytes must neither change nor move until the completion.
    pub(super) unsafe fn send(&mut self, conn: ConnId, fd: BorrowedFd<'_>, bytes: &[u8]) {
        let len = u32::try_from(bytes.len()).expect("sent in slices");
        let entry = opcode::Send::new(types::Fd(fd.as_raw_fd()), bytes.as_ptr(), len).flags(libc::MSG_NOSIGNAL).build();
        self.push(entry.user_data(Tag::from(conn).user_data(SEND)));
    }

    /// Makes room for a chain of so many operations; false if there is none, now.
    pub(super) fn has_room(&mut self, operations: usize) -> bool {
        let fits = |ring: &mut Self| {
            let queue = ring.ring.submission();
            ring_free(&queue) >= operations
        };
        if self.overflow.is_empty() && fits(self) {
            return true;
        }
        self.submit();
        self.overflow.is_empty() && fits(self)
    }

    /// Whether a chain was cut since this was last asked: what was linked may have begun too early.
    pub(super) fn was_chain_cut(&mut self) -> bool {
        std::mem::take(&mut self.chain_was_cut)
    }

    /// Writes to a file at `offset`. If `linked`, the operation asked for next begins when this has ended well.
    ///
    /// # Safety
    /// The bytes must stay in place until the completion. They may change meanwhile: then it is not said what is written.
    pub(super) unsafe fn write(
        &mut self,
        operation: u32,
        fd: RawFd,
        offset: u64,
        bytes: (*const u8, u32),
        linked: bool,
    ) {
        let entry = opcode::Write::new(types::Fd(fd), bytes.0, bytes.1).offset(offset).build();
        let entry = if linked { entry.flags(squeue::Flags::IO_LINK) } else { entry };
        self.has_chain |= linked;
        self.push(entry.user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Writes what the vectors name to a file at `offset`; if `synced`, these bytes are durable at its end.
    ///
    /// # Safety
    /// The vectors and their bytes must neither change nor move until the completion.
    pub(super) unsafe fn write_vectors(
        &mut self,
        operation: u32,
        fd: RawFd,
        offset: u64,
        vectors: &[libc::iovec],
        synced: bool,
    ) {
        let flags = if synced { libc::RWF_DSYNC } else { 0 };
        let entry = opcode::Writev::new(types::Fd(fd), vectors.as_ptr(), vectors.len() as u32).offset(offset);
        let entry = entry.rw_flags(flags as _).build();
        self.push(entry.user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Makes a file's bytes durable, and what is needed to find them.
    pub(super) fn sync(&mut self, operation: u32, fd: RawFd) {
        let entry = opcode::Fsync::new(types::Fd(fd)).flags(types::FsyncFlags::DATASYNC).build();
        self.push(entry.user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Allocates space of a file.
    pub(super) fn allocate(&mut self, operation: u32, fd: RawFd, range: &Range<u64>) {
        let entry = opcode::Fallocate::new(types::Fd(fd), range.end - range.start).offset(range.start).build();
        self.push(entry.user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Gives space of a file back; it is zeros from then on, and the file stays as long as it is.
    pub(super) fn punch(&mut self, operation: u32, fd: RawFd, range: &Range<u64>) {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let entry =
            opcode::Fallocate::new(types::Fd(fd), range.end - range.start).offset(range.start).mode(mode).build();
        self.push(entry.user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Lets go of what the system caches of a file, as far as it is on the medium.
    pub(super) fn forget(&mut self, operation: u32, fd: RawFd, range: &Range<u64>) {
        let len = (range.end - range.start) as libc::off_t;
        let entry = opcode::Fadvise::new(types::Fd(fd), len, libc::POSIX_FADV_DONTNEED).offset(range.start).build();
        self.push(entry.user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Opens a file to be written, which is made or emptied; its descriptor is the result.
    ///
    /// # Safety
    /// The path must stay in place until the completion.
    pub(super) unsafe fn create(&mut self, operation: u32, path: &CStr) {
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
        let entry = opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).flags(flags).mode(0o666).build();
        self.push(entry.user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Gives a file another name, in place of the file that has it.
    ///
    /// # Safety
    /// The paths must stay in place until the completion.
    pub(super) unsafe fn rename(&mut self, operation: u32, from: &CStr, to: &CStr) {
        let here = types::Fd(libc::AT_FDCWD);
        let entry = opcode::RenameAt::new(here, from.as_ptr(), here, to.as_ptr()).build();
        self.push(entry.user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Removes a file.
    ///
    /// # Safety
    /// The path must stay in place until the completion.
    pub(super) unsafe fn remove(&mut self, operation: u32, path: &CStr) {
        let entry = opcode::UnlinkAt::new(types::Fd(libc::AT_FDCWD), path.as_ptr()).build();
        self.push(entry.user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Ends at once.
    pub(super) fn nothing(&mut self, operation: u32) {
        self.push(opcode::Nop::new().build().user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Ends, with `ETIME`, after a while.
    ///
    /// # Safety
    /// The time must stay in place until the completion.
    pub(super) unsafe fn sleep(&mut self, operation: u32, time: *const types::Timespec) {
        let entry = opcode::Timeout::new(time).build();
        self.push(entry.user_data(STORAGE << KIND_SHIFT | u64::from(operation)));
    }

    /// Listens to a bell (an eventfd) until it rings once.
    pub(super) fn listen(&mut self, bell: BorrowedFd<'_>) {
        let count = ptr::from_mut(&mut *self.bell_count).cast();
        let entry = opcode::Read::new(types::Fd(bell.as_raw_fd()), count, 8).build();
        self.push(entry.user_data(BELL << KIND_SHIFT));
    }

    /// The next completion.
    pub(super) fn next(&mut self) -> Option<Completion> {
        loop {
            let entry = self.ring.completion().next()?;
            if let Some(completion) = Completion::from_entry(&entry) {
                return Some(completion);
            }
        }
    }

    /// The bytes of a piece of input. They may be changed.
    pub(super) fn bytes(&mut self, input: &Input) -> &mut [u8] {
        self.buffers.bytes(input)
    }

    /// Gives the buffer of a piece of input back to the kernel.
    #[expect(clippy::needless_pass_by_value, reason = "whoever gives it back must not use it again")]
    pub(super) fn give_back(&mut self, input: Input) {
        self.buffers.put(input.buffer);
    }

    /// Hands over what was asked for and lets the kernel do its part, without waiting; no system call if neither is due.
    pub(super) fn submit(&mut self) {
        loop {
            self.refill();
            let queue = self.ring.submission();
            if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                return;
            }
            drop(queue);
            self.enter(0, Duration::ZERO);
            if self.overflow.is_empty() {
                return;
            }
        }
    }

    /// Hands over what was asked for and waits until there are `completions` of them, at least one, or the time is over. If
    /// the kernel can, it settles for one after 50 us: then what was expected to complete at once did not.
    pub(super) fn wait(&mut self, completions: usize, timeout: Duration) {
        self.refill();
        if !self.overflow.is_empty() {
            return self.submit();
        }
        self.enter(completions.max(1), timeout);
    }

    /// Whether the kernel bounds the wait for several completions by a second, shorter time.
    pub(super) fn waits_for_several(&self) -> bool {
        self.ring.params().is_feature_min_timeout()
    }

    /// Nothing to hand over, nothing to do for the kernel, no completion: a system call would be of no use. Call it after
    /// a `SeqCst` fence to know that what comes from now on is seen by who was told to sleep before.
    pub(super) fn is_quiet(&mut self) -> bool {
        let queue = self.ring.submission();
        let submitted = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
        drop(queue);
        submitted && self.overflow.is_empty() && self.ring.completion().is_empty()
    }

    /// There are completions that [`Self::next`] will return.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Ends all operations and waits for their ends.
    pub(super) fn cancel_all(&mut self) {
        self.submit();
        let any = types::CancelBuilder::any();
        let ended = self.ring.submitter().register_sync_cancel(Some(types::Timespec::new().sec(1)), any);
        if let Err(error) = ended
            && error.raw_os_error() != Some(libc::ENOENT)
        {
            tracing::warn!(%error, "operations of a core's ring did not end in time");
        }
    }

    fn cancel(&mut self, user_data: u64) {
        let entry = opcode::AsyncCancel::new(user_data).build();
        self.push(entry.user_data(CANCEL << KIND_SHIFT).flags(squeue::Flags::SKIP_SUCCESS));
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.overflow.is_empty() {
            self.overflow.push_back(entry);
            return;
        }
        // SAFETY: the entry names memory and descriptors that live until its last completion: the bell's count and the
        // group's buffers by this struct, a connection's by its table, a send's or write's bytes and a sleep's time by the
        // promise of the caller.
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.overflow.push_back(entry);
            self.refill();
        }
    }

    /// Moves what found the submission queue full into it, as far as it goes.
    fn refill(&mut self) {
        while let Some(entry) = self.overflow.front() {
            // SAFETY: as in `push`, where it came from.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                self.overflow.pop_front();
            } else if !self.try_enter(0, Duration::ZERO) {
                return;
            }
        }
    }

    fn enter(&mut self, completions: usize, timeout: Duration) {
        self.try_enter(completions, timeout);
    }

    /// One system call. False if the kernel took nothing for now.
    fn try_enter(&mut self, completions: usize, timeout: Duration) -> bool {
        const MIN_WAIT_US: u32 = 50;
        let timespec = types::Timespec::from(timeout);
        let mut args = types::SubmitArgs::new();
        if completions > 1 && self.waits_for_several() {
            args = args.min_wait_usec(MIN_WAIT_US);
        }
        let result = if completions == 0 {
            self.ring.submit()
        } else {
            self.ring.submitter().submit_with_args(completions, &args.timespec(&timespec))
        };
        if std::mem::take(&mut self.has_chain) && !self.ring.submission().is_empty() {
            self.chain_was_cut = true;
        }
        match result.as_ref().map_err(io::Error::raw_os_error) {
            Ok(_) | Err(Some(libc::ETIME | libc::EINTR)) => true,
            Err(Some(libc::EBUSY | libc::EAGAIN | libc::ENOMEM)) => false,
            Err(_) => panic!("io_uring_enter: {result:?}"),
        }
    }
}

/// Operations that a submission queue has room for.
fn ring_free(queue: &squeue::SubmissionQueue<'_>) -> usize {
    queue.capacity() - queue.len()
}

impl Completion {
    /// None for what nobody waits for: a cancel that found nothing.
    fn from_entry(entry: &cqueue::Entry) -> Option<Self> {
        let (user_data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
        let more = cqueue::more(flags);
        let index = u32::try_from(user_data & u64::from(u32::MAX)).expect("masked");
        let generation = u32::try_from(user_data >> GENERATION_SHIFT).expect("shifted") & GENERATION_MASK;
        let tag = Tag { index, generation };
        let number = usize::try_from(result).map_err(|_| -result);
        Some(match user_data >> KIND_SHIFT {
            ACCEPT => Self::Accept { listener: index, result: number.map(|_| result), more },
            RECEIVE => {
                let len = number.unwrap_or(0);
                let input = cqueue::buffer_select(flags).map(|buffer| Input { buffer, len });
                assert!(len == 0 || input.is_some(), "input comes in a buffer");
                Self::Receive { tag, result: number, input, more }
            }
            SEND => Self::Send { tag, result: number },
            BELL => Self::Bell,
            STORAGE => Self::Storage { operation: index, result: number },
            CANCEL => return None,
            kind => unreachable!("no operation is of kind {kind}"),
        })
    }
}

/// The buffers for input, in memory of their own, and the ring by which they travel.
struct Buffers {
    /// The entries; the kernel takes them from its head, `put` adds them at the tail.
    entries: Mapping,
    bytes: Mapping,
    tail: u16,
}

impl Buffers {
    fn new(ring: &IoUring) -> io::Result<Self> {
        let entries = Mapping::new(usize::from(BUFFERS) * size_of::<BufRingEntry>())?;
        let bytes = Mapping::new(usize::from(BUFFERS) * BUFFER_STRIDE)?;
        // SAFETY: `entries` is page-aligned, has BUFFERS entries, and lives as long as the ring that it is registered with.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.start.as_ptr() as u64, BUFFERS, GROUP, 0)?;
        };
        let mut buffers = Self { entries, bytes, tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.put(buffer));
        Ok(buffers)
    }

    fn bytes(&mut self, input: &Input) -> &mut [u8] {
        assert!(input.buffer < BUFFERS && input.len <= BUFFER_SIZE, "the kernel returns what it was given");
        // SAFETY: within `bytes` by the assertion; the kernel handed this buffer out and takes it again only after `put`.
        unsafe {
            let start = self.bytes.start.add(usize::from(input.buffer) * BUFFER_STRIDE);
            std::slice::from_raw_parts_mut(start.as_ptr(), input.len)
        }
    }

    fn put(&mut self, buffer: u16) {
        let base: *mut BufRingEntry = self.entries.start.as_ptr().cast();
        // SAFETY: the index is below BUFFERS, so the entry is within `entries`; the kernel does not read it before the tail
        // passes it. The tail shares the first entry's reserved half-word, which entries' setters leave alone.
        unsafe {
            let address = self.bytes.start.add(usize::from(buffer) * BUFFER_STRIDE);
            let entry = &mut *base.add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(address.as_ptr() as u64);
            entry.set_len(BUFFER_SIZE as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            let shared: *const AtomicU16 = BufRingEntry::tail(base).cast();
            (*shared).store(self.tail, Ordering::Release);
        }
    }
}

/// Anonymous memory, page-aligned and zero.
pub(super) struct Mapping {
    pub(super) start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping wherever the kernel likes.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: NonNull::new(start.cast()).expect("not at zero"), len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; its owner is gone, and so are borrows of it.
        let result = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(result, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::{fd::AsFd, unix::net::UnixStream},
        time::Instant,
    };

    use super::*;
    use crate::runtime::mesh::eventfd;

    const CONN: ConnId = ConnId { index: 7, generation: 0x0123_4567 };

    /// The next completion, or a failed test after 10 seconds.
    fn await_next(ring: &mut Ring) -> Completion {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(completion) = ring.next() {
                return completion;
            }
            assert!(Instant::now() < until, "no completion came");
            ring.wait(1, Duration::from_millis(100));
        }
    }

    fn is_readable(fd: BorrowedFd<'_>, timeout_ms: i32) -> bool {
        let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, alive during the call.
        unsafe { libc::poll(&raw mut poll, 1, timeout_ms) == 1 }
    }

    #[test]
    fn one_receive_brings_all_input_and_its_end() {
        // Shows that a multishot receive stays armed from piece to piece, names its connection, and ends with the stream.
        let mut ring = Ring::new().expect("a ring");
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        ring.receive(CONN, ours.as_fd());
        for round in 0..2 * u32::from(BUFFERS) {
            let text = round.to_string();
            theirs.write_all(text.as_bytes()).expect("room");
            let Completion::Receive { tag, result: Ok(len), input: Some(input), more: true } = await_next(&mut ring)
            else {
                panic!("round {round}")
            };
            assert!(tag.is(CONN) && tag.index == CONN.index && len == text.len());
            assert_eq!(ring.bytes(&input), text.as_bytes());
            ring.give_back(input);
        }
        drop(theirs);
        let end = await_next(&mut ring);
        let Completion::Receive { result: Ok(0), input: None, more: false, .. } = end else { panic!("{end:?}") };
    }

    #[test]
    fn without_buffers_a_receive_ends_and_loses_nothing() {
        // Shows that input beyond all buffers stays in the socket and comes after buffers were given back.
        let mut ring = Ring::new().expect("a ring");
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let sent: Vec<u8> = (0..u32::from(BUFFERS) + 44).flat_map(u32::to_le_bytes).collect();
        let (one_each, beyond) = sent.split_at(4 * usize::from(BUFFERS));
        let (mut received, mut kept) = (Vec::new(), Vec::new());
        ring.receive(CONN, ours.as_fd());
        for piece in one_each.chunks(4) {
            // Each piece has come before the next is sent, so it fills a buffer of its own.
            theirs.write_all(piece).expect("room");
            let Completion::Receive { input: Some(input), .. } = await_next(&mut ring) else { panic!("a piece comes") };
            received.extend_from_slice(ring.bytes(&input));
            kept.push(input);
        }
        theirs.write_all(beyond).expect("room");
        let end = await_next(&mut ring);
        let Completion::Receive { result: Err(libc::ENOBUFS), more: false, .. } = end else { panic!("{end:?}") };
        kept.drain(..).for_each(|input| ring.give_back(input));
        ring.receive(CONN, ours.as_fd());
        while received.len() < sent.len() {
            let Completion::Receive { input: Some(input), .. } = await_next(&mut ring) else {
                panic!("the rest comes")
            };
            received.extend_from_slice(ring.bytes(&input));
            ring.give_back(input);
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn a_stopped_receive_delivers_what_came_and_ends() {
        // Shows that stopping is answered by a last completion, that nothing is taken afterwards, and that it can begin again.
        let mut ring = Ring::new().expect("a ring");
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        ring.receive(CONN, ours.as_fd());
        ring.submit();
        ring.stop_receiving(CONN);
        let end = await_next(&mut ring);
        let Completion::Receive { result: Err(libc::ECANCELED), more: false, .. } = end else { panic!("{end:?}") };
        theirs.write_all(b"later").expect("room");
        ring.wait(1, Duration::from_millis(20));
        assert_eq!(ring.next(), None);
        ring.receive(CONN, ours.as_fd());
        let begun = await_next(&mut ring);
        let Completion::Receive { result: Ok(5), .. } = begun else { panic!("{begun:?}") };
    }

    #[test]
    fn more_operations_than_the_queue_holds_all_take_place() {
        // Shows the way of what finds the submission queue full: submitted in pieces, in order, and completed each.
        const SENDS: usize = 3 * SUBMISSIONS as usize + 5;
        let mut ring = Ring::new().expect("a ring");
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; SENDS];
            theirs.read_exact(&mut all).expect("all of it");
            all
        });
        let bytes: Vec<u8> = (0..SENDS).map(|nth| nth as u8).collect();
        for byte in bytes.chunks(1) {
            // SAFETY: `bytes` lives until the last completion was seen below.
            unsafe { ring.send(CONN, ours.as_fd(), byte) };
        }
        for _ in 0..SENDS {
            let sent = await_next(&mut ring);
            let Completion::Send { result: Ok(1), .. } = sent else { panic!("{sent:?}") };
        }
        let mut read = reader.join().expect("the reader");
        // A send that found the socket full may be overtaken by the next; the core has one a connection under way.
        read.sort_unstable();
        let mut expected = bytes.clone();
        expected.sort_unstable();
        assert_eq!(read, expected);
    }

    #[test]
    fn a_bell_rings_once_each_time_it_is_listened_to() {
        // Shows that a ring before listening counts, and that the count is taken.
        let mut ring = Ring::new().expect("a ring");
        let bell = eventfd().expect("an eventfd");
        let ring_it = || {
            let mut file = std::fs::File::from(bell.try_clone().expect("a copy"));
            file.write_all(&1_u64.to_ne_bytes()).expect("a count");
        };
        ring_it();
        ring_it();
        ring.listen(bell.as_fd());
        assert_eq!(await_next(&mut ring), Completion::Bell);
        assert!(!is_readable(bell.as_fd(), 0), "both were taken");
        ring.listen(bell.as_fd());
        ring.wait(1, Duration::from_millis(20));
        assert_eq!(ring.next(), None);
        ring_it();
        assert_eq!(await_next(&mut ring), Completion::Bell);
    }

    #[test]
    fn the_eventfd_tells_a_sleeper_of_work_and_only_a_sleeper() {
        // Shows that it is written although nobody enters the ring, and not while it is switched off.
        let mut ring = Ring::new().expect("a ring");
        let alarm = eventfd().expect("an eventfd");
        ring.register(alarm.as_fd()).expect("registered");
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        ring.receive(CONN, ours.as_fd());
        ring.submit();
        theirs.write_all(b"quiet").expect("room");
        assert!(!is_readable(alarm.as_fd(), 20) && !ring.is_quiet());
        let first = await_next(&mut ring);
        let Completion::Receive { result: Ok(5), .. } = first else { panic!("{first:?}") };
        ring.submit();
        assert!(ring.is_quiet());
        ring.ring_aloud(true);
        theirs.write_all(b"aloud").expect("room");
        assert!(is_readable(alarm.as_fd(), 10_000), "a sleeper would sleep on");
        assert!(!ring.is_quiet());
    }

    #[test]
    fn all_operations_end_when_they_are_cancelled() {
        // Shows that nothing of the kernel points into the ring's memory when it is dropped.
        let mut ring = Ring::new().expect("a ring");
        let bell = eventfd().expect("an eventfd");
        let (ours, _theirs) = UnixStream::pair().expect("a pair");
        ring.receive(CONN, ours.as_fd());
        ring.listen(bell.as_fd());
        ring.cancel_all();
        for _ in 0..2 {
            let end = await_next(&mut ring);
            assert!(
                matches!(end, Completion::Bell | Completion::Receive { result: Err(libc::ECANCELED), .. }),
                "{end:?}"
            );
        }
    }
}
