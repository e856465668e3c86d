//! Laps find slow commands without timing each: the clock is read where a command may have taken long, and at the end of a batch.
//!
//! ```text
//!  batch   GET  SET  KEYS *  GET  GET  INCR ...  GET │        a reading costs some 30 ns, a GET little more than 200
//!  laps    ├──────────────┤├───────────────────────┤ │
//!                      KEYS                  the longest of them
//! ```
//!
//! A lap is the time between two readings. One ends behind
//!
//! - each command of a batch of up to `FEW` (clients that do not pipeline), and each at all while a bound is below `FINE_NS`;
//! - a command whose work does not show in its arguments and reply (`KEYS`, `DEL`, a node command), and one of which more than
//!   `LARGE` bytes came or left;
//! - the last command of a batch, and what a core does for another one.
//!
//! A lap as long as a bound (`slowlog-log-slower-than`, `latency-monitor-threshold`) is that of the command that ended it; what else may lie in it are
//! at most 31 commands that are quick by their nature, some microseconds. At the end of a batch it is that of the command with the most bytes: nothing
//! but a stall of the core (a page fault, its processor taken away) makes a lap of such commands long. So resolution is a microsecond without pipelining
//! and some ten with it.
//!
//! A command of several cores is slow when a part of it is: its time is that of the slow parts, added up. Waiting for other cores, for keys that are
//! held or for a commit is no time of a command, as waiting for its turn is none.

use std::ops::Range;

use eagle_resp::{Args, Requests};
use eagle_shard::spec::{Flags, Route, Run, Spec, Steps};

use super::{
    Core,
    dispatch::Planned,
    event::{ConnId, CoreId, Now},
    gather::Gather,
    message::{Ask, Kind, Token},
    session::Session,
    session_mut,
    slowlog::{self, Entry},
    spikes::Event,
};
use crate::{
    command::{Found, clients},
    config::Config,
};

/// Commands of a batch up to which each is a lap.
const FEW: usize = 4;
/// Nanoseconds of a bound below which each command is a lap.
const FINE_NS: u64 = 1_000_000;
/// Bytes of a command's arguments and reply beyond which it may be slow by them.
const LARGE: usize = 64 << 10;

/// Reads nanoseconds of a clock that never goes back. The runtime has one; without it time stands still.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(pub fn() -> u64);

impl Stopwatch {
    /// Time stands still.
    pub const STOPPED: Self = Self(|| 1);
}

/// The laps of a core.
#[derive(Debug)]
pub(super) struct Laps {
    watch: Stopwatch,
    /// Laps as long as that are looked at, in nanoseconds; `u64::MAX`: none, and no clock is read.
    bound_ns: u64,
    /// Every command of the batch is a lap.
    each: bool,
    /// When the lap began; 0 if none did this turn.
    since_ns: u64,
    /// The command that was just begun goes on elsewhere or later: its time will be known then.
    pub(super) goes_on: bool,
    /// Microseconds that the command whose reply is being made has slept (`DEBUG SLEEP`).
    pub(super) slept_us: u64,
}

impl Laps {
    pub(super) fn new(watch: Stopwatch, config: &Config) -> Self {
        let mut laps = Self { watch, bound_ns: 0, each: false, since_ns: 0, goes_on: false, slept_us: 0 };
        laps.configure(config);
        laps
    }

    /// Takes over what is configured.
    pub(super) fn configure(&mut self, config: &Config) {
        let slow_us = u64::try_from(config.slowlog_slower_than_us).unwrap_or(u64::MAX);
        let slow_us = if config.slowlog_max_len == 0 { u64::MAX } else { slow_us };
        let spike_us = match config.latency_threshold_ms {
            0 => u64::MAX,
            ms => ms.saturating_mul(1000),
        };
        self.bound_ns = slow_us.min(spike_us).saturating_mul(1000);
    }

    /// What the clock says.
    pub(super) fn now_ns(&self) -> u64 {
        (self.watch.0)()
    }

