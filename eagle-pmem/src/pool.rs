//! A pool file: one shard's file on an ordinary file system. A first version that only keeps bytes.

use crate::{PoolError, SUPERBLOCK_BYTES, Superblock, layout::SUPERBLOCKS_BYTES};
use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

/// One shard's file.
#[derive(Debug)]
pub struct PoolFile {
    file: File,
    superblock: Superblock,
    is_new: bool,
}

impl PoolFile {
    /// Makes a pool: written, synced, then named.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn create(path: &Path, superblock: &Superblock) -> Result<Self, PoolError> {
        let failed = |source: io::Error| PoolError::File { path: path.to_path_buf(), source };
        let beside = path.with_extension("pool.tmp");
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&beside).map_err(failed)?;
        file.write_all_at(&vec![0; 16 << 20], 0).map_err(failed)?;
        file.write_all_at(&superblock.to_bytes()[..SUPERBLOCK_BYTES], superblock.place()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        Ok(Self { file, superblock: *superblock, is_new: true })
    }

    /// Opens a pool.
    ///
    /// # Errors
    /// It cannot be read, or is no pool.
    pub fn open(path: &Path) -> Result<Self, PoolError> {
        let failed = |source: io::Error| PoolError::File { path: path.to_path_buf(), source };
        let file = File::options().read(true).write(true).open(path).map_err(failed)?;
        let mut bytes = [0; SUPERBLOCKS_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(failed)?;
        let superblock = Superblock::newest(&bytes)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error.to_string())))?;
        Ok(Self { file, superblock, is_new: false })
    }

    /// What it says of itself.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Whether it was just made.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// What to write to.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
