//! A pool's file as it is written past the page cache (`O_DIRECT`).
//!
//! The device reads the log's memory itself, at a time of its own. All of it stays as it is but for the last page of a range, to which
//! the core may append the next records meanwhile: that page is written from a copy, since who reads it twice (a checksum of
//! the block layer, a mirror) must find the same bytes.
//!
//! ```text
//!  range of a commit   ├── page ──┼── page ──┼── page (records, room) ──┤
//!  what is written     └────── the log's ────┴── a copy of it ──────────┘   one write of two vectors
//! ```
//!
//! From: open(2), "O_DIRECT"; statx(2), `STATX_DIOALIGN`.

use std::{
    fs::File,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    slice,
};

use super::super::ring::{Mapping, Ring};

/// What direct writes and their memory begin and end at; ranges of a commit are whole pages of so many bytes.
pub(super) const ALIGN: usize = 4096;
/// The most pieces that are in flight at once.
pub(super) const PIECES_MAX: usize = 4;

/// The file, and what its writes in flight are made of.
pub(super) struct Direct {
    /// A write was refused as invalid: it is not used any more.
    pub(super) is_refused: bool,
    file: File,
    /// A page a piece.
    tails: Mapping,
    vectors: Box<[[libc::iovec; 2]; PIECES_MAX]>,
}

impl Direct {
    /// Opens the same file. `None` if its file system does not do that, or not page by page.
    pub(super) fn new(file: &OwnedFd) -> Option<Self> {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let file = File::options().write(true).custom_flags(libc::O_DIRECT).open(path).ok()?;
        let align = align_of(&file)?;
        let fits = align.is_power_of_two() && align <= ALIGN;
        let tails = Mapping::new(PIECES_MAX * ALIGN).ok().filter(|_| fits)?;
        let none = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Some(Self { is_refused: false, file, tails, vectors: Box::new([[none; 2]; PIECES_MAX]) })
    }

    /// Begins to write whole pages, the last of them as it is now; if `synced`, they are durable at the end of it.
    ///
    /// # Safety
    /// The bytes must stay in place until the completion, and all but the last page of them as they are. The `nth` piece must not be in
    /// flight; nor may `self` be dropped while any is.
    pub(super) unsafe fn write(
        &mut self,
        operation: u32,
        nth: usize,
        offset: u64,
        (bytes, len): (*const u8, u32),
        synced: bool,
        ring: &mut Ring,
    ) {
        let len = len as usize;
        assert!(nth < PIECES_MAX && len > 0 && len.is_multiple_of(ALIGN), "few pieces of whole pages");
        // SAFETY: the page is within `tails`, as `nth` is below PIECES_MAX, and the kernel does not read it: no such piece is in flight.
        let tail = unsafe { slice::from_raw_parts_mut(self.tails.start.as_ptr().add(nth * ALIGN), ALIGN) };
        // SAFETY: the last page of the piece, which nobody changes while this function runs.
        tail.copy_from_slice(unsafe { slice::from_raw_parts(bytes.add(len - ALIGN), ALIGN) });
        let vector = |start: *const u8, iov_len| libc::iovec { iov_base: start.cast_mut().cast(), iov_len };
        self.vectors[nth] = [vector(bytes, len - ALIGN), vector(tail.as_ptr(), ALIGN)];
        let vectors = if len > ALIGN { &self.vectors[nth][..] } else { &self.vectors[nth][1..] };
        // SAFETY: the vectors are in a box, which is kept like the tails until the completion; of the bytes the caller says so.
        unsafe { ring.write_vectors(operation, self.file.as_raw_fd(), offset, vectors, synced) };
    }
}

/// What direct I/O on a file must be aligned to in bytes, in memory and in the file, as far as the system says: `None` if it does not
/// do any.
fn align_of(file: &File) -> Option<usize> {
    // SAFETY: plain numbers, all of which may be zero.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (fd, flags) = (file.as_raw_fd(), libc::AT_EMPTY_PATH);
    // SAFETY: an open descriptor, an empty path that ends, and room for the answer.
    let result = unsafe { libc::statx(fd, c"".as_ptr(), flags, libc::STATX_DIOALIGN, &raw mut found) };
    if result != 0 || found.stx_mask & libc::STATX_DIOALIGN == 0 {
        // Not said: a write that it does not like ends as invalid, and is done otherwise.
        return Some(1);
    }
    let align = found.stx_dio_mem_align.max(found.stx_dio_offset_align) as usize;
    (align > 0).then_some(align)
}