    fn is_on(&self) -> bool {
        self.bound_ns < u64::MAX
    }

    /// A batch of so many commands begins.
    #[inline]
    pub(super) fn begin(&mut self, commands: usize) {
        if self.is_on() {
            self.each = commands <= FEW || self.bound_ns < FINE_NS;
            if self.since_ns == 0 {
                self.since_ns = (self.watch.0)();
            }
        }
    }

    /// What follows is not a command's.
    #[inline]
    pub(super) fn rest(&mut self) {
        self.since_ns = 0;
    }

    /// Whether a lap ends behind a command, of which `bytes()` bytes came and left.
    #[inline]
    fn ends(&self, spec: Option<&Spec>, bytes: impl FnOnce() -> usize) -> bool {
        self.is_on() && (self.each || spec.is_some_and(|spec| !is_quick(spec)) || bytes() > LARGE)
    }

    /// The lap is over, if it is: its microseconds, if it is as long as a bound.
    #[inline]
    pub(super) fn lap_if(&mut self, is_over: bool) -> Option<u64> {
        if is_over { self.lap() } else { None }
    }

    #[inline]
    fn lap(&mut self) -> Option<u64> {
        if !self.is_on() || self.since_ns == 0 {
            return None;
        }
        let now = (self.watch.0)();
        let took_ns = now - self.since_ns;
        self.since_ns = now;
        (took_ns >= self.bound_ns).then_some(took_ns / 1000)
    }
}

/// Whether a command's work is bounded by the bytes of its arguments and its reply.
fn is_quick(spec: &Spec) -> bool {
    let one_shard =
        matches!(spec.run, Run::Shard(_)) && matches!(spec.route, Route::Keys(Steps::Single) | Route::Split(_));
    one_shard
        && (spec.flags.contains(Flags::FAST)
            || spec.complexity.starts_with("O(1)")
            || matches!(spec.name, "hgetall" | "hkeys" | "hvals"))
}

/// A part of a command that took long, on its way home.
#[derive(Debug)]
pub struct SlowPart {
    token: Token,
    asker: ConnId,
    spec: &'static Spec,
    us: u64,
    /// What the log is to show, if the command has no other part.
    words: Vec<Vec<u8>>,
}

impl Core {
    /// Takes note of a slow command of a connection that is executed now. `stretch` is what was executed since the last reading.
    #[inline]
    pub(super) fn end_lap(&mut self, session: &Session, lap: &Lap<'_>, ended_by: EndedBy, now: Now) {
        if let Some(us) = self.laps.lap() {
            self.note_lap(session, lap, ended_by, us, now);
        }
    }

    #[cold]
    fn note_lap(&mut self, session: &Session, lap: &Lap<'_>, ended_by: EndedBy, us: u64, now: Now) {
        let args = |index: usize| lap.requests.args(index, lap.bytes);
        let last = lap.stretch.end - 1;
        let most = || lap.stretch.clone().max_by_key(|index| args(*index).bytes_len()).unwrap_or(last);
        let index = match ended_by {
            EndedBy::Last => last,
            EndedBy::Batch => most(),
            EndedBy::Other => return,
        };
        if let Found::Row(row) = lap.planned[index].found {
            self.note_slow(row.spec, slowlog::words(row.spec, args(index)), us, Some(session), now);
        }
    }

    /// Whether a lap ends behind this command, of which so many bytes of reply came.
    #[inline]
    pub(super) fn lap_ends(&self, plan: &Planned, args: Args<'_>, reply_bytes: usize) -> bool {
        let spec = match plan.found {
            Found::Row(row) => Some(row.spec),
            _ => None,
        };
        self.laps.ends(spec, || args.bytes_len() + reply_bytes)
    }

