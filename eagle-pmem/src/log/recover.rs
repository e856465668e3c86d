//! Recovery: finding the records of a pool again, with nothing to go by but its bytes.
//!
//! ```text
//!  headers ─▶ the unsynced end: where do the records stop that can be promised? ─▶ Scan: every record before that, in order
//! ```
//!
//! An extent that was full is *sealed*, so that what is invalid before its seal is damage. The extents that were not known
//! synced when the newest one was opened (its header says so) are surveyed first: the newest marker in them tells up to where all
//! was durable, and what is invalid before that is damage too. Behind it the appended extents are read in the order of their
//! versions, and end at the first record that is not whole, or at the beginning of the group that it belongs to: what
//! follows is dropped, whole or not, so that the state found is one that was. (What compaction has copied is never
//! newer than what was synced, so nothing beyond that end lies anywhere else.)
//!
//! Records are handed out appended extents first, in the order of their versions, then what compaction moved. So of two
//! appended records of one key the later is the newer; one that was moved tells its version ([`Log::is_newer`]).
//!
//! What was dropped must stay so: first the headers of dropped extents are made invalid, and when that is synced, the
//! extents that ended early get their seals ([`Log::is_settled`]), and places without header one that is invalid. Not before: what
//! recovery reads of a file may be cached and not synced, if a process was killed, so that a loss of power takes it back. Where the head of
//! a run seems to be freed, its header may yet be there again, and its records must then be whole: what lies in a place that seems to be
//! free is written to when nothing can come back any more.

mod headers;
mod reader;

use super::state::{KnownExtent, LogState, Stale};
use super::{Log, LogConfig, Place};
use crate::domain::{Domain, MapMode, Persistence, WriteBack, write_back_of};
use crate::error::PoolError;
use crate::extent::{ExtentId, ExtentState, Extents};
use crate::layout::{
    ExtentHeader, ExtentKind, PAGE_BYTES, RECORD_ALIGN, SEAL_BYTES, SUPERBLOCKS_BYTES, meta, record_header,
};
use crate::log::Found;
use crate::mapping::{Mapping, Sharing};
use crate::offset::PoolOffset;
use crate::pool::PoolFile;
use crate::record::{Kind, Record, RecordParts, Shape};
use crate::sync::Synced;
use headers::{Headers, Headless};
use reader::{End, Reader, Step};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// Sequences that no extent gets after a recovery, at least: more than extents can have been opened since the last sync.
const SEQUENCES_SKIPPED: u64 = 1 << 16;

/// Bytes of a pool that were durable and are not whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The extent.
    pub extent: u32,
    /// Where in the pool the damage begins, in bytes.
    pub byte: u64,
    /// How many bytes until the next whole record, or to the end of what was durable.
    pub len: u64,
    /// What is there.
    pub what: DamageKind,
}

impl Damage {
    /// The bytes concerned, of a pool of so many: a seal that is missing has no length of its own.
    pub fn range(&self, pool_bytes: u64) -> Range<u64> {
        let len = if self.what == DamageKind::Seal { SEAL_BYTES as u64 } else { self.len };
        self.byte.min(pool_bytes)..(self.byte + len).min(pool_bytes)
    }
}

/// What is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DamageKind {
    /// An extent's header: its records cannot be told.
    Header,
    /// One or more records.
    Records,
    /// An extent's seal.
    Seal,
    /// Whole records that came after damaged ones at the end of the log.
    Unreached,
}

impl DamageKind {
    /// It in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Header => "the header of an extent",
            Self::Records => "records",
            Self::Seal => "the seal of an extent",
            Self::Unreached => "what follows damaged records",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.name();
        write!(f, "{what} at byte {:#x} ({} bytes, extent {})", self.byte, self.len, self.extent)
    }
}

