//! Checking a log: one record against its checksum, or all of it against its own accounts.

use super::Log;
use crate::extent::{ExtentId, ExtentState};
use crate::layout::{ExtentHeader, ExtentHeaderError, extent_header};
use crate::offset::PoolOffset;
use crate::record::{Record, RecordError};
use std::fmt;

/// The first thing that is wrong with a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckError {
    /// An extent's header is damaged.
    Header(ExtentId, ExtentHeaderError),
    /// An extent's header is another one's, or older.
    HeaderStale(ExtentId),
    /// A record is damaged.
    Record(PoolOffset, RecordError),
    /// What is kept of a number is not what counting gives.
    Account {
        /// Which number.
        what: &'static str,
        /// In which extent; `None` for the whole log.
        extent: Option<ExtentId>,
        /// As it is kept.
        kept: u64,
        /// As it was counted.
        counted: u64,
    },
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(id, error) => write!(f, "extent {}: header damaged: {error:?}", id.raw()),
            Self::HeaderStale(id) => write!(f, "extent {}: header does not belong here", id.raw()),
            Self::Record(offset, error) => write!(f, "record at {:#x}: {error}", offset.byte()),
            Self::Account { what, extent, kept, counted } => {
                let place = extent.map_or("log".to_owned(), |id| format!("extent {}", id.raw()));
                write!(f, "{place}: {what} kept as {kept}, counted {counted}")
            }
        }
    }
}

impl std::error::Error for CheckError {}

impl Log {
    /// Whether the record at an offset is whole: for the scrub, and for a reader in doubt. Of one
    /// that has no checksum yet, being of this batch, only the lengths are checked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, offset: PoolOffset) -> Result<(), RecordError> {
        let end = self.extents.records_end(self.extent_of(offset));
        let record = Record::parse_shape(self.mapping.bytes(offset.byte()..end.max(offset.byte())))?;
        if !self.is_summed(offset) {
            return Ok(());
        }
        record.verify(&self.checksum, self.place_of(offset).seed, offset)
    }

    /// Reads the whole log and compares it with its accounts; `is_live` tells which records the
    /// index points at. Not within a group.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, mut is_live: impl FnMut(PoolOffset) -> bool) -> Result<(), CheckError> {
        let (mut used, mut live, mut in_use) = (0, 0, 0);
        for (id, extent) in self.extents() {
            self.check_header(id)?;
            let account = |what, kept, counted| equal(what, Some(id), kept, counted);
            let (extent_live, records) = self.check_records(id, &mut is_live)?;
            account("bytes live", extent.live, extent_live)?;
            account("records", extent.records, records)?;
            if extent.state == ExtentState::Sealed {
                account("frees due", 0, u64::from(extent_live == 0))?;
            }
            used += extent.used;
            live += extent_live;
            in_use += u64::from(extent.run);
        }
        let usage = self.usage();
        equal("bytes used", None, usage.bytes_used, used)?;
        equal("bytes live", None, usage.bytes_live, live)?;
        equal("extents in use", None, usage.extents as u64, in_use)
    }

    fn check_header(&self, id: ExtentId) -> Result<(), CheckError> {
        let start = self.extents.start(id);
        let bytes = self.mapping.bytes(start..start + extent_header::BYTES as u64);
        let header = ExtentHeader::parse(bytes.try_into().expect("a header's bytes"))
            .map_err(|error| CheckError::Header(id, error))?;
        let kept = self.extents.header(id);
        // Where memory is the medium, a run may have become shorter than its header says.
        let run = if self.domain.is_in_place() { header.run.max(kept.run) } else { kept.run };
        if header == (ExtentHeader { run, ..kept }) { Ok(()) } else { Err(CheckError::HeaderStale(id)) }
    }

    /// Verifies the records of an extent up to its end, and counts the bytes of the living and all
    /// of the records.
    fn check_records(
        &self,
        id: ExtentId,
        is_live: &mut impl FnMut(PoolOffset) -> bool,
    ) -> Result<(u64, u64), CheckError> {
        let (mut at, end) = (self.extents.records_start(id), self.extents.records_end(id));
        let (mut live, mut records) = (0, 0);
        while at < end {
            let offset = PoolOffset::from_byte(at);
            self.verify(offset).map_err(|error| CheckError::Record(offset, error))?;
            let record = self.read(offset);
            let len = record.bytes_on_medium() as u64;
            live += if is_live(offset) { len } else { 0 };
            records += record.ordinals();
            at += len;
        }
        Ok((live, records))
    }
}

