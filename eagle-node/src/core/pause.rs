//! A pause holds clients' commands back for a while: `CLIENT PAUSE`, and `DEBUG SLEEP` for as long as it sleeps.
//!
//! Every core is told, and only then is the pause acknowledged. A core that pauses begins no command that the pause
//! concerns: its connections halt before it, what they send on waits in their input (bounded as ever), and replies to what
//! was begun still leave. Questions of other cores that would write wait in [`super::holds`], so that after the
//! acknowledgement no shard changes, except by the last steps of a command that held all its keys already. Expired keys are
//! not shown, but not removed either. A pause ends by its time, which the core looks at each turn (about ten times a
//! second when idle), by `CLIENT UNPAUSE`, or when the node ends: no command is lost.
//!
//! As in Redis 7.2 (`src/networking.c: pauseActions`): a second pause of the same purpose extends the first and widens
//! it, never the other way round; `ALL` holds back everything, `CLIENT UNPAUSE` included.

use eagle_shard::spec::Spec;

use super::{
    Core,
    event::{ConnId, Now},
    gather::Finished,
    session::{Halt, Session},
};

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Paused {
    /// Those that may change data.
    Writes,
    /// All.
    All,
}

/// Who pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `CLIENT PAUSE`.
    Client,
    /// `DEBUG SLEEP`.
    Sleep,
}

/// What a core pauses, and what waits for the end.
#[derive(Debug, Default)]
pub struct Pause {
    /// By [`Purpose`]: what waits, and until when (monotonic microseconds).
    pauses: [Option<(Paused, u64)>; 2],
    /// The wider of them: looked at before each command.
    now: Option<Paused>,
    /// Connections that halt.
    halted: Vec<ConnId>,
    /// Replies that leave at a certain time (monotonic microseconds).
    pub(super) later: Vec<(u64, Finished)>,
}

impl Pause {
    /// What waits now; `None`: nothing does.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Option<Paused> {
        self.now
    }

    fn set(&mut self, purpose: Purpose, pause: Option<(Paused, u64)>) {
        self.pauses[purpose as usize] = pause;
        self.now = self.pauses.iter().flatten().map(|(what, _)| *what).max();
    }

    /// When it ends, in monotonic microseconds; 0 if nothing is paused.
    #[must_use]
    pub fn until_us(&self) -> u64 {
        self.pauses.iter().flatten().map(|(_, until_us)| *until_us).max().unwrap_or(0)
    }

    fn stops(&self, spec: &Spec) -> bool {
        match self.now() {
            None => false,
            Some(Paused::Writes) => spec.writes(),
            Some(Paused::All) => true,
        }
    }
}

impl Core {
    /// What waits now, if anything does, and for how many milliseconds.
    #[must_use]
    pub fn paused(&self, now: Now) -> Option<(Paused, u64)> {
        Some((self.pause.now()?, self.pause.until_us().saturating_sub(now.mono_us) / 1000))
    }

    /// Holds commands back for this many milliseconds, or longer if it was to be longer already.
    pub fn pause(&mut self, purpose: Purpose, what: Paused, ms: u64, now: Now) {
        let until_us = now.mono_us.saturating_add(ms.saturating_mul(1000));
        let wider = |(before, until): (Paused, u64)| (before.max(what), until.max(until_us));
        let before = self.pause.pauses[purpose as usize];
        self.pause.set(purpose, Some(before.map_or((what, until_us), wider)));
        self.shard.sweeps = false;
        self.shard.evicts = false;
        self.holds.hold_writes(true);
        // Reads that waited for a FLUSHALL, if that now waits for us.
        self.serve_waiting(now);
    }

    /// Ends the pause of this purpose.
    pub fn unpause(&mut self, purpose: Purpose, now: Now) {
        self.pause.set(purpose, None);
        if self.pause.now().is_none() {
            self.shard.sweeps = self.active_expiry;
            self.shard.evicts = true;
            self.holds.hold_writes(false);
            self.serve_waiting(now);
        }
        // Those who have to wait for another pause halt again.
        for conn in std::mem::take(&mut self.pause.halted) {
            self.resume(conn, Halt::Paused);
        }
    }

    /// Whether expired keys leave by themselves; they do not while anything is paused.
    pub fn set_active_expiry(&mut self, on: bool) {
        self.active_expiry = on;
        self.shard.sweeps = on && self.pause.now().is_none();
    }

    /// The reply of the command whose reports are being merged leaves then, not now.
    pub fn reply_at(&mut self, mono_us: u64) {
        self.reply_at_us = mono_us;
    }

    /// Whether the session must wait before it begins this command; if so it halts.
    pub(super) fn waits_for_pause(&mut self, session: &mut Session, spec: &Spec) -> bool {
        let stops = self.pause.stops(spec);
        if stops {
            session.halt = Halt::Paused;
            self.pause.halted.push(session.conn);
        }
        stops
    }

    /// Ends pauses whose time has come and lets go replies that waited for theirs; all of them if `all`.
    pub(super) fn end_pauses(&mut self, all: bool, now: Now) {
        for purpose in [Purpose::Client, Purpose::Sleep] {
            if self.pause.pauses[purpose as usize].is_some_and(|(_, until_us)| all || until_us <= now.mono_us) {
                self.unpause(purpose, now);
            }
        }
        let mut at = 0;
        while let Some((due_us, _)) = self.pause.later.get(at) {
            if all || *due_us <= now.mono_us {
                let (_, finished) = self.pause.later.swap_remove(at);
                self.finished.push(finished);
            } else {
                at += 1;
            }
        }
    }
}
