//! The headers of a pool's extents: those that hold, those that were made invalid, and extents that should have one and have none.
//!
//! An extent that was ever used has a header, if an invalid one; one that was not is zeros. Only in what the loss of power tore may
//! records lie behind no header, so whether its absence is damage depends on what was durable. Two things tell what an extent without
//! header was:
//!
//! - its records: the checksum of each is seeded with the extent's sequence, and so gives it away;
//! - the extent that was opened next, which names it.
//!
//! The header of a run may be whole and the file end before the run does: a file that is written to beyond its end grows only by what
//! reached it. Nothing of such a run was durable, unless one of the two says so; and as its records are not there, the log ends there.
//!
//! What neither tells is taken for torn: an extent without whole records, of whose successor no trace is left. A checkpoint knows better.
//!
//! A run's header is there before anything of its body lies where a header may be ([`crate::sync`], and where memory is the medium each
//! header is). So no place of an extent that was durable shows the body of a torn run.

use super::{Damage, DamageKind, Scan, marker_of};
use crate::checksum::ExtentSeed;
use crate::extent::{ExtentId, ExtentState};
use crate::layout::{EXTENT_MAGIC, ExtentHeader, ExtentKind, RECORD_ALIGN, extent_header};
use crate::log::Log;
use crate::offset::PoolOffset;
use crate::record::Record;
use crate::sync::Synced;
use std::ops::Range;

/// Sequences above the highest that a header tells which are still believed: extents that were opened since.
const AHEAD_MAX: u64 = 1 << 20;

/// Bytes that are checked to find out what an extent was, as a multiple of its size: so that bytes made to look like the beginnings of
/// records cost no more than that.
const CHECKED_EXTENTS: u64 = 64;

/// Zeros at the beginning of an extent's records by which it is known that it was never used: so that opening does not read all the
/// space into which a pool has yet to grow. More than what is written, and so lost, at once.
const UNUSED_BYTES: u64 = 64 << 10;

/// What the extents of a pool say of themselves.
pub(super) struct Headers {
    /// Those that hold, the highest sequence first.
    pub(super) found: Vec<(ExtentId, ExtentHeader)>,
    /// Those that were made invalid.
    former: Vec<(ExtentId, ExtentHeader)>,
    /// Extents without header, that are part of no run.
    headless: Vec<Headless>,
    /// Free places that lay in the bodies of runs and bear no header of their own: nothing but that of the run tells that they were used.
    pub(super) bodies: Vec<ExtentId>,
    /// Which extents are part of one that holds.
    taken: Vec<bool>,
    /// The highest sequence that a header, valid or not any more, tells of each place; 0 for none.
    latest: Vec<u64>,
    /// Where a header was made invalid that is not whole: it may be the next one, which memory that is the medium had only in part.
    unnamed: Vec<bool>,
}

/// An extent without header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headless {
    id: ExtentId,
    /// The sequence that its records tell, or the header of a run that is cut off.
    sequence: Option<u64>,
    looks: Looks,
}

/// What lies where an extent should have a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Looks {
    /// Nothing of one.
    Unlike,
    /// Something that was one.
    Like,
    /// A whole one, of a run that reaches beyond the end of the medium.
    Cut,
}

impl Headless {
    pub(super) const fn id(&self) -> ExtentId {
        self.id
    }
}

impl Headers {
    /// The highest sequence that is told.
    pub(super) fn sequence_max(&self) -> u64 {
        let implied = self.headless.iter().filter_map(|headless| headless.sequence);
        self.latest.iter().copied().chain(implied).max().unwrap_or(0)
    }

    /// How many places say that they were used and are free.
    pub(super) fn freed(&self) -> u64 {
        self.former.iter().filter(|(id, _)| !self.taken[id.index()]).count() as u64
    }

    /// Whether an extent of this sequence came before one that names it, as far as is known: it was written, and is not one at which the
    /// log was found to end. That one's successors may come back when the power is lost.
    pub(super) fn goes_on_from(&self, before: (u64, u32)) -> bool {
        let is_end = |(id, header): &(ExtentId, ExtentHeader)| {
            header.kind == ExtentKind::Dropped && (header.sequence, id.raw()) == before
        };
        self.was_written(before) && !self.former.iter().any(is_end)
    }

