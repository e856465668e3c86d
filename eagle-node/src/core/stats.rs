//! Statistics are what a core counts of its own work: plain numbers that nobody else touches, added up over all cores
//! when `INFO` asks.
//!
//! On the way of a command stand one addition and one push; time is measured a turn and shared out among the commands
//! of the turn ([`CoreStats::turn_took`]), because reading a clock twice a command would cost more than many commands
//! do. Calls are exact; microseconds are right on average.

use std::collections::BTreeMap;

use eagle_shard::{
    Digest, ScrubStats,
    call::DbId,
    shard::{ShardUsage, Stats},
};

use super::{
    event::{CoreId, Now},
    latency::{Bucket, Histogram},
    pause::Paused,
    slowlog,
    spikes::Spikes,
    storage::Counted,
};
use crate::{
    acl,
    command::{self, Row},
};

/// Codes of errors that are told apart; beyond it a client that makes errors up could fill memory.
const ERROR_CODES_MAX: usize = 128;
/// Calls of a turn that its time is shared out among; of a longer turn the first so many.
const TURN_CALLS_MAX: usize = 1 << 14;

/// What was counted of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandStats {
    /// Executions, failed ones included.
    pub calls: u64,
    /// Time of them, in nanoseconds.
    pub ns: u64,
    /// Requests refused before execution: arity, authentication.
    pub rejected: u64,
    /// Executions that ended in an error.
    pub failed: u64,
}

impl CommandStats {
    /// Whether anything was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.ns += other.ns;
        self.rejected += other.rejected;
        self.failed += other.failed;
    }
}

/// What one core counted since its start or `CONFIG RESETSTAT`.
#[derive(Clone, Debug)]
pub struct CoreStats {
    /// Connections accepted.
    pub connections: u64,
    /// Connections refused: too many clients.
    pub rejected: u64,
    /// Connections closed because their unread replies went beyond a limit.
    pub closed_by_output: u64,
    /// Clients disconnected because all of them took too much (`maxmemory-clients`).
    pub evicted_clients: u64,
    /// Connections closed because their unexecuted requests went beyond a limit.
    pub closed_by_input: u64,
    /// What was denied, by [`acl::log::Reason`].
    pub denied: [u64; acl::log::REASONS],
    /// Times that bytes were received.
    pub reads: u64,
    /// Times that bytes were handed out to be sent.
    pub writes: u64,
    /// Turns in which anything was done.
    pub turns: u64,
    /// Time of these turns, in nanoseconds.
    pub turns_ns: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Questions of other cores that were executed here.
    pub served: u64,
    /// By [`Row::index`].
    commands: Vec<CommandStats>,
    /// How long each took, as far as that is tracked; by [`Row::index`].
    latencies: Vec<Option<Histogram>>,
    tracks_latency: bool,
    /// How long messages of other cores lay before this one took them.
    pub waits: Histogram,
    /// Error replies by their code, and by the [`Row::index`] of the command that they were replied to.
    errors: BTreeMap<String, BTreeMap<Option<u16>, u64>>,
    /// Rows executed since the last [`Self::turn_took`].
    turn: Vec<u16>,
    rates: Rates,
}

impl Default for CoreStats {
    fn default() -> Self {
        Self {
            connections: 0,
            rejected: 0,
            closed_by_output: 0,
            evicted_clients: 0,
            closed_by_input: 0,
            denied: [0; acl::log::REASONS],
            reads: 0,
            writes: 0,
            turns: 0,
            turns_ns: 0,
            bytes_in: 0,
            bytes_out: 0,
            served: 0,
            commands: vec![CommandStats::default(); command::row_count()],
            latencies: vec![None; command::row_count()],
            tracks_latency: true,
            waits: Histogram::default(),
            errors: BTreeMap::new(),
            turn: Vec::new(),
            rates: Rates::default(),
        }
    }
}

impl CoreStats {
    /// A command was executed.
    #[inline]
    pub fn count(&mut self, row: &Row) {
        self.commands[usize::from(row.index)].calls += 1;
        if self.turn.len() < TURN_CALLS_MAX {
            self.turn.push(row.index);
        }
    }

    /// A request was refused before it was executed.
    pub fn rejected_call(&mut self, row: &Row) {
        self.commands[usize::from(row.index)].rejected += 1;
    }

    /// A command ended in an error; [`Self::count`] counts it as well.
    pub fn failed_call(&mut self, row: &Row) {
        self.commands[usize::from(row.index)].failed += 1;
    }

