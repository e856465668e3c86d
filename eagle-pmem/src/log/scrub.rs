//! The scrub: sealed extents are read again, record by record, to see whether they are still what they were.
//!
//! What is read is memory: after an opening that is the file's pages as the system has them cached, later the log's own. Whether the
//! medium still agrees is not seen by this. Behind a record that is not whole the extent's others are not looked for.

use super::Log;
use crate::extent::{ExtentId, ExtentState};
use crate::layout::RECORD_ALIGN;
use crate::offset::PoolOffset;
use crate::record::RecordError;

/// Where a scrub is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubPlace {
    extent: u32,
    sequence: u64,
    next: u64,
}

/// What a slice of a scrub has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Scrubbed {
    /// Records that were read.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// A record that is not whole, and the sequence of its extent; the slice ended there.
    pub damage: Option<(PoolOffset, u64, RecordError)>,
    /// All extents are read; the next slice begins with the first.
    pub is_over: bool,
}

impl Log {
    /// Goes on reading about `bytes` of records.
    pub fn scrub(&self, place: &mut ScrubPlace, bytes: u64) -> Scrubbed {
        let mut done = Scrubbed::default();
        while done.bytes < bytes {
            if place.extent as usize >= self.extents.len() {
                *place = ScrubPlace::default();
                done.is_over = true;
                break;
            }
            let id = ExtentId::from_index(place.extent);
            let extent = self.extents.get(id);
            if place.next == 0 {
                (place.sequence, place.next) = (extent.sequence, self.extents.records_start(id));
            }
            let is_there = extent.state == ExtentState::Sealed && extent.sequence == place.sequence;
            if !is_there || place.next >= self.extents.records_end(id) {
                *place = ScrubPlace { extent: place.extent + 1, ..ScrubPlace::default() };
                continue;
            }
            let offset = PoolOffset::from_byte(place.next);
            if let Err(error) = self.verify(offset) {
                done.damage = Some((offset, extent.sequence, error));
                *place = ScrubPlace { extent: place.extent + 1, ..ScrubPlace::default() };
                break;
            }
            let len = self.read(offset).bytes_on_medium().max(RECORD_ALIGN) as u64;
            place.next += len;
            done.records += 1;
            done.bytes += len;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, LogConfig, RecordParts};

    #[test]
    fn a_flipped_bit_is_found_in_the_next_pass() {
        // A pass reads every record of the sealed extents, in slices; a bit flipped in one of them, its length included, is found there.
        let config = LogConfig { extent_bytes: 64 << 10, ..LogConfig::new(1, 4 << 20) };
        let mut log = Log::anonymous(config).unwrap();
        let all: Vec<_> = (0..3000_u32)
            .map(|nth| log.append(&RecordParts::new(Kind::String, &nth.to_le_bytes(), &[&[1; 40]])))
            .collect();
        log.commit();
        let open = log.extent_of(all[2999]);
        let sealed = all.iter().filter(|offset| log.extent_of(**offset) != open).count() as u64;
        let pass = |log: &Log| {
            let (mut place, mut records, mut damage) = (ScrubPlace::default(), 0, Vec::new());
            loop {
                let done = log.scrub(&mut place, 1000);
                records += done.records;
                damage.extend(done.damage.map(|(offset, ..)| offset));
                if done.is_over {
                    return (records, damage);
                }
            }
        };
        assert_eq!(pass(&log), (sealed, vec![]));
        for bit in [0, 37, 70, 100] {
            let byte = all[77].byte() + bit / 8;
            log.mapping.bytes_mut(byte..byte + 1)[0] ^= 1 << (bit % 8);
            assert_eq!(pass(&log).1, [all[77]], "bit {bit}");
            log.mapping.bytes_mut(byte..byte + 1)[0] ^= 1 << (bit % 8);
        }
    }
}
