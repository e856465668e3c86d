//! The mapping: the address range in which a pool lies, reserved whole at the beginning so that the
//! pool grows without moving.
//!
//! Anonymous memory: nothing is taken until it is touched, and a range given back is zeros when it
//! is touched again. Huge pages are refused unless asked for, as they would keep whole extents
//! resident for one record in each. Behind the pool lies a guard of [`GUARD_BYTES`], so that a
//! short record read at a wrong offset still ends within the mapping.
//!
//! What a pool's file held when it was opened is mapped over the beginning, privately: it is read from the page cache where it
//! lies, and a store to it stays in this process. A range of it that is given back becomes anonymous memory. New
//! records thus never fault pages of the file in to be written over, and what of the file is written is written by the runtime.
//! Where the file is memory itself (DAX), its bytes are mapped shared and with `MAP_SYNC`, as far as they are there: a store goes
//! to the medium.

use crate::error::PoolError;
use std::ops::Range;
pub(crate) use system::{Sharing, probe_sync};

/// Readable bytes behind the pool: more than the longest record with short lengths.
pub(crate) const GUARD_BYTES: usize = 128 << 10;
const _: () = assert!(GUARD_BYTES >= crate::layout::record_bytes_max(u8::MAX as usize, u16::MAX as usize));

/// An address range of a pool. Its memory is readable and writable, and stays where it is until the
/// mapping is dropped.
pub(crate) struct Mapping {
    memory: Memory,
    len: usize,
    /// Bytes at the beginning that are, or were, pages of a file.
    file_len: u64,
    /// Up to here lie bytes that are the medium.
    shared_len: u64,
    huge_pages: bool,
}

impl Mapping {
    /// Reserves `len` bytes of anonymous memory, all zeros.
    pub(crate) fn anonymous(len: usize, huge_pages: bool) -> Result<Self, PoolError> {
        let bytes = len + GUARD_BYTES;
        let memory =
            Memory::reserve(bytes, huge_pages).map_err(|source| PoolError::Map { bytes: bytes as u64, source })?;
        Ok(Self { memory, len, file_len: 0, shared_len: 0, huge_pages })
    }

    /// Lets the first `bytes` be those of a file.
    #[cfg(not(miri))]
    pub(crate) fn map_file(&mut self, file: &std::fs::File, bytes: u64) -> Result<(), PoolError> {
        self.check(&(0..bytes));
        self.memory.map_file(file, bytes as usize).map_err(|source| PoolError::Map { bytes, source })?;
        self.file_len = bytes;
        Ok(())
    }

    /// Lets the bytes of `range`, whole pages that the file has, be those of the file, and stores to them go there.
    pub(crate) fn map_shared(
        &mut self,
        file: &std::fs::File,
        range: Range<u64>,
        sharing: Sharing,
    ) -> std::io::Result<()> {
        self.check(&range);
        self.memory.map_shared(file, range.start as usize..range.end as usize, sharing)?;
        self.shared_len = self.shared_len.max(range.end);
        Ok(())
    }

    /// How many bytes the pool may grow to; the guard comes on top.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first byte. Aligned to a page.
    #[inline(always)]
    pub(crate) fn base(&self) -> *mut u8 {
        self.memory.base()
    }

    /// The bytes of `range`.
    ///
    /// # Panics
    /// If the range leaves the mapping.
    #[inline]
    pub(crate) fn bytes(&self, range: Range<u64>) -> &[u8] {
        let len = self.check(&range);
        // SAFETY: within the mapping, whose memory is initialised; it changes only through `&mut
        // self`.
        unsafe { std::slice::from_raw_parts(self.base().add(range.start as usize), len) }
    }

    /// The bytes of `range`, to be changed.
    ///
    /// # Panics
    /// If the range leaves the mapping.
    #[inline]
    pub(crate) fn bytes_mut(&mut self, range: Range<u64>) -> &mut [u8] {
        let len = self.check(&range);
        // SAFETY: as in `bytes`, and borrowed from `&mut self`.
        unsafe { std::slice::from_raw_parts_mut(self.base().add(range.start as usize), len) }
    }

