//! Storage is what a core asks of its pool's medium, and when: the commits, the syncs, the growth of the file.
//!
//! ```text
//!  sync      a turn's end              write has ended                     sync has ended
//!  always    write, sync linked to it                                      replies leave
//!  everysec  write                     replies leave; a sync if the last
//!                                      began a second ago
//!  no        write                     replies leave
//! ```
//!
//! One commit's writes are in flight; what is executed meanwhile joins the next. One sync is in flight; it covers what was
//! written when it began, and a write that nobody wants synced is never kept waiting by it. Who wants more than the
//! configuration gives (`CLIENT DURABILITY always`, `WAITAOF`, the end of the node) has a sync begun at once; and where all want
//! to be synced, what comes during a sync is collected into one write with one sync behind it.
//!
//! What always holds: a promise is kept by [`super::gate`] alone, so nothing here can let a reply go early. The first error of a
//! write or sync is final: the state of the medium is not known any more, and a later sync that succeeds would not prove anything
//! (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020). That growing fails is not: the log refuses what
//! it has no room for, and asks again; and what cannot be punched is kept.

use eagle_pmem::{Position, SyncMark};

use super::{
    Core,
    event::{Actions, Now, Storage as Action, Stored},
    gate::{Level, Promise, Reached},
    latency::Histogram,
    session::Session,
    spikes::Event,
};
use crate::config::SyncMode;

/// Microseconds from one sync that nobody waits for to the next: with the ticks by which an idle core looks at the time, a
/// second.
const SYNC_EVERY_US: u64 = 900_000;
/// Microseconds from one sync to the next that only the log wants, to use space again.
const SYNC_FOR_SPACE_US: u64 = 50_000;
/// Microseconds until the medium is asked to grow again when it could not.
const GROW_AGAIN_US: u64 = 1_000_000;

/// What a core has under way on its medium.
#[derive(Debug, Default)]
pub(super) struct Storage {
    writing: Option<Writing>,
    syncing: Option<Syncing>,
    is_growing: bool,
    is_punching: bool,
    punching_bytes: u64,
    /// A reply of the next commit waits only until it is written.
    next_is_urgent: bool,
    /// Up to here somebody waits for a sync.
    sync_wanted: Position,
    last_sync_us: u64,
    grow_again_us: u64,
    /// Growing failed when it was last tried.
    cannot_grow: bool,
    counted: Counted,
}

/// The commit whose writes are in flight.
#[derive(Debug)]
struct Writing {
    position: Position,
    begun_us: u64,
    /// A sync follows it.
    linked: bool,
}

/// The sync in flight.
#[derive(Debug)]
struct Syncing {
    /// What it covers; none as long as the write before it is in flight.
    mark: Option<SyncMark>,
    begun_us: u64,
    /// The time for the next came while it was in flight.
    delays: bool,
}

/// What was counted since the start.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Commits that ended well.
    pub commits: u64,
    /// How long each took, up to what the configuration promises.
    pub latency: Histogram,
    /// Bytes written by them.
    pub bytes: u64,
    /// Syncs that ended well.
    pub syncs: u64,
    /// Times that a sync was due while the one before it was in flight.
    pub syncs_delayed: u64,
    /// Growths of the medium that failed.
    pub growths_failed: u64,
    /// Bytes of space given back to the file system.
    pub punched_bytes: u64,
}

impl Counted {
    /// Adds another core's.
    pub fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.latency.add(&other.latency);
        self.bytes += other.bytes;
        self.syncs += other.syncs;
        self.syncs_delayed += other.syncs_delayed;
        self.growths_failed += other.growths_failed;
        self.punched_bytes += other.punched_bytes;
    }
}

impl Storage {
    /// A reply waits for this.
    #[inline]
    pub(super) fn promised(&mut self, promise: Promise, reached: Reached) {
        match promise.level {
            Level::Synced => self.sync_wanted = self.sync_wanted.max(promise.position),
            Level::Written => self.next_is_urgent |= promise.position > self.begun(reached),
        }
    }

    /// Up to where commits have begun.
    fn begun(&self, reached: Reached) -> Position {
        self.writing.as_ref().map_or(reached.written, |writing| writing.position)
    }

    /// Nothing is in flight.
    fn is_quiet(&self) -> bool {
        self.writing.is_none() && self.syncing.is_none() && !self.is_growing && !self.is_punching
    }
}

impl Core {
    /// How durable what a connection's replies promise must be.
    #[inline]
    pub(super) fn level_of(&self, session: &Session) -> Level {
        match session.durability.unwrap_or(self.sync) {
            SyncMode::Always => Level::Synced,
            SyncMode::EverySec | SyncMode::No => Level::Written,
        }
    }

