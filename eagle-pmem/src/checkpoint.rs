//! A checkpoint's file: the index and the log's accounts written out, so that opening need not read the log.
//!
//! ```text
//!  0       8         16
//!  ├───────┼─────────┼───────┬───────┬─────┬─────┐     block: ├──────┼───────┼─────┼─────┼─────────┼───────┤
//!  │ magic │ pool id │ block │ block │ ... │ end │            │ kind │ zeros │ crc │ len │ payload │ zeros │
//!  └───────┴─────────┴───────┴───────┴─────┴─────┘            └ 1 ───┴ 3 ────┴ 4 ──┴ 8 ──┴ len ────┴ 0..63 ┘
//! ```
//!
//! Blocks begin 16 bytes behind a multiple of 64, so that what a payload has at its byte 32 (or 96, ...) lies in memory as cache lines
//! do, and can be used where it is mapped.
//!
//! A file beside the pool, `shard-NN.checkpoint`, written under another name, synced and renamed, so there is a whole one or the
//! one before. It is believed if every block's CRC32 (of kind, length and payload) is right and the last is the end, which counts the
//! blocks; else it is as if there were none, since the log has everything.
//!
//! A file of its own rather than extents of the pool, as storage.md has it: it is replaced as a whole by one rename, and
//! takes no part in compaction, growth and the rules by which extents are used again.
//!
//! It is written at once ([`CheckpointWriter`]), or piece by piece by who must not wait for a file ([`CheckpointBlocks`]).
//!
//! What is in the blocks is up to who writes them; the first is the log's ([`LogState`]).

use crate::error::PoolError;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// "EAGLECP2", the first bytes: name and format version.
const MAGIC: u64 = u64::from_le_bytes(*b"EAGLECP2");
const FILE_HEADER_BYTES: usize = 16;
const BLOCK_HEADER_BYTES: usize = 16;
/// What blocks are a multiple of, in bytes.
const BLOCK_ALIGN: u64 = 64;
/// The last block's kind; its payload is the number of blocks before it.
const END: u8 = 0;

/// Writes a checkpoint: blocks, then [`CheckpointWriter::finish`]. What is not finished is not there.
#[derive(Debug)]
pub struct CheckpointWriter {
    file: BufWriter<File>,
    path: PathBuf,
    blocks: u64,
}

impl CheckpointWriter {
    /// Begins the checkpoint of a pool, to be found at `path` when it is finished.
    ///
    /// # Errors
    /// The system refuses.
    pub fn create(path: &Path, pool_id: u64) -> Result<Self, PoolError> {
        let create = || -> io::Result<BufWriter<File>> {
            let mut file = BufWriter::with_capacity(1 << 20, File::create(unfinished(path))?);
            file.write_all(&MAGIC.to_le_bytes())?;
            file.write_all(&pool_id.to_le_bytes())?;
            Ok(file)
        };
        let fault = |source| PoolError::File { path: path.to_owned(), doing: "create a checkpoint of", source };
        Ok(Self { file: create().map_err(fault)?, path: path.to_owned(), blocks: 0 })
    }

    /// Adds a block, whose payload is these pieces. `kind` is not 0.
    ///
    /// # Errors
    /// The system refuses.
    pub fn block(&mut self, kind: u8, payload: &[&[u8]]) -> Result<(), PoolError> {
        let written = self.write(kind, payload);
        self.blocks += 1;
        written.map_err(|source| self.fault(source))
    }

    /// Ends the checkpoint, waits until it is durable, and puts it in the place of the one before.
    ///
    /// # Errors
    /// The system refuses; the one before is still there, or this one.
    pub fn finish(mut self) -> Result<(), PoolError> {
        let count = self.blocks.to_le_bytes();
        let finish = |this: &mut Self| -> io::Result<()> {
            this.write(END, &[&count])?;
            this.file.flush()?;
            this.file.get_ref().sync_data()?;
            std::fs::rename(unfinished(&this.path), &this.path)?;
            crate::pool::sync_folder_of(&this.path)
        };
        finish(&mut self).map_err(|source| self.fault(source))
    }

    fn write(&mut self, kind: u8, payload: &[&[u8]]) -> io::Result<()> {
        let (header, zeros) = frame(kind, payload);
        self.file.write_all(&header)?;
        payload.iter().try_for_each(|piece| self.file.write_all(piece))?;
        self.file.write_all(zeros)
    }