    /// Takes note of a slow command.
    fn note_slow(&mut self, spec: &Spec, words: Vec<Vec<u8>>, us: u64, session: Option<&Session>, now: Now) {
        let event = if spec.flags.contains(Flags::FAST) { Event::FastCommand } else { Event::Command };
        self.note_spike(event, us, now);
        let config = &self.config;
        let is_slow = u64::try_from(config.slowlog_slower_than_us).is_ok_and(|bound_us| us >= bound_us);
        if !is_slow || spec.flags.contains(Flags::SKIP_SLOWLOG) {
            return;
        }
        let entry = Entry {
            id: self.shared.next_slow_id(),
            unix_s: now.unix.0 / 1000,
            us,
            words,
            client: session.map(|session| clients::remote(&session.peer)).unwrap_or_default(),
            name: session.map(|session| session.name.clone()).unwrap_or_default(),
        };
        self.slowlog.push(entry, config.slowlog_max_len);
    }

    /// Ends the lap of a question of `from` that was carried out here. If it took long, its home is told.
    #[inline]
    pub(super) fn end_lap_of(&mut self, from: CoreId, ask: &Ask, args: Args<'_>) {
        if let Some(us) = self.laps.lap() {
            self.note_part(from, ask, args, us);
        }
    }

    /// Whether a lap ends behind a question that was carried out here.
    #[inline]
    pub(super) fn lap_ends_with(&self, ask: &Ask, args: Args<'_>, reply_bytes: usize) -> bool {
        ask.kind.is_answered() && self.laps.ends(Some(ask.spec), || args.bytes_len() + reply_bytes)
    }

    #[cold]
    pub(super) fn note_part(&mut self, from: CoreId, ask: &Ask, args: Args<'_>, us: u64) {
        if !matches!(ask.kind, Kind::Run | Kind::RunPart | Kind::RunHolding | Kind::Node) {
            return;
        }
        let words = match ask.token {
            Token::Slot { .. } => slowlog::words(ask.spec, args),
            Token::Gather { .. } => Vec::new(),
        };
        let part = SlowPart { token: ask.token, asker: ask.asker, spec: ask.spec, us, words };
        self.links[from.index()].outbox.slow_part(part);
    }

    /// A part of a command of a connection here took long elsewhere.
    pub(super) fn slow_part(&mut self, part: SlowPart, now: Now) {
        match part.token {
            // It is told before its answer, so the gather is still there.
            Token::Gather { gather, .. } => self.gathers[gather as usize].add_slow(Some(part.us)),
            Token::Slot { .. } => {
                self.note_slow_of(Some(part.asker), part.spec, part.words, part.us, now);
            }
        }
    }

    /// Takes note of a slow command of a connection that is not being executed now, if it still is there.
    pub(super) fn note_slow_of(
        &mut self,
        conn: Option<ConnId>,
        spec: &'static Spec,
        words: Vec<Vec<u8>>,
        us: u64,
        now: Now,
    ) {
        let place = conn.and_then(|conn| Some(session_mut(&mut self.sessions, conn)?.conn.index as usize));
        let session = place.and_then(|index| self.sessions[index].take());
        self.note_slow(spec, words, us, session.as_deref(), now);
        if let Some(index) = place {
            self.sessions[index] = session;
        }
    }

    /// Takes note of a command of several cores that is over, if it was slow.
    pub(super) fn note_slow_gather(&mut self, gather: &Gather, now: Now) {
        if let Some(us) = gather.slow_us {
            let words = slowlog::words(gather.spec, gather.args.as_args());
            self.note_slow_of(Some(gather.conn), gather.spec, words, us, now);
        }
    }

    /// The time that the core took for its own part of a gather, or to make its reply, is the gather's.
    pub(super) fn end_lap_of_gather(&mut self, gather: u32) {
        let us = self.laps.lap();
        self.gathers[gather as usize].add_slow(us);
    }

    /// As [`Self::end_lap_of_gather`], where the gather is in the caller's hands: returns what is to be added.
    pub(super) fn end_lap_of_reply(&mut self) -> Option<u64> {
        match std::mem::take(&mut self.laps.slept_us) {
            0 => self.laps.lap(),
            slept_us => Some(slept_us + self.laps.lap().unwrap_or(0)),
        }
    }