    /// Commits what the turn has written, and begins what else the medium is due.
    pub(super) fn commit(&mut self, now: Now, actions: &mut Actions) {
        if !self.gate.waits() {
            if self.is_loaded() && self.shard.position() != self.gate.reached().written {
                let position = self.shard.commit().position;
                self.gate.begin(position, position);
                self.released = self.gate.reached();
            }
        } else if !self.gate.failed() && self.is_loaded() {
            self.begin_write(now, actions);
            self.begin_sync(now, actions);
        }
        if self.has_medium && !self.gate.failed() {
            self.tend_medium(now, actions);
            self.tend_checkpoint(now, actions);
        }
    }

    fn begin_write(&mut self, now: Now, actions: &mut Actions) {
        let reached = self.gate.reached();
        if !self.gate.ready() || self.shard.committable() == reached.written {
            return;
        }
        let storage = &mut self.storage;
        if self.sync == SyncMode::Always && storage.syncing.is_some() && !storage.next_is_urgent {
            return;
        }
        let wanted = self.sync == SyncMode::Always
            || storage.sync_wanted > reached.synced
            || self.draining
            || self.opening.wants_sync();
        let commit = self.shard.commit();
        let (position, ranges) = (commit.position, commit.ranges.to_vec());
        // Nothing to write is written at once; a sync of it comes by itself.
        let linked = wanted && storage.syncing.is_none() && !ranges.is_empty();
        storage.counted.bytes += ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        storage.next_is_urgent = false;
        storage.writing = Some(Writing { position, begun_us: now.mono_us, linked });
        self.gate.begin(position, self.shard.position());
        if linked {
            storage.syncing = Some(Syncing { mark: None, begun_us: now.mono_us, delays: false });
            storage.last_sync_us = now.mono_us;
        }
        if ranges.is_empty() {
            self.write_ended(Ok(()), now);
        } else {
            actions.storage.push(Action::Write { ranges, sync: linked });
        }
    }

    fn begin_sync(&mut self, now: Now, actions: &mut Actions) {
        let reached = self.gate.reached();
        let storage = &mut self.storage;
        let since_us = now.mono_us.saturating_sub(storage.last_sync_us);
        let unsynced = reached.written > reached.synced;
        let by_time = self.sync == SyncMode::EverySec && unsynced && since_us >= SYNC_EVERY_US;
        if let Some(syncing) = &mut storage.syncing {
            storage.counted.syncs_delayed += u64::from(by_time && !syncing.delays);
            syncing.delays |= by_time;
            return;
        }
        // What is wanted beyond what is written has its sync linked to the write, or waits for the write in flight.
        let waited_for = storage.sync_wanted > reached.synced && storage.sync_wanted <= reached.written;
        let ends = self.draining && unsynced && storage.writing.is_none();
        let always = self.sync == SyncMode::Always && unsynced && storage.writing.is_none();
        let opens = self.opening.wants_sync() && storage.writing.is_none();
        let lets_go_on = self.shard.needs_sync() && storage.writing.is_none();
        let for_space = since_us >= SYNC_FOR_SPACE_US && self.shard.wants_sync();
        if by_time || waited_for || ends || always || opens || lets_go_on || for_space {
            let mark = Some(self.shard.begin_sync());
            self.gate.begin_sync();
            storage.syncing = Some(Syncing { mark, begun_us: now.mono_us, delays: false });
            storage.last_sync_us = now.mono_us;
            actions.storage.push(Action::Sync);
        }
    }

    /// Lets the medium grow ahead of the need, and give back what is not needed.
    fn tend_medium(&mut self, now: Now, actions: &mut Actions) {
        let storage = &mut self.storage;
        if !storage.is_growing
            && now.mono_us >= storage.grow_again_us
            && let Some(ranges) = self.shard.next_growth()
        {
            storage.is_growing = true;
            actions.storage.push(Action::Grow(ranges));
        }
        if !storage.is_punching
            && !self.draining
            && let Some(ranges) = self.shard.next_punch()
        {
            storage.is_punching = true;
            storage.punching_bytes = ranges.iter().map(|range| range.end - range.start).sum();
            actions.storage.push(Action::Punch(ranges));
        }
    }

    /// An operation on the medium has ended.
    pub(super) fn stored(&mut self, what: Stored, result: Result<(), i32>, now: Now) {
        match what {
            Stored::Write => self.write_ended(result, now),
            Stored::Sync => self.sync_ended(result, now),
            Stored::Grow => self.growth_ended(result, now),
            Stored::Punch => self.punch_ended(result),
        }
    }

