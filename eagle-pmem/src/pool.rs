//! A pool's file: made whole or not at all, and opened only if it is one of ours.
//!
//! A new file is written under another name, filled with zeros, its superblock last, synced, and then renamed; so what bears
//! the name of a pool is one. Zeros, and not only reserved space, because a write into space that was never written changes
//! the file system's own records, which makes each sync dearer, and which not every file system
//! makes durable where memory is the medium.
//!
//! All of this happens at start, and waits. What is written while serving is the runtime's.

use crate::error::PoolError;
use crate::layout::SUPERBLOCKS_BYTES;
use crate::superblock::Superblock;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of extents that a new file has, at least: one extent of each size up to it.
const NEW_BYTES: u64 = 8 << 20;
/// Extents that a new file has at least: two open, two kept back.
const NEW_EXTENTS_MIN: u64 = 4;

/// What a file's space is counted in.
const BLOCK_BYTES: u64 = 512;

/// A shard's pool file, open for reading and writing.
#[derive(Debug)]
pub struct PoolFile {
    file: File,
    path: PathBuf,
    superblock: Superblock,
    is_new: bool,
    may_write: bool,
    bytes: u64,
}

impl PoolFile {
    /// Makes a file of zeros with this superblock, durably. An unfinished one that lies in the way is overwritten.
    ///
    /// # Errors
    /// The system refuses something, or there is a file of this name already.
    pub fn create(path: &Path, superblock: &Superblock) -> Result<Self, PoolError> {
        let fault = |doing| move |source| PoolError::File { path: path.to_owned(), doing, source };
        if path.exists() {
            return Err(fault("create")(io::ErrorKind::AlreadyExists.into()));
        }
        let unfinished = path.with_extension("pool.new");
        let extent = superblock.extent_bytes as u64;
        let bytes = SUPERBLOCKS_BYTES as u64 + extent * NEW_EXTENTS_MIN.max(NEW_BYTES / extent);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(&unfinished).map_err(fault("create"))?;
        allocate(&file, 0..bytes).map_err(fault("allocate space for"))?;
        write_zeros(&file, 0..bytes).and_then(|()| file.sync_all()).map_err(fault("fill"))?;
        forget(&file, bytes);
        let mut pool =
            Self { file, path: path.to_owned(), superblock: *superblock, is_new: true, may_write: true, bytes };
        // Both copies, so that the loss of one is not that of the pool.
        pool.write_superblock(superblock)?;
        pool.write_superblock(superblock)?;
        std::fs::rename(&unfinished, path).map_err(fault("name"))?;
        sync_folder_of(path).map_err(fault("name"))?;
        Ok(pool)
    }

    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened, or is no pool that this program knows.
    pub fn open(path: &Path) -> Result<Self, PoolError> {
        Self::open_to(path, true)
    }

    /// Opens a file that is to stay as it is.
    ///
    /// # Errors
    /// As [`PoolFile::open`].
    pub fn open_to_read(path: &Path) -> Result<Self, PoolError> {
        Self::open_to(path, false)
    }

    fn open_to(path: &Path, may_write: bool) -> Result<Self, PoolError> {
        let fault = |doing| move |source| PoolError::File { path: path.to_owned(), doing, source };
        let file = OpenOptions::new().read(true).write(may_write).open(path).map_err(fault("open"))?;
        let bytes = file.metadata().map_err(fault("look at"))?.len();
        let mut superblocks = [0; SUPERBLOCKS_BYTES];
        file.read_exact_at(&mut superblocks, 0).map_err(fault("read"))?;
        let superblock = Superblock::newest(&superblocks)
            .map_err(|source| PoolError::Superblock { path: path.to_owned(), source })?;
        Ok(Self { file, path: path.to_owned(), superblock, is_new: false, may_write, bytes })
    }