    /// An error of this line (`ERR syntax error`) was replied to a command, if it was one; its first word is its code.
    pub fn error(&mut self, row: Option<&Row>, line: impl AsRef<[u8]>) {
        let code = line.as_ref().split(|byte| *byte == b' ').next().unwrap_or_default();
        let code = String::from_utf8_lossy(code);
        let row = row.map(|row| row.index);
        if let Some(by_command) = self.errors.get_mut(code.as_ref()) {
            *by_command.entry(row).or_default() += 1;
        } else if self.errors.len() < ERROR_CODES_MAX {
            self.errors.insert(code.into_owned(), [(row, 1)].into());
        }
    }

    /// A turn of so many nanoseconds is over: each of its commands took the same part of it.
    pub fn turn_took(&mut self, ns: u64) {
        self.turns += 1;
        self.turns_ns += ns;
        let Some(each) = ns.checked_div(self.turn.len() as u64) else {
            return;
        };
        let bucket = Bucket::of(each);
        for index in self.turn.drain(..) {
            let index = usize::from(index);
            self.commands[index].ns += each;
            if self.tracks_latency {
                self.latencies[index].get_or_insert_default().count(bucket, each);
            }
        }
    }

    /// About ten times a second: measures what happens a second.
    pub fn tick(&mut self, mono_us: u64) {
        let commands = self.commands.iter().map(|command| command.calls).sum();
        self.rates.sample(mono_us, [commands, self.bytes_in, self.bytes_out, self.turns, self.turns_ns]);
    }

    /// Whether it is counted how long each call took (`latency-tracking`). What was counted is forgotten if not.
    pub fn track_latency(&mut self, track: bool) {
        self.tracks_latency = track;
        if !track {
            self.latencies.fill(None);
        }
    }

    /// Commands, bytes in, bytes out, turns and their nanoseconds a second, of about the last second and a half.
    #[must_use]
    pub fn rates(&self) -> [f64; RATES] {
        self.rates.a_second()
    }

    /// Begins to count anew.
    pub fn reset(&mut self) {
        *self = Self { tracks_latency: self.tracks_latency, ..Self::default() };
    }
}

/// How many numbers are measured by the second: see [`CoreStats::rates`].
pub const RATES: usize = 5;

/// The last measurements of growing numbers.
#[derive(Clone, Debug, Default)]
struct Rates {
    samples: [(u64, [u64; RATES]); Rates::SAMPLES],
    /// How many were ever taken.
    taken: usize,
}

impl Rates {
    const SAMPLES: usize = 16;

    fn sample(&mut self, mono_us: u64, numbers: [u64; RATES]) {
        self.samples[self.taken % Self::SAMPLES] = (mono_us, numbers);
        self.taken += 1;
    }

    fn a_second(&self) -> [f64; RATES] {
        if self.taken < 2 {
            return [0.0; RATES];
        }
        let oldest = self.taken.saturating_sub(Self::SAMPLES);
        let (from_us, from) = self.samples[oldest % Self::SAMPLES];
        let (to_us, to) = self.samples[(self.taken - 1) % Self::SAMPLES];
        let seconds = to_us.saturating_sub(from_us).max(1) as f64 / 1e6;
        std::array::from_fn(|i| to[i].saturating_sub(from[i]) as f64 / seconds)
    }
}

/// A core's part of a node command.
#[derive(Debug)]
pub struct CoreReport {
    /// Whose part.
    pub core: CoreId,
    /// What it says.
    pub part: Part,
}

/// What a core reports.
#[derive(Debug)]
pub enum Part {
    /// It is done.
    Done,
    /// How it is: for `INFO`.
    Figures(Box<Figures>),
    /// Its clients' numbers and lines: for `CLIENT LIST`.
    Clients(Vec<(u64, String)>),
    /// Digests of its part of each database that has keys: for `DEBUG DIGEST`.
    Digests(Vec<(DbId, Digest)>),
    /// What is to be said of its keys, by their places among the arguments: for `DEBUG OBJECT`.
    Texts(Vec<(usize, String)>),
    /// Where its memory is: for `MEMORY`.
    Memory(Box<MemoryFigures>),
    /// So many of its clients were closed: for `CLIENT KILL`.
    Killed(u64),
    /// What it denied: for `ACL LOG`.
    Denials(Vec<acl::log::Entry>),
    /// Its slow commands: for `SLOWLOG`.
    SlowLog(Vec<slowlog::Entry>),
    /// What took long: for `LATENCY`.
    Spikes(Box<Spikes>),
    /// Whether what it had when it was asked is synced: for `WAITAOF`.
    Synced(bool),
}