/// What a recovery has found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Extents with records.
    pub extents: u64,
    /// Whole records, dead ones included.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes of whole records at the end that were dropped, being behind one that is not, or part of a group that is not whole.
    pub torn_bytes: u64,
    /// What was durable and is not whole.
    pub damage: Vec<Damage>,
    /// Whole records by the number of their kind.
    pub kinds: [u64; KINDS],
    /// Extents with records by the number of their kind.
    pub extent_kinds: [u64; EXTENT_KINDS],
    /// Extents with records that lack a seal: the one that was being filled, mostly.
    pub extents_unsealed: u64,
    /// Extents that were used and are free.
    pub extents_freed: u64,
    /// All extents of the pool.
    pub extents_all: u64,
    /// Where the bytes of damaged ranges were copied to before anything was changed, and how many they are.
    pub quarantine: Option<(PathBuf, u64)>,
}

/// Numbers that kinds of records have, from 0 on.
pub const KINDS: usize = Kind::Meta as usize + 1;
/// Numbers that kinds of extents have, from 0 on.
pub const EXTENT_KINDS: usize = ExtentKind::Dropped as usize + 1;

/// What is to be read of an extent.
#[derive(Clone, Copy, Debug)]
struct Planned {
    id: ExtentId,
    /// Bytes of records up to which all must be whole; `None`: to the seal.
    durable: Option<u64>,
    /// Bytes of records to be read; `None`: to the seal.
    until: Option<u64>,
    /// Bytes and number of records that a checkpoint knows.
    known: (u64, u64),
}

/// Damaged records between whole ones.
#[derive(Clone, Copy, Debug)]
struct Gap {
    id: ExtentId,
    byte: u64,
    len: u64,
    /// How many they were.
    missing: u64,
}

/// A recovery under way: where it is in the log.
#[derive(Debug)]
pub struct Scan {
    planned: Vec<Planned>,
    at: usize,
    reader: Option<Reader>,
    /// Extents behind the end of the log.
    dropped: Vec<ExtentId>,
    /// Extents that were free when the checkpoint was taken, and whose headers are still there.
    left_over: Vec<ExtentId>,
    /// Extents that end without a seal.
    unsealed: Vec<ExtentId>,
    gaps: Vec<Gap>,
    /// Extents whose headers are gone: never written whole, or damaged. They get one that is invalid on purpose.
    headless: Vec<Headless>,
    /// Free places that get one, too, before anything is opened: bodies of runs that were freed.
    bodies: Vec<ExtentId>,
    version_max: u64,
    hint: u64,
    id_max: u64,
    /// The pool's extents are zeros.
    is_untouched: bool,
    report: RecoveryReport,
    bytes_total: u64,
    bytes_done: u64,
    /// Extents of which a checkpoint knows the beginning, or all.
    known: HashMap<ExtentId, KnownExtent>,
    stale: Stale,
    /// Extents of lower sequences are known, or were free.
    known_before: u64,
    /// Ordinals of records by their offsets, of extents for which they were asked.
    ordinals: HashMap<ExtentId, HashMap<u64, u64>>,
}

impl Scan {
    /// What was found so far.
    pub const fn report(&self) -> &RecoveryReport {
        &self.report
    }

    /// The number that the newest extent's header carries for the layer above; 0 for none.
    pub const fn hint(&self) -> u64 {
        self.hint
    }

    /// The extents of the checkpoint that are not as they were.
    pub const fn stale(&self) -> &Stale {
        &self.stale
    }

    /// Bytes of extents that were read, and of all that are to be.
    pub const fn progress(&self) -> (u64, u64) {
        (self.bytes_done, self.bytes_total)
    }
}

impl Log {
    /// The log of a pool's file. The scan finds what it holds beyond `state`, which is what a checkpoint says of it; a new one
    /// holds nothing. Pool id and extent size are those of the file.
    ///
    /// # Errors
    /// The capacity is not possible, the system refuses the addresses, or it is to be mapped as it cannot be.
    pub fn of_file(file: PoolFile, config: LogConfig, state: Option<&LogState>) -> Result<(Self, Scan), PoolError> {
        let write_back = match config.map {
            MapMode::File => None,
            _ if !file.may_write() => None,
            MapMode::Auto => write_back_of(file.file()).ok(),
            MapMode::Dax => {
                let refused = |source| PoolError::NotDax { path: file.path().to_owned(), source };
                Some(write_back_of(file.file()).map_err(refused)?)
            }
        };
        let log = match write_back {
            Some(write_back) => Self::of_memory(file, config, write_back, Sharing::Sync),
            None => Self::of_ordinary_file(file, config),
        };
        Ok(log?.begin_scan(state))
    }