    /// Writes the superblock's next generation, and waits until it is durable.
    ///
    /// # Errors
    /// The system refuses; then the generation before counts.
    pub fn write_superblock(&mut self, superblock: &Superblock) -> Result<(), PoolError> {
        let next = Superblock { generation: self.superblock.generation + 1, ..*superblock };
        let written = self.file.write_all_at(&next.to_bytes(), next.place()).and_then(|()| self.file.sync_data());
        let fault = |source| PoolError::File { path: self.path.clone(), doing: "write the superblock of", source };
        written.map_err(fault)?;
        self.superblock = next;
        Ok(())
    }

    /// Makes a file fit to be mapped as the medium: it consists of whole extents, all of its bytes were
    /// once written, and all that anybody has stored in it, mapped or not, is durable. Returns its length in bytes.
    ///
    /// # Errors
    /// The system refuses something; there may be no space.
    pub(crate) fn make_whole(&mut self) -> Result<u64, PoolError> {
        let extent = self.superblock.extent_bytes as u64;
        let whole = SUPERBLOCKS_BYTES as u64 + (self.bytes - SUPERBLOCKS_BYTES as u64).next_multiple_of(extent);
        let filled = if self.bytes < whole { allocate(&self.file, self.bytes..whole) } else { Ok(()) }
            .and_then(|()| holes(&self.file)?.into_iter().try_for_each(|hole| write_zeros(&self.file, hole)))
            .and_then(|()| self.file.sync_all());
        filled.map_err(|source| PoolError::File { path: self.path.clone(), doing: "fill", source })?;
        self.bytes = whole;
        Ok(whole)
    }

    /// Makes the file have these bytes, zeros all of them, durably.
    ///
    /// # Errors
    /// The system refuses something; there may be no space.
    pub(crate) fn extend(&self, range: Range<u64>) -> io::Result<()> {
        allocate(&self.file, range.clone())?;
        write_zeros(&self.file, range)?;
        self.file.sync_data()
    }

    /// Makes the file have these few bytes, zeros all of them, so that they can be written to. They are not durable yet.
    ///
    /// # Errors
    /// The system refuses something; there may be no space.
    pub(crate) fn make_room(&self, range: Range<u64>) -> io::Result<()> {
        allocate(&self.file, range.clone())?;
        write_zeros(&self.file, range)
    }

    /// Where it has no space, or space that was never written; nothing if it is only read.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn holes(&self) -> Result<Vec<Range<u64>>, PoolError> {
        let found = if self.may_write { holes(&self.file) } else { Ok(Vec::new()) };
        found.map_err(|source| PoolError::File { path: self.path.clone(), doing: "look for holes in", source })
    }

    /// Bytes of space that the file system has given it, or 0 where it does not say.
    pub fn allocated_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.blocks() * BLOCK_BYTES)
    }

    /// What the pool says of itself.
    pub const fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Its path, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was made just now, so that it holds nothing.
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether it may be written to.
    pub const fn may_write(&self) -> bool {
        self.may_write
    }

    /// Its length in bytes when it was opened.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) const fn file(&self) -> &File {
        &self.file
    }
}

impl AsFd for PoolFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Reserves space, where the file system can.
fn allocate(file: &File, range: Range<u64>) -> io::Result<()> {
    let (start, len) = (range.start as libc::off_t, (range.end - range.start) as libc::off_t);
    // SAFETY: the descriptor is open.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), 0, start, len) };
    match io::Error::last_os_error() {
        error if done != 0 && error.raw_os_error() != Some(libc::EOPNOTSUPP) => Err(error),
        _ => Ok(()),
    }
}

/// Lets go of what the system caches of a file that is synced: nobody reads the zeros, and they lie in large folios, each of which counts
/// as written as a whole when a commit writes a few pages of it.
fn forget(file: &File, bytes: u64) {
    // SAFETY: no memory is passed. Advice may be refused.
    let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, bytes as libc::off_t, libc::POSIX_FADV_DONTNEED) };
}

fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..len as usize], at)?;
        at += len;
    }
    Ok(())
}

