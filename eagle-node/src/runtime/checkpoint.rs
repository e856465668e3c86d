//! The file of a checkpoint that is taken while the node serves: made, written, and put in its place through the core's ring.
//!
//! ```text
//!  Begin  ─▶ shard-NN.checkpoint.new is made          Finish ─▶ fdatasync ─▶ renamed shard-NN.checkpoint ─▶ its folder synced
//!  Write  ─▶ bytes behind those before                Drop   ─▶ it is removed
//! ```
//!
//! One step is in flight; each action ends with an event. A write that the system did in part is done in full; any error ends the
//! action, and nothing is lost but time: the checkpoint before it is there until the rename, which replaces it as a whole.
//!
//! What always holds: bytes and paths that the kernel reads stay in place while an operation is in flight; the core loop lets go of
//! nothing while [`CheckpointFile::is_quiet`] says no.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use super::ring::Ring;
use crate::core::event::Checkpoint as Action;

/// The kind of its operations, above those of [`super::storage`].
pub(super) const CHECKPOINT: u32 = 3 << 24;

/// Bytes of one write at most.
const WRITE_BYTES_MAX: usize = 1 << 30;

/// Where a core's checkpoints are written.
pub(super) struct CheckpointFile {
    /// What is not finished, and its place when it is.
    unfinished: CString,
    place: CString,
    folder: File,
    file: Option<OwnedFd>,
    /// Bytes of the file.
    len: u64,
    step: Option<Step>,
    ended: Option<Result<(), i32>>,
}

/// What is in flight.
enum Step {
    Making,
    /// These bytes, from this one on.
    Writing(Vec<u8>, usize),
    Syncing,
    Renaming,
    SyncingFolder,
    Removing,
}

impl CheckpointFile {
    /// The checkpoints of the pool whose checkpoint is found at `path`.
    ///
    /// # Errors
    /// Its folder cannot be opened, or its name has a zero byte.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self {
            unfinished: name(&eagle_pmem::unfinished_checkpoint(path))?,
            place: name(path)?,
            folder: File::open(folder)?,
            file: None,
            len: 0,
            step: None,
            ended: None,
        })
    }

    /// Begins something; nothing else is under way.
    pub(super) fn begin(&mut self, action: Action, ring: &mut Ring) {
        assert!(self.step.is_none(), "one action is under way a core");
        self.step(
            match action {
                Action::Begin => Step::Making,
                Action::Write(bytes) => Step::Writing(bytes, 0),
                Action::Finish => Step::Syncing,
                Action::Drop => Step::Removing,
            },
            ring,
        );
    }

    /// Its operation has ended.
    pub(super) fn completed(&mut self, result: Result<usize, i32>, ring: &mut Ring) {
        let step = self.step.take().expect("an operation that ends was begun");
        let next = match (step, result) {
            (step, Err(libc::EINTR | libc::EAGAIN)) => step,
            (Step::Making, Ok(fd)) => {
                let fd = i32::try_from(fd).expect("the kernel's descriptors are small");
                // SAFETY: the kernel just made it for us, nobody else has it.
                self.file = Some(unsafe { OwnedFd::from_raw_fd(fd) });
                self.len = 0;
                return self.end(Ok(()));
            }
            (Step::Writing(..), Ok(0)) => return self.end(Err(libc::ENOSPC)),
            (Step::Writing(bytes, at), Ok(written)) => {
                self.len += written as u64;
                if at + written == bytes.len() {
                    return self.end(Ok(()));
                }
                Step::Writing(bytes, at + written)
            }
            (Step::Syncing, Ok(_)) => Step::Renaming,
            (Step::Renaming, Ok(_)) => Step::SyncingFolder,
            (Step::SyncingFolder, Ok(_)) => {
                self.file = None;
                return self.end(Ok(()));
            }
            (Step::Removing, _) => {
                self.file = None;
                return self.end(Ok(()));
            }
            (_, Err(code)) => return self.end(Err(code)),
        };
        self.step(next, ring);
    }

    /// How the action has ended, once.
    pub(super) fn take_ended(&mut self) -> Option<Result<(), i32>> {
        self.ended.take()
    }

    /// Nothing is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.step.is_none()
    }

    fn end(&mut self, result: Result<(), i32>) {
        self.ended = Some(result);
    }

    fn step(&mut self, step: Step, ring: &mut Ring) {
        let step = self.step.insert(step);
        let file = || self.file.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        match step {
            // SAFETY: the path is this struct's own memory, which stays in place until the completion.
            Step::Making => unsafe { ring.create(CHECKPOINT, &self.unfinished) },
            Step::Writing(bytes, at) => {
                let rest = &bytes[*at..];
                let len = rest.len().min(WRITE_BYTES_MAX) as u32;
                // SAFETY: the bytes are the step's own, which stays until the completion.
                unsafe { ring.write(CHECKPOINT, file(), self.len, (rest.as_ptr(), len), false) };
            }
            Step::Syncing => ring.sync(CHECKPOINT, file()),
            // SAFETY: as for the one that is made.
            Step::Renaming => unsafe { ring.rename(CHECKPOINT, &self.unfinished, &self.place) },
            Step::SyncingFolder => ring.sync(CHECKPOINT, self.folder.as_raw_fd()),
            // SAFETY: as for the one that is made.
            Step::Removing => unsafe { ring.remove(CHECKPOINT, &self.unfinished) },
        }
    }
}
