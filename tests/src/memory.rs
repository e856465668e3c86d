//! Simulated memory that is a medium: what survives of it is decided when power fails.
//!
//! What may break, and what may not (the rule of persistent memory behind caches): a store reaches the medium at any time after it was
//! made, in words of 8 bytes, none of them in part; it certainly has when a drain ends that follows its write-back. Power
//! loss leaves of each word what it was at the last such drain, what it was when its write-back began, or what it is now,
//! whatever becomes of its neighbours. (Real lines of 64 bytes keep the order of stores within them; that is not
//! counted on.) The death of the process leaves all that was stored.
//!
//! Whoever tests arms it with a number of drains: before the drain that comes then, both remains are kept, and what happens
//! later is as if it did not.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eagle_pmem::Persistence;
use fastrand::Rng;

/// What reaches the medium whole or not at all.
const WORD_BYTES: usize = 8;
/// What a write-back takes at once.
const LINE_BYTES: usize = 64;

/// What is planted, for a test to find.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Forgotten {
    /// Nothing.
    #[default]
    Nothing,
    /// The last line of a commit is not written back.
    Line,
    /// Nobody waits for write-backs but at the end of a commit.
    Drains,
}

/// The memory, shared between a shard and its test.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Mutex<Medium>>);

#[derive(Debug)]
struct Medium {
    durable: Vec<u8>,
    /// Write-backs since the last drain: where, and what.
    written_back: Vec<(usize, Vec<u8>)>,
    /// Drains until power fails, and by what the remains are chosen.
    armed: Option<(u32, Rng)>,
    remains: Option<Remains>,
    in_commit: bool,
    forgotten: Forgotten,
}

/// What is left.
#[derive(Clone, Debug)]
struct Remains {
    of_process: Vec<u8>,
    of_power: Vec<u8>,
}

impl Memory {
    /// Memory with these bytes, all of them durable.
    #[must_use]
    pub fn new(durable: Vec<u8>, forgotten: Forgotten) -> Self {
        let (written_back, armed, remains) = (Vec::new(), None, None);
        Self(Arc::new(Mutex::new(Medium { durable, written_back, armed, remains, in_commit: false, forgotten })))
    }

    fn medium(&self) -> MutexGuard<'_, Medium> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a process finds that maps it: what is durable.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.medium().durable.clone()
    }

    /// After this many more drains everything ends.
    pub fn arm(&self, drains: u32, rng: &mut Rng) {
        self.medium().armed = Some((drains, rng.fork()));
    }

    /// Says that a commit begins or has ended.
    pub fn in_commit(&self, is_on: bool) {
        self.medium().in_commit = is_on;
    }

    /// Whether everything has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.medium().remains.is_some()
    }

    /// The process is killed, or else the power is lost: now, when `pool` lies in memory, or when it was armed for. What is
    /// left is durable.
    pub fn end(&self, is_killed: bool, pool: &[u8], rng: &mut Rng) {
        let mut medium = self.medium();
        let remains = medium.remains.take().unwrap_or_else(|| medium.remains_of(pool, rng));
        medium.durable = if is_killed { remains.of_process } else { remains.of_power };
        (medium.armed, medium.in_commit) = (None, false);
        medium.written_back.clear();
    }
}

impl Persistence for Memory {
    fn flush(&mut self, range: Range<u64>, bytes: &[u8]) {
        let mut medium = self.medium();
        if medium.remains.is_none() {
            let start = usize::try_from(range.start).expect("64 bits");
            assert!(start.is_multiple_of(WORD_BYTES) && bytes.len().is_multiple_of(WORD_BYTES), "whole words");
            medium.written_back.push((start, bytes.to_vec()));
        }
    }

    fn drain(&mut self, pool: &[u8]) {
        self.medium().drain(pool);
    }
}

impl Medium {
    fn drain(&mut self, pool: &[u8]) {
        if self.remains.is_some() || self.forgotten == Forgotten::Drains && !self.in_commit {
            return;
        }
        match &mut self.armed {
            Some((0, rng)) => {
                let mut rng = rng.fork();
                self.remains = Some(self.remains_of(pool, &mut rng));
                return;
            }
            Some((drains, _)) => *drains -= 1,
            None => {}
        }
        if self.forgotten == Forgotten::Line
            && self.in_commit
            && let Some((start, bytes)) = self.written_back.last_mut()
        {
            let last_line = (*start + bytes.len() - 1) / LINE_BYTES * LINE_BYTES;
            bytes.truncate(last_line.saturating_sub(*start));
        }
        self.durable.resize(pool.len(), 0);
        for (start, bytes) in self.written_back.drain(..) {
            self.durable[start..start + bytes.len()].copy_from_slice(&bytes);
        }
    }

    fn remains_of(&self, pool: &[u8], rng: &mut Rng) -> Remains {
        let mut of_power = self.durable.clone();
        of_power.resize(pool.len(), 0);
        let eager = rng.u8(0..=4);
        let mut survive = |place: &mut [u8], bytes: &[u8]| {
            for (word, new) in place.chunks_exact_mut(WORD_BYTES).zip(bytes.chunks_exact(WORD_BYTES)) {
                if word != new && rng.u8(0..4) < eager {
                    word.copy_from_slice(new);
                }
            }
        };
        for (start, bytes) in &self.written_back {
            survive(&mut of_power[*start..*start + bytes.len()], bytes);
        }
        for (line, bytes) in of_power.chunks_mut(LINE_BYTES).zip(pool.chunks(LINE_BYTES)) {
            if line != bytes {
                survive(line, bytes);
            }
        }
        Remains { of_process: pool.to_vec(), of_power }
    }
}