/// Where a file has space, reserved or not, that was never written.
fn holes(file: &File) -> io::Result<Vec<Range<u64>>> {
    let end = file.metadata()?.len();
    let mut holes = Vec::new();
    let mut at = 0;
    while let Some(start) = seek(file, at, libc::SEEK_HOLE)?.filter(|start| *start < end) {
        at = seek(file, start, libc::SEEK_DATA)?.unwrap_or(end);
        holes.push(start..at);
    }
    Ok(holes)
}

/// The next place of a kind, `None` if there is none.
fn seek(file: &File, from: u64, what: i32) -> io::Result<Option<u64>> {
    // SAFETY: the descriptor is open; its position is nobody's concern.
    let found = unsafe { libc::lseek(file.as_raw_fd(), from as libc::off_t, what) };
    match io::Error::last_os_error() {
        error if found < 0 && error.raw_os_error() != Some(libc::ENXIO) => Err(error),
        _ => Ok(u64::try_from(found).ok()),
    }
}

/// Makes the name of a file durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::{SlotMap, SuperblockError};

    fn superblock() -> Superblock {
        Superblock {
            generation: 0,
            pool_id: 5,
            shard: 0,
            shards: 1,
            slot_map: SlotMap::Modulo,
            extent_bytes: 64 << 10,
            hash_seed: 6,
            boot_id: [7; 16],
            checkpoint: 0,
        }
    }

    #[test]
    fn a_file_is_found_again_as_it_was_made() {
        // With its superblock; a second one of the same name is refused, and each writing is a new generation.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard-00.pool");
        let made = PoolFile::create(&path, &superblock()).unwrap();
        assert!(made.is_new());
        assert!(matches!(PoolFile::create(&path, &superblock()), Err(PoolError::File { doing: "create", .. })));
        let mut found = PoolFile::open(&path).unwrap();
        assert_eq!(found.superblock(), made.superblock());
        assert!(!found.is_new() && found.bytes() == 8192 + (8 << 20));
        found.write_superblock(&Superblock { boot_id: [8; 16], ..superblock() }).unwrap();
        let again = PoolFile::open(&path).unwrap();
        assert_eq!((again.superblock().generation, again.superblock().boot_id), (3, [8; 16]));
    }

    #[test]
    fn a_file_is_made_whole_before_it_is_mapped() {
        // Half an extent at its end becomes a whole one, what was reserved and never written is zeros, and what was written
        // stays.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard-00.pool");
        let made = PoolFile::create(&path, &superblock()).unwrap();
        let (len, extent) = (made.bytes(), 64 << 10);
        allocate(made.file(), len..len + 3 * extent).unwrap();
        made.file().write_all_at(&[7; 4096], len + extent).unwrap();
        made.file().set_len(len + 2 * extent + 5000).unwrap();
        let mut found = PoolFile::open(&path).unwrap();
        assert_eq!(found.make_whole().unwrap(), len + 3 * extent);
        assert_eq!(holes(found.file()).unwrap(), []);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, len + 3 * extent);
        let (before, behind) = bytes[len as usize..].split_at(extent as usize);
        assert!(before.iter().chain(&behind[4096..]).all(|byte| *byte == 0) && behind[..4096] == [7; 4096]);
        found.extend(len + 3 * extent..len + 4 * extent).unwrap();
        assert_eq!(holes(found.file()).unwrap(), []);
        assert_eq!(found.file().metadata().unwrap().len(), len + 4 * extent);
    }

    #[test]
    fn other_files_are_left_alone() {
        // What is no pool is named with what it begins with, and not changed.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard-00.pool");
        std::fs::write(&path, vec![b'R'; 10_000]).unwrap();
        let error = PoolFile::open(&path).unwrap_err();
        assert!(matches!(error, PoolError::Superblock { source: SuperblockError::Magic(_), .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), vec![b'R'; 10_000]);
        assert!(matches!(PoolFile::open(&folder.path().join("none")), Err(PoolError::File { doing: "open", .. })));
    }
}