fn equal(what: &'static str, extent: Option<ExtentId>, kept: u64, counted: u64) -> Result<(), CheckError> {
    if kept == counted { Ok(()) } else { Err(CheckError::Account { what, extent, kept, counted }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, LogConfig, RecordParts};

    fn log() -> Log {
        let config = LogConfig { extent_bytes: 64 << 10, ..LogConfig::new(1, 4 << 20) };
        Log::anonymous(config).unwrap()
    }

    /// Fills the open extent, the first of the pool, up to its end.
    fn fill_extent(log: &mut Log, fill: u8) -> Vec<PoolOffset> {
        let mut offsets = Vec::new();
        while log.usage().extents <= 1 {
            offsets.push(log.append(&RecordParts::new(Kind::String, b"key", &[&[fill; 100]])));
        }
        offsets.pop();
        offsets
    }

    #[test]
    fn bytes_of_a_former_use_never_verify() {
        // An extent is filled, freed and opened again: behind its new end every old record is still
        // there, whole, and wrong.
        let mut log = log();
        let old = fill_extent(&mut log, 1);
        log.commit();
        log.clear();
        log.append(&RecordParts::new(Kind::String, b"key", &[b"new"]));
        while log.extent_of(old[0]).raw() != 0 || log.extents().all(|(id, _)| id.raw() != 0) {
            log.append(&RecordParts::new(Kind::String, b"key", &[&[2; 60_000]]));
        }
        let reopened = log.place_of(old[0]).seed;
        let end = log.extents.records_end(log.extent_of(old[0]));
        let stale = old.iter().filter(|offset| offset.byte() >= end);
        let mut met = 0;
        for offset in stale {
            let bytes = log.read(*offset).as_bytes();
            assert_eq!(log.read(*offset).value(), [1; 100]);
            let error = Record::parse(bytes, reopened, *offset).expect_err("stale");
            assert!(matches!(error, RecordError::Checksum { .. }));
            met += 1;
        }
        assert!(met > 10, "only {met} stale records were looked at");
    }

    #[test]
    fn each_account_is_checked() {
        // A log that kept a wrong number is told so, each number by its name.
        let mut log = log();
        let offset = log.append(&RecordParts::new(Kind::String, b"key", &[b"value"]));
        let wrong = |result: Result<(), CheckError>| match result {
            Err(CheckError::Account { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        log.check(|_| true).unwrap();
        assert_eq!(wrong(log.check(|_| false)), "bytes live");
        let id = log.extent_of(offset);
        log.extents.get_mut(id).records += 1;
        assert_eq!(wrong(log.check(|_| true)), "records");
        log.extents.get_mut(id).records -= 1;
        log.bytes_live -= 8;
        assert_eq!(wrong(log.check(|_| true)), "bytes live");
        log.bytes_live += 8;
        log.bytes_used += 8;
        assert_eq!(wrong(log.check(|_| true)), "bytes used");
        log.bytes_used -= 8;
        let start = log.extents.start(id);
        log.mapping.bytes_mut(start..start + 1)[0] ^= 1;
        let error = log.check(|_| true).expect_err("a damaged header");
        assert!(matches!(error, CheckError::Header(_, ExtentHeaderError::Magic(_))));
    }
}