/// One database's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatabaseFigures {
    /// Keys.
    pub keys: u64,
    /// Of them, with an expiry.
    pub expires: u64,
    /// Their times to live in milliseconds, as estimated from some of them, summed up.
    pub ttl_ms_total: u128,
}

/// Where a core's memory, or by [`MemoryFigures::add`] the whole node's, is.
#[derive(Clone, Debug)]
pub struct MemoryFigures {
    /// What its shard takes.
    pub usage: ShardUsage,
    /// Keys and bytes of the index, by database.
    pub databases: Vec<(u64, u64)>,
    /// Open connections.
    pub clients: u64,
    /// Memory of their sessions and buffers, in bytes.
    pub clients_bytes: u64,
}

impl MemoryFigures {
    /// Adds another core's.
    pub fn add(&mut self, other: &Self) {
        add_usage(&mut self.usage, &other.usage);
        for (database, their) in self.databases.iter_mut().zip(&other.databases) {
            database.0 += their.0;
            database.1 += their.1;
        }
        self.clients += other.clients;
        self.clients_bytes += other.clients_bytes;
    }
}

/// How a core, or by [`Figures::add`] the whole node, is.
#[derive(Clone, Debug)]
pub struct Figures {
    /// What it counted.
    pub stats: CoreStats,
    /// What happens a second: see [`CoreStats::rates`].
    pub rates: [f64; RATES],
    /// What its shard counted.
    pub shard: Stats,
    /// What its shard takes.
    pub usage: ShardUsage,
    /// Keys by database.
    pub databases: Vec<DatabaseFigures>,
    /// Open connections.
    pub clients: u64,
    /// Memory of their sessions and buffers, in bytes.
    pub clients_memory: u64,
    /// The most bytes of unexecuted requests of one connection, of late.
    pub query_bytes_max: u64,
    /// The most bytes of unread replies of one connection, of late.
    pub unsent_bytes_max: u64,
    /// What waits by `CLIENT PAUSE` or `DEBUG SLEEP`, if anything does, and for how many milliseconds.
    pub paused: Option<(Paused, u64)>,
    /// Questions to other cores that are not answered yet.
    pub questions: u64,
    /// What it counted of its medium.
    pub storage: Counted,
    /// Syncs in flight.
    pub syncs_in_flight: u64,
    /// What its pool lies on: `none`, `file` or `dax`.
    pub pool_mode: &'static str,
    /// Whether what was acknowledged outlives the process.
    pub keeps: bool,
    /// Bytes of an extent.
    pub extent_bytes: u64,
    /// Bytes of its pool's file.
    pub pool_bytes: u64,
    /// Bytes of space that the file system has given the file.
    pub pool_allocated_bytes: u64,
    /// A write or sync of its pool has failed.
    pub has_failed: bool,
    /// Its pool could not grow when it was last to.
    pub lacks_space: bool,
    /// What was found when its pool was loaded.
    pub recovery: RecoveryFigures,
    /// What the scrub has read and found.
    pub scrub: ScrubStats,
}

/// What was found when a core's pool, or by [`RecoveryFigures::add`] all pools of the node, was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryFigures {
    /// Whole records, dead ones included.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes at the end that were dropped.
    pub torn_bytes: u64,
    /// Places that are damaged.
    pub damaged: u64,
    /// Bytes of them that were copied to a quarantine.
    pub quarantined_bytes: u64,
    /// Keys that were dropped because parts of them were lost.
    pub keys_lost: u64,
}

impl RecoveryFigures {
    /// Adds another core's.
    pub fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.torn_bytes += other.torn_bytes;
        self.damaged += other.damaged;
        self.quarantined_bytes += other.quarantined_bytes;
        self.keys_lost += other.keys_lost;
    }
}

impl Figures {
    /// Those of all cores, added up.
    ///
    /// # Panics
    /// The reports are of something else, or there are none.
    #[must_use]
    pub fn together(reports: Vec<CoreReport>) -> Self {
        let mut parts = reports.into_iter().map(|report| match report.part {
            Part::Figures(figures) => *figures,
            other => unreachable!("figures were asked for, not {other:?}"),
        });
        let mut figures = parts.next().expect("at least the home core reports");
        parts.for_each(|part| figures.add(&part));
        figures
    }