    /// The log of a file whose memory is the medium.
    pub(super) fn of_memory(
        mut file: PoolFile,
        config: LogConfig,
        write_back: WriteBack,
        sharing: Sharing,
    ) -> Result<Self, PoolError> {
        let config = config.of_pool(file.superblock());
        let addressable = config.addressable_on_medium(file.bytes())?;
        let len = config.mapped_bytes(addressable);
        let bytes = file.make_whole()?;
        let mut mapping = Mapping::anonymous(len, config.huge_pages)?;
        mapping.map_shared(file.file(), 0..bytes, sharing).map_err(|source| PoolError::Map { bytes, source })?;
        let mut log = Self::on_medium(config, mapping, addressable, bytes, Domain::Dax(write_back));
        log.sharing = sharing;
        log.file = Some(file);
        Ok(log)
    }

    fn of_ordinary_file(file: PoolFile, config: LogConfig) -> Result<Self, PoolError> {
        let config = config.of_pool(file.superblock());
        let bytes = file.bytes();
        let addressable = config.addressable_on_medium(bytes)?;
        let mut mapping = Mapping::anonymous(config.mapped_bytes(addressable), config.huge_pages)?;
        #[cfg(not(miri))]
        if !file.is_new() {
            mapping.map_file(file.file(), bytes.next_multiple_of(PAGE_BYTES))?;
        }
        let mut log = Self::on_medium(config, mapping, addressable, bytes, Domain::File);
        log.extents.found_holes(&file.holes()?);
        log.file = Some(file);
        Ok(log)
    }

    /// The log of a pool whose file would hold these bytes, superblocks included.
    ///
    /// # Errors
    /// As [`Log::of_file`].
    pub fn of_image(image: &[u8], config: LogConfig, state: Option<&LogState>) -> Result<(Self, Scan), PoolError> {
        Ok(Self::of_bytes(image, config, Domain::File)?.begin_scan(state))
    }

    /// The log of a pool in simulated memory that is its medium and held these bytes, superblocks and whole extents, when it was
    /// opened.
    ///
    /// # Errors
    /// As [`Log::of_file`].
    pub fn of_simulated(
        image: &[u8],
        config: LogConfig,
        state: Option<&LogState>,
        medium: Box<dyn Persistence>,
    ) -> Result<(Self, Scan), PoolError> {
        Ok(Self::of_bytes(image, config, Domain::Simulated(medium))?.begin_scan(state))
    }

    fn of_bytes(image: &[u8], config: LogConfig, domain: Domain) -> Result<Self, PoolError> {
        let config = LogConfig { replayed: true, ..config };
        let bytes = image.len() as u64;
        let addressable = config.addressable_on_medium(bytes)?;
        let mut mapping = Mapping::anonymous(config.mapped_bytes(addressable), config.huge_pages)?;
        mapping.bytes_mut(0..bytes).copy_from_slice(image);
        Ok(Self::on_medium(config, mapping, addressable, bytes, domain))
    }

    fn on_medium(config: LogConfig, mapping: Mapping, addressable: usize, bytes: u64, domain: Domain) -> Self {
        let extents = bytes.saturating_sub(SUPERBLOCKS_BYTES as u64).div_ceil(config.extent_bytes as u64) as usize;
        let mut extents =
            Extents::on_medium(config.pool_id, config.extent_bytes, addressable, extents, domain.is_in_place());
        extents.set_growth_min(config.growth_bytes_min);
        let mut log = Self::of_parts(config, mapping, extents);
        log.sync = Some(Box::default());
        log.domain = domain;
        log
    }