    fn write_ended(&mut self, result: Result<(), i32>, now: Now) {
        let writing = self.storage.writing.take().expect("a write that ends was begun");
        if let Err(code) = result {
            if writing.linked {
                self.storage.syncing = None;
            }
            return self.storage_failed("write", code);
        }
        if self.gate.failed() {
            return;
        }
        self.shard.written(writing.position);
        self.gate.written();
        if writing.linked {
            // The sync covers this write and all before it: nothing else has been reported as written since it began.
            let mark = self.shard.begin_sync();
            self.gate.begin_sync();
            self.storage.syncing.as_mut().expect("linked to the write").mark = Some(mark);
        }
        if self.sync != SyncMode::Always {
            self.count_commit(writing.begun_us, now);
        }
    }

    fn sync_ended(&mut self, result: Result<(), i32>, now: Now) {
        let syncing = self.storage.syncing.take().expect("a sync that ends was begun");
        if let Err(code) = result {
            return self.storage_failed("sync", code);
        }
        if self.gate.failed() {
            return;
        }
        self.shard.end_sync(syncing.mark.expect("a sync ends after the write before it"));
        self.gate.synced();
        self.storage.counted.syncs += 1;
        self.note_spike(Event::Sync, now.mono_us.saturating_sub(syncing.begun_us), now);
        if self.sync == SyncMode::Always {
            self.count_commit(syncing.begun_us, now);
        }
        self.opened(now.unix.0);
    }

    fn count_commit(&mut self, begun_us: u64, now: Now) {
        self.storage.count_commit(begun_us, now);
        self.note_spike(Event::Commit, now.mono_us.saturating_sub(begun_us), now);
    }

    fn growth_ended(&mut self, result: Result<(), i32>, now: Now) {
        let storage = &mut self.storage;
        storage.is_growing = false;
        let why = match result {
            Ok(()) => match self.shard.grown() {
                Ok(()) => {
                    storage.cannot_grow = false;
                    return;
                }
                Err(error) => error.to_string(),
            },
            Err(code) => {
                self.shard.growth_failed();
                message(code).to_string()
            }
        };
        if storage.counted.growths_failed == 0 {
            tracing::warn!(
                "The pool of core {} cannot grow: {why}. What fits into it is written, what does not is refused; it is tried \
                 again every second.",
                self.id.0
            );
        }
        storage.counted.growths_failed += 1;
        storage.cannot_grow = true;
        storage.grow_again_us = now.mono_us + GROW_AGAIN_US;
    }

    fn punch_ended(&mut self, result: Result<(), i32>) {
        let storage = &mut self.storage;
        storage.is_punching = false;
        self.shard.punched(result.is_ok());
        match result {
            Ok(()) => storage.counted.punched_bytes += storage.punching_bytes,
            Err(code) => tracing::warn!(
                "The pool of core {} gives no space back: {}. It keeps what it has until the next start.",
                self.id.0,
                message(code)
            ),
        }
    }

    fn storage_failed(&mut self, what: &str, code: i32) {
        if !self.gate.failed() {
            tracing::error!(
                "A {what} of core {}'s pool failed: {}. From now on nothing is written, what was not committed is neither \
                 read nor acknowledged, and only a restart clears this.",
                self.id.0,
                message(code)
            );
        }
        self.commit_failed();
    }

    /// All cores are drained: brings the shard's background work to an end, so that the next start finds it whole.
    pub fn prepare_to_end(&mut self) {
        if self.has_medium && self.is_loaded() && !self.gate.failed() {
            self.shard.prepare_to_end();
        }
    }

    /// Nothing is in flight on the medium, and everything is as durable as it can be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let all = Reached::all(self.shard.position());
        let durable = !self.has_medium || self.gate.failed() || !self.is_loaded() || self.gate.reached() == all;
        durable && self.storage.is_quiet() && self.checkpointing.is_quiet()
    }

    /// Whether what was acknowledged outlives the process.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.has_medium
    }

    /// Whether a write or sync has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.gate.failed()
    }

    /// Whether the medium could not grow when it was last asked to: what it has no room for is refused.
    #[must_use]
    pub fn lacks_space(&self) -> bool {
        self.storage.cannot_grow
    }

    /// What it counted of its medium, and how many syncs are in flight.
    #[must_use]
    pub fn storage_counted(&self) -> (&Counted, u64) {
        (&self.storage.counted, u64::from(self.storage.syncing.is_some()))
    }
}

impl Storage {
    fn count_commit(&mut self, begun_us: u64, now: Now) {
        self.counted.commits += 1;
        self.counted.latency.count_us(now.mono_us.saturating_sub(begun_us));
    }
}

/// What the system says of an error number.
fn message(code: i32) -> std::io::Error {
    std::io::Error::from_raw_os_error(code)
}