    /// Adds another core's.
    pub fn add(&mut self, other: &Self) {
        let (stats, theirs) = (&mut self.stats, &other.stats);
        stats.connections += theirs.connections;
        stats.rejected += theirs.rejected;
        for (sum, part) in stats.denied.iter_mut().zip(&theirs.denied) {
            *sum += part;
        }
        stats.closed_by_output += theirs.closed_by_output;
        stats.evicted_clients += theirs.evicted_clients;
        stats.closed_by_input += theirs.closed_by_input;
        stats.reads += theirs.reads;
        stats.writes += theirs.writes;
        stats.turns += theirs.turns;
        stats.turns_ns += theirs.turns_ns;
        stats.bytes_in += theirs.bytes_in;
        stats.bytes_out += theirs.bytes_out;
        stats.served += theirs.served;
        for (command, their) in stats.commands.iter_mut().zip(&theirs.commands) {
            command.add(*their);
        }
        for (latency, their) in stats.latencies.iter_mut().zip(&theirs.latencies) {
            if let Some(their) = their {
                latency.get_or_insert_default().add(their);
            }
        }
        stats.waits.add(&theirs.waits);
        for (code, by_command) in &theirs.errors {
            let own = stats.errors.entry(code.clone()).or_default();
            by_command.iter().for_each(|(row, count)| *own.entry(*row).or_default() += count);
        }
        for (rate, their) in self.rates.iter_mut().zip(other.rates) {
            *rate += their;
        }
        add_shard(&mut self.shard, &other.shard);
        add_usage(&mut self.usage, &other.usage);
        for (database, their) in self.databases.iter_mut().zip(&other.databases) {
            database.keys += their.keys;
            database.expires += their.expires;
            database.ttl_ms_total += their.ttl_ms_total;
        }
        self.clients += other.clients;
        self.clients_memory += other.clients_memory;
        self.query_bytes_max = self.query_bytes_max.max(other.query_bytes_max);
        self.unsent_bytes_max = self.unsent_bytes_max.max(other.unsent_bytes_max);
        self.paused = self.paused.or(other.paused);
        self.questions += other.questions;
        self.storage.add(&other.storage);
        self.syncs_in_flight += other.syncs_in_flight;
        self.pool_bytes += other.pool_bytes;
        self.keeps |= other.keeps;
        self.pool_allocated_bytes += other.pool_allocated_bytes;
        self.has_failed |= other.has_failed;
        self.lacks_space |= other.lacks_space;
        self.recovery.add(other.recovery);
        self.scrub.passes = self.scrub.passes.min(other.scrub.passes);
        self.scrub.bytes += other.scrub.bytes;
        self.scrub.records += other.scrub.records;
        self.scrub.damaged += other.scrub.damaged;
    }

    /// Commands executed.
    #[must_use]
    pub fn commands_processed(&self) -> u64 {
        self.stats.commands.iter().map(|command| command.calls).sum()
    }

    /// What was counted of a command.
    #[must_use]
    pub fn command(&self, row: &Row) -> CommandStats {
        self.stats.commands[usize::from(row.index)]
    }

    /// Time of all commands in nanoseconds.
    #[must_use]
    pub fn commands_ns(&self) -> u64 {
        self.stats.commands.iter().map(|command| command.ns).sum()
    }

    /// Commands executed that may have changed data.
    #[must_use]
    pub fn writes_processed(&self) -> u64 {
        let writes = command::all_rows().filter(|row| row.spec.writes()).map(|row| self.command(row));
        writes.map(|command| command.calls.saturating_sub(command.failed)).sum()
    }

    /// How long the calls of a command took, if that was tracked and there were any.
    #[must_use]
    pub fn latency(&self, row: &Row) -> Option<&Histogram> {
        self.stats.latencies[usize::from(row.index)].as_ref()
    }

    /// Error replies by their code.
    pub fn errors(&self) -> impl Iterator<Item = (&str, u64)> {
        self.stats.errors.iter().map(|(code, by_command)| (code.as_str(), by_command.values().sum()))
    }

    /// Error replies by the [`Row::index`] of the command, if it was one, and their code.
    pub fn command_errors(&self) -> impl Iterator<Item = (Option<u16>, &str, u64)> {
        self.stats
            .errors
            .iter()
            .flat_map(|(code, by_command)| by_command.iter().map(move |(row, count)| (*row, code.as_str(), *count)))
    }

