//! Reads the records of one extent of which nothing is known: each is checked, and what is not whole is passed over where it
//! should be.
//!
//! Behind damaged records the ordinals of the others are not known, and with them their versions: the seal says how many
//! there were in all, so as many are missing as those that are left do not make up for.

use crate::extent::ExtentId;
use crate::layout::{ExtentKind, RECORD_ALIGN, SEAL_BYTES, meta};
use crate::log::Log;
use crate::offset::PoolOffset;
use crate::record::{Kind, Record};

/// What a reader finds next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A whole record.
    Record { offset: PoolOffset, version: u64 },
    /// Bytes that should be records and are not; whole ones follow.
    Gap { byte: u64, len: u64, missing: u64 },
    /// There is no more.
    End(End),
}

/// How an extent ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// By its seal.
    Sealed,
    /// Where it was to be read to, or where nothing was promised any more.
    Whole,
    /// In bytes that should be records, up to the end of what was durable.
    Damaged { byte: u64, len: u64 },
    /// Without the seal that should be here.
    Unsealed { byte: u64 },
}

/// A place in an extent.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    id: ExtentId,
    start: u64,
    next: u64,
    /// Where its seal is at the latest.
    stop: u64,
    /// Up to here all must be whole.
    durable: u64,
    /// Up to here it is read; `None`: to its seal.
    until: Option<u64>,
    base: u64,
    ordinal: u64,
    used: u64,
}

impl Reader {
    /// A reader at the beginning of an extent: `durable` bytes of records must be whole, `until` bytes are read; without a
    /// number, all to the seal.
    pub(super) fn new(log: &Log, id: ExtentId, durable: Option<u64>, until: Option<u64>) -> Self {
        let (start, stop) = (log.extents.records_start(id), log.extents.records_stop(id));
        let durable = durable.map_or(stop, |bytes| stop.min(start + bytes));
        let until = until.map(|bytes| stop.min(start + bytes));
        let base = log.extents.get(id).version_base;
        Self { id, start, next: start, stop, durable, until, base, ordinal: 0, used: 0 }
    }

    /// The same reader behind records that are known: their bytes and their number.
    pub(super) fn behind(self, used: u64, records: u64) -> Self {
        Self { next: self.start + used, used, ordinal: records, ..self }
    }

    pub(super) const fn id(&self) -> ExtentId {
        self.id
    }

    /// Bytes of records behind the last whole one.
    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    /// Records so far, missing ones included.
    pub(super) const fn ordinal(&self) -> u64 {
        self.ordinal
    }

    pub(super) fn step(&mut self, log: &Log) -> Step {
        if self.until.is_some_and(|until| self.next >= until) {
            return Step::End(End::Whole);
        }
        match self.record_at(log, self.next) {
            Some(record) if is_seal(record) => Step::End(End::Sealed),
            Some(record) => {
                let offset = PoolOffset::from_byte(self.next);
                let version = record.version().unwrap_or(self.base + self.ordinal);
                self.next += record.bytes_on_medium() as u64;
                self.used = self.next - self.start;
                self.ordinal += record.ordinals();
                Step::Record { offset, version }
            }
            None if self.next >= self.durable => Step::End(self.end_of_durable()),
            None => self.pass_over(log),
        }
    }

    fn end_of_durable(&self) -> End {
        let is_to_be_sealed = self.until.is_none() && self.durable == self.stop;
        if is_to_be_sealed { End::Unsealed { byte: self.next } } else { End::Whole }
    }

    /// Goes on behind bytes that are no record.
    fn pass_over(&mut self, log: &Log) -> Step {
        let byte = self.next;
        let limit = self.durable + SEAL_BYTES as u64;
        // No record is shorter than a seal, so none was lost in less.
        let next = (byte + SEAL_BYTES as u64..limit)
            .step_by(RECORD_ALIGN)
            .find(|at| *at < self.stop + SEAL_BYTES as u64 && self.record_at(log, *at).is_some());
        let Some(next) = next else {
            self.next = self.durable;
            return Step::End(End::Damaged { byte, len: self.durable - byte });
        };
        // What takes the place of the damaged ones is a record too.
        (self.next, self.used) = (next, next - self.start);
        let missing = self.missing(log, next - byte);
        self.ordinal += missing;
        Step::Gap { byte, len: next - byte, missing }
    }

    /// How many records a gap before the present place held: told by the seal if there is one, else at least one, and no more than that
    /// the versions of those that follow stay below the next extent's.
    fn missing(&self, log: &Log, gap: u64) -> u64 {
        let mut ahead = 0;
        let mut at = self.next;
        while at < self.stop + SEAL_BYTES as u64 {
            match self.record_at(log, at) {
                Some(seal) if is_seal(seal) => {
                    let count = seal.value().try_into().map_or(0, u32::from_le_bytes);
                    return u64::from(count).saturating_sub(self.ordinal + ahead);
                }
                Some(record) => {
                    ahead += record.ordinals();
                    at += record.bytes_on_medium() as u64;
                }
                None => at += RECORD_ALIGN as u64,
            }
        }
        let room = log
            .version_base_after(self.base)
            .map_or(u64::MAX, |next| next.saturating_sub(self.base + self.ordinal + ahead));
        (gap / SEAL_BYTES as u64).min(room).max(1)
    }

    fn record_at<'l>(&self, log: &'l Log, byte: u64) -> Option<Record<'l>> {
        let end = self.stop + SEAL_BYTES as u64;
        let record = Record::parse_shape(log.mapping.bytes(byte..end.max(byte))).ok()?;
        let seed = log.extents.get(self.id).seed;
        record.verify(&log.checksum, seed, PoolOffset::from_byte(byte)).ok()?;
        Some(record)
    }
}

impl Log {
    /// The lowest version with which an extent begins whose records were appended after those of this one.
    fn version_base_after(&self, base: u64) -> Option<u64> {
        let appended = self.extents.iter().filter(|(_, extent)| extent.kind != ExtentKind::Compacted);
        appended.map(|(_, extent)| extent.version_base).filter(|other| *other > base).min()
    }
}

fn is_seal(record: Record<'_>) -> bool {
    record.kind() == Kind::Meta && record.tag() == meta::SEAL
}