    pub(super) fn begin_scan(mut self, state: Option<&LogState>) -> (Self, Scan) {
        let mut scan = Scan {
            planned: Vec::new(),
            at: 0,
            reader: None,
            dropped: Vec::new(),
            left_over: Vec::new(),
            unsealed: Vec::new(),
            gaps: Vec::new(),
            headless: Vec::new(),
            bodies: Vec::new(),
            version_max: 0,
            hint: 0,
            id_max: 0,
            is_untouched: false,
            report: RecoveryReport::default(),
            bytes_total: 0,
            bytes_done: 0,
            known: HashMap::new(),
            stale: Stale::default(),
            known_before: 0,
            ordinals: HashMap::new(),
        };
        let headers = self.find_headers();
        let found = &headers.found;
        for (id, header) in found {
            self.extents.found(*id, header);
            scan.version_max = scan.version_max.max(header.version_base.saturating_sub(1));
        }
        self.extents.skip_sequences(headers.sequence_max() + 1);
        scan.is_untouched = headers.sequence_max() == 0 && self.is_untouched();
        scan.report.extents = found.len() as u64;
        scan.hint = found.first().map_or(0, |(_, newest)| newest.hint);
        scan.report.extents_all = self.extents.len() as u64;
        scan.report.extents_freed = headers.freed();
        for (_, header) in found {
            scan.report.extent_kinds[header.kind as usize] += 1;
        }
        if let Some(state) = state {
            self.take_state(state, &headers, &mut scan);
        }
        scan.bodies.clone_from(&headers.bodies);
        self.plan(&headers, &mut scan);
        scan.bytes_total = scan.planned.len() as u64 * self.extents.bytes();
        let is_as_it_was = state.is_some_and(|state| self.extents.next_sequence() <= state.next_sequence);
        let is_whole = scan.dropped.is_empty() && scan.left_over.is_empty();
        let is_clean = is_whole && scan.headless.is_empty() && scan.report.damage.is_empty();
        if is_as_it_was && scan.planned.is_empty() && is_clean {
            // Nothing came after the checkpoint, which counts only what was synced.
            let sync = self.sync.as_mut().expect("a log that is recovered has a medium");
            sync.synced = Synced { next_sequence: self.extents.next_sequence(), open: [(0, 0); 2] };
            // One sync is waited for even so: that a header is invalid may be cached and no more, and its place is free.
        }
        (self, scan)
    }

    /// Whether nothing was ever written to any extent, or none of it is left.
    fn is_untouched(&self) -> bool {
        let bytes = self.mapping.bytes(SUPERBLOCKS_BYTES as u64..self.medium_bytes());
        bytes.chunks(PAGE_BYTES as usize).all(|page| page.iter().all(|byte| *byte == 0))
    }

    /// Takes over what a checkpoint says of extents that are still there.
    fn take_state(&mut self, state: &LogState, headers: &Headers, scan: &mut Scan) {
        scan.version_max = scan.version_max.max(state.next_version.saturating_sub(1));
        (scan.known, scan.stale) = self.known_extents(state);
        scan.known_before = state.next_sequence;
        for (id, known) in &scan.known {
            known.apply(self.extents.get_mut(*id));
            self.bytes_used += known.used;
            self.bytes_live += known.live;
            self.bytes_tombstones += known.tombstones;
        }
        let is_gone = |index: &u32| !scan.known.contains_key(&ExtentId::from_index(*index));
        let lost = state.extents.iter().filter(|(index, _)| is_gone(index));
        let lost = lost.filter(|(index, known)| !headers.was_written((known.sequence, *index)));
        scan.report.damage.extend(lost.map(|(index, known)| Damage {
            extent: *index,
            byte: self.extents.start(ExtentId::from_index(*index)),
            len: known.used,
            what: DamageKind::Header,
        }));
        self.extents.skip_sequences(state.next_sequence);
    }