    /// The command whose reports are being merged sleeps so long.
    pub fn sleeps(&mut self, us: u64) {
        self.laps.slept_us = us;
    }

    /// Begins to time something that is no command, if anything is timed.
    pub(super) fn begin_interval(&mut self) {
        self.laps.rest();
        if self.config.latency_threshold_ms > 0 {
            self.laps.begin(1);
        }
    }

    /// Ends what [`Self::begin_interval`] began.
    pub(super) fn end_interval(&mut self, event: Event, now: Now) {
        if let Some(us) = self.laps.lap() {
            self.note_spike(event, us, now);
        }
        self.laps.rest();
    }

    /// Takes note of a spike if it is as long as `latency-monitor-threshold`.
    pub(super) fn note_spike(&mut self, event: Event, us: u64, now: Now) {
        let (threshold_ms, ms) = (self.config.latency_threshold_ms, us / 1000);
        if threshold_ms > 0 && ms >= threshold_ms {
            self.spikes.note(event, now.unix.0 / 1000, ms);
        }
    }
}

/// What ended a lap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndedBy {
    /// The last command in it.
    Last,
    /// The end of the batch.
    Batch,
    /// The last command in it, which was refused, or goes on elsewhere or later.
    Other,
}

/// What was executed of a batch since the clock was last read.
pub(super) struct Lap<'a> {
    pub planned: &'a [Planned],
    pub requests: &'a Requests,
    pub bytes: &'a [u8],
    pub stretch: Range<usize>,
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::command;

    thread_local! {
        static NOW_NS: Cell<u64> = const { Cell::new(1) };
    }

    fn laps(slower_than_us: i64, threshold_ms: u64) -> Laps {
        let config =
            Config { slowlog_slower_than_us: slower_than_us, latency_threshold_ms: threshold_ms, ..Config::default() };
        Laps::new(Stopwatch(|| NOW_NS.get()), &config)
    }

    #[test]
    fn a_lap_as_long_as_the_lower_bound_is_told() {
        // Microseconds of one bound, milliseconds of the other; with neither, no clock is read.
        for (slower_than_us, threshold_ms, bound_ns) in [(3000, 0, 3_000_000), (-1, 7, 7_000_000), (9000, 2, 2_000_000)]
        {
            let mut laps = laps(slower_than_us, threshold_ms);
            laps.begin(1);
            NOW_NS.set(NOW_NS.get() + bound_ns - 1);
            assert_eq!(laps.lap(), None);
            NOW_NS.set(NOW_NS.get() + bound_ns);
            assert_eq!(laps.lap(), Some(bound_ns / 1000));
        }
        let mut off = laps(-1, 0);
        off.watch = Stopwatch(|| unreachable!("nobody asked for the time"));
        off.begin(1);
        assert!(!off.ends(None, || usize::MAX) && off.lap().is_none());
    }

    #[test]
    fn a_lap_ends_where_a_command_may_have_taken_long() {
        // In a deep pipeline: not behind what is quick, but behind what works beyond its bytes, or has many of them; behind each
        // of a few, and behind each at all where microseconds are asked for.
        let (get, keys) = (command::named("get"), command::named("keys"));
        let mut laps = laps(10_000, 0);
        laps.begin(32);
        assert!(!laps.ends(Some(get), || 10));
        assert!(laps.ends(Some(keys), || 10) && laps.ends(Some(get), || LARGE + 1));
        laps.begin(FEW);
        assert!(laps.ends(Some(get), || 10));
        let mut fine = self::laps(10, 0);
        fine.begin(32);
        assert!(fine.ends(Some(get), || 10));
        for (name, quick) in
            [("set", true), ("mget", true), ("hgetall", true), ("del", false), ("scan", false), ("ping", false)]
        {
            assert_eq!(is_quick(command::named(name)), quick, "{name}");
        }
    }
}