    fn fault(&self, source: io::Error) -> PoolError {
        PoolError::File { path: self.path.clone(), doing: "write a checkpoint of", source }
    }
}

/// The bytes of a checkpoint, or of some blocks of it, made in memory.
#[derive(Debug, Default)]
pub struct CheckpointBlocks {
    bytes: Vec<u8>,
    count: u64,
}

impl CheckpointBlocks {
    /// The beginning of the checkpoint of a pool; by default it is blocks to be put into one.
    pub fn begin(pool_id: u64) -> Self {
        Self { bytes: [MAGIC.to_le_bytes(), pool_id.to_le_bytes()].concat(), count: 0 }
    }

    /// Adds a block, whose payload is these pieces. `kind` is not 0.
    pub fn block(&mut self, kind: u8, payload: &[&[u8]]) {
        let (header, zeros) = frame(kind, payload);
        self.bytes.extend_from_slice(&header);
        payload.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        self.bytes.extend_from_slice(zeros);
        self.count += 1;
    }

    /// Puts other blocks behind these, of which nothing is left there.
    pub fn append(&mut self, other: &mut Self) {
        if self.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, &mut other.bytes);
        } else {
            self.bytes.append(&mut other.bytes);
        }
        self.count += std::mem::take(&mut other.count);
    }

    /// Adds the end: nothing comes behind it.
    pub fn end(&mut self) {
        let count = self.count.to_le_bytes();
        self.block(END, &[&count]);
    }

    /// Bytes that were not taken yet.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether all bytes were taken.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes that were not taken yet, which are then: they are to be written behind those before.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// A whole checkpoint, mapped. Copies are of the same memory, which stays where it is as long as there is one.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    bytes: Arc<Bytes>,
}

#[derive(Debug)]
enum Bytes {
    #[cfg(not(miri))]
    Mapped(memmap2::Mmap),
    /// So many bytes, laid as they would be in a mapping.
    Owned(Vec<Line>, usize),
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line([u8; BLOCK_ALIGN as usize]);

impl Checkpoint {
    /// The checkpoint at `path`, if there is one, it is whole, and of this pool.
    ///
    /// # Errors
    /// There is a file and the system refuses to read it.
    #[cfg(not(miri))]
    pub fn open(path: &Path, pool_id: u64) -> Result<Option<Self>, PoolError> {
        let fault = |source| PoolError::File { path: path.to_owned(), doing: "read the checkpoint of", source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(error)),
        };
        // SAFETY: the file is ours, by the lock of its folder, and is replaced, never changed.
        let mapped = unsafe { memmap2::MmapOptions::new().populate().map(&file) }.map_err(fault)?;
        Ok(Self::checked(Bytes::Mapped(mapped), pool_id))
    }

    /// Removes the checkpoint at `path`, if there is one, durably.
    ///
    /// # Errors
    /// The system refuses.
    pub fn remove(path: &Path) -> Result<(), PoolError> {
        let fault = |source| PoolError::File { path: path.to_owned(), doing: "remove the checkpoint of", source };
        match std::fs::remove_file(path) {
            Ok(()) => crate::pool::sync_folder_of(path).map_err(fault),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(fault(error)),
        }
    }

    /// The checkpoint in these bytes, if it is whole and of this pool.
    pub fn of_bytes(bytes: &[u8], pool_id: u64) -> Option<Self> {
        let line = |chunk: &[u8]| {
            let mut line = Line([0; BLOCK_ALIGN as usize]);
            line.0[..chunk.len()].copy_from_slice(chunk);
            line
        };
        let lines = bytes.chunks(BLOCK_ALIGN as usize).map(line).collect();
        Self::checked(Bytes::Owned(lines, bytes.len()), pool_id)
    }

    fn checked(bytes: Bytes, pool_id: u64) -> Option<Self> {
        let checkpoint = Self { bytes: Arc::new(bytes) };
        let bytes = checkpoint.bytes();
        let number = |at: usize| bytes.get(at..at + 8).map(|b| u64::from_le_bytes(b.try_into().expect("8 bytes")));
        if number(0) != Some(MAGIC) || number(8) != Some(pool_id) {
            return None;
        }
        let mut count = 0_u64;
        let mut at = FILE_HEADER_BYTES;
        loop {
            let (kind, payload, next) = block_at(bytes, at)?;
            if crc_at(bytes, at) != crc_of([kind, 0, 0, 0], (payload.len() as u64).to_le_bytes(), &[payload]) {
                return None;
            }
            if kind == END {
                let is_whole = *payload == count.to_le_bytes() && next <= bytes.len();
                return is_whole.then_some(checkpoint);
            }
            count += 1;
            at = next;
        }
    }