    /// Decides what of each extent is to be read, in which order.
    fn plan(&self, headers: &Headers, scan: &mut Scan) {
        let found = &headers.found;
        let Some((_, newest)) = found.first() else {
            return self.judge_headless(headers, None, scan);
        };
        let is_old = |header: &ExtentHeader| header.sequence < newest.whole_before && header.sequence != newest.except;
        let mut order: Vec<&(ExtentId, ExtentHeader)> = found.iter().collect();
        let is_moved = |header: &ExtentHeader| header.kind == ExtentKind::Compacted;
        order.sort_unstable_by_key(|(_, header)| (is_moved(header), header.version_base, header.sequence));

        let mut marker: Option<Synced> = None;
        let mut surveys: HashMap<ExtentId, Survey> = HashMap::new();
        for (id, header) in &order {
            if is_old(header) || scan.is_known_whole(*id) || scan.was_free(*id, header) {
                continue;
            }
            let survey = self.survey(*id, scan);
            marker = survey.marker.or(marker);
            surveys.insert(*id, survey);
        }
        self.judge_headless(headers, marker, scan);
        let durable = |header: &ExtentHeader| -> Option<u64> {
            if is_old(header) { None } else { marker.map_or(Some(0), |synced| synced.bytes_of(header.sequence)) }
        };
        let mut has_ended = false;
        for (id, header) in order {
            let durable = durable(header);
            let known = scan.known.get(id);
            if known.is_some_and(|known| known.is_sealed) {
                continue;
            }
            if scan.was_free(*id, header) {
                scan.left_over.push(*id);
                continue;
            }
            let known = known.map_or((0, 0), |known| (known.used, known.records));
            let Some(survey) = surveys.get(id) else {
                scan.planned.push(Planned { id: *id, durable: None, until: None, known });
                continue;
            };
            let is_durable = |sequence: u64| marker.is_some_and(|synced| synced.covers(sequence));
            has_ended |= !is_moved(header) && !is_durable(header.before.0) && !headers.goes_on_from(header.before);
            if has_ended && !is_moved(header) {
                scan.drop_extent(self, *id, survey, durable);
                continue;
            }
            // Durable to its end: what is not whole in it is damage, and no end of the log.
            if survey.is_sealed || durable.is_none() {
                scan.planned.push(Planned { id: *id, durable: None, until: None, known });
                continue;
            }
            has_ended |= !is_moved(header);
            let whole = if is_moved(header) { survey.bytes } else { survey.bytes_of_groups };
            scan.report.torn_bytes += survey.bytes - whole;
            let is_damaged = durable.is_none_or(|bytes| bytes > whole);
            if whole == 0 && !is_damaged {
                scan.dropped.push(*id);
            } else {
                let until = if is_damaged { durable } else { Some(whole) };
                scan.planned.push(Planned { id: *id, durable, until, known });
                scan.unsealed.push(*id);
            }
        }
    }

    /// Reads an extent of the unsynced end as far as it is whole.
    fn survey(&self, id: ExtentId, scan: &mut Scan) -> Survey {
        let known = scan.known.get(&id).map_or((0, 0), |known| (known.used, known.records));
        let mut reader = Reader::new(self, id, Some(0), None).behind(known.0, known.1);
        let mut survey = Survey { bytes: known.0, bytes_of_groups: known.0, ..Survey::default() };
        loop {
            match reader.step(self) {
                Step::Record { offset, version } => {
                    let record = self.read(offset);
                    scan.version_max = scan.version_max.max(version);
                    scan.id_max = scan.id_max.max(record.id().map_or(0, |id| id.raw()));
                    survey.bytes += record.bytes_on_medium() as u64;
                    if !record.more_follows() {
                        survey.bytes_of_groups = survey.bytes;
                    }
                    survey.marker = marker_of(record).or(survey.marker);
                }
                Step::Gap { .. } => unreachable!("nothing is durable for a survey"),
                Step::End(end) => {
                    survey.is_sealed = end == End::Sealed;
                    if !survey.is_sealed {
                        // A marker behind records that are not whole tells that they were durable.
                        let rest = self.extents.records_start(id) + reader.used()..self.extents.records_stop(id);
                        survey.marker = self.last_marker(rest, self.extents.get(id).seed).or(survey.marker);
                    }
                    return survey;
                }
            }
        }
    }

