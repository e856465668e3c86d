//! A simulated file: what survives of it is decided when it is asked for.
//!
//! What may break, and what may not (the rule of an ordinary file): a write becomes part of the page cache in sectors of 512
//! bytes, any of them first; what is in the page cache survives the process. Power loss leaves of each sector what was synced
//! last or anything written to it since, whatever became of the others. A sync covers the writes that had completed when it
//! began.

use std::{collections::BTreeMap, ops::Range};

use fastrand::Rng;

/// What is written whole or not at all.
pub const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

/// A file, as it is after a loss of power, and all that it could be.
#[derive(Clone, Debug, Default)]
pub struct Medium {
    durable: Vec<u8>,
    /// What each sector was written with since the last sync, oldest first.
    cached: BTreeMap<usize, Vec<Sector>>,
    /// A write that has not completed.
    in_flight: Vec<(usize, Sector)>,
    /// A sync that has not completed, and how many versions of each sector it covers.
    syncing: Option<BTreeMap<usize, usize>>,
}

impl Medium {
    /// A file with these bytes, all of them durable.
    #[must_use]
    pub fn new(durable: Vec<u8>) -> Self {
        Self { durable, ..Self::default() }
    }

    /// Begins to write whole sectors.
    ///
    /// # Panics
    /// If it begins or ends within a sector.
    pub fn write(&mut self, range: &Range<u64>, bytes: &[u8]) {
        let start = usize::try_from(range.start).expect("64 bits");
        assert!(start.is_multiple_of(SECTOR_BYTES) && bytes.len().is_multiple_of(SECTOR_BYTES), "whole pages");
        let sectors = bytes.as_chunks::<SECTOR_BYTES>().0;
        self.in_flight.extend(sectors.iter().enumerate().map(|(at, sector)| (start / SECTOR_BYTES + at, *sector)));
    }

    /// The writes in flight complete.
    pub fn complete(&mut self) {
        for (at, sector) in self.in_flight.drain(..) {
            self.cached.entry(at).or_default().push(sector);
        }
    }

    /// The writes in flight fail: any part of them has completed.
    pub fn fail_writes(&mut self, rng: &mut Rng) {
        self.in_flight.retain(|_| rng.bool());
        self.complete();
    }

    /// A write that completes at once, whatever else is in flight.
    ///
    /// # Panics
    /// If it begins or ends within a sector.
    pub fn write_now(&mut self, range: &Range<u64>, bytes: &[u8]) {
        let in_flight = std::mem::take(&mut self.in_flight);
        self.write(range, bytes);
        self.complete();
        self.in_flight = in_flight;
    }

    /// Whole sectors become zeros at once, by being written or because they lose their space.
    ///
    /// # Panics
    /// If the range begins or ends within a sector.
    pub fn zero(&mut self, range: &Range<u64>) {
        self.write_now(range, &vec![0; usize::try_from(range.end - range.start).expect("64 bits")]);
    }

    /// The sync in flight fails: nothing is durable by it.
    pub fn fail_sync(&mut self) {
        self.syncing = None;
    }

    /// A sync begins.
    pub fn begin_sync(&mut self) {
        self.syncing = Some(self.cached.iter().map(|(at, versions)| (*at, versions.len())).collect());
    }

    /// It is done: what it covers is durable.
    ///
    /// # Panics
    /// If none was begun.
    pub fn end_sync(&mut self) {
        for (at, count) in self.syncing.take().expect("a sync was begun") {
            let versions = self.cached.get_mut(&at).expect("nothing leaves the cache but here");
            let newest = versions[count - 1];
            versions.drain(..count);
            put(&mut self.durable, at, &newest);
            if versions.is_empty() {
                self.cached.remove(&at);
            }
        }
    }

    /// What a process finds that opens the file: all that had completed.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        let mut file = self.durable.clone();
        for (at, versions) in &self.cached {
            put(&mut file, *at, versions.last().expect("a cached sector has one"));
        }
        file
    }

    /// The process is killed: any part of what was in flight completes.
    pub fn kill(&mut self, rng: &mut Rng) {
        let eager = rng.u8(0..=4);
        self.in_flight.retain(|_| rng.u8(0..4) < eager);
        self.complete();
        self.syncing = None;
    }

    /// The power is lost: each sector is anything that it was since the last sync.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        self.complete();
        let eager = rng.u8(0..=4);
        for (at, versions) in std::mem::take(&mut self.cached) {
            if rng.u8(0..4) < eager {
                put(&mut self.durable, at, &versions[rng.usize(..versions.len())]);
            }
        }
        self.syncing = None;
    }
}

fn put(file: &mut Vec<u8>, at: usize, sector: &Sector) {
    let start = at * SECTOR_BYTES;
    if file.len() < start + SECTOR_BYTES {
        file.resize(start + SECTOR_BYTES, 0);
    }
    file[start..start + SECTOR_BYTES].copy_from_slice(sector);
}