    /// Memory of data, index and connections, in bytes.
    #[must_use]
    pub fn used_memory(&self) -> u64 {
        self.usage.memory + self.clients_memory
    }
}

fn add_shard(sum: &mut Stats, other: &Stats) {
    sum.commands += other.commands;
    sum.hits += other.hits;
    sum.misses += other.misses;
    sum.expired += other.expired;
    sum.evicted += other.evicted;
    sum.moved += other.moved;
    sum.moved_bytes += other.moved_bytes;
    sum.patches += other.patches;
    sum.folded += other.folded;
}

fn add_usage(sum: &mut ShardUsage, other: &ShardUsage) {
    sum.keys += other.keys;
    sum.expires += other.expires;
    sum.index_bytes += other.index_bytes;
    sum.other_bytes += other.other_bytes;
    sum.memory += other.memory;
    sum.log_bytes += other.log_bytes;
    sum.log_free_bytes += other.log_free_bytes;
    sum.log_live_bytes += other.log_live_bytes;
    sum.log_dead_bytes += other.log_dead_bytes;
    sum.log_bytes_max += other.log_bytes_max;
}

/// Whole seconds between two readings of the monotonic clock in microseconds.
#[must_use]
pub fn seconds_since(then_us: u64, now: Now) -> u64 {
    now.mono_us.saturating_sub(then_us) / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_shared_out_among_its_commands() {
        // Three commands of a turn of 3000 ns took 1000 each; a turn without commands changes nothing.
        let rows: Vec<_> = command::rows().collect();
        let (one, two) = (rows[0], rows[1]);
        let mut stats = CoreStats::default();
        stats.count(one);
        stats.count(two);
        stats.count(one);
        stats.turn_took(3000);
        stats.turn_took(5000);
        let counted = stats.latencies[usize::from(one.index)].as_ref().map(Histogram::total);
        assert_eq!(counted, Some(2));
        assert_eq!(stats.commands[usize::from(one.index)], CommandStats { calls: 2, ns: 2000, rejected: 0, failed: 0 });
        assert_eq!(stats.commands[usize::from(two.index)].ns, 1000);
        assert_eq!((stats.turns, stats.turns_ns), (2, 8000));
        // A tick in the middle of a turn takes nothing from it.
        stats.count(two);
        stats.tick(1);
        stats.turn_took(1000);
        assert_eq!(stats.commands[usize::from(two.index)].ns, 2000);
        assert!(stats.latencies[usize::from(one.index)].is_some());
        stats.track_latency(false);
        stats.count(one);
        stats.turn_took(3000);
        stats.reset();
        stats.count(one);
        stats.turn_took(3000);
        assert!(stats.latencies.iter().all(Option::is_none), "what is not wanted is not tracked, reset or not");
    }

    #[test]
    fn errors_are_counted_by_code_and_not_without_bound() {
        // A client that invents codes fills a bounded table.
        let mut stats = CoreStats::default();
        let rows: Vec<_> = command::rows().collect();
        stats.error(Some(rows[0]), "ERR syntax error");
        stats.error(None, "ERR");
        stats.error(Some(rows[1]), "WRONGTYPE Operation");
        let (one, other) = (Some(rows[0].index), Some(rows[1].index));
        let counted = [("ERR".to_owned(), [(one, 1), (None, 1)].into()), ("WRONGTYPE".to_owned(), [(other, 1)].into())];
        assert_eq!(stats.errors, counted.into());
        for i in 0..1000 {
            stats.error(Some(rows[0]), format!("CODE{i} x"));
        }
        assert_eq!(stats.errors.len(), ERROR_CODES_MAX);
    }

    #[test]
    fn rates_are_those_of_the_last_samples() {
        // 100 commands each 100 ms are 1000 a second, however long it went on before at another rate.
        let mut rates = Rates::default();
        assert_eq!(rates.a_second(), [0.0; RATES]);
        let mut commands = 0;
        for tick in 0..100u64 {
            commands += if tick < 50 { 7 } else { 100 };
            rates.sample(tick * 100_000, [commands, 0, 2 * commands, 0, 0]);
        }
        assert_eq!(rates.a_second(), [1000.0, 0.0, 2000.0, 0.0, 0.0]);
    }
}