    /// The next record of a recovery, whole and before the end of the log; `None` when all are read. Damage is added to
    /// the report, and passed over. The record counts as dead until [`Log::found_live`].
    pub fn scan_next(&mut self, scan: &mut Scan) -> Option<Found<'_>> {
        loop {
            let mut reader = match scan.reader.take() {
                Some(reader) => reader,
                None => {
                    let planned = *scan.planned.get(scan.at)?;
                    scan.at += 1;
                    let (used, records) = planned.known;
                    Reader::new(self, planned.id, planned.durable, planned.until).behind(used, records)
                }
            };
            match reader.step(self) {
                Step::Record { offset, version } => {
                    let record = self.read(offset);
                    let (len, id) = (record.bytes_on_medium() as u64, record.id());
                    let is_meta = record.kind() == Kind::Meta;
                    scan.id_max = scan.id_max.max(id.map_or(0, |id| id.raw()));
                    scan.version_max = scan.version_max.max(version);
                    scan.report.records += 1;
                    scan.report.kinds[record.kind() as usize] += 1;
                    scan.report.bytes += len;
                    self.count_read(&reader);
                    scan.reader = Some(reader);
                    if !is_meta {
                        return Some(Found { offset, version, record: self.read(offset) });
                    }
                }
                Step::Gap { byte, len, missing } => {
                    let extent = reader.id().raw();
                    scan.report.damage.push(Damage { extent, byte, len, what: DamageKind::Records });
                    scan.gaps.push(Gap { id: reader.id(), byte, len, missing });
                    scan.reader = Some(reader);
                }
                Step::End(end) => {
                    self.end_of_extent(&reader, end, scan);
                    scan.bytes_done += self.extents.bytes();
                }
            }
        }
    }

    /// Counts what was read of an extent as used: before a record of it can be found alive, so that usage is right at any moment.
    fn count_read(&mut self, reader: &Reader) {
        let extent = self.extents.get_mut(reader.id());
        self.bytes_used += reader.used() - extent.used;
        extent.used = reader.used();
        extent.records = reader.ordinal();
    }

    fn end_of_extent(&mut self, reader: &Reader, end: End, scan: &mut Scan) {
        self.count_read(reader);
        let extent = reader.id().raw();
        match end {
            End::Sealed | End::Whole => {}
            End::Damaged { byte, len } => {
                scan.report.damage.push(Damage { extent, byte, len, what: DamageKind::Records });
            }
            End::Unsealed { byte } => {
                scan.report.damage.push(Damage { extent, byte, len: 0, what: DamageKind::Seal });
            }
        }
        let needs_seal = !matches!(end, End::Sealed | End::Whole) && !scan.unsealed.contains(&reader.id());
        if needs_seal {
            scan.unsealed.push(reader.id());
        }
    }

    /// A record that recovery handed out, with this version, is alive, as far as it has come.
    pub fn found_live(&mut self, offset: PoolOffset, version: u64) {
        let record = self.read(offset);
        let (len, is_tombstone) = (record.bytes_on_medium(), record.kind() == Kind::Tombstone);
        let id = self.extent_of(offset);
        self.extents.get_mut(id).live += len as u64;
        self.bytes_live += len as u64;
        if is_tombstone {
            self.note_tombstone(&self.place_of(offset), len, Some(version));
        }
    }

    /// A record that recovery handed out is dead, and was not found alive before.
    pub fn found_dead(&mut self, offset: PoolOffset) {
        self.note_dead(offset);
    }

    /// A record that was found alive is dead after all.
    pub fn found_superseded(&mut self, offset: PoolOffset) {
        let len = self.read(offset).bytes_on_medium() as u64;
        self.note_dead(offset);
        let id = self.extent_of(offset);
        self.extents.get_mut(id).live -= len;
        self.bytes_live -= len;
    }

    /// Whether a record that recovery hands out now, of this version, is newer than one that it handed out before.
    pub fn is_newer(&self, scan: &mut Scan, version: u64, than: PoolOffset) -> bool {
        if scan.is_in_order(self) {
            return true;
        }
        if let Some(other) = self.read(than).version() {
            return version > other;
        }
        let id = self.extent_of(than);
        let extent = self.extents.get(id);
        if version < extent.version_base {
            return false;
        }
        version >= extent.version_base + extent.records || version > self.version_of(scan, id, than)
    }

    /// The version of a record that recovery handed out.
    pub fn found_version(&self, scan: &mut Scan, offset: PoolOffset) -> u64 {
        self.read(offset).version().unwrap_or_else(|| self.version_of(scan, self.extent_of(offset), offset))
    }

    /// The version of a record that carries none: of the extent's first, and how many came between.
    fn version_of(&self, scan: &mut Scan, id: ExtentId, offset: PoolOffset) -> u64 {
        let ordinals = scan.ordinals.entry(id).or_insert_with(|| {
            let used = self.extents.get(id).used;
            let mut reader = Reader::new(self, id, Some(used), Some(used));
            let mut ordinals = HashMap::new();
            loop {
                match reader.step(self) {
                    Step::Record { offset, version } => drop(ordinals.insert(offset.raw(), version)),
                    Step::Gap { .. } => {}
                    Step::End(_) => return ordinals,
                }
            }
        });
        ordinals.get(&offset.raw()).copied().unwrap_or(0)
    }

    /// Ends a recovery whose records are all handed out: what nobody keeps alive is freed, what was dropped stays so. A commit
    /// is due, and until [`Log::is_settled`] as many more as there are syncs. Returns what was found, and
    /// the highest number of a collection that was seen.
    pub fn end_scan(&mut self, mut scan: Scan) -> (RecoveryReport, u64) {
        assert!(scan.reader.is_none() && scan.at == scan.planned.len(), "a recovery is carried to its end");
        self.next_version = self.next_version.max(scan.version_max + 1);
        // Extents whose headers never came to be may have left records, which must not verify under a sequence given out anew.
        let skipped = (self.extents.len() as u64).max(SEQUENCES_SKIPPED);
        // Nor those that an untouched pool begins with, where one may show nothing but a few records of them.
        let times = if scan.is_untouched { 1 } else { 2 };
        self.extents.skip_sequences(self.extents.next_sequence() + times * skipped);
        // Where memory is the medium, each is gone before the next is touched: the youngest first, so that a crash between two leaves
        // none whose predecessor, at which the log was found to end, is not there to end it again.
        for id in std::mem::take(&mut scan.dropped).into_iter().rev() {
            self.forget_extent(id, ExtentKind::Dropped);
        }
        for id in std::mem::take(&mut scan.left_over) {
            self.forget_extent(id, self.extents.get(id).kind);
        }
        for gap in std::mem::take(&mut scan.gaps) {
            self.fill_gap(&gap);
        }
        scan.report.extents_unsealed = scan.unsealed.len() as u64;
        let sync = self.sync.as_mut().expect("a log that is recovered has a medium");
        sync.seals_due.clone_from(&scan.unsealed);
        sync.headers_due = scan.headless.iter().map(Headless::id).chain(scan.bodies).collect();
        sync.note_due = !scan.is_untouched && !self.domain.is_in_place();
        self.position.advance(RECORD_ALIGN as u64);
        let ids: Vec<ExtentId> = self.extents.iter().map(|(id, _)| id).collect();
        for id in ids {
            let extent = self.extents.get(id);
            debug_assert_eq!(extent.state, ExtentState::Sealed);
            if extent.live == 0 && !scan.unsealed.contains(&id) {
                self.free(id);
            }
        }
        (scan.report, scan.id_max)
    }

    /// Drops an extent, which nobody reads again. What is left of its header says that it was of this kind.
    fn forget_extent(&mut self, id: ExtentId, kind: ExtentKind) {
        let extent = *self.extents.get(id);
        self.invalidate_dropped(id, kind);
        let freed = self.extents.free(id);
        self.bury(freed, &extent);
    }

    /// Puts a record of the log's own in the place of damaged ones, so that what follows can be reached.
    fn fill_gap(&mut self, gap: &Gap) {
        let short = gap.len as usize - record_header::BYTES;
        let long = short.saturating_sub(record_header::LONG_BYTES);
        if short <= usize::from(u16::MAX) {
            self.write_filler(gap, short);
        } else if long > usize::from(u16::MAX) {
            self.write_filler(gap, long);
        } else {
            // Too long for the short form, too short for the long one.
            let len = SEAL_BYTES as u64;
            self.fill_gap(&Gap { len, missing: 0, ..*gap });
            self.fill_gap(&Gap { byte: gap.byte + len, len: gap.len - len, ..*gap });
        }
    }

    fn write_filler(&mut self, gap: &Gap, value_len: usize) {
        let parts = RecordParts { tag: meta::FILLER, ..RecordParts::new(Kind::Meta, &[], &[]) };
        let shape = Shape::of(&parts, value_len, None);
        assert_eq!(shape.len as u64, gap.len, "records are multiples of 8 bytes, and so is what is between them");
        let place = Place { offset: PoolOffset::from_byte(gap.byte), seed: self.extents.get(gap.id).seed };
        let count = u32::try_from(gap.missing).unwrap_or(u32::MAX);
        let value = shape.write(&parts, self.mapping.bytes_mut(place.range(shape.len)));
        value.fill(0);
        value[..4].copy_from_slice(&count.to_le_bytes());
        self.write_checksum(place, shape.len);
        self.note_written(place.range(shape.len));
    }

    /// Whether what recovery had to write is durable, so that serving may begin.
    pub fn is_settled(&self) -> bool {
        self.sync.as_ref().is_none_or(|sync| sync.is_settled)
    }

    /// A sync is done during recovery: goes on with what may be written now.
    pub(super) fn settle(&mut self) {
        let Some(sync) = self.sync.as_mut().filter(|sync| !sync.is_settled) else {
            return;
        };
        let (seals, headers) = (std::mem::take(&mut sync.seals_due), std::mem::take(&mut sync.headers_due));
        let is_note_due = std::mem::take(&mut sync.note_due);
        sync.is_settled = seals.is_empty() && headers.is_empty() && !is_note_due;
        if sync.is_settled {
            return;
        }
        self.position.advance(RECORD_ALIGN as u64);
        for id in headers {
            self.make_header_invalid(id);
        }
        if is_note_due {
            self.note_sequence();
        }
        for id in seals {
            self.write_seal_at(id, self.extents.records_end(id));
            if self.extents.get(id).live == 0 {
                self.free(id);
            }
        }
    }

    /// Notes durably, before an extent is opened, from which sequence on they are: as the header, made invalid, of a free extent. Else this
    /// opening and the next could give out the same ones when the power is lost between them with the headers of all extents opened, and
    /// what is left of this one's records would verify in the midst of the next one's. Where memory is the medium, headers are durable
    /// before records, and nothing needs to be noted.
    fn note_sequence(&mut self) {
        let id = self.extents.last_free().or_else(|| self.add_extent());
        // A full medium, no extent of which is free, has no place for it. It goes on without: that is no reason to fail a write.
        if let Some(id) = id {
            self.make_header_invalid(id);
        }
    }

    /// Adds an extent, if the medium has room for its header.
    fn add_extent(&mut self) -> Option<ExtentId> {
        let start = self.medium_bytes();
        let has_room = self.file.as_ref().is_none_or(|file| file.make_room(start..start + PAGE_BYTES).is_ok());
        if has_room { self.extents.add() } else { None }
    }
}