    /// The bytes of `source` to be read and, disjoint from them, those of `range` to be changed.
    ///
    /// # Panics
    /// If a range leaves the mapping or the ranges overlap.
    #[inline]
    pub(crate) fn split(&mut self, source: Range<u64>, range: Range<u64>) -> (&[u8], &mut [u8]) {
        assert!(source.end <= range.start || range.end <= source.start, "a record is not copied onto itself");
        let (source_len, len) = (self.check(&source), self.check(&range));
        // SAFETY: both within the mapping, disjoint, and borrowed from `&mut self`.
        unsafe {
            let source = std::slice::from_raw_parts(self.base().add(source.start as usize), source_len);
            (source, std::slice::from_raw_parts_mut(self.base().add(range.start as usize), len))
        }
    }

    #[inline(always)]
    fn check(&self, range: &Range<u64>) -> usize {
        assert!(range.start <= range.end && range.end <= self.len as u64, "range leaves the pool");
        (range.end - range.start) as usize
    }

    /// Whether a byte is, or was, one of the file's, mapped privately.
    pub(crate) fn is_of_file(&self, byte: u64) -> bool {
        byte < self.file_len
    }

    /// Gives the memory of whole pages within `range` back to the system: they cost nothing and are
    /// zeros when touched again.
    pub(crate) fn give_back(&mut self, range: Range<u64>) {
        self.check(&range);
        assert!(range.start >= self.shared_len, "what is the medium is not given back");
        let of_file = self.is_of_file(range.start);
        let range = range.start as usize..range.end as usize;
        if !of_file || !self.memory.replace(range.clone(), self.huge_pages) {
            self.memory.give_back(range);
        }
    }
}

