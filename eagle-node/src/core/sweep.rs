//! What a core looks after when no client asks: output and input limits, idle clients, closing.
//!
//! Sessions to which something happened are looked at once at the end of the turn. Idle time is checked in slices: each
//! tick looks at a tenth of the table, so every client is looked at about once a second.

use super::{
    BRIEF_COMMANDS, CROWDED_TURNS, Core, PENDING_MAX, SHARE_COMMANDS_CROWDED,
    event::{Actions, ConnId, Now},
    keep,
    session::{Ending, Halt, Session},
    session_mut,
};
use crate::config::Config;

/// Microseconds that replies wait for those behind them that another core owes, so that both leave in one send: about what
/// a busy core takes to answer.
pub(crate) const LINGER_US: u64 = 100;
/// Bytes of replies above which they wait for nobody.
const LINGER_BYTES_MAX: usize = 16 << 10;
/// Bytes of unexecuted requests of a connection at most, whatever is configured: the decoder counts bytes of a buffer in 32 bits, and what
/// was executed and what a turn adds lie in the buffer as well.
const QUERY_BYTES_MAX: u64 = u32::MAX as u64 - (256 << 20);
/// Ticks in which the whole table of sessions is looked through.
const SWEEP_TICKS: usize = 10;

/// Bytes of a connection's buffers, or the most of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffers {
    /// Of unexecuted requests.
    pub query: u64,
    /// Of unread replies.
    pub unsent: u64,
}

impl Buffers {
    fn note(&mut self, session: &Session) {
        self.query = self.query.max(session.query_bytes() as u64);
        self.unsent = self.unsent.max(session.unsent_bytes() as u64);
    }
}

impl Core {
    /// Sends, pauses, closes: what each session of this turn needs.
    pub(super) fn look_after_sessions(&mut self, now: Now, actions: &mut Actions) {
        let reached = self.gate.reached();
        if self.gate.waits() && self.released != reached {
            self.released = reached;
            for conn in std::mem::take(&mut self.gated) {
                self.list(conn);
            }
        }
        while self.lingering.front().is_some_and(|(_, until_us)| *until_us <= now.mono_us) {
            if let Some((conn, _)) = self.lingering.pop_front() {
                self.list(conn);
            }
        }
        let mut listed = std::mem::take(&mut self.listed);
        let (mut ahead, mut brief) = (0, 0);
        for conn in listed.drain(..) {
            let Some(session) = session_mut(&mut self.sessions, conn) else {
                continue;
            };
            session.listed = false;
            self.memory.note(session);
            self.crowd.note(session, &self.shared.crowd);
            ahead += u32::from(session.spent >= SHARE_COMMANDS_CROWDED);
            brief += u32::from((1..=BRIEF_COMMANDS).contains(&session.spent));
            session.spent = 0;
            session.spent_bytes = 0;
            if session.ending == Ending::Closed {
                continue;
            }
            let beyond = over_limits(session, &self.config, now);
            self.stats.closed_by_output += u64::from(beyond == Some(Beyond::Output));
            self.stats.closed_by_input += u64::from(beyond == Some(Beyond::Input));
            if beyond.is_some() || session.ending == Ending::Now {
                session.ending = Ending::Closed;
                actions.close.push(conn);
                continue;
            }
            pace(session, actions);
            if session.replies.sendable(reached) {
                match linger(session, now) {
                    Linger::No => actions.send.push(conn),
                    Linger::Begins => self.lingering.push_back((conn, session.linger_until_us)),
                    Linger::GoesOn => {}
                }
            } else {
                if let Some(buffer) = session.replies.reclaim() {
                    keep(&mut self.spare, buffer);
                }
                if self.gate.waits() && session.replies.gated(reached) {
                    self.gated.push(conn);
                }
            }
            if done(session) {
                session.ending = Ending::Closed;
                actions.close.push(conn);
            }
        }
        // Listing from within the loop does not happen: nothing above executes commands.
        self.listed = listed;
        self.crowded_turns =
            if (1..=brief).contains(&ahead) { CROWDED_TURNS } else { self.crowded_turns.saturating_sub(1) };
    }