/// What a survey has found in an extent.
#[derive(Default)]
struct Survey {
    /// Bytes of whole records from the beginning on.
    bytes: u64,
    /// The same without a group that is not whole at the end.
    bytes_of_groups: u64,
    is_sealed: bool,
    /// The last marker.
    marker: Option<Synced>,
}

impl Scan {
    /// Whether a checkpoint knows all of an extent.
    fn is_known_whole(&self, id: ExtentId) -> bool {
        self.known.get(&id).is_some_and(|known| known.is_sealed)
    }

    /// Whether an extent was freed when the checkpoint was taken, and only its header was still there.
    fn was_free(&self, id: ExtentId, header: &ExtentHeader) -> bool {
        header.sequence < self.known_before && !self.known.contains_key(&id)
    }

    /// Whether the records handed out so far came in the order of their versions: the appended ones do.
    fn is_in_order(&self, log: &Log) -> bool {
        self.reader.as_ref().is_some_and(|reader| log.extents.get(reader.id()).kind != ExtentKind::Compacted)
    }

    /// Drops an extent that lies behind the end of the log.
    fn drop_extent(&mut self, log: &Log, id: ExtentId, survey: &Survey, durable: Option<u64>) {
        self.dropped.push(id);
        self.report.torn_bytes += survey.bytes;
        if durable != Some(0) {
            self.report.damage.push(Damage {
                extent: id.raw(),
                byte: log.extents.records_start(id),
                len: durable.unwrap_or(survey.bytes),
                what: DamageKind::Unreached,
            });
        }
    }
}

fn marker_of(record: Record<'_>) -> Option<Synced> {
    let is_marker = record.kind() == Kind::Meta && record.tag() == meta::MARKER;
    if is_marker { Synced::parse(record.value()) } else { None }
}