#[cfg(not(miri))]
mod system {
    use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};
    use std::fs::File;
    use std::io;
    use std::ops::Range;
    use std::os::fd::AsRawFd;

    /// Memory of the kernel's making.
    pub(super) struct Memory(MmapRaw);

    impl Memory {
        pub(super) fn reserve(bytes: usize, huge_pages: bool) -> io::Result<Self> {
            let raw = MmapRaw::from(MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?);
            match raw.advise(if huge_pages { Advice::HugePage } else { Advice::NoHugePage }) {
                // A kernel without transparent huge pages says EINVAL; then there are none to
                // refuse.
                Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
                _ => Ok(Self(raw)),
            }
        }

        #[inline(always)]
        pub(super) fn base(&self) -> *mut u8 {
            self.0.as_mut_ptr()
        }

        /// Maps the beginning of a file, privately, over the first `bytes`.
        pub(super) fn map_file(&mut self, file: &File, bytes: usize) -> io::Result<()> {
            self.map(0..bytes, libc::MAP_PRIVATE, file.as_raw_fd())
        }

        /// Maps bytes of a file, shared.
        pub(super) fn map_shared(&mut self, file: &File, range: Range<usize>, sharing: Sharing) -> io::Result<()> {
            self.map(range, sharing.flags(), file.as_raw_fd())
        }

        /// Puts fresh anonymous memory in place of what is mapped at `range`, of whole pages. False if the system has no room
        /// for another mapping; then nothing has changed.
        pub(super) fn replace(&mut self, range: Range<usize>, huge_pages: bool) -> bool {
            if self.map(range.clone(), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1).is_err() {
                return false;
            }
            let advice = if huge_pages { Advice::HugePage } else { Advice::NoHugePage };
            // Without the advice the memory is as good; a kernel without huge pages refuses it.
            let _unadvised = self.0.advise_range(advice, range.start, range.len());
            true
        }

        fn map(&mut self, range: Range<usize>, flags: i32, fd: i32) -> io::Result<()> {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = flags | libc::MAP_FIXED | libc::MAP_NORESERVE;
            // SAFETY: the range is within the mapping, which is ours alone, and nobody holds a reference into it, as `self` is
            // borrowed mutably; what takes its place is readable and writable as well.
            let mapped = unsafe {
                let start = self.base().add(range.start);
                libc::mmap(start.cast(), range.len(), access, flags, fd, range.start as libc::off_t)
            };
            if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
        }

        pub(super) fn give_back(&mut self, range: Range<usize>) {
            let page = page_bytes();
            let (start, end) = (range.start.next_multiple_of(page), range.end / page * page);
            if start >= end {
                return;
            }
            // SAFETY: the range is within the mapping and nobody holds a reference into it, as
            // `self` is borrowed mutably.
            let given = unsafe { self.0.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
            // Refused only for ranges that are not mapped, or locked (mlockall): then it stays,
            // still correct.
            debug_assert!(given.is_ok() || given.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)));
        }
    }

    /// How a mapping is shared with its file.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Sharing {
        /// The file system keeps its own records so that a store that is written back is durable.
        Sync,
        /// As any file can be mapped, for tests where there is no such file system.
        #[cfg(test)]
        Plain,
    }

    impl Sharing {
        const fn flags(self) -> i32 {
            match self {
                Self::Sync => libc::MAP_SHARED_VALIDATE | libc::MAP_SYNC,
                #[cfg(test)]
                Self::Plain => libc::MAP_SHARED,
            }
        }
    }

    /// Whether the file can be mapped with `MAP_SYNC`: asked at another place, as a mapping that fails may leave a hole where it
    /// was to be.
    pub(crate) fn probe_sync(file: &File) -> io::Result<()> {
        let (len, access) = (page_bytes(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping, at a place of the system's choosing, which is not accessed.
        let probed =
            unsafe { libc::mmap(std::ptr::null_mut(), len, access, Sharing::Sync.flags(), file.as_raw_fd(), 0) };
        if probed == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping just made, to which nothing refers.
        let unmapped = unsafe { libc::munmap(probed, len) };
        if unmapped == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn page_bytes() -> usize {
        // SAFETY: asks the C library for a constant of the system.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(bytes).expect("the system has a page size")
    }
}

#[cfg(miri)]
mod system {
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::fs::File;
    use std::io;
    use std::ops::Range;

    /// Memory of the allocator, for the interpreter that knows no advice.
    pub(super) struct Memory(*mut u8, Layout);

    // SAFETY: the allocation belongs to this value alone.
    unsafe impl Send for Memory {}

    impl Memory {
        pub(super) fn reserve(bytes: usize, _huge_pages: bool) -> io::Result<Self> {
            let layout = Layout::from_size_align(bytes, 4096).map_err(io::Error::other)?;
            // SAFETY: the layout's size is not 0.
            let base = unsafe { alloc_zeroed(layout) };
            if base.is_null() {
                handle_alloc_error(layout);
            }
            Ok(Self(base, layout))
        }

        pub(super) fn base(&self) -> *mut u8 {
            self.0
        }

        pub(super) fn replace(&mut self, _range: Range<usize>, _huge_pages: bool) -> bool {
            false
        }

        pub(super) fn map_shared(&mut self, file: &File, _range: Range<usize>, _sharing: Sharing) -> io::Result<()> {
            probe_sync(file)
        }

        pub(super) fn give_back(&mut self, range: Range<usize>) {
            // SAFETY: within the allocation, and nobody holds a reference into it.
            unsafe { self.0.add(range.start).write_bytes(0, range.len()) };
        }
    }

    /// How a mapping would be shared with its file.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum Sharing {
        /// With `MAP_SYNC`.
        Sync,
    }

    pub(crate) fn probe_sync(_file: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.0, self.1) };
        }
    }
}

use system::Memory;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_given_back_is_zeros() {
        // What lay in a range that was given back is gone; its neighbours stay.
        let mut mapping = Mapping::anonymous(1 << 20, false).unwrap();
        mapping.bytes_mut(0..1 << 20).fill(7);
        mapping.give_back(8192..65536);
        assert!(mapping.bytes(8192..65536).iter().all(|&byte| byte == 0));
        assert!(mapping.bytes(0..8192).iter().all(|&byte| byte == 7));
        assert!(mapping.bytes(65536..1 << 20).iter().all(|&byte| byte == 7));
    }

    #[test]
    #[cfg(not(miri))]
    fn half_a_tebibyte_is_reserved_and_not_taken() {
        // The largest pool costs address space only, and its last byte can be used.
        let len = crate::layout::POOL_BYTES_MAX as usize;
        let mut mapping = Mapping::anonymous(len, false).unwrap();
        mapping.bytes_mut(len as u64 - 1..len as u64)[0] = 1;
        assert_eq!(mapping.bytes(len as u64 - 1..len as u64), [1]);
    }
}