    /// Whether an extent of this sequence was ever written at this place: it is there, or the place shows that it was, or a later use.
    pub(super) fn was_written(&self, (sequence, index): (u64, u32)) -> bool {
        let index = index as usize;
        sequence == 0 || self.latest.get(index).is_some_and(|latest| *latest >= sequence || self.unnamed[index])
    }
}

impl Log {
    /// Reads the header of every extent. A place may lie in a run and still bear the header of a former use, or a run may have become
    /// shorter than its header says: the higher sequence holds.
    pub(super) fn find_headers(&self) -> Headers {
        let (count, pool_id) = (self.extents.len() as u32, self.extents.pool_id());
        let (mut found, mut former, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        let (mut unnamed, mut cut) = (vec![false; count as usize], Vec::new());
        for index in 0..count {
            let id = ExtentId::from_index(index);
            let bytes = self.header_bytes(id);
            let fits = |header: &ExtentHeader| u64::from(index) + u64::from(header.run) <= u64::from(count);
            match (ExtentHeader::parse(bytes), ExtentHeader::former(bytes)) {
                (Ok(header), _) if header.pool_id != pool_id => {}
                (Ok(header), _) if fits(&header) => found.push((id, header)),
                (Ok(header), _) => cut.push(Headless { id, sequence: Some(header.sequence), looks: Looks::Cut }),
                (_, Some(header)) if header.pool_id == pool_id => former.push((id, header)),
                _ if was_made_invalid(bytes) => unnamed[index as usize] = true,
                _ => bare.push(id),
            }
        }
        found.sort_unstable_by_key(|(_, header)| std::cmp::Reverse(header.sequence));
        let mut taken = vec![false; count as usize];
        let mut was = vec![0; count as usize];
        former.iter().for_each(|(id, header)| was[id.index()] = header.sequence);
        found.retain_mut(|(id, header)| {
            let run = id.index()..id.index() + header.run as usize;
            let free = run.clone().take_while(|place| !taken[*place] && was[*place] < header.sequence).count();
            taken[run.start..run.start + free].fill(true);
            header.run = free as u32;
            free > 0
        });
        let mut latest = vec![0; count as usize];
        for (id, header) in found.iter().chain(&former) {
            let end = (id.index() + header.run as usize).min(latest.len());
            latest[id.index()..end].iter_mut().for_each(|latest: &mut u64| *latest = header.sequence.max(*latest));
        }
        let bodies =
            former.iter().flat_map(|(id, header)| id.raw() + 1..id.raw().saturating_add(header.run).min(count));
        let bodies = bodies.map(ExtentId::from_index).filter(|id| !taken[id.index()] && was[id.index()] == 0).collect();
        let told = found.iter().chain(&former).map(|(_, header)| header.sequence);
        let highest = told.chain(cut.iter().filter_map(|headless| headless.sequence)).max().unwrap_or(0);
        let headless = bare.into_iter().filter(|id| !taken[id.index()]).map(|id| {
            let is_like = looks_like_header(self.header_bytes(id), pool_id);
            let looks = if is_like { Looks::Like } else { Looks::Unlike };
            Headless { id, sequence: self.sequence_by_records(id, highest), looks }
        });
        let headless = headless.filter(|headless| headless.looks == Looks::Like || headless.sequence.is_some());
        cut.retain(|headless| !taken[headless.id.index()]);
        let headless = headless.chain(cut).collect();
        Headers { found, former, headless, bodies, taken, latest, unnamed }
    }

    fn header_bytes(&self, id: ExtentId) -> &[u8; extent_header::BYTES] {
        let start = self.extents.start(id);
        let bytes = self.mapping.bytes(start..start + extent_header::BYTES as u64);
        bytes.try_into().expect("a header's bytes")
    }

    /// The sequence of an extent by two records of it, one behind the other, that agree.
    fn sequence_by_records(&self, id: ExtentId, highest: u64) -> Option<u64> {
        let end = self.extents.start(id) + self.extents.bytes();
        let mut at = self.extents.records_start(id);
        // Records fill an extent from its beginning: where there is nothing, there never was any.
        let beginning = self.mapping.bytes(at..end.min(at + UNUSED_BYTES));
        if beginning.iter().all(|byte| *byte == 0) {
            return None;
        }
        let mut left = CHECKED_EXTENTS * self.extents.bytes();
        while at < end {
            let first = self.implied_sequence(at, highest, &mut left);
            if let Some((sequence, behind)) = first
                && self.implied_sequence(behind, highest, &mut left).is_some_and(|(other, _)| other == sequence)
            {
                return Some(sequence);
            }
            at += RECORD_ALIGN as u64;
        }
        None
    }

    /// The sequence for which what lies at `at` would be a record, and where that ends.
    fn implied_sequence(&self, at: u64, highest: u64, left: &mut u64) -> Option<(u64, u64)> {
        let end = self.medium_bytes();
        let record = Record::parse_shape(self.mapping.bytes(at.min(end)..end)).ok()?;
        let len = record.bytes_on_medium() as u64;
        *left = left.checked_sub(len)?;
        let (seed, offset) = (record.implied_seed(&self.checksum), PoolOffset::from_byte(at));
        let sequence = ExtentSeed::sequence_of(self.extents.pool_id(), seed, offset, highest);
        (1..=highest + AHEAD_MAX).contains(&sequence).then_some((sequence, at + len))
    }

    /// What of the extents without header is damage: those that were durable by what the newest extent and the newest marker say, by
    /// their own markers, or because another one names them.
    pub(super) fn judge_headless(&self, headers: &Headers, marker: Option<Synced>, scan: &mut Scan) {
        let newest = headers.found.first().map(|(_, header)| header);
        let is_durable = |sequence: u64, marker: Option<Synced>| {
            newest.is_some_and(|newest| sequence < newest.whole_before && sequence != newest.except)
                || marker.is_some_and(|synced| synced.bytes_of(sequence) != Some(0))
        };
        let mut lost = Vec::new();
        for headless in &headers.headless {
            let latest = headers.latest[headless.id.index()];
            let is_like = headless.looks == Looks::Like;
            let is_durable_by_any = |sequence| {
                is_durable(sequence, marker) || is_durable(sequence, self.marker_of_headless(headless.id, sequence))
            };
            let is_damaged = match headless.sequence {
                Some(sequence) if headless.looks == Looks::Cut => is_durable_by_any(sequence),
                // The body of a run whose head was made invalid: its own turn was about to come.
                Some(sequence) if sequence <= latest => false,
                None if latest > 0 => false,
                Some(sequence) => is_like || is_durable_by_any(sequence),
                None => is_like,
            };
            scan.headless.push(*headless);
            lost.extend(is_damaged.then_some(headless.id));
        }
        let links = headers.found.iter().map(|(_, header)| (header, true));
        let former = headers.former.iter().map(|(_, header)| (header, false));
        for (header, holds) in links.chain(former).filter(|(header, _)| header.kind != ExtentKind::Compacted) {
            let (sequence, index) = header.before;
            let is_damaged = is_durable(sequence, marker);
            if headers.goes_on_from(header.before) || holds && !is_damaged {
                continue;
            }
            let id = ExtentId::from_index(index);
            // Records of a later use, whose header is not there: the one that is named was freed before.
            let is_followed = |headless: &Headless| headless.id == id && headless.sequence > Some(sequence);
            if headers.headless.iter().any(is_followed) {
                continue;
            }
            if (index as usize) < self.extents.len() && !lost.contains(&id) {
                scan.headless.push(Headless { id, sequence: None, looks: Looks::Unlike });
            }
            lost.extend(is_damaged.then_some(id));
        }
        lost.sort_unstable();
        lost.dedup();
        let (what, len) = (DamageKind::Header, self.extents.bytes());
        let damage = lost.into_iter().map(|id| Damage { extent: id.raw(), byte: self.extents.start(id), len, what });
        scan.report.damage.extend(damage);
    }

    /// The last marker of an extent without header.
    fn marker_of_headless(&self, id: ExtentId, sequence: u64) -> Option<Synced> {
        let range = self.extents.records_start(id)..self.extents.start(id) + self.extents.bytes();
        self.last_marker(range, ExtentSeed::new(self.extents.pool_id(), sequence))
    }

    /// The last marker between these bytes of an extent, with or without whole records before it.
    pub(super) fn last_marker(&self, range: Range<u64>, seed: ExtentSeed) -> Option<Synced> {
        let (mut at, mut marker) = (range.start, None);
        let mut left = CHECKED_EXTENTS * self.extents.bytes();
        while at < range.end {
            let record = Record::parse_shape(self.mapping.bytes(at..range.end)).ok();
            let len = record.map_or(0, |record| record.bytes_on_medium() as u64);
            let Some(rest) = left.checked_sub(len) else { break };
            left = rest;
            let offset = PoolOffset::from_byte(at);
            match record.filter(|record| record.verify(&self.checksum, seed, offset).is_ok()) {
                Some(record) => {
                    marker = marker_of(record).or(marker);
                    at += len;
                }
                None => at += RECORD_ALIGN as u64,
            }
        }
        marker
    }

    /// An extent without header gets one that says that the place was used, so that what was found now is not found again: its
    /// sequence may be given out once more.
    pub(super) fn make_header_invalid(&mut self, id: ExtentId) {
        if self.extents.get(id).state == ExtentState::Free {
            let sequence = self.extents.next_sequence() - 1;
            self.write_invalid_header(id, sequence);
        }
    }
}

/// Whether a header was made invalid on purpose, and is perhaps damaged besides: its name is zeros, and not all of it.
fn was_made_invalid(bytes: &[u8; extent_header::BYTES]) -> bool {
    let (magic, rest) = bytes.split_at(extent_header::POOL_ID);
    magic.iter().all(|byte| *byte == 0) && rest.iter().any(|byte| *byte != 0)
}

/// Whether bytes that are no header were one, and not made invalid on purpose: its name or its pool is there.
fn looks_like_header(bytes: &[u8; extent_header::BYTES], pool_id: u64) -> bool {
    let magic = &bytes[extent_header::MAGIC..extent_header::POOL_ID];
    let is_named = *magic == EXTENT_MAGIC.to_le_bytes();
    let is_ours = bytes[extent_header::POOL_ID..extent_header::SEQUENCE] == pool_id.to_le_bytes();
    is_named || is_ours && magic.iter().any(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Found;
    use crate::{Kind, LogConfig, RecordParts, RecoveryReport};

    const EXTENT: usize = 64 << 10;

    /// The log of a file, in which every record is found alive.
    fn open(file: &[u8]) -> (Log, RecoveryReport) {
        let config = LogConfig { extent_bytes: EXTENT, pool_id: 5, ..LogConfig::new(5, 4 << 20) };
        let (mut log, mut scan) = Log::of_image(file, config, None).unwrap();
        while let Some(Found { offset, version, .. }) = log.scan_next(&mut scan) {
            log.found_live(offset, version);
        }
        let (report, _) = log.end_scan(scan);
        (log, report)
    }

    fn write(log: &mut Log, file: &mut Vec<u8>) {
        let commit = log.commit();
        let (position, ranges) = (commit.position, commit.ranges.to_vec());
        for range in ranges {
            let bytes = log.bytes(range.clone());
            file.resize(file.len().max(range.end as usize), 0);
            file[range.start as usize..range.end as usize].copy_from_slice(bytes);
        }
        log.written(position);
    }

    fn sync(log: &mut Log) {
        let mark = log.begin_sync();
        log.end_sync(mark);
    }

    fn append(log: &mut Log, len: usize) -> PoolOffset {
        log.append_with(&RecordParts::new(Kind::String, b"key", &[]), len, |value| value.fill(7))
    }

    /// An empty log, and its file.
    fn empty() -> (Log, Vec<u8>) {
        let mut file = vec![0; crate::layout::SUPERBLOCKS_BYTES];
        let (mut log, _) = open(&file);
        while !log.is_settled() {
            write(&mut log, &mut file);
            sync(&mut log);
        }
        (log, file)
    }

    /// A record, and behind it a run of two extents, with several records in the second.
    fn append_run(log: &mut Log) -> Vec<PoolOffset> {
        log.reserve(200_000).unwrap();
        append(log, 1000);
        log.begin_group(100_000);
        let records = [80_000, 1000, 1000, 1000, 1000].map(|len| append(log, len)).to_vec();
        log.end_group();
        assert_eq!(log.extent(log.extent_of(records[0])).run(), 2);
        records
    }

    #[test]
    fn what_seems_free_is_not_written_to_before_a_sync() {
        // A run is freed, and that its header is invalid is written and not synced when the process dies. The next one begins to recover,
        // and the power is lost: the header is there again, and what recovery has written. The run must be whole.
        let (mut log, mut file) = empty();
        let run = append_run(&mut log);
        let head = log.extent_of(run[0]);
        append(&mut log, 60_000);
        write(&mut log, &mut file);
        sync(&mut log);
        run.iter().for_each(|offset| log.kill(*offset));
        let durable = loop {
            let before = file.clone();
            write(&mut log, &mut file);
            while log.give_back() {}
            if file[log.extents.start(head) as usize] == 0 {
                break before;
            }
            sync(&mut log);
        };
        let (mut log, report) = open(&file);
        assert_eq!(report.damage, []);
        let mut torn = durable;
        write(&mut log, &mut torn);
        let (log, report) = open(&torn);
        assert_eq!(report.damage, []);
        run.iter().for_each(|offset| log.verify(*offset).unwrap());
    }

    #[test]
    fn the_log_ends_where_it_was_found_to_end() {
        // Of three extents the second is torn, so it and the third are dropped. The power is lost again, and of what recovery wrote only
        // the second's header was durable: the third is there again, without what came before.
        let (mut log, mut file) = empty();
        append(&mut log, 60_000);
        write(&mut log, &mut file);
        sync(&mut log);
        append(&mut log, 60_000);
        let second = log.extents.start(ExtentId::from_index(log.last_appended.1));
        append(&mut log, 60_000);
        write(&mut log, &mut file);
        file[second as usize + 600] ^= 1;
        let torn = file.clone();
        let (mut log, report) = open(&file);
        assert_eq!((report.damage.as_slice(), report.kinds[Kind::String as usize]), ([].as_slice(), 1));
        write(&mut log, &mut file);
        let mut again = torn;
        let page = second as usize..second as usize + 4096;
        again[page.clone()].copy_from_slice(&file[page]);
        let (_, report) = open(&again);
        assert_eq!((report.damage.as_slice(), report.kinds[Kind::String as usize]), ([].as_slice(), 1));
    }

    #[test]
    fn a_run_reaches_a_file_after_its_header() {
        // Where headers may be, nothing of it is written before a sync has covered its own; until then no commit comes up to it, and what
        // follows it waits, too. Behind it the log goes on.
        let (mut log, mut file) = empty();
        append(&mut log, 1000);
        write(&mut log, &mut file);
        sync(&mut log);
        let before = log.position();
        let run = append_run(&mut log);
        append(&mut log, 1000);
        let body = log.extents.start(log.extent_of(run[0])) + EXTENT as u64;
        let is_of_body = |log: &mut Log| {
            let commit = log.commit();
            (commit.position, commit.ranges.iter().any(|range| range.contains(&body)))
        };
        let (position, has_body) = is_of_body(&mut log);
        assert!(!has_body && position > before && position < log.position() && !log.needs_sync());
        log.written(position);
        assert!(log.needs_sync() && log.committable() == position);
        sync(&mut log);
        assert!(!log.needs_sync());
        let (position, has_body) = is_of_body(&mut log);
        assert!(has_body && position == log.position());
    }

    #[test]
    fn a_run_that_is_cut_off_by_the_end_of_the_file_is_torn() {
        // Of what was appended last only a header reached the file, which was written to beyond its end.
        let (mut log, mut file) = empty();
        append_run(&mut log);
        write(&mut log, &mut file);
        sync(&mut log);
        let first = log.last_appended.1;
        append(&mut log, 100_000);
        let second = log.extents.start(ExtentId::from_index(log.last_appended.1));
        write(&mut log, &mut file);
        assert_ne!(second, log.extents.start(ExtentId::from_index(first)));
        let (_, report) = open(&file[..second as usize + 512]);
        assert_eq!((report.damage.as_slice(), report.records), ([].as_slice(), 7));
    }
}