    /// About ten times a second: configuration, idle clients, background work.
    pub(super) fn tick(&mut self, now: Now, actions: &mut Actions) {
        if self.shared.config_version() != self.config_version {
            self.reload_config();
        }
        self.background_due = true;
        self.stats.tick(now.mono_us);
        self.share_evictions();
        let slice = self.sessions.len().div_ceil(SWEEP_TICKS);
        for _ in 0..slice {
            self.sweep_at = if self.sweep_at + 1 < self.sessions.len() { self.sweep_at + 1 } else { 0 };
            if self.sweep_at == 0 {
                self.largest = [Buffers::default(), self.largest[0]];
            }
            let Some(session) = self.sessions[self.sweep_at].as_deref_mut() else {
                continue;
            };
            if session.ending == Ending::Closed {
                continue;
            }
            self.largest[0].note(session);
            if idle(session, &self.config, now) || over_limits(session, &self.config, now).is_some() {
                session.ending = Ending::Closed;
                actions.close.push(session.conn);
            }
        }
    }

    /// The largest buffers that connections had when they were last looked at: within two seconds.
    #[must_use]
    pub fn largest_buffers(&self) -> Buffers {
        let [this, last] = self.largest;
        Buffers { query: this.query.max(last.query), unsent: this.unsent.max(last.unsent) }
    }

    /// Connections whose replies wait for a commit.
    #[must_use]
    pub fn gated_connections(&self) -> &[ConnId] {
        &self.gated
    }
}

fn idle(session: &Session, config: &Config, now: Now) -> bool {
    let idle_s = now.mono_us.saturating_sub(session.active_us) / 1_000_000;
    // Who waits for a reply is not idle. Who does not take one that is there is, as in Redis.
    let waits = session.replies.awaits() || session.halt != Halt::None;
    config.timeout > 0 && !waits && idle_s > u64::from(config.timeout)
}

/// What a session has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beyond {
    Output,
    Input,
}

/// Whether a session exceeds what its client may keep us holding: unread replies, unexecuted requests.
fn over_limits(session: &mut Session, config: &Config, now: Now) -> Option<Beyond> {
    let limits = &config.client_output_buffer_limit;
    let limit = if session.watches() { &limits.pubsub } else { &limits.normal };
    let unsent = session.replies.unsent() as u64;
    if limit.hard_bytes > 0 && unsent > limit.hard_bytes {
        return Some(Beyond::Output);
    }
    if limit.soft_bytes > 0 && unsent > limit.soft_bytes {
        let since = *session.above_soft_since_us.get_or_insert(now.mono_us);
        if now.mono_us.saturating_sub(since) > u64::from(limit.soft_seconds) * 1_000_000 {
            return Some(Beyond::Output);
        }
    } else {
        session.above_soft_since_us = None;
    }
    let limit = config.client_query_buffer_limit.min(QUERY_BYTES_MAX);
    (session.query_bytes() as u64 > limit).then_some(Beyond::Input)
}

/// Whether replies wait for those behind them.
enum Linger {
    No,
    Begins,
    GoesOn,
}

/// Lets a session's replies wait once for those behind them, until no more are awaited.
fn linger(session: &mut Session, now: Now) -> Linger {
    if !session.replies.awaits() {
        session.linger_until_us = 0;
        Linger::No
    } else if session.linger_until_us == 0 && session.replies.unsent() < LINGER_BYTES_MAX {
        session.linger_until_us = now.mono_us + LINGER_US;
        Linger::Begins
    } else if session.linger_until_us > now.mono_us {
        Linger::GoesOn
    } else {
        Linger::No
    }
}

/// Stops and starts reading by how much waits. One unfinished request does not count: the rest of it must come.
fn pace(session: &mut Session, actions: &mut Actions) {
    let pending = session.query_bytes();
    let stuck = session.backlogged || session.halt != Halt::None;
    if !session.paused && stuck && pending > PENDING_MAX {
        session.paused = true;
        actions.pause.push(session.conn);
    } else if session.paused && (!stuck || pending < PENDING_MAX / 2) {
        session.paused = false;
        actions.resume.push(session.conn);
    }
}

/// Whether nothing more will happen on a session that is to end.
fn done(session: &Session) -> bool {
    let ends =
        session.ending == Ending::AfterReplies || (session.ended && !session.backlogged && session.halt == Halt::None);
    ends && session.replies.is_quiet()
}