    /// The blocks, each with its kind.
    pub fn blocks(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut at = FILE_HEADER_BYTES;
        std::iter::from_fn(move || {
            let (kind, payload, next) = block_at(self.bytes(), at)?;
            at = next;
            (kind != END).then_some((kind, payload))
        })
    }

    /// All bytes of it.
    pub fn bytes(&self) -> &[u8] {
        match &*self.bytes {
            #[cfg(not(miri))]
            Bytes::Mapped(mapped) => mapped,
            // SAFETY: lines have no padding, and these are `len` bytes of them at most.
            Bytes::Owned(lines, len) => unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), *len) },
        }
    }
}

/// What comes before and behind the payload of a block.
fn frame(kind: u8, payload: &[&[u8]]) -> ([u8; BLOCK_HEADER_BYTES], &'static [u8]) {
    let len: usize = payload.iter().map(|piece| piece.len()).sum();
    let (kind, len) = ([kind, 0, 0, 0], (len as u64).to_le_bytes());
    let crc = crc_of(kind, len, payload).to_le_bytes();
    let mut header = [0; BLOCK_HEADER_BYTES];
    header[..4].copy_from_slice(&kind);
    header[4..8].copy_from_slice(&crc);
    header[8..].copy_from_slice(&len);
    (header, &[0; BLOCK_ALIGN as usize][..padding(u64::from_le_bytes(len))])
}

/// The block at `at`: kind, payload, and where the next one begins.
fn block_at(bytes: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let header = bytes.get(at..at.checked_add(BLOCK_HEADER_BYTES)?)?;
    let len = u64::from_le_bytes(header[8..].try_into().expect("8 bytes"));
    let start = at + BLOCK_HEADER_BYTES;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    let payload = bytes.get(start..end)?;
    Some((header[0], payload, end + padding(len)))
}

fn crc_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("4 bytes"))
}

fn crc_of(kind: [u8; 4], len: [u8; 8], payload: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind);
    hasher.update(&len);
    payload.iter().for_each(|piece| hasher.update(piece));
    hasher.finalize()
}

/// Zeros behind a payload, so that the block is a multiple of [`BLOCK_ALIGN`].
const fn padding(len: u64) -> usize {
    ((BLOCK_HEADER_BYTES as u64).wrapping_add(len).wrapping_neg() % BLOCK_ALIGN) as usize
}

/// Where a checkpoint that is to be found at `path` is written.
pub fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("checkpoint.new")
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_read_as_it_was_written_or_not_at_all() {
        // Blocks with payloads of any length come back; cut anywhere, or with any byte changed, it is none.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shard-00.checkpoint");
        assert!(Checkpoint::open(&path, 7).unwrap().is_none());
        let mut writer = CheckpointWriter::create(&path, 7).unwrap();
        writer.block(3, &[b"one ", b"block"]).unwrap();
        writer.block(9, &[]).unwrap();
        assert!(Checkpoint::open(&path, 7).unwrap().is_none(), "it is not finished");
        writer.finish().unwrap();
        let found = Checkpoint::open(&path, 7).unwrap().expect("it is whole");
        assert_eq!(found.blocks().collect::<Vec<_>>(), [(3, &b"one block"[..]), (9, b"")]);
        assert!(Checkpoint::open(&path, 8).unwrap().is_none(), "it is another pool's");
        let bytes = std::fs::read(&path).unwrap();
        for len in 0..bytes.len() {
            assert!(Checkpoint::of_bytes(&bytes[..len], 7).is_none(), "cut at {len}");
        }
        let zeros = |at: usize| {
            (17..20).contains(&at)
                || (81..84).contains(&at)
                || (16 + 16 + 9..80).contains(&at)
                || (96..144).contains(&at)
        };
        for at in (0..bytes.len() - 8).filter(|at| !zeros(*at)) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let found = Checkpoint::of_bytes(&changed, 7).map(|found| found.blocks().map(|(kind, _)| kind).collect());
            assert!(found.is_none_or(|kinds: Vec<u8>| kinds == [3, 9]), "byte {at}");
        }
    }
}
